/* SPDX-License-Identifier: MIT */
/*
 * store: the directory of a durable log and the files in it.
 *
 *     lock                  held (fcntl, by the process) for as long as the log is open
 *     log                   what is true of the whole log: a small text, always replaced as a whole
 *     <20 digits>.seg       a segment each; numbers are dense, and only the front is removed
 *     *.tmp                 half made: removed at the start
 *     *.seg.damaged         what a repair put aside: never looked at
 *
 * Other files are none of our business. A segment file has exactly its segment's size, all of it
 * allocated, and the layout of segment.h: in the first page the header below and the filter, then
 * frames, then the index. What is in the header is in parts, each with a check of its own and in a
 * sector of its own, because each is written at another time:
 *
 *     constant   when the file is made
 *     gap        when it is made, or when a recovery finds out what is missing before it
 *     seal       by the syncer, when all the rest is on disk for good
 *     synced     by the syncer, behind each sync; two places in turn, so that one is always whole
 *     failed     by the syncer, when a sync has failed
 *
 * A file is made under another name, allocated, given its header, synced, renamed, and the directory
 * synced: a name that ends in .seg always stands for a whole file. Nothing is ever truncated or used
 * for another life, and a file's room is there before anything is appended to it, so that
 * appending meets a full disk here and nowhere else.
 *
 * Functions return 0 or a negative errno; those with an `error` write a whole sentence there, which
 * names the file, and return -1.
 */
#ifndef PSAD_LOG_STORE_H
#define PSAD_LOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/segment.h"

enum { STORE_VERSION = 1, STORE_BOOT_MAX = 64, STORE_NAME_MAX = 32 };

#define STORE_BYTE_ORDER 0x0102030405060708ULL

/* ---- a segment file's header ---- */

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
	uint64_t id; /* all ids of this segment up to here were on disk; base - 1 or 0: none */
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

/* The most entries that a segment of this size can hold, whatever they are. */
uint32_t store_capacity(size_t size, uint32_t max_entries);

/* Whether the parts are whole; `key`: the log's. */
bool header_constant_is_good(const struct header_constant *part);
bool header_gap_is_good(const struct header_gap *part, uint64_t key);
bool header_seal_is_good(const struct header_seal *part, uint64_t key);
/* The newest id that one of the two places vouches for; false: neither is whole. */
bool header_synced(const struct segment_header *header, uint64_t *id);

/* These write into a file through its mapping; they sync nothing. */
void header_set_gap(struct segment_header *header, uint64_t base, enum loss loss);
void header_set_synced(struct segment_header *header, uint64_t id);
/* Filter and seal, from the segment's summary and state. */
void header_set_seal(struct segment_header *header, const struct segment *segment);

/* ---- the directory ---- */

struct store;

/*
 * Locks the directory, made where it is missing, and removes what is half made. NULL: `error` says
 * why. Thread: startup.
 */
struct store *store_open(const char *dir, char *error, size_t error_size);
/* Unlocks. Thread: the last one. */
void store_close(struct store *store);

const char *store_dir(const struct store *store);
/* The machine's boot, as it is now; the same text as long as it runs. */
const char *store_boot(const struct store *store);
/* It is a tmpfs: what is here has never outlived a boot. */
bool store_is_in_memory(const struct store *store);

/* The file `log`. */
struct store_log {
	uint32_t identity;         /* of positions: what clients see */
	uint64_t key;              /* of all hashes and checksums; every segment file names it */
	char boot[STORE_BOOT_MAX]; /* of the run that last opened it to append */
	bool is_clean;             /* that run has ended in good order ... */
	uint64_t head;             /* ... and this was the newest id then */
};

/* 0; -ENOENT when there is none (error is not set then); -1. Thread: startup. */
int store_read_log(struct store *store, struct store_log *log, char *error, size_t error_size);
/* Replaces it, synced. Thread: startup, or the last one. */
int store_write_log(struct store *store, const struct store_log *log);
/* Takes over the key that the rest goes by. Thread: startup. */
void store_set_key(struct store *store, uint64_t key);

/* The numbers of the segment files in order; the caller frees *numbers. Thread: startup. */
int store_list(struct store *store, uint64_t **numbers, size_t *count);

/* "<20 digits>.seg" */
void store_name(uint64_t number, char name[STORE_NAME_MAX]);

/* What a new file is to be. */
struct store_plan {
	uint64_t number;
	size_t size;
	uint32_t max_entries;
	uint64_t
		before; /* the newest id that anything before may have: the bound follows from it */
	uint64_t base;  /* 0: by chain */
	enum loss loss;
};

/*
 * Makes a file, replacing one of the same name, and its segment: mapped, populated, published, with
 * neither base nor follower. NULL: *error is a negative errno and nothing is left of it.
 * Thread: the keeper.
 */
struct segment *store_make_segment(struct store *store, const struct store_plan *plan, int *error);

/*
 * Opens a file of a former run. What it returns has a header to look at (`header`, copied) and
 * nothing mapped: state, base and summary are the caller's to set. NULL: `error`.
 * Thread: startup.
 */
struct segment *store_open_segment(struct store *store, uint64_t number,
                                   struct segment_header *header, char *error, size_t error_size);

/*
 * Maps a stored segment's file for reading: *map, watched for faults (fault.h). Nothing is published:
 * segment_verify() comes first. -ENOMEM and the like: try again later. -EBADMSG: the file is not the
 * one it was, or short; -ENOENT: it is gone (see segment_is_retired()).
 * Thread: the warmer, or startup.
 */
int store_map_segment(struct store *store, struct segment *segment, char **map);
/* Maps it for writing, for good, and keeps the descriptor. Thread: startup. */
int store_map_to_append(struct store *store, struct segment *segment, char **map);
/* Undoes either. Thread: who knows that nobody looks at it any more. */
void store_unmap(struct segment *segment, char *map);

/* Whether the name still stands for the file that we have open: else all of it is lost with us. */
bool store_has_file(struct store *store, const struct segment *segment);

/* Removes a segment's file; the directory is synced. Thread: the keeper, or startup. */
int store_unlink(struct store *store, uint64_t number);

/* Frees a segment of a store: mapping, descriptor, filter, gaps. Thread: as store_unmap(). */
void store_free_segment(struct segment *segment);

#endif
