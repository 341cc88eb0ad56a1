/* SPDX-License-Identifier: MIT */
/*
 * assess: what is wrong with the files of a directory, taken together, and what each is to become.
 *
 * What recovery deals with by itself (claims never committed, what a loss of power took) is left to
 * it. What it refuses is made into what it accepts: entries that are not good become markers, which
 * say `damaged`; ids that are missing between two segments are said so in the second one's gap
 * part; a segment of which nothing is left is replaced by an empty one, so that the numbers stay
 * dense.
 *
 * No id may ever mean two messages. Where the newest segments are gone and nothing bounds the ids
 * that had been given out, the log goes on under a new identity, and positions of the old one are
 * foreign.
 *
 * Nothing is changed here; repair.h does it, dump.h shows it.
 */
#ifndef PSAD_LOG_ASSESS_H
#define PSAD_LOG_ASSESS_H

#include "log/survey.h"
#include "log/verdict.h"

struct assessment {
	enum mode mode;
	struct store_log log; /* what the file is to say */
	bool writes_log;
	size_t begun;        /* the first so many pieces may hold messages */
	uint64_t first, end; /* ids first .. end - 1 */
	uint64_t damaged;    /* ids that are found to be, now */
	size_t changes;      /* of files, `log` included */
};

/*
 * Fills in the pieces' verdicts and the assessment. 0; -1: nothing is left to make a log of, or
 * there is no memory, and `error` says so. Thread: startup.
 */
int assess(struct survey *survey, struct assessment *assessment, char *error, size_t error_size);

#endif
