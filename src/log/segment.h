/* SPDX-License-Identifier: MIT */
/* Model: tests/models/log.pml */
/* Model: tests/models/genmc/append.c */
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
 *
 * A durable log's segments are files of this very layout (store.h has the header), mapped shared.
 * Of these the mapping may come and go while the segment stays: one that is sealed and on disk is
 * "cold" when it has none. Whoever looks inside loads `map` once and uses what it got to the end of
 * its section. Each entry of a durable log has a checksum; a *marker* is an entry of size 0 that
 * stands, in a file, for an id under which nothing can be read.
 */
#ifndef PSAD_LOG_SEGMENT_H
#define PSAD_LOG_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "log/epoch.h"

/*
 * The header's upper half is a Bloom filter of the topic hashes, once the segment is sealed: with
 * two probes of 14 bits each it says "not here" of 19 topics in 20 where the segment has 2,000 of
 * them.
 */
enum { FILTER_OFFSET = 2048, FILTER_BITS = 8 * 2048 };
enum { SEGMENT_HEADER_SIZE = 4096, SEGMENT_SIZE_MIN = 64 << 10, SEGMENT_SIZE_MAX = 1 << 30 };

/* A base that no id reaches: the segment has not been rolled into yet. */
#define SEGMENT_NO_BASE UINT64_MAX

struct entry {
	uint64_t commit; /* [O1] segment_commit: release; entry_is_committed: acquire */
	uint64_t stamp;  /* time in Unix microseconds << 8 | topic size */
	uint32_t offset; /* of the frame, from the mapping's begin; of a marker: enum loss */
	uint32_t size;   /* of the frame; 0: a marker */
	uint32_t topic_hash;
	uint32_t checksum; /* of durable logs; 0 in memory */
};
_Static_assert(sizeof(struct entry) == 32, "two entries a cache line");

/* Why nothing can be read under an id that has been given out. These numbers stand in files. */
enum loss {
	LOSS_NONE,
	LOSS_VOID,    /* claimed and never committed: nobody was shown or promised anything */
	LOSS_LOST,    /* may have been shown or promised; a loss of power took it */
	LOSS_DAMAGED, /* it was there once, and what is there now is not it */
};

/* The ids of one segment under which nothing can be read: sorted, apart, never changed. */
struct gap {
	uint64_t from, to; /* inclusive */
	enum loss loss;
	bool is_news; /* none of the markers that say so: it was found by its checksum */
};
struct gaps {
	struct epoch_deferred reclaim;
	size_t count;
	struct gap at[];
};

struct segment {
	/* Written before the segment is linked, read by all. */
	size_t size;
	uint64_t secret;
	uint64_t key; /* of the checksums, where is_durable */
	bool is_durable;
	enum loss loss; /* of the ids between the segment before and `base`, if there are any */
	uint32_t max_entries;

	/* Set by the signal handler (fault.h), relaxed: it comes before the commit [O1] of whoever
	 * copied into the hole, and nothing else is to be ordered. Nothing of it is to be read. */
	uint32_t is_damaged;
	/*
	 * [O14] segment_publish: release, when what it shows has been verified; segment_map:
	 * acquire. NULL: cold. Of a segment that is not sealed and on disk it never changes.
	 */
	char *map;
	/* [O15] segment_publish: release, before the mapping; segment_gaps: acquire, behind it.
	 * NULL: none. */
	const struct gaps *gaps;

	/* [O2] log_roll: release; log_find and whoever follows `next`: acquire */
	uint64_t base;
	/* [O3] keeper: release, when the segment behind it is ready; log_roll: acquire */
	struct segment *next;

	/*
	 * [O13] segment_sum_up: release, when what follows is whole; segment_has_summary: acquire.
	 * It outlives the mapping, so that searches pass cold segments by.
	 */
	uint32_t has_summary;
	const uint64_t *filter; /* NULL: there was no memory for it, so anything may match */
	uint64_t first_time_us, last_time_us;

	/* When it was last read, in log.tick's, 0: not since it was warmed; relaxed, it only helps
	 * to choose what to unmap. */
	uint32_t used_tick;
	/* [O24] warmer_want: exchange, which acquires; dismiss: release, when it is off the
	 * list. Somebody has asked for it. */
	uint32_t is_wanted;
	struct segment *next_wanted; /* whose it is says is_wanted */

	/* Hot: every claim. [O4] claim: acquire and release; seal: the same; readers: acquire,
	 * before they trust that an index slot is one. */
	_Alignas(CACHE_LINE) uint64_t state;
	/* Whoever claims behind this offset tells the keeper to make more pages ready, and sets it to
	 * SEGMENT_READY so that it is told once. Relaxed: a hint. */
	uint32_t ready_mark;

	/* The keeper's alone. */
	_Alignas(CACHE_LINE) struct epoch_deferred reclaim;
	struct segment *next_free;
	size_t counted_bytes; /* what this segment counts for in the retention figures */

	/* [O16] segment_hold: cas, inside a section; segment_let_go: release; the keeper, before it
	 * frees: acquire. For threads whose work on a segment is too long for a section. */
	uint32_t holds;

	/* Of durable logs; see store.h. */
	struct segment_file {
		uint64_t number;
		uint64_t id_bound;
		int fd; /* the syncer's, -1 when the segment is stored */
		/* [O17] syncer: release, when it is sealed and synced for good; others: acquire. */
		uint32_t is_stored;
		/* [O18] keeper: release, before it unlinks the file; others: acquire, when they
		 * miss it. */
		uint32_t is_retired;
		uint64_t synced; /* the syncer's: ids up to here are on disk */
	} file;
};

#define SEGMENT_READY UINT32_MAX

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
/* Releases all that it has, a file's mapping and descriptor included. Thread: the keeper, or
 * startup where nobody else can see it. */
void segment_free(struct segment *segment);
/* Of commit words: random, and with no id the word that fresh memory holds. Thread: any. */
uint64_t segment_draw_secret(void);
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
 * Computes filter and times of a segment that is mapped, sealed and wholly committed, with at least
 * one entry. Thread: the keeper, once in the segment's life; or a repair.
 */
void segment_sum_up(struct segment *segment, uint32_t entries);
/* False: no entry of the segment has that topic hash. Thread: any, inside an epoch section. */
bool segment_may_hold(const struct segment *segment, uint32_t topic_hash);

/* No claim succeeds from here on. Thread: any, inside an epoch section. */
void segment_seal(struct segment *segment);

/* The mapping; NULL when the segment is cold. To be loaded once in a section. */
static inline char *segment_map(const struct segment *segment)
{
	return atomic_load_pointer_acquire(&segment->map); /* [O14] */
}

/* Behind segment_map(): the gaps in what it shows. */
static inline const struct gaps *segment_gaps(const struct segment *segment)
{
	return atomic_load_pointer_acquire(&segment->gaps); /* [O15] */
}

/* Makes a verified mapping and its gaps what readers find; NULL: cold. Thread: startup, before
 * others see the segment; the keeper, for new ones; the warmer, for stored ones. */
static inline void segment_publish(struct segment *segment, char *map, const struct gaps *gaps)
{
	atomic_store_pointer_release(&segment->gaps, gaps); /* [O15] */
	atomic_store_pointer_release(&segment->map, map);   /* [O14] */
}

static inline bool segment_has_summary(const struct segment *segment)
{
	return atomic32_load_acquire(&segment->has_summary) != 0; /* [O13] */
}

/* What it holds may not be used: see `is_damaged`. */
static inline bool segment_is_damaged(const struct segment *segment)
{
	return atomic32_load_relaxed(&segment->is_damaged) != 0; /* see there */
}

/* Its file is sealed and on disk, and nobody writes to it any more: the mapping may go. */
static inline bool segment_is_stored(const struct segment *segment)
{
	return atomic32_load_acquire(&segment->file.is_stored) != 0; /* [O17] */
}

/* Its file has been unlinked by retention, or will be at once. */
static inline bool segment_is_retired(const struct segment *segment)
{
	return atomic32_load_acquire(&segment->file.is_retired) != 0; /* [O18] */
}

/*
 * Keeps a segment found in this section from being freed beyond it; retention may still retire it.
 * Thread: any, inside a section.
 */
static inline void segment_hold(struct segment *segment)
{
	(void)atomic32_add(&segment->holds, 1); /* [O16] */
}
static inline void segment_let_go(struct segment *segment)
{
	(void)atomic32_add(&segment->holds, UINT32_MAX); /* [O16] */
}

/* Entry i of a mapping: a slot of the index, committed or not. */
static inline struct entry *map_entry(char *map, size_t size, uint32_t i)
{
	return (struct entry *)(void *)(map + size) - 1 - i;
}
/* The same of a segment that is known to be mapped. */
static inline struct entry *segment_entry(const struct segment *segment, uint32_t i)
{
	return map_entry(segment_map(segment), segment->size, i);
}

/*
 * Whether an entry below state_entries() has been committed under an id; what it describes can be
 * read then.
 */
static inline bool entry_is_committed(const struct entry *entry, uint64_t id, uint64_t secret)
{
	/* [O1] acquire: the entry's other fields and the frame are read behind this. */
	return atomic64_load_acquire(&entry->commit) == (id ^ secret);
}
static inline bool segment_is_committed(const struct segment *segment, uint64_t base, uint32_t i)
{
	return entry_is_committed(segment_entry(segment, i), base + i, segment->secret);
}

/*
 * The checksum of a durable log's entry: of all its fields, its id and its frame (n bytes, none of
 * a marker).
 */
uint32_t entry_checksum(const struct entry *entry, uint64_t id, const char *frame, uint64_t key);

static inline bool entry_is_marker(const struct entry *entry)
{
	return entry->size == 0;
}
/* Turns the slot of `id` into a marker; `time_us`: of the message before. Thread: whoever
 * recovers. */
void entry_mark(struct entry *entry, uint64_t id, uint64_t time_us, enum loss loss,
                const struct segment *segment);

static inline uint64_t entry_time_us(const struct entry *entry)
{
	return entry->stamp >> 8;
}
static inline uint32_t entry_topic_size(const struct entry *entry)
{
	return (uint32_t)(entry->stamp & 0xff);
}

#endif
