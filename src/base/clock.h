/* SPDX-License-Identifier: MIT */
/*
 * clock: what time it is, for messages and for deadlines.
 *
 * clock_wall_us() is the machine's wall clock that never goes back: the monotonic clock plus an
 * offset which clock_follow() raises when the wall clock is set forward (a machine without a
 * battery learns the date after boot) and which stays where it is when the wall clock is set back.
 * Two calls that are ordered, on whatever threads, give times in that order.
 */
#ifndef PSAD_BASE_CLOCK_H
#define PSAD_BASE_CLOCK_H

#include <stdint.h>

/* Takes the wall clock's offset; times handed out are at least `floor_us`. Thread: startup. */
void clock_open(uint64_t floor_us);
/* Takes over a wall clock that was set forward. Thread: one (the log's keeper). */
void clock_follow(void);
/* Unix time in microseconds. Thread: any. */
uint64_t clock_wall_us(void);
/* Time since some fixed moment, for deadlines and durations. Thread: any. */
uint64_t clock_mono_us(void);
uint64_t clock_mono_ms(void);

#endif
