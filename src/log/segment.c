/* SPDX-License-Identifier: MIT */
#include "log/segment.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/clock.h"
#include "log/frame.h"

/* A claim's copies should take microseconds: every reader waits for them. */
enum { CLAIM_BYTES_MAX = 64 << 10 };

static uint64_t draw_secret(void)
{
	uint64_t secret;
	if (getrandom(&secret, sizeof secret, GRND_NONBLOCK) != (ssize_t)sizeof secret)
		/* Early boot, without entropy: what an attacker can't know from outside either. */
		secret = clock_mono_us() * 0x9e3779b97f4a7c15ULL ^ (uintptr_t)&secret;
	/* Ids are below 2^63: with this bit the commit word is never 0, which fresh memory is. */
	return secret | 1ULL << 63;
}

struct segment *segment_new(size_t size)
{
	assert(size >= SEGMENT_SIZE_MIN && size <= SEGMENT_SIZE_MAX && size % 4096 == 0);
	struct segment *segment = aligned_alloc(CACHE_LINE, sizeof *segment);
	if (segment == NULL)
		return NULL;
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) {
		free(segment);
		return NULL;
	}
	memset(segment, 0, sizeof *segment);
	segment->map = map;
	segment->size = size;
	return segment;
}

void segment_free(struct segment *segment)
{
	munmap(segment->map, segment->size);
	free(segment);
}

void segment_reset(struct segment *segment, uint32_t max_entries)
{
	segment->secret = draw_secret();
	segment->max_entries = max_entries;
	segment->counted_bytes = segment->size;
	segment->next_free = NULL;
	/* Plain order is enough for these: the keeper's release of `next` [O3] publishes them. */
	atomic64_store_relaxed(&segment->base, SEGMENT_NO_BASE);
	atomic_store_pointer_release(&segment->next, NULL); /* [O3] */
	atomic64_store_relaxed(&segment->state, 0);
	atomic32_store_relaxed(&segment->has_filter, 0);
}

enum claim_verdict segment_claim(struct segment *segment, const struct message *messages, size_t n,
                                 struct claim *claim)
{
	uint64_t base = atomic64_load_acquire(&segment->base);   /* [O2] */
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	const size_t room_end = segment->size;

	for (;;) {
		if (state_is_sealed(state))
			return CLAIM_SEALED;
		uint32_t entries = state_entries(state);
		size_t used = SEGMENT_HEADER_SIZE + (size_t)state_bytes(state);
		size_t bytes = 0;
		uint32_t count = 0;
		while (count < n && entries + count < segment->max_entries) {
			size_t size = frame_size(base + entries + count, messages[count].topic_size,
			                         messages[count].payload_size);
			if (count > 0 && bytes + size > CLAIM_BYTES_MAX)
				break;
			size_t index = (size_t)(entries + count + 1) * sizeof(struct entry);
			if (used + bytes + size + index > room_end)
				break;
			bytes += size;
			count++;
		}
		if (count == 0)
			return CLAIM_FULL;
		*claim = (struct claim){.first = entries,
		                        .count = count,
		                        .offset = (uint32_t)used,
		                        .time_us = clock_wall_us()};
		uint64_t after = state + ((uint64_t)bytes << 32) + ((uint64_t)count << 1);
		/* [O4] acquire: the claim before us had read its time; release: ours is read. */
		if (atomic64_cas(&segment->state, &state, after))
			return CLAIM_DONE;
	}
}

void segment_commit(struct segment *segment, struct message *messages, const struct claim *claim)
{
	uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */
	uint32_t offset = claim->offset;

	for (uint32_t i = 0; i < claim->count; i++) {
		struct message *message = &messages[i];
		struct entry *entry = segment_entry(segment, claim->first + i);
		uint64_t id = base + claim->first + i;
		frame_write(segment->map + offset, id, message->topic, message->topic_size,
		            message->payload, message->payload_size);
		entry->offset = offset;
		entry->size = frame_size(id, message->topic_size, message->payload_size);
		entry->topic_hash = message->topic_hash;
		entry->checksum = 0;
		entry->stamp = claim->time_us << 8 | message->topic_size;
		offset += entry->size;
		message->id = id;
		/* [O1] release: whoever sees the commit sees the frame and the entry. */
		atomic64_store_release(&entry->commit, id ^ segment->secret);
	}
}

/* The word of the filter and the bit in it, of the probe that takes these bits of the hash. */
static uint64_t *filter_word(const struct segment *segment, uint32_t probe)
{
	uint64_t *words = (uint64_t *)(void *)(segment->map + FILTER_OFFSET);
	return &words[probe % FILTER_BITS / 64];
}

static uint64_t filter_bit(uint32_t probe)
{
	return 1ULL << (probe % 64);
}

void segment_build_filter(struct segment *segment, uint32_t entries)
{
	memset(segment->map + FILTER_OFFSET, 0, FILTER_BITS / 8);
	for (uint32_t i = 0; i < entries; i++) {
		uint32_t hash = segment_entry(segment, i)->topic_hash;
		*filter_word(segment, hash) |= filter_bit(hash);
		*filter_word(segment, hash >> 14) |= filter_bit(hash >> 14);
	}
	atomic32_store_release(&segment->has_filter, 1); /* [O13] */
}

bool segment_may_hold(const struct segment *segment, uint32_t topic_hash)
{
	if (atomic32_load_acquire(&segment->has_filter) == 0) /* [O13] */
		return true;
	return (*filter_word(segment, topic_hash) & filter_bit(topic_hash)) != 0 &&
	       (*filter_word(segment, topic_hash >> 14) & filter_bit(topic_hash >> 14)) != 0;
}

void segment_seal(struct segment *segment)
{
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	while (!state_is_sealed(state) &&
	       !atomic64_cas(&segment->state, &state, state | 1)) /* [O4] */
		;
}
