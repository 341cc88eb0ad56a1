/* SPDX-License-Identifier: MIT */
#include "cases.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common.h"
#include "histogram.h"
#include "log/log.h"

enum {
	THREADS_PER_CPU = 4,
	THREADS_MAX = 256,
	BATCH_MAX = 16,
	LOOK_INTERVAL_US = 20,
	OBSERVER_NICE = -19, /* it sleeps nearly always, and is to be woken in time */
};

struct writer {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	pthread_t thread;
	struct histogram histogram; /* ns of each log_append(), or between two looks at the clock */
	struct message messages[BATCH_MAX];
};

static struct writer writers[THREADS_MAX];
static struct epoch_thread observer_epoch;
static struct log *the_log;
static size_t batch; /* 0: they only read the clock */
static unsigned duration_ms;

static uint64_t end_of_run(void)
{
	return mono_ns() + duration_ms * UINT64_C(1000000);
}

static void *read_clock(void *context)
{
	struct writer *writer = context;
	const uint64_t end_ns = end_of_run();

	for (uint64_t before_ns = mono_ns(), now_ns; before_ns < end_ns; before_ns = now_ns) {
		now_ns = mono_ns();
		histogram_add(&writer->histogram, now_ns - before_ns);
	}
	return NULL;
}

static void *append(void *context)
{
	struct writer *writer = context;
	const uint64_t end_ns = end_of_run();

	for (size_t i = 0; i < BATCH_MAX; i++)
		writer->messages[i] = make_message();
	for (uint64_t now_ns = 0; now_ns < end_ns;) {
		size_t done;
		epoch_enter(&writer->epoch);
		uint64_t before_ns = mono_ns();
		enum log_verdict verdict = log_append(the_log, writer->messages, batch, &done);
		now_ns = mono_ns();
		epoch_leave(&writer->epoch);
		histogram_add(&writer->histogram, now_ns - before_ns);
		if (verdict != LOG_APPENDED)
			nap_us(100); /* the keeper needs a CPU */
	}
	return NULL;
}

/* The head, and whether something behind it has been claimed. */
static uint64_t look(bool *is_hole)
{
	struct block block;

	epoch_enter(&observer_epoch);
	uint64_t head = log_head(the_log);
	*is_hole = head > 0 && log_block(the_log, head, head, &block) == BLOCK_HERE &&
	           block_segment_last(&block) > head;
	epoch_leave(&observer_epoch);
	return head;
}

/*
 * Two looks that see a hole behind the same head: there it was all the time between, however long
 * the observer itself was kept from looking. Holes shorter than that are not seen.
 */
static void observe(struct histogram *histogram)
{
	const uint64_t end_ns = end_of_run();
	const int niceness = getpriority(PRIO_PROCESS, 0);
	uint64_t hole_head = 0, since_ns = 0, until_ns = 0;

	/* Of this thread alone, in Linux; without the right to it, holes are seen less well. */
	(void)setpriority(PRIO_PROCESS, 0, OBSERVER_NICE);
	for (uint64_t now_ns = mono_ns(); now_ns < end_ns; now_ns = mono_ns()) {
		bool is_hole;
		uint64_t head = look(&is_hole);
		if (since_ns != 0 && head == hole_head) {
			until_ns = now_ns; /* from before the look */
		} else {
			if (until_ns > since_ns)
				histogram_add(histogram, until_ns - since_ns);
			hole_head = head;
			since_ns = until_ns = is_hole ? mono_ns() : 0;
		}
		nap_us(LOOK_INTERVAL_US);
	}
	(void)setpriority(PRIO_PROCESS, 0, niceness);
}

static void open_log(unsigned threads, struct wake **wake)
{
	char error[LOG_ERROR_MAX];
	const struct log_options options = {.segment_size = 4 << 20, .retain_bytes = 64 << 20};

	*wake = wake_new(1);
	the_log = *wake == NULL ? NULL : log_open(&options, *wake, error, sizeof error);
	must(the_log != NULL, "the log can't be opened");
	for (unsigned i = 0; i < threads; i++) {
		writers[i].epoch = (struct epoch_thread){.epoch = NULL};
		epoch_register(log_epoch(the_log), &writers[i].epoch);
	}
	observer_epoch = (struct epoch_thread){.epoch = NULL};
	epoch_register(log_epoch(the_log), &observer_epoch);
}

/* Adds what one run shows to `calls` and `holes`. */
static void run(unsigned threads, size_t together, struct histogram *calls, struct histogram *holes)
{
	struct wake *wake;

	batch = together;
	open_log(threads, &wake);
	for (unsigned i = 0; i < threads; i++) {
		writers[i].histogram = (struct histogram){.count = 0};
		start_thread(&writers[i].thread, batch == 0 ? read_clock : append, &writers[i]);
	}
	observe(holes);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(writers[i].thread, NULL);
		histogram_merge(calls, &writers[i].histogram);
	}
	log_close(the_log);
	wake_free(wake);
}

static void print_row(const char *what, const struct histogram *histogram)
{
	printf("%-42s %10llu  %9.1f  %9.1f  %9.1f\n", what, (unsigned long long)histogram->count,
	       (double)histogram_quantile(histogram, 0.5) / 1000,
	       (double)histogram_quantile(histogram, 0.999) / 1000,
	       (double)histogram->largest / 1000);
}

void measure_holes(unsigned rounds, unsigned ms)
{
	static const size_t batches[] = {0, 1, BATCH_MAX};
	static struct histogram calls[3], holes[3];
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const unsigned threads = cpus > THREADS_MAX / THREADS_PER_CPU
	                                 ? THREADS_MAX
	                                 : (unsigned)cpus * THREADS_PER_CPU;

	duration_ms = ms;
	prctl(PR_SET_TIMERSLACK, 1UL);
	for (unsigned i = 0; i < 3 * rounds; i++)
		run(threads, batches[i % 3], &calls[i % 3], &holes[i % 3]);
	printf("\n# The longest hole: %u writers on %ld CPUs, %u times %u ms; microseconds\n",
	       threads, cpus, rounds, ms);
	printf("# A hole can't be longer than the call of its writer. Holes are seen from %d us on.\n",
	       2 * LOOK_INTERVAL_US);
	printf("%-42s %10s  %9s  %9s  %9s\n", "", "count", "p50", "p99.9", "longest");
	print_row("a call that appends 1", &calls[1]);
	print_row("a call that appends 16", &calls[2]);
	print_row("between two readings of the clock, no log", &calls[0]);
	print_row("a hole that was seen, appending 1", &holes[1]);
	print_row("a hole that was seen, appending 16", &holes[2]);
}
