/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/pattern.h"

#define SLICE(text) ((struct slice){(text), sizeof(text) - 1})
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

static struct slice slice_of(const char *text)
{
	return (struct slice){text, strlen(text)};
}

static void a_pattern_has_wildcards_as_whole_tokens(void **state)
{
	static const char *const patterns[] = {
		"a",   "a.b", "*",     ">",      "*.*",  "a.*.b",
		"*.>", "a.>", "a.*.>", "$SYS.>", "$SYS", "AFTER",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		assert_null(pattern_check(slice_of(patterns[i])));
}

static void what_is_no_pattern_is_refused_with_the_reason(void **state)
{
	static const struct {
		struct slice pattern;
		const char *reason; /* a word of it */
	} rows[] = {
		{{NULL, 0}, "1 to 255"},         {SLICE("."), "empty"},
		{SLICE("a..b"), "empty"},        {SLICE(".*"), "empty"},
		{SLICE(">."), "empty"},          {SLICE("a.>."), "empty"},
		{SLICE("a*"), "whole tokens"},   {SLICE("*a"), "whole tokens"},
		{SLICE("**"), "whole tokens"},   {SLICE("a.b*c.d"), "whole tokens"},
		{SLICE("a.x>"), "whole tokens"}, {SLICE(">>"), "whole tokens"},
		{SLICE("*>"), "whole tokens"},   {SLICE(">.a"), "last"},
		{SLICE("a.>.b"), "last"},        {SLICE(">.>"), "last"},
		{SLICE("a b"), "white"},         {SLICE("a\0"), "control"},
		{SLICE("a.*\t"), "white"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *reason = pattern_check(rows[i].pattern);
		assert_non_null(reason);
		assert_non_null(strstr(reason, rows[i].reason));
	}
}

static void a_pattern_has_at_most_255_bytes(void **state)
{
	char text[300];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 == 0 ? '*' : '.';
	assert_null(pattern_check((struct slice){text, 255}));
	assert_non_null(pattern_check((struct slice){text, 257}));
	assert_non_null(pattern_check((struct slice){text, SIZE_MAX}));
}

static void a_pattern_without_wildcards_is_exact(void **state)
{
	(void)state;
	assert_true(pattern_is_exact(SLICE("a")));
	assert_true(pattern_is_exact(SLICE("$SYS.a")));
	assert_false(pattern_is_exact(SLICE("*")));
	assert_false(pattern_is_exact(SLICE("a.>")));
	assert_false(pattern_is_exact(SLICE("a.*.b")));
}

static void a_subscriber_gets_what_its_pattern_names_and_nothing_else(void **state)
{
	static const struct {
		const char *pattern, *topic;
		bool matches;
	} rows[] = {
		{"a", "a", true},
		{"a", "b", false},
		{"a", "A", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"a.b", "a.b", true},
		{"a.b", "a.bc", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"*.b", "a.b", true},
		{"*.b", "b", false},
		{"*.b", "x.y.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.c", false},
		{"a.*.c", "a.b.b.c", false},
		{"*.*", "a.b", true},
		{"*.*", "a", false},
		{">", "a", true},
		{">", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c.d", true},
		{"a.>", "ab.c", false},
		{"*.>", "a", false},
		{"*.>", "a.b.c", true},
		{"a.*.>", "a.b", false},
		{"a.*.>", "a.b.c", true},
		/* The broker's own topics come only to those who ask for them by name. */
		{">", "$SYS.a", false},
		{"*", "$SYS", false},
		{"*.a", "$SYS.a", false},
		{"*.>", "$SYS.a", false},
		{"$SYS.>", "$SYS.a", true},
		{"$SYS.*", "$SYS.a", true},
		{"$SYS", "$SYS", true},
		{"a.*", "a.$b", true},
		{"a.>", "a.$b", true},
		{"*.$b", "a.$b", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct slice pattern = slice_of(rows[i].pattern), topic = slice_of(rows[i].topic);
		assert_null(pattern_check(pattern));
		if (pattern_matches(pattern, topic) != rows[i].matches)
			fail_msg("%s and %s", rows[i].pattern, rows[i].topic);
	}
}

static void the_longest_pattern_matches_the_longest_topic(void **state)
{
	char pattern[TOPIC_MAX], topic[TOPIC_MAX];

	(void)state;
	for (size_t i = 0; i < TOPIC_MAX; i++) {
		pattern[i] = i % 2 == 0 ? '*' : '.';
		topic[i] = i % 2 == 0 ? 'x' : '.';
	}
	assert_true(pattern_matches((struct slice){pattern, 255}, (struct slice){topic, 255}));
	assert_false(pattern_matches((struct slice){pattern, 253}, (struct slice){topic, 255}));
	assert_false(pattern_matches((struct slice){pattern, 255}, (struct slice){topic, 253}));
	pattern[252] = '>';
	assert_true(pattern_matches((struct slice){pattern, 253}, (struct slice){topic, 255}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pattern_has_wildcards_as_whole_tokens),
		cmocka_unit_test(what_is_no_pattern_is_refused_with_the_reason),
		cmocka_unit_test(a_pattern_has_at_most_255_bytes),
		cmocka_unit_test(a_pattern_without_wildcards_is_exact),
		cmocka_unit_test(a_subscriber_gets_what_its_pattern_names_and_nothing_else),
		cmocka_unit_test(the_longest_pattern_matches_the_longest_topic),
	};

	return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
