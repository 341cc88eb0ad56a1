/* SPDX-License-Identifier: MIT */
/*
 * Compares the checks of topics and patterns, pattern_matches() and the matcher with a second
 * opinion: code as plain as the words of the contract, recursive, slow, sharing nothing.
 *
 *   clang-14 -std=gnu11 -D_GNU_SOURCE -Isrc -g -O1 -fsanitize=fuzzer,address,undefined \
 *           -fno-sanitize-recover=all -o fuzz_pattern tests/fuzz/fuzz_pattern.c \
 *           $(find src/wire -name "*.c")
 *   ./fuzz_pattern -max_len=1024 -max_total_time=60
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/matcher.h"
#include "wire/pattern.h"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum { FILED_MAX = 64 };

/* A pattern that is in the matcher; its address is the value. */
struct filed {
	char text[TOPIC_MAX];
	size_t n; /* 0: free */
	unsigned hits;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct slice text_of(const struct filed *filed)
{
	return (struct slice){filed->text, filed->n};
}

/* The length of the token at the beginning. */
static size_t plain_token(const char *at, size_t n)
{
	size_t i = 0;

	while (i < n && at[i] != '.')
		i++;
	return i;
}

static bool plain_is_name(const char *at, size_t n, bool may_be_wild)
{
	size_t token = plain_token(at, n);

	if (token == 0)
		return false;
	if (may_be_wild && token == 1 && at[0] == '>')
		return n == 1;
	for (size_t i = 0; i < token; i++) {
		unsigned char byte = (unsigned char)at[i];
		bool is_wild = byte == '*' || byte == '>';
		if (byte <= ' ' || byte == 0x7F)
			return false;
		if (is_wild && !(may_be_wild && token == 1))
			return false;
	}
	return token == n || plain_is_name(at + token + 1, n - token - 1, may_be_wild);
}

static bool plain_matches(const char *pattern, size_t pattern_n, const char *topic, size_t topic_n)
{
	size_t p = plain_token(pattern, pattern_n), t = plain_token(topic, topic_n);

	if (p == 1 && pattern[0] == '>')
		return true;
	if (!(p == 1 && pattern[0] == '*') && (p != t || memcmp(pattern, topic, p) != 0))
		return false;
	if (p == pattern_n || t == topic_n)
		return p == pattern_n && t == topic_n;
	return plain_matches(pattern + p + 1, pattern_n - p - 1, topic + t + 1, topic_n - t - 1);
}

static bool plain_delivers(struct slice pattern, struct slice topic)
{
	if (topic.at[0] == '$' && (pattern.at[0] == '*' || pattern.at[0] == '>'))
		return false;
	return plain_matches(pattern.at, pattern.n, topic.at, topic.n);
}

/* `topic` may begin with '$' here: a subscriber meets such topics, only a publisher must not. */
static bool is_topic(struct slice name)
{
	return name.n >= 1 && name.n <= TOPIC_MAX && plain_is_name(name.at, name.n, false);
}

static bool is_pattern(struct slice name)
{
	return name.n >= 1 && name.n <= TOPIC_MAX && plain_is_name(name.at, name.n, true);
}

static void check_name(struct slice name)
{
	bool is_brokers = name.n > 0 && name.at[0] == '$';

	CHECK((topic_faults(name) == 0) == is_topic(name));
	CHECK((topic_check(name) == NULL) == (is_topic(name) && !is_brokers));
	CHECK((pattern_check(name) == NULL) == is_pattern(name));
	if (is_pattern(name))
		CHECK(pattern_is_exact(name) == is_topic(name));
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
		CHECK(pattern_matches(text_of(&all[i]), topic) == delivers);
		CHECK(all[i].hits == (delivers ? 1 : 0));
		all[i].hits = 0;
		has_wildcards = has_wildcards || !is_topic(text_of(&all[i]));
	}
	CHECK(matcher_has_wildcards(matcher) == has_wildcards);
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
			CHECK(matcher_add(matcher, pattern, filed) == -EEXIST);
			CHECK(matcher_get(matcher, pattern) == filed);
			CHECK(matcher_remove(matcher, pattern) == filed);
			filed->n = 0;
			return;
		}
	}
	CHECK(matcher_get(matcher, pattern) == NULL);
	CHECK(matcher_remove(matcher, pattern) == NULL);
	if (free_place == NULL)
		return;
	memcpy(free_place->text, pattern.at, pattern.n);
	free_place->n = pattern.n;
	CHECK(matcher_add(matcher, pattern, free_place) == 0);
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

	CHECK(all != NULL && matcher != NULL);
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
		CHECK(block != NULL);
		memcpy(block + 1, name, name_n);
		struct slice slice = {block + 1, name_n};
		check_name(slice);
		if (is_topic(slice))
			check_topic(matcher, all, n, slice);
		if (is_pattern(slice))
			toggle(matcher, all, slice);
		free(block);
	}
	matcher_free(matcher);
	free(all);
	return 0;
}
