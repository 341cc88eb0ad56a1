/* SPDX-License-Identifier: MIT */
/*
 * common: what all parts of bench_log use: clocks, threads, the one message.
 */
#ifndef PSAD_BENCH_LOG_COMMON_H
#define PSAD_BENCH_LOG_COMMON_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "log/segment.h"

enum { PAYLOAD_SIZE = 100, ROUNDS_MAX = 101 };

static inline uint64_t read_clock_ns(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static inline uint64_t mono_ns(void)
{
	return read_clock_ns(CLOCK_MONOTONIC);
}

/* CPU time of the calling thread: neither waiting nor what others do counts. */
static inline uint64_t cpu_ns(void)
{
	return read_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static inline void nap_us(long us)
{
	const struct timespec nap = {.tv_nsec = us * 1000};
	(void)nanosleep(&nap, NULL);
}

static inline void must(bool is_good, const char *what)
{
	if (is_good)
		return;
	fprintf(stderr, "bench_log: %s\n", what);
	exit(1);
}

static inline void start_thread(pthread_t *thread, void *(*work)(void *), void *context)
{
	must(pthread_create(thread, NULL, work, context) == 0, "no thread");
}

static inline struct message make_message(void)
{
	static const char topic[] = "bench.topic", payload[PAYLOAD_SIZE] = "payload";
	return (struct message){
		.topic = topic,
		.topic_size = sizeof topic - 1,
		.payload = payload,
		.payload_size = PAYLOAD_SIZE,
		.topic_hash = 4711,
	};
}

static inline int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Of `n` values, n odd; sorts them. */
static inline double median(double *values, unsigned n)
{
	qsort(values, n, sizeof *values, compare_doubles);
	return values[n / 2];
}

#endif
