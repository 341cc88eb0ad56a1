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

#include "log/settle.h"

/* ---- refusing ---- */

int recover_fail(struct work *work, const char *format, ...)
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
	return recover_fail(
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
		return recover_fail(work, "log: the system has no random numbers");
	int error = store_write_log(work->store, log);
	return error == 0 ? 0 : recover_fail(work, "log: can't be written: %s", strerror(-error));
}

enum ending recover_ending(const struct store *store, const struct store_log *log)
{
	const char *boot = store_boot(store);

	if (log->end == STORE_CLEAN)
		return ENDED_CLEAN;
	if (log->end == STORE_NEW || store_is_in_memory(store) ||
	    (boot[0] != '\0' && strcmp(boot, log->boot) == 0))
		return ENDED_PROCESS;
	return ENDED_MACHINE;
}

static int read_log(struct work *work, size_t files)
{
	struct store_log *log = &work->out->log;
	int error = store_read_log(work->store, log, work->error, work->error_size);

	if (error == -ENOENT && files > 0)
		return recover_fail(
			work, "log: is missing, though there are segments; psad --repair makes "
			      "a new one from them");
	if (error == -ENOENT)
		error = work->only_tries ? recover_fail(work, "log: is missing") : begin_log(work);
	if (error != 0)
		return -1;
	if (files == 0 && log->end != STORE_NEW)
		return recover_fail(
			work, "log: says that there was a log, but its segments are gone; for a "
			      "new log remove this file");
	store_set_key(work->store, log->key);
	work->ending = recover_ending(work->store, log);
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
	/* A process that dies leaves no more open than its threads had claimed. */
	uint32_t max_hole = work->ending == ENDED_PROCESS ? LOG_CLAIMED_MAX : UINT32_MAX;
	char *map = NULL;

	/* What a former summary said is computed anew. */
	free((void *)(uintptr_t)segment->filter);
	segment->filter = NULL;
	int error = store_map_to_append(work->store, segment, &map);
	if (error == 0) {
		segment_publish(segment, map, NULL);
		error = scan_segment(segment, map, max_hole, &found->scan);
	}
	if (error != 0)
		return recover_fail(work, "%020" PRIu64 ".seg: can't be mapped: %s",
		                    segment->file.number, strerror(-error));
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
			return recover_fail(work,
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
		/* Only what was committed to its end is ever said to be synced. */
		bool is_void = work->ending == ENDED_PROCESS && hole->loss == LOSS_VOID &&
		               from > found->synced;
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
	/* After the machine's death anything may stand there; it is lost, as all that may be
	 * behind. */
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

static int work_through(struct work *work, const uint64_t *numbers)
{
	if (read_log(work, work->count) != 0 || read_files(work, numbers) != 0 ||
	    judge_all(work) != 0)
		return -1;
	return work->only_tries ? 0 : settle(work);
}

/* The work, which has what it is to go by. 0 or -1. */
static int begin_work(struct work *work)
{
	struct recovery *recovery = work->out;
	uint64_t *numbers = NULL;
	int result = store_list(work->store, &numbers, &work->count);

	*recovery = (struct recovery){.segments = NULL};
	if (result != 0)
		return recover_fail(work, ": can't be read: %s", strerror(-result));
	/* Aligned: headers are. */
	work->found =
		aligned_alloc(_Alignof(struct found), (work->count + 1) * sizeof *work->found);
	recovery->segments = calloc(work->count + 2, sizeof(struct segment *));
	if (work->found == NULL || recovery->segments == NULL)
		result = recover_fail(work, "log: no memory to open it");
	if (work->found != NULL)
		memset(work->found, 0, (work->count + 1) * sizeof *work->found);
	if (result == 0)
		result = work_through(work, numbers);
	for (size_t i = 0; work->found != NULL && i < work->count; i++) {
		if (work->found[i].segment != NULL)
			segment_free(work->found[i].segment);
		free(work->found[i].scan.holes.gaps);
	}
	free(work->found);
	free(numbers);
	if (result != 0 || work->only_tries)
		recovery_free(recovery);
	return result;
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
	return begin_work(&work);
}

int recover_try(struct store *store, char *error, size_t error_size)
{
	static const struct log_options options = {.dir = NULL};
	struct recovery recovery;
	struct work work = {.store = store,
	                    .options = &options,
	                    .only_tries = true,
	                    .out = &recovery,
	                    .error = error,
	                    .error_size = error_size};
	return begin_work(&work);
}

void recovery_free(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->count; i++)
		segment_free(recovery->segments[i]);
	free(recovery->segments);
	*recovery = (struct recovery){.segments = NULL};
}
