/* SPDX-License-Identifier: MIT */
/*
 * The orders of the log, one row for each tag at a declaration or an access:
 *
 * [O1] entry.commit: the commit (release) publishes frame and entry to readers (acquire). Without
 *      it a reader sends bytes that are not there yet.
 * [O2] segment.base: set (release) before the tail moves; read (acquire) by whoever computes ids.
 *      Without it an appender could hand out ids that count from a former base.
 * [O3] segment.next: the keeper publishes (release) a segment reset for its new life; log_roll reads
 *      it (acquire). Without it appends would land in a segment still marked sealed or used.
 * [O4] segment.state: each claim is ordered behind the one before (cas, acquire and release), so that
 *      their times are; readers (acquire) trust an index slot only below the entries counted here.
 * [O5] log.directory: the keeper publishes (release) a complete array; readers acquire it.
 * [O6] sleeper.parked and the eventcount: Dekker, full fences on both sides (wake.c).
 * [O7] log.head: raised (cas, release) by whoever has seen (acquire, O1) everything up to it committed;
 *      who reads it (acquire) may read all that without looking at commit words again.
 * [O8] the wall clock's offset (clock.c): release and acquire.
 * [O9] log.tail: moved (cas, release) when the new tail's base stands; appends acquire it.
 * [O10] hub.phase: the server publishes (release) the phase with drain_head; workers acquire it.
 * [O11] handoff.put_count: an item stands in its slot (release) before the worker takes it (acquire).
 * [O12] handoff.taken_count: an item has been read (release) before its slot is used again (acquire).
 * [O13] segment.has_filter: the keeper has filled the filter in (release); readers ask it (acquire).
 */
#include "log/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "log/chain.h"
#include "log/frame.h"

static int draw_random(void *at, size_t n)
{
	return getrandom(at, n, 0) == (ssize_t)n ? 0 : -1;
}

struct log *log_open(const struct log_options *options, struct wake *wake)
{
	struct log *log = aligned_alloc(CACHE_LINE, sizeof *log);
	if (log == NULL)
		return NULL;
	memset(log, 0, sizeof *log);
	log->segment_size = options->segment_size;
	log->wake = wake;
	epoch_init(&log->epoch);
	clock_open(0);
	if (draw_random(&log->identity, sizeof log->identity) != 0 ||
	    draw_random(&log->hash_key, sizeof log->hash_key) != 0)
		goto fail;
	log->keeper = keeper_start(log, options);
	if (log->keeper == NULL)
		goto fail;
	return log;
fail:
	free(log);
	return NULL;
}

void log_close(struct log *log)
{
	if (log == NULL)
		return;
	keeper_stop(log->keeper);
	free(log);
}

void log_set_retention(struct log *log, const struct log_options *options)
{
	keeper_set_retention(log->keeper, options);
}

uint32_t log_identity(const struct log *log)
{
	return log->identity;
}

uint64_t log_hash_key(const struct log *log)
{
	return log->hash_key;
}

struct epoch *log_epoch(struct log *log)
{
	return &log->epoch;
}

struct segment *log_roll(struct log *log, struct segment *sealed)
{
	struct segment *next = atomic_load_pointer_acquire(&sealed->next); /* [O3] */
	if (next == NULL)
		return NULL;
	uint64_t state = atomic64_load_acquire(&sealed->state); /* [O4] */
	assert(state_is_sealed(state));
	uint64_t base = atomic64_load_acquire(&sealed->base) /* [O2] */ + state_entries(state);
	/* Every helper stores the same value; a late one finds it there. [O2] */
	if (atomic64_load_acquire(&next->base) != base)
		atomic64_store_release(&next->base, base);
	if (atomic_cas_pointer(&log->tail, sealed, next)) /* [O9] */
		keeper_kick(log->keeper);
	return atomic_load_pointer_acquire(&log->tail); /* [O9] */
}

enum log_verdict log_append(struct log *log, struct message *messages, size_t n, size_t *appended)
{
	struct segment *tail = atomic_load_pointer_acquire(&log->tail); /* [O9] */
	size_t done = 0;

	while (done < n) {
		struct claim claim;
		switch (segment_claim(tail, messages + done, n - done, &claim)) {
		case CLAIM_DONE:
			segment_commit(tail, messages + done, &claim);
			done += claim.count;
			continue;
		case CLAIM_FULL:
			/* Only the caller's fault: a message that not even an empty one holds. [O4] */
			assert(state_entries(atomic64_load_acquire(&tail->state)) > 0);
			segment_seal(tail);
			break;
		case CLAIM_SEALED:
			break;
		}
		tail = log_roll(log, tail);
		if (tail == NULL) {
			*appended = done;
			keeper_kick(log->keeper);
			return atomic32_load_relaxed(&log->is_full) ? LOG_FULL : LOG_NO_SEGMENT;
		}
	}
	*appended = done;
	return LOG_APPENDED;
}

/* The segment that holds `id` or will; NULL when retention has passed it. */
static struct segment *find(struct log *log, uint64_t id)
{
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	size_t low = 0, high = directory->count;

	/* Invariant: bases below `low` are <= id, those from `high` on are > id. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (atomic64_load_acquire(&directory->segments[middle]->base) <= id) /* [O2] */
			low = middle + 1;
		else
			high = middle;
	}
	return low == 0 ? NULL : directory->segments[low - 1];
}

uint64_t log_first(struct log *log)
{
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	return atomic64_load_acquire(&directory->segments[0]->base);                      /* [O2] */
}

static void head_raise(struct log *log, uint64_t head)
{
	uint64_t now = atomic64_load_acquire(&log->head);           /* [O7] */
	while (now < head && !atomic64_cas(&log->head, &now, head)) /* [O7] */
		;
}

uint64_t log_head(struct log *log)
{
	const uint64_t known = atomic64_load_acquire(&log->head); /* [O7] */
	uint64_t next = known + 1;
	struct segment *segment = find(log, next);

	/* Retired since the line above: then somebody else has raised the head beyond it. */
	if (segment == NULL)
		return atomic64_load_acquire(&log->head); /* [O7] */
	for (;;) {
		uint64_t base = atomic64_load_acquire(&segment->base);   /* [O2] */
		uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
		uint64_t end = base + state_entries(state);
		while (next < end && segment_is_committed(segment, base, (uint32_t)(next - base)))
			next++;
		if (next < end || !state_is_sealed(state))
			break;
		segment = atomic_load_pointer_acquire(&segment->next);                /* [O3] */
		if (segment == NULL || atomic64_load_acquire(&segment->base) != next) /* [O2] */
			break; /* not rolled yet */
	}
	if (next - 1 > known)
		head_raise(log, next - 1);
	return next - 1;
}

enum block_verdict log_block(struct log *log, uint64_t id, uint64_t upto, struct block *block)
{
	if (id > upto)
		return BLOCK_END;
	const struct segment *segment = find(log, id);
	if (segment == NULL)
		return BLOCK_DROPPED;
	uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
	/* [O4] Whatever is at or below the head is counted in a state that we can see. */
	uint64_t end = base + state_entries(atomic64_load_acquire(&segment->state));
	uint32_t index = (uint32_t)(id - base);
	uint64_t count = BLOCK_ENTRIES - index % BLOCK_ENTRIES;

	assert(id < end);
	if (count > end - id)
		count = end - id;
	if (count > upto - id + 1)
		count = upto - id + 1;
	*block = (struct block){
		.segment = segment, .first = id, .index = index, .count = (uint32_t)count};
	return BLOCK_HERE;
}

enum block_verdict log_block_back(struct log *log, uint64_t id, struct block *block)
{
	const struct segment *segment = find(log, id);
	if (segment == NULL)
		return BLOCK_DROPPED;
	uint32_t index = (uint32_t)(id - atomic64_load_acquire(&segment->base)); /* [O2] */
	uint32_t begin = index - index % BLOCK_ENTRIES;

	*block = (struct block){.segment = segment,
	                        .first = id - (index - begin),
	                        .index = begin,
	                        .count = index - begin + 1};
	return BLOCK_HERE;
}

uint64_t block_segment_last(const struct block *block)
{
	uint64_t state = atomic64_load_acquire(&block->segment->state); /* [O4] */
	return block->first - block->index + state_entries(state) - 1;
}

const char *block_topic(const struct block *block, uint32_t i)
{
	return block->segment->map + block_entry(block, i)->offset +
	       frame_topic_offset(block->first + i);
}

uint64_t log_find_time(struct log *log, uint64_t time_us)
{
	/* The head first: what the directory then lacks is newer than any message looked at. */
	uint64_t head = log_head(log);
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	size_t low = 0, high = directory->count;

	/* The last segment whose first message is older: what is sought begins in it or behind. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct segment *segment = directory->segments[middle];
		uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
		if (base <= head && entry_time_us(segment_entry(segment, 0)) < time_us)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return atomic64_load_acquire(&directory->segments[0]->base); /* [O2] */
	const struct segment *segment = directory->segments[low - 1];
	uint64_t base = atomic64_load_acquire(&segment->base);                       /* [O2] */
	uint64_t end = base + state_entries(atomic64_load_acquire(&segment->state)); /* [O4] */
	if (end > head + 1)
		end = head + 1;
	uint32_t left = 0, right = (uint32_t)(end - base);
	while (left < right) {
		uint32_t middle = left + (right - left) / 2;
		if (entry_time_us(segment_entry(segment, middle)) < time_us)
			left = middle + 1;
		else
			right = middle;
	}
	return base + left;
}

void log_figures(struct log *log, struct log_figures *figures)
{
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	uint64_t head = log_head(log);
	size_t used = 0;

	while (used < directory->count && atomic64_load_acquire(&directory->segments[used]->base) !=
	                                          SEGMENT_NO_BASE) /* [O2] */
		used++;
	*figures = (struct log_figures){
		.first = atomic64_load_acquire(&directory->segments[0]->base), /* [O2] */
		.head = head,
		.bytes = atomic64_load_relaxed(&log->bytes), /* a statistic */
		.segments = used,
	};
}
