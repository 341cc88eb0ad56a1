/* SPDX-License-Identifier: MIT */
/*
 * rival_list: what psad's first sketch was compared with: one linked list of copied messages under
 * a reader-writer lock. A message is freed when every subscriber is past it.
 *
 * Made as well as it can be: allocating, copying and formatting are outside the lock, so is
 * freeing, a batch takes the lock once, readers walk many messages under it.
 */
#include "contest.h"

#include "log/frame.h"

enum {
	READ_SLICE = 128,  /* messages under one read lock */
	FREE_INTERVAL = 64 /* messages between two looks for what can be freed */
};

struct node {
	/* Of the lock: written when the next is linked. */
	struct node *next;
	uint64_t number; /* from 1; 0 is where the list begins */
	uint32_t size;
	char frame[];
};

static struct {
	pthread_rwlock_t lock;
	struct node *first, *last;
	uint64_t looked; /* the number at the last look for what can be freed */
	/* last->number, relaxed: a hint whether to take the lock at all. */
	_Alignas(CACHE_LINE) uint64_t head;
} list;

static struct node *positions[SUBSCRIBERS_MAX]; /* each one's last read; its reader's alone */

/* The frame's id is a guess: the true one is known under the lock only. */
static struct node *make_node(const struct message *message, uint64_t id)
{
	const uint32_t size = frame_size(id, message->topic_size, message->payload_size);
	struct node *node = malloc(sizeof *node + size);

	must(node != NULL, "no memory");
	node->next = NULL;
	node->size = size;
	frame_write(node->frame, id, message->topic, message->topic_size, message->payload,
	            message->payload_size);
	return node;
}

/* Takes from the front what nobody needs, the lock held; the caller frees up to `*end`. */
static struct node *cut(struct node **end)
{
	struct node *first = list.first;
	uint64_t slowest;

	*end = first;
	if (list.last->number - list.looked < FREE_INTERVAL)
		return first;
	list.looked = list.last->number;
	slowest = contest_slowest();
	/* The last read of the slowest stays: it is where it goes on. */
	while (list.first->number < slowest && list.first != list.last)
		list.first = list.first->next;
	*end = list.first;
	return first;
}

static void release(struct node *node, const struct node *end)
{
	while (node != end) {
		struct node *next = node->next;
		free(node);
		node = next;
	}
}

static void append(struct writer *writer, size_t n)
{
	struct node *nodes[BATCH_MAX], *end;
	const uint64_t guess = 1000000 + writer->written;

	for (size_t i = 0; i < n; i++)
		nodes[i] = make_node(&writer->messages[i], guess + i);
	pthread_rwlock_wrlock(&list.lock);
	for (size_t i = 0; i < n; i++) {
		nodes[i]->number = list.last->number + 1;
		list.last->next = nodes[i];
		list.last = nodes[i];
	}
	atomic64_store_relaxed(&list.head, list.last->number);
	struct node *first = cut(&end);
	pthread_rwlock_unlock(&list.lock);
	release(first, end);
}

static size_t read_slice(struct reader *reader, unsigned subscriber)
{
	struct node *node = positions[subscriber], *next;
	size_t n = 0;

	if (node->number == atomic64_load_relaxed(&list.head))
		return 0; /* is rung when there is more */
	pthread_rwlock_rdlock(&list.lock);
	while (n < READ_SLICE && (next = node->next) != NULL) {
		node = next;
		reader_consume(reader, node->frame, node->size);
		n++;
	}
	pthread_rwlock_unlock(&list.lock);
	positions[subscriber] = node;
	return n;
}

static void open_run(const struct shape *shape)
{
	pthread_rwlockattr_t kind;

	pthread_rwlockattr_init(&kind);
	pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&list.lock, &kind);
	pthread_rwlockattr_destroy(&kind);
	list.first = list.last = make_node(&(struct message){.topic = "", .payload = ""}, 1);
	list.first->number = list.looked = list.head = 0;
	for (unsigned i = 0; i < shape->subscribers; i++)
		positions[i] = list.first;
}

static void close_run(void)
{
	release(list.first, NULL);
	pthread_rwlock_destroy(&list.lock);
}

const struct rival rival_list = {
	.name = "list",
	.open = open_run,
	.close = close_run,
	.append = append,
	.read = read_slice,
};
