/* SPDX-License-Identifier: MIT */
/*
 * survey: what can still be told of the files of a directory, whatever has happened to them.
 *
 * Where recover.h refuses, this goes on: each file is looked at by itself (piece.h), and what is
 * known of one by no more than its place is found out from its neighbours. Nothing is changed. What
 * it all means is assess.h's to say.
 */
#ifndef PSAD_LOG_SURVEY_H
#define PSAD_LOG_SURVEY_H

#include "log/piece.h"
#include "log/recover.h"

struct survey {
	struct store *store;
	struct store_log log;              /* what the file `log` says, where is_known */
	bool is_known;                     /* that file is there, and is good */
	bool has_log;                      /* it is there */
	char log_fault[LOG_ERROR_MAX / 2]; /* why it is not good, as a sentence; "" when it is */
	/* What the segments' checksums go by: as `log` has it, or they, where none has that. */
	uint64_t key;
	long owner;           /* the process that is writing to it all; 0: none */
	enum ending ending;   /* where is_known and nobody does */
	struct piece *pieces; /* by number, without a break */
	size_t count;
};

/*
 * Reads all of the directory. 0; -1: it is not a log's, or is that of another version of psad or
 * another kind of machine, or can't be read, and `error` is a sentence; the survey is empty then.
 * Thread: startup.
 */
int survey_read(struct survey *survey, struct store *store, char *error, size_t error_size);
void survey_free(struct survey *survey);

#endif
