/* SPDX-License-Identifier: MIT */
/* FUZZ: -max_len=512 */
/*
 * Subscribes to any patterns and away from them again, and compares with a plain list of them
 * what a
 * set of patterns holds and which messages of a log it gets.
 *
 * Each line of the input is a command: its first byte says for which of a few subscribers, and
 * whether
 * the patterns behind it are added or taken away. The log is always the same one.
 */
#include <sched.h>

#include "fuzz.h"
#include "log/log.h"
#include "net/interest.h"
#include "plain.h"
#include "wire/pattern.h"

enum { SUBSCRIBERS = 3, PATTERNS_MAX = 64, WORDS_MAX = 512 };

/* None of those that begin with $: nobody publishes to them, and interest.c goes by that. */
static const char *const topics[] = {
	"a",    "b",   "c",     "a.b",   "a.c",   "b.a", "a.a",     "a.b.c", "a.b.b",   "ab", "a$",
	"a$.b", "b.$", "c.c.c", "a.a.a", "b.b.b", "a.$", "a.b.c.a", "c.b.a", "a.a.a.a", "b.c"};
enum { TOPICS = sizeof topics / sizeof topics[0] };

static struct log *message_log;
static struct epoch_thread me __attribute__((aligned(CACHE_LINE)));
static struct block block;

/* Once, for all inputs: a section is open until the end, so that the block stays. */
static void make_log(void)
{
	const struct log_options options = {.segment_size = SEGMENT_SIZE_MIN};
	char error[LOG_ERROR_MAX];
	struct wake *wake = wake_new(1);

	FUZZ_CHECK(wake != NULL);
	message_log = log_open(&options, wake, error, sizeof error);
	FUZZ_CHECK(message_log != NULL);
	epoch_register(log_epoch(message_log), &me);
	epoch_enter(&me);
	for (size_t i = 0; i < TOPICS; i++) {
		struct slice topic = {topics[i], strlen(topics[i])};
		struct message message = {.topic = topic.at,
		                          .topic_size = (uint32_t)topic.n,
		                          .payload = "",
		                          .topic_hash =
		                                  topic_hash(log_hash_key(message_log), topic)};
		size_t done = 0;
		while (log_append(message_log, &message, 1, &done) == LOG_NO_SEGMENT)
			sched_yield();
		FUZZ_CHECK(done == 1);
	}
	FUZZ_CHECK(log_block(message_log, 1, TOPICS, &block) == BLOCK_HERE);
	FUZZ_CHECK(block.count == TOPICS);
}

/* What a subscriber has, as a plain list. */
struct plain_set {
	struct interest_set *set; /* what is tested; NULL: no patterns */
	size_t count;
	struct plain_pattern {
		char text[TOPIC_MAX];
		size_t n;
	} patterns[PATTERNS_MAX];
};

static struct slice pattern_of(const struct plain_set *plain, size_t i)
{
	return (struct slice){plain->patterns[i].text, plain->patterns[i].n};
}

static size_t plain_find(const struct plain_set *plain, struct slice pattern)
{
	size_t i = 0;
	while (i < plain->count && !(plain->patterns[i].n == pattern.n &&
	                             memcmp(plain->patterns[i].text, pattern.at, pattern.n) == 0))
		i++;
	return i;
}

static void plain_add(struct plain_set *plain, struct slice pattern)
{
	if (plain_find(plain, pattern) < plain->count)
		return;
	memcpy(plain->patterns[plain->count].text, pattern.at, pattern.n);
	plain->patterns[plain->count++].n = pattern.n;
}

static void plain_remove(struct plain_set *plain, struct slice pattern)
{
	size_t i = plain_find(plain, pattern);
	if (i < plain->count)
		plain->patterns[i] = plain->patterns[--plain->count];
}

static void check_set(const struct plain_set *plain)
{
	const struct interest_set *set = plain->set;
	size_t wildcards = 0, everything = 0;
	struct bits bits = {{0}};
	uint64_t bytes = 0;

	FUZZ_CHECK((set == NULL) == (plain->count == 0));
	if (set == NULL)
		return;
	for (size_t i = 0; i < plain->count; i++) {
		struct slice pattern = pattern_of(plain, i);
		wildcards += !plain_is_topic(pattern);
		everything += pattern.n == 1 && pattern.at[0] == '>';
	}
	FUZZ_CHECK(set->count == plain->count && set->wildcards == wildcards);
	FUZZ_CHECK(set->is_everything == (everything > 0));
	uint64_t found = interest_match_range(set, &block, 0, TOPICS, &bits);
	for (uint32_t i = 0; i < TOPICS; i++) {
		struct slice topic = {topics[i], strlen(topics[i])};
		bool is_due = false;
		for (size_t j = 0; j < plain->count; j++)
			is_due = is_due || plain_delivers(pattern_of(plain, j), topic);
		FUZZ_CHECKF(bits_test(&bits, i) == is_due, "%s", topics[i]);
		bytes += is_due ? block_entry(&block, i)->size : 0;
	}
	FUZZ_CHECK(found == bytes);
	FUZZ_CHECK(bytes == 0 || interest_may_match_segment(set, &block));
}

/* Those of the words that are patterns, one space between them; how many there are in *count. */
static size_t keep_patterns(const char *line, size_t n, char words[WORDS_MAX], size_t *count)
{
	size_t used = 0;

	*count = 0;
	for (size_t begin = 0, end; begin < n; begin = end + 1) {
		for (end = begin; end < n && line[end] != ' ';)
			end++;
		struct slice word = {line + begin, end - begin};
		if (!plain_is_pattern(word) || used + word.n + 1 > WORDS_MAX || *count == 8)
			continue;
		if (used > 0)
			words[used++] = ' ';
		memcpy(words + used, word.at, word.n);
		used += word.n;
		++*count;
	}
	return used;
}

static void change(struct interest *interest, struct plain_set *plain, bool adds,
                   struct slice words, size_t count)
{
	struct interest_set *before = plain->set;
	size_t room = PATTERNS_MAX - plain->count;

	if (count == 0 || (adds && count > room))
		return;
	size_t together = interest_count_with(interest, before, words);
	FUZZ_CHECK(together >= plain->count && together <= plain->count + count);
	if (adds) {
		plain->set = interest_add(interest, before, words, false);
		FUZZ_CHECK(plain->set != NULL);
	} else {
		FUZZ_CHECK(before == NULL ||
		           interest_subtract(interest, before, words, &plain->set) == 0);
	}
	if (before != NULL)
		interest_release(interest, before);
	for (struct slice rest = words; rest.n > 0;) {
		size_t n = 0;
		while (n < rest.n && rest.at[n] != ' ')
			n++;
		(adds ? plain_add : plain_remove)(plain, (struct slice){rest.at, n});
		n += n < rest.n;
		rest = (struct slice){rest.at + n, rest.n - n};
	}
	check_set(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char few[] = "a.*.> b$a.*. >c\n";
	struct plain_set *all = calloc(SUBSCRIBERS, sizeof *all);

	if (message_log == NULL)
		make_log();
	struct interest *interest = interest_new(log_hash_key(message_log));
	FUZZ_CHECK(all != NULL && interest != NULL);
	for (size_t begin = 1, end; begin < n; begin = end + 1) {
		char line[WORDS_MAX], words[WORDS_MAX];
		size_t line_n = 0, count;
		uint8_t what = data[begin];
		for (end = begin + 1; end < n && line_n < sizeof line; end++) {
			char byte = data[0] & 1 ? (char)data[end] : few[data[end] % 16];
			if (byte == '\n')
				break;
			line[line_n++] = byte;
		}
		size_t words_n = keep_patterns(line, line_n, words, &count);
		/* In a block of its size, so that a byte too many is seen. */
		char *exact = malloc(words_n + 1);
		FUZZ_CHECK(exact != NULL);
		memcpy(exact, words, words_n);
		change(interest, &all[what / 2 % SUBSCRIBERS], what % 2 == 0,
		       (struct slice){exact, words_n}, count);
		free(exact);
		for (size_t i = 0; i < SUBSCRIBERS; i++)
			check_set(&all[i]);
	}
	for (size_t i = 0; i < SUBSCRIBERS; i++)
		if (all[i].set != NULL)
			interest_release(interest, all[i].set);
	interest_free(interest);
	free(all);
	return 0;
}
