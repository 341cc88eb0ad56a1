/* SPDX-License-Identifier: MIT */
/*
 * background: a thread in the background. It comes round when it is kicked or when its time has
 * come, until it is stopped; a kick that comes while it works makes it come round once more.
 */
#ifndef PSAD_BASE_BACKGROUND_H
#define PSAD_BASE_BACKGROUND_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/thread.h"

struct background {
	pthread_t thread;
	int eventfd;
	uint32_t is_stopping;
};

/* From here on it can be kicked. 0 or a negative errno. Thread: startup. */
static inline int background_open(struct background *background)
{
	background->is_stopping = 0;
	background->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return background->eventfd < 0 ? -errno : 0;
}

/* After the stop. Thread: the last one. */
static inline void background_close(struct background *background)
{
	close(background->eventfd);
}

/* 0 or a negative errno. Thread: startup. */
static inline int background_start(struct background *background, void *(*run)(void *),
                                   void *context)
{
	return thread_start(&background->thread, run, context);
}

/* Thread: any. */
static inline void background_kick(struct background *background)
{
	(void)eventfd_write(background->eventfd, 1);
}

/* Until it is kicked, at most so long. Thread: the one that it is. */
static inline void background_sleep(struct background *background, int timeout_ms)
{
	struct pollfd ready = {.fd = background->eventfd, .events = POLLIN};
	eventfd_t kicks;

	if (poll(&ready, 1, timeout_ms) > 0)
		(void)eventfd_read(background->eventfd, &kicks);
}

/* Thread: the one that it is. */
static inline bool background_is_stopping(const struct background *background)
{
	return atomic32_load_relaxed(&background->is_stopping) != 0; /* the join orders the rest */
}

/* Waits until it has come round and ended. Thread: the last one. */
static inline void background_stop(struct background *background)
{
	atomic32_store_relaxed(&background->is_stopping,
	                       1); /* the kick and the join order the rest */
	background_kick(background);
	pthread_join(background->thread, NULL);
}

#endif
