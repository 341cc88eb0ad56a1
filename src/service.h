/* SPDX-License-Identifier: MIT */
/*
 * service: what the service manager (systemd) is told of the broker's life, and when. How it is
 * told is ops/manager.h's.
 *
 *     opening the log --> recovering --> READY --> a line now and then, the watchdog's feed
 *                                          ^
 *                          RELOADING ------+            STOPPING: draining --> closing the log
 *
 * The watchdog is fed only while this thread's loop, every worker, the keeper and the syncer come
 * round. Where nobody listens, none of this costs anything.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_SERVICE_H
#define PSAD_SERVICE_H

#include "ops/stats.h"
#include "ops/vigil.h"

struct event_base;
struct service;

struct service_options {
	struct event_base *base;
	/* Constant; read at each line. The hub's log is looked at inside sections of `epoch`. */
	const struct stats_sources *stats;
	struct epoch_thread *epoch;
	/* Threads that are to move, the vigil's owner being us from now on; and what makes those
	 * come round that sleep. */
	struct vigil *vigil;
	void (*stir)(void *context);
	void *context;
};

/* Before there is anything else: the log is being opened. */
void service_opening(void);
/* An upcall for log_options.progress. */
void service_recovering(void *context, uint64_t done, uint64_t total);

/* Everything serves: says so, and begins to watch. NULL: no memory; the vigil is freed then too. */
struct service *service_new(const struct service_options *options);
void service_free(struct service *service);

void service_reloading(void);
/* In force, or refused: the broker serves as before. */
void service_reloaded(struct service *service);
/* Connections are given what they are owed. */
void service_stopping(struct service *service);
/* All connections have gone, or never came: what is left is to close the log. */
void service_closing(void);

#endif
