/* SPDX-License-Identifier: MIT */
#include "net/fanout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "log/frame.h"

enum {
	SLICE_US = 1000,          /* of work between two turns of the loop; bounds epoch sections */
	LONG_WRITE = 64 << 10,    /* bytes; a look at the clock after each such write */
	WRITES_PER_LOOK = 16,     /* writes between two looks at the clock */
	BUDGET_BYTES = 512 << 10, /* for one follower that is behind, a turn */
	BUDGET_BLOCKS = 32,       /* likewise; so it counts entries looked at */
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
	size_t lagging;          /* on those two lists, of those that follow for ever */
	uint64_t lowest_next_us; /* when the lowest position is to be computed again */

	/* The pass: the block that begins behind pass_from and ends at `walked`. */
	uint64_t pass_from;
	struct interest_due_list due;

	/* The run list of the set being written. */
	struct iovec iov[BLOCK_ENTRIES];
	struct run {
		int count;
		uint32_t messages;
		size_t bytes;
	} run;
};

/* ---- run lists ---- */

/* The bytes of entry i that its set's format sends. */
static struct iovec entry_bytes(const struct block *block, uint32_t i, bool is_bare)
{
	const struct entry *entry = block_entry(block, i);
	uint32_t skip = 0;
	if (is_bare) {
		uint64_t id = block->first + i;
		uint32_t topic = entry_topic_size(entry);
		skip = frame_payload_offset(id, topic, frame_payload_size(id, topic, entry->size));
	}
	return (struct iovec){.iov_base = block_frame(block, i) + skip,
	                      .iov_len = entry->size - skip};
}

/* Neighbouring messages are neighbouring bytes: each run of set bits is one iovec. */
static void build_run(struct fanout *fanout, const struct block *block, const struct bits *bits,
                      bool is_bare)
{
	struct run *run = &fanout->run;
	*run = (struct run){.messages = bits_count(bits)};

	for (uint32_t i = bits_find(bits, true, 0, block->count); i < block->count;) {
		uint32_t end = is_bare ? i + 1 : bits_find(bits, false, i, block->count);
		struct iovec first = entry_bytes(block, i, is_bare);
		struct iovec last = entry_bytes(block, end - 1, is_bare);
		const char *bytes_end = (const char *)last.iov_base + last.iov_len;
		first.iov_len = (size_t)(bytes_end - (const char *)first.iov_base);
		fanout->iov[run->count++] = first;
		run->bytes += first.iov_len;
		i = bits_find(bits, true, end, block->count);
	}
}

/*
 * Where a write of `sent` bytes of the run list ended: sets the follower's position to the message
 * border before the first message not wholly sent, or past it when the rest of it is owed. Returns
 * how many messages have been begun, negative when the rest can't be kept.
 */
static int settle_short_write(struct fanout *fanout, struct follower *follower,
                              const struct block *block, const struct bits *bits, size_t sent)
{
	int begun = 0;
	for (uint32_t i = bits_find(bits, true, 0, block->count); i < block->count;
	     i = bits_find(bits, true, i + 1, block->count)) {
		struct iovec bytes = entry_bytes(block, i, follower->set->is_bare);
		uint64_t id = block->first + i;
		if (sent >= bytes.iov_len) {
			sent -= bytes.iov_len;
			begun++;
			continue;
		}
		follower->position = id - 1;
		if (sent == 0)
			return begun;
		follower->position = id;
		uint32_t rest = (uint32_t)(bytes.iov_len - sent);
		int error = fanout->calls->owe(follower, id, block_entry(block, i)->size - rest,
		                               (const char *)bytes.iov_base + sent, rest);
		return error < 0 ? error : begun + 1;
	}
	assert(sent == 0);
	return begun;
}

static void count_delivery(struct fanout *fanout, uint32_t messages, size_t bytes)
{
	atomic64_count(&fanout->counters->delivered_total, messages);
	atomic64_count(&fanout->counters->delivered_bytes_total, bytes);
}

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

/*
 * Writes the run list of (block, bits) to one follower. True when all of it went; else the follower
 * has become BLOCKED at its own position, or is lost.
 */
static bool deliver(struct fanout *fanout, struct follower *follower, const struct block *block,
                    const struct bits *bits)
{
	const struct run *run = &fanout->run;
	ssize_t sent = fanout->calls->write(follower, fanout->iov, run->count, run->bytes);
	int begun = 0;

	if (sent == (ssize_t)run->bytes) {
		count_delivery(fanout, run->messages, run->bytes);
		follower->is_quiet = false;
		if (follower->limit != FOLLOW_FOREVER)
			follower->limit -= run->messages;
		return true;
	}
	become_blocked(fanout, follower);
	if (sent >= 0)
		begun = settle_short_write(fanout, follower, block, bits, (size_t)sent);
	if (sent < 0 || begun < 0) {
		detach(fanout, follower);
		fanout->calls->lost(follower);
		return false;
	}
	if (begun > 0)
		follower->is_quiet = false;
	if (follower->limit != FOLLOW_FOREVER)
		follower->limit -= (uint64_t)begun;
	count_delivery(fanout, (uint32_t)begun, (size_t)sent);
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
		build_run(fanout, &block, &set->bits, set->is_bare);
		while (!TAILQ_EMPTY(list)) {
			struct follower *follower = TAILQ_FIRST(list);
			if (deliver(fanout, follower, &block, &set->bits)) {
				TAILQ_REMOVE(list, follower, link);
				follower->side = set->live_side;
				TAILQ_INSERT_TAIL(&set->sides[set->live_side], follower, link);
			}
			if (is_slice_over(fanout, end_us, &writes)) {
				forget_due_set(fanout, set);
				return TAILQ_EMPTY(&fanout->due);
			}
		}
		forget_due_set(fanout, set);
	}
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
	uint32_t looked = interest_match_all(fanout->interest, &block, end_us, &fanout->due);
	turn_due_sets(fanout);
	fanout->pass_from = fanout->walked;
	fanout->walked = block.first + looked - 1;
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
		shorten_front(&block, interest_question_size(follower->set));
		interest_match_set(follower->set, &block, &bits);
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

/* Keeps the first `limit` bits. */
static void bits_limit(struct bits *bits, uint32_t n, uint64_t limit)
{
	for (uint32_t i = bits_find(bits, true, 0, n); i < n; i = bits_find(bits, true, i + 1, n)) {
		if (limit == 0)
			bits->word[i / 64] &= ~(1ULL << (i % 64));
		else
			limit--;
	}
}

/* Sends what matches of one block. False when the follower can't go on now. */
static bool send_block(struct fanout *fanout, struct follower *follower, const struct block *block)
{
	struct bits bits;

	interest_match_set(follower->set, block, &bits);
	if (follower->limit < BLOCK_ENTRIES)
		bits_limit(&bits, block->count, follower->limit);
	build_run(fanout, block, &bits, follower->set->is_bare);
	if (fanout->run.count > 0 && !deliver(fanout, follower, block, &bits))
		return false;
	uint32_t reached = block->count;
	if (follower->limit == 0) /* the last that it wanted is where it stands */
		while (reached > 1 && !bits_test(&bits, reached - 1))
			reached--;
	follower->position = block->first + reached - 1;
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
			if (block.count > interest_question_size(follower->set))
				block.count = interest_question_size(follower->set);
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

bool fanout_step(struct fanout *fanout)
{
	uint64_t end_us = clock_mono_us() + SLICE_US;
	bool is_busy = false;

	epoch_enter(fanout->epoch);
	uint64_t head = log_head(fanout->log);
	while (pass(fanout, end_us) && begin_pass(fanout, head, end_us)) {
		if (clock_mono_us() >= end_us) {
			is_busy = true;
			break;
		}
	}
	is_busy = is_busy || !TAILQ_EMPTY(&fanout->due);
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
	if (fanout->interest == NULL) {
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
	free(fanout);
}
