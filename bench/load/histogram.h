/* SPDX-License-Identifier: MIT */
/*
 * histogram: nanoseconds, counted in steps of less than 1 % (those of HdrHistogram: each power of
 * two is cut into STEPS equal ones). Thread: one.
 */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>
#include <time.h>

enum { HISTOGRAM_BITS = 7, HISTOGRAM_STEPS = 1 << HISTOGRAM_BITS };

struct histogram {
	uint64_t counts[(64 - HISTOGRAM_BITS) * HISTOGRAM_STEPS + HISTOGRAM_STEPS];
	uint64_t total, max;
};

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
	unsigned shift =
		ns < HISTOGRAM_STEPS ? 0 : 63U - (unsigned)__builtin_clzll(ns) - HISTOGRAM_BITS;

	/* Steps of the same shift lie behind each other: ns >> shift is STEPS to 2 * STEPS - 1. */
	histogram->counts[shift * HISTOGRAM_STEPS + (ns >> shift)]++;
	histogram->total++;
	if (ns > histogram->max)
		histogram->max = ns;
}

/* Microseconds that the given share (0 to 1) of all is not above, within a step. */
static inline double histogram_us(const struct histogram *histogram, double share)
{
	double wanted = share * (double)histogram->total;
	uint64_t seen = 0, size = sizeof histogram->counts / sizeof *histogram->counts;

	for (uint64_t i = 0; i < size; i++) {
		seen += histogram->counts[i];
		if (seen == 0 || (double)seen < wanted)
			continue;
		uint64_t shift = i < 2 * HISTOGRAM_STEPS ? 0 : i / HISTOGRAM_STEPS - 1;
		uint64_t ns = (i - shift * HISTOGRAM_STEPS) << shift;
		return (double)(ns < histogram->max ? ns : histogram->max) / 1000;
	}
	return (double)histogram->max / 1000;
}

#endif
