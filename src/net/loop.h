/* SPDX-License-Identifier: MIT */
/*
 * loop: the event loops of the threads that have one, and what libevent has to say.
 */
#ifndef PSAD_NET_LOOP_H
#define PSAD_NET_LOOP_H

#include <stdbool.h>

#include <event2/event.h>

/*
 * From now on libevent speaks through diag, and where it can't go on the process ends with the
 * status of a failed start. Thread: startup.
 */
void loop_begin(void);

/*
 * A loop on epoll, or NULL and errno: libevent falls back to poll(2) where epoll can't be had for
 * want of memory or descriptors, and there an eventfd that is never read (see wake.h) is ready for
 * ever. `is_private`: no thread but one ever touches it. Thread: startup.
 */
struct event_base *loop_new(bool is_private);

#endif
