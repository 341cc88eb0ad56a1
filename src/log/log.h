/* SPDX-License-Identifier: MIT */
/*
 * log: the one shared log of a broker: every accepted message in one total order, as wire bytes.
 *
 *      directory --> [ segment | segment | ... | tail | spare ]
 *                       ^ first id                ^ appends
 *
 * The keeper links spares behind the tail and drops segments from the front.
 *
 * Any number of threads append and read without a lock. The head is the newest id up to which
 * everything has been committed; readers go no further. Retention drops whole segments from the old
 * end and never waits for a reader: a reader is a bare id and is told when the log has moved past.
 *
 * Everything that looks at segments does so inside an epoch section of log_epoch(); what a section
 * found is not to be kept beyond it.
 *
 * A log lives in memory, or in files of a directory that is its own (see store.h): then what is
 * committed survives the death of the process, `sync` says what survives losing power, and ids may
 * be missing, for a reason that the log knows (enum loss). Memory or files, the code is the same.
 */
#ifndef PSAD_LOG_LOG_H
#define PSAD_LOG_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/beat.h"
#include "log/epoch.h"
#include "log/segment.h"
#include "log/wake.h"

struct log;

/* How far what is committed is from what is on disk; of durable logs. */
enum log_sync {
	LOG_SYNC_NO,       /* the system decides; segments are synced when they are full */
	LOG_SYNC_INTERVAL, /* synced by sync_interval_us after it was committed */
	LOG_SYNC_ALWAYS,   /* nothing is shown or acknowledged before it is synced */
};

struct log_options {
	size_t segment_size;      /* bytes, a multiple of 4096 */
	uint64_t retain_bytes;    /* 0: no limit; else at least 4 segments */
	uint64_t retain_messages; /* 0: no limit */
	uint64_t retain_age_us;   /* 0: no limit */
	const char *dir;          /* where its files are; NULL or "": in memory */
	enum log_sync sync;
	uint64_t sync_interval_us;
	size_t mapped_max; /* stored segments mapped at a time; 0: WARMER_MAPPED_MAX, the most */
	/* Told now and then how far opening has got; may be NULL. */
	void (*progress)(void *context, uint64_t done, uint64_t total);
	void *context;
};

/*
 * The most messages that all threads together may be appending at a time, so that recovery knows
 * how long a hole can be: a thousand threads with a batch of 64 each.
 */
enum { LOG_CLAIMED_MAX = 64 << 10 };

enum { LOG_ERROR_MAX = 1024 }; /* bytes that are enough for any sentence */

/*
 * A log and its threads. In memory it is empty, with an identity of its own; with a directory it is
 * what that directory holds, made and new where it holds nothing. `wake` is rung when there is room
 * again after LOG_NO_SEGMENT, and when more may be shown that no publisher rings for. NULL: `error`
 * is a sentence that says why, and nothing has been changed. Thread: startup.
 */
struct log *log_open(const struct log_options *options, struct wake *wake, char *error,
                     size_t error_size);
/*
 * Stops the threads and releases everything. A durable log is synced and marked as whole up to its
 * head, unless it has failed. Thread: the last one.
 */
void log_close(struct log *log);

/* Applies other retention limits; `segment_size` can't change. Thread: one (main). */
void log_set_retention(struct log *log, const struct log_options *options);
/* Of LOG_SYNC_INTERVAL; what waits for its sync now is synced by the shorter of the two. Thread:
 * one (main). */
void log_set_sync_interval(struct log *log, uint64_t sync_interval_us);

/* Signs of life: of the thread that makes and drops segments, and of the one that syncs them (NULL:
 * there is none). Thread: any. */
const struct beat *log_keeper_beat(const struct log *log);
const struct beat *log_syncer_beat(const struct log *log);
/* Makes both come round soon, though they have nothing to do. Thread: any. */
void log_stir(struct log *log);

uint32_t log_identity(const struct log *log);
/* The key of the topic hashes in the index; random. */
uint64_t log_hash_key(const struct log *log);
struct epoch *log_epoch(struct log *log);

enum log_verdict {
	LOG_APPENDED,   /* all n */
	LOG_NO_SEGMENT, /* not all: there will be room soon, and `wake` is rung then */
	LOG_FULL,       /* not all: no memory or no file could be had for another segment */
	LOG_FAILED,     /* not all, and never again: what is written does not get to the disk */
};

/*
 * Appends messages 0 .. *appended - 1 (all or a beginning of the n) in this order; sets their ids,
 * which grow but need not be neighbours. Does not ring: the caller rings once for all that it has
 * appended, before it sleeps. The caller has taken wake_value() before the call if it means to wait
 * after LOG_NO_SEGMENT. Thread: any, inside a section.
 */
enum log_verdict log_append(struct log *log, struct message *messages, size_t n, size_t *appended);

/*
 * Tells those who must know that something was appended: once for all of it, and before the thread
 * sleeps. With LOG_SYNC_ALWAYS that is the syncing thread, which rings `wake` when readers may
 * look. Thread: any.
 */
void log_announce(struct log *log);

/* The head; 0 before the first message. Never goes down. Thread: any, inside a section. */
uint64_t log_head(struct log *log);
/*
 * Everything up to here has been committed: the head, or with LOG_SYNC_ALWAYS beyond it. For
 * those who sync. Thread: any, inside a section.
 */
uint64_t log_committed(struct log *log);
/* Everything up to here survives what can be survived: of a log in memory, the head. Thread: any,
 * inside a section. */
uint64_t log_synced(struct log *log);
/* "memory", "no", "interval" or "always". Thread: any. */
const char *log_sync_word(const struct log *log);
/* Whether appending is over for good. Thread: any. */
bool log_has_failed(const struct log *log);
/* Whether the head, looked at behind this, will never be raised again though more was appended:
 * what is not synced will not be shown, or the files are not there any more. Thread: any, inside a
 * section. */
bool log_is_final(struct log *log);
/* The oldest id kept; head + 1 when nothing is. Thread: any, inside a section. */
uint64_t log_first(struct log *log);

/*
 * Blocks of neighbouring entries of one segment: what readers work by. So many that a pass over a
 * thousand topics has dozens of messages for each; other things end it before where they are large.
 */
enum { BLOCK_ENTRIES = 65536 };

struct block {
	const struct segment *segment;
	char *map;      /* the segment's, NULL with BLOCK_COLD: valid to the end of the section */
	uint64_t first; /* id of the first entry */
	uint32_t index; /* of the first entry in its segment */
	uint32_t count; /* 1 .. BLOCK_ENTRIES */
	/* Of BLOCK_GAP alone, which has no entries: ids first .. last are missing, for this
	 * reason. */
	uint64_t last;
	enum loss loss;
};

enum block_verdict {
	BLOCK_HERE,
	BLOCK_DROPPED, /* retention has passed `id`: go on at log_first() */
	BLOCK_END,     /* `id` is beyond `upto` */
	BLOCK_GAP,     /* `id` and some of its neighbours can't be read and never will */
	BLOCK_COLD, /* it is not in memory: log_want() it, or pass by the segment by its filter */
};

/*
 * The entries from `id` on, up to `upto` (at most the head) or the end of a block. Blocks end where
 * the entry's index is a multiple of BLOCK_ENTRIES, so that different readers meet in the same
 * ones, and before a gap. A gap said goes from `id` to its end or `upto`; what follows directly may
 * be one more. Thread: any, inside a section.
 */
enum block_verdict log_block(struct log *log, uint64_t id, uint64_t upto, struct block *block);
/* The same looking back: the entries from the beginning of id's block, or behind a gap, up to `id`
 * (<= head); of a gap, from its beginning to `id`. Thread: any, inside a section. */
enum block_verdict log_block_back(struct log *log, uint64_t id, struct block *block);

/*
 * Asks for the segment of a BLOCK_COLD. When it can be read, or is known to be damaged or gone,
 * log_warmed() changes and `wake` is rung: look again then. (It may have become cold again: ask
 * again.) Thread: any, inside the section.
 */
void log_want(struct log *log, const struct block *block);
/*
 * Changes whenever a segment that was asked for need not be waited for any more. To be taken before
 * the look at the log that finds it cold, so that no change is missed. Thread: any.
 */
uint64_t log_warmed(const struct log *log);

/*
 * What the block is of can't be read (EFAULT of a system call): all of its segment is a gap from
 * here on. Thread: any, inside the section.
 */
void log_damage(struct log *log, const struct block *block);
/* Whether that has been found out since the block was: what has been read of it may be anything. To
 * be asked behind the reading. Thread: any, inside the section. */
static inline bool block_is_damaged(const struct block *block)
{
	return segment_is_damaged(block->segment);
}

static inline const struct entry *block_entry(const struct block *block, uint32_t i)
{
	return map_entry(block->map, block->segment->size, block->index + i);
}
/* The wire bytes of entry i, entry->size of them. */
static inline char *block_frame(const struct block *block, uint32_t i)
{
	return block->map + block_entry(block, i)->offset;
}
/* The ids of the segment that the block is of (not of a gap): to pass it by as a whole. */
static inline uint64_t block_segment_first(const struct block *block)
{
	return block->first - block->index;
}
uint64_t block_segment_last(const struct block *block);
/* Where entry i's topic stands; entry_topic_size() bytes. */
const char *block_topic(const struct block *block, uint32_t i);

/*
 * The oldest kept id whose time is at least `time_us`; head + 1 when there is none. A search in
 * two steps of bisection: no need to do it piecemeal. Where the answer lies in a cold segment,
 * cold->segment is set (else NULL) and the answer is only that segment's first id: log_want() it
 * and ask again. `cold` may be NULL. Thread: any, inside a section.
 */
uint64_t log_find_time(struct log *log, uint64_t time_us, struct block *cold);

struct log_figures {
	uint64_t first, head, synced;
	uint64_t bytes;    /* of all segments, those kept ahead or waiting for reuse included */
	uint64_t segments; /* that hold messages, or will next */
};
/* Thread: any, inside a section. */
void log_figures(struct log *log, struct log_figures *figures);

#endif
