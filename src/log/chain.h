/* SPDX-License-Identifier: MIT */
/*
 * chain: the inside of a log, shared by log.c (who appends and reads) and the threads that serve
 * it: keeper.c (who makes and drops segments), syncer.c (who brings them to the disk) and
 * warmer.c (who brings them back from there), and by nobody else.
 */
#ifndef PSAD_LOG_CHAIN_H
#define PSAD_LOG_CHAIN_H

#include "log/keeper.h"
#include "log/log.h"

/*
 * All linked segments in order, spares included (their base is SEGMENT_NO_BASE). Never changed
 * once published: the keeper replaces it whole, and the old one is released by epoch.
 */
struct directory {
	struct epoch_deferred reclaim;
	size_t count;
	struct segment *segments[];
};

struct log {
	/* Constant after the start. */
	uint32_t identity;
	uint64_t hash_key;
	size_t segment_size;
	struct epoch epoch;
	struct wake *wake;
	struct keeper *keeper;
	/* Of durable logs, else NULL. */
	struct store *store;
	struct syncer *syncer;
	struct warmer *warmer;
	enum log_sync sync;
	bool shows_synced; /* LOG_SYNC_ALWAYS: what is not synced is not shown */

	/* [O5] keeper: release, with a directory complete; readers: acquire. */
	_Alignas(CACHE_LINE) struct directory *directory;
	/* [O9] log_roll: cas, when the next one's base stands; log_append: acquire. */
	_Alignas(CACHE_LINE) struct segment *tail;
	/* Set once, beside what every append reads: the log takes no more. [O22] log_fail: release,
	 * when `synced` is final; log_has_failed: acquire. */
	uint32_t has_failed;
	/* [O7] head_raise: cas, when all up to it has been seen committed; log_committed:
	 * acquire. */
	_Alignas(CACHE_LINE) uint64_t head;
	/* [O19] the syncer: release, when all up to it is on disk; log_synced: acquire. */
	uint64_t synced;

	/* Written by the keeper, relaxed: a hint that orders nothing. */
	_Alignas(CACHE_LINE) uint32_t is_full;
	uint64_t bytes;

	/* Raised with each segment that is warmed, relaxed: the clock of segment.used_tick. */
	_Alignas(CACHE_LINE) uint32_t tick;
	/* [O23] dismiss: add, which releases, when a segment that was asked for is warm, or known
	 * to be damaged, or gone; log_warmed: acquire, before the log is looked at. */
	uint64_t warmed;
};

/*
 * Makes `sealed`'s follower the tail, whoever comes first. The new tail, or NULL when there is no
 * follower. Thread: any, inside a section.
 */
struct segment *log_roll(struct log *log, struct segment *sealed);

/* Appending is over: see log_has_failed(). Thread: any. */
void log_fail(struct log *log);

#endif
