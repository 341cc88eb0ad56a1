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
 * Retired segments in their grace period count against the memory bound like all others:
 * retain_bytes and two segments. At the bound appends wait (LOG_NO_SEGMENT) until one is free.
 */
#ifndef PSAD_LOG_KEEPER_H
#define PSAD_LOG_KEEPER_H

#include <stddef.h>
#include <stdint.h>

struct keeper;
struct log;
struct log_options;

/*
 * Builds the log's first directory (a tail with base 1 and a spare) and starts the thread. NULL: no
 * memory or no thread. Thread: startup.
 */
struct keeper *keeper_start(struct log *log, const struct log_options *options);
/* Stops the thread and releases all segments. Thread: the last one. */
void keeper_stop(struct keeper *keeper);

/* There is work: the tail has moved on, or somebody waits for a segment. Thread: any. */
void keeper_kick(struct keeper *keeper);

void keeper_set_retention(struct keeper *keeper, const struct log_options *options);

#endif
