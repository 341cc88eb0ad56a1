/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <time.h>

#include "base/atomic.h"

/*
 * [O8] clock_follow: release; clock_wall_us: acquire. Whoever is ordered behind a reader of the
 * new offset reads it too, so that times do not go back between threads.
 */
static uint64_t wall_offset_us;

static uint64_t read_us(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

uint64_t clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000U;
}

uint64_t clock_wall_us(void)
{
	return atomic64_load_acquire(&wall_offset_us) /* [O8] */ + clock_mono_us();
}

void clock_open(uint64_t floor_us)
{
	/* The monotonic clock is read first: the offset is then never too small. */
	uint64_t mono = clock_mono_us();
	uint64_t wall = read_us(CLOCK_REALTIME);
	if (wall < floor_us)
		wall = floor_us;
	atomic64_store_release(&wall_offset_us, wall - mono); /* [O8] */
}

void clock_follow(void)
{
	uint64_t mono = clock_mono_us();
	uint64_t wall = read_us(CLOCK_REALTIME);
	/* Less than a millisecond is the time between the two readings, not a new date. */
	if (wall > mono + atomic64_load_relaxed(&wall_offset_us) + 1000U) /* one writer: us */
		atomic64_store_release(&wall_offset_us, wall - mono);     /* [O8] */
}
