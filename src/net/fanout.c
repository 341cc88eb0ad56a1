/* SPDX-License-Identifier: MIT */
#include "net/crowd.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
	QUESTION_US = 1000,    /* more, to find out who gets what: the longer, the larger writes */
	LONG_WRITE = 64 << 10, /* bytes; a look at the clock after each such write */
	WRITES_PER_LOOK = 16,  /* writes between two looks at the clock */
};

/* ---- the pass: live followers ---- */

/* The block of the pass can't be had any more: whoever is still due finds out by itself. */
static void abandon_pass(struct fanout *fanout)
{
	struct interest_set *set;
	while ((set = TAILQ_FIRST(&fanout->due)) != NULL) {
		struct follower_list *list = &set->sides[!set->live_side];
		while (set->is_due && !TAILQ_EMPTY(list))
			crowd_become_behind(fanout, TAILQ_FIRST(list));
		crowd_forget_due_set(fanout, set);
	}
}

/* True when the slice is used up. */
static bool is_slice_over(const struct fanout *fanout, uint64_t end_us, unsigned *writes)
{
	bool is_long = fanout->run.bytes >= LONG_WRITE;
	return (++*writes % WRITES_PER_LOOK == 0 || is_long) && clock_mono_us() >= end_us;
}

/* Goes on with the pass. True when it is done, false when the slice is over. */
static bool pass(struct fanout *fanout, uint64_t end_us)
{
	struct interest_set *set;
	struct block block;
	struct bits bits;
	unsigned writes = 0;

	if (TAILQ_EMPTY(&fanout->due))
		return true;
	/* Sections end between slices: the block has to be found again, all of it. */
	if (log_block(fanout->log, fanout->pass_from + 1, fanout->walked, &block) != BLOCK_HERE ||
	    block.first + block.count <= fanout->walked) {
		abandon_pass(fanout);
		return true;
	}
	while ((set = TAILQ_FIRST(&fanout->due)) != NULL) {
		struct follower_list *list = &set->sides[!set->live_side];
		const struct selection selection = {
			.block = &block, .bits = &bits, .to = block.count, .is_bare = set->is_bare};
		interest_bits(fanout->interest, set, block.count, &bits);
		run_list_build(&fanout->run, &selection, SIZE_MAX, UINT64_MAX);
		while (!TAILQ_EMPTY(list)) {
			struct follower *follower = TAILQ_FIRST(list);
			if (crowd_deliver(fanout, follower, &selection)) {
				TAILQ_REMOVE(list, follower, link);
				follower->side = set->live_side;
				TAILQ_INSERT_TAIL(&set->sides[set->live_side], follower, link);
			}
			fanout->pass_writes++;
			fanout->pass_bytes += fanout->run.bytes;
			if (is_slice_over(fanout, end_us, &writes)) {
				crowd_forget_due_set(fanout, set);
				return TAILQ_EMPTY(&fanout->due);
			}
		}
		crowd_forget_due_set(fanout, set);
	}
	fanout->pass_us = clock_mono_us() - fanout->pass_began_us;
	return true;
}

/* The live side of each due set becomes its due side, at once and without a look at followers. */
static void turn_due_sets(struct fanout *fanout)
{
	struct interest_set *set;
	TAILQ_FOREACH(set, &fanout->due, due)
		set->live_side = !set->live_side;
}

/* No block can be had for all of them: each live follower goes on by itself. */
static void scatter(struct fanout *fanout, uint64_t walked)
{
	interest_match_none(fanout->interest, &fanout->due);
	turn_due_sets(fanout);
	fanout->pass_from = fanout->walked;
	fanout->walked = walked;
	abandon_pass(fanout);
}

/* Begins a pass over the next block. False when there is none. */
static bool begin_pass(struct fanout *fanout, uint64_t head, uint64_t end_us)
{
	struct block block;

	/* Nobody is live: nobody would get anything. */
	if (fanout->live == 0)
		fanout->walked = head;
	switch (log_block(fanout->log, fanout->walked + 1, head, &block)) {
	case BLOCK_END:
		return false;
	case BLOCK_DROPPED:
		/* We were kept from walking for as long as retention: each has a gap to be told. */
		scatter(fanout, log_first(fanout->log) - 1);
		return true;
	case BLOCK_COLD:
		/* For so long that it has been unmapped: whoever is to get it waits for it. */
		scatter(fanout, head);
		return true;
	case BLOCK_GAP:
		scatter(fanout, block.last);
		return true;
	case BLOCK_HERE:
		break;
	}
	uint32_t looked =
		interest_match_all(fanout->interest, &block, end_us + QUESTION_US, &fanout->due);
	if (block_is_damaged(&block)) { /* zeros match nothing: nobody has been asked about it */
		scatter(fanout,
		        block_segment_last(&block) < head ? block_segment_last(&block) : head);
		return true;
	}
	turn_due_sets(fanout);
	fanout->pass_from = fanout->walked;
	fanout->walked = block.first + looked - 1;
	fanout->pass_began_us = end_us - SLICE_US;
	fanout->pass_writes = fanout->pass_bytes = 0;
	return true;
}

/* ---- a turn ---- */

enum { GAUGES_US = 100 * 1000 };

/* The gauges; the lowest position costs a look at all that lag, so not at every turn. */
static void publish_gauges(struct fanout *fanout, uint64_t now_us)
{
	struct follower_list *lists[] = {&fanout->behind, &fanout->blocked, &fanout->cold};
	struct follower *follower;
	uint64_t lowest = FOLLOW_FOREVER;

	/* Relaxed: statistics. */
	atomic64_store_relaxed(&fanout->counters->lagging_subscribers, fanout->lagging);
	if (now_us < fanout->lowest_next_us && fanout->lagging > 0)
		return;
	fanout->lowest_next_us = now_us + GAUGES_US;
	for (size_t i = 0; i < 3 && fanout->lagging > 0; i++)
		TAILQ_FOREACH(follower, lists[i], link)
			if (follower->is_lagging && follower->position < lowest)
				lowest = follower->position;
	atomic64_store_relaxed(&fanout->counters->lowest_position, lowest);
}

enum { SMALL_WRITE = 16 << 10 }; /* bytes: a larger one is not much cheaper for each */

/* Whether it is worth waiting for more before the next pass. */
static bool is_gathering(const struct fanout *fanout, uint64_t head, uint64_t now_us)
{
	if (!TAILQ_EMPTY(&fanout->due) || head - fanout->walked >= BLOCK_ENTRIES)
		return false;
	return fanout->pass_bytes < fanout->pass_writes * SMALL_WRITE &&
	       now_us < fanout->pass_began_us + 2 * fanout->pass_us;
}

bool fanout_step(struct fanout *fanout, bool has_more)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;

	crowd_thaw(fanout);
	epoch_enter(fanout->epoch);
	uint64_t head = log_head(fanout->log);
	bool is_waiting = has_more && is_gathering(fanout, head, end_us - SLICE_US);
	while (!is_waiting && (!TAILQ_EMPTY(&fanout->due) || begin_pass(fanout, head, end_us))) {
		/* Between two rounds there is more to be read, so that the next pass has more. */
		if (!pass(fanout, end_us) || fanout->walked >= fanout->goal ||
		    clock_mono_us() >= end_us)
			break;
	}
	fanout->head = head;
	bool is_busy = fanout->walked < head || !TAILQ_EMPTY(&fanout->due);
	epoch_leave(fanout->epoch);

	if (!TAILQ_EMPTY(&fanout->behind)) {
		epoch_enter(fanout->epoch);
		chase_all(fanout, log_head(fanout->log));
		epoch_leave(fanout->epoch);
	}
	publish_gauges(fanout, end_us);
	return is_busy || !TAILQ_EMPTY(&fanout->behind);
}

void fanout_advance(struct fanout *fanout, struct follower *follower)
{
	epoch_enter(fanout->epoch);
	uint64_t head = log_head(fanout->log);
	if (follower->state == FOLLOWER_LIVE && fanout_position(fanout, follower) < head)
		crowd_become_behind(fanout, follower);
	if (follower->state == FOLLOWER_BEHIND)
		chase_one(fanout, follower, head, true);
	epoch_leave(fanout->epoch);
}

enum fanout_round fanout_round(struct fanout *fanout)
{
	if (fanout->round_left > fanout->behind_count)
		fanout->round_left = fanout->behind_count;
	if (!TAILQ_EMPTY(&fanout->due) || fanout->walked < fanout->goal || fanout->round_left > 0)
		return ROUND_UNDER_WAY;
	fanout->goal = fanout->head;
	fanout->round_left = fanout->behind_count;
	return fanout->round_left > 0 ? ROUND_DONE_SOME_BEHIND : ROUND_DONE;
}

bool fanout_is_following(const struct fanout *fanout)
{
	return fanout->live > 0 || !TAILQ_EMPTY(&fanout->cold);
}

/* ---- what the owner asks for ---- */

static void change_set(struct fanout *fanout, struct follower *follower, struct interest_set *set)
{
	bool is_followed = follower->state == FOLLOWER_LIVE;
	if (is_followed) /* on the old set's list */
		crowd_become_behind(fanout, follower);
	if (follower->set != NULL)
		interest_release(fanout->interest, follower->set);
	follower->set = set;
}

int fanout_add_patterns(struct fanout *fanout, struct follower *follower, struct slice words,
                        bool is_bare)
{
	struct interest_set *set = interest_add(fanout->interest, follower->set, words, is_bare);
	if (set == NULL)
		return -ENOMEM;
	change_set(fanout, follower, set);
	return 0;
}

int fanout_remove_patterns(struct fanout *fanout, struct follower *follower, struct slice words)
{
	struct interest_set *set = NULL;
	if (follower->set == NULL)
		return 0;
	if (words.n > 0) {
		int error = interest_subtract(fanout->interest, follower->set, words, &set);
		if (error != 0)
			return error;
	}
	if (set == NULL)
		fanout_leave(fanout, follower);
	else
		change_set(fanout, follower, set);
	return 0;
}

size_t fanout_count_patterns(struct fanout *fanout, const struct follower *follower,
                             struct slice words)
{
	return interest_count_with(fanout->interest, follower->set, words);
}

void fanout_start(struct fanout *fanout, struct follower *follower)
{
	assert(follower->state == FOLLOWER_IDLE && follower->set != NULL);
	crowd_become_behind(fanout, follower);
}

void fanout_set_end(struct fanout *fanout, struct follower *follower, uint64_t end)
{
	assert(follower->state != FOLLOWER_IDLE);
	enum follower_state state = follower->state;
	crowd_detach(fanout, follower);
	follower->end = end;
	if (state == FOLLOWER_BLOCKED)
		crowd_become_blocked(fanout, follower);
	else
		crowd_become_behind(fanout, follower);
}

void fanout_resume(struct fanout *fanout, struct follower *follower)
{
	if (follower->state == FOLLOWER_BLOCKED)
		crowd_become_behind(fanout, follower);
}

void fanout_leave(struct fanout *fanout, struct follower *follower)
{
	crowd_detach(fanout, follower);
	if (follower->set != NULL)
		interest_release(fanout->interest, follower->set);
	follower->set = NULL;
}

enum rest_verdict fanout_find_rest(struct fanout *fanout, uint64_t id, uint32_t from,
                                   struct rest *rest)
{
	switch (log_block(fanout->log, id, id, &rest->block)) {
	case BLOCK_HERE:
		break;
	case BLOCK_COLD:
		log_want(fanout->log, &rest->block);
		return REST_COLD;
	case BLOCK_DROPPED:
	case BLOCK_GAP:
	case BLOCK_END:
		return REST_GONE;
	}
	const struct entry *entry = block_entry(&rest->block, 0);
	rest->bytes = (struct iovec){.iov_base = block_frame(&rest->block, 0) + from,
	                             .iov_len = entry->size - from};
	return block_is_damaged(&rest->block) ? REST_GONE : REST_HERE;
}

struct fanout *fanout_new(struct log *log, struct epoch_thread *epoch, struct counters *counters,
                          const struct fanout_calls *calls)
{
	struct fanout *fanout = calloc(1, sizeof *fanout);
	if (fanout == NULL)
		return NULL;
	*fanout = (struct fanout){.log = log, .epoch = epoch, .counters = counters, .calls = calls};
	fanout->interest = interest_new(log_hash_key(log));
	fanout->recall = recall_new();
	if (fanout->interest == NULL || fanout->recall == NULL) {
		interest_free(fanout->interest);
		recall_free(fanout->recall);
		free(fanout);
		return NULL;
	}
	TAILQ_INIT(&fanout->behind);
	TAILQ_INIT(&fanout->blocked);
	TAILQ_INIT(&fanout->cold);
	fanout->warmed = log_warmed(log);
	TAILQ_INIT(&fanout->due);
	return fanout;
}

void fanout_free(struct fanout *fanout)
{
	if (fanout == NULL)
		return;
	assert(fanout->live == 0 && TAILQ_EMPTY(&fanout->behind));
	assert(TAILQ_EMPTY(&fanout->blocked) && TAILQ_EMPTY(&fanout->cold));
	interest_free(fanout->interest);
	recall_free(fanout->recall);
	free(fanout);
}
