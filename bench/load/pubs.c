/* SPDX-License-Identifier: MIT */
#include "pubs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net.h"
#include "proto.h"

enum { PIECE = 256 << 10, STAMPED_PIECE = 64 << 10, INPUT = 256 << 10, EVENTS = 64 };
/* WORDS_MAX: of a message, beside its payload and its topic without a number. */
enum { STAMP_SIZE = 16, WORDS_MAX = 100 };

struct pub {
	int fd;
	uint64_t number;         /* its messages are from + number, and every pubs->n-th then */
	uint64_t next, messages; /* of its own, how many are written, of how many */
	uint64_t answered;
	uint64_t *sent_ns; /* by its own number; NULL: nobody wants to know */
	bool has_barrier;  /* the barrier is written */
	bool is_waiting;   /* for room in the socket */
	bool is_done;
	/* Written and not sent yet: outbox[begin..end). Filled again when all is sent. */
	char *outbox;
	size_t capacity, begin, end;
	struct buf tail; /* of an answer that has not come in full */
};

struct pubs {
	const struct plan *plan;
	const struct options *options;
	uint64_t from, to, base;
	struct pub *all;
	uint64_t n, n_undone;
	uint64_t start_ns, due; /* with a rate: how many of all may be written */
	struct histogram *ok_latency;
	int epoll_fd, done_fd, stop_fd;
	bool is_stopped, is_started;
	size_t message_max; /* bytes that one can have */
	pthread_t thread;
	struct pubs_result result;
	char *payload;
	char input[INPUT];
};

static void fail(struct pubs *pubs, const char *what, const char *said, size_t n)
{
	if (pubs->result.errors++ == 0)
		snprintf(pubs->result.reason, sizeof pubs->result.reason, "publisher: %s%.*s", what,
		         (int)(n < 150 ? n : 150), said);
}

/* ---- writing ---- */

static void stamp(char *at, uint64_t ns)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = STAMP_SIZE - 1; i >= 0; i--, ns >>= 4)
		at[i] = hex[ns & 15];
}

/* How many of its messages may be written by now. */
static uint64_t allowed(const struct pubs *pubs, const struct pub *pub)
{
	uint64_t n = pub->messages;

	if (pubs->options->pace == PACE_WINDOW)
		n = pub->answered + pubs->options->pace_number;
	if (pubs->options->pace == PACE_RATE)
		n = (pubs->due + pubs->n - 1 - pub->number) / pubs->n;
	return n < pub->messages ? n : pub->messages;
}

static void write_message(struct pubs *pubs, struct pub *pub)
{
	char topic[TOPIC_MAX + 1];
	uint64_t k = pubs->from + pub->number + pub->next * pubs->n;
	struct publication publication = {
		.id = pubs->base + k + 1, .topic = topic, .payload = pubs->payload};

	publication.topic_size = plan_topic(pubs->plan, k, topic);
	if (pubs->options->has_latency || pub->sent_ns != NULL) {
		uint64_t now = now_ns();
		if (pubs->options->has_latency)
			stamp(pubs->payload, now);
		if (pub->sent_ns != NULL)
			pub->sent_ns[pub->next] = now;
	}
	pub->end += proto_write_publish(pubs->options, pub->outbox + pub->end, &publication);
	pub->next++;
}

static void fill(struct pubs *pubs, struct pub *pub)
{
	uint64_t n = allowed(pubs, pub);

	pub->begin = pub->end = 0;
	while (pub->next < n && pub->capacity - pub->end >= pubs->message_max)
		write_message(pubs, pub);
	if (pub->next == pub->messages && !pub->has_barrier &&
	    pub->capacity - pub->end >= PROTO_ROOM) {
		pub->has_barrier = true;
		if (!pubs->options->has_acks)
			pub->end += proto_write_barrier(pubs->options, pub->outbox + pub->end);
	}
}

static void watch(struct pubs *pubs, struct pub *pub, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = pub};

	if (epoll_ctl(pubs->epoll_fd, operation, pub->fd, &event) != 0)
		die("epoll_ctl");
}

static void set_waiting(struct pubs *pubs, struct pub *pub, bool is_waiting)
{
	if (pub->is_waiting != is_waiting)
		watch(pubs, pub, EPOLL_CTL_MOD, is_waiting ? EPOLLIN | EPOLLOUT : EPOLLIN);
	pub->is_waiting = is_waiting;
}

static void finish(struct pubs *pubs, struct pub *pub)
{
	if (pub->is_done)
		return;
	pub->is_done = true;
	pubs->n_undone--;
	(void)epoll_ctl(pubs->epoll_fd, EPOLL_CTL_DEL, pub->fd, NULL);
}

/* Sends until the socket is full or there is nothing that may be sent. */
static void drive(struct pubs *pubs, struct pub *pub)
{
	while (!pub->is_done) {
		if (pub->begin == pub->end)
			fill(pubs, pub);
		size_t n = pub->end - pub->begin;
		if (n > 0) {
			ssize_t sent = send(pub->fd, pub->outbox + pub->begin, n,
			                    MSG_NOSIGNAL | MSG_DONTWAIT);
			if (sent < 0 && errno != EAGAIN) {
				fail(pubs, "send: ", strerror(errno), 150);
				finish(pubs, pub);
				return;
			}
			pub->begin += sent > 0 ? (size_t)sent : 0;
			set_waiting(pubs, pub, pub->begin < pub->end);
		}
		if (pub->begin < pub->end)
			return;
		if (pub->has_barrier && pubs->options->proto == PROTO_RAW)
			shutdown(pub->fd, SHUT_WR);
		if (n == 0 || pub->has_barrier)
			return;
	}
}

/* ---- reading ---- */

static void take_answer(struct pubs *pubs, struct pub *pub, uint64_t now)
{
	if (pub->sent_ns != NULL && pub->answered < pub->next)
		histogram_add(pubs->ok_latency, now - pub->sent_ns[pub->answered]);
	pub->answered++;
}

static void take_item(struct pubs *pubs, struct pub *pub, enum item_kind kind, uint64_t now)
{
	char pong[PROTO_ROOM];

	if (kind == ITEM_OK || kind == ITEM_ERROR)
		take_answer(pubs, pub, now);
	/* Not into the middle of a message; a server asks again. */
	if (kind == ITEM_PING && pub->begin == pub->end)
		net_send_all(pub->fd, pong, proto_write_pong(pubs->options, pong));
	bool is_last = pubs->options->has_acks ? pub->answered == pub->messages
	                                       : kind == ITEM_PONG && pub->has_barrier;
	if (is_last && pub->next == pub->messages)
		finish(pubs, pub);
}

/* Takes what n bytes hold; returns how many of them that were. */
static size_t take(struct pubs *pubs, struct pub *pub, const char *at, size_t n)
{
	const char *begin = at;
	struct item item;
	uint64_t now = pub->sent_ns != NULL ? now_ns() : 0;

	for (enum item_kind kind; n > 0; at += item.total, n -= item.total) {
		kind = proto_next(pubs->options->proto, at, n, &item);
		if (kind == ITEM_MORE || item.total > n)
			break;
		if (kind == ITEM_ERROR)
			fail(pubs, "", at, item.total - 1);
		take_item(pubs, pub, kind, now);
	}
	return (size_t)(at - begin);
}

static void receive(struct pubs *pubs, struct pub *pub)
{
	size_t held = buf_size(&pub->tail);

	if (held > 0)
		memcpy(pubs->input, buf_begin(&pub->tail), held);
	ssize_t n = recv(pub->fd, pubs->input + held, INPUT - held, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		if (pubs->options->proto != PROTO_RAW || !pub->has_barrier)
			fail(pubs, "the server closed", "", 0);
		finish(pubs, pub);
		return;
	}
	size_t total = held + (size_t)n, taken = take(pubs, pub, pubs->input, total);
	buf_clear(&pub->tail);
	if (taken < total && buf_append(&pub->tail, pubs->input + taken, total - taken) != 0)
		die("memory");
}

/* ---- the thread ---- */

/* Raises `due` to the schedule; returns how long to wait for the next that is due, in ns. */
static int64_t keep_pace(struct pubs *pubs)
{
	uint64_t rate = pubs->options->pace_number, all = pubs->to - pubs->from;
	uint64_t passed = now_ns() - pubs->start_ns;
	uint64_t due = (uint64_t)((double)passed * (double)rate / 1e9) + 1;

	pubs->due = due < all ? due : all;
	if (pubs->due == all)
		return -1;
	int64_t wait = (int64_t)((double)pubs->due * 1e9 / (double)rate) - (int64_t)passed;
	return wait > 0 ? wait : 0;
}

static void keep_schedule(struct pubs *pubs, struct timespec *wait, struct timespec **timeout)
{
	uint64_t had = pubs->due;
	int64_t ns = keep_pace(pubs);

	*wait = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	*timeout = ns < 0 ? NULL : wait;
	/* Only those whose turn came: with many publishers and few messages that matters. */
	uint64_t turns = pubs->due - had < pubs->n ? pubs->due - had : pubs->n;
	for (uint64_t i = 0; i < turns; i++) {
		struct pub *pub = &pubs->all[(had + i) % pubs->n];
		if (!pub->is_waiting)
			drive(pubs, pub);
	}
}

static void handle(struct pubs *pubs, const struct epoll_event *event)
{
	struct pub *pub = event->data.ptr;

	if (pub == NULL) {
		pubs->is_stopped = true;
		return;
	}
	if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(pubs, pub);
	if (!pub->is_done && ((event->events & EPOLLOUT) || pubs->options->pace == PACE_WINDOW))
		drive(pubs, pub);
}

static void *run(void *argument)
{
	struct pubs *pubs = argument;
	struct epoll_event events[EVENTS];
	struct timespec wait, *timeout = NULL;
	uint64_t one = 1;

	prctl(PR_SET_TIMERSLACK, 1UL);
	pubs->start_ns = now_ns();
	if (pubs->options->pace == PACE_RATE)
		keep_schedule(pubs, &wait, &timeout);
	for (uint64_t i = 0; i < pubs->n; i++)
		drive(pubs, &pubs->all[i]);
	while (pubs->n_undone > 0 && !pubs->is_stopped) {
		if (pubs->options->pace == PACE_RATE)
			keep_schedule(pubs, &wait, &timeout);
		int n = epoll_pwait2(pubs->epoll_fd, events, EVENTS, timeout, NULL);
		if (n < 0 && errno != EINTR)
			die("epoll_pwait2");
		for (int i = 0; i < n; i++)
			handle(pubs, &events[i]);
	}
	pubs->result.end_ns = now_ns();
	pubs->result.is_complete = pubs->n_undone == 0 && pubs->result.errors == 0;
	if (write(pubs->done_fd, &one, sizeof one) < 0)
		die("eventfd");
	return NULL;
}

/* ---- opening and closing ---- */

static void await_hello(const struct pubs *pubs, const struct pub *pub)
{
	char bytes[8192];
	size_t n = 0;

	for (struct item item;;) {
		ssize_t got = recv(pub->fd, bytes + n, sizeof bytes - n, 0);
		if (got <= 0)
			die("a publisher is not welcome");
		n += (size_t)got;
		for (enum item_kind kind = ITEM_NOTE; kind != ITEM_MORE;) {
			kind = proto_next(pubs->options->proto, bytes, n, &item);
			if (kind == ITEM_PONG)
				return;
			if (kind == ITEM_ERROR)
				die("a publisher is refused");
			if (kind != ITEM_MORE)
				memmove(bytes, bytes + item.total, n -= item.total);
		}
	}
}

static void *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		die("memory");
	return memory;
}

static void open_pub(struct pubs *pubs, struct pub *pub, uint64_t number)
{
	const struct options *options = pubs->options;
	uint64_t all = pubs->to - pubs->from;
	char hello[PROTO_ROOM];
	bool is_timed = options->has_latency || options->pace != PACE_FULL;

	*pub = (struct pub){.number = number, .fd = net_connect(options->port)};
	pub->messages = (all + pubs->n - 1 - number) / pubs->n;
	net_send_all(pub->fd, hello, proto_write_hello(options, hello, true, number));
	if (options->proto != PROTO_RAW)
		await_hello(pubs, pub);
	pub->capacity = pub->messages * pubs->message_max + PROTO_ROOM;
	size_t most = is_timed ? STAMPED_PIECE : PIECE;
	if (is_timed || pub->capacity > PUBS_BUILT_MAX / pubs->n)
		if (pub->capacity > most)
			pub->capacity = most;
	if (pub->capacity < pubs->message_max + PROTO_ROOM)
		pub->capacity = pubs->message_max + PROTO_ROOM;
	pub->outbox = map(pub->capacity);
	if (pubs->ok_latency != NULL)
		pub->sent_ns = map((pub->messages + 1) * sizeof(uint64_t));
	watch(pubs, pub, EPOLL_CTL_ADD, EPOLLIN);
	if (!is_timed)
		fill(pubs, pub);
}

struct pubs *pubs_open(const struct plan *plan, uint64_t from, uint64_t to,
                       struct histogram *ok_latency)
{
	struct pubs *pubs = calloc(1, sizeof *pubs);
	const struct options *options = plan->options;
	struct epoll_event stop = {.events = EPOLLIN};

	if (pubs == NULL || (pubs->all = calloc(options->pubs, sizeof *pubs->all)) == NULL ||
	    (pubs->payload = malloc(options->size + 1)) == NULL)
		die("memory");
	memset(pubs->payload, 'x', options->size);
	pubs->plan = plan;
	pubs->options = options;
	pubs->from = from;
	pubs->to = to;
	pubs->n = pubs->n_undone = options->pubs;
	size_t also = options->also_topic == NULL ? 0 : strlen(options->also_topic);
	size_t topic = strlen(options->topic);
	pubs->message_max = options->size + (topic > also ? topic : also) + WORDS_MAX;
	if (options->has_acks && options->pace != PACE_FULL)
		pubs->ok_latency = ok_latency;
	pubs->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pubs->done_fd = eventfd(0, EFD_CLOEXEC);
	pubs->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (pubs->epoll_fd < 0 || pubs->done_fd < 0 || pubs->stop_fd < 0 ||
	    epoll_ctl(pubs->epoll_fd, EPOLL_CTL_ADD, pubs->stop_fd, &stop) != 0)
		die("epoll");
	for (uint64_t i = 0; i < pubs->n; i++)
		open_pub(pubs, &pubs->all[i], i);
	for (uint64_t i = 0; i < pubs->n; i++)
		if (pubs->all[i].messages == 0)
			finish(pubs, &pubs->all[i]);
	return pubs;
}

void pubs_start(struct pubs *pubs)
{
	pubs->is_started = true;
	if ((errno = pthread_create(&pubs->thread, NULL, run, pubs)) != 0)
		die("thread");
}

int pubs_done_fd(const struct pubs *pubs)
{
	return pubs->done_fd;
}

void pubs_join(struct pubs *pubs, struct pubs_result *result)
{
	uint64_t one = 1;

	if (write(pubs->stop_fd, &one, sizeof one) < 0)
		die("eventfd");
	if (pubs->is_started)
		pthread_join(pubs->thread, NULL);
	*result = pubs->result;
	for (uint64_t i = 0; i < pubs->n; i++) {
		struct pub *pub = &pubs->all[i];
		close(pub->fd);
		munmap(pub->outbox, pub->capacity);
		if (pub->sent_ns != NULL)
			munmap(pub->sent_ns, (pub->messages + 1) * sizeof(uint64_t));
		buf_clear(&pub->tail);
	}
	close(pubs->epoll_fd);
	close(pubs->done_fd);
	close(pubs->stop_fd);
	free(pubs->all);
	free(pubs->payload);
	free(pubs);
}
