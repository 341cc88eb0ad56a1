/* SPDX-License-Identifier: MIT */
/* Model: tests/models/log.pml */
/* Model: tests/models/syncer.pml */
/* Model: tests/models/genmc/append.c */
/* Model: tests/models/genmc/roll.c */
/*
 * The orders of the log, one row for each tag at a declaration or an access:
 *
 * [O1] entry.commit: the commit (release) publishes frame and entry to readers (acquire). Without
 *      it a reader sends bytes that are not there yet.
 * [O2] segment.base: set (release) before the tail moves; read (acquire) by whoever computes ids.
 *      Without it an appender could hand out ids that count from a former base.
 * [O3] segment.next: the keeper publishes (release) a segment reset for its new life; log_roll
 *      reads it (acquire). Without it appends would land in a segment still marked sealed or used.
 * [O4] segment.state: each claim is ordered behind the one before (cas, acquire and release), so
 *      that their times are; readers (acquire) trust an index slot only below the entries counted
 *      here.
 * [O5] log.directory: the keeper publishes (release) a complete array; readers acquire it.
 * [O6] sleeper.parked and the eventcount: Dekker, full fences on both sides (wake.c).
 * [O7] log.head: raised (cas, release) by whoever has seen (acquire, O1) everything up to it
 *      committed; who reads it (acquire) may read all that without looking at commit words again.
 * [O8] the wall clock's offset (clock.c): release and acquire.
 * [O9] log.tail: moved (cas, release) when the new tail's base stands; appends acquire it.
 * [O10] hub.phase: the server publishes (release) the phase with drain_head; workers acquire it.
 * [O11] handoff.put_count: an item stands in its slot (release) before the worker takes it
 *      (acquire).
 * [O12] handoff.taken_count: an item has been read (release) before its slot is used again
 *      (acquire).
 * [O13] segment.has_summary: the keeper has computed filter and times (release); searches ask them
 *      (acquire).
 * [O14] segment.map: published (release) when what it shows has been verified; readers acquire it.
 * [O15] segment.gaps: published (release) before the mapping that they are the gaps of; read
 *      (acquire) behind it, so that nobody reads what was found to be damaged.
 * [O16] segment.holds: raised inside a section; who lets go (release) has done with the segment
 *      before the keeper, that finds no holds (acquire), frees it.
 * [O17] file.is_stored: the syncer has done with the file (release) before its mapping may go
 *      (acquire).
 * [O18] file.is_retired: set (release) before the file is unlinked; who misses the file looks
 *      (acquire) whether that is why.
 * [O19] log.synced: raised (release) behind the sync; with `always` it is what readers go by
 *      (acquire).
 * [O20] watched.start (fault.c): a slot is whole (release) before the handler goes by it (acquire).
 * [O21] syncer.sleeps and the commits: Dekker, full fences on both sides (syncer.c).
 * [O22] log.has_failed: set (release) behind the last raise of `synced`; who sees it (acquire) and
 *      then reads the head has the last one.
 * [O23] log.warmed: raised (release) when a segment can be read; readers take it (acquire) before
 *      they look, so that one that they find cold raises it later.
 * [O24] segment.is_wanted: reset (release) when the warmer has taken the segment off its list; who
 *      links it again (acquire) comes after that.
 * [O25] warmer.wanted: a segment is linked (cas, release) before the warmer takes it off (cas,
 *      acquire).
 * [O26] what is deferred and ck's epoch: full fences on both sides (epoch.c). Without the one a
 *      section that begins after another reclaimer's step may find what the step lets go.
 * [O27] wake.sleeper_count: raised (release) when the new sleeper stands in its place; who rings
 *      (acquire) goes no further.
 */
#include "log/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/diag.h"
#include "log/chain.h"
#include "log/frame.h"
#include "log/recover.h"
#include "log/store.h"
#include "log/syncer.h"
#include "log/warmer.h"

static int draw_random(void *at, size_t n)
{
	return getrandom(at, n, 0) == (ssize_t)n ? 0 : -1;
}

static bool is_durable(const struct log_options *options)
{
	return options->dir != NULL && options->dir[0] != '\0';
}

/* An empty log of its own. 0 or -1. */
static int open_in_memory(struct log *log, const struct log_options *options)
{
	clock_open(0);
	if (draw_random(&log->identity, sizeof log->identity) != 0 ||
	    draw_random(&log->hash_key, sizeof log->hash_key) != 0)
		return -1;
	return keeper_start(log, options, NULL);
}

/* What was found becomes the log. */
static int take_over(struct log *log, const struct log_options *options, struct recovery *found)
{
	clock_open(found->newest_us);
	log->sync = options->sync;
	log->shows_synced = options->sync == LOG_SYNC_ALWAYS;
	log->identity = found->log.identity;
	log->hash_key = found->log.key;
	atomic64_store_release(&log->head, found->head);     /* [O7] */
	atomic64_store_release(&log->synced, found->synced); /* [O19] */
	log->syncer = syncer_new(log, options->sync_interval_us);
	log->warmer = warmer_new(log, options->mapped_max);
	if (log->syncer == NULL || log->warmer == NULL || keeper_start(log, options, found) != 0)
		return -1;
	if (warmer_start(log->warmer) == 0) {
		if (syncer_start(log->syncer) == 0)
			return 0;
		warmer_stop(log->warmer);
	}
	keeper_stop(log->keeper);
	warmer_release(log->warmer);
	keeper_free(log->keeper);
	return -1;
}

static int open_files(struct log *log, const struct log_options *options, char *error,
                      size_t error_size)
{
	struct recovery found;
	uint32_t max_entries = keeper_max_entries(options->retain_messages);

	log->store = store_open(options->dir, error, error_size);
	if (log->store == NULL)
		return -1;
	store_set_populate(log->store, options->sync == LOG_SYNC_NO);
	if (recover(log->store, options, max_entries, &found, error, error_size) != 0)
		return -1;
	int result = take_over(log, options, &found);
	if (result != 0)
		snprintf(error, error_size, "%s: no memory, descriptor or thread for the log",
		         options->dir);
	recovery_free(&found);
	return result;
}

struct log *log_open(const struct log_options *options, struct wake *wake, char *error,
                     size_t error_size)
{
	struct log *log = aligned_alloc(CACHE_LINE, sizeof *log);
	snprintf(error, error_size, "no memory, descriptor or thread for the log");
	if (log == NULL)
		return NULL;
	memset(log, 0, sizeof *log);
	log->segment_size = options->segment_size;
	log->wake = wake;
	epoch_init(&log->epoch);
	int result = is_durable(options) ? open_files(log, options, error, error_size)
	                                 : open_in_memory(log, options);
	if (result == 0)
		return log;
	warmer_free(log->warmer);
	syncer_free(log->syncer);
	store_close(log->store);
	free(log);
	return NULL;
}

/* Syncs everything and writes down that it is whole; what can't be is found by the next start. */
static void end_run(struct log *log)
{
	if (!syncer_finish(log->syncer))
		return;
	struct store_log end = {.identity = log->identity,
	                        .key = log->hash_key,
	                        .end = STORE_CLEAN,
	                        .head = log_synced(log)};
	snprintf(end.boot, sizeof end.boot, "%s", store_boot(log->store));
	int error = store_write_log(log->store, &end);
	if (error != 0)
		diag(DIAG_ERROR,
		     "%s/log: can't be written (%s): the next start takes this for a crash",
		     store_dir(log->store), strerror(-error));
}

void log_close(struct log *log)
{
	if (log == NULL)
		return;
	if (log->syncer != NULL)
		syncer_stop(log->syncer);
	if (log->warmer != NULL)
		warmer_stop(log->warmer);
	keeper_stop(log->keeper);
	if (log->store != NULL)
		end_run(log);
	if (log->warmer != NULL)
		warmer_release(log->warmer);
	/* Before the others: it waits for their part in the epoch, which goes with them. */
	keeper_free(log->keeper);
	warmer_free(log->warmer);
	syncer_free(log->syncer);
	store_close(log->store);
	free(log);
}

void log_set_retention(struct log *log, const struct log_options *options)
{
	keeper_set_retention(log->keeper, options);
}

void log_set_sync_interval(struct log *log, uint64_t sync_interval_us)
{
	if (log->syncer != NULL)
		syncer_set_interval(log->syncer, sync_interval_us);
}

const struct beat *log_keeper_beat(const struct log *log)
{
	return keeper_beat(log->keeper);
}

const struct beat *log_syncer_beat(const struct log *log)
{
	return log->syncer != NULL ? syncer_beat(log->syncer) : NULL;
}

void log_stir(struct log *log)
{
	keeper_kick(log->keeper);
	if (log->syncer != NULL)
		syncer_stir(log->syncer);
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

/* Soon the claims will come to pages that nobody has touched yet: the keeper does, before them. */
static void want_pages(struct log *log, struct segment *tail, const struct claim *claim)
{
	if (claim->offset < atomic32_load_relaxed(&tail->ready_mark))
		return;
	atomic32_store_relaxed(&tail->ready_mark, SEGMENT_READY); /* see there */
	keeper_kick(log->keeper);
}

enum log_verdict log_append(struct log *log, struct message *messages, size_t n, size_t *appended)
{
	struct segment *tail = atomic_load_pointer_acquire(&log->tail); /* [O9] */
	size_t done = 0;

	while (done < n) {
		struct claim claim;
		if (log_has_failed(log)) {
			*appended = done;
			return LOG_FAILED;
		}
		switch (segment_claim(tail, messages + done, n - done, &claim)) {
		case CLAIM_DONE:
			segment_commit(tail, messages + done, &claim);
			if (segment_is_damaged(tail)) { /* what we copied went nowhere */
				log_fail(log);
				syncer_kick(log->syncer);
			} else {
				done += claim.count;
				want_pages(log, tail, &claim);
			}
			continue;
		case CLAIM_FULL:
			/* Only the caller's fault: a message that not even an empty one holds.
			 * [O4] */
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

bool log_has_failed(const struct log *log)
{
	return atomic32_load_acquire(&log->has_failed) != 0; /* [O22] */
}

void log_fail(struct log *log)
{
	atomic32_store_release(&log->has_failed, 1); /* [O22] */
}

bool log_is_final(struct log *log)
{
	return log_has_failed(log) &&
	       (log->shows_synced ||
	        segment_is_damaged(atomic_load_pointer_acquire(&log->tail))); /* [O9] */
}

/*
 * How many segments of the directory begin at or before `id`: the last of them holds it or will, or
 * comes before the gap that it is in. 0: retention has passed it.
 */
static size_t find(const struct directory *directory, uint64_t id)
{
	size_t low = 0, high = directory->count;

	/* Invariant: bases below `low` are <= id, those from `high` on are > id. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (atomic64_load_acquire(&directory->segments[middle]->base) <= id) /* [O2] */
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void log_announce(struct log *log)
{
	/* With LOG_SYNC_ALWAYS there is nothing to be seen before the syncer rings. */
	if (!log->shows_synced)
		wake_ring(log->wake);
	if (log->syncer != NULL)
		syncer_announce(log->syncer);
}

const char *log_sync_word(const struct log *log)
{
	static const char *const words[] = {[LOG_SYNC_NO] = "no",
	                                    [LOG_SYNC_INTERVAL] = "interval",
	                                    [LOG_SYNC_ALWAYS] = "always"};
	return log->store == NULL ? "memory" : words[log->sync];
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

uint64_t log_committed(struct log *log)
{
	const struct directory *directory;
	uint64_t known;
	size_t begun;

	/* None: retired since the head was looked at, which somebody has raised beyond it before.
	 * Then from there on: to that head alone more may have been added that was rung for. */
	do {
		known = atomic64_load_acquire(&log->head);                /* [O7] */
		directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
		begun = find(directory, known + 1);
	} while (begun == 0);
	uint64_t next = known + 1;
	struct segment *segment = directory->segments[begun - 1];
	for (;;) {
		uint64_t base = atomic64_load_acquire(&segment->base);   /* [O2] */
		uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
		uint64_t end = base + state_entries(state);
		char *map = segment_map(segment);
		if (map == NULL) /* cold by now, which it becomes only when all is committed */
			next = end;
		while (next < end &&
		       entry_is_committed(map_entry(map, segment->size, (uint32_t)(next - base)),
		                          next, segment->secret))
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

uint64_t log_synced(struct log *log)
{
	if (log->store == NULL)
		return log_committed(log);
	return atomic64_load_acquire(&log->synced); /* [O19] */
}

uint64_t log_head(struct log *log)
{
	return log->shows_synced ? log_synced(log) : log_committed(log);
}

/* ---- blocks ---- */

/* The gap between the segments that begin at or before `id` and the next one. */
static enum block_verdict gap_between(const struct directory *directory, size_t begun, uint64_t id,
                                      struct block *block)
{
	assert(begun < directory->count);
	const struct segment *next = directory->segments[begun];

	*block = (struct block){.segment = directory->segments[begun - 1],
	                        .first = id,
	                        .last = atomic64_load_acquire(&next->base) - 1, /* [O2] */
	                        .loss = next->loss};
	return BLOCK_GAP;
}

/* Turns the block into the gap from..to of its segment. */
static enum block_verdict become_gap(struct block *block, uint64_t from, uint64_t to,
                                     enum loss loss)
{
	*block = (struct block){.segment = block->segment, .first = from, .last = to, .loss = loss};
	return BLOCK_GAP;
}

/* The number of gaps that end before `id`. */
static size_t gaps_before(const struct gaps *gaps, uint64_t id)
{
	size_t low = 0, high = gaps->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (gaps->at[middle].to < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What of the block, whose place in its segment is known, can be read from its first id on. */
static enum block_verdict look_ahead(struct block *block, uint64_t end, uint64_t upto)
{
	if (segment_is_damaged(block->segment))
		return become_gap(block, block->first, end - 1 < upto ? end - 1 : upto,
		                  LOSS_DAMAGED);
	block->map = segment_map(block->segment);
	if (block->map == NULL)
		return BLOCK_COLD;
	const struct gaps *gaps = segment_gaps(block->segment);
	size_t nth = gaps == NULL ? 0 : gaps_before(gaps, block->first);
	if (gaps == NULL || nth == gaps->count)
		return BLOCK_HERE;
	const struct gap *gap = &gaps->at[nth];
	if (gap->from <= block->first)
		return become_gap(block, block->first, gap->to < upto ? gap->to : upto, gap->loss);
	if (block->count > gap->from - block->first)
		block->count = (uint32_t)(gap->from - block->first);
	return BLOCK_HERE;
}

/* The same back from `id`, which is the last of the block. */
static enum block_verdict look_back(struct block *block, uint64_t id)
{
	if (segment_is_damaged(block->segment))
		return become_gap(block, block_segment_first(block), id, LOSS_DAMAGED);
	block->map = segment_map(block->segment);
	if (block->map == NULL)
		return BLOCK_COLD;
	const struct gaps *gaps = segment_gaps(block->segment);
	if (gaps == NULL)
		return BLOCK_HERE;
	size_t nth = gaps_before(gaps, id);
	if (nth < gaps->count && gaps->at[nth].from <= id)
		return become_gap(block, gaps->at[nth].from, id, gaps->at[nth].loss);
	if (nth > 0 && gaps->at[nth - 1].to >= block->first) {
		uint32_t cut = (uint32_t)(gaps->at[nth - 1].to - block->first) + 1;
		block->first += cut;
		block->index += cut;
		block->count -= cut;
	}
	return BLOCK_HERE;
}

/* Durable logs: somebody reads here, so it is not the one to be unmapped. */
static void note_use(struct log *log, struct segment *segment)
{
	uint32_t tick = atomic32_load_relaxed(&log->tick); /* it only helps to choose */
	if (segment->is_durable && atomic32_load_relaxed(&segment->used_tick) != tick)
		atomic32_store_relaxed(&segment->used_tick, tick);
}

enum block_verdict log_block(struct log *log, uint64_t id, uint64_t upto, struct block *block)
{
	if (id > upto)
		return BLOCK_END;
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	size_t begun = find(directory, id);
	if (begun == 0)
		return BLOCK_DROPPED;
	struct segment *segment = directory->segments[begun - 1];
	uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
	/* [O4] Whatever is at or below the head is counted in a state that we can see. */
	uint64_t end = base + state_entries(atomic64_load_acquire(&segment->state));
	uint32_t index = (uint32_t)(id - base);
	uint64_t count = BLOCK_ENTRIES - index % BLOCK_ENTRIES;

	if (id >= end) {
		gap_between(directory, begun, id, block);
		block->last = block->last < upto ? block->last : upto;
		return BLOCK_GAP;
	}
	if (count > end - id)
		count = end - id;
	if (count > upto - id + 1)
		count = upto - id + 1;
	*block = (struct block){
		.segment = segment, .first = id, .index = index, .count = (uint32_t)count};
	note_use(log, segment);
	return look_ahead(block, end, upto);
}

enum block_verdict log_block_back(struct log *log, uint64_t id, struct block *block)
{
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	size_t begun = find(directory, id);
	if (begun == 0)
		return BLOCK_DROPPED;
	struct segment *segment = directory->segments[begun - 1];
	uint64_t base = atomic64_load_acquire(&segment->base);                       /* [O2] */
	uint64_t end = base + state_entries(atomic64_load_acquire(&segment->state)); /* [O4] */
	uint32_t index = (uint32_t)(id - base);
	uint32_t begin = index - index % BLOCK_ENTRIES;

	if (id >= end) {
		gap_between(directory, begun, end, block);
		block->last = id;
		return BLOCK_GAP;
	}
	*block = (struct block){.segment = segment,
	                        .first = id - (index - begin),
	                        .index = begin,
	                        .count = index - begin + 1};
	note_use(log, segment);
	return look_back(block, id);
}

uint64_t block_segment_last(const struct block *block)
{
	uint64_t state = atomic64_load_acquire(&block->segment->state); /* [O4] */
	return block->first - block->index + state_entries(state) - 1;
}

const char *block_topic(const struct block *block, uint32_t i)
{
	return block_frame(block, i) + frame_topic_offset(block->first + i);
}

void log_want(struct log *log, const struct block *block)
{
	warmer_want(log->warmer, (struct segment *)(uintptr_t)block->segment);
}

uint64_t log_warmed(const struct log *log)
{
	return atomic64_load_acquire(&log->warmed); /* [O23] */
}

void log_damage(struct log *log, const struct block *block)
{
	struct segment *segment = (struct segment *)(uintptr_t)block->segment;

	atomic32_store_relaxed(&segment->is_damaged, 1); /* see there */
	if (log->warmer != NULL)
		warmer_kick(log->warmer); /* which says so, or the syncer does */
}

/* ---- searching by time ---- */

/* The time of a segment's first message, which has been committed. */
static uint64_t first_time_us(const struct segment *segment)
{
	/* The mapping first: where it has gone, the summary was there before. */
	char *map = segment_map(segment);
	if (segment_has_summary(segment) || map == NULL)
		return segment->first_time_us;
	return entry_time_us(map_entry(map, segment->size, 0));
}

/* The first id of segment `nth`; the head's follower when that is not beyond the head. */
static uint64_t first_from(const struct directory *directory, size_t nth, uint64_t head)
{
	uint64_t base = nth == directory->count
	                        ? SEGMENT_NO_BASE
	                        : atomic64_load_acquire(&directory->segments[nth]->base); /* [O2] */
	return base <= head ? base : head + 1;
}

/* The first of the segment's entries, those below `count`, that is not older. */
static uint32_t find_in(const struct segment *segment, char *map, uint32_t count, uint64_t time_us)
{
	uint32_t left = 0, right = count;
	while (left < right) {
		uint32_t middle = left + (right - left) / 2;
		if (entry_time_us(map_entry(map, segment->size, middle)) < time_us)
			left = middle + 1;
		else
			right = middle;
	}
	return left;
}

uint64_t log_find_time(struct log *log, uint64_t time_us, struct block *cold)
{
	/* The head first: what the directory then lacks is newer than any message looked at. */
	uint64_t head = log_head(log);
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	size_t low = 0, high = directory->count;

	if (cold != NULL)
		cold->segment = NULL;
	/* The last segment whose first message is older: what is sought begins in it or behind. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct segment *segment = directory->segments[middle];
		uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
		if (base <= head && first_time_us(segment) < time_us)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return atomic64_load_acquire(&directory->segments[0]->base); /* [O2] */
	const struct segment *segment = directory->segments[low - 1];
	if (segment_has_summary(segment) && segment->last_time_us < time_us)
		return first_from(directory, low, head);
	uint64_t base = atomic64_load_acquire(&segment->base);                       /* [O2] */
	uint64_t end = base + state_entries(atomic64_load_acquire(&segment->state)); /* [O4] */
	uint32_t count = (uint32_t)((end > head + 1 ? head + 1 : end) - base);
	char *map = segment_map(segment);
	if (map == NULL && count > 0 && !segment_is_damaged(segment)) {
		if (cold != NULL)
			*cold = (struct block){.segment = segment, .first = base, .count = count};
		return base;
	}
	uint32_t index = map == NULL ? count : find_in(segment, map, count, time_us);
	/* Nobody knows which of it was newer: all of it. */
	if (segment_is_damaged(segment))
		return base;
	return index < count ? base + index : first_from(directory, low, head);
}

void log_figures(struct log *log, struct log_figures *figures)
{
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	uint64_t synced = log_synced(log); /* before the head, so that it is never beyond it */
	uint64_t head = log_head(log);
	size_t used = 0;

	while (used < directory->count && atomic64_load_acquire(&directory->segments[used]->base) !=
	                                          SEGMENT_NO_BASE) /* [O2] */
		used++;
	*figures = (struct log_figures){
		.first = atomic64_load_acquire(&directory->segments[0]->base), /* [O2] */
		.head = head,
		.synced = synced,
		.bytes = atomic64_load_relaxed(&log->bytes), /* a statistic */
		.segments = used,
	};
}
