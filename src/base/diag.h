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

#include <stdbool.h>
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
 * One kind of message that outside events can cause in any number: at most DIAG_BURST of it at
 * once, and one a second in the long run. It must be static, and all zero is a ready one; the
 * fields are diag's.
 */
enum { DIAG_BURST = 10 };

struct diag_limit {
	uint64_t free_ms; /* monotonic: when a burst would be allowed again */
	uint64_t suppressed;
	struct diag_limit *next; /* of those that have suppressed something */
	bool is_listed;
	enum diag_level level; /* of what was shown last */
	char shown[128];       /* its beginning */
};

/*
 * As diag(), but not shown when there are too many of `limit`: then the next one that is shown ends
 * in "(and N more)", or diag_tell_suppressed() tells. Thread: any.
 */
void diag_limited(struct diag_limit *limit, enum diag_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Tells of each limit that may show something again how many were not shown, where no other of its
 * kind has come that could. To be called now and then. Thread: any.
 */
void diag_tell_suppressed(void);

#endif
