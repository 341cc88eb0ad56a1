/* SPDX-License-Identifier: MIT */
#include "log/settle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log/rewrite.h"

/* ---- what was judged is written down ---- */

static int fail_to_write(struct work *work, const struct found *found, int error)
{
	return recover_fail(work, "%020" PRIu64 ".seg: can't be written: %s",
	                    found->segment->file.number, strerror(-error));
}

static void clear_failed(char *map, void *context)
{
	(void)context;
	((struct segment_header *)(void *)map)->failed = 0;
}

/* What is read of a file that a sync has failed for may not be on the disk: a copy will be. */
static int replace_failed(struct work *work, struct found *found)
{
	struct segment *segment = found->segment;
	const struct rewrite rewrite = {
		.number = segment->file.number, .size = segment->size, .patch = clear_failed};
	char *map = segment_map(segment);

	segment_publish(segment, NULL, NULL);
	store_unmap(segment, map);
	int fd = rewrite_file(work->store, &rewrite);
	if (fd < 0)
		return fail_to_write(work, found, fd);
	store_close_file(segment);
	segment->file.fd = fd;
	int error = store_map_to_append(work->store, segment, &map);
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
		return recover_fail(work, "log: no memory to open it");
	/* What was known to be on disk still is; after the machine's death it all is, or was
	 * never. */
	segment->file.synced = found->synced;
	if (work->ending != ENDED_MACHINE && work->options->sync != LOG_SYNC_ALWAYS)
		return 0;
	if (fdatasync(segment->file.fd) != 0)
		return fail_to_write(work, found, -errno);
	segment->file.synced = found->end - 1;
	return 0;
}

static int settle_one(struct work *work, struct found *found)
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

/* Makes the file that the log goes on in, as number `nth` of ours. NULL: *error. */
static struct segment *make_tail(struct work *work, size_t nth, int *error)
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
	struct segment *segment = store_make_segment(work->store, &plan, error);
	if (segment == NULL) {
		recover_fail(work, "%020" PRIu64 ".seg: can't be made: %s", plan.number,
		             strerror(-*error));
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

/* Spares from `nth` on are linked behind as long as they fit, and the rest is removed, last
 * first. */
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
			return recover_fail(work, "%020" PRIu64 ".seg: can't be removed: %s",
			                    work->found[i].segment->file.number, strerror(-error));
	}
	return 0;
}

/*
 * The log goes on in a new file. On a full disk it does not: the last segment, which takes no more,
 * is the tail until the keeper finds room, and what is there can be read. Not after the machine's
 * death: only a new file says above which ids the log goes on.
 */
static int begin_file(struct work *work, size_t tail)
{
	int error = 0;
	struct found made = {.segment = make_tail(work, tail, &error)};

	if (made.segment != NULL) {
		add(work, &made);
		return keep_spares(work, tail + 1);
	}
	if ((error != -ENOSPC && error != -EDQUOT) || tail == 0 || work->ending == ENDED_MACHINE)
		return -1;
	work->out->tail = tail - 1;
	return keep_spares(work, tail);
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
		return begin_file(work, tail);
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
	return error == 0 ? 0 : recover_fail(work, "log: can't be written: %s", strerror(-error));
}

int settle(struct work *work)
{
	for (size_t i = 0; i < work->begun; i++)
		if (settle_one(work, &work->found[i]) != 0)
			return -1;
	return go_on(work) != 0 ? -1 : begin_run(work);
}
