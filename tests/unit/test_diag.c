/* SPDX-License-Identifier: MIT */
/*
 * What the operator sees, read from the other end of a pipe that is standard error for a while.
 */
#include "base/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "deadline.h"
#include "base/clock.h"

static int kept_stderr;
static int pipe_read;

static int begin(void **state)
{
	int ends[2];
	(void)state;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	kept_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	pipe_read = ends[0];
	unsetenv("JOURNAL_STREAM");
	diag_open(DIAG_DEBUG);
	return 0;
}

/* What was written since the last call. */
static const char *written(void)
{
	static char text[65536];
	ssize_t n = read(pipe_read, text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static int end(void **state)
{
	(void)state;
	dup2(kept_stderr, STDERR_FILENO);
	close(kept_stderr);
	fputs(written(), stderr); /* what cmocka had to say about a failure */
	close(pipe_read);
	return 0;
}

static void a_message_is_a_line_with_the_daemons_name(void **state)
{
	(void)state;
	diag(DIAG_NOTICE, "listening on %s, %d waiting", "127.0.0.1:9853", 3);
	assert_string_equal(written(), "psad: listening on 127.0.0.1:9853, 3 waiting\n");
	diag(DIAG_INFO, "%s", "");
	assert_string_equal(written(), "psad: \n");
}

static void each_line_is_one_write(void **state)
{
	(void)state;
	fcntl(pipe_read, F_SETFL, O_NONBLOCK | O_DIRECT);
	fcntl(STDERR_FILENO, F_SETFL, O_DIRECT); /* a read gives what one write wrote */
	diag(DIAG_INFO, "one, %s", "in pieces");
	diag(DIAG_INFO, "two");
	assert_string_equal(written(), "psad: one, in pieces\n");
	assert_string_equal(written(), "psad: two\n");
}

static void messages_below_the_level_are_not_shown(void **state)
{
	(void)state;
	diag_set_level(DIAG_WARNING);
	diag(DIAG_DEBUG, "a");
	diag(DIAG_INFO, "b");
	diag(DIAG_NOTICE, "c");
	assert_string_equal(written(), "");
	diag(DIAG_WARNING, "d");
	diag(DIAG_ERROR, "e");
	assert_string_equal(written(), "psad: d\npsad: e\n");
	diag_set_level(DIAG_DEBUG);
	diag(DIAG_DEBUG, "f");
	assert_string_equal(written(), "psad: f\n");
}

static void set_journal_stream(uintmax_t add)
{
	struct stat status;
	char text[64];
	fstat(STDERR_FILENO, &status);
	snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)status.st_dev,
	         (uintmax_t)status.st_ino + add);
	setenv("JOURNAL_STREAM", text, 1);
}

static void the_journal_gets_priorities(void **state)
{
	(void)state;
	set_journal_stream(0);
	diag_open(DIAG_DEBUG);
	diag(DIAG_DEBUG, "a");
	diag(DIAG_INFO, "b");
	diag(DIAG_NOTICE, "c");
	diag(DIAG_WARNING, "d");
	diag(DIAG_ERROR, "e");
	assert_string_equal(written(), "<7>a\n<6>b\n<5>c\n<4>d\n<3>e\n");
}

static void a_stream_that_is_not_the_journals_gets_none(void **state)
{
	static const char *const streams[] = {"", "1", "1:", "x:y", "0:0", ":", "1:2:3"};
	(void)state;
	set_journal_stream(1);
	diag_open(DIAG_DEBUG);
	diag(DIAG_ERROR, "a");
	assert_string_equal(written(), "psad: a\n");
	for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
		setenv("JOURNAL_STREAM", streams[i], 1);
		diag_open(DIAG_DEBUG);
		diag(DIAG_ERROR, "b");
		assert_string_equal(written(), "psad: b\n");
	}
}

static void bytes_of_clients_cannot_forge_lines(void **state)
{
	static const struct {
		const char *text;
		const char *shown;
	} rows[] = {
		{"a\nb\rc\td", "a\\nb\\rc\\td"},
		{"\x1b[2J\x7f\x01", "\\x1b[2J\\x7f\\x01"},
		{"C:\\n", "C:\\\\n"},
		{"gr\xc3\xb6\xc3\x9f"
	         "e",
	         "gr\xc3\xb6\xc3\x9f"
	         "e"},
		{"\xe2\x82\xac \xf0\x9f\x90\x9f", "\xe2\x82\xac \xf0\x9f\x90\x9f"},
		{"\xc2\xa0", "\xc2\xa0"},
		/* a C1 control, a lone byte, a beginning, too long, a surrogate, beyond Unicode */
		{"\xc2\x9b"
	         "2J",
	         "\\xc2\\x9b2J"},
		{"\xff", "\\xff"},
		{"\xe2\x82", "\\xe2\\x82"},
		{"\xc0\x8a", "\\xc0\\x8a"},
		{"\xe0\x80\x8a", "\\xe0\\x80\\x8a"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},
		{"\xf0\x80\x80\x8a", "\\xf0\\x80\\x80\\x8a"},
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
		{"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char expected[128];
		snprintf(expected, sizeof expected, "psad: %s\n", rows[i].shown);
		diag(DIAG_ERROR, "%s", rows[i].text);
		assert_string_equal(written(), expected);
	}
}

static void a_long_message_is_cut_and_stays_one_line(void **state)
{
	static char text[4 * DIAG_LINE_MAX];
	(void)state;
	/* Around the border, and escaped, so that a piece could be cut in the middle. */
	for (size_t n = DIAG_LINE_MAX / 4 - 8; n < sizeof text - 1; n++) {
		for (int kind = 0; kind < 2; kind++) {
			memset(text, kind == 0 ? 'x' : '\x01', n);
			text[n] = '\0';
			diag(DIAG_ERROR, "%s", text);
			const char *line = written();
			const size_t length = strlen(line);
			const size_t wanted = 6 + n * (kind == 0 ? 1 : 4) + 1;
			assert_in_range(length, 1, DIAG_LINE_MAX);
			assert_int_equal(strcspn(line, "\n"), length - 1);
			if (wanted <= DIAG_LINE_MAX)
				assert_int_equal(length, wanted);
			else
				assert_string_equal(line + length - 4, "...\n");
		}
	}
}

static void errno_is_kept_and_can_be_shown(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	(void)state;
	errno = ENOENT;
	diag(DIAG_ERROR, "open: %m");
	assert_int_equal(errno, ENOENT);
	diag_limited(&limit, DIAG_ERROR, "again: %m");
	assert_int_equal(errno, ENOENT);
	assert_string_equal(written(), "psad: open: No such file or directory\n"
	                               "psad: again: No such file or directory\n");
	close(STDERR_FILENO);
	diag(DIAG_ERROR, "nobody hears this");
	assert_int_equal(errno, ENOENT);
}

/* Says a limited message until another one is shown, and returns that. */
static const char *next_limited(struct diag_limit *limit, unsigned *said)
{
	const uint64_t deadline = clock_mono_ms() + DEADLINE_MS;
	while (clock_mono_ms() < deadline) {
		(*said)++;
		diag_limited(limit, DIAG_WARNING, "connection refused");
		const char *text = written();
		if (text[0] != '\0')
			return text;
		usleep(1000);
	}
	return "";
}

/* As if the clock had gone on. */
static void let_pass(struct diag_limit *limit, uint64_t ms)
{
	limit->free_ms -= limit->free_ms < ms ? limit->free_ms : ms;
}

/* Says it until it is held back once; returns how often it was shown. */
static unsigned use_up(struct diag_limit *limit)
{
	for (unsigned n = 0;; n++) {
		diag_limited(limit, DIAG_WARNING, "connection %u refused", n);
		if (written()[0] == '\0')
			return n;
	}
}

static void
a_limited_message_comes_ten_times_then_once_a_second_with_the_number_left_out(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	static struct diag_limit other;
	unsigned said = 1; /* use_up() has left one out */
	char expected[80];
	(void)state;
	/* A slow machine may be given one more for each second that it takes. */
	assert_in_range(use_up(&limit), DIAG_BURST, 2 * DIAG_BURST);
	diag_limited(&other, DIAG_WARNING, "another kind");
	assert_string_equal(written(), "psad: another kind\n");
	const char *text = next_limited(&limit, &said);
	snprintf(expected, sizeof expected, "psad: connection refused (and %u more)\n", said - 1);
	assert_string_equal(text, expected);
}

static void after_a_rest_a_limited_message_may_come_ten_times_again(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	(void)state;
	use_up(&limit);
	let_pass(&limit, DIAG_BURST * 1000);
	diag_limited(&limit, DIAG_WARNING, "connection refused");
	assert_string_equal(written(), "psad: connection refused (and 1 more)\n");
	assert_in_range(1 + use_up(&limit), DIAG_BURST, 2 * DIAG_BURST);
}

static void those_left_out_last_are_told_of_without_another_one(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	(void)state;
	diag_tell_suppressed();
	use_up(&limit);
	for (int i = 0; i < 1233; i++)
		limit.suppressed++;
	let_pass(&limit, DIAG_BURST * 1000);
	diag_tell_suppressed();
	assert_string_equal(strstr(written(), "1234"),
	                    "1234 more of this kind were not shown: connection 9 refused\n");
	/* Once. */
	diag_tell_suppressed();
	assert_string_equal(written(), "");
	/* They count as one more of the kind: there is no way round the limit. */
	diag_limited(&limit, DIAG_WARNING, "again");
	assert_string_equal(written(), "psad: again\n");
}

static void what_another_message_has_told_is_not_told_again(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	(void)state;
	use_up(&limit);
	let_pass(&limit, DIAG_BURST * 1000);
	diag_limited(&limit, DIAG_WARNING, "connection refused");
	assert_string_equal(written(), "psad: connection refused (and 1 more)\n");
	diag_tell_suppressed();
	assert_string_equal(written(), "");
}

static void a_limited_message_that_is_not_shown_is_not_counted(void **state)
{
	static struct diag_limit limit; /* lives as long as the list that it is in */
	(void)state;
	diag_set_level(DIAG_ERROR);
	diag_limited(&limit, DIAG_WARNING, "a");
	diag_set_level(DIAG_DEBUG);
	diag_limited(&limit, DIAG_WARNING, "b");
	assert_string_equal(written(), "psad: b\n");
}

static void the_number_left_out_is_there_when_the_message_is_cut(void **state)
{
	static char text[2 * DIAG_LINE_MAX];
	static struct diag_limit limit = {.suppressed = UINT64_MAX};
	const char *ending = "... (and 18446744073709551615 more)\n";
	(void)state;
	memset(text, 'x', sizeof text - 1);
	diag_limited(&limit, DIAG_WARNING, "%s", text);
	const char *line = written();
	assert_int_equal(strlen(line), DIAG_LINE_MAX);
	assert_string_equal(line + strlen(line) - strlen(ending), ending);
}

enum { THREADS = 4, LINES = 50 };

static void *say_many(void *context)
{
	static struct diag_limit limit;
	for (int i = 0; i < LINES; i++) {
		diag(DIAG_INFO, "thread %c says %d", *(const char *)context, i);
		diag_limited(&limit, DIAG_INFO, "thread x says 0");
	}
	return NULL;
}

static void lines_of_several_threads_never_mix(void **state)
{
	pthread_t threads[THREADS];
	int lines = 0;
	(void)state;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, say_many, (void *)&"abcd"[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (const char *line = written(); *line != '\0'; line = strchr(line, '\n') + 1, lines++) {
		char who, rest;
		int number;
		assert_int_equal(sscanf(line, "psad: thread %c says %d%c", &who, &number, &rest),
		                 3);
		assert_int_equal(rest, '\n');
	}
	assert_in_range(lines, THREADS * LINES + 1, THREADS * LINES + LINES);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_message_is_a_line_with_the_daemons_name),
		TEST(each_line_is_one_write),
		TEST(messages_below_the_level_are_not_shown),
		TEST(the_journal_gets_priorities),
		TEST(a_stream_that_is_not_the_journals_gets_none),
		TEST(bytes_of_clients_cannot_forge_lines),
		TEST(a_long_message_is_cut_and_stays_one_line),
		TEST(errno_is_kept_and_can_be_shown),
		TEST(a_limited_message_comes_ten_times_then_once_a_second_with_the_number_left_out),
		TEST(after_a_rest_a_limited_message_may_come_ten_times_again),
		TEST(those_left_out_last_are_told_of_without_another_one),
		TEST(what_another_message_has_told_is_not_told_again),
		TEST(a_limited_message_that_is_not_shown_is_not_counted),
		TEST(the_number_left_out_is_there_when_the_message_is_cut),
		TEST(lines_of_several_threads_never_mix),
	};
#undef TEST
	return cmocka_run_group_tests(tests, NULL, NULL);
}
