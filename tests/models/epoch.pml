/* SPDX-License-Identifier: MIT */
/*
 * Grace periods as ck_epoch (libck 0.7.1) makes them, with as many reclaimers as a durable log has:
 * the keeper and the warmer each defer and poll with a record of their own. What must hold, and what
 * the other models rest on: nothing is released while a section that can have found it is open, and
 * all that was deferred is released in the end.
 *
 * x86: each thread's plain stores pass through a store buffer, first in first out. ck_epoch_begin's
 * exchange, ck_epoch_poll's fence and its compare-and-swap wait until it is empty.
 *
 * tests/models/README.md says what is left out and how to run this.
 *
 * Stands for:
 *     src/log/epoch.c epoch_enter d2407b18
 *     src/log/epoch.c epoch_leave cd19b66f
 *     src/log/epoch.c epoch_defer ec5a9816
 *     src/log/epoch.c epoch_poll d1b904db
 *     src/log/keeper.c directory_change ff36235d
 *     src/log/warmer.c fade f6c60aaf
 */

#ifndef READERS
#define READERS 1
#endif
#ifndef SECTIONS
#define SECTIONS 2 /* of each reader */
#endif
#ifndef RECLAIMERS
#define RECLAIMERS 2
#endif
#ifndef ITEMS
#define ITEMS 1 /* that each reclaimer takes out of reach */
#endif
#define THREADS (READERS + RECLAIMERS)
#define SLOTS 4 /* CK_EPOCH_LENGTH */

byte global_epoch = 1;
bool inside[THREADS]; /* `active` */
byte epoch[THREADS]; /* each record's */

/*
 * What readers find: each reclaimer has a place of its own (the directory, a segment's map) that
 * shows the item of this number, 0 being the first.
 */
byte place[RECLAIMERS];

/* Of each thread: stores that are still in its buffer, the first in first. */
#define BUFFER 2
#define TO_PLACE 1
#define TO_ACTIVE 2
#define TO_EPOCH 3
byte buffered[THREADS];
byte what[6 * BUFFER], value[6 * BUFFER]; /* of thread t: from t * BUFFER on */

/* Of the proof: the items that a reader's section has found, and what has been released. */
byte found[READERS * RECLAIMERS]; /* item + 1; 0: none */
byte released[RECLAIMERS];        /* items below are */

#define FENCE(t) (buffered[t] == 0)

inline store(t, field, number)
{
	atomic {
		buffered[t] < BUFFER ->
		what[t * BUFFER + buffered[t]] = field;
		value[t * BUFFER + buffered[t]] = number;
		buffered[t]++
	}
}

proctype drain(byte t)
{
end:	do
	:: atomic {
		buffered[t] > 0 ->
		if
		:: what[t * BUFFER] == TO_PLACE -> place[t - READERS] = value[t * BUFFER]
		:: what[t * BUFFER] == TO_ACTIVE -> inside[t] = value[t * BUFFER]
		:: what[t * BUFFER] == TO_EPOCH -> epoch[t] = value[t * BUFFER]
		fi;
		what[t * BUFFER] = what[t * BUFFER + 1];
		value[t * BUFFER] = value[t * BUFFER + 1];
		what[t * BUFFER + 1] = 0;
		value[t * BUFFER + 1] = 0;
		buffered[t]--
	   }
	od
}

/* epoch_enter: ck_epoch_begin, as where stores are ordered (CK_MD_TSO). */
inline enter(t)
{
#ifdef BUG_ENTER_WITHOUT_FENCE
	store(t, TO_ACTIVE, 1);
#else
	atomic { FENCE(t) -> inside[t] = 1 }; /* lock xchg */
#endif
	g = global_epoch;
	store(t, TO_EPOCH, g);
	g = 0
}

/* epoch_leave: ck_epoch_end. */
inline leave(t)
{
	store(t, TO_ACTIVE, 0)
}

proctype reader(byte me)
{
	byte g, n = 0, r;

	do
	:: n == SECTIONS -> break
	:: else ->
#ifndef BUG_NO_SECTION
		enter(me);
#endif
		r = 0;
		do
		:: r == RECLAIMERS -> break
		:: else ->
			atomic {
				found[me * RECLAIMERS + r] = place[r] + 1; /* [O5] [O14] */
				assert(place[r] >= released[r])
			}
			r++
		od;
		/* It reads what it has found: release() looks whether anybody still does. */
		atomic {
			r = 0;
			do
			:: r == RECLAIMERS -> break
			:: else -> found[me * RECLAIMERS + r] = 0; r++
			od;
			r = 0
		}
#ifndef BUG_NO_SECTION
		leave(me);
#endif
		n++
	od
}

/* ck_epoch_dispatch: the items of a slot are released. */
inline dispatch(e)
{
	atomic {
		i = 0;
		do
		:: i == ITEMS -> break
		:: else ->
			if
			:: slot[i] == (e) % SLOTS + 1 ->
				slot[i] = 0;
				k = 0;
				do
				:: k == READERS -> break
				:: else ->
					/* Nobody can be looking at what is released. */
					assert(found[k * RECLAIMERS + me - READERS] != i + 1);
					k++
				od;
				released[me - READERS]++
			:: else
			fi;
			i++
		od;
		i = 0;
		k = 0
	}
}

/* The keeper (the directory, segments) or the warmer (mappings). */
proctype reclaimer(byte me)
{
	byte g, e, n = 0, t, i, k;
	byte slot[ITEMS]; /* where each item was filed, + 1; 0: it is not deferred */
	bool has_active, is_behind;

	do
	:: n < ITEMS ->
		enter(me);
		/* Out of everybody's reach: [O5] directory_change, [O14] fade. */
		store(me, TO_PLACE, n + 1);
#ifndef BUG_DEFER_WITHOUT_FENCE
		FENCE(me); /* [O26] epoch_defer */
#endif
		/* ck_epoch_call */
		atomic { slot[n] = global_epoch % SLOTS + 1; n++ }
		leave(me)
	:: released[me - READERS] < n ->
		/* epoch_poll: ck_epoch_poll_deferred. */
		e = global_epoch;
#ifndef BUG_POLL_WITHOUT_FENCE
		FENCE(me);
#endif
		dispatch(e + SLOTS - 2);
		/* ck_epoch_scan */
		atomic { has_active = 0; is_behind = 0; t = 0 }
		do
		:: t == THREADS -> break
		:: else ->
			if
			:: inside[t] ->
				has_active = 1;
				if
#ifdef BUG_SCAN_LOOKS_AT_NOBODY
				:: false -> skip
#else
				:: epoch[t] != e -> is_behind = 1; break
#endif
				:: else
				fi
			:: else
			fi;
			t++
		od;
		if
		:: is_behind
		:: !is_behind && !has_active ->
			dispatch(0); dispatch(1); dispatch(2); dispatch(3)
		:: !is_behind && has_active ->
			atomic {
				FENCE(me) ->
				if
				:: global_epoch == e -> global_epoch = e + 1 /* lock cmpxchg */
				:: else
				fi
			}
			dispatch(e + SLOTS - 1)
		fi;
		atomic { t = 0; e = 0; has_active = 0; is_behind = 0 }
	:: n == ITEMS && released[me - READERS] == ITEMS -> break
	od
}

init {
	byte t;
	atomic {
		do
		:: t == THREADS -> break
		:: else ->
			run drain(t);
			if
			:: t < READERS -> run reader(t)
			:: else -> run reclaimer(t)
			fi;
			t++
		od
	}
	timeout ->
	t = 0;
	do
	:: t == RECLAIMERS -> break
	:: else -> assert(released[t] == ITEMS); t++
	od
}
