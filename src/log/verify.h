/* SPDX-License-Identifier: MIT */
/*
 * verify: whether what stands in a segment's file is what was once appended.
 *
 * Nothing of a file of a former run is trusted before it went through here: bounds, the frame's
 * text and the checksum of each entry. Thread: any, on a mapping that is not published yet.
 */
#ifndef PSAD_LOG_VERIFY_H
#define PSAD_LOG_VERIFY_H

#include "log/segment.h"

enum slot {
	SLOT_GOOD,
	SLOT_MARKER, /* a marker, and good */
	SLOT_EMPTY,  /* its commit word is 0: nothing has ever been committed */
	SLOT_BAD,    /* anything else */
};

/*
 * What slot i of the mapping is. *id: of a good one and of a marker, from the commit word (whether
 * it belongs there is the caller's to know); of others 0.
 */
enum slot verify_slot(const struct segment *segment, char *map, uint32_t i, uint64_t *id);

/* What slot i would be under this id, whatever its commit word: good, a marker, or bad. */
enum slot verify_slot_as(const struct segment *segment, char *map, uint32_t i, uint64_t id);

/* Gaps being collected, in the order of their ids; all zero is an empty one. */
struct gap_list {
	struct gaps *gaps; /* to be published, or freed with free(); NULL: none */
	size_t room;
};
/* Adds the ids from..to; joins them to the last gap where that is the same one. 0 or -ENOMEM. */
int gap_list_add(struct gap_list *list, uint64_t from, uint64_t to, enum loss loss);

/*
 * Looks at entries from .. from + count - 1 of a segment whose base and state are set, and adds to
 * the list the markers and what is damaged. A piece at a time, in order, so that the caller can
 * stop. 0 or -ENOMEM.
 */
int segment_verify(const struct segment *segment, char *map, uint32_t from, uint32_t count,
                   struct gap_list *list);

#endif
