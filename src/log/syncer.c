/* SPDX-License-Identifier: MIT */
/* Model: tests/models/syncer.pml */
#include "log/syncer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/diag.h"
#include "log/chain.h"
#include "log/store.h"
#include "log/warmer.h"

enum { TICK_MS = 1000, JOBS_MAX = 16 };

struct syncer {
	/* [O21] sleep: store, full fence, look at the log; syncer_announce: full fence behind the
	 * commit, look: one of the two sees the other. */
	_Alignas(CACHE_LINE) uint32_t sleeps;
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct log *log;
	struct background background;
	uint32_t is_kicked;   /* set before the kick, which orders it */
	uint64_t interval_us; /* relaxed: a limit stands alone */
	struct beat beat;
	uint64_t last_sync_us, last_watch_us;
	uint64_t stored_below; /* all files with a smaller number are stored */
	bool has_said;         /* why the log has failed */
};

/* A segment to be synced, held. */
struct job {
	struct segment *segment;
	uint64_t upto; /* what is committed of it */
	bool seals;
};

/* ---- failing ---- */

static void fail(struct syncer *syncer, struct segment *segment, const char *what)
{
	struct log *log = syncer->log;
	char name[STORE_NAME_MAX];

	if (syncer->has_said)
		return;
	syncer->has_said = true;
	store_name(segment->file.number, name);
	diag(DIAG_ERROR,
	     "%s/%s: %s: nothing more is taken until a restart; what is there can still be read",
	     store_dir(log->store), name, what);
	((struct segment_header *)(void *)segment_map(segment))->failed = 1;
	log_fail(log);
	wake_ring(log->wake);
}

/* Whether what we write gets into the file that bears the segment's name. */
static bool is_still_there(struct syncer *syncer, struct segment *segment)
{
	if (segment_is_damaged(segment)) {
		fail(syncer, segment, "was cut short, or can't be read");
		return false;
	}
	/* The file is looked at first: retention says so before it removes one. */
	if (store_has_file(syncer->log->store, segment) || segment_is_retired(segment))
		return true;
	fail(syncer, segment, "was removed or changed by somebody");
	return false;
}

static int sync_file(struct syncer *syncer, struct segment *segment)
{
	char what[128];

	if (fdatasync(segment->file.fd) == 0)
		return 0;
	snprintf(what, sizeof what, "can't be synced (%s)", strerror(errno));
	fail(syncer, segment, what);
	return -1;
}

/* ---- what there is to do ---- */

/* What has to be done for this segment, of which `upto` is the last id committed. */
static bool has_work(const struct syncer *syncer, const struct job *job, bool is_last)
{
	if (job->seals)
		return true;
	bool is_due = syncer->log->sync != LOG_SYNC_NO || is_last;
	return is_due && job->upto > job->segment->file.synced;
}

/*
 * Where in the directory those begin that are not stored; what is stored stays so, and of a long
 * log that is nearly all of it. Inside a section.
 */
static size_t skip_stored(struct syncer *syncer, const struct directory *directory)
{
	/* Numbers are dense. */
	const uint64_t first = directory->segments[0]->file.number;
	size_t i = syncer->stored_below > first ? syncer->stored_below - first : 0;

	while (i < directory->count && segment_is_stored(directory->segments[i]))
		i++;
	syncer->stored_below = first + i;
	return i;
}

/* Holds the segments that are not all on the disk, oldest first; returns how many. */
static size_t collect(struct syncer *syncer, struct job jobs[JOBS_MAX], bool is_last)
{
	struct log *log = syncer->log;
	size_t count = 0;

	epoch_enter(&syncer->epoch);
	uint64_t committed = log_committed(log);
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	for (size_t i = skip_stored(syncer, directory); i < directory->count && count < JOBS_MAX;
	     i++) {
		struct segment *segment = directory->segments[i];
		uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
		if (base > committed + 1)                              /* not begun either */
			break;
		if (segment_is_stored(segment))
			continue;
		uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
		uint64_t last = base + state_entries(state) - 1;
		struct job job = {.segment = segment, .upto = last < committed ? last : committed};
		job.seals =
			state_is_sealed(state) && last <= committed && segment_has_summary(segment);
		if (!has_work(syncer, &job, is_last))
			continue;
		segment_hold(segment);
		jobs[count++] = job;
	}
	epoch_leave(&syncer->epoch);
	return count;
}

/* Everything up to `id` is on the disk. */
static void raise_synced(struct log *log, uint64_t id)
{
	if (id <= atomic64_load_relaxed(&log->synced)) /* we alone write it */
		return;
	atomic64_store_release(&log->synced, id); /* [O19] */
	if (log->shows_synced)
		wake_ring(log->wake);
}

static int seal(struct syncer *syncer, struct segment *segment)
{
	/* From here on nobody looks whether it is still there, until it is read again. */
	if (!is_still_there(syncer, segment))
		return -1;
	header_set_seal((struct segment_header *)(void *)segment_map(segment), segment);
	if (sync_file(syncer, segment) != 0)
		return -1;
	store_close_file(segment);
	atomic32_store_release(&segment->file.is_stored, 1); /* [O17] */
	warmer_kick(syncer->log->warmer);                    /* there may be too many mapped now */
	return 0;
}

static int run_job(struct syncer *syncer, const struct job *job)
{
	struct segment *segment = job->segment;

	if (job->upto > segment->file.synced) {
		if (sync_file(syncer, segment) != 0)
			return -1;
		segment->file.synced = job->upto;
		raise_synced(syncer->log, job->upto);
		header_set_synced((struct segment_header *)(void *)segment_map(segment), job->upto);
	}
	return job->seals ? seal(syncer, segment) : 0;
}

/* Syncs what there is to sync, once. False: the log has failed. */
static bool sync_all(struct syncer *syncer, bool is_last)
{
	struct job jobs[JOBS_MAX];
	size_t count = JOBS_MAX;
	int error = 0;

	while (count == JOBS_MAX && error == 0) {
		count = collect(syncer, jobs, is_last);
		for (size_t i = 0; i < count; i++) {
			if (error == 0)
				error = run_job(syncer, &jobs[i]);
			segment_let_go(jobs[i].segment);
		}
	}
	syncer->last_sync_us = clock_mono_us();
	return error == 0;
}

/* Once a second: whether the files that are written to are still the log's. */
static void watch(struct syncer *syncer)
{
	struct log *log = syncer->log;

	epoch_enter(&syncer->epoch);
	const struct directory *directory = atomic_load_pointer_acquire(&log->directory); /* [O5] */
	for (size_t i = skip_stored(syncer, directory); i < directory->count; i++)
		if (!segment_is_stored(directory->segments[i]))
			(void)is_still_there(syncer, directory->segments[i]);
	epoch_leave(&syncer->epoch);
}

/* ---- the thread ---- */

static bool has_news(struct syncer *syncer)
{
	epoch_enter(&syncer->epoch);
	uint64_t committed = log_committed(syncer->log);
	epoch_leave(&syncer->epoch);
	return committed > atomic64_load_relaxed(&syncer->log->synced); /* we alone write it */
}

/* Waits until something is committed or has to be sealed, or a second. */
static void sleep_until_kicked(struct syncer *syncer)
{
	bool follows = syncer->log->sync != LOG_SYNC_NO && !log_has_failed(syncer->log);

	atomic32_store_relaxed(&syncer->sleeps, follows);
	fence_full(); /* [O21] `sleeps` before the look at the log */
	if (!follows || !has_news(syncer))
		background_sleep(&syncer->background, TICK_MS);
	atomic32_store_relaxed(&syncer->sleeps, 0); /* a kick too many costs a turn */
}

/* How long until the next sync is due; 0: it is. */
static uint64_t until_due_us(const struct syncer *syncer)
{
	uint64_t due_us = syncer->last_sync_us +
	                  atomic64_load_relaxed(&syncer->interval_us); /* stands alone */
	uint64_t now_us = clock_mono_us();
	return now_us < due_us ? due_us - now_us : 0;
}

/*
 * The rest of the interval, in which commits come together. Who stirs us, or changes the interval,
 * does not end it; a segment to be sealed does.
 */
static void wait_for_interval(struct syncer *syncer)
{
	uint64_t left_us;

	if (syncer->log->sync != LOG_SYNC_INTERVAL)
		return;
	while ((left_us = until_due_us(syncer)) > 0 &&
	       !background_is_stopping(&syncer->background) &&
	       atomic32_load_relaxed(&syncer->is_kicked) == 0) {
		uint64_t left_ms = left_us / 1000 + 1;
		background_sleep(&syncer->background, left_ms < TICK_MS ? (int)left_ms : TICK_MS);
		beat_raise(&syncer->beat);
	}
	atomic32_store_relaxed(&syncer->is_kicked, 0); /* what it is about is looked at now */
}

static void *run(void *context)
{
	struct syncer *syncer = context;

	pthread_setname_np(pthread_self(), "psad-syncer");
	while (!background_is_stopping(&syncer->background)) {
		beat_raise(&syncer->beat);
		sleep_until_kicked(syncer);
		if (log_has_failed(syncer->log)) {
			if (!syncer->has_said) /* a publisher has found out */
				watch(syncer);
			continue;
		}
		if (clock_mono_us() - syncer->last_watch_us >= TICK_MS * UINT64_C(1000)) {
			watch(syncer);
			syncer->last_watch_us = clock_mono_us();
		}
		wait_for_interval(syncer);
		if (!log_has_failed(syncer->log))
			(void)sync_all(syncer, false);
	}
	beat_end(&syncer->beat);
	return NULL;
}

/* ---- from outside ---- */

void syncer_stir(struct syncer *syncer)
{
	background_kick(&syncer->background);
}

void syncer_kick(struct syncer *syncer)
{
	atomic32_store_relaxed(&syncer->is_kicked, 1); /* the kick orders it */
	syncer_stir(syncer);
}

void syncer_set_interval(struct syncer *syncer, uint64_t interval_us)
{
	atomic64_store_relaxed(&syncer->interval_us, interval_us); /* stands alone */
	syncer_stir(syncer);
}

const struct beat *syncer_beat(const struct syncer *syncer)
{
	return &syncer->beat;
}

void syncer_announce(struct syncer *syncer)
{
	fence_full(); /* [O21] the commit before the look at `sleeps` */
	if (atomic32_load_relaxed(&syncer->sleeps) == 0)
		return;
	if (atomic32_exchange(&syncer->sleeps, 0) != 0) /* else somebody else does */
		syncer_stir(syncer);
}

struct syncer *syncer_new(struct log *log, uint64_t interval_us)
{
	struct syncer *syncer = aligned_alloc(CACHE_LINE, sizeof *syncer);
	if (syncer == NULL)
		return NULL;
	memset(syncer, 0, sizeof *syncer);
	syncer->log = log;
	syncer->interval_us = interval_us;
	syncer->last_watch_us = clock_mono_us();
	if (background_open(&syncer->background) != 0) {
		free(syncer);
		return NULL;
	}
	epoch_register(&log->epoch, &syncer->epoch);
	return syncer;
}

int syncer_start(struct syncer *syncer)
{
	return background_start(&syncer->background, run, syncer);
}

void syncer_stop(struct syncer *syncer)
{
	background_stop(&syncer->background);
}

bool syncer_finish(struct syncer *syncer)
{
	if (!log_has_failed(syncer->log))
		watch(syncer);
	return !log_has_failed(syncer->log) && sync_all(syncer, true);
}

void syncer_free(struct syncer *syncer)
{
	if (syncer == NULL)
		return;
	background_close(&syncer->background);
	free(syncer);
}
