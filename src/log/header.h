/* SPDX-License-Identifier: MIT */
/*
 * header: the first half page of a segment file; the filter is the other half.
 *
 * It is in parts, each with a check of its own and in a sector of its own, because each is written
 * at another time:
 *
 *     constant   when the file is made
 *     gap        when it is made, or when it becomes known what its base is or what is missing
 *                before
 *     seal       by the syncer, when all the rest is on disk for good
 *     synced     by the syncer, behind each sync; two places in turn, so that one is always whole
 *     failed     by the syncer, when a sync has failed
 *
 * Thread: one at a time for each file.
 */
#ifndef PSAD_LOG_HEADER_H
#define PSAD_LOG_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/segment.h"

enum { STORE_VERSION = 1 };

#define STORE_BYTE_ORDER 0x0102030405060708ULL

/* Each `check` is the hash of the part before it, keyed with the log's key (of the constant part:
 * with 0, since the key stands in it). */
struct header_constant {
	char magic[8];       /* "psad seg" */
	uint64_t byte_order; /* STORE_BYTE_ORDER */
	uint32_t version;    /* STORE_VERSION */
	uint32_t max_entries;
	uint64_t number;   /* as in the name */
	uint64_t size;     /* of the file */
	uint64_t key;      /* of the log that it belongs to */
	uint64_t secret;   /* of the commit words */
	uint64_t id_bound; /* no id in here, or in any file before, is above this */
	uint64_t check;
};

struct header_gap {
	uint64_t base; /* the first id; 0: the one behind the segment before */
	uint64_t loss; /* enum loss: of the ids between the segment before and base */
	uint64_t check;
};

/* All zero until it is sealed. */
struct header_seal {
	uint64_t base;
	uint32_t entries, bytes;
	uint64_t first_time_us, last_time_us;
	uint64_t filter_hash; /* hash64 of the filter, keyed with the log's key */
	uint64_t check;
};

struct header_synced {
	uint64_t id; /* all ids of this segment up to here were on disk; below its base: none */
	uint64_t check;
};

struct segment_header {
	_Alignas(512) struct header_constant constant;
	_Alignas(512) struct header_gap gap;
	_Alignas(512) struct header_seal seal;
	_Alignas(512) struct header_synced synced[2];
	uint64_t failed; /* not 0: a sync of this file has failed */
};
_Static_assert(sizeof(struct segment_header) == FILTER_OFFSET, "the filter is the upper half");

/* The most entries that a segment of `size` bytes which may have `max_entries` can come to hold. */
uint32_t header_capacity(size_t size, uint32_t max_entries);

extern const char header_magic[8];

/* Fills in what is the same in all files (magic, byte order, version), and the check: the other
 * fields are set already. */
void header_set_constant(struct header_constant *part);

/* Whether the parts are as they were written; `key`: the log's. */
bool header_constant_is_good(const struct header_constant *part);
bool header_gap_is_good(const struct header_gap *part, uint64_t key);
bool header_seal_is_good(const struct header_seal *part, uint64_t key);
/* *id: the newest that one of the two places vouches for. False: neither is whole. */
bool header_synced(const struct segment_header *header, uint64_t *id);

/* These write into a header, of a file mostly through its mapping, whose constant part is set; they
 * sync nothing. */
void header_set_gap(struct segment_header *header, uint64_t base, enum loss loss);
void header_set_synced(struct segment_header *header, uint64_t id);
/* Filter and seal, from the segment's summary and state. */
void header_set_seal(struct segment_header *header, const struct segment *segment);

/* Whether the filter that was read with a header (its seal is good) is the one that was sealed. */
bool header_filter_is_good(const struct segment_header *header, const void *filter);

#endif
