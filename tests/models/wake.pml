/* SPDX-License-Identifier: MIT */
/*
 * The park/wake protocol: workers that sleep for the log and for their sockets at once, and whoever
 * rings them. What must hold: nobody sleeps for ever on news, no eventfd is written for a sleeper
 * that has not said that it is parked, a poke is never missed, and all comes to rest.
 *
 * x86: plain stores to `parked` and the commit pass through store buffers; what is a locked
 * instruction, or a fence, waits until its thread's buffer is empty.
 *
 * tests/models/README.md says what is left out and how to run this.
 *
 * Stands for:
 *     src/log/wake.c park 4837673e
 *     src/log/wake.c wake_all bfc859d4
 *     src/log/wake.c wake_wait d0eb965d
 *     src/log/wake.c wake_ring 780b0433
 *     src/log/wake.c wake_stir 0c401b26
 *     src/net/worker.c turn 176a6273
 *     src/net/worker.c on_ring cb80257a
 *     src/net/worker.c ring_others 933282e4
 *     src/net/worker.c run 216043b1
 *     src/net/worker.c worker_poke 9365f8c6
 *     src/server.c enter_phase eb8ce6bf
 */

/* Bounds, one set for each run: see the table in tests/models/run. */
#ifndef RINGS
#define RINGS 1 /* messages of the outside publisher (or the keeper): one ring each */
#endif
#ifndef PUBS
#define PUBS 1 /* messages that come in by worker 0's socket */
#endif
#ifndef SUBS
#define SUBS 0 /* worker 1 follows nothing until a SUB comes in by its socket */
#endif
#ifndef POKES
#define POKES 0 /* the server changes the phase */
#endif
#define W 2

short word;      /* ck_ec's counter: value << 1 | flag */
byte log;        /* messages committed */
bool parked[W];  /* [O6] */
bool edge[W];    /* the eventfd has been written since the last epoll_wait */
byte sock[W];    /* commands that have come in by sockets */
byte phase;      /* [O10] */

/* Of each worker: stores to its `parked` that are still in its buffer, the first in first. */
byte buffered[W];
bool first[W], second[W];
byte late;                        /* the outside publisher's commits, still in its buffer */

/* Of the proof. */
byte got[W], phase_got[W]; /* what each has last seen */
bool follows[W], asleep[W];
bool credit[W]; /* it has said that it is parked, and nobody has rung it since */

#define FENCE(w) (buffered[w] == 0)
#define PARK_STORE(w, value)                                                                       \
	atomic {                                                                                   \
		buffered[w] < 2 ->                                                                 \
		if                                                                                 \
		:: buffered[w] == 0 -> first[w] = value                                            \
		:: else -> second[w] = value                                                       \
		fi;                                                                                \
		buffered[w]++                                                                      \
	}
/* A thread sees its own stores. */
#define PARK_LOAD(w)                                                                               \
	((buffered[w] == 2 && second[w]) || (buffered[w] == 1 && first[w]) ||                      \
	 (buffered[w] == 0 && parked[w]))

proctype drain(byte w)
{
end:	do
	:: atomic {
		buffered[w] > 0 -> parked[w] = first[w];
		if :: first[w] -> credit[w] = 1 :: else fi;
		first[w] = second[w];
		second[w] = 0;
		buffered[w]--
	   }
	od
}

proctype drain_commits()
{
end:	do
	:: atomic { late > 0 -> late--; log++ }
	od
}

/* wake_ring, ck_ec64_add, ck_ec64_wake, wake_all. `ready`: the ringer's buffer is empty. */
inline ring(ready, who)
{
#ifdef BUG_SINGLE_PRODUCER
	atomic { ready -> tmp = word };
	atomic { word = tmp + 2; flag = tmp & 1 };
#else
	atomic { ready -> flag = word & 1; word = word + 2 }; /* lock xadd [O6] */
#endif
	if
	:: !flag -> skip
	:: else ->
#ifndef BUG_FLAG_CLEARED_LATE
		atomic { ready -> word = word & ~1 }; /* lock and */
#endif
#ifndef BUG_NO_FENCE_RINGER
		(ready); /* [O6] the counter before the look at parked */
#endif
		i = 0;
		do
		:: i == W -> break
		:: else ->
			if
			:: parked[i] ->
#ifdef BUG_NO_EXCHANGE
				atomic {
					ready -> flag = 1;
#else
				atomic {
					ready -> flag = parked[i]; /* xchg */
#endif
					parked[i] = 0;
					/* One ring each time it parks, and none for oneself. */
					assert(!flag || (credit[i] && i != who));
					if :: flag -> credit[i] = 0 :: else fi
				}
				if
				:: flag -> edge[i] = 1 /* eventfd_write */
				:: else
				fi
			:: else
			fi;
			i++
		od;
#ifdef BUG_FLAG_CLEARED_LATE
		atomic { ready -> word = word & ~1 };
#endif
	fi;
	flag = 0; tmp = 0; i = 0
}

/* The worker's turn of its loop: epoll_wait, then on_ring or on_readable, which stir. */
inline turn()
{
	asleep[me] = 1;
	atomic {
		edge[me] || sock[me] > 0 -> asleep[me] = 0;
		edge[me] = 0;
		input = sock[me];
		sock[me] = 0
	}
	/* wake_stir */
	if
	:: PARK_LOAD(me) -> PARK_STORE(me, 0)
	:: else
	fi
}

inline turn_without_waiting()
{
	atomic { edge[me] = 0; input = sock[me]; sock[me] = 0 }
}

/* What a socket brings: a SUB to a worker that follows nothing, PUBs to one that does. */
inline drive()
{
	if
	:: input > 0 && !follows[me] -> atomic { follows[me] = 1; input = 0 }
	:: input > 0 && follows[me] ->
#ifdef BUG_NO_RING_BEFORE_SLEEP
		atomic { log = log + input; input = 0 };
#else
		atomic { log = log + input; input = 0 };
		ring(FENCE(me), me)
#endif
	:: else
	fi
}

proctype worker(byte me)
{
	short seen, now, tmp;
	byte input, i;
	bool flag, turned;

	do
	::
#ifndef BUG_SEEN_AFTER_WORK
		seen = word >> 1; /* wake_value */
#endif
		/* work() */
		if :: POKES && me == 0 -> phase_got[me] = phase :: else fi; /* follow_phase [O10] */
		drive();
		if :: follows[me] -> got[me] = log :: else fi;
#ifdef BUG_SEEN_AFTER_WORK
		seen = word >> 1;
#endif
		if
		:: !follows[me] -> turn()
		:: else ->
			/* wake_wait: ck_ec64_wait_pred */
			turned = 0;
			if :: (word >> 1) != seen -> goto awake :: else fi;
redo:			now = word;
			if
			:: now == (seen << 1 | 1) -> skip
			:: now == (seen << 1) ->
				atomic {
					FENCE(me) ->
					if
					:: word == (seen << 1) -> word = word | 1 /* cas */
					:: word == (seen << 1 | 1)
					:: else -> goto awake
					fi
				}
			:: else -> goto awake
			fi;
			if :: word != (seen << 1 | 1) -> goto awake :: else fi;
once:			if :: word != (seen << 1 | 1) -> goto woken :: else fi;
			/* park() */
#ifndef BUG_PARKED_AFTER_LOOK
			PARK_STORE(me, 1);
#ifndef BUG_NO_FENCE_SLEEPER
			FENCE(me); /* [O6] parked before the look at the counter */
#endif
#endif
			if
#if defined(BUG_NO_RECHECK)
			:: true
#elif defined(BUG_VALUE_COMPARED)
			:: (word >> 1) == seen
#else
			:: word == (seen << 1 | 1)
#endif
			->
#ifdef BUG_PARKED_AFTER_LOOK
				PARK_STORE(me, 1);
				FENCE(me);
#endif
				turned = 1;
				turn()
			:: else
			fi;
			PARK_STORE(me, 0);
			if
			:: turned -> goto awake /* whichever of ck_ec's looks sees it first */
			:: else
			fi;
			if
			:: word != (seen << 1 | 1) -> goto woken
			:: else -> goto once
			fi;
woken:			if :: (word >> 1) == seen -> goto redo :: else fi;
awake:			now = 0;
			if
			:: !turned -> turn_without_waiting()
			:: else
			fi;
			turned = 0
		fi
	od
}

/* Another thread that appends, or the keeper that has made room. */
proctype outside()
{
	byte n = 0, i;
	short tmp;
	bool flag;

	do
	:: n == RINGS -> break
	:: else ->
#ifdef BUG_RING_BEFORE_COMMIT
		ring(late == 0, W);
		late++;
#else
		late++; /* [O1] the commit: a plain store */
		ring(late == 0, W);
#endif
		n++
	od
}

/* The server: enter_phase and worker_poke. */
proctype server()
{
#ifdef BUG_POKE_BEFORE_PHASE
	edge[0] = 1;
	phase = 1
#else
	phase = 1; /* [O10] */
	edge[0] = 1
#endif
}

proctype clients()
{
	byte n = 0;
	if :: SUBS -> sock[1] = 1 :: else fi;
	do
	:: n == PUBS -> break
	:: else -> sock[0]++; n++
	od
}

init {
	atomic {
		follows[0] = 1;
		follows[1] = !SUBS;
		run drain(0); run drain(1);
		run worker(0); run worker(1);
		if :: RINGS > 0 -> run drain_commits(); run outside() :: else fi;
		if :: PUBS + SUBS > 0 -> run clients() :: else fi;
		if :: POKES -> run server() :: else fi
	}
	timeout ->
	assert(asleep[0] && asleep[1]);
	assert(log == RINGS + PUBS);
	assert(got[0] == log); /* no news for a worker asleep */
	assert(got[1] == log);
	assert(phase_got[0] == phase) /* no poke missed */
}
