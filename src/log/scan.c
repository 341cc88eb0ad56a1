/* SPDX-License-Identifier: MIT */
#include "log/scan.h"

#include <errno.h>

#include "log/header.h"

uint32_t scan_slots(const struct segment *segment, size_t data_end)
{
	size_t slots = (segment->size - data_end) / sizeof(struct entry);
	return slots < segment->max_entries ? (uint32_t)slots : segment->max_entries;
}

/* The slot is good: the entries reach up to it. */
static void take(struct scan *scan, const struct segment *segment, char *map, uint32_t i,
                 enum slot slot)
{
	const struct entry *entry = map_entry(map, segment->size, i);

	scan->entries = i + 1;
	if (slot == SLOT_MARKER)
		scan->has_markers = true;
	else
		scan->data_end = (size_t)entry->offset + entry->size;
}

/* Takes the holes behind the last good entry off the list: they are none, nothing was there. */
static void cut_tail(struct scan *scan)
{
	struct gaps *holes = scan->holes.gaps;

	while (holes != NULL && holes->count > 0 &&
	       holes->at[holes->count - 1].from >= scan->entries) {
		const struct gap *last = &holes->at[--holes->count];
		if (last->loss == LOSS_DAMAGED)
			scan->is_littered = true;
		if (last->from == scan->entries)
			scan->is_cut = last->loss == LOSS_DAMAGED;
	}
}

int scan_segment(const struct segment *segment, char *map, uint32_t max_hole, struct scan *scan)
{
	uint32_t empty = 0; /* slots since the last that was not */

	scan->data_end = SEGMENT_HEADER_SIZE;
	for (uint32_t i = 0; i < scan_slots(segment, scan->data_end) && empty < max_hole; i++) {
		uint64_t id = 0;
		enum slot slot = verify_slot(segment, map, i, &id);
		empty = slot == SLOT_EMPTY ? empty + 1 : 0;
		if (slot == SLOT_GOOD || slot == SLOT_MARKER) {
			if (scan->base == 0)
				scan->base = id - i;
			if (scan->base == id - i) {
				take(scan, segment, map, i, slot);
				continue;
			}
		}
		if (gap_list_add(&scan->holes, i, i,
		                 slot == SLOT_EMPTY ? LOSS_VOID : LOSS_DAMAGED) != 0)
			return -ENOMEM;
	}
	cut_tail(scan);
	return 0;
}

void scan_wipe(const struct segment *segment, char *map, const struct scan *scan)
{
	for (uint32_t i = scan->entries; i < scan_slots(segment, scan->data_end); i++) {
		struct entry *entry = map_entry(map, segment->size, i);
		if (atomic64_load_relaxed(&entry->commit) != 0) /* nobody else is here yet */
			atomic64_store_relaxed(&entry->commit, 0);
	}
}
