/* SPDX-License-Identifier: MIT */
#include "log/survey.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MISSING_MAX = 1 << 16, LOOKS_MAX = 50 };

/* ---- the file `log` ---- */

/* The text of it. 0, -ENOENT or another negative errno. */
static int read_text(const struct store *store, char text[CHARTER_MAX + 1])
{
	int fd = openat(store_fd(store), "log", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, CHARTER_MAX);
	int error = n < 0 ? -errno : 0;
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return error;
}

static int read_log(struct survey *survey, char *error, size_t error_size)
{
	char text[CHARTER_MAX + 1], fault[CHARTER_FAULT_MAX];
	int result = read_text(survey->store, text);

	survey->has_log = result != -ENOENT;
	if (result == -ENOENT) {
		snprintf(survey->log_fault, sizeof survey->log_fault, "is missing");
		return 0;
	}
	if (result != 0) {
		snprintf(error, error_size, "%s/log: can't be read: %s", store_dir(survey->store),
		         strerror(-result));
		return -1;
	}
	survey->is_known = charter_parse(text, &survey->log) == 0;
	if (survey->is_known)
		return 0;
	const char *why = charter_fault(text, fault);
	if (charter_is_foreign(text)) {
		snprintf(error, error_size,
		         "%s/log: %s (if that is not so, remove this file and repair again)",
		         store_dir(survey->store), why);
		return -1;
	}
	snprintf(survey->log_fault, sizeof survey->log_fault, "is damaged");
	return 0;
}

/* ---- the directory ---- */

/* A piece for each number from the first to the last. 0 or -1. */
static int make_pieces(struct survey *survey, char *error, size_t error_size)
{
	const char *dir = store_dir(survey->store);
	uint64_t *numbers = NULL;
	size_t files = 0;
	int result = store_list(survey->store, &numbers, &files);

	if (result != 0) {
		snprintf(error, error_size, "%s: can't be read: %s", dir, strerror(-result));
		return -1;
	}
	if (files == 0) {
		snprintf(error, error_size, "%s: holds no segments of a log", dir);
		return -1;
	}
	uint64_t span = numbers[files - 1] - numbers[0];
	if (span >= files + MISSING_MAX) {
		snprintf(error, error_size,
		         "%s: the numbers of its segments, %" PRIu64 " to %" PRIu64
		         ", are too far apart",
		         dir, numbers[0], numbers[files - 1]);
		free(numbers);
		return -1;
	}
	/* Aligned: headers are. */
	survey->count = (size_t)span + 1;
	survey->pieces =
		aligned_alloc(_Alignof(struct piece), (survey->count + 1) * sizeof *survey->pieces);
	if (survey->pieces != NULL) {
		/* One more, for what may have to be added. */
		memset(survey->pieces, 0, (survey->count + 1) * sizeof *survey->pieces);
		for (size_t i = 0; i <= survey->count; i++)
			survey->pieces[i].number = numbers[0] + i;
	}
	free(numbers);
	if (survey->pieces != NULL)
		return 0;
	snprintf(error, error_size, "%s: no memory to look at it", dir);
	return -1;
}

/* The key that most of the segments name; 0: none of them is whole. */
static int find_key(struct survey *survey, char *error, size_t error_size)
{
	uint64_t common = 0, votes = 0;
	bool is_named = false, is_any = false;

	for (size_t i = 0; i < survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		const struct header_constant *constant = &piece->header.constant;
		if (piece_peek(survey->store, piece) != 0)
			continue;
		if (piece_is_foreign(piece)) {
			snprintf(error, error_size,
			         "%s/%020" PRIu64
			         ".seg: has another format or byte order than this psad's",
			         store_dir(survey->store), piece->number);
			return -1;
		}
		if (!header_constant_is_good(constant))
			continue;
		is_any = true;
		is_named = is_named || (survey->is_known && constant->key == survey->log.key);
		common = votes == 0 ? constant->key : common;
		votes += constant->key == common ? 1 : UINT64_MAX;
	}
	if (!is_any && !survey->is_known) {
		snprintf(error, error_size,
		         "%s: neither the file log nor any segment is whole: nothing says which "
		         "log this is",
		         store_dir(survey->store));
		return -1;
	}
	survey->key = is_named || !is_any ? survey->log.key : common;
	if (survey->is_known && survey->key != survey->log.key) {
		survey->is_known = false;
		snprintf(survey->log_fault, sizeof survey->log_fault, "is another log's");
	}
	store_set_key(survey->store, survey->key);
	return 0;
}

/* The bound of the segment before, where it can be relied on; 0: it can't. */
static uint64_t bound_before(const struct survey *survey, size_t nth)
{
	const struct piece *before = nth == 0 ? NULL : &survey->pieces[nth - 1];

	return before != NULL && before->segment != NULL && before->is_bound_sure
	               ? before->header.constant.id_bound
	               : 0;
}

/* The bound that follows from the next segment whose header says one; 0: there is none. */
static uint64_t bound_behind(const struct survey *survey, size_t nth)
{
	for (size_t i = nth + 1; i < survey->count; i++) {
		const struct piece *next = &survey->pieces[i];
		const struct header_constant *constant = &next->header.constant;
		if (next->segment != NULL && next->is_bound_sure)
			return constant->id_bound -
			       header_capacity(constant->size, constant->max_entries);
	}
	return 0;
}

/*
 * The bound of a segment whose header does not say it: what the next one's allows, or as much as
 * there can be in it. Not sure where nothing tells with which id it begins.
 */
static void find_bound(struct survey *survey, size_t nth)
{
	struct piece *piece = &survey->pieces[nth];
	struct header_constant *constant = &piece->header.constant;

	if (piece->segment == NULL || piece->is_bound_sure)
		return;
	uint64_t before = bound_before(survey, nth), behind = bound_behind(survey, nth);
	bool is_chained = (piece->faults & FAULT_GAP) == 0 && before != 0;
	if (piece->base != 0 && piece->base - 1 > before)
		before = piece->base - 1;
	piece->is_bound_sure = behind != 0 || piece->base != 0 || is_chained;
	constant->id_bound = before + header_capacity(constant->size, INT32_MAX);
	if (behind != 0 && behind < constant->id_bound && behind >= piece->base + piece->reach)
		constant->id_bound = behind;
	header_set_constant(constant);
	piece->segment->file.id_bound = constant->id_bound;
}

static bool is_on_disk(const struct survey *survey, const struct piece *piece)
{
	char name[STORE_NAME_MAX];
	store_name(piece->number, name);
	return faccessat(store_fd(survey->store), name, F_OK, 0) == 0;
}

/*
 * Beside a running psad the oldest files go meanwhile, one after the other: where one has gone,
 * those before it have, whatever was still seen of them.
 */
static void drop_retired(struct survey *survey)
{
	size_t gone = survey->count;

	while (gone > 0 && (survey->pieces[gone - 1].has_file ||
	                    (gone > 1 && is_on_disk(survey, &survey->pieces[gone - 2]))))
		gone--;
	for (size_t i = 0; i < gone; i++) {
		piece_drop(&survey->pieces[i], "is missing");
		survey->pieces[i].has_file = false;
	}
}

/* 0 or -1. */
static int read_all(struct survey *survey, char *error, size_t error_size)
{
	for (size_t i = 0; i < survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		int result =
			piece_read_header(survey->store, survey->key, survey->owner != 0, piece);
		if (result == 0 && piece->segment != NULL)
			result = piece_read_slots(survey->store, piece);
		if (result == -ENOENT && survey->owner != 0) { /* dropped by retention meanwhile */
			piece_drop(piece, "is missing");
			piece->has_file = false;
		} else if (result != 0) {
			snprintf(error, error_size, "%s/%020" PRIu64 ".seg: can't be looked at: %s",
			         store_dir(survey->store), piece->number, strerror(-result));
			return -1;
		}
	}
	if (survey->owner != 0)
		drop_retired(survey);
	for (size_t i = 0; i < survey->count; i++)
		find_bound(survey, i);
	return 0;
}

/* 0 or -1. */
static int read_once(struct survey *survey, struct store *store, char *error, size_t error_size)
{
	*survey = (struct survey){.store = store, .owner = store_owner(store)};
	if (read_log(survey, error, error_size) != 0 ||
	    make_pieces(survey, error, error_size) != 0 || find_key(survey, error, error_size) != 0)
		return -1;
	if (survey->is_known)
		survey->ending = recover_ending(store, &survey->log);
	return read_all(survey, error, error_size);
}

static bool has_any(const struct survey *survey)
{
	for (size_t i = 0; i < survey->count; i++)
		if (survey->pieces[i].segment != NULL)
			return true;
	return false;
}

int survey_read(struct survey *survey, struct store *store, char *error, size_t error_size)
{
	int result = 0;

	/* A small log that is written to fast may have gone while it was looked at. */
	for (int looks = 0; looks < LOOKS_MAX && result == 0; looks++) {
		result = read_once(survey, store, error, error_size);
		if (result == 0 && (survey->owner == 0 || has_any(survey)))
			return 0;
		survey_free(survey);
	}
	if (result == 0)
		snprintf(error, error_size, "%s: changes faster than it can be read",
		         store_dir(store));
	return -1;
}

void survey_free(struct survey *survey)
{
	for (size_t i = 0; survey->pieces != NULL && i <= survey->count; i++) {
		piece_drop(&survey->pieces[i], NULL);
		free(survey->pieces[i].verdict.marked.gaps);
	}
	free(survey->pieces);
	*survey = (struct survey){.pieces = NULL};
}
