/* SPDX-License-Identifier: MIT */
/*
 * chance: numbers for random tests, the same again from the same seed. Each program has its own.
 */
#ifndef PSAD_TESTS_CHANCE_H
#define PSAD_TESTS_CHANCE_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static uint64_t seed = 1; /* never 0 */

/* From the clock, and says which; PSAD_TEST_SEED repeats a run. */
static inline void draw_seed(void)
{
	const char *given = getenv("PSAD_TEST_SEED");

	seed = given != NULL ? strtoull(given, NULL, 0) : clock_wall_us() * 2654435761U;
	if (seed == 0)
		seed = 1; /* xorshift stays at 0 */
	printf("PSAD_TEST_SEED=%" PRIu64 "\n", seed);
}

static inline uint64_t next_random(void)
{
	/* xorshift64* */
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * UINT64_C(0x2545F4914F6CDD1D);
}

/* 0 .. n - 1; n > 0 */
static inline unsigned random_below(unsigned n)
{
	return (unsigned)((next_random() >> 32) % n);
}

#endif
