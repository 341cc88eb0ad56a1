/* SPDX-License-Identifier: MIT */
#include "wire/pattern.h"

#include <string.h>

static bool token_is(struct slice token, char wildcard)
{
	return token.n == 1 && token.at[0] == wildcard;
}

static bool holds_wildcard(struct slice token)
{
	return memchr(token.at, '*', token.n) != NULL || memchr(token.at, '>', token.n) != NULL;
}

/* Where wildcards may stand, in a name that is well formed otherwise. */
static const char *check_wildcards(struct slice pattern)
{
	while (pattern.n > 0) {
		struct slice token = topic_next_token(&pattern);
		if (!holds_wildcard(token) || token_is(token, '*'))
			continue;
		if (!token_is(token, '>'))
			return "* and > stand for whole tokens only";
		if (pattern.n > 0)
			return "> must be the last token";
	}
	return NULL;
}

const char *pattern_check(struct slice pattern)
{
	unsigned faults = topic_faults(pattern);

	if (faults == 0)
		return NULL;
	if (faults & TOPIC_FAULT_LENGTH)
		return "a pattern has 1 to 255 bytes";
	if (faults & TOPIC_FAULT_BLANK)
		return "a pattern holds no white space or control bytes";
	if (faults & TOPIC_FAULT_EMPTY_TOKEN)
		return "a pattern holds no empty tokens";
	return check_wildcards(pattern);
}

bool pattern_is_exact(struct slice pattern)
{
	return !holds_wildcard(pattern);
}

struct slice pattern_body(struct slice pattern)
{
	if (pattern.at[pattern.n - 1] == '>')
		pattern.n -= pattern.n > 1 ? 2 : 1;
	return pattern;
}

bool pattern_take(struct slice tokens, struct slice *topic)
{
	while (tokens.n > 0) {
		if (topic->n == 0)
			return false;
		struct slice wanted = topic_next_token(&tokens);
		struct slice token = topic_next_token(topic);
		if (!token_is(wanted, '*') && !slice_equals(wanted, token))
			return false;
	}
	return true;
}

bool pattern_matches(struct slice pattern, struct slice topic)
{
	/* In a checked pattern a first byte '*' or '>' is the whole first token. */
	if (topic.at[0] == '$' && (pattern.at[0] == '*' || pattern.at[0] == '>'))
		return false;

	struct slice body = pattern_body(pattern);
	if (!pattern_take(body, &topic))
		return false;
	bool has_rest = body.n != pattern.n;
	return has_rest ? topic.n > 0 : topic.n == 0;
}
