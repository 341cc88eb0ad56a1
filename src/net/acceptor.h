/* SPDX-License-Identifier: MIT */
/*
 * acceptor: the listening sockets, and who gets a new connection.
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
#include <sys/socket.h>

#include "net/worker.h"

struct event_base;
struct acceptor;

struct acceptor_options {
	int backlog;
	uint64_t max_connections;        /* at least 1 */
	uint64_t max_connections_per_ip; /* 0: no limit */
	uint64_t send_buffer;            /* bytes; 0: the system's choice */
	uint64_t keepalive_ms;
};

/* NULL: no memory or descriptors. The workers are the caller's. */
struct acceptor *acceptor_new(struct event_base *base, struct hub *hub, struct worker **workers,
                              size_t worker_count, const struct acceptor_options *options);
void acceptor_set_options(struct acceptor *acceptor, const struct acceptor_options *options);

/*
 * Opens a listening socket and says so ("listening on 127.0.0.1:9853"). 0 or a negative errno.
 */
int acceptor_listen_tcp(struct acceptor *acceptor, const struct sockaddr *address,
                        socklen_t length);
/* A path left over by a dead process is replaced; one that somebody listens on is -EADDRINUSE. */
int acceptor_listen_unix(struct acceptor *acceptor, const char *path, unsigned mode);

/* Closes the listening sockets. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_free(struct acceptor *acceptor);

/* What only the acceptor counts. */
const struct counters *acceptor_counters(const struct acceptor *acceptor);

#endif
