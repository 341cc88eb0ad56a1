/* SPDX-License-Identifier: MIT */
/*
 * beat: a thread's sign of life. The thread raises it each time that it comes round; whoever
 * watches looks whether it has been raised (ops/vigil.h). What a thread is doing when it is stuck
 * does not matter.
 *
 * One store in a line that nobody writes but the thread itself: it costs nothing that can be seen.
 */
#ifndef PSAD_BASE_BEAT_H
#define PSAD_BASE_BEAT_H

#include <stdint.h>

#include "base/atomic.h"

#define BEAT_ENDED UINT64_MAX

struct beat {
	uint64_t count; /* relaxed: it stands for itself and orders nothing */
};

/* Thread: the one that it is of. */
static inline void beat_raise(struct beat *beat)
{
	atomic64_count(&beat->count, 1);
}

/* The thread ends, and nobody is to miss it. Thread: the one that it is of. */
static inline void beat_end(struct beat *beat)
{
	atomic64_store_relaxed(&beat->count, BEAT_ENDED);
}

/* BEAT_ENDED; or a count that is another one whenever the thread has come round. Thread: any. */
static inline uint64_t beat_look(const struct beat *beat)
{
	return atomic64_load_relaxed(&beat->count);
}

#endif
