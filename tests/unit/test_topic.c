/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/topic.h"

#define SLICE(text) ((struct slice){(text), sizeof(text) - 1})
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

static void a_topic_of_tokens_and_dots_may_be_published_to(void **state)
{
	static const struct slice topics[] = {
		SLICE("a"),
		SLICE("a.b"),
		SLICE("orders.eu.created"),
		SLICE("AFTER"),
		SLICE("#"),
		SLICE("a$"),
		SLICE("a.$b"),
		SLICE("-"),
		SLICE("\xC3\xA4.\xFF"),
		SLICE("\x80"),
		SLICE("!\"%&'()+,-/:;<=?@[\\]^_`{|}~"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		assert_null(topic_check(topics[i]));
}

static void what_is_no_topic_is_refused_with_the_reason(void **state)
{
	static const struct {
		struct slice topic;
		const char *reason; /* a word of it */
	} rows[] = {
		{{"", 0}, "1 to 255"},        {{NULL, 0}, "1 to 255"},     {SLICE("."), "empty"},
		{SLICE(".a"), "empty"},       {SLICE("a."), "empty"},      {SLICE("a..b"), "empty"},
		{SLICE("a.b."), "empty"},     {SLICE("*"), "no *"},        {SLICE("a.*"), "no *"},
		{SLICE("a*b"), "no *"},       {SLICE(">"), "no >"},        {SLICE("a.>"), "no >"},
		{SLICE("$"), "broker"},       {SLICE("$SYS.x"), "broker"}, {SLICE("a b"), "white"},
		{SLICE("a\tb"), "white"},     {SLICE("a\r"), "white"},     {SLICE("\0"), "control"},
		{SLICE("a.\0.b"), "control"}, {SLICE("a\x7F"), "control"}, {SLICE("a\n"), "white"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *reason = topic_check(rows[i].topic);
		assert_non_null(reason);
		assert_non_null(strstr(reason, rows[i].reason));
	}
}

static void every_byte_is_allowed_or_not_as_the_contract_says(void **state)
{
	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		char text[3] = {'a', (char)byte, 'a'};
		bool is_bad = byte <= 0x20 || byte == 0x7F || byte == '*' || byte == '>';
		assert_int_equal(topic_check((struct slice){text, 3}) != NULL, is_bad);
	}
}

/* Both are asked with every short text of these bytes, and with topics of every length. */
static void a_topic_is_scanned_as_it_is_checked(void **state)
{
	static const char bytes[] = "a.$*> \t\n";
	char text[300] = "";

	(void)state;
	for (unsigned number = 0; number < 8 * 8 * 8 * 8; number++) {
		for (unsigned i = 0; i < 4; i++)
			text[i] = bytes[number >> (3 * i) & 7];
		text[4] = ' ';
		size_t size = (size_t)((char *)memchr(text, ' ', 5) - text);
		bool is_good = size > 0 && topic_check((struct slice){text, size}) == NULL;
		assert_int_equal(topic_scan(text, 5), is_good ? size : 0);
		assert_int_equal(topic_scan(text, size), 0); /* no space has come */
	}
	memset(text, 'x', sizeof text);
	for (size_t size = 1; size < sizeof text; size++) {
		text[size] = ' ';
		assert_int_equal(topic_scan(text, sizeof text), size <= 255 ? size : 0);
		text[size] = 'x';
	}
}

static void a_topic_has_at_most_255_bytes(void **state)
{
	char text[300];

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_null(topic_check((struct slice){text, 255}));
	assert_non_null(topic_check((struct slice){text, 256}));
	assert_non_null(topic_check((struct slice){text, SIZE_MAX}));
}

static void the_hash_depends_on_the_key_and_on_every_byte(void **state)
{
	char text[TOPIC_MAX];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t n = 1; n <= sizeof(text); n++) {
		struct slice topic = {text, n};
		uint32_t hash = topic_hash(7, topic);
		assert_int_equal(topic_hash(7, topic), hash);
		assert_int_not_equal(topic_hash(8, topic), hash);
		text[n - 1] = 'y';
		assert_int_not_equal(topic_hash(7, topic), hash);
		text[n - 1] = 'x';
	}
}

static void a_hash_does_not_change_between_versions(void **state)
{
	(void)state;
	/* Durable logs hold hashes: with another function their topics would not be found. */
	assert_int_equal(topic_hash(0, SLICE("orders.eu.created")), UINT32_C(0xA78D382C));
	assert_int_equal(topic_hash(UINT64_C(0x0123456789ABCDEF), SLICE("a")),
	                 UINT32_C(0x1BA774E2));
}

static void the_tokens_of_a_topic_come_one_by_one(void **state)
{
	struct slice rest = SLICE("orders.eu.x");

	(void)state;
	assert_true(slice_equals(topic_next_token(&rest), SLICE("orders")));
	assert_true(slice_equals(rest, SLICE("eu.x")));
	assert_true(slice_equals(topic_next_token(&rest), SLICE("eu")));
	assert_true(slice_equals(topic_next_token(&rest), SLICE("x")));
	assert_int_equal(rest.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_topic_of_tokens_and_dots_may_be_published_to),
		cmocka_unit_test(what_is_no_topic_is_refused_with_the_reason),
		cmocka_unit_test(every_byte_is_allowed_or_not_as_the_contract_says),
		cmocka_unit_test(a_topic_is_scanned_as_it_is_checked),
		cmocka_unit_test(a_topic_has_at_most_255_bytes),
		cmocka_unit_test(the_hash_depends_on_the_key_and_on_every_byte),
		cmocka_unit_test(a_hash_does_not_change_between_versions),
		cmocka_unit_test(the_tokens_of_a_topic_come_one_by_one),
	};

	return cmocka_run_group_tests_name("topic", tests, NULL, NULL);
}
