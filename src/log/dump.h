/* SPDX-License-Identifier: MIT */
/*
 * dump: what is in the directory of a log, as text, without its daemon: also beside a running one,
 * and of a log that does not open.
 *
 *     <id>@<log> <time> <topic> <bytes>        a message, the bytes of its payload; the time in
 *                                              ISO 8601, UTC, with microseconds
 *     GAP <from> <to> <reason>                 no messages have these ids
 *     DAMAGED <file> <byte> <from> <to> <why>  what is not as it was written, from that byte on,
 *                                              with these ids; - -: none, or not known
 *     LOG <log> segments=... messages=...      at the end: of all of it, whatever was selected
 *
 * Everything is read and every checksum computed before the first line is written. Nothing is
 * changed, and no lock is taken.
 */
#ifndef PSAD_LOG_DUMP_H
#define PSAD_LOG_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Which messages to show. */
struct dump_filter {
	/* Asked with the topic and its bytes, no NUL behind them. NULL: all messages are shown. */
	bool (*selects)(const char *topic, size_t size, void *context);
	void *context;
};

enum dump_verdict {
	DUMP_WHOLE,
	DUMP_DAMAGED, /* there is something that a repair would change */
	DUMP_CUT,     /* the reader has gone: nobody is left to be told */
	DUMP_FAILED,  /* `error` is a sentence */
};

/*
 * Writes the lines to `out`. `error` is set with DUMP_FAILED alone. Thread: startup, of a process
 * that has no log open.
 */
enum dump_verdict log_dump(const char *dir, const struct dump_filter *filter, FILE *out,
                           char *error, size_t error_size);

#endif
