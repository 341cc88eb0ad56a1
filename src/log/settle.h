/* SPDX-License-Identifier: MIT */
/*
 * settle: the second half of a recovery, and what both halves share; recover.c alone uses it.
 *
 * Everything has been read and judged by then. Here it is written down (markers, gaps, copies of
 * files that a sync has failed for), the file that the log goes on in is found or made, and the
 * file `log` says that a run has begun. Whatever is cut short here is done again, with the same
 * result, by the next start.
 */
#ifndef PSAD_LOG_SETTLE_H
#define PSAD_LOG_SETTLE_H

#include "log/recover.h"
#include "log/scan.h"

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
	bool only_tries; /* ends before anything is changed */
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

/* Writes the sentence, the directory before it, into work->error. Returns -1. Thread: startup. */
int recover_fail(struct work *work, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 0 or -1 (the error is said). Thread: startup. */
int settle(struct work *work);

#endif
