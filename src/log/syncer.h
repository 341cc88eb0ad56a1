/* SPDX-License-Identifier: MIT */
/*
 * syncer: the thread that brings a durable log to the disk.
 *
 * It takes the committed prefix, syncs the files that hold what is new of it, and raises
 * log.synced: all that was committed during one sync shares the next. How often is enum log_sync's
 * to say. A segment that is sealed, committed and summed up is synced in every mode, then its
 * header is sealed and synced too, and its file closed: "stored".
 *
 * The first sync that fails ends appending for good: after it nobody knows what is on the disk, and
 * a second one would only say that there is nothing left to write. The file is marked, so that the
 * next start copies it. The same ends a log whose file somebody has removed or cut: what was
 * acknowledged would be gone with us.
 */
#ifndef PSAD_LOG_SYNCER_H
#define PSAD_LOG_SYNCER_H

#include "log/log.h"

struct syncer;

/* NULL: no memory. The log's store, sync and synced are set. Thread: startup. */
struct syncer *syncer_new(struct log *log, uint64_t interval_us);
/* Starts the thread, when the log has its segments. 0 or a negative errno. Thread: startup. */
int syncer_start(struct syncer *syncer);
/* Ends the thread. Thread: the last one. */
void syncer_stop(struct syncer *syncer);
/* Syncs all that is committed. False: the log has failed. Thread: the last one, after the stop. */
bool syncer_finish(struct syncer *syncer);
void syncer_free(struct syncer *syncer);

/* Something was committed: costs a look when the thread is awake. Thread: any. */
void syncer_announce(struct syncer *syncer);
/* There may be a segment to seal. Thread: any. */
void syncer_kick(struct syncer *syncer);

/* In force at once, also for what waits now. Thread: any. */
void syncer_set_interval(struct syncer *syncer, uint64_t interval_us);
/* Raised each time that the thread comes round. Thread: any. */
const struct beat *syncer_beat(const struct syncer *syncer);
/* Makes it come round, and sync nothing before its time. Thread: any. */
void syncer_stir(struct syncer *syncer);

#endif
