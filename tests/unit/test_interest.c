/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=malloc -Wl,--wrap=calloc */
/*
 * Who wants what: sets that are shared, and their matches in a real log against a naive matcher.
 * interest_free() asserts that no set is left, the matcher's that no pattern is. PSAD_TEST_SEED
 * repeats the random tests.
 */
#include "net/interest.h"

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
#include "base/clock.h"
#include "net/fanout.h"
#include "wire/pattern.h"

enum { KEY = 42, WORDS_MAX = 12, SETS = 40, MESSAGES = 3000 };

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);

/* This thread's call of that number fails, from 1 on; 0: none. */
static _Thread_local unsigned fails_in;

static bool shall_fail(void)
{
	return fails_in > 0 && --fails_in == 0;
}

void *__wrap_malloc(size_t n)
{
	return shall_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
	return shall_fail() ? NULL : __real_calloc(count, n);
}

static char log_error[LOG_ERROR_MAX];
static struct slice slice_of(const char *text)
{
	return (struct slice){.at = text, .n = strlen(text)};
}

static struct interest *begin(void)
{
	struct interest *interest = interest_new(KEY);
	assert_non_null(interest);
	return interest;
}

static struct interest_set *add(struct interest *interest, struct interest_set *set,
                                const char *words)
{
	struct interest_set *result = interest_add(interest, set, slice_of(words), false);
	assert_non_null(result);
	return result;
}

/* ---- sets ---- */

static void equal_pattern_lists_share_a_set_in_any_order_and_said_twice(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		bool is_same;
	} rows[] = {
		{"a", "a", true},
		{"a b c", "c b a", true},
		{"a b a", "b a", true},
		{"a  b", "b    a b b", true},
		{"a.* > b", "> b a.*", true},
		{"a", "b", false},
		{"a", "a b", false},
		{"a", "a.>", false},
		{"*", ">", false},
		{"a.b", "a", false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct interest *interest = begin();
		struct interest_set *a = add(interest, NULL, rows[i].a);
		struct interest_set *b = add(interest, NULL, rows[i].b);
		assert_int_equal(a == b, rows[i].is_same);
		assert_int_equal(a->uses, rows[i].is_same ? 2 : 1);
		interest_release(interest, a);
		assert_int_equal(b->uses, 1);
		interest_release(interest, b);
		interest_free(interest);
	}
}

static void the_formats_have_sets_of_their_own(void **state)
{
	(void)state;
	struct interest *interest = begin();
	struct interest_set *framed = add(interest, NULL, "a b");
	struct interest_set *bare = interest_add(interest, NULL, slice_of("a b"), true);

	assert_non_null(bare);
	assert_ptr_not_equal(framed, bare);
	assert_true(bare->is_bare && !framed->is_bare);
	struct interest_set *less;
	assert_int_equal(interest_subtract(interest, bare, slice_of("b"), &less), 0);
	assert_true(less->is_bare);
	interest_release(interest, framed);
	interest_release(interest, bare);
	interest_release(interest, less);
	interest_free(interest);
}

static void adding_one_by_one_leads_to_the_same_set_as_all_at_once(void **state)
{
	(void)state;
	struct interest *interest = begin();
	struct interest_set *all = add(interest, NULL, "a b c.* >");
	struct interest_set *one = add(interest, NULL, "c.*");
	struct interest_set *two = add(interest, one, "> c.*");
	struct interest_set *four = add(interest, two, "b a");

	assert_ptr_equal(four, all);
	assert_int_equal(all->uses, 2);
	assert_int_equal(one->uses, 1); /* the use of what was added to stays */
	assert_ptr_equal(add(interest, all, "a"), all);
	interest_release(interest, all);
	interest_release(interest, one);
	interest_release(interest, two);
	interest_release(interest, four);
	interest_release(interest, all);
	interest_free(interest);
}

static void taking_out_leads_back_and_what_is_not_there_does_not_matter(void **state)
{
	(void)state;
	static const struct {
		const char *from, *words, *left; /* NULL: nothing */
	} rows[] = {
		{"a b c", "b", "a c"},    {"a b c", "b b", "a c"}, {"a b c", "x", "a b c"},
		{"a b c", "c b a", NULL}, {"a", "a x", NULL},      {"a b", "> *", "a b"},
		{"> *", ">", "*"},        {"a b", "c a", "b"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct interest *interest = begin();
		struct interest_set *from = add(interest, NULL, rows[i].from), *left = from;
		struct interest_set *other = add(interest, NULL, "c y"); /* "c" is filed, too */
		assert_int_equal(interest_subtract(interest, from, slice_of(rows[i].words), &left),
		                 0);
		assert_int_equal(left == NULL, rows[i].left == NULL);
		interest_release(interest, from);
		if (left != NULL) {
			struct interest_set *same = add(interest, NULL, rows[i].left);
			assert_ptr_equal(same, left);
			interest_release(interest, same);
			interest_release(interest, left);
		}
		interest_release(interest, other);
		interest_free(interest);
	}
}

static void patterns_are_counted_before_they_are_taken(void **state)
{
	(void)state;
	static const struct {
		const char *held, *words;
		size_t count;
	} rows[] = {
		{"", "a", 1},      {"", "a b", 2},  {"a", "a", 1},     {"a", "", 1},
		{"a b", "c b", 3}, {"a", "> *", 3}, {"a b", "b a", 2},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct interest *interest = begin();
		struct interest_set *other = add(interest, NULL, "a > c");
		struct interest_set *set = NULL;
		if (rows[i].held[0] != '\0')
			set = add(interest, NULL, rows[i].held);
		assert_int_equal(interest_count_with(interest, set, slice_of(rows[i].words)),
		                 rows[i].count);
		if (set != NULL)
			interest_release(interest, set);
		interest_release(interest, other);
		interest_free(interest);
	}
}

/* Every allocation of both operations fails once; what was there is as it was. */
static void without_memory_nothing_has_changed(void **state)
{
	(void)state;
	struct interest *interest = begin();
	struct interest_set *base = add(interest, NULL, "a b.*");
	struct interest_set *more = NULL, *less = NULL;
	unsigned failures = 0;
	int error;

	for (unsigned i = 1; more == NULL; i++, failures++) {
		assert_true(i < 100);
		fails_in = i;
		more = interest_add(interest, base, slice_of("c.> d a d e.*.f"), false);
		bool has_failed = fails_in == 0;
		fails_in = 0;
		assert_true(more != NULL || has_failed);
		assert_int_equal(base->uses, 1);
		assert_int_equal(interest_count_with(interest, base, slice_of("")), 2);
	}
	assert_true(failures >= 5);
	assert_int_equal(more->count, 5);
	failures = 0;
	do {
		fails_in = ++failures;
		error = interest_subtract(interest, more, slice_of("a d"), &less);
		fails_in = 0;
		assert_true(error == 0 || error == -ENOMEM);
		assert_int_equal(more->uses, 1);
	} while (error != 0);
	assert_true(failures >= 3);
	assert_int_equal(less->count, 3);
	interest_release(interest, base);
	interest_release(interest, more);
	interest_release(interest, less);
	interest_free(interest);
	for (unsigned i = 1; i < 3; i++) {
		fails_in = i;
		interest = interest_new(KEY);
		fails_in = 0;
		assert_null(interest);
	}
	interest = begin();
	interest_free(interest);
	interest_free(NULL);
}

/* ---- questions, asked of a log ---- */

struct world {
	struct epoch_thread me;
	struct log *log;
	struct wake *wake;
	struct interest *interest;
	char topics[MESSAGES + 1][16]; /* by id */
	struct {
		struct interest_set *set;
		char words[WORDS_MAX][16];
		unsigned count;
		struct follower follower;
	} rows[SETS];
};

/* A name of one to three tokens; among a few, so that they meet. */
static void random_name(char name[16], bool is_pattern)
{
	static const char *const tokens[] = {"a", "b", "c", "dd", "*", ">"};
	unsigned n = 1 + random_below(3);

	name[0] = '\0';
	for (unsigned i = 0; i < n; i++) {
		unsigned last = !is_pattern ? 4 : i == n - 1 ? 6 : 5;
		strcat(name, i > 0 ? "." : "");
		strcat(name, tokens[random_below(last)]);
	}
}

static void append_one(struct world *world, uint64_t id)
{
	char *topic = world->topics[id];
	size_t appended = 0;

	random_name(topic, false);
	struct message message = {.topic = topic, .topic_size = (uint32_t)strlen(topic)};
	message.payload = topic;
	message.payload_size = random_below(5);
	message.topic_hash = topic_hash(log_hash_key(world->log), slice_of(topic));
	while (appended == 0) {
		epoch_enter(&world->me);
		enum log_verdict verdict = log_append(world->log, &message, 1, &appended);
		epoch_leave(&world->me);
		assert_int_not_equal(verdict, LOG_FULL);
	}
	assert_true(message.id == id);
}

static struct world *build(void)
{
	const struct log_options options = {.segment_size = SEGMENT_SIZE_MIN};
	struct world *world = aligned_alloc(CACHE_LINE, (sizeof *world + CACHE_LINE - 1) /
	                                                        CACHE_LINE * CACHE_LINE);

	assert_non_null(world);
	memset(world, 0, sizeof *world);
	world->wake = wake_new(1);
	assert_non_null(world->wake);
	world->log = log_open(&options, world->wake, log_error, sizeof log_error);
	assert_non_null(world->log);
	epoch_register(log_epoch(world->log), &world->me);
	world->interest = interest_new(log_hash_key(world->log));
	assert_non_null(world->interest);
	for (uint64_t id = 1; id <= MESSAGES; id++)
		append_one(world, id);
	return world;
}

static void fill_row(struct world *world, size_t i)
{
	char words[WORDS_MAX * 16] = "";

	world->rows[i].count = 1 + random_below(random_below(3) ? 3 : WORDS_MAX);
	for (unsigned k = 0; k < world->rows[i].count; k++) {
		random_name(world->rows[i].words[k], random_below(2));
		strcat(strcat(words, " "), world->rows[i].words[k]);
	}
	world->rows[i].set = interest_add(world->interest, NULL, slice_of(words), random_below(2));
	assert_non_null(world->rows[i].set);
}

static void empty_row(struct world *world, size_t i)
{
	struct interest_set *set = world->rows[i].set;
	if (world->rows[i].follower.state == FOLLOWER_LIVE)
		TAILQ_REMOVE(&set->sides[world->rows[i].follower.side], &world->rows[i].follower,
		             link);
	world->rows[i].follower.state = FOLLOWER_IDLE;
	interest_release(world->interest, set);
	world->rows[i].set = NULL;
}

static void come_alive(struct world *world, size_t i)
{
	struct interest_set *set = world->rows[i].set;
	struct follower *follower = &world->rows[i].follower;
	follower->state = FOLLOWER_LIVE;
	follower->side = set->live_side;
	TAILQ_INSERT_TAIL(&set->sides[follower->side], follower, link);
}

static bool is_wanted(const struct world *world, size_t row, uint64_t id)
{
	for (unsigned k = 0; k < world->rows[row].count; k++)
		if (pattern_matches(slice_of(world->rows[row].words[k]),
		                    slice_of(world->topics[id])))
			return true;
	return false;
}

/* Returns how many match. */
static uint32_t check_bits(const struct world *world, size_t row, const struct block *block,
                           const struct bits *bits)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < block->count; i++) {
		assert_int_equal(bits_test(bits, i), is_wanted(world, row, block->first + i));
		count += bits_test(bits, i);
	}
	return count;
}

static uint64_t matched_bytes(const struct block *block, const struct bits *bits)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < block->count; i++)
		bytes += bits_test(bits, i) ? block_entry(block, i)->size : 0;
	return bytes;
}

/*
 * All that are due, once each, are those with live followers that something matches. What has been
 * looked at of the block is what is left of it.
 */
static void check_block(struct world *world, struct block *block)
{
	struct interest_due_list due = TAILQ_HEAD_INITIALIZER(due);
	struct interest_set *set;
	struct bits bits;
	uint32_t looked = interest_match_all(world->interest, block, UINT64_MAX, &due);

	assert_in_range(looked, 1, block->count);
	block->count = looked;
	for (size_t i = 0; i < SETS; i++) {
		bool is_due = false, is_matched;
		if ((set = world->rows[i].set) == NULL)
			continue;
		memset(&bits, random_below(2) == 0 ? 0 : 0xff, sizeof bits);
		/* In two pieces, wherever the border is. */
		uint32_t border = random_below(block->count + 1);
		uint64_t bytes = 0;
		if (border > 0)
			bytes += interest_match_range(set, block, 0, border, &bits);
		if (border < block->count)
			bytes += interest_match_range(set, block, border, block->count, &bits);
		assert_true(bytes == matched_bytes(block, &bits));
		is_matched = check_bits(world, i, block, &bits) > 0;
		struct interest_set *other;
		TAILQ_FOREACH(other, &due, due) {
			assert_false(other == set && is_due);
			is_due = is_due || other == set;
		}
		assert_int_equal(is_due, is_matched && !TAILQ_EMPTY(&set->sides[set->live_side]));
		assert_int_equal(is_due, set->is_due);
		if (!is_due)
			continue;
		memset(&bits, random_below(2) == 0 ? 0 : 0xff, sizeof bits);
		interest_bits(world->interest, set, block->count, &bits);
		check_bits(world, i, block, &bits);
	}
	while ((set = TAILQ_FIRST(&due)) != NULL) {
		TAILQ_REMOVE(&due, set, due);
		set->is_due = false;
		set->live_side ^= random_below(2); /* who is on the other side is not live */
	}
	interest_match_none(world->interest, &due);
	while ((set = TAILQ_FIRST(&due)) != NULL) {
		assert_true(set->is_due && !TAILQ_EMPTY(&set->sides[set->live_side]));
		TAILQ_REMOVE(&due, set, due);
		set->is_due = false;
	}
	for (size_t i = 0; i < SETS; i++)
		assert_true(world->rows[i].set == NULL || !world->rows[i].set->is_due);
}

static void every_set_gets_what_its_patterns_match_and_only_live_ones_are_due(void **state)
{
	(void)state;
	struct world *world = build();
	unsigned blocks = 0;

	for (unsigned round = 0; round < 30; round++) {
		for (size_t i = 0; i < SETS; i++) {
			if (world->rows[i].set != NULL && random_below(3) == 0)
				empty_row(world, i);
			else if (world->rows[i].set == NULL && random_below(2) == 0)
				fill_row(world, i);
			if (world->rows[i].set != NULL && random_below(2) == 0 &&
			    world->rows[i].follower.state == FOLLOWER_IDLE)
				come_alive(world, i);
		}
		epoch_enter(&world->me);
		uint64_t id = 1 + random_below(MESSAGES);
		for (struct block block; log_block(world->log, id, MESSAGES, &block) == BLOCK_HERE;
		     blocks++) {
			check_block(world, &block);
			id = block.first + block.count + random_below(50);
		}
		epoch_leave(&world->me);
	}
	for (size_t i = 0; i < SETS; i++)
		if (world->rows[i].set != NULL)
			empty_row(world, i);
	assert_true(blocks >= 30);
	interest_free(world->interest);
	log_close(world->log);
	wake_free(world->wake);
	free(world);
}

/* However many patterns a client thinks of, an answer to it stops the worker for a moment at most. */
static void a_question_for_many_patterns_is_short(void **state)
{
	(void)state;
	struct world *world = build();
	static char words[1024 * 8];

	for (unsigned n = 1; n <= 1024; n *= 4) {
		size_t exact = 0, wild = 0;
		char wilds[1024 * 8];
		for (unsigned i = 0; i < n; i++) {
			exact += (size_t)sprintf(words + exact, "t%u ", i);
			wild += (size_t)sprintf(wilds + wild, "*.%u ", i);
		}
		struct interest_set *one = add(world->interest, NULL, words);
		struct interest_set *other = add(world->interest, NULL, wilds);
		/* Looks at a pattern: an exact one is a comparison of hashes. */
		assert_true((uint64_t)interest_question_size(one) * n <= 1 << 20);
		assert_true((uint64_t)interest_question_size(other) * n <= 64 << 10);
		interest_release(world->interest, one);
		interest_release(world->interest, other);
	}
	interest_free(world->interest);
	log_close(world->log);
	wake_free(world->wake);
	free(world);
}

/* Many patterns make a question long; it must not stop the worker. */
static void a_question_ends_when_its_time_is_over(void **state)
{
	(void)state;
	struct world *world = build();
	struct interest_due_list due = TAILQ_HEAD_INITIALIZER(due);
	struct follower follower = {.state = FOLLOWER_IDLE};
	struct interest_set *set = add(world->interest, NULL, ">");
	struct block block;

	TAILQ_INSERT_TAIL(&set->sides[set->live_side], &follower, link);
	epoch_enter(&world->me);
	assert_int_equal(log_block(world->log, 1, MESSAGES, &block), BLOCK_HERE);
	assert_in_range(interest_match_all(world->interest, &block, UINT64_MAX, &due), 1,
	                block.count);
	/* One look at the clock: what is over is over. */
	TAILQ_REMOVE(&due, set, due);
	set->is_due = false;
	assert_in_range(interest_match_all(world->interest, &block, 0, &due), 1, 64);
	TAILQ_REMOVE(&due, set, due);
	set->is_due = false;
	epoch_leave(&world->me);
	TAILQ_REMOVE(&set->sides[set->live_side], &follower, link);
	interest_release(world->interest, set);
	for (size_t i = 0; i < SETS; i++)
		if (world->rows[i].set != NULL)
			empty_row(world, i);
	interest_free(world->interest);
	log_close(world->log);
	wake_free(world->wake);
	free(world);
}

/* ---- bits ---- */

static void runs_of_bits_are_found_wherever_they_begin_and_end(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct bits bits = {{0}};
		bool model[BLOCK_ENTRIES];
		uint32_t one_in = 1 + random_below(200);
		for (uint32_t i = 0; i < BLOCK_ENTRIES; i++) {
			model[i] = (random_below(one_in) == 0) != (round % 2);
			bits.word[i / 64] |= (uint64_t)model[i] << (i % 64);
		}
		for (unsigned k = 0; k < 200; k++) {
			uint32_t n = random_below(BLOCK_ENTRIES + 1), from = random_below(n + 1);
			for (unsigned value = 0; value < 2; value++) {
				uint32_t i = from;
				while (i < n && model[i] != (value == 1))
					i++;
				assert_int_equal(bits_find(&bits, value, from, n), i);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_pattern_lists_share_a_set_in_any_order_and_said_twice),
		cmocka_unit_test(the_formats_have_sets_of_their_own),
		cmocka_unit_test(adding_one_by_one_leads_to_the_same_set_as_all_at_once),
		cmocka_unit_test(taking_out_leads_back_and_what_is_not_there_does_not_matter),
		cmocka_unit_test(patterns_are_counted_before_they_are_taken),
		cmocka_unit_test(without_memory_nothing_has_changed),
		cmocka_unit_test(every_set_gets_what_its_patterns_match_and_only_live_ones_are_due),
		cmocka_unit_test(a_question_for_many_patterns_is_short),
		cmocka_unit_test(a_question_ends_when_its_time_is_over),
		cmocka_unit_test(runs_of_bits_are_found_wherever_they_begin_and_end),
	};

	draw_seed();
	return cmocka_run_group_tests_name("interest", tests, NULL, NULL);
}
