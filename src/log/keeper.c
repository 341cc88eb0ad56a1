/* SPDX-License-Identifier: MIT */
/* Model: tests/models/epoch.pml */
/* Model: tests/models/log.pml */
/* Model: tests/models/genmc/roll.c */
#include "log/keeper.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/diag.h"
#include "log/chain.h"
#include "log/pages.h"
#include "log/recover.h"
#include "log/store.h"
#include "log/syncer.h"

enum {
	TICK_MS = 1000,          /* the clock, and memory that has become idle */
	RETRY_GRACE_MS = 1,      /* somebody waits, a grace period is running */
	RETRY_HELD_MS = 20,      /* one that was retired is still being worked on */
	RETRY_MEMORY_MS = 1000,  /* the system had no memory */
	IDLE_US = 2000 * 1000,   /* without a new segment for so long: give memory back */
	POLLS_PER_PASS = 4,      /* ck_epoch needs two or three to come round */
	SPARE_BYTES = 512 << 10, /* what should be ready behind the tail, at least one segment */
	SPARES_MAX = 2,          /* so that the bound holds: see max_bytes() */
	FREE_MAX = 4,            /* segments kept for reuse */
	TRIM_MIN = 64 << 10,     /* an unused middle smaller than this is not worth a system call */
	AHEAD_MIN = 64 << 10,    /* bytes of pages that are ready before the appends come to them */
	AHEAD_MAX = 512 << 10,
};

struct keeper {
	struct log *log;
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct background background;
	struct beat beat;

	/* Written by keeper_set_retention, relaxed: each stands for itself. */
	uint64_t retain_bytes, retain_messages, retain_age_us;

	/* Of the tail: its base, and what is ready of its data and of its index. */
	uint64_t ready_base;
	size_t ready_data, ready_index;

	struct segment *free; /* out of use, by next_free */
	size_t free_count;
	size_t grace_count;    /* retired, still in their grace period */
	uint64_t chain_bytes;  /* counted bytes of the chain: first segment to last spare */
	uint64_t other_bytes;  /* of the free ones and those in grace */
	uint64_t examined;     /* ids below have been seen sealed, and their segments trimmed */
	uint64_t last_link_us; /* when a spare was last linked */
	struct segment *held;  /* out of use but for somebody who holds them, by next_free */
	uint64_t first_file;   /* durable: the number of the oldest file that is there */
	uint64_t based_file;   /* the one whose header this run has written the base into; 0 */
	bool has_said_trouble; /* of that kind: it is said once each time it begins */
	bool wants_memory;     /* the last attempt to get a segment failed */
	bool wants_room;       /* a spare is missing, and only a grace period can bring it */
};

static uint64_t max_bytes(const struct keeper *keeper)
{
	uint64_t retain = atomic64_load_relaxed(&keeper->retain_bytes); /* a limit stands alone */
	return retain == 0 ? UINT64_MAX : retain + 2 * (uint64_t)keeper->log->segment_size;
}

uint32_t keeper_max_entries(uint64_t retain)
{
	uint64_t most = retain == 0 ? INT32_MAX : retain / 8;
	return most == 0 ? 1 : most > INT32_MAX ? INT32_MAX : (uint32_t)most;
}

static uint32_t max_entries(const struct keeper *keeper)
{
	return keeper_max_entries(
		atomic64_load_relaxed(&keeper->retain_messages)); /* stands alone */
}

static void publish_bytes(struct keeper *keeper)
{
	/* Relaxed: a statistic. */
	atomic64_store_relaxed(&keeper->log->bytes, keeper->chain_bytes + keeper->other_bytes);
}

/* ---- segments out of use ---- */

/* Those from..to - 1 of the mapping. Where they can't be had now they will be when they are needed. */
static void touch(char *map, size_t from, size_t to)
{
	from -= from % PAGE;
	if (from < to)
		(void)pages_populate(map + from, to - from, true);
}

/* A disk that is full, or what else keeps us from making files: said when it begins and ends. */
static void say_trouble(struct keeper *keeper, int error)
{
	const char *dir = store_dir(keeper->log->store);

	if (error != 0 && !keeper->has_said_trouble)
		diag(DIAG_ERROR,
		     "%s: no file can be made for more messages (%s): trying again each second",
		     dir, strerror(-error));
	if (error == 0 && keeper->has_said_trouble)
		diag(DIAG_NOTICE, "%s: files can be made again", dir);
	keeper->has_said_trouble = error != 0;
}

/* A file behind the last one. */
static struct segment *make_file(struct keeper *keeper)
{
	const struct directory *directory = keeper->log->directory;
	const struct segment *last = directory->segments[directory->count - 1];
	const struct store_plan plan = {
		.number = last->file.number + 1,
		.size = keeper->log->segment_size,
		.max_entries = max_entries(keeper),
		.before = last->file.id_bound,
	};
	int error = 0;
	struct segment *segment = store_make_segment(keeper->log->store, &plan, &error);

	say_trouble(keeper, error);
	return segment;
}

static struct segment *make_segment(struct keeper *keeper)
{
	if (keeper->log->store != NULL)
		return make_file(keeper);
	struct segment *segment = segment_new(keeper->log->segment_size);
	if (segment == NULL)
		return NULL;
	segment_reset(segment, max_entries(keeper));
	touch(segment_map(segment), 0, AHEAD_MIN);
	touch(segment_map(segment), segment->size - AHEAD_MIN / 4, segment->size);
	return segment;
}

static struct segment *take_segment(struct keeper *keeper)
{
	struct segment *segment = keeper->free;
	if (segment != NULL) {
		keeper->free = segment->next_free;
		keeper->free_count--;
		keeper->other_bytes -= segment->size;
		segment_reset(segment, max_entries(keeper));
		return segment;
	}
	size_t size = keeper->log->segment_size;
	if (keeper->chain_bytes + keeper->other_bytes + size > max_bytes(keeper)) {
		keeper->wants_room = true;
		return NULL;
	}
	segment = make_segment(keeper);
	keeper->wants_memory = segment == NULL;
	return segment;
}

/* epoch_defer's release: the grace period is over. */
static void segment_is_free(struct epoch_deferred *deferred, void *context)
{
	struct keeper *keeper = context;
	struct segment *segment =
		(struct segment *)(void *)((char *)deferred - offsetof(struct segment, reclaim));

	keeper->grace_count--;
	if (atomic32_load_acquire(&segment->holds) != 0) { /* [O16] */
		segment->next_free = keeper->held;
		keeper->held = segment;
		return;
	}
	keeper->other_bytes -= segment->counted_bytes;
	if (segment->is_durable) { /* its file is gone, or will be */
		segment_free(segment);
		return;
	}
	/* Many that were trimmed, or a limit that was lowered: what is above the bound goes, and
	 * more than the next roll or two can use is not worth keeping. */
	if (keeper->free_count >= FREE_MAX ||
	    keeper->chain_bytes + keeper->other_bytes + segment->size > max_bytes(keeper)) {
		segment_free(segment);
		return;
	}
	keeper->other_bytes += segment->size;
	segment->next_free = keeper->free;
	keeper->free = segment;
	keeper->free_count++;
}

/* Those whose holders have done with them by now. */
static void free_held(struct keeper *keeper)
{
	struct segment *segment = keeper->held;

	keeper->held = NULL;
	while (segment != NULL) {
		struct segment *next = segment->next_free;
		keeper->grace_count++; /* which it gives back */
		segment_is_free(&segment->reclaim, keeper);
		segment = next;
	}
}

static void directory_is_free(struct epoch_deferred *deferred, void *context)
{
	(void)context;
	free(deferred); /* the first member of its directory */
}

static void release_free_segments(struct keeper *keeper)
{
	while (keeper->free != NULL) {
		struct segment *segment = keeper->free;
		keeper->free = segment->next_free;
		keeper->free_count--;
		keeper->other_bytes -= segment->size;
		segment_free(segment);
	}
}

/* ---- the directory ---- */

static struct directory *directory_new(size_t count)
{
	_Static_assert(offsetof(struct directory, reclaim) == 0, "directory_is_free() frees it");
	struct directory *directory =
		malloc(sizeof *directory + count * sizeof directory->segments[0]);
	if (directory != NULL)
		directory->count = count;
	return directory;
}

/* Replaces the directory by one without its first `dropped` segments and with `added` behind. */
static int directory_change(struct keeper *keeper, size_t dropped, struct segment *added)
{
	struct log *log = keeper->log;
	struct directory *before = log->directory; /* we are its only writer */
	size_t kept = before->count - dropped;
	struct directory *after = directory_new(kept + (added != NULL));
	if (after == NULL)
		return -1;
	memcpy(after->segments, before->segments + dropped, kept * sizeof after->segments[0]);
	if (added != NULL)
		after->segments[kept] = added;
	atomic_store_pointer_release(&log->directory, after); /* [O5] */
	epoch_defer(&keeper->epoch, &before->reclaim, directory_is_free, NULL);
	return 0;
}

/* ---- the steps of a pass ---- */

static const struct segment *current_tail(struct keeper *keeper)
{
	return atomic_load_pointer_acquire(&keeper->log->tail); /* [O9] */
}

/* Seals a tail whose first message is old, so that age can drop it even when nobody publishes. */
static void seal_by_age(struct keeper *keeper)
{
	uint64_t age = atomic64_load_relaxed(&keeper->retain_age_us); /* a limit stands alone */
	struct segment *tail = atomic_load_pointer_acquire(&keeper->log->tail); /* [O9] */
	uint64_t state = atomic64_load_acquire(&tail->state);                   /* [O4] */
	uint64_t base = atomic64_load_acquire(&tail->base);                     /* [O2] */

	char *map = segment_map(tail);

	if (age == 0 || state_entries(state) == 0 || map == NULL) /* rolled and stored meanwhile */
		return;
	const struct entry *first = map_entry(map, tail->size, 0);
	if (!entry_is_committed(first, base, tail->secret) ||
	    entry_time_us(first) + age / 4 > clock_wall_us())
		return;
	segment_seal(tail);
	/* Without a follower now, the next pass that links one rolls. */
	(void)log_roll(keeper->log, tail);
}

/*
 * A segment sealed before it was full (by age or count) gives its untouched middle back and counts
 * for what is left: memory of segments reused would else stay resident though empty.
 */
static void trim(struct keeper *keeper, struct segment *segment, uint64_t state)
{
	size_t begin = SEGMENT_HEADER_SIZE + (size_t)state_bytes(state);
	size_t end = segment->size - (size_t)state_entries(state) * sizeof(struct entry);

	begin = (begin + 4095) / 4096 * 4096;
	end = end / 4096 * 4096;
	if (end < begin + TRIM_MIN)
		return;
	if (segment->is_durable)
		return; /* a file's room stays allocated: it must never run out */
	if (madvise(segment_map(segment) + begin, end - begin, MADV_DONTNEED) != 0)
		return; /* it goes on counting whole */
	segment->counted_bytes = segment->size - (end - begin);
	keeper->chain_bytes -= end - begin;
}

/* Looks at each segment once when it is sealed and wholly committed. */
static void examine_sealed(struct keeper *keeper, uint64_t head)
{
	const struct directory *directory = keeper->log->directory;
	for (size_t i = 0; i < directory->count; i++) {
		struct segment *segment = directory->segments[i];
		uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
		if (base < keeper->examined)
			continue;
		uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
		if (base == SEGMENT_NO_BASE || !state_is_sealed(state) ||
		    base + state_entries(state) > head + 1)
			return;
		trim(keeper, segment, state);
		if (!segment_has_summary(segment)) /* those recovered have one */
			segment_sum_up(segment, state_entries(state));
		if (keeper->log->syncer != NULL)
			syncer_kick(keeper->log->syncer); /* it can be sealed now */
		keeper->examined = base + state_entries(state);
	}
}

/* Whether the oldest segment may go, and has to. `kept`: counted bytes from it to the tail. */
static bool is_to_go(struct keeper *keeper, const struct segment *segment, uint64_t head,
                     uint64_t kept)
{
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	uint64_t base = atomic64_load_acquire(&segment->base);   /* [O2] */
	uint64_t end = base + state_entries(state);
	/* Each limit stands alone: relaxed. */
	uint64_t bytes = atomic64_load_relaxed(&keeper->retain_bytes);
	uint64_t messages = atomic64_load_relaxed(&keeper->retain_messages);
	uint64_t age = atomic64_load_relaxed(&keeper->retain_age_us);

	if (segment == current_tail(keeper) || !state_is_sealed(state) || end > head + 1)
		return false;
	if (bytes != 0 && kept > bytes)
		return true;
	if (messages != 0 && head + 1 - end >= messages)
		return true;
	if (age == 0)
		return false;
	/* One that has just been sealed has its summary by the next pass. */
	return segment_has_summary(segment) && segment->last_time_us + age < clock_wall_us();
}

static void retire(struct keeper *keeper, uint64_t head)
{
	struct directory *directory = keeper->log->directory;
	uint64_t kept = 0;
	size_t dropped = 0;

	for (size_t i = 0; i < directory->count; i++)
		if (atomic64_load_acquire(&directory->segments[i]->base) !=
		    SEGMENT_NO_BASE) /* [O2] */
			kept += directory->segments[i]->counted_bytes;
	while (dropped + 1 < directory->count &&
	       is_to_go(keeper, directory->segments[dropped], head, kept))
		kept -= directory->segments[dropped++]->counted_bytes;
	/* Without memory for a smaller directory they stay until there is some. */
	if (dropped == 0 || directory_change(keeper, dropped, NULL) != 0)
		return;
	/* The old directory's memory is ours until the next poll. */
	for (size_t i = 0; i < dropped; i++) {
		struct segment *segment = directory->segments[i];
		keeper->chain_bytes -= segment->counted_bytes;
		keeper->other_bytes += segment->counted_bytes;
		keeper->grace_count++;
		atomic32_store_release(&segment->file.is_retired, 1); /* [O18] */
		epoch_defer(&keeper->epoch, &segment->reclaim, segment_is_free, keeper);
	}
}

/*
 * The first segment that is left begins where its header says: what came before it would say so,
 * and goes. (Sealed ones say it anyway.) It is written and synced once, also where it stands there
 * already: a former run may have been killed before its sync.
 */
static int write_base(struct keeper *keeper, const struct segment *segment)
{
	const uint64_t number = segment->file.number;

	if (keeper->based_file == number)
		return 0;
	/* Inside a section: it may be stored meanwhile, and then its mapping may go. */
	epoch_enter(&keeper->epoch);
	bool is_stored = segment_is_stored(segment);
	if (!is_stored)
		header_set_gap((struct segment_header *)(void *)segment_map(segment),
		               atomic64_load_acquire(&segment->base), segment->loss); /* [O2] */
	epoch_leave(&keeper->epoch);
	if (is_stored)
		return 0;
	/* Where it fails it is written again: its page counts as clean then. */
	int error = store_sync_segment(keeper->log->store, number);
	if (error == 0)
		keeper->based_file = number;
	return error;
}

/* Removes the files of retired segments: the next one only when the one before it is gone. */
static void remove_files(struct keeper *keeper)
{
	static struct diag_limit limit;
	struct log *log = keeper->log;
	const struct segment *first = log->directory->segments[0];

	if (log->store == NULL)
		return;
	while (keeper->first_file < first->file.number) {
		int error = write_base(keeper, first);
		if (error == 0)
			error = store_unlink(log->store, keeper->first_file);
		if (error != 0) {
			diag_limited(&limit, DIAG_ERROR,
			             "%s: the oldest segment can't be removed (%s)",
			             store_dir(log->store), strerror(-error));
			return;
		}
		keeper->first_file++;
	}
}

/* ---- pages ahead ---- */

/*
 * A page that is touched for the first time costs a publisher microseconds, in the middle of an
 * append. So the next ones are touched here: of what fills slowly a little, so that an empty log stays
 * small. (Files are made ready as a whole when they are made.)
 */
static void make_ready(struct keeper *keeper)
{
	struct segment *tail = atomic_load_pointer_acquire(&keeper->log->tail); /* [O9] */
	uint64_t base = atomic64_load_acquire(&tail->base);                     /* [O2] */
	uint64_t state = atomic64_load_acquire(&tail->state);                   /* [O4] */

	if (tail->is_durable || state_is_sealed(state))
		return;
	if (keeper->ready_base != base)
		keeper->ready_data = keeper->ready_index = 0;
	keeper->ready_base = base;

	size_t index = state_entries(state) * sizeof(struct entry);
	size_t used = SEGMENT_HEADER_SIZE + state_bytes(state);
	size_t ahead = used < AHEAD_MIN ? AHEAD_MIN : used > AHEAD_MAX ? AHEAD_MAX : used;
	size_t room = tail->size - index;
	size_t data_end = used + ahead < room ? used + ahead : room;
	/* As much of the index as goes with that, going by what is there; at first a guess. */
	size_t index_end = index + (index == 0 ? ahead / 4 : ahead * index / used);
	if (index_end > tail->size - used)
		index_end = tail->size - used;

	char *map = segment_map(tail);
	touch(map, keeper->ready_data > used ? keeper->ready_data : used, data_end);
	touch(map, tail->size - index_end,
	      tail->size - (keeper->ready_index > index ? keeper->ready_index : index));
	keeper->ready_data = data_end;
	keeper->ready_index = index_end;
	if (data_end < room) /* relaxed: a hint */
		atomic32_store_relaxed(&tail->ready_mark, (uint32_t)(used + ahead / 2));
}

static size_t count_spares(struct keeper *keeper)
{
	const struct directory *directory = keeper->log->directory;
	const struct segment *tail = current_tail(keeper);
	size_t spares = 0;
	while (directory->segments[directory->count - 1 - spares] != tail)
		spares++;
	return spares;
}

/* Links one more spare. False when there is none to be had now. */
static bool link_spare(struct keeper *keeper)
{
	struct log *log = keeper->log;
	struct segment *spare = take_segment(keeper);
	if (spare == NULL)
		return false;
	struct segment *last = log->directory->segments[log->directory->count - 1];
	if (directory_change(keeper, 0, spare) != 0) {
		segment_free(spare);
		keeper->wants_memory = true;
		return false;
	}
	keeper->chain_bytes += spare->counted_bytes;
	keeper->last_link_us = clock_mono_us();
	/* In the directory first: whoever gets ids in it can then find them. */
	atomic_store_pointer_release(&last->next, spare); /* [O3] */
	return true;
}

static void provide_spares(struct keeper *keeper)
{
	size_t wanted = 1 + SPARE_BYTES / keeper->log->segment_size;
	bool has_linked = false;

	/* A file takes longer to be made than a mapping. */
	if (wanted > SPARES_MAX || keeper->log->store != NULL)
		wanted = SPARES_MAX;
	keeper->wants_room = keeper->wants_memory = false;
	/* One at least; more only where no memory bound stands in the way of the next pass. */
	for (size_t spares = count_spares(keeper); spares < wanted; spares++) {
		if (!link_spare(keeper))
			break;
		has_linked = true;
	}
	if (count_spares(keeper) > 0) /* more would be nice, none is needed */
		keeper->wants_room = keeper->wants_memory = false;
	atomic32_store_relaxed(&keeper->log->is_full, keeper->wants_memory); /* a hint */
	if (has_linked || keeper->wants_memory)
		wake_ring(keeper->log->wake);
}

/* Nothing has been appended for a while: what only waits for reuse goes back to the system. */
static void give_back(struct keeper *keeper)
{
	if (clock_mono_us() - keeper->last_link_us >= IDLE_US)
		release_free_segments(keeper);
}

/* One round of everything; returns in how many milliseconds the next one is due. */
static int pass(struct keeper *keeper)
{
	struct log *log = keeper->log;

	clock_follow();
	epoch_enter(&keeper->epoch);
	seal_by_age(keeper);
	uint64_t head = log_head(log);
	examine_sealed(keeper, head);
	retire(keeper, head);
	epoch_leave(&keeper->epoch);
	remove_files(keeper);
	free_held(keeper);

	for (int i = 0; i < POLLS_PER_PASS; i++)
		epoch_poll(&keeper->epoch);

	epoch_enter(&keeper->epoch);
	provide_spares(keeper);
	epoch_leave(&keeper->epoch);
	give_back(keeper);
	publish_bytes(keeper);
	make_ready(keeper);

	if (keeper->wants_room || keeper->grace_count > 0)
		return RETRY_GRACE_MS;
	if (keeper->held != NULL)
		return RETRY_HELD_MS;
	if (keeper->wants_memory)
		return RETRY_MEMORY_MS;
	uint64_t age_ms = atomic64_load_relaxed(&keeper->retain_age_us) / 1000; /* stands alone */
	if (age_ms == 0 || age_ms / 8 > TICK_MS)
		return TICK_MS;
	return age_ms / 8 < 10 ? 10 : (int)(age_ms / 8);
}

static void *keep(void *context)
{
	struct keeper *keeper = context;
	pthread_setname_np(pthread_self(), "psad-keeper");
	while (!background_is_stopping(&keeper->background)) {
		int timeout_ms = pass(keeper);
		beat_raise(&keeper->beat);
		background_sleep(&keeper->background, timeout_ms);
	}
	beat_end(&keeper->beat);
	return NULL;
}

/* ---- from outside ---- */

void keeper_kick(struct keeper *keeper)
{
	background_kick(&keeper->background);
}

const struct beat *keeper_beat(const struct keeper *keeper)
{
	return &keeper->beat;
}

void keeper_set_retention(struct keeper *keeper, const struct log_options *options)
{
	atomic64_store_relaxed(&keeper->retain_bytes, options->retain_bytes);
	atomic64_store_relaxed(&keeper->retain_messages, options->retain_messages);
	atomic64_store_relaxed(&keeper->retain_age_us, options->retain_age_us);
	keeper_kick(keeper);
}

/* A tail alone, in memory. */
static int build_chain(struct keeper *keeper)
{
	struct log *log = keeper->log;
	struct segment *tail = segment_new(log->segment_size);
	struct directory *directory = directory_new(1);
	if (tail == NULL || directory == NULL) {
		if (tail != NULL)
			segment_free(tail);
		free(directory);
		return -1;
	}
	segment_reset(tail, max_entries(keeper));
	atomic64_store_release(&tail->base, 1); /* [O2] */
	directory->segments[0] = tail;
	keeper->chain_bytes = tail->counted_bytes;
	atomic_store_pointer_release(&log->directory, directory); /* [O5] */
	atomic_store_pointer_release(&log->tail, tail);           /* [O9] */
	return 0;
}

/* What was found in files. */
static int take_chain(struct keeper *keeper, struct recovery *found)
{
	struct log *log = keeper->log;
	assert(found->count > 0 && found->tail < found->count);
	struct directory *directory = directory_new(found->count);
	if (directory == NULL)
		return -1;
	for (size_t i = 0; i < found->count; i++) {
		directory->segments[i] = found->segments[i];
		keeper->chain_bytes += found->segments[i]->counted_bytes;
	}
	keeper->first_file = found->segments[0]->file.number;
	found->count = 0;                                         /* they are ours */
	atomic_store_pointer_release(&log->directory, directory); /* [O5] */
	atomic_store_pointer_release(&log->tail, directory->segments[found->tail]); /* [O9] */
	return 0;
}

static void free_chain(struct keeper *keeper)
{
	struct directory *directory = keeper->log->directory;
	for (size_t i = 0; i < directory->count; i++)
		segment_free(directory->segments[i]);
	free(directory);
}

int keeper_start(struct log *log, const struct log_options *options, struct recovery *found)
{
	struct keeper *keeper = aligned_alloc(CACHE_LINE, sizeof *keeper);
	if (keeper == NULL)
		return -1;
	memset(keeper, 0, sizeof *keeper);
	keeper->log = log;
	keeper->retain_bytes = options->retain_bytes;
	keeper->retain_messages = options->retain_messages;
	keeper->retain_age_us = options->retain_age_us;
	if (background_open(&keeper->background) != 0) {
		free(keeper);
		return -1;
	}
	epoch_register(&log->epoch, &keeper->epoch);
	if ((found != NULL ? take_chain(keeper, found) : build_chain(keeper)) != 0)
		goto fail;
	publish_bytes(keeper);
	log->keeper = keeper; /* the thread's first pass may roll, which kicks us */
	if (background_start(&keeper->background, keep, keeper) == 0)
		return 0;
	free_chain(keeper);
fail:
	log->keeper = NULL;
	background_close(&keeper->background);
	free(keeper);
	return -1;
}

void keeper_stop(struct keeper *keeper)
{
	background_stop(&keeper->background);
}

void keeper_free(struct keeper *keeper)
{
	epoch_drain(&keeper->epoch);
	free_held(keeper);
	release_free_segments(keeper);
	free_chain(keeper);
	background_close(&keeper->background);
	free(keeper);
}
