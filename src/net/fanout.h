/* SPDX-License-Identifier: MIT */
/*
 * fanout: brings the log to the followers of one worker.
 *
 * A follower is a set of patterns and a position. Those that have everything are *live*: the worker
 * walks new entries in blocks, asks once what of a block matches which set, builds that set's list
 * of runs (runs.h) once, and writes it to each of the set's live followers (a *pass*). A follower
 * whose socket takes no more, or that starts in the past, is *behind*: it keeps a position of its
 * own and comes back by large runs, by the same code, a bounded piece a turn.
 *
 *             fanout_start           caught up
 *     IDLE ----------------> BEHIND ------------> LIVE
 *       ^                    ^    |                 |
 *       |     fanout_resume  |    | socket full     | socket full
 *       |                    |    v                 |
 *       +----- leave ------ BLOCKED <---------------+
 *
 * A follower that is behind and comes to a segment that is not in memory (log.h, BLOCK_COLD) asks
 * for it and is COLD until something has been warmed: it costs nothing meanwhile, and the worker
 * sleeps on the log. What its set can't match is passed by without being brought into memory.
 *
 *       BEHIND ----> COLD ----> BEHIND
 *
 * Nothing is allocated, locked or formatted for a follower or a delivery. Nothing pins a segment: a
 * position that retention has passed becomes a gap, and so does what can't be read.
 *
 * Thread: the owner worker, all of it.
 */
#ifndef PSAD_NET_FANOUT_H
#define PSAD_NET_FANOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "log/log.h"
#include "net/counters.h"
#include "net/interest.h"
#include "wire/answer.h"

enum follower_state {
	FOLLOWER_IDLE,    /* follows nothing */
	FOLLOWER_LIVE,    /* in its set; its position is the walk's */
	FOLLOWER_BEHIND,  /* has a position of its own and can go on */
	FOLLOWER_BLOCKED, /* has a position of its own and waits for its owner */
	FOLLOWER_COLD,    /* has a position of its own and waits for the log */
};

#define FOLLOW_FOREVER UINT64_MAX

struct follower {
	enum follower_state state;
	unsigned side;            /* LIVE: which of its set's sides it is on */
	struct interest_set *set; /* NULL where it has no patterns */
	uint64_t position;        /* not LIVE: all that matches up to here has been sent */
	uint64_t end;             /* last id to deliver, or FOLLOW_FOREVER */
	uint64_t limit;           /* messages still to be delivered at most, or FOLLOW_FOREVER; with
	                             an `end` alone */
	uint64_t seek;            /* LAST: matches still to be found, going back from position */
	/* Until its first message, what retention takes up to here is no gap: it asked for what was
	 * kept when it began. What is kept and can't be read is one. 0: nothing. */
	uint64_t quiet_to;
	bool is_lagging; /* fanout's: counted as such */
	TAILQ_ENTRY(follower) link;
};

/* What the follower's owner does; the follower may not leave within a call. */
struct fanout_calls {
	/*
	 * Writes `size` log bytes. Returns how many went (0 when the socket is full or other bytes
	 * have to go first), or a negative errno when the connection is lost; but -EFAULT: the
	 * bytes can't be read, and none went.
	 */
	ssize_t (*write)(struct follower *follower, const struct iovec *iov, int count,
	                 size_t size);
	/*
	 * Of message `id`, the bytes from `from` on (`n` bytes at `rest`, valid during the call)
	 * have not been sent: nothing else may be sent before them. Negative: it can't be kept.
	 */
	int (*owe)(struct follower *follower, uint64_t id, uint32_t from, const char *rest,
	           uint32_t n);
	/* No message from..to will come. 0; 1 when it was said, but nothing more can be now: the
	 * follower becomes BLOCKED; negative when it can't be said. */
	int (*gap)(struct follower *follower, uint64_t from, uint64_t to, enum gap_reason reason);
	/* LAST: the start has been found; position is set. The follower is BLOCKED: resume it. */
	void (*found)(struct follower *follower);
	/* `end` or `limit` is reached; the follower is IDLE but keeps its set. */
	void (*arrived)(struct follower *follower);
	/* write, owe or gap failed, or what was sent can't be finished or trusted (the segment has
	 * turned out to be damaged meanwhile); the follower is IDLE but keeps its set. */
	void (*lost)(struct follower *follower);
};

struct fanout;

/* NULL: no memory. `counters`: where deliveries are counted; one writer: us. */
struct fanout *fanout_new(struct log *log, struct epoch_thread *epoch, struct counters *counters,
                          const struct fanout_calls *calls);
void fanout_free(struct fanout *fanout);

/*
 * Patterns: `words` as in a command. 0 or -ENOMEM (nothing changed). The position is kept, and so
 * is the state, but that a LIVE follower becomes BEHIND. `is_bare`: payloads alone, the same at
 * each call for a follower.
 */
int fanout_add_patterns(struct fanout *fanout, struct follower *follower, struct slice words,
                        bool is_bare);
/* The same, the other way. Without a pattern left the follower is IDLE. words.n = 0: all go. */
int fanout_remove_patterns(struct fanout *fanout, struct follower *follower, struct slice words);
/* How many it would have with those: see interest_count_with(). */
size_t fanout_count_patterns(struct fanout *fanout, const struct follower *follower,
                             struct slice words);

/*
 * Begins delivery, behind follower->position, to follower->end and at most follower->limit
 * messages; where follower->seek > 0, the position is first moved back until that many messages
 * match (found() then). The follower is IDLE and has patterns.
 */
void fanout_start(struct fanout *fanout, struct follower *follower);
/* From now on only up to `end`; arrived() then. The follower is not IDLE. */
void fanout_set_end(struct fanout *fanout, struct follower *follower, uint64_t end);
/* The owner can take bytes again: BLOCKED becomes BEHIND, any other state stays. */
void fanout_resume(struct fanout *fanout, struct follower *follower);
/* Stops delivery: IDLE, without patterns, with its position set. */
void fanout_leave(struct fanout *fanout, struct follower *follower);

/* All that matches up to here has been sent (or is owed in part). */
uint64_t fanout_position(const struct fanout *fanout, const struct follower *follower);

/*
 * Works for about a millisecond: the pass under way, new blocks, those that are behind. Returns
 * whether there is more to do at once. Outside a section (enters its own).
 *
 * `has_more`: publishers are delivering faster than they are read. Where writes are small (many
 * topics, each with a follower of its own) the next pass then waits for more to write, at most for
 * as long as the last one took: under load batches grow, and nobody waits twice as long as it must.
 */
bool fanout_step(struct fanout *fanout, bool has_more);
/* One follower that is behind goes as far as it can within a budget; for commands that want it at
 * the head. Outside a section. */
void fanout_advance(struct fanout *fanout, struct follower *follower);

enum fanout_round {
	ROUND_UNDER_WAY,        /* somebody has not had its turn yet */
	ROUND_DONE_SOME_BEHIND, /* and those that are behind may go on at once */
	ROUND_DONE,
};
/*
 * A round is over when the walk has come to where the head was when it began, and each follower
 * that was behind then has had its budget. Who publishes faster than that is to be read no faster.
 * Asked once a turn; what is over begins anew.
 */
enum fanout_round fanout_round(struct fanout *fanout);

/* True when new messages or warmed segments concern us: the worker then parks on the log. */
bool fanout_is_following(const struct fanout *fanout);

enum rest_verdict {
	REST_HERE,
	REST_COLD, /* it has been asked for: try again when log_warmed() has changed */
	REST_GONE, /* retention has taken it, or it can't be read */
};
struct rest {
	struct iovec bytes;
	/* That they are of: to be asked behind the reading whether it is damaged. */
	struct block block;
};
/* For the log bytes behind owe(): the rest of message `id` from byte `from` on. Inside a section,
 * valid as long. */
enum rest_verdict fanout_find_rest(struct fanout *fanout, uint64_t id, uint32_t from,
                                   struct rest *rest);

#endif
