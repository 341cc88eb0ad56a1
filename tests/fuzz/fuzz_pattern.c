/* SPDX-License-Identifier: MIT */
/* FUZZ: -max_len=1024 */
/*
 * Compares the checks of topics and patterns, pattern_matches() and the matcher with a second
 * opinion (plain.h).
 */
#include <errno.h>

#include "fuzz.h"
#include "plain.h"
#include "wire/matcher.h"
#include "wire/pattern.h"

enum { FILED_MAX = 64 };

/* A pattern that is in the matcher; its address is the value. */
struct filed {
	char text[TOPIC_MAX];
	size_t n; /* 0: free */
	unsigned hits;
};

static struct slice text_of(const struct filed *filed)
{
	return (struct slice){filed->text, filed->n};
}

/* The same name as the word before a space. */
static void check_scan(struct slice name)
{
	char *block = malloc(name.n + 1);
	size_t word = 0;

	FUZZ_CHECK(block != NULL);
	memcpy(block, name.at, name.n);
	block[name.n] = ' ';
	while (block[word] != ' ')
		word++;
	bool is_good = plain_is_topic((struct slice){block, word}) && block[0] != '$';
	FUZZ_CHECK(topic_scan(block, name.n + 1) == (is_good ? word : 0));
	if (word == name.n)
		FUZZ_CHECK(topic_scan(block, name.n) == 0); /* no space has come yet */
	free(block);
}

static void check_name(struct slice name)
{
	bool is_brokers = name.n > 0 && name.at[0] == '$';

	FUZZ_CHECK((topic_faults(name) == 0) == plain_is_topic(name));
	FUZZ_CHECK((topic_check(name) == NULL) == (plain_is_topic(name) && !is_brokers));
	FUZZ_CHECK((pattern_check(name) == NULL) == plain_is_pattern(name));
	check_scan(name);
	if (plain_is_pattern(name))
		FUZZ_CHECK(pattern_is_exact(name) == plain_is_topic(name));
}

static void count_hit(void *value, void *context)
{
	(void)context;
	((struct filed *)value)->hits++;
}

static void check_topic(const struct matcher *matcher, struct filed *all, uint64_t key,
                        struct slice topic)
{
	bool has_wildcards = false;

	matcher_find(matcher, topic, topic_hash(key, topic), count_hit, NULL);
	for (size_t i = 0; i < FILED_MAX; i++) {
		if (all[i].n == 0)
			continue;
		bool delivers = plain_delivers(text_of(&all[i]), topic);
		FUZZ_CHECK(pattern_matches(text_of(&all[i]), topic) == delivers);
		FUZZ_CHECK(all[i].hits == (delivers ? 1 : 0));
		all[i].hits = 0;
		has_wildcards = has_wildcards || !plain_is_topic(text_of(&all[i]));
	}
	FUZZ_CHECK(matcher_has_wildcards(matcher) == has_wildcards);
}

/* Takes a pattern out that is there, adds one that isn't. */
static void toggle(struct matcher *matcher, struct filed *all, struct slice pattern)
{
	struct filed *free_place = NULL;

	for (size_t i = 0; i < FILED_MAX; i++) {
		struct filed *filed = &all[i];
		if (filed->n == 0) {
			free_place = filed;
		} else if (filed->n == pattern.n &&
		           memcmp(filed->text, pattern.at, pattern.n) == 0) {
			FUZZ_CHECK(matcher_add(matcher, pattern, filed) == -EEXIST);
			FUZZ_CHECK(matcher_get(matcher, pattern) == filed);
			FUZZ_CHECK(matcher_remove(matcher, pattern) == filed);
			filed->n = 0;
			return;
		}
	}
	FUZZ_CHECK(matcher_get(matcher, pattern) == NULL);
	FUZZ_CHECK(matcher_remove(matcher, pattern) == NULL);
	if (free_place == NULL)
		return;
	memcpy(free_place->text, pattern.at, pattern.n);
	free_place->n = pattern.n;
	FUZZ_CHECK(matcher_add(matcher, pattern, free_place) == 0);
}

/*
 * The first byte says whether the others stand for themselves or for a few that make many names
 * alike. Each line is a name: what is a topic is asked for, what is a pattern is added or, when
 * it is there, taken out.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char few[] = "a.*.>b\n$a.*..c\n\n";
	struct filed *all = calloc(FILED_MAX, sizeof(*all));
	struct matcher *matcher = matcher_new(n);

	FUZZ_CHECK(all != NULL && matcher != NULL);
	for (size_t begin = 1, end; begin < n; begin = end + 1) {
		char name[1024];
		size_t name_n = 0;
		for (end = begin; end < n && name_n < sizeof(name); end++) {
			char byte = data[0] & 1 ? (char)data[end] : few[data[end] % 16];
			if (byte == '\n')
				break;
			name[name_n++] = byte;
		}
		/* In a block of its size, so that a byte too many is seen. */
		char *block = malloc(name_n + 1);
		FUZZ_CHECK(block != NULL);
		memcpy(block + 1, name, name_n);
		struct slice slice = {block + 1, name_n};
		check_name(slice);
		if (plain_is_topic(slice))
			check_topic(matcher, all, n, slice);
		if (plain_is_pattern(slice))
			toggle(matcher, all, slice);
		free(block);
	}
	matcher_free(matcher);
	free(all);
	return 0;
}
