/* SPDX-License-Identifier: MIT */
/*
 * plain: a second opinion on what topics and patterns are and which match: code as plain as the
 * words
 * of the contract, recursive, slow, sharing nothing with what is tested.
 */
#ifndef PSAD_FUZZ_PLAIN_H
#define PSAD_FUZZ_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "wire/topic.h"

/* The length of the token at the beginning. */
static inline size_t plain_token(const char *at, size_t n)
{
	size_t i = 0;

	while (i < n && at[i] != '.')
		i++;
	return i;
}

static inline bool plain_is_name(const char *at, size_t n, bool may_be_wild)
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

static inline bool plain_matches(const char *pattern, size_t pattern_n, const char *topic,
                                 size_t topic_n)
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

static inline bool plain_delivers(struct slice pattern, struct slice topic)
{
	if (topic.at[0] == '$' && (pattern.at[0] == '*' || pattern.at[0] == '>'))
		return false;
	return plain_matches(pattern.at, pattern.n, topic.at, topic.n);
}

/* `topic` may begin with '$' here: a subscriber meets such topics, only a publisher must not. */
static inline bool plain_is_topic(struct slice name)
{
	return name.n >= 1 && name.n <= TOPIC_MAX && plain_is_name(name.at, name.n, false);
}

static inline bool plain_is_pattern(struct slice name)
{
	return name.n >= 1 && name.n <= TOPIC_MAX && plain_is_name(name.at, name.n, true);
}

#endif
