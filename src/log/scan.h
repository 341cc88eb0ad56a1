/* SPDX-License-Identifier: MIT */
/*
 * scan: what stands in a segment file that was being written when its run ended.
 *
 * Nothing in it is trusted but what proves itself: the whole index is looked at, since a hole of
 * any length (claims that were never committed, pages that never got to the disk) may lie before a
 * good entry. Nothing is changed. Thread: startup.
 */
#ifndef PSAD_LOG_SCAN_H
#define PSAD_LOG_SCAN_H

#include "log/verify.h"

struct scan {
	uint64_t base;    /* as all good entries have it; 0: there is none */
	uint32_t entries; /* up to and with the last good one */
	size_t data_end;  /* where its frame ends: the next one begins there */
	/*
	 * The slots below `entries` that are not good, by their numbers: LOSS_VOID where nothing
	 * was committed, LOSS_DAMAGED where something else stands. The caller turns them into what
	 * they mean.
	 */
	struct gap_list holes;
	bool has_markers;
	/* Slot `entries` is not empty: where the memory of the run has survived nothing writes
	 * there before the slot's own commit, so an entry has been there. */
	bool is_cut;
	bool is_littered; /* behind `entries` stand commit words that are not 0 */
};

/*
 * `scan` is all zero; holes.gaps is the caller's to free, whatever is returned. Behind `max_hole`
 * empty slots in a row nothing is looked for. 0 or -ENOMEM.
 */
int scan_segment(const struct segment *segment, char *map, uint32_t max_hole, struct scan *scan);

/* How many slots there can be in a segment whose data ends there. */
uint32_t scan_slots(const struct segment *segment, size_t data_end);

/* Zeroes the commit words behind the last good entry, so that only commits will stand there. */
void scan_wipe(const struct segment *segment, char *map, const struct scan *scan);

#endif
