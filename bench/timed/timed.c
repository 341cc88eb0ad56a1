/* SPDX-License-Identifier: MIT */
/*
 * timed: psad-timed is the daemon itself, with the time taken around two calls: log_append(), by
 * which a worker publishes a batch, and wake_ring(), by which it tells the others. The linker puts
 * us between (--wrap, see the Makefile), src/ is what it is. At exit, standard error gets
 *
 *     timed messages N               that were appended
 *     timed appends N                calls of log_append()
 *     timed append_ns_per_message X
 *     timed append_p999_us X         999 calls in 1000 took at most this
 *     timed longest_append_us X
 *     timed rings N                  calls of wake_ring(), the keeper's few included
 *     timed wake_ns_per_ring X
 *     timed wake_ns_per_message X
 *     timed clock_ns X               what taking the time costs a call: left out of the sums
 *
 * Time is by the wall: what the scheduler takes in the middle of a call counts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../log/histogram.h"
#include "log/log.h"
#include "log/wake.h"

/* ---- the clock ---- */

static uint64_t mono_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Of the processor where that is cheaper. How long a tick is comes out at the end. */
static inline uint64_t read_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return mono_ns();
#endif
}

static uint64_t start_ticks, start_ns;
static uint64_t clock_ticks; /* that a reading takes */
enum { READINGS = 100 };

__attribute__((constructor)) static void start_clock(void)
{
	clock_ticks = UINT64_MAX;
	for (int i = 0; i < 100; i++) { /* the quickest: the others were interrupted */
		uint64_t before = read_ticks(), after = before;
		for (int n = 0; n < READINGS; n++)
			after = read_ticks();
		uint64_t ticks = (after - before) / READINGS;
		clock_ticks = ticks < clock_ticks ? ticks : clock_ticks;
	}
	start_ns = mono_ns();
	start_ticks = read_ticks();
}

static double ns_per_tick(void)
{
	uint64_t ticks = read_ticks() - start_ticks;
	return ticks == 0 ? 1 : (double)(mono_ns() - start_ns) / (double)ticks;
}

/* ---- what a thread counts ---- */

struct counts {
	struct counts *next;
	uint64_t messages, append_ticks, ring_ticks, rings;
	struct histogram appends; /* ticks */
};

/* Pushed by a thread at its first call (cas), looked at when all threads are gone. */
static struct counts *all_counts;
static _Thread_local struct counts *own_counts;

static struct counts *make_counts(void)
{
	struct counts *counts = calloc(1, sizeof *counts);
	if (counts == NULL)
		abort();
	do
		counts->next = atomic_load_pointer_acquire(&all_counts);
	while (!atomic_cas_pointer(&all_counts, counts->next, counts));
	own_counts = counts;
	return counts;
}

static inline struct counts *my_counts(void)
{
	return own_counts != NULL ? own_counts : make_counts();
}

enum log_verdict __real_log_append(struct log *log, struct message *messages, size_t n,
                                   size_t *appended);
enum log_verdict __wrap_log_append(struct log *log, struct message *messages, size_t n,
                                   size_t *appended);
void __real_wake_ring(struct wake *wake);
void __wrap_wake_ring(struct wake *wake);

enum log_verdict __wrap_log_append(struct log *log, struct message *messages, size_t n,
                                   size_t *appended)
{
	struct counts *counts = my_counts();
	uint64_t before = read_ticks();
	enum log_verdict verdict = __real_log_append(log, messages, n, appended);
	uint64_t ticks = read_ticks() - before;

	counts->messages += *appended;
	counts->append_ticks += ticks;
	histogram_add(&counts->appends, ticks);
	return verdict;
}

void __wrap_wake_ring(struct wake *wake)
{
	struct counts *counts = my_counts();
	uint64_t before = read_ticks();
	__real_wake_ring(wake);
	counts->ring_ticks += read_ticks() - before;
	counts->rings++;
}

/* ---- the end ---- */

/* Without what taking the time cost. */
static double net_ns(uint64_t ticks, uint64_t calls, double tick_ns)
{
	uint64_t cost = calls * clock_ticks;
	return ticks < cost ? 0 : (double)(ticks - cost) * tick_ns;
}

static double ratio(double sum, uint64_t n)
{
	return n == 0 ? 0 : sum / (double)n;
}

__attribute__((destructor)) static void report(void)
{
	const double tick_ns = ns_per_tick();
	static struct counts sum;

	for (struct counts *counts; (counts = all_counts) != NULL; free(counts)) {
		all_counts = counts->next;
		sum.messages += counts->messages;
		sum.append_ticks += counts->append_ticks;
		sum.ring_ticks += counts->ring_ticks;
		sum.rings += counts->rings;
		histogram_merge(&sum.appends, &counts->appends);
	}
	const uint64_t calls = sum.appends.count;
	const double append_ns = net_ns(sum.append_ticks, calls, tick_ns);
	const double ring_ns = net_ns(sum.ring_ticks, sum.rings, tick_ns);
	const double p999 = (double)histogram_quantile(&sum.appends, 0.999);
	fprintf(stderr,
	        "timed messages %llu\ntimed appends %llu\ntimed append_ns_per_message %.1f\n"
	        "timed append_p999_us %.1f\ntimed longest_append_us %.1f\n",
	        (unsigned long long)sum.messages, (unsigned long long)calls,
	        ratio(append_ns, sum.messages), p999 * tick_ns / 1000,
	        (double)sum.appends.largest * tick_ns / 1000);
	fprintf(stderr,
	        "timed rings %llu\ntimed wake_ns_per_ring %.1f\ntimed wake_ns_per_message %.1f\n"
	        "timed clock_ns %.1f\n",
	        (unsigned long long)sum.rings, ratio(ring_ns, sum.rings),
	        ratio(ring_ns, sum.messages), (double)clock_ticks * tick_ns);
}
