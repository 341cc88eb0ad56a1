/* SPDX-License-Identifier: MIT */
/*
 * rival_queue: what brokers do today: a queue for each subscriber, a ring of pointers under a mutex
 * of its own. A publisher copies the message once, counts the references, and pushes it to every
 * queue; the last subscriber frees it. Subscribers see each writer's messages in order, but not all
 * of them the same order of two writers' (which the log and the list give).
 *
 * Made as well as it can be: a batch takes each lock once, as does a reader for a slice.
 */
#include "contest.h"

#include <string.h>

#include "log/frame.h"

enum { READ_SLICE = 128 };

struct shared {
	uint32_t references; /* the last one (acquire and release) frees */
	uint32_t size;
	char frame[];
};

struct queue {
	_Alignas(CACHE_LINE) pthread_mutex_t mutex;
	uint64_t put, taken; /* under the mutex, as the slots */
	struct shared **slots;
};

static struct queue queues[SUBSCRIBERS_MAX];
static unsigned queue_count;
static size_t slot_count; /* a power of two, more than may be outstanding */

static struct shared *make_shared(const struct message *message, uint64_t id)
{
	const uint32_t size = frame_size(id, message->topic_size, message->payload_size);
	struct shared *shared = malloc(sizeof *shared + size);

	must(shared != NULL, "no memory");
	shared->references = queue_count;
	shared->size = size;
	frame_write(shared->frame, id, message->topic, message->topic_size, message->payload,
	            message->payload_size);
	return shared;
}

static void append(struct writer *writer, size_t n)
{
	struct shared *messages[BATCH_MAX];
	const uint64_t number = 1000000 + writer->written;

	for (size_t i = 0; i < n; i++)
		messages[i] = make_shared(&writer->messages[i], number + i);
	for (unsigned q = 0; q < queue_count; q++) {
		struct queue *queue = &queues[q];
		pthread_mutex_lock(&queue->mutex);
		for (size_t i = 0; i < n; i++)
			queue->slots[queue->put++ & (slot_count - 1)] = messages[i];
		pthread_mutex_unlock(&queue->mutex);
	}
}

static size_t read_slice(struct reader *reader, unsigned subscriber)
{
	struct queue *queue = &queues[subscriber];
	struct shared *messages[READ_SLICE];
	size_t n = 0;

	pthread_mutex_lock(&queue->mutex);
	while (n < READ_SLICE && queue->taken < queue->put)
		messages[n++] = queue->slots[queue->taken++ & (slot_count - 1)];
	pthread_mutex_unlock(&queue->mutex);
	for (size_t i = 0; i < n; i++) {
		reader_consume(reader, messages[i]->frame, messages[i]->size);
		if (atomic32_add(&messages[i]->references, (uint32_t)-1) == 1)
			free(messages[i]);
	}
	return n;
}

static void open_run(const struct shape *shape)
{
	const size_t outstanding = contest_window(shape) + shape->writers * (size_t)CHUNK;

	queue_count = shape->subscribers;
	for (slot_count = 1; slot_count < outstanding;)
		slot_count *= 2;
	for (unsigned i = 0; i < queue_count; i++) {
		pthread_mutex_init(&queues[i].mutex, NULL);
		queues[i].put = queues[i].taken = 0;
		queues[i].slots = malloc(slot_count * sizeof *queues[i].slots);
		must(queues[i].slots != NULL, "no memory");
		memset(queues[i].slots, 0xff, slot_count * sizeof *queues[i].slots); /* in use */
	}
}

static void close_run(void)
{
	for (unsigned i = 0; i < queue_count; i++) {
		free(queues[i].slots);
		pthread_mutex_destroy(&queues[i].mutex);
	}
}

const struct rival rival_queue = {
	.name = "queues",
	.needs_subscribers = true,
	.open = open_run,
	.close = close_run,
	.append = append,
	.read = read_slice,
};
