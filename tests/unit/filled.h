/* SPDX-License-Identifier: MIT */
/*
 * filled: a segment full of messages that a test has drawn, and blocks of it, without a log around.
 */
#ifndef PSAD_TESTS_FILLED_H
#define PSAD_TESTS_FILLED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"
#include "log/log.h"
#include "wire/topic.h"

enum { HASH_KEY = 4711, FILLED_PAYLOAD_MAX = 64 << 10 };

static const char *const topics[] = {"a", "b", "a.b", "a.c", "b.c", "a.b.c", "b.c.a", "x.y.z.w"};
enum { TOPICS = sizeof topics / sizeof topics[0] };

/* `count` messages with ids from `base` on, payloads below `largest`; fewer where it is full. */
static inline struct segment *fill(size_t size, uint64_t base, uint32_t count, uint32_t largest)
{
	static char payload[FILLED_PAYLOAD_MAX];
	struct segment *segment = segment_new(size);
	struct claim claim;

	assert_non_null(segment);
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (char)next_random();
	segment_reset(segment, INT32_MAX);
	atomic64_store_release(&segment->base, base);
	while (count-- > 0) {
		const char *topic = topics[random_below(TOPICS)];
		struct slice name = {.at = topic, .n = strlen(topic)};
		struct message message = {.topic = topic,
		                          .topic_size = (uint32_t)name.n,
		                          .topic_hash = topic_hash(HASH_KEY, name),
		                          .payload = payload,
		                          .payload_size = random_below(largest)};
		if (segment_claim(segment, &message, 1, &claim) != CLAIM_DONE)
			break;
		segment_commit(segment, &message, &claim);
	}
	return segment;
}

/* The entries from `index` on, up to a border between blocks. */
static inline struct block block_of(const struct segment *segment, uint32_t index)
{
	uint32_t entries = state_entries(atomic64_load_acquire(&segment->state));
	uint32_t count = BLOCK_ENTRIES - index % BLOCK_ENTRIES;

	assert_true(index < entries);
	return (struct block){.segment = segment,
	                      .map = segment_map(segment),
	                      .first = atomic64_load_acquire(&segment->base) + index,
	                      .index = index,
	                      .count = entries - index < count ? entries - index : count};
}

#endif
