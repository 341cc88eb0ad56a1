/* SPDX-License-Identifier: MIT */
/* Model: tests/models/log.pml */
/* Model: tests/models/genmc/append.c */
/* Model: tests/models/genmc/roll.c */
#include "log/segment.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "log/fault.h"
#include "log/frame.h"

/* A claim's copies should take microseconds: every reader waits for them. */
enum { CLAIM_BYTES_MAX = 64 << 10 };

uint64_t segment_draw_secret(void)
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
	segment->size = size;
	segment->file.fd = -1;
	segment_publish(segment, map, NULL);
	return segment;
}

void segment_free(struct segment *segment)
{
	char *map = segment_map(segment);
	if (map != NULL && segment->is_durable)
		fault_forget(map);
	if (map != NULL)
		munmap(map, segment->size);
	if (segment->file.fd >= 0)
		close(segment->file.fd);
	if (segment->is_durable) {
		free((void *)(uintptr_t)segment->filter);
		free((void *)(uintptr_t)segment_gaps(segment));
	}
	free(segment);
}

void segment_reset(struct segment *segment, uint32_t max_entries)
{
	segment->secret = segment_draw_secret();
	segment->max_entries = max_entries;
	segment->counted_bytes = segment->size;
	segment->next_free = NULL;
	/* Plain order is enough for these: the keeper's release of `next` [O3] publishes them. */
	atomic64_store_relaxed(&segment->base, SEGMENT_NO_BASE);
	atomic_store_pointer_release(&segment->next, NULL); /* [O3] */
	atomic64_store_relaxed(&segment->state, 0);
	atomic32_store_relaxed(&segment->ready_mark, SEGMENT_READY);
	atomic32_store_relaxed(&segment->has_summary, 0);
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
	char *map = segment_map(segment);
	uint32_t offset = claim->offset;

	for (uint32_t i = 0; i < claim->count; i++) {
		struct message *message = &messages[i];
		struct entry *entry = map_entry(map, segment->size, claim->first + i);
		uint64_t id = base + claim->first + i;
		frame_write(map + offset, id, message->topic, message->topic_size, message->payload,
		            message->payload_size);
		entry->offset = offset;
		entry->size = frame_size(id, message->topic_size, message->payload_size);
		entry->topic_hash = message->topic_hash;
		entry->stamp = claim->time_us << 8 | message->topic_size;
		entry->checksum = segment->is_durable
		                          ? entry_checksum(entry, id, map + offset, segment->key)
		                          : 0;
		offset += entry->size;
		message->id = id;
		/* [O1] release: whoever sees the commit sees the frame and the entry. */
		atomic64_store_release(&entry->commit, id ^ segment->secret);
	}
}

uint32_t entry_checksum(const struct entry *entry, uint64_t id, const char *frame, uint64_t key)
{
	const uint64_t fields[4] = {id, entry->stamp, (uint64_t)entry->offset << 32 | entry->size,
	                            entry->topic_hash};
	uint64_t sum = hash64(frame, entry->size, hash64(fields, sizeof fields, key));
	return (uint32_t)(sum ^ sum >> 32);
}

void entry_mark(struct entry *entry, uint64_t id, uint64_t time_us, enum loss loss,
                const struct segment *segment)
{
	entry->stamp = time_us << 8;
	entry->offset = loss;
	entry->size = 0;
	entry->topic_hash = 0;
	entry->checksum = entry_checksum(entry, id, NULL, segment->key);
	atomic64_store_release(&entry->commit, id ^ segment->secret); /* [O1] */
}

/* The word of the filter and the bit in it, of the probe that takes these bits of the hash. */
static size_t filter_word(uint32_t probe)
{
	return probe % FILTER_BITS / 64;
}

static uint64_t filter_bit(uint32_t probe)
{
	return 1ULL << (probe % 64);
}

/* Where the filter is built: in memory, in the header; of a file that may become cold, beside
 * it. */
static uint64_t *filter_room(const struct segment *segment, char *map)
{
	return segment->is_durable ? malloc(FILTER_BITS / 8)
	                           : (uint64_t *)(void *)(map + FILTER_OFFSET);
}

void segment_sum_up(struct segment *segment, uint32_t entries)
{
	char *map = segment_map(segment);
	uint64_t *filter = filter_room(segment, map);

	if (filter != NULL)
		memset(filter, 0, FILTER_BITS / 8);
	for (uint32_t i = 0; filter != NULL && i < entries; i++) {
		const struct entry *entry = map_entry(map, segment->size, i);
		uint32_t hash = entry->topic_hash;
		/* What is lost may have had any topic: nobody is to pass it by unheard. */
		if (entry_is_marker(entry) && entry->offset != LOSS_VOID)
			memset(filter, 0xff, FILTER_BITS / 8);
		if (entry_is_marker(entry))
			continue;
		filter[filter_word(hash)] |= filter_bit(hash);
		filter[filter_word(hash >> 14)] |= filter_bit(hash >> 14);
	}
	segment->filter = filter;
	segment->first_time_us = entry_time_us(map_entry(map, segment->size, 0));
	segment->last_time_us = entry_time_us(map_entry(map, segment->size, entries - 1));
	atomic32_store_release(&segment->has_summary, 1); /* [O13] */
}

bool segment_may_hold(const struct segment *segment, uint32_t topic_hash)
{
	if (!segment_has_summary(segment) || segment->filter == NULL)
		return true;
	const uint64_t *filter = segment->filter;
	return (filter[filter_word(topic_hash)] & filter_bit(topic_hash)) != 0 &&
	       (filter[filter_word(topic_hash >> 14)] & filter_bit(topic_hash >> 14)) != 0;
}

void segment_seal(struct segment *segment)
{
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	while (!state_is_sealed(state) &&
	       !atomic64_cas(&segment->state, &state, state | 1)) /* [O4] */
		;
}
