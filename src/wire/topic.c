/* SPDX-License-Identifier: MIT */
#include "wire/topic.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

/*
 * A dot carries the bit of the fault that two of them in a row are, so that topic_faults() can
 * do without branches.
 */
enum { DOT = TOPIC_FAULT_EMPTY_TOKEN };

static const uint8_t byte_class[256] = {
	[0x00 ... 0x20] = TOPIC_FAULT_BLANK,
	[0x7F] = TOPIC_FAULT_BLANK,
	['*'] = TOPIC_FAULT_WILDCARD,
	['>'] = TOPIC_FAULT_WILDCARD,
	['.'] = DOT,
};

unsigned topic_faults(struct slice name)
{
	if (name.n == 0 || name.n > TOPIC_MAX)
		return TOPIC_FAULT_LENGTH;

	unsigned faults = 0;
	unsigned before = DOT; /* a dot at the beginning, or at the end, leaves a token empty */
	for (size_t i = 0; i < name.n; i++) {
		unsigned class = byte_class[(unsigned char)name.at[i]];
		faults |= (class & ~(unsigned)DOT) | (class & before);
		before = class;
	}
	return faults | (before & DOT);
}

size_t topic_scan(const char *at, size_t n)
{
	unsigned before = DOT;

	for (size_t i = 0; i < n && i <= TOPIC_MAX; i++) {
		unsigned class = byte_class[(unsigned char)at[i]];
		if (at[i] == ' ')
			return before == DOT || at[0] == '$' ? 0 : i;
		if ((class & ~(unsigned)DOT) != 0 || (class & before) != 0)
			return 0;
		before = class;
	}
	return 0;
}

const char *topic_check(struct slice topic)
{
	unsigned faults = topic_faults(topic);

	if (faults == 0)
		return topic.at[0] == '$' ? "topics that begin with $ belong to the broker" : NULL;
	if (faults & TOPIC_FAULT_LENGTH)
		return "a topic has 1 to 255 bytes";
	if (faults & TOPIC_FAULT_BLANK)
		return "a topic holds no white space or control bytes";
	if (faults & TOPIC_FAULT_WILDCARD)
		return "a topic to publish to holds no * and no >";
	return "a topic holds no empty tokens";
}

uint32_t topic_hash(uint64_t key, struct slice topic)
{
	uint64_t hash = hash64(topic.at, topic.n, key);

	return (uint32_t)(hash ^ hash >> 32);
}

struct slice topic_next_token(struct slice *rest)
{
	assert(rest->n > 0);

	struct slice token = *rest;
	const char *dot = memchr(rest->at, '.', rest->n);
	if (dot == NULL) {
		*rest = (struct slice){rest->at + rest->n, 0};
		return token;
	}
	token.n = (size_t)(dot - rest->at);
	*rest = (struct slice){dot + 1, rest->n - token.n - 1};
	return token;
}

bool slice_equals(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

#define QUOTE(x) #x
#define TEXT(x) QUOTE(x)

const char *topic_hash_library(void)
{
	return "xxhash " TEXT(XXH_VERSION_MAJOR) "." TEXT(XXH_VERSION_MINOR) "." TEXT(
		XXH_VERSION_RELEASE);
}
