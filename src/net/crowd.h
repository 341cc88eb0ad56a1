/* SPDX-License-Identifier: MIT */
/*
 * crowd: the inside of a fan-out: its followers, the states that they go through, and how one is
 * written to. Shared by fanout.c (turns, the walk, what the owner asks for) and chase.c (those that
 * are behind), and by nobody else.
 *
 * Thread: the owner worker, inside a section where the log is looked at.
 */
#ifndef PSAD_NET_CROWD_H
#define PSAD_NET_CROWD_H

#include "net/fanout.h"
#include "net/recall.h"
#include "net/runs.h"

enum {
	SLICE_US = 1000, /* of work between two turns of the loop; bounds epoch sections */
};

struct fanout {
	struct log *log;
	struct epoch_thread *epoch;
	struct counters *counters;
	const struct fanout_calls *calls;
	struct interest *interest;

	uint64_t walked; /* live followers have, or will have after the pass, all up to here */
	size_t live;     /* followers in that state */
	struct follower_list behind, blocked, cold;
	uint64_t warmed; /* log_warmed() when those that are cold were last let on */
	size_t behind_count;
	size_t round_left; /* of those that are behind: had no turn yet in this round */
	uint64_t head;     /* at the last step */
	uint64_t goal;     /* of the round: the head when it began */
	/* What the last pass cost and brought, for is_gathering(). */
	uint64_t pass_began_us, pass_us;
	uint64_t pass_writes, pass_bytes;
	size_t lagging;          /* on those three lists, of those that follow for ever */
	uint64_t lowest_next_us; /* when the lowest position is to be computed again */

	/* The pass: the block that begins behind pass_from and ends at `walked`. */
	uint64_t pass_from;
	struct interest_due_list due;

	struct recall *recall;
	struct run_list run; /* of the set being written */
};

/* A set whose last due follower has gone has nothing to do in this pass any more. */
void crowd_forget_due_set(struct fanout *fanout, struct interest_set *set);

/* Takes the follower off its list, its position made its own: IDLE. */
void crowd_detach(struct fanout *fanout, struct follower *follower);
/*
 * The follower leaves the state that it is in for this one. LIVE: it has all that the walk has
 * passed, and follows for ever, without a limit.
 */
void crowd_become_live(struct fanout *fanout, struct follower *follower);
void crowd_become_behind(struct fanout *fanout, struct follower *follower);
void crowd_become_blocked(struct fanout *fanout, struct follower *follower);
/* What it has to look at is cold: asks for it. */
void crowd_become_cold(struct fanout *fanout, struct follower *follower, const struct block *block);
/* Those that are cold go on, where something has been warmed since the last time. */
void crowd_thaw(struct fanout *fanout);

/* It can't be served any more: IDLE, and its owner is told. */
void crowd_lose(struct fanout *fanout, struct follower *follower);

/*
 * Writes fanout->run, which is that of the selection, to one follower. True when all of it went;
 * else the follower is BLOCKED at its own position, or BEHIND because the segment has been found to
 * be damaged, or lost.
 */
bool crowd_deliver(struct fanout *fanout, struct follower *follower,
                   const struct selection *selection);

/* chase.c: a slice of work for those that are behind, in turn; or for one of them. Those that
 * follow for ever wait for the walk once they have passed it, unless `beyond_walk`. */
void chase_all(struct fanout *fanout, uint64_t head);
void chase_one(struct fanout *fanout, struct follower *follower, uint64_t head, bool beyond_walk);

#endif
