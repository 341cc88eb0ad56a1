/* SPDX-License-Identifier: MIT */
/*
 * The group commit of a durable log with log.fsync = always: publishers announce to the syncer
 * alone, which sleeps when there is nothing new, syncs what is committed, raises `synced` and rings
 * the worker, that answers. What must hold: an OK is sent only for what is on the disk; nothing is
 * refused that is; the first sync that fails ends appending; and when nothing can go on any more
 * each message has been answered with OK, or refused because the log has failed.
 *
 * x86: the commit, `sleeps` and `has_failed` pass through store buffers. A disk whose sync fails
 * forgets what it was to write, and says that all is well the next time.
 *
 * tests/models/README.md says what is left out and how to run this.
 *
 * Stands for:
 *     src/log/syncer.c fail 69f513ab
 *     src/log/syncer.c collect ce4dbb59
 *     src/log/syncer.c raise_synced 85adca58
 *     src/log/syncer.c run_job a94e4e10
 *     src/log/syncer.c sync_all a0330f87
 *     src/log/syncer.c has_news cde8862e
 *     src/log/syncer.c sleep_until_kicked 5a24564b
 *     src/log/syncer.c run e91ad646
 *     src/log/syncer.c syncer_announce 0d035b75
 *     src/log/log.c log_announce f621f13b
 *     src/log/log.c log_has_failed 155c89d1
 *     src/log/log.c log_fail 31766889
 *     src/log/log.c log_is_final 517bfafa
 *     src/net/worker.c settle 6492f925
 */

#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef FAILURES
#define FAILURES 0 /* of the disk */
#endif

byte claimed, committed;   /* ids; dense here: log.pml proves the prefix */
byte late[PUBLISHERS];     /* commits still in their publisher's store buffer */
bool sleeps;               /* [O21] */
bool kick;                 /* the syncer's eventfd */
bool has_failed;           /* [O22] */
byte synced;               /* [O19] */
bool rung;                 /* the worker's, since it took its value */

/* The syncer's store buffer, in order: stores to sleeps (0, 1), has_failed (2), synced (10 + id). */
byte buffered;
byte value[3];

/* Of the proof. */
byte on_disk, lost_from = 255; /* ids up to here are on the disk, but none from there on */
byte answered, refused;        /* ids; the worker's in order */
byte accepted, turned_away;
bool has_died;                 /* a sync has failed */

#define FENCE (buffered == 0)

inline store(what)
{
	atomic { buffered < 3 -> value[buffered] = what; buffered++ }
}

proctype drain()
{
end:	do
	:: atomic {
		buffered > 0 ->
		if
		:: value[0] < 2 -> sleeps = value[0]
		:: value[0] == 2 -> has_failed = 1
		:: else -> synced = value[0] - 10
		fi;
		value[0] = value[1];
		value[1] = value[2];
		value[2] = 0;
		buffered--
	   }
	od
}

proctype drain_commit(byte p)
{
end:	do
	:: atomic { late[p] > 0 -> late[p] = 0; committed++ }
	od
}

/* log_append, log_announce, syncer_announce */
proctype publisher(byte me)
{
	bool was = 0;

	if
	:: has_failed -> turned_away++ /* log_has_failed [O22] */
	:: else ->
		atomic { claimed++; accepted++ } /* lock cmpxchg */
#ifdef BUG_ANNOUNCE_BEFORE_COMMIT
		goto announce;
commit:		late[me] = 1;
		goto done;
announce:
#else
		late[me] = 1; /* [O1] the commit */
#endif
#ifndef BUG_NO_FENCE_PUBLISHER
		late[me] == 0; /* [O21] the commit before the look at `sleeps` */
#endif
		if
		:: sleeps -> /* [O21] */
			atomic { was = sleeps; sleeps = 0 } /* xchg: its own fence */
			if
#ifdef BUG_NO_KICK
			:: true
#else
			:: was -> kick = 1
#endif
			:: else
			fi
		:: else
		fi;
#ifdef BUG_ANNOUNCE_BEFORE_COMMIT
		goto commit;
done:		skip
#endif
	fi
}

proctype syncer()
{
	byte upto = 0, failures = 0, has_said = 0;

	do
	::
		/* sleep_until_kicked */
#ifdef BUG_SLEEPS_LATE
		if
		:: has_said || committed <= synced -> store(1); FENCE; kick; kick = 0
		:: else
		fi;
#else
		if
		:: has_said -> store(0)
		:: else -> store(1)
		fi;
#ifndef BUG_NO_FENCE_SYNCER
		FENCE; /* [O21] `sleeps` before the look at the log; ck_epoch_begin is one too */
#endif
		if
#ifdef BUG_NO_LOOK_BEFORE_SLEEP
		:: true ->
#else
		:: has_said || committed <= upto -> /* has_news; upto is `synced`, which it alone writes */
#endif
			atomic { kick -> kick = 0 }
		:: else
		fi;
#endif
		store(0);
		if
		:: has_said
		:: else ->
			/* sync_all: collect, run_job */
			upto = committed;
#ifdef BUG_SYNCED_BEFORE_SYNC
			store(10 + upto);
			atomic { FENCE -> rung = 1 }
#endif
			/* fdatasync: a system call, which waits for the buffer. */
			if
			:: failures < FAILURES ->
				atomic {
					FENCE -> failures++;
					if :: lost_from == 255 -> lost_from = on_disk + 1 :: else fi;
					has_died = 1
				}
#ifdef BUG_FAILURE_IGNORED
				store(10 + upto);
				atomic { FENCE -> rung = 1 }
#else
				has_said = 1;
#ifndef BUG_FAILURE_NOT_RUNG
#ifdef BUG_RUNG_BEFORE_FAILED
				rung = 1;
				store(2);
#else
				store(2); /* log_fail [O22] */
				atomic { FENCE -> rung = 1 } /* wake_ring: lock xadd */
#endif
#else
				store(2);
#endif
#endif
			:: atomic {
				FENCE ->
				if
				:: lost_from == 255 && on_disk < committed -> on_disk = committed
				:: else
				fi
			   }
#ifndef BUG_SYNCED_BEFORE_SYNC
#ifdef BUG_SYNCED_TOO_FAR
				upto = committed;
#endif
				store(10 + upto); /* raise_synced [O19] */
#ifndef BUG_NO_RING
				atomic { FENCE -> rung = 1 } /* wake_ring */
#endif
#endif
			fi
		fi
	od
}

/* settle: the worker whose connections wait for their OK. */
proctype worker()
{
	bool is_final;
	byte upto;

	do
	::
		rung = 0; /* wake_value */
#ifdef BUG_FINAL_AFTER_HEAD
		upto = synced;
		is_final = has_failed;
#else
		is_final = has_failed; /* log_is_final [O22]: before the head */
		upto = synced;         /* log_head [O19] */
#endif
		atomic {
			/* An OK says that it survives. */
			assert(upto <= on_disk && upto < lost_from);
			answered = upto;
			if
			:: is_final && refused == 0 -> refused = upto + 1
			:: else
			fi;
			/* What has been refused is never shown. */
			assert(refused == 0 || answered < refused)
		}
		rung /* wake_wait */
	od
}

init {
	byte t;
	atomic {
		run drain();
		do
		:: t == PUBLISHERS -> break
		:: else -> run drain_commit(t); run publisher(t); t++
		od;
		run syncer();
		run worker()
	}
	timeout ->
	assert(committed == accepted && accepted + turned_away == PUBLISHERS);
	/* Nobody waits for ever. */
	assert(answered == accepted || refused > 0);
	assert(refused == 0 || has_failed);
	assert(!has_died || has_failed)
}
