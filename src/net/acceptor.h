/* SPDX-License-Identifier: MIT */
/*
 * acceptor: takes new connections from the listening sockets, and gives each to a worker.
 *
 * Lives on the main thread's event base. A new socket goes to the worker with the fewest
 * connections. Where there may be no more, the peer is told `ERR too-many ...`: a worker sends that
 * and waits for the peer's end, so that it arrives; in a flood of them it is sent here, and not
 * waited for; when descriptors are used up one kept in reserve is spent on it and accepting pauses,
 * so that nothing spins.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_NET_ACCEPTOR_H
#define PSAD_NET_ACCEPTOR_H

#include <stddef.h>
#include <stdint.h>

#include "net/listener.h"
#include "net/worker.h"

struct event_base;
struct acceptor;

struct acceptor_options {
	uint64_t max_connections;        /* at least 1 */
	uint64_t max_connections_per_ip; /* 0: no limit */
	uint64_t send_buffer;            /* bytes; 0: the system's choice */
	uint64_t keepalive_ms;
};

/* NULL: no memory or descriptors. The workers are the caller's. */
struct acceptor *acceptor_new(struct event_base *base, struct hub *hub, struct worker **workers,
                              size_t worker_count, const struct acceptor_options *options);
/* For the connections from now on; those that are open stay, also where they are too many then. */
void acceptor_set_options(struct acceptor *acceptor, const struct acceptor_options *options);

/*
 * Accepts from the listener from now on, and takes it over: it lives until it is removed. NULL: no
 * memory, or too many of them; then it is the caller's still.
 */
struct listener *acceptor_add(struct acceptor *acceptor, const struct listener *listener);
/* Closes one of them; the connections that came by it live on. */
void acceptor_remove(struct acceptor *acceptor, struct listener *listener);
/* The nth of them, in no order that would mean anything; NULL behind the last. */
struct listener *acceptor_listener(const struct acceptor *acceptor, size_t nth);

/* Accepts nothing more, and closes the listening sockets. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_free(struct acceptor *acceptor);

/* What only the acceptor counts. */
const struct counters *acceptor_counters(const struct acceptor *acceptor);

#endif
