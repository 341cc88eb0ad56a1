/* SPDX-License-Identifier: MIT */
/*
 * runs: what of a block goes to a follower, as iovecs. Neighbouring messages are neighbouring
 * bytes, so that each run of them is one.
 *
 * Thread: the owner worker, inside the section in which the block was found.
 */
#ifndef PSAD_NET_RUNS_H
#define PSAD_NET_RUNS_H

#include <sys/uio.h>

#include "net/interest.h"

/* What is asked for: of the entries from..to - 1 of a block those whose bit is set. */
struct selection {
	const struct block *block;
	const struct bits *bits;
	uint32_t from, to;
	bool is_bare; /* the payloads alone */
};

struct run_list {
	uint32_t end;      /* the selection up to here; `to` but for the limits */
	uint32_t messages; /* in it */
	size_t bytes;
	int count;
	struct iovec iov[BLOCK_ENTRIES];
	/* What is written instead of many small pieces; borders are found in the log all the
	 * same. */
	char gathered[QUESTION_BYTES + (64 << 10)];
};

/* Ends behind the message with which there are `max_bytes` (roughly) or `max_messages`. */
void run_list_build(struct run_list *list, const struct selection *selection, size_t max_bytes,
                    uint64_t max_messages);

/* Where a write ended. */
struct border {
	uint32_t messages; /* wholly sent */
	uint32_t entry;    /* the first that was not, or `to` */
	uint32_t sent;     /* bytes of that one, of those that its format sends */
	struct iovec rest; /* what was not sent of it, where sent > 0 */
};

/* `size` bytes of the list went. */
struct border run_list_border(const struct run_list *list, const struct selection *selection,
                              size_t size);

#endif
