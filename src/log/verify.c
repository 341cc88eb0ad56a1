/* SPDX-License-Identifier: MIT */
#include "log/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "log/frame.h"

/* Whether the text of the frame is that of this id and these sizes. */
static bool text_is_right(const char *frame, const struct entry *entry, uint64_t id)
{
	uint32_t topic_size = entry_topic_size(entry);
	uint32_t payload_size = frame_payload_size(id, topic_size, entry->size);
	char text[32];
	unsigned n;

	if (frame_size(id, topic_size, payload_size) != entry->size)
		return false;
	memcpy(text, "MSG ", 4);
	n = 4 + decimal_write(text + 4, id);
	text[n++] = ' ';
	if (memcmp(frame, text, n) != 0)
		return false;
	text[0] = ' ';
	n = 1 + decimal_write(text + 1, payload_size);
	text[n++] = '\n';
	return memcmp(frame + frame_topic_offset(id) + topic_size, text, n) == 0 &&
	       frame[entry->size - 1] == '\n';
}

static bool marker_is_good(const struct segment *segment, const struct entry *entry, uint64_t id)
{
	return entry->offset >= LOSS_VOID && entry->offset <= LOSS_DAMAGED &&
	       entry_checksum(entry, id, NULL, segment->key) == entry->checksum;
}

enum slot verify_slot_as(const struct segment *segment, char *map, uint32_t i, uint64_t id)
{
	const struct entry *entry = map_entry(map, segment->size, i);
	uint64_t slot_begin = segment->size - ((uint64_t)i + 1) * sizeof *entry;

	if (entry_is_marker(entry))
		return marker_is_good(segment, entry, id) ? SLOT_MARKER : SLOT_BAD;
	if (entry->offset < SEGMENT_HEADER_SIZE ||
	    (uint64_t)entry->offset + entry->size > slot_begin || entry_topic_size(entry) == 0 ||
	    entry->size < frame_size(id, entry_topic_size(entry), 0))
		return SLOT_BAD;
	const char *frame = map + entry->offset;
	if (entry_checksum(entry, id, frame, segment->key) != entry->checksum ||
	    !text_is_right(frame, entry, id))
		return SLOT_BAD;
	return SLOT_GOOD;
}

enum slot verify_slot(const struct segment *segment, char *map, uint32_t i, uint64_t *id)
{
	const struct entry *entry = map_entry(map, segment->size, i);
	uint64_t commit = atomic64_load_acquire(&entry->commit); /* [O1] */
	uint64_t found = commit ^ segment->secret;

	*id = 0;
	if (commit == 0)
		return SLOT_EMPTY;
	/* Whoever can't know the secret hits this range by no accident: nothing is hashed in
	 * vain. */
	if (found <= i || found > segment->file.id_bound)
		return SLOT_BAD;
	enum slot slot = verify_slot_as(segment, map, i, found);
	if (slot != SLOT_BAD)
		*id = found;
	return slot;
}

int gap_list_add(struct gap_list *list, uint64_t from, uint64_t to, enum loss loss)
{
	size_t count = list->gaps == NULL ? 0 : list->gaps->count;
	if (count > 0) {
		struct gap *last = &list->gaps->at[count - 1];
		if (last->loss == loss && last->to + 1 == from) {
			last->to = to;
			return 0;
		}
	}
	if (count == list->room) {
		size_t room = list->room == 0 ? 8 : 2 * list->room;
		struct gaps *gaps = realloc(list->gaps, sizeof *gaps + room * sizeof gaps->at[0]);
		if (gaps == NULL)
			return -ENOMEM;
		gaps->count = count;
		list->gaps = gaps;
		list->room = room;
	}
	list->gaps->at[list->gaps->count++] = (struct gap){.from = from, .to = to, .loss = loss};
	return 0;
}

/*
 * Makes a damaged slot of a private mapping a marker, so that a search by time does not go by what
 * stands in it. Where that can't be done the search may be wrong, reading isn't.
 */
static void cover(const struct segment *segment, char *map, uint32_t i, uint64_t id)
{
	struct entry *entry = map_entry(map, segment->size, i);
	uint64_t time_us = i == 0 ? 0 : entry_time_us(map_entry(map, segment->size, i - 1));
	char *page = (char *)((uintptr_t)entry & ~(uintptr_t)4095);

	if (mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0)
		entry_mark(entry, id, time_us, LOSS_DAMAGED, segment);
}

int segment_verify(const struct segment *segment, char *map, uint32_t from, uint32_t count,
                   struct gap_list *list)
{
	uint64_t base = atomic64_load_acquire(&segment->base); /* [O2] */

	for (uint32_t i = from; i < from + count; i++) {
		uint64_t id = 0, expected = base + i;
		enum slot slot = verify_slot(segment, map, i, &id);
		enum loss loss = LOSS_DAMAGED;
		if (slot == SLOT_GOOD && id == expected)
			continue;
		bool is_marked = slot == SLOT_MARKER && id == expected;
		if (is_marked)
			loss = (enum loss)map_entry(map, segment->size, i)->offset;
		else
			cover(segment, map, i, expected);
		if (gap_list_add(list, expected, expected, loss) != 0)
			return -ENOMEM;
		if (!is_marked)
			list->gaps->at[list->gaps->count - 1].is_news = true;
	}
	return 0;
}
