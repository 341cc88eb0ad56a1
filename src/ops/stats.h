/* SPDX-License-Identifier: MIT */
/*
 * stats: what INFO and STATS say, summed from the workers' counters.
 *
 * Thread: any, inside an epoch section: it only reads.
 */
#ifndef PSAD_OPS_STATS_H
#define PSAD_OPS_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "net/counters.h"
#include "net/hub.h"

/* Constant while the broker runs, but for what it points to. */
struct stats_sources {
	const struct hub *hub;
	const struct counters *const *counters; /* of each worker, and the acceptor's */
	size_t counters_count;
	size_t workers;
	uint64_t started_ms; /* monotonic */
};

/* Some of it as numbers. */
struct stats_figures {
#define X(name) uint64_t name;
	COUNTER_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	uint64_t max_lag_messages;
};

/* Fills in the figures as they are now. */
void stats_look(const struct stats_sources *sources, struct stats_figures *figures);

/* "INFO psad <version> ...". 0 or -ENOMEM. */
int stats_write_info(const struct stats_sources *sources, struct buf *out);
/* "STAT <name> <value>" lines, then "END". 0 or -ENOMEM. */
int stats_write(const struct stats_sources *sources, struct buf *out);

#endif
