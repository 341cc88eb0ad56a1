/* SPDX-License-Identifier: MIT */
#include "log/recover.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "log/scan.h"

/* How the run before ended. */
enum ending { ENDED_CLEAN, ENDED_PROCESS, ENDED_MACHINE };

/* One file. */
struct found {
	struct segment *segment; /* ours until it is in the recovery */
	struct segment_header header;
	struct scan scan; /* of those not stored */
	uint64_t synced;
	uint64_t base, end; /* ids base .. end - 1, once judged */
	enum loss loss;     /* of what is missing before base */
	bool is_stored;
};

struct work {
	struct store *store;
	const struct log_options *options;
	uint32_t max_entries;
	struct recovery *out;
	char *error;
	size_t error_size;

	struct found *found;
	size_t count;
	uint64_t first_number;
	size_t stored;      /* the first so many are sealed and synced */
	size_t begun;       /* the first so many have a base */
	uint64_t end;       /* behind the last id of all that are judged */
	uint64_t id_bound;  /* of all files: no id is above it */
	uint64_t newest_us; /* of all that are settled */
	enum ending ending;
};

/* ---- refusing ---- */

static int __attribute__((format(printf, 2, 3))) fail(struct work *work, const char *format, ...)
{
	char text[LOG_ERROR_MAX / 2];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	snprintf(work->error, work->error_size, "%s/%s", store_dir(work->store), text);
	return -1;
}

/* A file holds what it can't hold by anything that psad did. */
static int __attribute__((format(printf, 3, 4)))
refuse(struct work *work, const struct found *found, const char *format, ...)
{
	char text[LOG_ERROR_MAX / 4], name[STORE_NAME_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	store_name(found->segment->file.number, name);
	return fail(
		work,
		"%s: %s; nothing has been changed: psad --repair keeps what is good and says what "
		"is missing",
		name, text);
}

/* The ids first .. last of a file are not what they were. */
static int refuse_ids(struct work *work, const struct found *found, uint64_t first, uint64_t last)
{
	uint64_t slot =
		found->segment->size - (first - found->base + 1) * (uint64_t)sizeof(struct entry);
	return refuse(work, found,
	              "messages %" PRIu64 " to %" PRIu64 " are damaged (index at byte %" PRIu64 ")",
	              first, last, slot);
}

/* ---- reading ---- */

static int draw(void *at, size_t n)
{
	return getrandom(at, n, 0) == (ssize_t)n ? 0 : -1;
}

/* Nothing is here: the beginning of a new log. */
static int begin_log(struct work *work)
{
	struct store_log *log = &work->out->log;

	*log = (struct store_log){.end = STORE_NEW};
	if (draw(&log->identity, sizeof log->identity) != 0 ||
	    draw(&log->key, sizeof log->key) != 0)
		return fail(work, "log: the system has no random numbers");
	int error = store_write_log(work->store, log);
	return error == 0 ? 0 : fail(work, "log: can't be written: %s", strerror(-error));
}

static enum ending ending_of(const struct work *work)
{
	const struct store_log *log = &work->out->log;
	const char *boot = store_boot(work->store);

	if (log->end == STORE_CLEAN)
		return ENDED_CLEAN;
	if (log->end == STORE_NEW || store_is_in_memory(work->store) ||
	    (boot[0] != '\0' && strcmp(boot, log->boot) == 0))
		return ENDED_PROCESS;
	return ENDED_MACHINE;
}

static int read_log(struct work *work, size_t files)
{
	struct store_log *log = &work->out->log;
	int error = store_read_log(work->store, log, work->error, work->error_size);

	if (error == -ENOENT && files > 0)
		return fail(work, "log: is missing, though there are segments; psad --repair makes "
		                  "a new one from them");
	if (error == -ENOENT)
		error = begin_log(work);
	if (error != 0)
		return -1;
	if (files == 0 && log->end != STORE_NEW)
		return fail(work,
		            "log: says that there was a log, but its segments are gone; for a "
		            "new log remove this file");
	store_set_key(work->store, log->key);
	work->ending = ending_of(work);
	return 0;
}

/* Whether the header says that the file is complete and on disk. */
static bool is_sealed(const struct found *found)
{
	return found->header.failed == 0 &&
	       header_seal_is_good(&found->header.seal, found->segment->key);
}

static int read_header(struct work *work, struct found *found, uint64_t number)
{
	found->segment = store_open_segment(work->store, number, &found->header, work->error,
	                                    work->error_size);
	if (found->segment == NULL)
		return -1;
	if (!header_gap_is_good(&found->header.gap, found->segment->key) ||
	    !header_synced(&found->header, &found->synced))
		return refuse(work, found, "its header is damaged");
	if (found->segment->file.id_bound > work->id_bound)
		work->id_bound = found->segment->file.id_bound;
	return 0;
}

/* All of a file that was being written is looked at. */
static int read_entries(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	char *map = NULL;

	/* What a former summary said is computed anew. */
	free((void *)(uintptr_t)segment->filter);
	segment->filter = NULL;
	int error = store_map_to_append(work->store, segment, &map);
	if (error == 0) {
		segment_publish(segment, map, NULL);
		error = scan_segment(segment, map, &found->scan);
	}
	if (error != 0)
		return fail(work, "%020" PRIu64 ".seg: can't be mapped: %s", segment->file.number,
		            strerror(-error));
	if (segment_is_damaged(segment))
		return refuse(work, found, "can't be read");
	return 0;
}

static int read_files(struct work *work, const uint64_t *numbers)
{
	const struct log_options *options = work->options;
	bool all_stored = true;

	work->first_number = work->count > 0 ? numbers[0] : 1;

	for (size_t i = 0; i < work->count; i++) {
		struct found *found = &work->found[i];
		if (i > 0 && numbers[i] != numbers[i - 1] + 1)
			return fail(work,
			            "%020" PRIu64
			            ".seg: is missing; nothing has been changed: psad "
			            "--repair says which messages are gone",
			            numbers[i - 1] + 1);
		if (read_header(work, found, numbers[i]) != 0)
			return -1;
		all_stored = all_stored && is_sealed(found);
		found->is_stored = all_stored;
		if (found->is_stored) {
			store_close_file(found->segment);
			work->stored = i + 1;
		} else if (read_entries(work, found) != 0) {
			return -1;
		}
		if (found->is_stored || found->scan.entries > 0 || found->header.gap.base != 0)
			work->begun = i + 1;
		if (options->progress != NULL)
			options->progress(options->context, i + 1, work->count);
	}
	return 0;
}

/* ---- judging: nothing is changed yet ---- */

/* What is missing between the file before and this one, which begins at a later id. */
static int judge_gap(struct work *work, struct found *found)
{
	const struct found *before = found - 1;
	const struct header_gap *gap = &found->header.gap;

	if (gap->base == found->base && gap->loss != LOSS_NONE) {
		found->loss = (enum loss)gap->loss; /* it was found out before */
		return 0;
	}
	if (!before->is_stored && work->ending == ENDED_PROCESS)
		found->loss = LOSS_VOID;
	else if (!before->is_stored && work->ending == ENDED_MACHINE)
		found->loss = LOSS_LOST; /* none is synced: judge_end() has seen to that */
	else
		return refuse(work, found,
		              "begins with message %" PRIu64
		              ", but the file before ends with %" PRIu64,
		              found->base, work->end - 1);
	return 0;
}

static int judge_base(struct work *work, struct found *found)
{
	const uint64_t said = found->header.gap.base;
	uint64_t base = found->is_stored        ? found->header.seal.base
	                : found->scan.base != 0 ? found->scan.base
	                : said != 0             ? said
	                                        : work->end;

	if (base == 0)
		return refuse(work, found, "nothing says with which message it begins");
	found->base = base;
	if ((said != 0 && said != base) || base < work->end)
		return refuse(work, found, "begins with message %" PRIu64 ", which can't be", base);
	return base > work->end && work->end != 0 ? judge_gap(work, found) : 0;
}

/* Each hole becomes what it means. */
static int judge_holes(struct work *work, struct found *found)
{
	struct gaps *holes = found->scan.holes.gaps;

	for (size_t i = 0; holes != NULL && i < holes->count; i++) {
		struct gap *hole = &holes->at[i];
		uint64_t from = found->base + hole->from, to = found->base + hole->to;
		bool is_void = work->ending == ENDED_PROCESS && hole->loss == LOSS_VOID;
		bool is_lost = work->ending == ENDED_MACHINE && from > found->synced;
		if (!is_void && !is_lost)
			return refuse_ids(work, found, from, to);
		hole->loss = is_void ? LOSS_VOID : LOSS_LOST;
	}
	return 0;
}

static int judge_end(struct work *work, struct found *found)
{
	if (found->synced >= found->end && found->synced != 0)
		return refuse_ids(work, found, found->end, found->synced);
	/* After the machine's death anything may stand there; it is lost, as all that may be behind. */
	if (work->ending != ENDED_MACHINE && found->scan.is_cut)
		return refuse_ids(work, found, found->end, found->end);
	return 0;
}

static int judge(struct work *work, struct found *found)
{
	if (judge_base(work, found) != 0)
		return -1;
	found->end =
		found->base + (found->is_stored ? found->header.seal.entries : found->scan.entries);
	work->end = found->end;
	if (found->end - 1 > found->segment->file.id_bound)
		return refuse(work, found, "has more messages than it can have");
	if (found->is_stored)
		return 0;
	return judge_end(work, found) != 0 ? -1 : judge_holes(work, found);
}

/* Files that were made ahead and never used, as far as can be told. */
static int judge_spare(struct work *work, struct found *found)
{
	found->base = found->end = work->end;
	return judge_end(work, found);
}

static int judge_all(struct work *work)
{
	const struct store_log *log = &work->out->log;

	for (size_t i = 0; i < work->count; i++) {
		struct found *found = &work->found[i];
		if ((i < work->begun ? judge : judge_spare)(work, found) != 0)
			return -1;
	}
	if (work->count > 0 && work->begun == 0)
		return refuse(work, &work->found[0], "nothing says with which message it begins");
	if (work->ending == ENDED_CLEAN && work->end - 1 != log->head)
		return refuse(work, &work->found[work->begun - 1],
		              "ends with message %" PRIu64 ", but the log was closed with %" PRIu64,
		              work->end - 1, log->head);
	return 0;
}

/* ---- settling: what was judged is written down ---- */

static int fail_to_write(struct work *work, const struct found *found, int error)
{
	return fail(work, "%020" PRIu64 ".seg: can't be written: %s", found->segment->file.number,
	            strerror(-error));
}

/* What is read of a file that a sync has failed for may not be on the disk: a copy will be. */
static int replace_failed(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	char *map = segment_map(segment);

	segment_publish(segment, NULL, NULL);
	store_unmap(segment, map);
	int error = store_replace_by_copy(work->store, segment);
	if (error == 0)
		error = store_map_to_append(work->store, segment, &map);
	if (error != 0)
		return fail_to_write(work, found, error);
	segment_publish(segment, map, NULL);
	return 0;
}

/* Writes markers into the slots of the holes. */
static void mark_holes(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	const struct gaps *holes = found->scan.holes.gaps;
	char *map = segment_map(segment);

	for (size_t n = 0; holes != NULL && n < holes->count; n++)
		for (uint32_t i = (uint32_t)holes->at[n].from; i <= holes->at[n].to; i++) {
			uint64_t time_us =
				i == 0 ? work->newest_us
				       : entry_time_us(map_entry(map, segment->size, i - 1));
			entry_mark(map_entry(map, segment->size, i), found->base + i, time_us,
			           holes->at[n].loss, segment);
		}
}

/* The gaps of a segment are its markers, those of former recoveries too. 0 or -ENOMEM. */
static int publish_gaps(struct found *found)
{
	struct segment *segment = found->segment;
	struct gap_list list = {.gaps = NULL};
	char *map = segment_map(segment);

	if (found->scan.holes.gaps == NULL && !found->scan.has_markers)
		return 0;
	int error = segment_verify(segment, map, 0, found->scan.entries, &list);
	if (error != 0)
		free(list.gaps);
	else
		segment_publish(segment, map, list.gaps);
	return error;
}

static void settle_stored(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	const struct header_seal *seal = &found->header.seal;

	atomic64_store_release(&segment->state, (uint64_t)seal->bytes << 32 |
	                                                (uint64_t)seal->entries << 1 |
	                                                1); /* [O4] */
	segment->first_time_us = seal->first_time_us;
	segment->last_time_us = seal->last_time_us;
	atomic32_store_release(&segment->has_summary, 1);    /* [O13] */
	atomic32_store_release(&segment->file.is_stored, 1); /* [O17] */
	work->newest_us = seal->last_time_us;
}

static int settle_written(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	uint32_t entries = found->scan.entries;

	if (found->header.failed != 0 && replace_failed(work, found) != 0)
		return -1;
	char *map = segment_map(segment);
	struct segment_header *header = (void *)map;
	if (found->loss != LOSS_NONE && found->header.gap.base == 0)
		header_set_gap(header, found->base, found->loss);
	mark_holes(work, found);
	if (found->scan.is_littered)
		scan_wipe(segment, map, &found->scan);
	atomic64_store_release(&segment->state,
	                       (uint64_t)(found->scan.data_end - SEGMENT_HEADER_SIZE) << 32 |
	                               (uint64_t)entries << 1); /* [O4] */
	if (entries > 0)
		work->newest_us = entry_time_us(map_entry(map, segment->size, entries - 1));
	if (publish_gaps(found) != 0)
		return fail(work, "log: no memory to open it");
	/* What was known to be on disk still is; after the machine's death it all is, or was never. */
	segment->file.synced = found->synced;
	if (work->ending != ENDED_MACHINE && work->options->sync != LOG_SYNC_ALWAYS)
		return 0;
	if (fdatasync(segment->file.fd) != 0)
		return fail_to_write(work, found, -errno);
	segment->file.synced = found->end - 1;
	return 0;
}

static int settle(struct work *work, struct found *found)
{
	atomic64_store_release(&found->segment->base, found->base); /* [O2] */
	found->segment->loss = found->loss;
	if (!found->is_stored)
		return settle_written(work, found);
	settle_stored(work, found);
	found->segment->file.synced = found->end - 1;
	return 0;
}

/* A segment that takes no more: the keeper computes what its summary is, except of nothing. */
static void close_segment(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;

	if (found->is_stored)
		return;
	segment_seal(segment);
	if (found->end > found->base)
		return;
	segment->first_time_us = segment->last_time_us = work->newest_us;
	atomic32_store_release(&segment->has_summary, 1); /* [O13] */
}

/* ---- going on ---- */

/* Whether appending can go on in the last segment that has been begun. */
static bool can_go_on(const struct work *work)
{
	const struct found *last = &work->found[work->begun - 1];

	return work->ending != ENDED_MACHINE && !last->is_stored &&
	       last->segment->size == work->options->segment_size;
}

/* Whether a spare is as we would make it, behind one with that bound. */
static bool is_usable_spare(const struct work *work, const struct found *spare, uint64_t bound)
{
	const struct segment *segment = spare->segment;

	return work->ending != ENDED_MACHINE && segment->size == work->options->segment_size &&
	       segment->max_entries == work->max_entries && spare->header.failed == 0 &&
	       segment->file.id_bound >=
	               bound + header_capacity(segment->size, segment->max_entries);
}

/*
 * After the machine's death the log goes on above all ids that may have been given out. An empty
 * segment at the end is replaced then: a machine that dies often does not fill the log with them.
 */
static bool is_to_be_replaced(const struct work *work)
{
	const struct found *last = &work->found[work->begun - 1];

	return work->ending == ENDED_MACHINE && work->begun > 1 && last->end == last->base &&
	       (last->loss == LOSS_LOST || last[-1].end == last->base);
}

/* Makes the file that the log goes on in, as number `nth` of ours. */
static struct segment *make_tail(struct work *work, size_t nth)
{
	bool is_lost = work->ending == ENDED_MACHINE;
	uint64_t before = is_lost          ? work->id_bound
	                  : nth > 0        ? work->out->segments[nth - 1]->file.id_bound
	                  : work->end == 0 ? 0
	                                   : work->end - 1;
	const struct store_plan plan = {
		.number = work->first_number + nth,
		.size = work->options->segment_size,
		.max_entries = work->max_entries,
		.before = before,
		.base = is_lost          ? work->id_bound + 1
	                : work->end == 0 ? 1
	                                 : work->end,
		.loss = is_lost ? LOSS_LOST : LOSS_NONE,
	};
	int error = 0;
	struct segment *segment = store_make_segment(work->store, &plan, &error);
	if (segment == NULL) {
		fail(work, "%020" PRIu64 ".seg: can't be made: %s", plan.number, strerror(-error));
		return NULL;
	}
	atomic64_store_release(&segment->base, plan.base); /* [O2] */
	segment->file.synced = plan.base - 1;
	work->end = plan.base;
	return segment;
}

static void add(struct work *work, struct found *found)
{
	struct recovery *out = work->out;
	if (out->count > 0)
		atomic_store_pointer_release(&out->segments[out->count - 1]->next,
		                             found->segment); /* [O3] */
	out->segments[out->count++] = found->segment;
	found->segment = NULL;
}

/* The spare that is the tail from now on. */
static int take_spare(struct work *work, struct found *spare)
{
	struct segment *segment = spare->segment;
	struct segment_header *header = (void *)segment_map(segment);

	if (spare->scan.is_littered)
		scan_wipe(segment, segment_map(segment), &spare->scan);
	header_set_gap(header, work->end, LOSS_NONE);
	if (fdatasync(segment->file.fd) != 0)
		return fail_to_write(work, spare, -errno);
	atomic64_store_release(&segment->base, work->end); /* [O2] */
	segment->file.synced = work->end - 1;
	return 0;
}

/* Spares from `nth` on are linked behind as long as they fit, and the rest is removed, last first. */
static int keep_spares(struct work *work, size_t nth)
{
	size_t kept = nth;

	for (; kept < work->count; kept++) {
		const struct segment *last = work->out->segments[work->out->count - 1];
		struct found *spare = &work->found[kept];
		if (!is_usable_spare(work, spare, last->file.id_bound))
			break;
		if (spare->scan.is_littered)
			scan_wipe(spare->segment, segment_map(spare->segment), &spare->scan);
		add(work, spare);
	}
	for (size_t i = work->count; i-- > kept;) {
		int error = store_unlink(work->store, work->found[i].segment->file.number);
		if (error != 0)
			return fail(work, "%020" PRIu64 ".seg: can't be removed: %s",
			            work->found[i].segment->file.number, strerror(-error));
	}
	return 0;
}

/* Builds the chain: what is there, the tail, the spares. */
static int go_on(struct work *work)
{
	struct recovery *out = work->out;
	bool goes_on = work->begun > 0 && can_go_on(work);
	size_t tail = work->begun == 0                     ? 0
	              : goes_on || is_to_be_replaced(work) ? work->begun - 1
	                                                   : work->begun;

	for (size_t i = 0; i < tail; i++) {
		close_segment(work, &work->found[i]);
		add(work, &work->found[i]);
	}
	out->tail = tail;
	uint64_t bound = tail > 0 ? out->segments[tail - 1]->file.id_bound : 0;
	if (goes_on) {
		struct segment *segment = work->found[tail].segment;
		if (segment->max_entries > work->max_entries)
			segment->max_entries = work->max_entries;
		add(work, &work->found[tail]);
	} else if (tail < work->count && tail >= work->begun &&
	           is_usable_spare(work, &work->found[tail], bound)) {
		if (take_spare(work, &work->found[tail]) != 0)
			return -1;
		add(work, &work->found[tail]);
	} else {
		struct found made = {.segment = make_tail(work, tail)};
		if (made.segment == NULL)
			return -1;
		add(work, &made);
	}
	return keep_spares(work, tail + 1);
}

static int begin_run(struct work *work)
{
	struct recovery *out = work->out;

	out->head = work->end - 1;
	out->newest_us = work->newest_us;
	out->synced = 0;
	for (size_t i = 0; i <= out->tail; i++)
		if (out->segments[i]->file.synced > out->synced)
			out->synced = out->segments[i]->file.synced;
	if (work->ending == ENDED_CLEAN)
		out->synced = out->segments[out->tail]->file.synced = out->head;
	out->log.end = STORE_OPEN;
	out->log.head = 0;
	snprintf(out->log.boot, sizeof out->log.boot, "%s", store_boot(work->store));
	int error = store_write_log(work->store, &out->log);
	return error == 0 ? 0 : fail(work, "log: can't be written: %s", strerror(-error));
}

static int work_through(struct work *work, const uint64_t *numbers)
{
	if (read_log(work, work->count) != 0 || read_files(work, numbers) != 0 ||
	    judge_all(work) != 0)
		return -1;
	for (size_t i = 0; i < work->begun; i++)
		if (settle(work, &work->found[i]) != 0)
			return -1;
	return go_on(work) != 0 ? -1 : begin_run(work);
}

int recover(struct store *store, const struct log_options *options, uint32_t max_entries,
            struct recovery *recovery, char *error, size_t error_size)
{
	struct work work = {.store = store,
	                    .options = options,
	                    .max_entries = max_entries,
	                    .out = recovery,
	                    .error = error,
	                    .error_size = error_size};
	uint64_t *numbers = NULL;
	int result = store_list(store, &numbers, &work.count);

	*recovery = (struct recovery){.segments = NULL};
	if (result != 0)
		return fail(&work, ": can't be read: %s", strerror(-result));
	/* Aligned: headers are. */
	work.found = aligned_alloc(_Alignof(struct found), (work.count + 1) * sizeof *work.found);
	recovery->segments = calloc(work.count + 2, sizeof(struct segment *));
	if (work.found == NULL || recovery->segments == NULL)
		result = fail(&work, "log: no memory to open it");
	if (work.found != NULL)
		memset(work.found, 0, (work.count + 1) * sizeof *work.found);
	if (result == 0)
		result = work_through(&work, numbers);
	for (size_t i = 0; work.found != NULL && i < work.count; i++) {
		if (work.found[i].segment != NULL)
			segment_free(work.found[i].segment);
		free(work.found[i].scan.holes.gaps);
	}
	free(work.found);
	free(numbers);
	if (result != 0)
		recovery_free(recovery);
	return result;
}

void recovery_free(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->count; i++)
		segment_free(recovery->segments[i]);
	free(recovery->segments);
	*recovery = (struct recovery){.segments = NULL};
}
