/* SPDX-License-Identifier: MIT */
/*
 * bench_log [MESSAGES]: what appending and reading cost without sockets, beside what is most often
 * built instead: a linked list with a mutex around it, its messages formatted before they go in, the
 * oldest freed when there are too many bytes.
 *
 * Log and list take turns, ROUNDS times each; the table shows medians. The ratio is what counts: on
 * a machine that others use too, nanoseconds mean nothing by themselves.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "log/frame.h"
#include "log/log.h"

enum {
	ROUNDS = 5,
	THREADS_MAX = 64,
	BATCH_MAX = 16,
	PAYLOAD_SIZE = 100,
	SEGMENT_SIZE = 4 << 20,
	RETAIN_BYTES = 64 << 20, /* for both; reading fits in */
	READ_MESSAGES = 200000,  /* what readers read, each all of it */
	WARM_MESSAGES = 600000,  /* more than is retained: memory that is used again */
};

static const char topic[] = "bench.topic";
static char payload[PAYLOAD_SIZE];
static char error[LOG_ERROR_MAX];

static const struct message the_message = {
	.topic = topic,
	.topic_size = sizeof topic - 1,
	.payload = payload,
	.payload_size = PAYLOAD_SIZE,
	.topic_hash = 4711,
};

/* ---- the list ---- */

struct node {
	struct node *next;
	uint32_t size;
	char frame[];
};

static struct {
	pthread_mutex_t mutex;
	struct node *first, *last;
	uint64_t bytes, head;
} list = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The mutex is held. */
static void list_push(const struct message *message)
{
	const uint64_t id = list.head + 1;
	const uint32_t size = frame_size(id, message->topic_size, message->payload_size);
	struct node *node = malloc(sizeof *node + size);

	if (node == NULL)
		abort();
	*node = (struct node){.size = size};
	frame_write(node->frame, id, message->topic, message->topic_size, message->payload,
	            message->payload_size);
	list.head = id;
	if (list.last != NULL)
		list.last->next = node;
	else
		list.first = node;
	list.last = node;
	list.bytes += sizeof *node + size;
	while (list.bytes > RETAIN_BYTES) {
		struct node *oldest = list.first;
		list.first = oldest->next;
		list.bytes -= sizeof *oldest + oldest->size;
		free(oldest);
	}
}

static void list_clear(void)
{
	for (struct node *node; (node = list.first) != NULL; free(node))
		list.first = node->next;
	list.last = NULL;
	list.bytes = list.head = 0;
}

/* ---- one thread's share ---- */

struct worker {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	pthread_t thread;
	uint64_t messages; /* to append or to read */
	size_t batch;
	uint64_t sum; /* so that reading is not optimised away */
};

static struct log *the_log;
static struct wake *wake;
static struct worker workers[THREADS_MAX];
static pthread_barrier_t start_line;

static void *append_to_log(void *context)
{
	struct worker *worker = context;
	struct message messages[BATCH_MAX];

	for (size_t i = 0; i < BATCH_MAX; i++)
		messages[i] = the_message;
	pthread_barrier_wait(&start_line);
	for (uint64_t done = 0; done < worker->messages;) {
		size_t appended;
		epoch_enter(&worker->epoch);
		enum log_verdict verdict = log_append(the_log, messages, worker->batch, &appended);
		epoch_leave(&worker->epoch);
		if (appended > 0)
			wake_ring(wake);
		done += appended;
		if (verdict != LOG_APPENDED) /* rare: the keeper is ahead */
			sched_yield();
	}
	return NULL;
}

static void *append_to_list(void *context)
{
	struct worker *worker = context;

	pthread_barrier_wait(&start_line);
	for (uint64_t done = 0; done < worker->messages; done += worker->batch) {
		pthread_mutex_lock(&list.mutex);
		for (size_t i = 0; i < worker->batch; i++)
			list_push(&the_message);
		pthread_mutex_unlock(&list.mutex);
	}
	return NULL;
}

/* Each message's size and a byte of it: what a reader can't do without. */
static void *read_log(void *context)
{
	struct worker *worker = context;
	struct block block;
	uint64_t sum = 0;

	pthread_barrier_wait(&start_line);
	for (uint64_t id = 1; id <= worker->messages;) {
		epoch_enter(&worker->epoch);
		enum block_verdict verdict = log_block(the_log, id, worker->messages, &block);
		if (verdict != BLOCK_HERE)
			abort();
		for (uint32_t i = 0; i < block.count; i++) {
			const struct entry *entry = block_entry(&block, i);
			sum += entry->size + (unsigned char)*block_frame(&block, i);
		}
		epoch_leave(&worker->epoch);
		id += block.count;
	}
	worker->sum = sum;
	return NULL;
}

static void *read_list(void *context)
{
	struct worker *worker = context;
	const struct node *node = NULL;
	uint64_t sum = 0;

	pthread_barrier_wait(&start_line);
	for (uint64_t done = 0; done < worker->messages; done++) {
		pthread_mutex_lock(&list.mutex);
		node = node == NULL ? list.first : node->next;
		sum += node->size + (unsigned char)node->frame[0];
		pthread_mutex_unlock(&list.mutex);
	}
	worker->sum = sum;
	return NULL;
}

/* ---- rounds ---- */

/* Nanoseconds a message, over all threads, from the start line to the last at the end. */
static double measure(void *(*work)(void *), unsigned threads, uint64_t messages, size_t batch)
{
	pthread_barrier_init(&start_line, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].messages = messages;
		workers[i].batch = batch;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			abort();
	}
	pthread_barrier_wait(&start_line);
	uint64_t begin_us = clock_mono_us();
	for (unsigned i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	uint64_t us = clock_mono_us() - begin_us;
	pthread_barrier_destroy(&start_line);
	return (double)us * 1000 / (double)(messages * threads);
}

static void open_log(unsigned threads)
{
	const struct log_options options = {.segment_size = SEGMENT_SIZE,
	                                    .retain_bytes = RETAIN_BYTES};
	wake = wake_new(1);
	the_log = wake == NULL ? NULL : log_open(&options, wake, error, sizeof error);
	if (the_log == NULL)
		abort();
	memset(workers, 0, sizeof workers);
	for (unsigned i = 0; i < threads; i++)
		epoch_register(log_epoch(the_log), &workers[i].epoch);
}

/* One round of one of the two, over memory that has been touched before. */
static double round_of(bool is_log, bool is_reading, unsigned threads, uint64_t messages,
                       size_t batch)
{
	void *(*append)(void *) = is_log ? append_to_log : append_to_list;
	double ns;

	open_log(threads);
	if (is_reading) {
		(void)measure(append, 1, READ_MESSAGES, BATCH_MAX);
		ns = measure(is_log ? read_log : read_list, threads, READ_MESSAGES, 1);
	} else {
		(void)measure(append, 1, WARM_MESSAGES, BATCH_MAX);
		ns = measure(append, threads, messages / threads / batch * batch, batch);
	}
	log_close(the_log);
	wake_free(wake);
	list_clear();
	return ns;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void run(const char *what, bool is_reading, unsigned threads, uint64_t messages,
                size_t batch)
{
	double ns[2][ROUNDS]; /* the list's, the log's */

	for (int i = 0; i < 2 * ROUNDS; i++)
		ns[i % 2][i / 2] = round_of(i % 2 == 1, is_reading, threads, messages, batch);
	for (int i = 0; i < 2; i++)
		qsort(ns[i], ROUNDS, sizeof ns[i][0], compare);
	double list_ns = ns[0][ROUNDS / 2], log_ns = ns[1][ROUNDS / 2];
	printf("%-20s %7u  %7.1f x  %9.1f  %9.1f\n", what, threads, list_ns / log_ns, log_ns,
	       list_ns);
	fflush(stdout);
}

static void print_machine(uint64_t messages)
{
	struct utsname system;

	(void)uname(&system);
	printf("# %ld cpus, %s %s %s, compiler %s\n", sysconf(_SC_NPROCESSORS_ONLN), system.sysname,
	       system.release, system.machine, __VERSION__);
	printf("# %d bytes a message, %" PRIu64
	       " appended or %d read by each, median of %d rounds\n",
	       PAYLOAD_SIZE, messages, READ_MESSAGES, ROUNDS);
	printf("%-20s %7s  %9s  %9s  %9s\n", "", "threads", "list/log", "log ns", "list ns");
}

int main(int argc, char **argv)
{
	const uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const unsigned most = cpus < 2 ? 2 : cpus > THREADS_MAX ? THREADS_MAX : (unsigned)cpus;

	print_machine(messages);
	for (unsigned threads = 1; threads <= most; threads++) {
		if (threads != most && (threads & (threads - 1)) != 0)
			continue; /* 1, 2, 4 ... and all */
		run("append, one by one", false, threads, messages, 1);
		run("append, 16 together", false, threads, messages, BATCH_MAX);
		run("read", true, threads, messages, 1);
	}
	return 0;
}
