/* SPDX-License-Identifier: MIT */
#include "net/fanout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "net/recall.h"
#include "net/runs.h"

enum {
	SLICE_US = 1000,       /* of work between two turns of the loop; bounds epoch sections */
	QUESTION_US = 1000,    /* more, to find out who gets what: the longer, the larger writes */
	LONG_WRITE = 64 << 10, /* bytes; a look at the clock after each such write */
	WRITES_PER_LOOK = 16,  /* writes between two looks at the clock */
	BUDGET_BYTES = 512 << 10, /* for one follower that is behind, a turn */
	BUDGET_BLOCKS = 32,       /* likewise; so it counts entries looked at */
	SEEK_ENTRIES = 512,       /* LAST looks at so many at once: what it wants is mostly near */
};

struct fanout {
	struct log *log;
	struct epoch_thread *epoch;
	struct counters *counters;
	const struct fanout_calls *calls;
	struct interest *interest;

	uint64_t walked; /* live followers have, or will have after the pass, all up to here */
	size_t live;     /* followers in that state */
	struct follower_list behind, blocked;
	size_t behind_count;
	size_t round_left; /* of those that are behind: had no turn yet in this round */
	uint64_t head;     /* at the last step */
	uint64_t goal;     /* of the round: the head when it began */
	/* What the last pass cost and brought, for is_gathering(). */
	uint64_t pass_began_us, pass_us;
	uint64_t pass_writes, pass_bytes;
	size_t lagging;          /* on those two lists, of those that follow for ever */
	uint64_t lowest_next_us; /* when the lowest position is to be computed again */

	/* The pass: the block that begins behind pass_from and ends at `walked`. */
	uint64_t pass_from;
	struct interest_due_list due;

	struct recall *recall;
	struct run_list run; /* of the set being written */
};

/* ---- states ---- */

/* A set whose last due follower has gone has nothing to do in this pass any more. */
static void forget_due_set(struct fanout *fanout, struct interest_set *set)
{
	if (!set->is_due || !TAILQ_EMPTY(&set->sides[!set->live_side]))
		return;
	TAILQ_REMOVE(&fanout->due, set, due);
	set->is_due = false;
}

/* Takes the follower off its list, its position made its own. */
static void detach(struct fanout *fanout, struct follower *follower)
{
	follower->position = fanout_position(fanout, follower);
	switch (follower->state) {
	case FOLLOWER_IDLE:
		return;
	case FOLLOWER_LIVE:
		TAILQ_REMOVE(&follower->set->sides[follower->side], follower, link);
		fanout->live--;
		forget_due_set(fanout, follower->set);
		break;
	case FOLLOWER_BEHIND:
		TAILQ_REMOVE(&fanout->behind, follower, link);
		fanout->behind_count--;
		break;
	case FOLLOWER_BLOCKED:
		TAILQ_REMOVE(&fanout->blocked, follower, link);
		break;
	}
	fanout->lagging -= follower->is_lagging;
	follower->is_lagging = false;
	follower->state = FOLLOWER_IDLE;
}

static void become_live(struct fanout *fanout, struct follower *follower)
{
	/* A pass sends whole runs: whoever wants less stays behind. */
	assert(follower->end == FOLLOW_FOREVER && follower->limit == FOLLOW_FOREVER);
	detach(fanout, follower);
	follower->side = follower->set->live_side;
	TAILQ_INSERT_TAIL(&follower->set->sides[follower->side], follower, link);
	follower->state = FOLLOWER_LIVE;
	fanout->live++;
}

/* It lags from here on; the lowest position is then right until the gauges are computed again. */
static void count_lagging(struct fanout *fanout, struct follower *follower)
{
	uint64_t *lowest = &fanout->counters->lowest_position;

	follower->is_lagging = follower->end == FOLLOW_FOREVER;
	fanout->lagging += follower->is_lagging;
	/* Relaxed: a statistic. */
	if (follower->is_lagging && follower->position < atomic64_load_relaxed(lowest))
		atomic64_store_relaxed(lowest, follower->position);
}

static void become_behind(struct fanout *fanout, struct follower *follower)
{
	detach(fanout, follower);
	TAILQ_INSERT_TAIL(&fanout->behind, follower, link);
	fanout->behind_count++;
	follower->state = FOLLOWER_BEHIND;
	count_lagging(fanout, follower);
}

static void become_blocked(struct fanout *fanout, struct follower *follower)
{
	detach(fanout, follower);
	TAILQ_INSERT_TAIL(&fanout->blocked, follower, link);
	follower->state = FOLLOWER_BLOCKED;
	count_lagging(fanout, follower);
}

uint64_t fanout_position(const struct fanout *fanout, const struct follower *follower)
{
	if (follower->state != FOLLOWER_LIVE)
		return follower->position;
	return follower->side == follower->set->live_side ? fanout->walked : fanout->pass_from;
}

/* ---- writing ---- */

/* The first message not wholly sent, or the rest of it, is next. Negative: it can't be kept. */
static int stop_at(struct fanout *fanout, struct follower *follower, const struct border *border,
                   const struct block *block)
{
	uint64_t id = block->first + border->entry;

	follower->position = border->sent == 0 ? id - 1 : id;
	if (border->sent == 0)
		return 0;
	uint32_t rest = (uint32_t)border->rest.iov_len;
	return fanout->calls->owe(follower, id, block_entry(block, border->entry)->size - rest,
	                          border->rest.iov_base, rest);
}

static void note_delivery(struct fanout *fanout, struct follower *follower, uint32_t messages,
                          size_t bytes)
{
	atomic64_count(&fanout->counters->delivered_total, messages);
	atomic64_count(&fanout->counters->delivered_bytes_total, bytes);
	if (messages > 0)
		follower->is_quiet = false;
	if (follower->limit != FOLLOW_FOREVER)
		follower->limit -= messages;
}

/*
 * Writes the run list, which is that of the selection, to one follower. True when all of it went;
 * else the follower has become BLOCKED at its own position, or is lost.
 */
static bool deliver(struct fanout *fanout, struct follower *follower,
                    const struct selection *selection)
{
	const struct run_list *run = &fanout->run;
	ssize_t sent = fanout->calls->write(follower, run->iov, run->count, run->bytes);

	if (sent == (ssize_t)run->bytes) {
		note_delivery(fanout, follower, run->messages, run->bytes);
		return true;
	}
	struct border border = {.entry = 0};
	int error = (int)sent;
	become_blocked(fanout, follower);
	if (sent >= 0) {
		border = run_list_border(run, selection, (size_t)sent);
		error = stop_at(fanout, follower, &border, selection->block);
	}
	if (error < 0) {
		detach(fanout, follower);
		fanout->calls->lost(follower);
		return false;
	}
	/* What is owed counts as delivered: it is sent, or the connection ends. */
	bool owes = border.sent > 0;
	note_delivery(fanout, follower, border.messages + owes,
	              (size_t)sent + (owes ? border.rest.iov_len : 0));
	return false;
}

/* ---- the pass: live followers ---- */

/* Retention has taken the block of the pass: whoever is still due finds out by itself. */
static void abandon_pass(struct fanout *fanout)
{
	struct interest_set *set;
	while ((set = TAILQ_FIRST(&fanout->due)) != NULL) {
		struct follower_list *list = &set->sides[!set->live_side];
		while (set->is_due && !TAILQ_EMPTY(list))
			become_behind(fanout, TAILQ_FIRST(list));
		forget_due_set(fanout, set);
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
	/* Sections end between slices: the block has to be found again. */
	if (log_block(fanout->log, fanout->pass_from + 1, fanout->walked, &block) != BLOCK_HERE) {
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
			if (deliver(fanout, follower, &selection)) {
				TAILQ_REMOVE(list, follower, link);
				follower->side = set->live_side;
				TAILQ_INSERT_TAIL(&set->sides[set->live_side], follower, link);
			}
			fanout->pass_writes++;
			fanout->pass_bytes += fanout->run.bytes;
			if (is_slice_over(fanout, end_us, &writes)) {
				forget_due_set(fanout, set);
				return TAILQ_EMPTY(&fanout->due);
			}
		}
		forget_due_set(fanout, set);
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
		interest_match_none(fanout->interest, &fanout->due);
		turn_due_sets(fanout);
		fanout->pass_from = fanout->walked;
		fanout->walked = log_first(fanout->log) - 1;
		abandon_pass(fanout);
		return true;
	case BLOCK_COLD:
		return false;
	case BLOCK_GAP:
		/* As above, but for all of them the same: each says it when it comes to it. */
		interest_match_none(fanout->interest, &fanout->due);
		turn_due_sets(fanout);
		fanout->pass_from = fanout->walked;
		fanout->walked = block.last;
		abandon_pass(fanout);
		return true;
	case BLOCK_HERE:
		break;
	}
	uint32_t looked =
		interest_match_all(fanout->interest, &block, end_us + QUESTION_US, &fanout->due);
	turn_due_sets(fanout);
	fanout->pass_from = fanout->walked;
	fanout->walked = block.first + looked - 1;
	fanout->pass_began_us = end_us - SLICE_US;
	fanout->pass_writes = fanout->pass_bytes = 0;
	return true;
}

/* ---- those that are behind ---- */

static void arrive(struct fanout *fanout, struct follower *follower)
{
	detach(fanout, follower);
	fanout->calls->arrived(follower);
}

/* Ids up to `to` are not to be had. False: that could not be told and the follower is lost. */
static bool skip(struct fanout *fanout, struct follower *follower, uint64_t to,
                 enum gap_reason reason)
{
	uint64_t from = follower->position + 1;

	if (to > follower->end)
		to = follower->end;
	follower->position = to;
	if (follower->is_quiet && reason == GAP_RETENTION)
		return true;
	atomic64_count(&fanout->counters->gaps_total, 1);
	atomic64_count(&fanout->counters->gap_messages_total, to - from + 1);
	if (fanout->calls->gap(follower, from, to, reason) == 0)
		return true;
	detach(fanout, follower);
	fanout->calls->lost(follower);
	return false;
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

static void shorten_front(struct block *block, uint32_t count)
{
	if (block->count <= count)
		return;
	block->first += block->count - count;
	block->index += block->count - count;
	block->count = count;
}

/* From the beginning of its place in the segment on, whoever begins where in it. */
static void widen_block(struct block *block)
{
	uint32_t before = block->index % BLOCK_ENTRIES;

	block->first -= before;
	block->index -= before;
	block->count += before;
}

/* LAST: one block further back. */
static void seek_back(struct fanout *fanout, struct follower *follower)
{
	struct block block;
	struct bits bits;

	enum block_verdict verdict = log_block_back(fanout->log, follower->position, &block);
	if (verdict == BLOCK_GAP) {
		follower->position = block.first - 1;
	} else if (verdict != BLOCK_HERE) {
		/* Nothing older is kept: that is where to begin. */
		uint64_t first = log_first(fanout->log);
		if (follower->position + 1 < first)
			follower->position = first - 1;
		follower->seek = 0;
	} else if (!interest_may_match_segment(follower->set, &block)) {
		follower->position = block_segment_first(&block) - 1;
	} else {
		uint32_t most = interest_question_size(follower->set);
		shorten_front(&block, most < SEEK_ENTRIES ? most : SEEK_ENTRIES);
		(void)interest_match_range(follower->set, &block, 0, block.count, &bits);
		for (uint32_t i = block.count; i-- > 0 && follower->seek > 0;)
			if (bits_test(&bits, i) && --follower->seek == 0)
				block.first += i; /* the message to begin with */
		follower->position = block.first - 1;
	}
	if (follower->seek > 0)
		return;
	become_blocked(fanout, follower);
	fanout->calls->found(follower);
}

/*
 * Sends what matches of the block from the follower's position on, as much as is worth a write. False
 * when the follower can't go on now.
 */
static bool send_block(struct fanout *fanout, struct follower *follower, const struct block *block)
{
	uint32_t from = (uint32_t)(follower->position + 1 - block->first);
	struct selection selection = {
		.block = block, .from = from, .is_bare = follower->set->is_bare};

	selection.to = recall_ask(fanout->recall, follower->set, block, from, &selection.bits);
	run_list_build(&fanout->run, &selection, QUESTION_BYTES, follower->limit);
	if (fanout->run.count > 0 && !deliver(fanout, follower, &selection))
		return false;
	follower->position = block->first + fanout->run.end - 1;
	return true;
}

/*
 * Lets a follower that is BEHIND go on for its budget. Those that follow for ever wait for the walk
 * once they have passed it, unless `beyond_walk`.
 */
static void catch_up(struct fanout *fanout, struct follower *follower, uint64_t head,
                     bool beyond_walk)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;
	size_t bytes = 0;

	for (unsigned blocks = 0; blocks < BUDGET_BLOCKS && bytes < BUDGET_BYTES; blocks++) {
		if (blocks > 0 && clock_mono_us() >= end_us)
			return;
		uint64_t upto =
			follower->end == FOLLOW_FOREVER && !beyond_walk ? fanout->walked : head;
		struct block block;

		if (follower->seek > 0) {
			seek_back(fanout, follower);
			if (follower->state != FOLLOWER_BEHIND)
				return;
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
				become_live(fanout, follower);
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
			return;
		case BLOCK_HERE:
			if (!interest_may_match_segment(follower->set, &block)) {
				uint64_t last = block_segment_last(&block);
				follower->position = last < upto ? last : upto;
				break;
			}
			widen_block(&block);
			if (!send_block(fanout, follower, &block))
				return;
			bytes += fanout->run.bytes;
			break;
		}
	}
}

/* A slice of work for those that are behind, in turn. */
static void catch_up_all(struct fanout *fanout, uint64_t head)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;
	struct follower *last = TAILQ_LAST(&fanout->behind, follower_list);
	struct follower *follower = NULL;

	while (last != NULL && follower != last &&
	       (follower = TAILQ_FIRST(&fanout->behind)) != NULL) {
		fanout->round_left -= fanout->round_left > 0;
		catch_up(fanout, follower, head, false);
		if (follower->state == FOLLOWER_BEHIND) {
			TAILQ_REMOVE(&fanout->behind, follower, link);
			TAILQ_INSERT_TAIL(&fanout->behind, follower, link);
		}
		if (clock_mono_us() >= end_us)
			return;
	}
}

/* ---- a turn ---- */

enum { GAUGES_US = 100 * 1000 };

/* The gauges; the lowest position costs a look at all that lag, so not at every turn. */
static void publish_gauges(struct fanout *fanout, uint64_t now_us)
{
	struct follower_list *lists[] = {&fanout->behind, &fanout->blocked};
	struct follower *follower;
	uint64_t lowest = FOLLOW_FOREVER;

	/* Relaxed: statistics. */
	atomic64_store_relaxed(&fanout->counters->lagging_subscribers, fanout->lagging);
	if (now_us < fanout->lowest_next_us && fanout->lagging > 0)
		return;
	fanout->lowest_next_us = now_us + GAUGES_US;
	for (size_t i = 0; i < 2 && fanout->lagging > 0; i++)
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
		catch_up_all(fanout, log_head(fanout->log));
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
		become_behind(fanout, follower);
	if (follower->state == FOLLOWER_BEHIND)
		catch_up(fanout, follower, head, true);
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
	return fanout->live > 0;
}

/* ---- what the owner asks for ---- */

static void change_set(struct fanout *fanout, struct follower *follower, struct interest_set *set)
{
	bool is_followed = follower->state == FOLLOWER_LIVE;
	if (is_followed) /* on the old set's list */
		become_behind(fanout, follower);
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
	become_behind(fanout, follower);
}

void fanout_set_end(struct fanout *fanout, struct follower *follower, uint64_t end)
{
	assert(follower->state != FOLLOWER_IDLE);
	enum follower_state state = follower->state;
	detach(fanout, follower);
	follower->end = end;
	if (state == FOLLOWER_BLOCKED)
		become_blocked(fanout, follower);
	else
		become_behind(fanout, follower);
}

void fanout_resume(struct fanout *fanout, struct follower *follower)
{
	if (follower->state == FOLLOWER_BLOCKED)
		become_behind(fanout, follower);
}

void fanout_leave(struct fanout *fanout, struct follower *follower)
{
	detach(fanout, follower);
	if (follower->set != NULL)
		interest_release(fanout->interest, follower->set);
	follower->set = NULL;
}

bool fanout_find_rest(struct fanout *fanout, uint64_t id, uint32_t from, struct iovec *rest)
{
	struct block block;
	if (log_block(fanout->log, id, id, &block) != BLOCK_HERE)
		return false;
	const struct entry *entry = block_entry(&block, 0);
	*rest = (struct iovec){.iov_base = block_frame(&block, 0) + from,
	                       .iov_len = entry->size - from};
	return true;
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
	TAILQ_INIT(&fanout->due);
	return fanout;
}

void fanout_free(struct fanout *fanout)
{
	if (fanout == NULL)
		return;
	assert(fanout->live == 0 && TAILQ_EMPTY(&fanout->behind) && TAILQ_EMPTY(&fanout->blocked));
	interest_free(fanout->interest);
	recall_free(fanout->recall);
	free(fanout);
}
