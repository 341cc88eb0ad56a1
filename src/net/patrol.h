/* SPDX-License-Identifier: MIT */
/*
 * patrol: finds peers that have died while something was on its way to them.
 *
 * TCP's keepalive asks only where nothing is on its way; else the kernel repeats that for a quarter
 * of an hour before it gives the peer up. (TCP_USER_TIMEOUT is no way out: since Linux 5.11 it also
 * ends the connection to a peer that is well and has just no room.) So each worker looks after its
 * connections, a few at a time and each twice in limits.keepalive: a peer that has acknowledged
 * nothing for twice that time, though it was asked again and again, is dead.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_PATROL_H
#define PSAD_NET_PATROL_H

#include "net/worker.h"

/* Makes worker->patrol_event. 0 or -ENOMEM. Thread: startup. */
int patrol_make(struct worker *worker);

/* There is a connection: looks after all of them until there is none. */
void patrol_begin(struct worker *worker);

#endif
