/* SPDX-License-Identifier: MIT */
#include "base/diag.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/escape.h"

/* Set at startup, read by every thread. */
static bool goes_to_journal;
/* Changed by a reload while others read it; it orders nothing, hence relaxed. */
static int least_level = DIAG_INFO;

static const char priorities[] = {
#define X(name, word, priority) '0' + (priority),
	DIAG_TABLE(X)
#undef X
};

/* sd-daemon(3): the variable names the device and inode of the stream that the journal reads. */
static bool journal_reads_stderr(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat status;
	uintmax_t device = 0;
	uintmax_t inode = 0;
	char rest = '\0';
	if (stream == NULL || sscanf(stream, "%ju:%ju%c", &device, &inode, &rest) != 2)
		return false;
	return fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
	       status.st_ino == inode;
}

void diag_open(enum diag_level least)
{
	goes_to_journal = journal_reads_stderr();
	diag_set_level(least);
}

void diag_set_level(enum diag_level least)
{
	__atomic_store_n(&least_level, (int)least, __ATOMIC_RELAXED);
}

static bool is_shown(enum diag_level level)
{
	return (int)level >= __atomic_load_n(&least_level, __ATOMIC_RELAXED);
}

/*
 * Escapes the n bytes of `text` into the `room` bytes at `out`, which get no NUL; returns how many
 * were used. What doesn't fit is replaced by "...".
 */
static size_t escape(char *out, size_t room, const char *text, size_t n, bool is_cut)
{
	static const char dots[] = "...";
	const size_t dots_length = sizeof dots - 1;
	size_t used = 0;
	size_t used_before_dots = 0; /* the longest beginning that leaves room for them */
	assert(room >= dots_length);
	for (size_t i = 0; i < n;) {
		char piece[8];
		size_t taken = 0;
		const size_t length =
			escape_one((const unsigned char *)text + i, n - i, piece, &taken);
		if (used + length > room) {
			is_cut = true;
			break;
		}
		memcpy(out + used, piece, length);
		used += length;
		i += taken;
		if (used + dots_length <= room)
			used_before_dots = used;
	}
	if (!is_cut)
		return used;
	memcpy(out + used_before_dots, dots, dots_length);
	return used_before_dots + dots_length;
}

static void __attribute__((format(printf, 3, 0)))
emit(enum diag_level level, uint64_t suppressed, const char *format, va_list arguments)
{
	char text[DIAG_LINE_MAX];
	char line[DIAG_LINE_MAX];
	char more[48] = "";
	const int saved_errno = errno;

	const int text_length = vsnprintf(text, sizeof text, format, arguments);
	if (text_length < 0)
		return;
	const bool is_cut = (size_t)text_length >= sizeof text;
	const size_t kept = is_cut ? sizeof text - 1 : (size_t)text_length;

	size_t more_length = 0;
	if (suppressed > 0)
		more_length =
			(size_t)snprintf(more, sizeof more, " (and %" PRIu64 " more)", suppressed);
	size_t used = 0;
	if (goes_to_journal)
		used = (size_t)snprintf(line, sizeof line, "<%c>", priorities[level]);
	else
		used = (size_t)snprintf(line, sizeof line, "psad: ");
	used += escape(line + used, sizeof line - used - more_length - 1, text, kept, is_cut);
	memcpy(line + used, more, more_length);
	used += more_length;
	line[used++] = '\n';

	ssize_t written;
	do {
		written = write(STDERR_FILENO, line, used);
	} while (written < 0 && errno == EINTR);
	errno = saved_errno;
}

void diag(enum diag_level level, const char *format, ...)
{
	if (!is_shown(level))
		return;
	va_list arguments;
	va_start(arguments, format);
	emit(level, 0, format, arguments);
	va_end(arguments);
}

/*
 * One mutex for all limits: what is limited is seldom shown, and never in a hurry. Below it,
 * `listed` are those that have something to tell.
 */
static pthread_mutex_t limits_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct diag_limit *listed;

/* Takes one message's worth, where there is one left. */
static bool limit_take(struct diag_limit *limit)
{
	const uint64_t now = clock_mono_ms();
	if (limit->free_ms < now)
		limit->free_ms = now;
	if (limit->free_ms - now > (DIAG_BURST - 1) * UINT64_C(1000))
		return false;
	limit->free_ms += 1000;
	return true;
}

/* True when it is this message's turn; *suppressed were held back since the last one. */
static bool limit_passes(struct diag_limit *limit, enum diag_level level, uint64_t *suppressed)
{
	pthread_mutex_lock(&limits_mutex);
	const bool passes = limit_take(limit);
	if (passes) {
		*suppressed = limit->suppressed;
		limit->suppressed = 0;
		limit->level = level;
	} else {
		limit->suppressed++;
		if (!limit->is_listed) {
			limit->next = listed;
			listed = limit;
		}
		limit->is_listed = true;
	}
	pthread_mutex_unlock(&limits_mutex);
	return passes;
}

static void __attribute__((format(printf, 2, 0)))
limit_note(struct diag_limit *limit, const char *format, va_list arguments)
{
	pthread_mutex_lock(&limits_mutex);
	vsnprintf(limit->shown, sizeof limit->shown, format, arguments);
	pthread_mutex_unlock(&limits_mutex);
}

void diag_limited(struct diag_limit *limit, enum diag_level level, const char *format, ...)
{
	const int saved_errno = errno; /* %m */
	uint64_t suppressed = 0;
	if (!is_shown(level) || !limit_passes(limit, level, &suppressed))
		return;
	errno = saved_errno;
	va_list arguments, again;
	va_start(arguments, format);
	va_copy(again, arguments);
	emit(level, suppressed, format, arguments);
	limit_note(limit, format, again);
	va_end(again);
	va_end(arguments);
}

/* Takes off the list one that may say something; false: there is none. */
static bool limit_next(struct diag_limit *out)
{
	struct diag_limit **link, *limit;

	pthread_mutex_lock(&limits_mutex);
	for (link = &listed; (limit = *link) != NULL; link = &limit->next)
		if (limit->suppressed == 0 || limit_take(limit))
			break;
	if (limit != NULL) {
		*link = limit->next;
		limit->is_listed = false;
		*out = *limit;
		limit->suppressed = 0;
	}
	pthread_mutex_unlock(&limits_mutex);
	return limit != NULL;
}

void diag_tell_suppressed(void)
{
	struct diag_limit limit;

	while (limit_next(&limit))
		if (limit.suppressed > 0)
			diag(limit.level, "%" PRIu64 " more of this kind were not shown: %s",
			     limit.suppressed, limit.shown);
}
