/* SPDX-License-Identifier: MIT */
/*
 * chase: the followers that are behind: each goes on at its own position, a bounded piece a turn.
 */
#include "base/clock.h"
#include "net/crowd.h"

enum {
	BUDGET_BYTES = 512 << 10, /* for one follower that is behind, a turn */
	BUDGET_BLOCKS = 32,       /* likewise; so it counts entries looked at */
	SEEK_ENTRIES = 512,       /* LAST looks at so many at once: what it wants is mostly near */
};

static void arrive(struct fanout *fanout, struct follower *follower)
{
	crowd_detach(fanout, follower);
	fanout->calls->arrived(follower);
}

/* ---- what can't be had ---- */

/* Ids up to `to` are not to be had. False: the follower can't go on now. */
static bool skip(struct fanout *fanout, struct follower *follower, uint64_t to,
                 enum gap_reason reason)
{
	uint64_t from = follower->position + 1;

	if (to > follower->end)
		to = follower->end;
	follower->position = to;
	if (reason == GAP_RETENTION && from <= follower->quiet_to)
		from = follower->quiet_to + 1;
	if (from > to)
		return true;
	atomic64_count(&fanout->counters->gaps_total, 1);
	atomic64_count(&fanout->counters->gap_messages_total, to - from + 1);
	int said = fanout->calls->gap(follower, from, to, reason);
	if (said < 0)
		crowd_lose(fanout, follower);
	if (said > 0)
		crowd_become_blocked(fanout, follower);
	return said == 0;
}

/* How the protocol calls what the log says. */
static enum gap_reason reason_of(enum loss loss)
{
	switch (loss) {
	case LOSS_NONE:
	case LOSS_VOID:
		break;
	case LOSS_LOST:
		return GAP_LOST;
	case LOSS_DAMAGED:
		return GAP_DAMAGED;
	}
	return GAP_VOID;
}

/* ---- LAST ---- */

static void shorten_front(struct block *block, uint32_t count)
{
	if (block->count <= count)
		return;
	block->first += block->count - count;
	block->index += block->count - count;
	block->count = count;
}

/* Looks for matches in a block that ends at the position, from its end on. */
static void seek_in(struct follower *follower, struct block *block)
{
	uint32_t most = interest_question_size(follower->set);
	struct bits bits;

	shorten_front(block, most < SEEK_ENTRIES ? most : SEEK_ENTRIES);
	(void)interest_match_range(follower->set, block, 0, block->count, &bits);
	if (block_is_damaged(block)) /* it was not the block that was looked at */
		return;
	for (uint32_t i = block->count; i-- > 0 && follower->seek > 0;)
		if (bits_test(&bits, i) && --follower->seek == 0)
			block->first += i; /* the message to begin with */
	follower->position = block->first - 1;
}

/* One block further back. */
static void seek_back(struct fanout *fanout, struct follower *follower)
{
	struct block block;

	switch (log_block_back(fanout->log, follower->position, &block)) {
	case BLOCK_GAP:
		follower->position = block.first - 1;
		break;
	case BLOCK_COLD:
	case BLOCK_HERE:
		if (!interest_may_match_segment(follower->set, &block)) {
			follower->position = block_segment_first(&block) - 1;
		} else if (block.map == NULL) {
			crowd_become_cold(fanout, follower, &block);
			return;
		} else {
			seek_in(follower, &block);
		}
		break;
	case BLOCK_DROPPED:
	case BLOCK_END:
		/* Nothing older is kept: that is where to begin. */
		follower->seek = 0;
		if (follower->position + 1 < log_first(fanout->log))
			follower->position = log_first(fanout->log) - 1;
		break;
	}
	if (follower->seek > 0)
		return;
	crowd_become_blocked(fanout, follower);
	fanout->calls->found(follower);
}

/* ---- sending ---- */

/* From the beginning of its place in the segment on, whoever begins where in it. */
static void widen_block(struct block *block)
{
	uint32_t before = block->index % BLOCK_ENTRIES;

	block->first -= before;
	block->index -= before;
	block->count += before;
}

/* The segment behind the block's is asked for while this one is sent. */
static void want_next(struct fanout *fanout, const struct follower *follower,
                      const struct block *block, uint64_t upto)
{
	struct block next;

	if (block->segment->is_durable &&
	    log_block(fanout->log, block_segment_last(block) + 1, upto, &next) == BLOCK_COLD &&
	    interest_may_match_segment(follower->set, &next))
		log_want(fanout->log, &next);
}

/*
 * Sends what matches of the block from the follower's position on, as much as is worth a write.
 * False when the follower can't go on now.
 */
static bool send_block(struct fanout *fanout, struct follower *follower, const struct block *block)
{
	uint32_t from = (uint32_t)(follower->position + 1 - block->first);
	struct selection selection = {
		.block = block, .from = from, .is_bare = follower->set->is_bare};

	selection.to = recall_ask(fanout->recall, follower->set, block, from, &selection.bits);
	run_list_build(&fanout->run, &selection, QUESTION_BYTES, follower->limit);
	if (fanout->run.count > 0 && !crowd_deliver(fanout, follower, &selection))
		return false;
	/* Behind all reading: nothing matches where only zeros are left. */
	if (!block_is_damaged(block))
		follower->position = block->first + fanout->run.end - 1;
	return true;
}

/* A block that is there, or could be: bytes sent of it. The state says whether to go on. */
static size_t advance(struct fanout *fanout, struct follower *follower, struct block *block,
                      uint64_t upto)
{
	if (!interest_may_match_segment(follower->set, block)) {
		uint64_t last = block_segment_last(block);
		follower->position = last < upto ? last : upto;
		return 0;
	}
	if (block->map == NULL) {
		crowd_become_cold(fanout, follower, block);
		return 0;
	}
	want_next(fanout, follower, block, upto);
	widen_block(block);
	return send_block(fanout, follower, block) ? fanout->run.bytes : BUDGET_BYTES;
}

void chase_one(struct fanout *fanout, struct follower *follower, uint64_t head, bool beyond_walk)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;
	size_t bytes = 0;

	for (unsigned blocks = 0; blocks < BUDGET_BLOCKS && bytes < BUDGET_BYTES; blocks++) {
		uint64_t upto =
			follower->end == FOLLOW_FOREVER && !beyond_walk ? fanout->walked : head;
		struct block block;

		if (follower->state != FOLLOWER_BEHIND || (blocks > 0 && clock_mono_us() >= end_us))
			return;
		if (follower->seek > 0) {
			seek_back(fanout, follower);
			continue;
		}
		if (follower->limit == 0 || follower->position >= follower->end) {
			arrive(fanout, follower);
			return;
		}
		if (upto > follower->end)
			upto = follower->end;
		switch (log_block(fanout->log, follower->position + 1, upto, &block)) {
		case BLOCK_END:
			if (follower->end == FOLLOW_FOREVER && follower->position == fanout->walked)
				crowd_become_live(fanout, follower);
			return;
		case BLOCK_DROPPED:
			if (!skip(fanout, follower, log_first(fanout->log) - 1, GAP_RETENTION))
				return;
			break;
		case BLOCK_GAP:
			if (!skip(fanout, follower, block.last, reason_of(block.loss)))
				return;
			break;
		case BLOCK_COLD:
		case BLOCK_HERE:
			bytes += advance(fanout, follower, &block, upto);
			break;
		}
	}
}

void chase_all(struct fanout *fanout, uint64_t head)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;
	struct follower *last = TAILQ_LAST(&fanout->behind, follower_list);
	struct follower *follower = NULL;

	while (last != NULL && follower != last &&
	       (follower = TAILQ_FIRST(&fanout->behind)) != NULL) {
		fanout->round_left -= fanout->round_left > 0;
		chase_one(fanout, follower, head, false);
		if (follower->state == FOLLOWER_BEHIND) {
			TAILQ_REMOVE(&fanout->behind, follower, link);
			TAILQ_INSERT_TAIL(&fanout->behind, follower, link);
		}
		if (clock_mono_us() >= end_us)
			return;
	}
}
