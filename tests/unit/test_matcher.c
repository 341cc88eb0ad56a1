/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=free */
/*
 * The matcher is compared with asking pattern_matches() for each pattern. PSAD_TEST_SEED repeats a
 * run. The tests that count allocations, or let them fail, are skipped where the program was not
 * linked with the flags above.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"
#include "wire/matcher.h"
#include "wire/pattern.h"

#define HASH_KEY UINT64_C(0xFEEDFACECAFEBEEF)

static size_t malloc_calls;
static size_t blocks;            /* that are allocated and not freed */
static unsigned malloc_fails_in; /* one call in so many fails, by chance; 0: none */
static size_t malloc_fails_at;   /* the call of that number fails, from 1 on; 0: none */
static size_t malloc_fails_from; /* calls for so many bytes or more fail; 0: none */
void *__real_malloc(size_t n) __attribute__((weak));
void *__real_calloc(size_t count, size_t n) __attribute__((weak));
void __real_free(void *block) __attribute__((weak));
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void __wrap_free(void *block);

static bool shall_fail(size_t n)
{
	malloc_calls++;
	return malloc_calls == malloc_fails_at ||
	       (malloc_fails_from > 0 && n >= malloc_fails_from) ||
	       (malloc_fails_in > 0 && random_below(malloc_fails_in) == 0);
}

void *__wrap_malloc(size_t n)
{
	if (shall_fail(n))
		return NULL;
	blocks++;
	return __real_malloc(n);
}

/* A compiler makes calloc() of malloc() and memset(). */
void *__wrap_calloc(size_t count, size_t n)
{
	if (shall_fail(count * n))
		return NULL;
	blocks++;
	return __real_calloc(count, n);
}

void __wrap_free(void *block)
{
	blocks -= block != NULL;
	__real_free(block);
}

static struct slice slice_of(const char *text)
{
	return (struct slice){text, strlen(text)};
}

/* A pattern of the model; its address is the value. */
struct filed {
	char text[TOPIC_MAX + 1];
	bool is_filed;
	unsigned hits;
};

static void count_hit(void *value, void *context)
{
	struct filed *filed = value;

	filed->hits++;
	++*(size_t *)context;
}

/* Asks for a topic; the hits are counted in the values. */
static size_t find(const struct matcher *matcher, const char *topic)
{
	size_t hits = 0;

	matcher_find(matcher, slice_of(topic), topic_hash(HASH_KEY, slice_of(topic)), count_hit,
	             &hits);
	return hits;
}

/* Fails unless exactly the filed patterns that match were hit, once each. */
static void check_topic(const struct matcher *matcher, struct filed *all, size_t n,
                        const char *topic)
{
	size_t expected = 0;
	size_t hits = find(matcher, topic);

	for (size_t i = 0; i < n; i++) {
		bool matches =
			all[i].is_filed && pattern_matches(slice_of(all[i].text), slice_of(topic));
		if (all[i].hits != (matches ? 1 : 0))
			fail_msg("%s was hit %u times by %s", all[i].text, all[i].hits, topic);
		all[i].hits = 0;
		expected += matches;
	}
	assert_int_equal(hits, expected);
}

/*
 * Few different tokens, so that names have much in common; some that begin alike. `wild_in`: one
 * token in so many is '*' or, as the last, '>'; 0: none.
 */
static void random_name(char *text, unsigned tokens_max, unsigned wild_in)
{
	static const char *const words[] = {"a", "b", "ab", "abc", "a", "$a", "\xFF"};
	unsigned tokens = 1 + random_below(tokens_max);

	*text = '\0';
	for (unsigned i = 0; i < tokens; i++) {
		const char *word = words[random_below(sizeof(words) / sizeof(words[0]))];
		if (wild_in > 0 && random_below(wild_in) == 0)
			word = i + 1 == tokens && random_below(2) == 0 ? ">" : "*";
		if (i > 0)
			strcat(text, ".");
		strcat(text, word);
	}
}

static struct filed *model_find(struct filed *all, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		if (all[i].is_filed && strcmp(all[i].text, text) == 0)
			return &all[i];
	}
	return NULL;
}

/* Adds a random pattern at a free place of the model, or removes the one that is there. */
static void change_one(struct matcher *matcher, struct filed *all, size_t n, unsigned tokens_max)
{
	struct filed *one = &all[random_below((unsigned)n)];

	if (one->is_filed) {
		assert_ptr_equal(matcher_get(matcher, slice_of(one->text)), one);
		assert_ptr_equal(matcher_remove(matcher, slice_of(one->text)), one);
		assert_null(matcher_remove(matcher, slice_of(one->text)));
		one->is_filed = false;
		return;
	}
	random_name(one->text, tokens_max, random_below(3) == 0 ? 0 : 3);
	struct filed *same = model_find(all, n, one->text);
	assert_ptr_equal(matcher_get(matcher, slice_of(one->text)), same);
	int error = matcher_add(matcher, slice_of(one->text), one);
	if (error == -ENOMEM && malloc_fails_in > 0)
		return;
	assert_int_equal(error, same != NULL ? -EEXIST : 0);
	one->is_filed = same == NULL;
}

static void check_has_wildcards(const struct matcher *matcher, const struct filed *all, size_t n)
{
	bool has = false;

	for (size_t i = 0; i < n; i++)
		has = has || (all[i].is_filed && !pattern_is_exact(slice_of(all[i].text)));
	assert_int_equal(matcher_has_wildcards(matcher), has);
}

/* A life of n places for patterns. */
static void compare(size_t n, unsigned tokens_max, unsigned turns)
{
	struct filed *all = calloc(n, sizeof(*all));
	struct matcher *matcher = matcher_new(HASH_KEY);

	assert_non_null(all);
	assert_non_null(matcher);
	for (unsigned turn = 0; turn < turns; turn++) {
		char topic[TOPIC_MAX + 1];
		change_one(matcher, all, n, tokens_max);
		random_name(topic, tokens_max, 0);
		check_topic(matcher, all, n, topic);
		check_has_wildcards(matcher, all, n);
	}
	for (size_t i = 0; i < n / 2; i++) {
		void *value = matcher_remove(matcher, slice_of(all[i].text));
		assert_int_equal(value != NULL, model_find(all, n, all[i].text) != NULL);
		if (value != NULL)
			((struct filed *)value)->is_filed = false;
	}
	check_topic(matcher, all, n, "a.b.a");
	matcher_free(matcher);
	free(all);
}

static void a_topic_finds_the_patterns_that_match_whatever_came_and_went(void **state)
{
	(void)state;
	compare(1, 3, 2000);
	compare(4, 2, 10000);
	compare(30, 3, 30000);
	compare(100, 5, 30000);
	compare(1000, 6, 5000);
	compare(10, 40, 5000);
}

static void each_kind_of_pattern_is_found_and_taken_out_again(void **state)
{
	static const struct {
		const char *topic;
		unsigned hits[9];
	} rows[] = {
		{"a", {1, 0, 0, 0, 1, 1, 0, 0, 0}},      {"b", {0, 0, 0, 0, 1, 1, 0, 0, 0}},
		{"a.b", {0, 1, 1, 1, 0, 1, 1, 0, 0}},    {"a.c", {0, 0, 1, 1, 0, 1, 1, 0, 0}},
		{"a.b.c", {0, 0, 1, 0, 0, 1, 1, 1, 0}},  {"x.b.c", {0, 0, 0, 0, 0, 1, 1, 1, 0}},
		{"$SYS.b", {0, 0, 0, 0, 0, 0, 0, 0, 1}}, {"$SYS", {0, 0, 0, 0, 0, 0, 0, 0, 0}},
	};
	static struct filed all[9] = {
		{.text = "a"},   {.text = "a.b"},   {.text = "a.>"},
		{.text = "a.*"}, {.text = "*"},     {.text = ">"},
		{.text = "*.>"}, {.text = "*.*.c"}, {.text = "$SYS.>"},
	};
	struct matcher *matcher = matcher_new(HASH_KEY);

	(void)state;
	assert_non_null(matcher);
	for (size_t i = 0; i < 9; i++)
		assert_int_equal(matcher_add(matcher, slice_of(all[i].text), &all[i]), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		find(matcher, rows[i].topic);
		for (size_t j = 0; j < 9; j++) {
			assert_int_equal(all[j].hits, rows[i].hits[j]);
			all[j].hits = 0;
		}
	}
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(matcher_add(matcher, slice_of(all[i].text), &all[0]), -EEXIST);
		assert_ptr_equal(matcher_remove(matcher, slice_of(all[i].text)), &all[i]);
		assert_null(matcher_get(matcher, slice_of(all[i].text)));
	}
	assert_false(matcher_has_wildcards(matcher));
	assert_int_equal(find(matcher, "a.b"), 0);
	matcher_free(matcher);
}

static void a_part_of_a_filed_pattern_is_not_filed(void **state)
{
	static const char *const others[] = {
		"*",       "*.b",      "*.b.c",   "*.b.c.d.>", "*.b.c.d.e",
		"*.b.x.d", "*.bb.c.d", "*.b.c.>", ">",
	};
	static struct filed filed = {.text = "*.b.c.d"};
	struct matcher *matcher = matcher_new(HASH_KEY);

	(void)state;
	assert_non_null(matcher);
	assert_int_equal(matcher_add(matcher, slice_of(filed.text), &filed), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_null(matcher_get(matcher, slice_of(others[i])));
		assert_null(matcher_remove(matcher, slice_of(others[i])));
	}
	assert_ptr_equal(matcher_get(matcher, slice_of(filed.text)), &filed);
	matcher_free(matcher);
}

static void the_longest_patterns_do_not_break_anything(void **state)
{
	enum { TOKENS = 128 };
	static struct filed all[2 * TOKENS];
	char topic[TOPIC_MAX + 1];
	struct matcher *matcher = matcher_new(HASH_KEY);

	(void)state;
	assert_non_null(matcher);
	for (size_t i = 0; i < TOPIC_MAX; i++)
		topic[i] = i % 2 == 0 ? 'x' : '.';
	topic[TOPIC_MAX] = '\0';
	/* One wildcard each, at every place; and the beginnings with '>' behind them. */
	for (size_t i = 0; i < TOKENS; i++) {
		strcpy(all[i].text, topic);
		all[i].text[2 * i] = '*';
		strcpy(all[TOKENS + i].text, topic);
		all[TOKENS + i].text[2 * i] = '>';
		all[TOKENS + i].text[2 * i + 1] = '\0';
	}
	for (size_t i = 0; i < 2 * TOKENS; i++) {
		assert_null(pattern_check(slice_of(all[i].text)));
		assert_int_equal(matcher_add(matcher, slice_of(all[i].text), &all[i]), 0);
		all[i].is_filed = true;
	}
	check_topic(matcher, all, 2 * TOKENS, topic);
	topic[TOPIC_MAX - 1] = 'y';
	check_topic(matcher, all, 2 * TOKENS, topic);
	matcher_free(matcher);
}

static void a_hash_that_belongs_to_another_topic_finds_nothing(void **state)
{
	static struct filed filed = {.text = "a"};
	struct matcher *matcher = matcher_new(HASH_KEY);
	size_t hits = 0;

	(void)state;
	assert_non_null(matcher);
	assert_int_equal(matcher_add(matcher, slice_of("a"), &filed), 0);
	/* As when two topics collide: the bytes decide. */
	matcher_find(matcher, slice_of("b"), topic_hash(HASH_KEY, slice_of("a")), count_hit, &hits);
	assert_int_equal(hits, 0);
	matcher_free(matcher);
}

/* A life in which allocations fail, from the first on; what is asked in between must be right. */
static void starve(struct filed *all, size_t n, unsigned turns)
{
	struct matcher *matcher = NULL;

	size_t before = blocks;

	memset(all, 0, n * sizeof(*all));
	malloc_fails_in = 3;
	while (matcher == NULL)
		matcher = matcher_new(HASH_KEY);
	for (unsigned turn = 0; turn < turns; turn++) {
		char topic[TOPIC_MAX + 1];
		malloc_fails_in = 2 + random_below(5);
		change_one(matcher, all, n, 6);
		malloc_fails_in = 0;
		random_name(topic, 6, 0);
		check_topic(matcher, all, n, topic);
	}
	matcher_free(matcher);
	assert_int_equal(blocks, before);
}

static void out_of_memory_is_an_answer_and_changes_nothing(void **state)
{
	static struct filed all[800];

	(void)state;
	if (__real_malloc == NULL)
		skip();
	for (unsigned life = 0; life < 300; life++)
		starve(all, 10, 30);
	/* Enough of them for the hash tables to grow. */
	starve(all, 800, 6000);
	/* And where they cannot, so that it is they who find no memory. */
	malloc_fails_from = 1000;
	starve(all, 800, 6000);
	malloc_fails_from = 0;
}

/* Two patterns of 128 tokens that are the same but for one in the middle. */
static void make_deep(struct filed deep[2])
{
	memset(deep, 0, 2 * sizeof(*deep));
	for (size_t i = 0; i < TOPIC_MAX; i++)
		deep[0].text[i] = i % 2 == 0 ? '*' : '.';
	strcpy(deep[1].text, deep[0].text);
	deep[1].text[128] = 'x';
}

static void a_pattern_of_many_tokens_costs_no_more_blocks_than_a_short_one(void **state)
{
	static struct filed deep[2];
	struct matcher *matcher;

	(void)state;
	if (__real_malloc == NULL)
		skip();
	matcher = matcher_new(HASH_KEY);
	assert_non_null(matcher);
	make_deep(deep);
	for (size_t i = 0; i < 2; i++) {
		malloc_calls = 0;
		assert_int_equal(matcher_add(matcher, slice_of(deep[i].text), &deep[i]), 0);
		/* The first: a node and the hash table of two parts. The second: two nodes. */
		assert_true(malloc_calls <= 3);
	}
	matcher_free(matcher);
}

static void a_pattern_that_is_taken_out_leaves_nothing_behind(void **state)
{
	static struct filed deep[2];
	struct matcher *matcher;

	(void)state;
	if (__real_malloc == NULL)
		skip();
	matcher = matcher_new(HASH_KEY);
	assert_non_null(matcher);
	make_deep(deep);
	assert_int_equal(matcher_add(matcher, slice_of(deep[0].text), &deep[0]), 0);
	size_t before = blocks;
	/* Others that branch off at every token come and go. */
	for (size_t i = 1; i < 128; i++) {
		strcpy(deep[1].text, deep[0].text);
		deep[1].text[2 * i] = 'x';
		assert_int_equal(matcher_add(matcher, slice_of(deep[1].text), &deep[1]), 0);
		assert_ptr_equal(matcher_remove(matcher, slice_of(deep[1].text)), &deep[1]);
		assert_int_equal(blocks, before);
	}
	assert_ptr_equal(matcher_get(matcher, slice_of(deep[0].text)), &deep[0]);
	matcher_free(matcher);
}

static void a_pattern_that_found_no_memory_leaves_nothing_behind(void **state)
{
	static struct filed deep[2];
	struct matcher *matcher;
	int error = -ENOMEM;

	(void)state;
	if (__real_malloc == NULL)
		skip();
	matcher = matcher_new(HASH_KEY);
	assert_non_null(matcher);
	make_deep(deep);
	assert_int_equal(matcher_add(matcher, slice_of(deep[0].text), &deep[0]), 0);
	size_t before = blocks;
	for (size_t n = 1; error != 0; n++) {
		malloc_calls = 0;
		malloc_fails_at = n;
		error = matcher_add(matcher, slice_of(deep[1].text), &deep[1]);
		malloc_fails_at = 0;
		assert_true(error == 0 || error == -ENOMEM);
		assert_int_equal(blocks, before + (error == 0 ? 2 : 0));
		assert_ptr_equal(matcher_get(matcher, slice_of(deep[0].text)), &deep[0]);
	}
	assert_ptr_equal(matcher_get(matcher, slice_of(deep[1].text)), &deep[1]);
	matcher_free(matcher);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_topic_finds_the_patterns_that_match_whatever_came_and_went),
		cmocka_unit_test(each_kind_of_pattern_is_found_and_taken_out_again),
		cmocka_unit_test(a_part_of_a_filed_pattern_is_not_filed),
		cmocka_unit_test(the_longest_patterns_do_not_break_anything),
		cmocka_unit_test(a_hash_that_belongs_to_another_topic_finds_nothing),
		cmocka_unit_test(out_of_memory_is_an_answer_and_changes_nothing),
		cmocka_unit_test(a_pattern_of_many_tokens_costs_no_more_blocks_than_a_short_one),
		cmocka_unit_test(a_pattern_that_is_taken_out_leaves_nothing_behind),
		cmocka_unit_test(a_pattern_that_found_no_memory_leaves_nothing_behind),
	};

	draw_seed();
	return cmocka_run_group_tests_name("matcher", tests, NULL, NULL);
}
