/* SPDX-License-Identifier: MIT */
/*
 * handoff: sockets on their way from the acceptor to a worker. The only door to ck_ring.
 *
 * A ring of about a thousand with one producer and one consumer; the producer then writes the
 * worker's eventfd (worker_give() does both).
 */
#ifndef PSAD_NET_HANDOFF_H
#define PSAD_NET_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>

#include "net/peers.h"

enum { REFUSAL_MAX = 120 };

struct handoff_item {
	int fd;
	bool is_unix;
	struct peer_key peer;      /* counted already where `refusal` is empty */
	char refusal[REFUSAL_MAX]; /* not empty: send this line, then close */
};

struct handoff;

/* NULL: no memory. Thread: startup. */
struct handoff *handoff_new(void);
void handoff_free(struct handoff *handoff);
/* False: full. Thread: the acceptor. */
bool handoff_put(struct handoff *handoff, const struct handoff_item *item);
/* False: empty. Thread: the worker. */
bool handoff_take(struct handoff *handoff, struct handoff_item *item);
/* Items on their way. Thread: the acceptor or the worker. */
size_t handoff_size(const struct handoff *handoff);

#endif
