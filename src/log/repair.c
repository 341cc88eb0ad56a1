/* SPDX-License-Identifier: MIT */
#include "log/repair.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "log/assess.h"
#include "log/rewrite.h"
#include "log/scan.h"

struct repair {
	struct survey survey;
	struct assessment assessment;
	struct store *store;
	FILE *out;
	char *error;
	size_t error_size;
};

/* What a patch goes by. */
struct change {
	enum mode mode;
	struct piece *piece;
	struct segment *segment;
};

static void __attribute__((format(printf, 3, 4)))
say(struct repair *repair, uint64_t number, const char *format, ...)
{
	char name[STORE_NAME_MAX];
	va_list arguments;

	store_name(number, name);
	fprintf(repair->out, "%s: ", name);
	va_start(arguments, format);
	vfprintf(repair->out, format, arguments);
	va_end(arguments);
	fputc('\n', repair->out);
	(void)fflush(repair->out);
}

static int fail(struct repair *repair, const char *name, int error)
{
	snprintf(repair->error, repair->error_size, "%s/%s: can't be repaired: %s",
	         store_dir(repair->store), name, strerror(-error));
	return -1;
}

/* ---- what a file is to be ---- */

/* Marks and mends slots. Returns where the data ends. */
static size_t patch_entries(const struct change *change, char *map)
{
	const struct piece *piece = change->piece;
	const struct verdict *verdict = &piece->verdict;
	const struct segment *segment = change->segment;
	uint64_t time_us = verdict->time_us;
	size_t data_end = SEGMENT_HEADER_SIZE;

	for (uint32_t i = 0; i < verdict_entries(verdict); i++) {
		struct entry *entry = map_entry(map, segment->size, i);
		const struct run *run = piece_run(piece, i);
		uint64_t id = verdict->base + i;
		enum fate fate =
			run == NULL ? FATE_MEND : slot_fate(change->mode, piece, run->kind, id);
		if (fate == FATE_MARK)
			entry_mark(entry, id, time_us, LOSS_DAMAGED, segment);
		if (fate != FATE_MEND)
			continue;
		if (run != NULL)
			atomic64_store_release(&entry->commit, id ^ segment->secret); /* [O1] */
		time_us = entry_time_us(entry);
		if (!entry_is_marker(entry))
			data_end = (size_t)entry->offset + entry->size;
	}
	return data_end;
}

static void patch_seal(const struct change *change, char *map, size_t data_end)
{
	const struct verdict *verdict = &change->piece->verdict;
	struct segment *segment = change->segment;
	uint32_t entries = verdict_entries(verdict);

	segment_publish(segment, map, NULL);
	atomic64_store_release(&segment->base, verdict->base); /* [O2] */
	atomic64_store_release(&segment->state, (uint64_t)(data_end - SEGMENT_HEADER_SIZE) << 32 |
	                                                (uint64_t)entries << 1 | 1); /* [O4] */
	segment->first_time_us = segment->last_time_us = verdict->time_us;
	free((void *)(uintptr_t)segment->filter);
	segment->filter = NULL;
	if (entries > 0)
		segment_sum_up(segment, entries);
	header_set_seal((struct segment_header *)(void *)map, segment);
	segment_publish(segment, NULL, NULL);
}

static void patch_header(const struct change *change, struct segment_header *header)
{
	const struct piece *piece = change->piece;
	const struct verdict *verdict = &piece->verdict;

	header->constant = piece->header.constant;
	header->constant.id_bound = verdict->id_bound;
	header_set_constant(&header->constant);
	if (verdict->writes_gap)
		header_set_gap(header, verdict->base, verdict->loss);
	if ((piece->faults & FAULT_SEAL) != 0 && !verdict->writes_seal)
		memset(&header->seal, 0, sizeof header->seal);
	if (!verdict->writes_synced)
		return;
	bool is_synced = verdict->marks_all && verdict->end > 0;
	memset(header->synced, 0, sizeof header->synced);
	header_set_synced(header, is_synced ? verdict->end - 1 : 0);
	header->synced[1] = header->synced[0];
}

/* A file of which something is left. */
static void patch_piece(char *map, void *context)
{
	const struct change *change = context;
	const struct piece *piece = change->piece;
	const struct verdict *verdict = &piece->verdict;

	patch_header(change, (struct segment_header *)(void *)map);
	size_t data_end = patch_entries(change, map);
	if (verdict->writes_seal)
		patch_seal(change, map, data_end);
	if (piece->is_sealed || verdict->writes_seal || change->mode == MODE_MACHINE)
		return;
	/* What is left there of what was damaged is not to be taken for an entry. */
	const struct scan scan = {.entries = verdict_entries(verdict), .data_end = data_end};
	scan_wipe(change->segment, map, &scan);
}

/* An empty segment, sealed. */
static void patch_empty(char *map, void *context)
{
	const struct change *change = context;
	struct segment_header *header = (void *)map;

	header_set_gap(header, change->piece->verdict.base, LOSS_NONE);
	header_set_synced(header, 0);
	header_set_synced(header, 0);
	patch_seal(change, map, SEGMENT_HEADER_SIZE);
}

static void patch_replacement(char *map, void *context)
{
	const struct change *change = context;

	((struct segment_header *)(void *)map)->constant = change->piece->header.constant;
	patch_empty(map, context);
}

/* ---- saying what was done ---- */

static void say_header(struct repair *repair, const struct piece *piece)
{
	static const char *const names[] = {"constant part", "gap", "seal", "filter",
	                                    "synced mark"};
	const struct verdict *verdict = &piece->verdict;
	char list[128] = "";
	unsigned faults = piece->faults;

	if (!verdict->writes_seal && !verdict->clears_seal)
		faults &= ~(unsigned)FAULT_SEAL;
	for (unsigned i = 0; i < 5; i++) {
		size_t n = strlen(list);
		if ((faults & 1U << i) != 0)
			snprintf(list + n, sizeof list - n, "%s%s", n > 0 ? ", " : "", names[i]);
	}
	if (list[0] != '\0')
		say(repair, piece->number, "its header was damaged (%s): made anew", list);
	if ((faults & FAULT_SIZE) != 0)
		say(repair, piece->number, "had %" PRIu64 " bytes: has %" PRIu64 " again",
		    piece->file_size, piece->header.constant.size);
	if ((faults & FAULT_UNREAD) != 0)
		say(repair, piece->number, "could not be read everywhere: written anew");
}

static void say_gaps(struct repair *repair, const struct piece *piece)
{
	const struct verdict *verdict = &piece->verdict;
	const struct gaps *marked = verdict->marked.gaps;

	if (verdict->writes_gap && verdict->loss == LOSS_DAMAGED)
		say(repair, piece->number,
		    "messages %" PRIu64 " to %" PRIu64 ", before its first, are a gap now",
		    verdict->gap_from, verdict->base - 1);
	else if (verdict->writes_gap && verdict->is_begun)
		say(repair, piece->number, "begins with message %" PRIu64, verdict->base);
	for (size_t i = 0; marked != NULL && i < marked->count; i++)
		say(repair, piece->number,
		    "messages %" PRIu64 " to %" PRIu64 " were damaged: they are a gap now",
		    marked->at[i].from, marked->at[i].to);
	if (verdict->mended > 0)
		say(repair, piece->number,
		    "%" PRIu32 " messages whose commit word was damaged are mended",
		    verdict->mended);
	if (verdict->wipes)
		say(repair, piece->number, "what stood behind its last message is wiped");
}

/* ---- one file after the other ---- */

static int change_file(struct repair *repair, struct piece *piece)
{
	struct change change = {
		.mode = repair->assessment.mode, .piece = piece, .segment = piece->segment};
	const struct rewrite rewrite = {.number = piece->number,
	                                .size = piece->segment->size,
	                                .is_patient = true,
	                                .keeps = true,
	                                .patch = patch_piece,
	                                .context = &change};
	int fd = rewrite_file(repair->store, &rewrite);

	if (fd < 0)
		return fd;
	close(fd);
	say_header(repair, piece);
	say_gaps(repair, piece);
	return 0;
}

static int replace_file(struct repair *repair, struct piece *piece)
{
	struct header_constant *constant = &piece->header.constant;
	struct verdict *verdict = &piece->verdict;
	uint64_t least = verdict->base - 1;

	*constant = (struct header_constant){
		.max_entries = INT32_MAX,
		.number = piece->number,
		.size = SEGMENT_SIZE_MIN,
		.key = repair->survey.key,
		.secret = segment_draw_secret(),
		.id_bound = verdict->id_bound > least ? verdict->id_bound : least,
	};
	header_set_constant(constant);
	struct change change = {.mode = repair->assessment.mode,
	                        .piece = piece,
	                        .segment = store_segment_of(repair->store, constant)};
	const struct rewrite rewrite = {.number = piece->number,
	                                .size = SEGMENT_SIZE_MIN,
	                                .is_new = true,
	                                .keeps = true,
	                                .patch = patch_replacement,
	                                .context = &change};
	if (change.segment == NULL)
		return -ENOMEM;
	int fd = rewrite_file(repair->store, &rewrite);
	segment_free(change.segment);
	if (fd < 0)
		return fd;
	close(fd);
	say(repair, piece->number, "%s: an empty segment takes its place", piece->why);
	return 0;
}

/* The file that the log goes on in. */
static int add_file(struct repair *repair, struct piece *piece)
{
	const struct verdict *verdict = &piece->verdict;
	uint64_t least = verdict->base - 1;
	const struct store_plan plan = {
		.number = piece->number,
		.size = piece->header.constant.size, /* as the one before */
		.max_entries = piece->header.constant.max_entries,
		.before = verdict->id_bound > least ? verdict->id_bound : least,
		.base = verdict->base,
		.loss = verdict->loss,
	};
	char name[STORE_NAME_MAX];
	store_name(piece->number, name);
	int error = rewrite_keep(repair->store, name);
	struct segment *segment =
		error == 0 ? store_make_segment(repair->store, &plan, &error) : NULL;
	if (segment == NULL)
		return error;
	segment_free(segment);
	say(repair, piece->number, "is made, for what is to come");
	say_gaps(repair, piece);
	return 0;
}

static int put_aside(struct repair *repair, const struct piece *piece)
{
	int error = rewrite_put_aside(repair->store, piece->number);
	if (error == 0)
		say(repair, piece->number, "%s: put aside", piece->why);
	return error;
}

static int carry_out(struct repair *repair, struct piece *piece)
{
	switch (piece->verdict.action) {
	case ACTION_NONE:
		break;
	case ACTION_CHANGE:
		return change_file(repair, piece);
	case ACTION_REPLACE:
		return replace_file(repair, piece);
	case ACTION_ADD:
		return add_file(repair, piece);
	case ACTION_ASIDE:
		return put_aside(repair, piece);
	}
	return 0;
}

/* The file `log`. */
static int write_log(struct repair *repair)
{
	const struct store_log *log = &repair->assessment.log;
	const struct survey *survey = &repair->survey;
	int error = rewrite_keep(repair->store, "log");

	if (error == 0)
		error = store_write_log(repair->store, log);
	if (error != 0)
		return fail(repair, "log", error);
	if (repair->assessment.mode != MODE_RENEWED)
		fprintf(repair->out,
		        "log: is older than the segments: how they were left is not known\n");
	else if (survey->is_known)
		fprintf(repair->out,
		        "log: the newest messages are gone, and nobody knows how many there were: "
		        "another identity, %08" PRIx32 " instead of %08" PRIx32 "\n",
		        log->identity, survey->log.identity);
	else
		fprintf(repair->out, "log: %s: made anew, with another identity: %08" PRIx32 "\n",
		        survey->log_fault, log->identity);
	(void)fflush(repair->out);
	return 0;
}

/*
 * The file `log` first: what it says decides what the rest means, so that whoever goes on from
 * halfway comes to the same. Then from the last file to the first: what says where ids go on is
 * there before that goes which it was found out from.
 */
static int change_all(struct repair *repair)
{
	struct survey *survey = &repair->survey;
	char name[STORE_NAME_MAX];

	if (repair->assessment.writes_log && write_log(repair) != 0)
		return -1;
	for (size_t i = survey->count + 1; i-- > 0;) {
		struct piece *piece = &survey->pieces[i];
		int error = carry_out(repair, piece);
		store_name(piece->number, name);
		if (error != 0)
			return fail(repair, name, error);
	}
	return 0;
}

/* ---- the directory ---- */

/* A segment that has another one's name gets its own back, where that is free. */
static int put_back(struct repair *repair, const struct piece *piece)
{
	const struct header_constant *constant = &piece->header.constant;
	const int dir = store_fd(repair->store);
	char from[STORE_NAME_MAX], to[STORE_NAME_MAX];

	if (piece->segment != NULL || !piece->has_file || !header_constant_is_good(constant) ||
	    constant->key != repair->survey.key || constant->number == piece->number)
		return 0;
	store_name(piece->number, from);
	store_name(constant->number, to);
	if (linkat(dir, from, dir, to, 0) != 0)
		return 0; /* it is treated like a foreign one */
	int error = store_unlink(repair->store, piece->number);
	if (error == 0)
		say(repair, piece->number, "has been renamed: is %s again", to);
	return error == 0 ? 1 : error;
}

/* Looks at everything, and again when a file has got its name back. */
static int examine(struct repair *repair)
{
	bool is_done = false;

	while (!is_done) {
		if (survey_read(&repair->survey, repair->store, repair->error,
		                repair->error_size) != 0)
			return -1;
		is_done = true;
		for (size_t i = 0; i < repair->survey.count; i++) {
			int moved = put_back(repair, &repair->survey.pieces[i]);
			if (moved < 0)
				return fail(repair, "", moved);
			is_done = is_done && moved == 0;
		}
		if (!is_done)
			survey_free(&repair->survey);
	}
	return assess(&repair->survey, &repair->assessment, repair->error, repair->error_size);
}

static int repair_directory(struct repair *repair)
{
	const struct assessment *assessment = &repair->assessment;
	const char *dir = store_dir(repair->store);

	if (examine(repair) != 0 || change_all(repair) != 0)
		return -1;
	survey_free(&repair->survey);
	if (recover_try(repair->store, repair->error, repair->error_size) != 0)
		return -1;
	if (assessment->changes == 0)
		fprintf(repair->out, "%s: there is nothing to repair\n", dir);
	else
		fprintf(repair->out,
		        "%s: repaired %zu files, of which *.damaged are what they were; %" PRIu64
		        " messages are gone\n",
		        dir, assessment->changes, assessment->damaged);
	return 0;
}

/* Opens a directory that there is a log in; none is made of another one. NULL: `error`. */
static struct store *open_log_dir(const char *dir, char *error, size_t error_size)
{
	uint64_t *numbers = NULL;
	size_t count = 0;
	struct store *store = store_look(dir, error, error_size);

	if (store == NULL)
		return NULL;
	int result = store_list(store, &numbers, &count);
	free(numbers);
	bool has_log = faccessat(store_fd(store), "log", F_OK, 0) == 0;
	store_close(store);
	if (result == 0 && (count > 0 || has_log))
		return store_open(dir, error, error_size);
	snprintf(error, error_size, "%s: %s", dir,
	         result != 0 ? strerror(-result) : "there is no log in it");
	return NULL;
}

int log_repair(const char *dir, FILE *out, char *error, size_t error_size)
{
	struct repair repair = {.out = out, .error = error, .error_size = error_size};

	repair.store = open_log_dir(dir, error, error_size);
	if (repair.store == NULL)
		return -1;
	int result = repair_directory(&repair);
	survey_free(&repair.survey);
	store_close(repair.store);
	return result;
}

int log_renew_identity(const char *dir, FILE *out, char *error, size_t error_size)
{
	struct store *store = open_log_dir(dir, error, error_size);
	struct store_log log = {.identity = 0};
	uint32_t before = 0;

	if (store == NULL)
		return -1;
	int result = store_read_log(store, &log, error, error_size);
	if (result == -ENOENT)
		snprintf(error, error_size, "%s/log: is missing; psad --repair makes a new one",
		         dir);
	before = log.identity;
	while (result == 0 && log.identity == before) {
		if (getrandom(&log.identity, sizeof log.identity, 0) !=
		    (ssize_t)sizeof log.identity) {
			snprintf(error, error_size, "%s: the system has no random numbers", dir);
			result = -1;
		}
	}
	if (result == 0 && (result = store_write_log(store, &log)) != 0)
		snprintf(error, error_size, "%s/log: can't be written: %s", dir, strerror(-result));
	if (result == 0)
		fprintf(out, "%s: was log %08" PRIx32 ", is log %08" PRIx32 " now\n", dir, before,
		        log.identity);
	store_close(store);
	return result == 0 ? 0 : -1;
}
