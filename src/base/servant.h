/* SPDX-License-Identifier: MIT */
/*
 * servant: a thread of the background. It comes round when it is kicked or when its time has come,
 * until it is stopped; a kick that comes while it works makes it come round once more.
 */
#ifndef PSAD_BASE_SERVANT_H
#define PSAD_BASE_SERVANT_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/thread.h"

struct servant {
	pthread_t thread;
	int eventfd;
	uint32_t is_stopping; /* relaxed: the kick and the join order the rest */
};

/* From here on it can be kicked. 0 or a negative errno. Thread: startup. */
static inline int servant_open(struct servant *servant)
{
	servant->is_stopping = 0;
	servant->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return servant->eventfd < 0 ? -errno : 0;
}

/* After the stop. Thread: the last one. */
static inline void servant_close(struct servant *servant)
{
	close(servant->eventfd);
}

/* 0 or a negative errno. Thread: startup. */
static inline int servant_start(struct servant *servant, void *(*run)(void *), void *context)
{
	return thread_start(&servant->thread, run, context);
}

/* Thread: any. */
static inline void servant_kick(struct servant *servant)
{
	(void)eventfd_write(servant->eventfd, 1);
}

/* Until it is kicked, at most so long. Thread: the one that it is. */
static inline void servant_sleep(struct servant *servant, int timeout_ms)
{
	struct pollfd ready = {.fd = servant->eventfd, .events = POLLIN};
	eventfd_t kicks;

	if (poll(&ready, 1, timeout_ms) > 0)
		(void)eventfd_read(servant->eventfd, &kicks);
}

/* Thread: the one that it is. */
static inline bool servant_is_stopping(const struct servant *servant)
{
	return atomic32_load_relaxed(&servant->is_stopping) != 0; /* see there */
}

/* Waits until it has come round and ended. Thread: the last one. */
static inline void servant_stop(struct servant *servant)
{
	atomic32_store_relaxed(&servant->is_stopping, 1); /* see there */
	servant_kick(servant);
	pthread_join(servant->thread, NULL);
}

#endif
