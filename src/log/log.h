/* SPDX-License-Identifier: MIT */
/*
 * log: the one shared log of a broker: every accepted message in one total order, as wire bytes.
 *
 *      directory --> [ segment | segment | ... | tail | spare ]     the keeper links spares behind
 *                       ^ first id                ^ appends          the tail and drops from the front
 *
 * Any number of threads append and read without a lock. The head is the newest id up to which
 * everything has been committed; readers go no further. Retention drops whole segments from the old
 * end and never waits for a reader: a reader is a bare id and is told when the log has moved past.
 *
 * Everything that looks at segments does so inside an epoch section of log_epoch(); what a section
 * found is not to be kept beyond it.
 */
#ifndef PSAD_LOG_LOG_H
#define PSAD_LOG_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/epoch.h"
#include "log/segment.h"
#include "log/wake.h"

struct log;

struct log_options {
	size_t segment_size;      /* bytes, a multiple of 4096 */
	uint64_t retain_bytes;    /* 0: no limit; else at least 4 segments */
	uint64_t retain_messages; /* 0: no limit */
	uint64_t retain_age_us;   /* 0: no limit */
};

/*
 * An empty log with an identity of its own, and its keeper thread. `wake` is rung when there is
 * room again after LOG_NO_SEGMENT. NULL: no memory or no thread. Thread: startup.
 */
struct log *log_open(const struct log_options *options, struct wake *wake);
/* Stops the keeper and releases everything. Thread: the last one. */
void log_close(struct log *log);

/* Applies other retention limits; `segment_size` can't change. Thread: one (main). */
void log_set_retention(struct log *log, const struct log_options *options);

uint32_t log_identity(const struct log *log);
/* The key of the topic hashes in the index; random. */
uint64_t log_hash_key(const struct log *log);
struct epoch *log_epoch(struct log *log);

enum log_verdict {
	LOG_APPENDED,   /* all n */
	LOG_NO_SEGMENT, /* not all: there will be room soon, and `wake` is rung then */
	LOG_FULL,       /* not all: no memory could be had for another segment */
};

/*
 * Appends messages 0 .. *appended - 1 (all or a beginning of the n) in this order; sets their ids,
 * which grow but need not be neighbours. Does not ring: the caller rings once for all that it has
 * appended, before it sleeps. The caller has taken wake_value() before the call if it means to wait
 * after LOG_NO_SEGMENT. Thread: any, inside a section.
 */
enum log_verdict log_append(struct log *log, struct message *messages, size_t n, size_t *appended);

/* The head; 0 before the first message. Never goes down. Thread: any, inside a section. */
uint64_t log_head(struct log *log);
/* The oldest id kept; head + 1 when nothing is. Thread: any, inside a section. */
uint64_t log_first(struct log *log);

/* Blocks of neighbouring entries of one segment: what readers work by. */
enum { BLOCK_ENTRIES = 16384 };

struct block {
	const struct segment *segment;
	uint64_t first; /* id of the first entry */
	uint32_t index; /* of the first entry in its segment */
	uint32_t count; /* 1 .. BLOCK_ENTRIES */
};

enum block_verdict {
	BLOCK_HERE,
	BLOCK_DROPPED, /* retention has passed `id`: go on at log_first() */
	BLOCK_END,     /* `id` is beyond `upto` */
};

/*
 * The entries from `id` on, up to `upto` (at most the head) or the end of a block. Blocks end where
 * the entry's index is a multiple of BLOCK_ENTRIES, so that different readers meet in the same
 * ones. Thread: any, inside a section.
 */
enum block_verdict log_block(struct log *log, uint64_t id, uint64_t upto, struct block *block);
/* The same looking back: the entries from the beginning of id's block up to `id` (<= head). */
enum block_verdict log_block_back(struct log *log, uint64_t id, struct block *block);

static inline const struct entry *block_entry(const struct block *block, uint32_t i)
{
	return segment_entry(block->segment, block->index + i);
}
/* The ids of the segment that the block is of: to pass it by as a whole. */
static inline uint64_t block_segment_first(const struct block *block)
{
	return block->first - block->index;
}
uint64_t block_segment_last(const struct block *block);
/* Where entry i's topic stands; entry_topic_size() bytes. */
const char *block_topic(const struct block *block, uint32_t i);

/*
 * The oldest kept id whose time is at least `time_us`; head + 1 when there is none. A search in
 * two steps of bisection: no need to do it piecemeal. Thread: any, inside a section.
 */
uint64_t log_find_time(struct log *log, uint64_t time_us);

struct log_figures {
	uint64_t first, head;
	uint64_t bytes;    /* of all segments, those kept ahead or waiting for reuse included */
	uint64_t segments; /* that hold messages, or will next */
};
/* Thread: any, inside a section. */
void log_figures(struct log *log, struct log_figures *figures);

#endif
