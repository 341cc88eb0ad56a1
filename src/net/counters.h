/* SPDX-License-Identifier: MIT */
/*
 * counters: what happened, counted where it happens.
 *
 * Each worker (and the acceptor) has its own and is their one writer; whoever reads sums them up
 * with relaxed loads. One line here is a counter, under its name in STATS.
 *
 * Thread: the owner counts, any reads.
 */
#ifndef PSAD_NET_COUNTERS_H
#define PSAD_NET_COUNTERS_H

#include "base/atomic.h"

#define COUNTER_TABLE(X)                                                                           \
	X(connections_total)                                                                       \
	X(rejected_total)                                                                          \
	X(cut_total)                                                                               \
	X(published_total)                                                                         \
	X(published_bytes_total)                                                                   \
	X(publish_errors_total)                                                                    \
	X(delivered_total)                                                                         \
	X(delivered_bytes_total)                                                                   \
	X(gaps_total)                                                                              \
	X(gap_messages_total)

/* What is now, not what was: these fall too. */
#define GAUGE_TABLE(X)                                                                             \
	X(connections)                                                                             \
	X(subscribers)                                                                             \
	X(lagging_subscribers)

struct counters {
#define X(name) uint64_t name;
	_Alignas(CACHE_LINE) COUNTER_TABLE(X) GAUGE_TABLE(X)
#undef X
		uint64_t
		lowest_position; /* of the lagging subscribers; UINT64_MAX when there is none */
};

#endif
