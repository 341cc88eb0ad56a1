/* SPDX-License-Identifier: MIT */
/*
 * hub: what the workers of one broker share: the log, the limits, a few counts, the phase.
 *
 * Made and filled by the server before the first worker starts. Shared words are atomics; none of
 * them is touched by a delivery.
 */
#ifndef PSAD_NET_HUB_H
#define PSAD_NET_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "log/log.h"
#include "log/wake.h"
#include "net/peers.h"

/* Set by the server, also while the workers run; each stands for itself, so relaxed loads do. */
struct limits {
	uint64_t max_payload;  /* bytes */
	uint64_t max_patterns; /* of one connection */
	uint64_t input_memory; /* bytes, over all connections, beyond 4 KiB each */
	uint64_t put_timeout_ms;
	uint64_t idle_timeout_ms; /* 0: never */
	uint64_t keepalive_ms;    /* silence after which a peer is asked whether it is there */
	uint64_t version;         /* grows with each change */
	/*
	 * Bytes that a worker reads from publishers until its followers have had their round:
	 * batches grow to this under load, and nobody publishes faster than followers can be
	 * written to.
	 */
	uint64_t round_bytes;
};

static inline uint64_t limit_get(const uint64_t *limit)
{
	return atomic64_load_relaxed(limit); /* stands for itself */
}

/* The life of the broker; it only goes on. */
enum phase {
	PHASE_RUNNING,
	PHASE_STOPPING, /* what has been received is executed, later publishes are refused */
	PHASE_DRAINING, /* everybody gets what is owed up to drain_head, then BYE */
	PHASE_ENDING,   /* whoever is left is cut */
};

struct hub {
	struct log *log;
	struct wake *wake;
	struct limits limits;
	struct peers *peers;

	/* Text for INFO and STATS: complete lines, without the END. They append to `out`; negative
	 * when there was no memory. Thread: any worker, inside a section. */
	int (*write_info)(void *context, struct buf *out);
	int (*write_stats)(void *context, struct buf *out);
	void *context;

	/* Tells the server that a worker has come to the end of a phase. Thread: any worker. */
	void (*report)(void *context);

	/* [O10] server: release, drain_head before it; workers: acquire, at every turn. */
	_Alignas(CACHE_LINE) uint32_t phase;
	uint64_t drain_head; /* from PHASE_DRAINING on: the last id that anybody is owed */

	/* Relaxed: sums that order nothing, each change an atomic add. */
	_Alignas(CACHE_LINE) uint64_t input_memory;
	uint64_t connections;      /* sockets that are open or handed over */
	uint64_t refused;          /* the same of those that were refused */
	uint32_t stopped_workers;  /* of PHASE_STOPPING */
	uint32_t finished_workers; /* threads that have ended */
};

static inline enum phase hub_phase(const struct hub *hub)
{
	return (enum phase)atomic32_load_acquire(&hub->phase); /* [O10] */
}

#endif
