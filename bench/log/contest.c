/* SPDX-License-Identifier: MIT */
#include "contest.h"

#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct writer writers[WRITERS_MAX];
static struct reader readers[READERS_MAX];
static struct wake *wake;
static uint64_t clock_ns; /* what a reading of the CPU clock takes: a system call */

static struct {
	const struct rival *rival;
	const struct shape *shape;
	uint64_t window;
	pthread_barrier_t start_line;
	_Alignas(CACHE_LINE) uint64_t appended; /* all writers' */
	_Alignas(CACHE_LINE) uint32_t is_over;  /* release behind the last message; acquire */
} run;

uint64_t contest_slowest(void)
{
	uint64_t slowest = UINT64_MAX;
	for (unsigned i = 0; i < run.shape->readers; i++) {
		uint64_t done = atomic64_load_acquire(&readers[i].done);
		slowest = done < slowest ? done : slowest;
	}
	return slowest;
}

/* CPU time since then, without what taking it costs. */
static uint64_t cpu_since(uint64_t before_ns)
{
	uint64_t ns = cpu_ns() - before_ns;
	return ns > clock_ns ? ns - clock_ns : 0;
}

static void measure_clock(void)
{
	enum { READINGS = 1000 };
	const uint64_t before_ns = cpu_ns();

	for (int i = 1; i < READINGS; i++)
		(void)cpu_ns();
	clock_ns = (cpu_ns() - before_ns) / READINGS;
}

/* ---- writing ---- */

static void wait_for_readers(void)
{
	if (run.shape->readers == 0)
		return;
	/* Relaxed: what another writer has added since may come a chunk later. */
	while (atomic64_load_relaxed(&run.appended) > contest_slowest() + run.window)
		nap_us(20);
}

static void *write_on(void *context)
{
	struct writer *writer = context;
	const size_t batch = run.shape->batch;

	prctl(PR_SET_TIMERSLACK, 1UL);
	for (size_t i = 0; i < BATCH_MAX; i++)
		writer->messages[i] = make_message();
	writer->written = writer->append_ns = 0;
	pthread_barrier_wait(&run.start_line);
	writer->begin_ns = writer->end_ns = mono_ns();
	while (writer->end_ns - writer->begin_ns < run.shape->duration_ns) {
		wait_for_readers();
		uint64_t before_ns = cpu_ns();
		for (size_t i = 0; i < CHUNK; i += batch)
			run.rival->append(writer, batch);
		writer->append_ns += cpu_since(before_ns);
		writer->written += CHUNK;
		atomic64_add(&run.appended, CHUNK);
		wake_ring(wake);
		writer->end_ns = mono_ns();
	}
	return NULL;
}

/* ---- reading ---- */

/* Reads a slice for each subscriber. Returns whether there was anything. */
static bool pass(struct reader *reader)
{
	uint64_t least = UINT64_MAX;
	bool has_read = false;

	if (run.rival->look != NULL)
		run.rival->look(reader);
	for (unsigned i = reader->first; i < reader->end; i++) {
		size_t n = run.rival->read(reader, i);
		uint64_t *read = &reader->read[i - reader->first];
		*read += n;
		has_read |= n > 0;
		least = *read < least ? *read : least;
	}
	if (has_read)
		atomic64_store_release(&reader->done, least);
	return has_read;
}

static void *read_on(void *context)
{
	struct reader *reader = context;

	prctl(PR_SET_TIMERSLACK, 1UL);
	pthread_barrier_wait(&run.start_line);
	uint64_t since_ns = cpu_ns();
	for (;;) {
		uint64_t seen = wake_value(wake);
		bool is_over = atomic32_load_acquire(&run.is_over) != 0;
		if (pass(reader))
			continue;
		reader->read_ns += cpu_since(since_ns);
		if (is_over)
			break;
		(void)wake_wait(wake, &reader->sleeper, seen);
		since_ns = cpu_ns();
	}
	reader->end_ns = mono_ns();
	return NULL;
}

static void wait_for_eventfd(void *context)
{
	struct sleeper *sleeper = context;
	struct pollfd ready = {.fd = sleeper->eventfd, .events = POLLIN};
	eventfd_t rings;

	(void)poll(&ready, 1, -1);
	wake_stir(sleeper);
	(void)eventfd_read(sleeper->eventfd, &rings);
}

/* ---- a run ---- */

static void prepare(const struct rival *rival, const struct shape *shape)
{
	must(shape->writers <= WRITERS_MAX && shape->readers <= READERS_MAX &&
	             shape->subscribers <= SUBSCRIBERS_MAX && CHUNK % shape->batch == 0,
	     "such a contest is not foreseen");
	run.rival = rival;
	run.shape = shape;
	run.window = contest_window(shape);
	atomic64_store_relaxed(&run.appended, 0); /* the threads' start orders these */
	atomic32_store_relaxed(&run.is_over, 0);
	for (unsigned i = 0; i < shape->readers; i++) {
		struct reader *reader = &readers[i];
		reader->first = shape->subscribers * i / shape->readers;
		reader->end = shape->subscribers * (i + 1) / shape->readers;
		reader->read_ns = 0;
		memset(reader->read, 0, sizeof reader->read);
		atomic64_store_relaxed(&reader->done, 0);
	}
	rival->open(shape);
}

static struct figures sum_up(const struct shape *shape)
{
	uint64_t begin_ns = UINT64_MAX, end_ns = 0, written = 0, append_ns = 0, read_ns = 0;

	for (unsigned i = 0; i < shape->writers; i++) {
		const struct writer *writer = &writers[i];
		begin_ns = writer->begin_ns < begin_ns ? writer->begin_ns : begin_ns;
		end_ns = writer->end_ns > end_ns ? writer->end_ns : end_ns;
		written += writer->written;
		append_ns += writer->append_ns;
	}
	for (unsigned i = 0; i < shape->readers; i++) {
		end_ns = readers[i].end_ns > end_ns ? readers[i].end_ns : end_ns;
		read_ns += readers[i].read_ns;
		for (unsigned n = 0; n < readers[i].end - readers[i].first; n++)
			must(readers[i].read[n] == written, "a subscriber has not read everything");
	}
	const double messages = (double)written;
	return (struct figures){
		.append_ns = (double)append_ns / messages,
		.read_ns = shape->subscribers == 0
	                           ? (double)NAN
	                           : (double)read_ns / messages / shape->subscribers,
		.messages_per_s = messages * 1e9 / (double)(end_ns - begin_ns),
	};
}

struct figures contest_run(const struct rival *rival, const struct shape *shape)
{
	prepare(rival, shape);
	pthread_barrier_init(&run.start_line, NULL, shape->writers + shape->readers);
	for (unsigned i = 0; i < shape->readers; i++)
		start_thread(&readers[i].thread, read_on, &readers[i]);
	for (unsigned i = 0; i < shape->writers; i++)
		start_thread(&writers[i].thread, write_on, &writers[i]);
	for (unsigned i = 0; i < shape->writers; i++)
		pthread_join(writers[i].thread, NULL);
	atomic32_store_release(&run.is_over, 1);
	wake_ring(wake);
	for (unsigned i = 0; i < shape->readers; i++)
		pthread_join(readers[i].thread, NULL);
	pthread_barrier_destroy(&run.start_line);
	rival->close();
	return sum_up(shape);
}

void contest_open(void)
{
	wake = wake_new(READERS_MAX);
	must(wake != NULL, "no memory");
	for (unsigned i = 0; i < READERS_MAX; i++) {
		struct sleeper *sleeper = &readers[i].sleeper;
		sleeper->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		must(sleeper->eventfd >= 0, "no eventfd");
		sleeper->turn = wait_for_eventfd;
		sleeper->context = sleeper;
		wake_add(wake, sleeper);
	}
	rival_log_open(wake, writers, readers);
	measure_clock();
}

void contest_close(void)
{
	rival_log_close();
	for (unsigned i = 0; i < READERS_MAX; i++)
		close(readers[i].sleeper.eventfd);
	wake_free(wake);
}
