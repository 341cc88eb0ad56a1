/* SPDX-License-Identifier: MIT */
/*
 * What is kept of what matches, against matching each entry again. PSAD_TEST_SEED repeats the test.
 */
#include "net/recall.h"

#include "filled.h"
#include "wire/pattern.h"

enum { SETS = 40, ENTRIES = 160000 };

static const char *const words[] = {"a",   "b",   "a.b",         "a.*",     "b.>",
                                    ">",   "*.c", "a b a.c",     "a.b.* b", "no.one",
                                    "a.>", "*",   "x.y.z.w a.b", "*.*",     "b.c.a *.b"};
enum { WORDS = sizeof words / sizeof words[0] };

static struct interest *interest;
static struct recall *recall;
static struct segment *segment;

/* Each line of `words` in both formats, and with another pattern that matches nothing. */
static struct interest_set *make_set(unsigned i)
{
	char text[100];
	snprintf(text, sizeof text, "%s none.%u", words[i % WORDS], i / WORDS);
	struct interest_set *set = interest_add(
		interest, NULL, (struct slice){.at = text, .n = strlen(text)}, i % 2 == 0);
	assert_non_null(set);
	return set;
}

static bool matches(unsigned i, const struct block *block, uint32_t entry)
{
	struct slice topic = {.at = block_topic(block, entry),
	                      .n = entry_topic_size(block_entry(block, entry))};
	char text[100];
	snprintf(text, sizeof text, "%s", words[i % WORDS]);
	for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
		if (pattern_matches((struct slice){.at = word, .n = strlen(word)}, topic))
			return true;
	return false;
}

static void check(unsigned i, const struct interest_set *set, const struct block *block,
                  uint32_t from)
{
	const struct bits *bits = NULL;
	uint32_t to = recall_ask(recall, set, block, from, &bits);

	assert_true(to > from && to <= block->count);
	for (uint32_t entry = from; entry < to; entry++)
		assert_int_equal(bits_test(bits, entry), matches(i, block, entry));
}

static int begin(void **state)
{
	(void)state;
	interest = interest_new(HASH_KEY);
	recall = recall_new();
	segment = fill(32 << 20, 1, ENTRIES, 100);
	assert_int_equal(state_entries(segment->state), ENTRIES);
	return interest == NULL || recall == NULL;
}

static int end(void **state)
{
	(void)state;
	recall_free(recall);
	interest_free(interest);
	segment_free(segment);
	return 0;
}

static void whoever_asks_where_and_when_is_told_what_matches(void **state)
{
	(void)state;
	struct interest_set *sets[SETS];
	const uint32_t blocks = (ENTRIES + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
	_Static_assert(ENTRIES > 2 * BLOCK_ENTRIES, "blocks that are whole, and one that is not");

	for (unsigned i = 0; i < SETS; i++)
		sets[i] = make_set(i);
	for (int n = 0; n < 1500; n++) {
		unsigned i = random_below(n % 2 == 0 ? SETS : 5);
		struct block block = block_of(segment, random_below(blocks) * BLOCK_ENTRIES);
		/* The end of the log, or a gap, cuts blocks anywhere. */
		if (random_below(3) == 0)
			block.count = 1 + random_below(block.count);
		check(i, sets[i], &block, random_below(block.count));
	}
	for (unsigned i = 0; i < SETS; i++)
		interest_release(interest, sets[i]);
}

/* Who goes on where an answer ended, as followers do. */
static void answers_that_are_continued_cover_the_block(void **state)
{
	(void)state;
	struct interest_set *set = make_set(3), *other = make_set(7);
	struct block block = block_of(segment, BLOCK_ENTRIES);
	const struct bits *bits = NULL;

	for (uint32_t at = 0; at < block.count;) {
		check(3, set, &block, at);
		uint32_t to = recall_ask(recall, set, &block, at, &bits);
		check(7, other, &block, at);
		at = to;
	}
	interest_release(interest, set);
	interest_release(interest, other);
}

/* What has been looked at once is not looked at again. */
static void an_answer_is_kept(void **state)
{
	(void)state;
	struct interest_set *set = make_set(0);
	struct block block = block_of(segment, 0);
	const struct bits *bits = NULL;
	struct entry before = *block_entry(&block, 0);

	uint32_t to = recall_ask(recall, set, &block, 0, &bits);
	bool is_set = bits_test(bits, 0);
	segment_entry(segment, 0)->topic_hash = ~before.topic_hash;
	segment_entry(segment, 0)->stamp = before.stamp ^ 1;
	assert_int_equal(recall_ask(recall, set, &block, 0, &bits), to);
	assert_int_equal(bits_test(bits, 0), is_set);
	*segment_entry(segment, 0) = before;
	interest_release(interest, set);
}

/* A set of the same patterns that is made anew has another number: nothing is mixed up. */
static void an_answer_is_of_one_set_only(void **state)
{
	(void)state;
	struct block block = block_of(segment, 0);
	for (unsigned i = 0; i < 3 * SETS; i++) {
		struct interest_set *set = make_set(i % SETS);
		check(i % SETS, set, &block, random_below(block.count));
		interest_release(interest, set);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(whoever_asks_where_and_when_is_told_what_matches),
		TEST(answers_that_are_continued_cover_the_block),
		TEST(an_answer_is_kept),
		TEST(an_answer_is_of_one_set_only),
	};

	draw_seed();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
