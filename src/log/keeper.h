/* SPDX-License-Identifier: MIT */
/*
 * keeper: the log's maintenance thread. It alone makes, links, retires and releases segments, ahead
 * of need and off everybody's path.
 *
 * A segment's life:
 *
 *      new or free --> spare (linked behind the tail) --> tail --> sealed --> retired --> free
 *                      ^ segment_reset                    ^ log_roll   ^ out of the directory
 *                                                                      |   grace period
 *
 * Of a durable log a spare is a file that it makes, and a retired one's file is removed, the oldest
 * first and one after the other, so that what is left is always one piece.
 *
 * Retired segments in their grace period count against the memory bound like all others:
 * retain_bytes and two segments. At the bound appends wait (LOG_NO_SEGMENT) until one is free.
 */
#ifndef PSAD_LOG_KEEPER_H
#define PSAD_LOG_KEEPER_H

#include <stddef.h>
#include <stdint.h>

struct beat;
struct keeper;
struct log;
struct log_options;
struct recovery;

/*
 * Builds the log's first directory (a tail with base 1 where `found` is NULL; else what was
 * recovered, whose segments it takes over), sets log->keeper, which its own thread reads, and
 * starts that. 0; -1: no memory or no thread. Thread: startup.
 */
int keeper_start(struct log *log, const struct log_options *options, struct recovery *found);
/* Stops the thread. Thread: the last one. */
void keeper_stop(struct keeper *keeper);
/* Releases all segments, after the stop. Thread: the last one. */
void keeper_free(struct keeper *keeper);

/* The most entries that a segment may take where so many messages are to be kept (0: no limit): an
 * eighth, so that dropping one drops little. */
uint32_t keeper_max_entries(uint64_t retain_messages);

/* There is work: the tail has moved on, or somebody waits for a segment. Thread: any. */
void keeper_kick(struct keeper *keeper);

/* Raised with each pass: one a second or more, and one for each kick. Thread: any. */
const struct beat *keeper_beat(const struct keeper *keeper);

/* Takes over the limits of retention, in force from its next pass, which is at once; other options
 * are not looked at. Thread: one (main). */
void keeper_set_retention(struct keeper *keeper, const struct log_options *options);

#endif
