/* SPDX-License-Identifier: MIT */
/*
 * The log in memory: claim, copy, commit; seal and roll; the head over the committed prefix; the
 * keeper that links spares, retires the oldest and uses its memory again; readers that follow by
 * blocks. What must hold: ids are dense and no two messages share one; what is at or below the head
 * is committed, and is what its publisher wrote; the head never goes down; nothing is used again
 * while somebody can look at it; and when nothing can go on any more, all has been appended and each
 * reader has been shown all that retention has left it.
 *
 * Each access to shared memory is a step of its own, but where several can be seen as one: loads of
 * words that do not change any more (the base of a segment that has begun, the state of a sealed
 * one), and loops of load and compare-and-swap that judge anew what they find. Grace periods are as
 * epoch.pml proves them, and sleeping as wake.pml does: `rung` says that the counter has changed
 * since one took its value.
 *
 * tests/models/README.md says what is left out and how to run this.
 *
 * Stands for:
 *     src/log/segment.c segment_claim 98e2aec9
 *     src/log/segment.c segment_commit face7b47
 *     src/log/segment.c segment_seal 7c2781e6
 *     src/log/segment.c segment_reset f19eac40
 *     src/log/segment.h entry_is_committed 4ee7eaef
 *     src/log/log.c log_append 97b9a7ff
 *     src/log/log.c log_roll a5adab2e
 *     src/log/log.c find aa9176bf
 *     src/log/log.c head_raise 14a83023
 *     src/log/log.c log_committed 396c2cf1
 *     src/log/log.c log_block 8078224a
 *     src/log/keeper.c take_segment f11e6d9e
 *     src/log/keeper.c segment_is_free 94d1edfa
 *     src/log/keeper.c directory_change ff36235d
 *     src/log/keeper.c seal_by_age 6728bb1a
 *     src/log/keeper.c examine_sealed d18d4e71
 *     src/log/keeper.c is_to_go 2b73e64f
 *     src/log/keeper.c retire 2a11f87e
 *     src/log/keeper.c count_spares f6a570fd
 *     src/log/keeper.c link_spare 49b64075
 *     src/log/keeper.c provide_spares 149e55e4
 *     src/log/keeper.c pass 9416f535
 *     src/log/keeper.c keep 7265559c
 */

/* Bounds, one set for each run: see the table in tests/models/run. */
#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* of each publisher, one batch */
#endif
#ifndef BATCH
#define BATCH MESSAGES /* that one claim takes at most */
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef ENTRIES
#define ENTRIES 1 /* that a segment holds */
#endif
#ifndef SEGMENTS
#define SEGMENTS 3 /* the bound on memory */
#endif
#ifndef RETAIN
#define RETAIN 1 /* begun segments that retention leaves */
#endif
#ifndef AGES
#define AGES 0 /* times that the keeper finds the tail old */
#endif
#ifndef FORGED
#define FORGED 0 /* used memory may hold any commit word that can be known from before */
#endif

#define TOTAL (PUBLISHERS * MESSAGES)
#define KEEPER (PUBLISHERS + READERS)
#define THREADS (KEEPER + 1)
#define NO_BASE 255

/* segment.state: entries used << 1 | sealed; the bytes used follow from the entries. */
#define IS_SEALED(state) ((state) & 1)
#define COUNT(state) ((state) >> 1)
/* A commit word: id xor secret, which are told apart here. Fresh memory holds 0. */
#ifdef BUG_COMMIT_WITHOUT_ID
#define WORD(id, of) (of + 1)
#else
#define WORD(id, of) ((of) * 16 + (id))
#endif
/* A directory, which never changes once published: its count and up to three segments. */
#define DIR_COUNT(dir) ((dir) & 3)
#define DIR_AT(dir, i) (((dir) >> (2 + 2 * (i))) & 3)
#define BIT(n) (1 << (n))

byte state[SEGMENTS];            /* [O4] */
byte base[SEGMENTS];             /* [O2] */
byte next[SEGMENTS];             /* [O3] segment + 1; 0: none */
byte secret[SEGMENTS];
byte commit[SEGMENTS * ENTRIES]; /* [O1] */
byte frame[SEGMENTS * ENTRIES];  /* frame and entry: which message was copied here */
byte directory;                  /* [O5] */
byte tail;                       /* [O9] */
byte head;                       /* [O7] */
bool kicked;                     /* the keeper's eventfd */
bool rung[THREADS];              /* since wake_value() */

/* Epoch: who is inside a section, and whom each retired segment waits for. */
byte inside;
byte waits_for[SEGMENTS];
byte grace;

/* Of the proof. */
byte message_of[TOTAL + 1]; /* which message has the id; 0: not given out */
bool is_committed[TOTAL + 1];
byte looks_at[THREADS];     /* segments that a thread's section has found */
byte life = 1;              /* the last secret drawn */
bool changed;               /* something that may matter to a keeper that polls */
byte appended[PUBLISHERS], shown[THREADS];

#define DEFER                                                                                      \
	atomic { /* epoch_defer */                                                                 \
		i = 0;                                                                             \
		do                                                                                 \
		:: i == dropped -> break                                                           \
		:: else ->                                                                         \
			waits_for[DIR_AT(dir, i)] = inside;                                        \
			grace = grace | BIT(DIR_AT(dir, i));                                       \
			i++                                                                        \
		od;                                                                                \
		i = 0;                                                                             \
		dir = 0                                                                            \
	}
#define ENTER(t) inside = inside | BIT(t)
#define LEAVE(t)                                                                                   \
	inside = inside & ~BIT(t);                                                                 \
	looks_at[t] = 0;                                                                           \
	i = 0;                                                                                     \
	do                                                                                         \
	:: i == SEGMENTS -> break                                                                  \
	:: else -> waits_for[i] = waits_for[i] & ~BIT(t); i++                                      \
	od;                                                                                        \
	i = 0;                                                                                     \
	changed = 1

/* wake_ring; of publishers by log_announce. */
#define RING                                                                                       \
	i = 0;                                                                                     \
	do                                                                                         \
	:: i == KEEPER -> break                                                                    \
	:: else -> rung[i] = 1; i++                                                                \
	od;                                                                                        \
	i = 0

/* Whoever finds a segment may look at it until he leaves his section. */
#define FOUND(t, s) looks_at[t] = looks_at[t] | BIT(s)
#define LOAD_DIRECTORY(t)                                                                          \
	atomic {                                                                                   \
		dir = directory; /* [O5] */                                                        \
		i = 0;                                                                             \
		do                                                                                 \
		:: i == DIR_COUNT(dir) -> break                                                    \
		:: else -> FOUND(t, DIR_AT(dir, i)); i++                                           \
		od;                                                                                \
		i = 0                                                                              \
	}

/*
 * find(): sets `begun`, how many segments of dir begin at or before id. Bases are set in the order
 * of the chain, so that the loads of one search can be seen as one.
 */
inline find(id)
{
	atomic {
		begun = 0;
		high = DIR_COUNT(dir);
		do
		:: begun >= high -> break
		:: else ->
			if
			:: base[DIR_AT(dir, (begun + high) / 2)] <= id -> /* [O2] */
				begun = (begun + high) / 2 + 1
			:: else -> high = (begun + high) / 2
			fi
		od;
		high = 0
	}
}

/* log_committed(), with `known` loaded [O7] already: sets `result`. */
inline log_committed(t)
{
	skip;
again:	LOAD_DIRECTORY(t);
	find(known + 1);
	if
	:: begun == 0 -> /* retired since: from where the head is now [O7] */
#ifdef BUG_HEAD_OF_OTHERS
		atomic { result = head; known = 0; dir = 0 }
#else
		atomic { known = head; goto again }
#endif
	:: else ->
		atomic { nth = known + 1; s = DIR_AT(dir, begun - 1); dir = 0; begun = 0 }
		do
		::
			atomic { b = base[s]; st = state[s] } /* [O2] [O4] */
#ifdef BUG_HEAD_OVER_HOLES
			nth = b + COUNT(st);
#endif
			do
			:: nth >= b + COUNT(st) -> break
			:: else ->
				if /* [O1] */
				:: commit[s * ENTRIES + nth - b] == WORD(nth, secret[s]) -> nth++
				:: else -> break
				fi
			od;
			if
			:: nth < b + COUNT(st) || !IS_SEALED(st) -> break
			:: else
			fi;
			atomic {
				if
				:: next[s] == 0 -> break /* [O3] */
				:: else -> s = next[s] - 1; FOUND(t, s)
				fi;
				if
				:: base[s] != nth -> break /* [O2] not rolled yet */
				:: else
				fi
			}
		od;
		atomic {
#ifdef BUG_HEAD_ONE_TOO_FAR
			if :: nth <= TOTAL -> nth++ :: else fi;
#endif
			result = nth - 1;
			s = 0; b = 0; st = 0; nth = 0
		}
		/* head_raise */
		if
		:: result > known ->
#ifdef BUG_HEAD_STORED
			known = head;
#endif
			atomic { /* cas [O7] */
				if
#ifdef BUG_HEAD_STORED
				:: known < result ->
#else
				:: head < result ->
#endif
					assert(head < result); /* it never goes down */
					known = head;
					do
					:: known == result -> break
					:: else -> known++; assert(is_committed[known])
					od;
					head = result
				:: else
				fi;
				known = 0
			}
		:: else -> known = 0
		fi
	fi
}

/* segment_seal() */
inline seal(s)
{
#ifdef BUG_SEALED_BY_STORE
	st = state[s];
	state[s] = st | 1;
#else
	atomic { state[s] = state[s] | 1; changed = 1 } /* cas [O4] */
#endif
}

/* log_roll(): sets s to the new tail; `follower` is 0 when there is none. */
inline roll(t)
{
	atomic {
		follower = next[s]; /* [O3] */
		if
		:: follower == 0 -> st = 0; b = 0
		:: else ->
			FOUND(t, follower - 1);
#ifdef BUG_ROLLED_BY_OLD_STATE
			b = base[s] + COUNT(st)
#else
			assert(IS_SEALED(state[s]));
			b = base[s] + COUNT(state[s]) /* [O2] [O4] */
#endif
		fi
	}
	if
	:: follower == 0
	:: else ->
#ifndef BUG_BASE_AFTER_TAIL
		base[follower - 1] = b; /* [O2] each helper stores the same */
#endif
		atomic {
			if
			:: tail == s -> tail = follower - 1; st = 1 /* cas [O9] */
			:: else -> st = 0
			fi
		}
#ifdef BUG_BASE_AFTER_TAIL
		base[follower - 1] = b;
#endif
#ifndef BUG_NO_KICKS
		if
		:: st -> kicked = 1 /* keeper_kick */
		:: else
		fi;
#endif
		atomic { s = tail; FOUND(t, s); st = 0; b = 0 } /* [O9] */
	fi
}

proctype publisher(byte me)
{
	byte done = 0, count, at, s, st, b, follower, i;
	bool news; /* must_ring: it has appended since it last rang */

	do
	:: done == MESSAGES -> break
	:: else ->
		atomic {
			rung[me] = 0; /* wake_value */
#ifndef BUG_PUBLISHER_OUTSIDE
			ENTER(me);
#endif
			s = tail; /* [O9] */
			FOUND(me, s)
		}
append:		/* segment_claim */
		atomic { b = base[s]; st = state[s] } /* [O2] [O4] */
claim:		if
		:: IS_SEALED(st) -> goto is_full
		:: !IS_SEALED(st) && COUNT(st) >= ENTRIES ->
#ifndef BUG_NOT_SEALED
#ifdef BUG_ROLLED_BY_OLD_STATE
			st = state[s];
#endif
			seal(s);
#endif
			goto is_full
		:: else ->
			atomic {
				count = (MESSAGES - done < ENTRIES - COUNT(st) -> MESSAGES - done
					: ENTRIES - COUNT(st));
				count = (count < BATCH -> count : BATCH);
				if
#ifdef BUG_CLAIM_WITHOUT_CAS
				:: true ->
#else
				:: state[s] == st -> /* cas [O4] */
#endif
					at = COUNT(st);
					state[s] = st + 2 * count;
					st = 0
				:: else -> count = 0; st = state[s]; goto claim
				fi
			}
		fi;
		/* segment_commit */
		do
		:: count == 0 -> break
		:: else ->
#ifdef BUG_COMMIT_BEFORE_COPY
			atomic {
				message_of[b + at] = me * MESSAGES + done + 1;
				commit[s * ENTRIES + at] = WORD(b + at, secret[s]);
				is_committed[b + at] = 1
			}
			atomic {
				frame[s * ENTRIES + at] = me * MESSAGES + done + 1;
#else
			atomic {
				/* Ids are dense, and no two messages share one. */
				assert(b + at >= 1 && b + at <= TOTAL && message_of[b + at] == 0);
				message_of[b + at] = me * MESSAGES + done + 1;
				frame[s * ENTRIES + at] = me * MESSAGES + done + 1
			}
			atomic { /* [O1] */
				commit[s * ENTRIES + at] = WORD(b + at, secret[s]);
				is_committed[b + at] = 1;
#endif
				changed = 1;
				at++;
				count--;
				done++;
				news = 1;
				appended[me] = done
			}
		od;
		at = 0;
		if
		:: done < MESSAGES -> goto append
		:: else -> goto appended_all
		fi;
is_full:
		roll(me);
		if
		:: follower > 0 -> atomic { follower = 0; goto append }
		:: else
		fi;
		/* LOG_NO_SEGMENT */
#ifndef BUG_NO_KICKS
		kicked = 1; /* keeper_kick */
#endif
appended_all:
		atomic {
			s = 0;
			b = 0;
			LEAVE(me);
#ifndef BUG_NO_RING_AFTER_COMMIT
			if
			:: news -> RING; news = 0 /* log_announce */
			:: else
			fi
#endif
		}
		if
		:: done < MESSAGES -> rung[me] /* wake_wait */
		:: else
		fi
	od
}

proctype reader(byte me)
{
	byte position = 1, known, nth, result, dir, begun, high, s, b, st, i;

	do
	::
		atomic {
#ifndef BUG_READER_SEEN_LATE
			rung[me] = 0; /* wake_value */
#endif
			ENTER(me);
			known = head /* [O7] */
		}
		log_committed(me);
#ifdef BUG_READER_SEEN_LATE
		rung[me] = 0;
#endif
		if
		:: position > result
		:: else ->
			/* log_block */
			LOAD_DIRECTORY(me);
			find(position);
			if
			:: begun == 0 ->
				/* BLOCK_DROPPED: on at log_first() */
				LOAD_DIRECTORY(me);
				atomic {
					b = base[DIR_AT(dir, 0)]; /* [O2] */
					assert(b > position && b <= TOTAL + 1);
					position = b;
					b = 0;
					dir = 0
				}
			:: else ->
				atomic {
					s = DIR_AT(dir, begun - 1);
					dir = 0;
					begun = 0
				}
#ifdef BUG_READ_OUTSIDE
				atomic { LEAVE(me) }
#endif
				atomic {
					b = base[s];   /* [O2] */
					st = state[s]; /* [O4] */
#ifndef BUG_READ_OUTSIDE
					assert(position < b + COUNT(st));
#endif
					do
					:: position > result || position >= b + COUNT(st) -> break
					:: else ->
						/* What its publisher wrote, and of this life. */
						assert(frame[s * ENTRIES + position - b] ==
						       message_of[position]);
						position++
					od;
					s = 0; b = 0; st = 0
				}
			fi
		fi;
		atomic { shown[me] = position - 1; LEAVE(me) }
		if
		:: position > result -> result = 0; rung[me] /* wake_wait */
		:: else -> result = 0
		fi
	od
}

/* segment_reset(): nobody else sees it until it is linked. */
#define RESET(s)                                                                                   \
	i = 0;                                                                                     \
	do                                                                                         \
	:: i == KEEPER -> break                                                                    \
	:: else ->                                                                                 \
		/* Nobody can be looking at what begins a new life. */                             \
		assert(!(looks_at[i] & BIT(s)));                                                   \
		i++                                                                                \
	od;                                                                                        \
	FORGE(s);                                                                                  \
	RENEW(s);                                                                                  \
	base[s] = NO_BASE;                                                                         \
	next[s] = 0;                                                                               \
	state[s] = 0;                                                                              \
	i = 0

/* Bytes that a client once put there who knows the secret of that life. */
#if FORGED
#define FORGE(s)                                                                                   \
	i = 1;                                                                                     \
	do                                                                                         \
	:: i < TOTAL -> i++                                                                        \
	:: commit[s * ENTRIES] = WORD(i, secret[s]); break                                         \
	:: break                                                                                   \
	od
#else
#define FORGE(s) skip
#endif

#if defined(BUG_SECRET_UNUSED)
#define RENEW(s) skip
#elif defined(BUG_SECRET_NOT_RENEWED)
#define RENEW(s) if :: secret[s] == 0 -> secret[s] = life; life++ :: else fi
#else
#define RENEW(s) secret[s] = life; life++
#endif

/*
 * Its sections are left out: it alone retires, outside of them it polls, and it waits for nobody's
 * directory but its own.
 */
proctype keeper()
{
	byte known, nth, result, dir, begun, high, s, b, st, i, follower;
	byte kept, dropped, unused, made = 1, ages = AGES;
	bool wants_room = 0, is_old = 0;

	do
	::
		/* poll(): kicked, or what a pass may find has changed and it looks again each
		 * millisecond, or the tail has become old. */
		atomic {
			if
			:: kicked -> kicked = 0; changed = 0
			:: (wants_room || grace) && changed -> changed = 0
			:: ages > 0 -> ages--; is_old = 1
			fi;
			wants_room = 0
		}
		if
		:: is_old ->
			/* seal_by_age */
			atomic { is_old = 0; s = tail }       /* [O9] */
			atomic { st = state[s]; b = base[s] } /* [O4] [O2] */
			if
			:: COUNT(st) > 0 && commit[s * ENTRIES] == WORD(b, secret[s]) -> /* [O1] */
				seal(s);
				roll(KEEPER)
			:: else
			fi;
			atomic { s = 0; st = 0; b = 0; follower = 0 }
		:: else
		fi;
		known = head; /* [O7] */
		log_committed(KEEPER);
		/* examine_sealed; retire counts what has begun */
		dir = directory; /* nobody else writes it */
		do
		:: i == DIR_COUNT(dir) -> break
		:: else ->
			atomic {
				s = DIR_AT(dir, i);
				b = base[s];   /* [O2] */
				st = state[s]; /* [O4] */
				i++;
				if
				:: b != NO_BASE ->
					kept++;
					nth = b;
					do
					:: !IS_SEALED(st) || b + COUNT(st) > result + 1 -> break
					:: nth == b + COUNT(st) -> break
					:: else ->
						/* segment_sum_up */
						assert(frame[s * ENTRIES + nth - b] ==
						       message_of[nth]);
						nth++
					od;
					nth = 0
				:: else
				fi;
				s = 0; b = 0; st = 0
			}
		od;
		i = 0;
		do
		:: dropped + 1 >= DIR_COUNT(dir) -> break
		:: else ->
			/* is_to_go */
			atomic {
				s = DIR_AT(dir, dropped);
				st = state[s]; /* [O4] */
				b = base[s]    /* [O2] */
			}
			atomic {
				if
#ifndef BUG_TAIL_RETIRED
				:: s == tail -> break /* [O9] */
#endif
				:: else
				fi;
				if
#if defined(BUG_RETIRED_UNCOMMITTED)
				:: !IS_SEALED(st) -> break
#elif defined(BUG_RETIRED_UNSEALED)
				:: b == NO_BASE || b + COUNT(st) > result + 1 -> break
#else
				:: !IS_SEALED(st) || b + COUNT(st) > result + 1 -> break
#endif
				:: else
				fi;
				if
				:: kept > RETAIN ->
					/* The head has passed it: it need not be looked for there. */
					assert(IS_SEALED(st) && b + COUNT(st) <= head + 1);
					kept--;
					dropped++
				:: else -> break
				fi
			}
		od;
		atomic { s = 0; st = 0; b = 0; result = 0; kept = 0 }
		if
		:: dropped > 0 ->
#ifdef BUG_DEFERRED_IN_REACH
			DEFER;
#endif
			directory = (directory >> (2 + 2 * dropped) << 2) |
				    (DIR_COUNT(directory) - dropped); /* [O5] */
#ifndef BUG_DEFERRED_IN_REACH
			DEFER;
#endif
			dropped = 0
		:: else
		fi;
		/* epoch_poll: segment_is_free */
		atomic {
			i = 0;
			do
			:: i == SEGMENTS -> break
			:: else ->
				if
#ifdef BUG_FREED_AT_ONCE
				:: grace & BIT(i) ->
#else
				:: (grace & BIT(i)) && waits_for[i] == 0 ->
#endif
					grace = grace & ~BIT(i);
					unused = unused | BIT(i)
				:: else
				fi;
				i++
			od;
			i = 0
		}
		/* provide_spares: one */
		atomic {
			dir = directory;
			s = DIR_AT(dir, DIR_COUNT(dir) - 1) /* the last one */
		}
		if
		:: s != tail /* [O9] there is a spare */
		:: else ->
			/* take_segment, link_spare, directory_change */
			atomic {
				follower = 0;
				do
				:: follower == SEGMENTS -> break
				:: unused & BIT(follower) -> unused = unused & ~BIT(follower); break
				:: else -> follower++
				od;
				if
				:: follower == SEGMENTS && made < SEGMENTS -> follower = made; made++
				:: else
				fi;
				if
				:: follower == SEGMENTS -> wants_room = 1
				:: else ->
#ifndef BUG_LINKED_BEFORE_RESET
					RESET(follower);
#endif
#ifndef BUG_DIRECTORY_LATE
					directory = (dir + 1) |
						    (follower << (2 + 2 * DIR_COUNT(dir))) /* [O5] */
#endif
				fi
			}
			if
			:: wants_room
			:: else ->
				atomic { assert(next[s] == 0); next[s] = follower + 1 } /* [O3] */
#ifdef BUG_DIRECTORY_LATE
				directory = (dir + 1) | (follower << (2 + 2 * DIR_COUNT(dir)));
#endif
#ifdef BUG_LINKED_BEFORE_RESET
				atomic { RESET(follower) }
#endif
#ifndef BUG_NO_RING_FOR_ROOM
				atomic { RING }
#endif
			fi
		fi;
		if
		:: wants_room && s != tail -> wants_room = 0 /* [O9] */
		:: else
		fi;
		atomic { dir = 0; s = 0; follower = 0; looks_at[KEEPER] = 0 }
	od
}

init {
	byte t;
	atomic {
		/* build_chain: a tail alone */
		base[0] = 1;
		secret[0] = life;
		life++;
		directory = 1;
		kicked = 1; /* the first pass */
		t = 0;
		do
		:: t == PUBLISHERS -> break
		:: else -> run publisher(t); t++
		od;
		do
		:: t == KEEPER -> break
		:: else -> run reader(t); t++
		od;
		run keeper()
	}
	timeout ->
	t = 0;
	do
	:: t == PUBLISHERS -> break
	:: else -> assert(appended[t] == MESSAGES); t++
	od;
	do
	:: t == KEEPER -> break
	:: else -> assert(shown[t] == TOTAL); t++
	od
}
