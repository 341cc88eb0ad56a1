/* SPDX-License-Identifier: MIT */
/*
 * histogram: how long things took. Sixteen buckets for each power of two, so that a quantile is
 * right within a sixteenth; the largest value is exact. Plain fields: one thread at a time.
 */
#ifndef PSAD_BENCH_LOG_HISTOGRAM_H
#define PSAD_BENCH_LOG_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 16, HISTOGRAM_BUCKETS = 61 * HISTOGRAM_STEPS };

struct histogram {
	uint64_t count, largest;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value)
{
	if (value < HISTOGRAM_STEPS)
		return (unsigned)value;
	unsigned shift = 59 - (unsigned)__builtin_clzll(value);
	return (shift + 1) * HISTOGRAM_STEPS + (unsigned)(value >> shift) % HISTOGRAM_STEPS;
}

/* The largest value that falls into the bucket. */
static inline uint64_t histogram_bucket_end(unsigned bucket)
{
	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	unsigned shift = bucket / HISTOGRAM_STEPS - 1;
	return ((uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->buckets[histogram_bucket(value)]++;
	histogram->count++;
	if (value > histogram->largest)
		histogram->largest = value;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
	into->count += from->count;
	if (from->largest > into->largest)
		into->largest = from->largest;
}

/* The value that `share` (0 to 1) of all do not exceed; 0 of none. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
	const double wanted = share * (double)histogram->count;
	uint64_t seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen > 0 && (double)seen >= wanted) {
			uint64_t end = histogram_bucket_end(i);
			return end < histogram->largest ? end : histogram->largest;
		}
	}
	return histogram->largest;
}

#endif
