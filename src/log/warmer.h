/* SPDX-License-Identifier: MIT */
/*
 * warmer: the thread that brings segments of a durable log back into memory, and lets them go.
 *
 *               somebody wants it         mapped, read, verified
 *      cold ------------------> wanted ---------------------------> warm --+
 *       ^ ^                        |                                 ^  ^   | not used for longest,
 *       | |  a grace period later  | its file is gone,               |  |   | and too many are
 *       | +-------- fading <-------|-- cut or can't be read ---------|--|---+ mapped
 *       |                          v                                 |
 *    a former run's             damaged                 stored: this run has written it
 *
 * Whoever reads never waits for a disk: it is told that a segment is cold, asks for it, and does
 * something else until log_warmed() has changed and the log's `wake` has been rung. Nothing is
 * shown that has not been verified: what is damaged becomes gaps. A file that is gone, cut short or
 * can't be read makes the whole segment one gap, and is said once. Want of memory is no damage: it
 * is tried again.
 *
 * At most WARMER_MAPPED_MAX stored segments are mapped at a time, those that this run has written
 * included; a mapping goes when nobody can be looking at it any more. One that was warmed and not
 * looked at stays for a moment, so that many readers at many places all get on. What retention
 * takes is let go at once, in the middle of the work on it.
 */
#ifndef PSAD_LOG_WARMER_H
#define PSAD_LOG_WARMER_H

#include <stddef.h>

enum { WARMER_MAPPED_MAX = 64 };

struct log;
struct segment;
struct warmer;

/* `mapped_max`: see struct log_options. NULL: no memory, or no descriptor. Thread: startup. */
struct warmer *warmer_new(struct log *log, size_t mapped_max);
/* Starts the thread, when the log has its segments. 0 or a negative errno. Thread: startup. */
int warmer_start(struct warmer *warmer);
/* Ends the thread, in the middle of a segment where it is in one. Thread: the last one. */
void warmer_stop(struct warmer *warmer);
/* Unmaps what is to go, when nobody reads any more; before keeper_free(). Thread: the last one. */
void warmer_release(struct warmer *warmer);
/* Behind keeper_free(), which still goes by our part in the epoch. Thread: the last one. */
void warmer_free(struct warmer *warmer);

/* Asks for a segment that was found to be cold. Costs a load when somebody has asked before.
 * Thread: any, inside the section in which it was found. */
void warmer_want(struct warmer *warmer, struct segment *segment);
/* A segment has been stored, or was found to be damaged. Thread: any. */
void warmer_kick(struct warmer *warmer);

#endif
