/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=realloc */
/*
 * What INFO and STATS say: the sums of all workers, under names that others parse.
 */
#include "ops/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "deadline.h"
#include "base/clock.h"

void *__real_realloc(void *block, size_t n);
void *__wrap_realloc(void *block, size_t n);

static size_t most = SIZE_MAX; /* more than this is not to be had at once */

void *__wrap_realloc(void *block, size_t n)
{
	return n > most ? NULL : __real_realloc(block, n);
}

enum { MESSAGES = 7 };

static char error[LOG_ERROR_MAX];
static struct epoch_thread me;
static struct wake *wake;
static struct hub hub;
static struct counters counters[3];
static const struct counters *const pointers[] = {&counters[0], &counters[1], &counters[2]};
static struct stats_sources sources = {
	.hub = &hub, .counters = pointers, .counters_count = 3, .workers = 2};

static int set_up(void **state)
{
	(void)state;
	const struct log_options options = {.segment_size = SEGMENT_SIZE_MIN};
	size_t appended;

	memset(counters, 0, sizeof counters);
	for (size_t i = 0; i < 3; i++)
		counters[i].lowest_position = UINT64_MAX;
	wake = wake_new(1);
	hub.log = log_open(&options, wake, error, sizeof error);
	if (wake == NULL || hub.log == NULL)
		return -1;
	hub.limits.max_payload = 1 << 20;
	hub.input_memory = 4096;
	epoch_register(log_epoch(hub.log), &me);
	epoch_enter(&me);
	for (unsigned i = 0; i < MESSAGES; i++) {
		struct message message = {.topic = "t", .topic_size = 1, .payload = ""};
		if (log_append(hub.log, &message, 1, &appended) != LOG_APPENDED)
			return -1;
	}
	sources.started_ms = clock_mono_ms();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	epoch_leave(&me);
	log_close(hub.log);
	wake_free(wake);
	return 0;
}

/* The text of STATS, ended by a NUL. */
static char *stats(void)
{
	struct buf out = {.memory = NULL};
	assert_int_equal(stats_write(&sources, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	char *text = strdup(buf_begin(&out));
	buf_clear(&out);
	assert_non_null(text);
	return text;
}

static uint64_t value_of(const char *name)
{
	char line[64], *text = stats();
	int n = snprintf(line, sizeof line, "STAT %s ", name);
	const char *at = strstr(text, line);
	if (at == NULL || (at > text && at[-1] != '\n'))
		fail_msg("no %s in:\n%s", name, text);
	uint64_t value = strtoull(at + n, NULL, 10);
	assert_null(strstr(at + n, line)); /* said once */
	free(text);
	return value;
}

static void every_counter_is_the_sum_of_all_workers(void **state)
{
	(void)state;
	uint64_t n = 1;
#define X(name)                                                                                    \
	for (size_t i = 0; i < 3; i++)                                                             \
		counters[i].name = n << (20 * i);                                                  \
	n++;
	COUNTER_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	n = 1;
#define X(name)                                                                                    \
	assert_true(value_of(#name) == n + (n << 20) + (n << 40));                                 \
	n++;
	COUNTER_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	assert_true(n > 10);
}

static void all_lines_have_a_name_and_a_value_and_the_last_is_end(void **state)
{
	(void)state;
	char *text = stats(), *save = NULL;
	bool has_ended = false;

	assert_true(text[strlen(text) - 1] == '\n');
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[64], value[64], more;
		assert_false(has_ended);
		has_ended = strcmp(line, "END") == 0;
		assert_true(has_ended || sscanf(line, "STAT %63s %63s%c", name, value, &more) == 2);
	}
	assert_true(has_ended);
	free(text);
}

static void the_log_and_the_memory_are_told_as_they_are(void **state)
{
	(void)state;
	char identity[64], *text = stats();

	snprintf(identity, sizeof identity, "STAT log_identity %08" PRIx32 "\n",
	         log_identity(hub.log));
	assert_non_null(strstr(text, identity));
	assert_non_null(strstr(text, "STAT version " PSAD_VERSION "\n"));
	free(text);
	assert_true(value_of("log_first") == 1);
	assert_true(value_of("log_head") == MESSAGES);
	assert_true(value_of("log_messages") == MESSAGES);
	/* The keeper says it in its first pass. */
	WAIT_FOR(value_of("log_bytes") >= SEGMENT_SIZE_MIN);
	assert_true(value_of("log_segments") == 1);
	assert_true(value_of("workers") == 2);
	assert_true(value_of("input_memory_bytes") == 4096);
}

static void the_lag_is_that_of_the_furthest_behind_and_none_where_nobody_lags(void **state)
{
	(void)state;
	static const struct {
		uint64_t lagging, lowest[3], lag;
	} rows[] = {
		{0, {UINT64_MAX, UINT64_MAX, UINT64_MAX}, 0},
		{0, {3, UINT64_MAX, UINT64_MAX}, 0},          /* an old figure: nobody lags now */
		{1, {UINT64_MAX, UINT64_MAX, UINT64_MAX}, 0}, /* not computed yet */
		{1, {UINT64_MAX, 3, UINT64_MAX}, MESSAGES - 3},
		{2, {5, 3, 4}, MESSAGES - 3},
		{1, {0, UINT64_MAX, UINT64_MAX}, MESSAGES},
		{1, {MESSAGES, UINT64_MAX, UINT64_MAX}, 0},
		{1, {MESSAGES + 5, UINT64_MAX, UINT64_MAX}, 0}, /* read after the head was */
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		counters[1].lagging_subscribers = rows[i].lagging;
		for (size_t k = 0; k < 3; k++)
			counters[k].lowest_position = rows[i].lowest[k];
		assert_true(value_of("max_lag_messages") == rows[i].lag);
	}
}

static void info_is_one_line_that_says_where_the_log_is(void **state)
{
	(void)state;
	struct buf out = {.memory = NULL};
	char expected[256];
	int n = snprintf(expected, sizeof expected,
	                 "INFO psad " PSAD_VERSION " proto=1 log=%08" PRIx32
	                 " first=1 head=%d synced=%d fsync=memory max_payload=1048576\n",
	                 log_identity(hub.log), MESSAGES, MESSAGES);

	assert_int_equal(stats_write_info(&sources, &out), 0);
	assert_int_equal(buf_size(&out), n);
	assert_memory_equal(buf_begin(&out), expected, (size_t)n);
	buf_clear(&out);
}

static void without_memory_it_is_said_that_there_is_none(void **state)
{
	(void)state;
	struct buf out = {.memory = NULL};

	for (most = 0; most < 600; most += 100) {
		assert_int_equal(stats_write(&sources, &out), -ENOMEM);
		buf_clear(&out);
	}
	most = 0;
	assert_int_equal(stats_write_info(&sources, &out), -ENOMEM);
	most = SIZE_MAX;
	buf_clear(&out);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(every_counter_is_the_sum_of_all_workers),
		TEST(all_lines_have_a_name_and_a_value_and_the_last_is_end),
		TEST(the_log_and_the_memory_are_told_as_they_are),
		TEST(the_lag_is_that_of_the_furthest_behind_and_none_where_nobody_lags),
		TEST(info_is_one_line_that_says_where_the_log_is),
		TEST(without_memory_it_is_said_that_there_is_none),
	};
	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
