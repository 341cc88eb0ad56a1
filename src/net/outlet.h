/* SPDX-License-Identifier: MIT */
/*
 * outlet: what leaves a connection: the one door for socket output, what has to go before the next
 * message, and the fan-out's upcalls.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_OUTLET_H
#define PSAD_NET_OUTLET_H

#include "net/fanout.h"

struct conn;

enum flush_verdict {
	FLUSH_DONE,
	FLUSH_BLOCKED, /* the connection waits for its socket */
	FLUSH_COLD,    /* it waits for the rest of a message to be in memory again */
	FLUSH_LOST,    /* the peer is gone, or there is no memory */
	FLUSH_CUT,     /* a message was begun whose rest can't be had any more */
};

/* Sends what has to go before the next message, and the answers that may go. */
enum flush_verdict outlet_flush(struct conn *conn);

extern const struct fanout_calls outlet_fanout_calls;

#endif
