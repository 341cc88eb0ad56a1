/* SPDX-License-Identifier: MIT */
/*
 * segment: one mapping of the log, filled from both ends.
 *
 *     0        4096                                                      size
 *     | header | frame frame frame ... ->   free   <- ... entry entry entry |
 *              data, upwards                       index, downwards: entry i ends at
 *                                                  size - i * 32
 *
 * A segment is full when the two would meet. The id of entry i is base + i, so that finding an id
 * is arithmetic, and a message never committed costs one entry.
 *
 * Appending is claim, copy, commit (the scheme of Aeron's log buffers): a claim is one CAS on
 * `state`, which packs bytes used, entries used and whether the segment is sealed, so that the id
 * and hence the exact frame size are known before the space is taken. Between claim and commit
 * nothing may fail, allocate or block. A commit is one store-release of the entry's commit word.
 *
 * The commit word is the id xor the segment's secret, which is drawn anew for each life of the
 * memory. So index memory needs no zeroing: neither an entry of a former life nor bytes that a
 * client once put there (ids can be guessed, the secret can't) read as committed.
 *
 * A segment's memory is used again only after an epoch grace period; all that touch one are inside
 * an epoch section.
 */
#ifndef PSAD_LOG_SEGMENT_H
#define PSAD_LOG_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "log/epoch.h"

/*
 * The header's upper half is a Bloom filter of the topic hashes, once the segment is sealed: with two
 * probes of 14 bits each it says "not here" of 19 topics in 20 where the segment has 2,000 of them.
 */
enum { FILTER_OFFSET = 2048, FILTER_BITS = 8 * 2048 };
enum { SEGMENT_HEADER_SIZE = 4096, SEGMENT_SIZE_MIN = 64 << 10, SEGMENT_SIZE_MAX = 1 << 30 };

/* A base that no id reaches: the segment has not been rolled into yet. */
#define SEGMENT_NO_BASE UINT64_MAX

struct entry {
	uint64_t commit; /* [O1] segment_commit: release; segment_is_committed: acquire */
	uint64_t stamp;  /* time in Unix microseconds << 8 | topic size */
	uint32_t offset; /* of the frame, from the mapping's begin */
	uint32_t size;   /* of the frame */
	uint32_t topic_hash;
	uint32_t checksum; /* of durable logs; 0 in memory */
};
_Static_assert(sizeof(struct entry) == 32, "two entries a cache line");

struct segment {
	/* Written before the segment is linked, read by all. */
	char *map;
	size_t size;
	uint64_t secret;
	uint32_t max_entries;
	/* [O2] log_roll: release; log_find and whoever follows `next`: acquire */
	uint64_t base;
	/* [O3] keeper: release, when the segment behind it is ready; log_roll: acquire */
	struct segment *next;

	/* [O13] segment_build_filter: release, when the filter is whole; segment_may_hold: acquire. */
	uint32_t has_filter;

	/* Hot: every claim. [O4] claim: acquire and release; seal: the same; readers: acquire,
	 * before they trust that an index slot is one. */
	_Alignas(CACHE_LINE) uint64_t state;

	/* The keeper's alone. */
	_Alignas(CACHE_LINE) struct epoch_deferred reclaim;
	struct segment *next_free;
	size_t counted_bytes; /* what this segment counts for in the retention figures */
};

/* What `state` packs: bytes used << 32 | entries used << 1 | sealed. */
static inline uint32_t state_bytes(uint64_t state)
{
	return (uint32_t)(state >> 32);
}
static inline uint32_t state_entries(uint64_t state)
{
	return (uint32_t)state >> 1;
}
static inline bool state_is_sealed(uint64_t state)
{
	return (state & 1) != 0;
}

/* One message to be appended. Topic and payload are the caller's, checked and within bounds. */
struct message {
	const char *topic;
	const char *payload;
	uint32_t topic_size;
	uint32_t payload_size;
	uint32_t topic_hash;
	uint64_t id; /* out: set when it has been appended */
};

/* A segment of `size` bytes of fresh memory, not linked anywhere. NULL: no memory. */
struct segment *segment_new(size_t size);
void segment_free(struct segment *segment);
/* Begins a new life: empty, no base, a new secret. Thread: the keeper, nobody else can see it. */
void segment_reset(struct segment *segment, uint32_t max_entries);

enum claim_verdict {
	CLAIM_DONE,
	CLAIM_SEALED, /* the segment takes no more */
	CLAIM_FULL,   /* not sealed, but the first message does not fit */
};

struct claim {
	uint32_t first;  /* index of the first entry */
	uint32_t count;  /* entries claimed: at least 1 */
	uint32_t offset; /* of the first frame */
	uint64_t time_us;
};

/*
 * Claims room for as many of the n messages, from the first on, as fit and as one claim should
 * take (about 64 KiB, so that the hole until the commit stays short). The time is read between the
 * look at `state` and the CAS: times therefore never fall from id to id.
 * Thread: any, inside an epoch section.
 */
enum claim_verdict segment_claim(struct segment *segment, const struct message *messages, size_t n,
                                 struct claim *claim);

/* Copies and commits what was claimed; sets the messages' ids. Thread: the claimer. */
void segment_commit(struct segment *segment, struct message *messages, const struct claim *claim);

/*
 * Fills in the filter of a segment that is sealed and wholly committed. Thread: the keeper, once in
 * the segment's life.
 */
void segment_build_filter(struct segment *segment, uint32_t entries);
/* False: no entry of the segment has that topic hash. Thread: any, inside an epoch section. */
bool segment_may_hold(const struct segment *segment, uint32_t topic_hash);

/* No claim succeeds from here on. Thread: any, inside an epoch section. */
void segment_seal(struct segment *segment);

/* Entry i of this segment: a slot of the index, committed or not. */
static inline struct entry *segment_entry(const struct segment *segment, uint32_t i)
{
	return (struct entry *)(void *)(segment->map + segment->size) - 1 - i;
}

/*
 * Whether entry i, i < state_entries(), has been committed; what it describes can be read then.
 */
static inline bool segment_is_committed(const struct segment *segment, uint64_t base, uint32_t i)
{
	/* [O1] acquire: the entry's other fields and the frame are read behind this. */
	return atomic64_load_acquire(&segment_entry(segment, i)->commit) ==
	       ((base + i) ^ segment->secret);
}

static inline uint64_t entry_time_us(const struct entry *entry)
{
	return entry->stamp >> 8;
}
static inline uint32_t entry_topic_size(const struct entry *entry)
{
	return (uint32_t)(entry->stamp & 0xff);
}

#endif
