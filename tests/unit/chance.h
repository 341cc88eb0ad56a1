/* SPDX-License-Identifier: MIT */
/*
 * chance: numbers for random tests, the same again from the same seed. Each program has its own.
 */
#ifndef PSAD_TESTS_CHANCE_H
#define PSAD_TESTS_CHANCE_H

#include <stdint.h>

/* Never 0. A test that draws from the clock prints it; PSAD_TEST_SEED repeats a run. */
static uint64_t seed = 1;

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
