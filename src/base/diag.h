/* SPDX-License-Identifier: MIT */
/*
 * diag: messages to the operator, on standard error.
 *
 * Each message is one line and one write(2) of at most DIAG_LINE_MAX bytes, so lines of several
 * threads never mix. A line begins with "psad: ", or with a syslog priority "<N>" where the
 * journal reads standard error (the convention of sd-daemon(3)). The text may hold bytes of
 * clients: control bytes, line ends, the backslash and what is not UTF-8 are escaped (\n, \x1b),
 * and what does not fit is cut and ends in "...".
 *
 * A message that can't be written is lost: nobody is left to be told. errno is left as it was.
 */
#ifndef PSAD_BASE_DIAG_H
#define PSAD_BASE_DIAG_H

#include <stdint.h>

/* level, its word in the configuration, its syslog priority */
#define DIAG_TABLE(X)                                                                              \
	X(DEBUG, "debug", 7)                                                                       \
	X(INFO, "info", 6)                                                                         \
	X(NOTICE, "notice", 5)                                                                     \
	X(WARNING, "warning", 4)                                                                   \
	X(ERROR, "error", 3)

enum diag_level {
#define X(name, word, priority) DIAG_##name,
	DIAG_TABLE(X)
#undef X
};

enum { DIAG_LINE_MAX = 1024 }; /* bytes of a line, its end included */

/*
 * Looks at what standard error is and sets the least level that is shown. Messages before it are
 * written without priority from DIAG_INFO on. Thread: startup.
 */
void diag_open(enum diag_level least);

/* From now on only messages of level `least` or above are shown. Thread: any. */
void diag_set_level(enum diag_level least);

/* Says one thing. `format` needs no "psad: " and no line end. Thread: any. */
void diag(enum diag_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * One kind of message that outside events can cause in any number. Static storage, all zero, is a
 * ready one; the fields are diag's.
 */
struct diag_limit {
	uint64_t quiet_until_ms; /* monotonic */
	uint64_t suppressed;
};

/*
 * As diag(), but at most once a second for each `limit`; the next message that is shown then ends
 * in "(and N more)". Those suppressed last are told only if another one comes. Thread: any.
 */
void diag_limited(struct diag_limit *limit, enum diag_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
