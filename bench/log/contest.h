/* SPDX-License-Identifier: MIT */
/*
 * contest: the same work done by three rivals: psad's log, a list under a reader-writer lock, and a
 * queue for each subscriber. Writers store messages; every subscriber sees every message in order.
 *
 * What is not the store is the same for all: subscribers are spread over reading threads, writers
 * stop while the slowest subscriber is too far behind, and readers that have nothing to
 * read sleep until psad's eventcount is rung, once for CHUNK messages. None of that is counted in
 * the writers' time; readers' time is without their sleeping.
 */
#ifndef PSAD_BENCH_LOG_CONTEST_H
#define PSAD_BENCH_LOG_CONTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common.h"
#include "log/epoch.h"
#include "log/wake.h"

enum {
	WRITERS_MAX = 4,
	READERS_MAX = 4, /* threads */
	SUBSCRIBERS_MAX = 1000,
	BATCH_MAX = 16,
	CHUNK = 512, /* messages between two looks at the clock, and at the readers */
	WINDOW_MIN = 1024,
	WINDOW_MAX = 8192,
	WINDOW_SUM = 1 << 20,
};

struct shape {
	unsigned writers, subscribers;
	unsigned readers; /* threads, at most as many as subscribers */
	size_t batch;     /* messages appended together */
	uint64_t duration_ns;
};

struct figures {
	double append_ns; /* of CPU, a message */
	double read_ns;   /* of CPU, a message and subscriber; NAN without subscribers */
	double messages_per_s;
};

/* How many messages the slowest subscriber may be behind when a chunk begins. */
static inline uint64_t contest_window(const struct shape *shape)
{
	uint64_t window = shape->subscribers == 0 ? WINDOW_MAX : WINDOW_SUM / shape->subscribers;
	return window < WINDOW_MIN ? WINDOW_MIN : window > WINDOW_MAX ? WINDOW_MAX : window;
}

struct writer {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	pthread_t thread;
	struct message messages[BATCH_MAX];
	uint64_t written, append_ns;
	uint64_t begin_ns, end_ns;
};

struct reader {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct sleeper sleeper;
	pthread_t thread;
	unsigned first, end; /* its subscribers */
	uint64_t head;       /* up to where the log may be read in this pass */
	uint64_t sum;        /* so that reading is not optimised away */
	uint64_t read_ns, end_ns;
	/* Messages that all its subscribers have read. Written by the reader (release); who reads
	 * it (acquire) may free what they are past. */
	_Alignas(CACHE_LINE) uint64_t done;
	uint64_t read[SUBSCRIBERS_MAX]; /* messages, of each of its subscribers */
};

struct rival {
	const char *name;
	bool needs_subscribers;
	/* Empty, for this many subscribers. Thread: main, as close(). */
	void (*open)(const struct shape *shape);
	void (*close)(void);
	/* Stores writer->messages[0 .. n - 1]. Thread: the writer's. */
	void (*append)(struct writer *writer, size_t n);
	/* What a reader does before it looks at each of its subscribers; may be NULL. */
	void (*look)(struct reader *reader);
	/* Reads on for one subscriber, a slice at most; how many messages. Thread: the reader's. */
	size_t (*read)(struct reader *reader, unsigned subscriber);
};

extern const struct rival rival_log, rival_list, rival_queue;

/* What every reader does with a message: both ends of the bytes that it would send. */
static inline void reader_consume(struct reader *reader, const char *at, uint32_t size)
{
	reader->sum += (uint64_t)at[0] + (uint64_t)at[size - 1] + size;
}

/* How many messages every subscriber has read; UINT64_MAX without any. An acquire. */
uint64_t contest_slowest(void);

/* One log and one wake serve all runs, so that memory is in use when a run begins. */
void contest_open(void);
void contest_close(void);
struct figures contest_run(const struct rival *rival, const struct shape *shape);

/* rival_log's part of contest_open() and contest_close(). */
void rival_log_open(struct wake *wake, struct writer *writers, struct reader *readers);
void rival_log_close(void);

#endif
