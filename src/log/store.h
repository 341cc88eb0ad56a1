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
 * allocated, and the layout of segment.h, with the header of header.h.
 *
 * A file is made under another name, allocated, given its header, synced, renamed, and the
 * directory synced: a name that ends in .seg always stands for a whole file. Nothing is ever
 * truncated or used for another life, and a file's room is there before anything is appended to it,
 * so that appending meets a full disk here and nowhere else.
 *
 * Functions return 0 or a negative errno; those with an `error` write a whole sentence there, which
 * names the file, and return -1.
 */
#ifndef PSAD_LOG_STORE_H
#define PSAD_LOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/charter.h"
#include "log/header.h"
#include "log/segment.h"

enum { STORE_NAME_MAX = 32 };

/* ---- the directory ---- */

struct store;

/*
 * Locks the directory, made where it is missing, and removes what is half made. NULL: `error` says
 * why. Thread: startup.
 */
struct store *store_open(const char *dir, char *error, size_t error_size);
/*
 * A look into a directory that is there, without its lock: for reading alone, whoever has it
 * meanwhile. Nothing is made or removed. NULL: `error` says why. Thread: any.
 */
struct store *store_look(const char *dir, char *error, size_t error_size);
/* The process that has the lock, when it is another one; 0: none; -1: one whose number is not to be
 * had. Thread: any. */
long store_owner(const struct store *store);
/* Unlocks. Thread: the last one. */
void store_close(struct store *store);

/* Its path, as it was given. Thread: any, like the next three. */
const char *store_dir(const struct store *store);
/* Its descriptor, the store's own: for those who do to its files what is not done here. */
int store_fd(const struct store *store);
/* The machine's boot, as it is now; the same text as long as it runs. */
const char *store_boot(const struct store *store);
/* It is a tmpfs: what is here has never outlived a boot. */
bool store_is_in_memory(const struct store *store);

/*
 * Whether the pages of new files are made ready to be written, so that appending never faults. Each
 * sync makes them read-only again, and the first one writes them all out, zeros as they are: so not
 * where syncs are frequent. Thread: startup.
 */
void store_set_populate(struct store *store, bool writes);

/* The file `log`. 0; -ENOENT when there is none (error is not set then); -1. Thread: startup. */
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
	uint64_t before; /* the newest id that anything before may have: the bound goes by it */
	uint64_t base;   /* 0: where what comes before it in the chain ends */
	enum loss loss;
};

/*
 * Makes a file, replacing one of the same name, and its segment: mapped, populated, published, with
 * neither base nor follower. NULL: *error is a negative errno and nothing is left of it.
 * Thread: the keeper, or startup.
 */
struct segment *store_make_segment(struct store *store, const struct store_plan *plan, int *error);

/*
 * Opens a file of a former run. What it returns has a header to look at (`header`, copied) and
 * nothing mapped: state, base and summary are the caller's to set. NULL: `error`.
 * Thread: startup.
 */
struct segment *store_open_segment(struct store *store, uint64_t number,
                                   struct segment_header *header, char *error, size_t error_size);

/* A segment of a file with this header: nothing opened, mapped or set that is not in there. NULL:
 * no memory. Thread: startup. */
struct segment *store_segment_of(const struct store *store, const struct header_constant *constant);

/*
 * Maps a stored segment's file for reading: *map, watched for faults (fault.h). Nothing is
 * published: segment_verify() comes first. -ENOMEM and the like: try again later. -EBADMSG: the
 * file is not the one it was, or short; -ENOENT: it is gone (see segment_is_retired()).
 * Thread: the warmer, or startup.
 */
int store_map_segment(struct store *store, struct segment *segment, char **map);
/* Maps it for writing, for good, and keeps the descriptor. Thread: startup. */
int store_map_to_append(struct store *store, struct segment *segment, char **map);
/* Undoes store_map_segment(). Thread: who knows that nobody looks at it any more. */
void store_unmap(const struct segment *segment, char *map);
/* Closes the descriptor, when the last sync is done. Thread: the syncer, or startup. */
void store_close_file(struct segment *segment);

/* Whether the name still stands for the file that we have open: else all of it is lost with us. */
bool store_has_file(struct store *store, const struct segment *segment);

/* Syncs a segment's file, whoever else has it open. Thread: the keeper. */
int store_sync_segment(struct store *store, uint64_t number);

/* Removes a segment's file; the directory is synced. Thread: the keeper, or startup. */
int store_unlink(struct store *store, uint64_t number);

#endif
