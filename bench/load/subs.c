/* SPDX-License-Identifier: MIT */
#include "subs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net.h"
#include "proto.h"

enum {
	IN_FLIGHT = 64, /* connecting or greeting: a listen backlog is 100 somewhere */
	STORM_IN_FLIGHT = 512,
	INPUT = 256 << 10,   /* bytes of one read */
	DISCARD = 1 << 30,   /* bytes that the kernel throws away in one call, at most */
	SKIP_MIN = 32 << 10, /* of a payload, that are worth a call of their own */
	STOPPED_BUFFER = 4096,
	STAMP_SIZE = 16,
	EVENTS = 1024,
	PROGRESS_MS = 200,
};
static const uint64_t FIRST_PING_NS = 4000000000U;

enum sub_state {
	SUB_NEW,
	SUB_CONNECTING,
	SUB_GREETING,    /* its hello is sent */
	SUB_GREETED,     /* may subscribe */
	SUB_SUBSCRIBING, /* its filters are sent */
	SUB_READING,     /* subscribed; messages come */
	SUB_GONE,
};

struct sub {
	int fd;
	uint32_t number;
	enum sub_state state;
	uint8_t wants_oks, wants_pongs;
	bool is_stopped, is_counting; /* only bytes */
	bool is_finished, has_ping;
	uint64_t messages, bytes, last_id;
	struct share share;
	/* The rest of a message that has not come in full, and the time it holds. */
	uint64_t skip, stamp_ns;
	struct buf tail; /* of what is not even a head */
};

struct subs {
	const struct options *options;
	const char *where;
	struct histogram *latency;
	struct sub *all;
	uint64_t n, next; /* to connect */
	uint64_t in_flight, max_in_flight;
	/* How many have yet to: */
	uint64_t to_greet, to_subscribe, to_ping, to_finish;
	bool has_byte_counts, is_storm, is_measuring, has_progress;
	uint64_t progress_ns;
	int epoll_fd, done_fd;
	struct subs_result result;
	char hello[PROTO_ROOM + FILTERS_MAX * (TOPIC_MAX + 32)];
	char input[INPUT + 4096];
};

static void fail(struct subs *subs, const struct sub *sub, const char *what, size_t n)
{
	int size = (int)(n < 150 ? n : 150);

	if (subs->result.errors++ == 0)
		snprintf(subs->result.reason, sizeof subs->result.reason, "subscriber %u: %.*s",
		         sub->number, size, what);
}

/* ---- states ---- */

static void watch(struct subs *subs, struct sub *sub, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = sub};

	if (epoll_ctl(subs->epoll_fd, operation, sub->fd, &event) != 0)
		die("epoll_ctl");
}

static void finish(struct subs *subs, struct sub *sub)
{
	if (sub->is_finished)
		return;
	sub->is_finished = true;
	subs->to_finish--;
	subs->result.last_ns = now_ns();
}

/* Everything that counts subscribers in some state hears of it. */
static void go(struct subs *subs, struct sub *sub, enum sub_state state)
{
	enum sub_state had = sub->state;
	bool was_in_flight = had == SUB_CONNECTING || had == SUB_GREETING ||
	                     (subs->is_storm && had == SUB_SUBSCRIBING);
	bool is_in_flight = state == SUB_CONNECTING || state == SUB_GREETING ||
	                    (subs->is_storm && state == SUB_SUBSCRIBING);

	assert(state > had);
	sub->state = state;
	if (was_in_flight && !is_in_flight)
		subs->in_flight--;
	if (!was_in_flight && is_in_flight)
		subs->in_flight++;
	if (had < SUB_GREETED && state >= SUB_GREETED)
		subs->to_greet--;
	if (had < SUB_READING && state >= SUB_READING)
		subs->to_subscribe--;
	if (state == SUB_GONE && !sub->has_ping)
		subs->to_ping--;
}

/* A server that closes: what it owes will not come. */
static void lose(struct subs *subs, struct sub *sub)
{
	(void)epoll_ctl(subs->epoll_fd, EPOLL_CTL_DEL, sub->fd, NULL);
	go(subs, sub, SUB_GONE);
	if (sub->is_stopped) {
		subs->result.stopped_disconnected++;
		return;
	}
	subs->result.disconnected++;
	if (!sub->is_finished) {
		sub->is_finished = true;
		subs->to_finish--;
		subs->result.unfinished++;
	}
}

static void send_hello(struct subs *subs, struct sub *sub, size_t n)
{
	if (n > 0 && send(sub->fd, subs->hello, n, MSG_NOSIGNAL) != (ssize_t)n)
		fail(subs, sub, "what it has to say is not taken", 100);
}

static void subscribe(struct subs *subs, struct sub *sub)
{
	const struct options *options = subs->options;

	go(subs, sub, SUB_SUBSCRIBING);
	sub->wants_oks = (uint8_t)proto_subscribe_oks(options);
	sub->wants_pongs = (uint8_t)proto_subscribe_pongs(options);
	send_hello(subs, sub,
	           proto_write_subscribe(options, subs->hello, sub->number, subs->where));
}

static void greet(struct subs *subs, struct sub *sub)
{
	int error = 0;
	socklen_t size = sizeof error;

	getsockopt(sub->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0) {
		fail(subs, sub, strerror(error), 100);
		lose(subs, sub);
		return;
	}
	watch(subs, sub, EPOLL_CTL_MOD, EPOLLIN);
	if (subs->is_storm) {
		subscribe(subs, sub);
	} else if (subs->options->proto == PROTO_RAW) {
		go(subs, sub, SUB_GREETED);
	} else {
		go(subs, sub, SUB_GREETING);
		sub->wants_pongs = 1;
		send_hello(subs, sub,
		           proto_write_hello(subs->options, subs->hello, false, sub->number));
	}
}

static void begin_connects(struct subs *subs)
{
	while (subs->next < subs->n && subs->in_flight < subs->max_in_flight) {
		struct sub *sub = &subs->all[subs->next++];
		sub->fd = net_begin_connect(subs->options->port,
		                            sub->is_stopped ? STOPPED_BUFFER : 0);
		go(subs, sub, SUB_CONNECTING);
		watch(subs, sub, EPOLL_CTL_ADD, EPOLLOUT);
	}
}

/* After an answer. */
static void advance(struct subs *subs, struct sub *sub)
{
	if (sub->wants_oks > 0 || sub->wants_pongs > 0)
		return;
	if (sub->state == SUB_GREETING)
		go(subs, sub, SUB_GREETED);
	if (sub->state != SUB_SUBSCRIBING)
		return;
	go(subs, sub, SUB_READING);
	if (sub->is_stopped) /* one edge at most, when the server is through with it */
		watch(subs, sub, EPOLL_CTL_MOD, EPOLLRDHUP | EPOLLET);
}

/* ---- messages ---- */

static uint64_t parse_stamp(const char *at)
{
	uint64_t number = 0;

	for (int i = 0; i < STAMP_SIZE; i++)
		number = number * 16 + (uint64_t)(at[i] & 15) + (at[i] > '9' ? 9U : 0U);
	return number;
}

static void verify(struct subs *subs, struct sub *sub, const struct item *item)
{
	const struct options *options = subs->options;
	char topic[TOPIC_MAX + 1], filter[TOPIC_MAX + 1];
	size_t size = item->topic_size < TOPIC_MAX ? item->topic_size : TOPIC_MAX;
	bool does_match = options->proto == PROTO_RAW;

	memcpy(topic, item->topic, size);
	topic[size] = '\0';
	for (size_t i = 0; i < size && options->proto == PROTO_MQTT; i++)
		topic[i] = topic[i] == '/' ? '.' : topic[i];
	for (uint64_t i = 0; i < options->n_filters && !does_match; i++) {
		struct text text = text_make(options->filters[i]);
		filter[text_write(&text, filter, sub->number)] = '\0';
		does_match = plan_matches(options->proto, filter, topic);
	}
	if (!does_match)
		fail(subs, sub, "a message of a topic that it has not asked for", 100);
	if (item->payload != options->size)
		fail(subs, sub, "a payload of another size", 100);
	if ((options->proto == PROTO_PSAD || options->proto == PROTO_RAW) &&
	    item->id <= sub->last_id)
		fail(subs, sub, "ids do not grow", 100);
	sub->last_id = item->id;
}

static void count(struct subs *subs, struct sub *sub, uint64_t now)
{
	if (subs->latency != NULL)
		histogram_add(subs->latency, now - sub->stamp_ns);
	if (++sub->messages == sub->share.messages)
		finish(subs, sub);
	else if (sub->messages > sub->share.messages)
		fail(subs, sub, "more messages than it is owed", 100);
}

static void count_bytes(struct subs *subs, struct sub *sub, uint64_t n)
{
	sub->bytes += n;
	if (sub->bytes == sub->share.bytes)
		finish(subs, sub);
	else if (sub->bytes > sub->share.bytes && sub->bytes - n <= sub->share.bytes)
		fail(subs, sub, "more bytes than it is owed", 100);
}

/* Returns the bytes taken: 0, while the time that it holds has not come. */
static size_t take_message(struct subs *subs, struct sub *sub, const struct item *item, size_t n,
                           const char *at)
{
	if (subs->latency != NULL) {
		if (n < item->head + STAMP_SIZE)
			return 0;
		sub->stamp_ns = parse_stamp(at + item->head);
	}
	if (sub->number == 0)
		verify(subs, sub, item);
	sub->bytes += item->total;
	if (n >= item->total)
		return item->total;
	sub->skip = item->total - n;
	return n;
}

static void take_item(struct subs *subs, struct sub *sub, enum item_kind kind,
                      const struct item *item, const char *at)
{
	switch (kind) {
	case ITEM_OK:
		sub->wants_oks -= sub->wants_oks > 0;
		break;
	case ITEM_PONG:
		sub->wants_pongs -= sub->wants_pongs > 0;
		break;
	case ITEM_PING:
		subs->to_ping -= !sub->has_ping;
		sub->has_ping = true;
		send_hello(subs, sub, proto_write_pong(subs->options, subs->hello));
		break;
	case ITEM_GAP:
		subs->result.gaps++;
		fail(subs, sub, at, item->total - 1);
		break;
	case ITEM_ERROR:
		fail(subs, sub, at, item->total - 1);
		break;
	case ITEM_NOTE:
	case ITEM_MORE:
	case ITEM_MESSAGE:
		break;
	}
	if (sub->state < SUB_READING)
		advance(subs, sub);
}

/* Takes what n bytes hold; returns how many of them that were. */
static size_t take(struct subs *subs, struct sub *sub, const char *at, size_t n, uint64_t now)
{
	const char *begin = at;
	struct item item;

	if (subs->options->proto == PROTO_RAW && sub->state == SUB_SUBSCRIBING && *at == 's') {
		sub->wants_oks = 0;
		advance(subs, sub);
		at++, n--;
	}
	while (n > 0) {
		if (sub->state == SUB_READING && sub->is_counting && subs->is_measuring) {
			count_bytes(subs, sub, n);
			return (size_t)(at - begin) + n;
		}
		enum item_kind kind = proto_next(subs->options->proto, at, n, &item);
		size_t taken = item.total;
		if (kind == ITEM_MORE || (kind != ITEM_MESSAGE && taken > n))
			break;
		if (kind == ITEM_MESSAGE && (taken = take_message(subs, sub, &item, n, at)) == 0)
			break;
		if (kind != ITEM_MESSAGE)
			take_item(subs, sub, kind, &item, at);
		else if (sub->skip == 0)
			count(subs, sub, now);
		at += taken, n -= taken;
	}
	return (size_t)(at - begin);
}

/* ---- reading ---- */

/* What is left of a payload is nobody's business. Returns false when there is nothing to read. */
static ssize_t discard(struct subs *subs, struct sub *sub)
{
	ssize_t n = recv(sub->fd, NULL, sub->skip > 0 ? sub->skip : DISCARD, MSG_TRUNC);

	if (n <= 0)
		return n;
	if (sub->skip == 0) {
		count_bytes(subs, sub, (uint64_t)n);
	} else if ((sub->skip -= (uint64_t)n) == 0) {
		count(subs, sub, now_ns());
	}
	return n;
}

static void take_input(struct subs *subs, struct sub *sub, char *at, size_t n)
{
	uint64_t now = subs->latency != NULL ? now_ns() : 0;

	if (sub->skip > 0) {
		size_t skipped = sub->skip < n ? sub->skip : n;
		sub->skip -= skipped;
		at += skipped, n -= skipped;
		if (sub->skip == 0)
			count(subs, sub, now);
	}
	size_t taken = n > 0 ? take(subs, sub, at, n, now) : 0;
	buf_clear(&sub->tail);
	if (taken < n && buf_append(&sub->tail, at + taken, n - taken) != 0)
		die("memory");
}

static ssize_t receive(struct subs *subs, struct sub *sub)
{
	bool is_counting = sub->state == SUB_READING && sub->is_counting && subs->is_measuring;
	size_t held = buf_size(&sub->tail);

	if (held == 0 && (is_counting || sub->skip >= SKIP_MIN))
		return discard(subs, sub);
	assert(held <= sizeof subs->input - INPUT);
	if (held > 0)
		memcpy(subs->input, buf_begin(&sub->tail), held);
	ssize_t n = recv(sub->fd, subs->input + held, INPUT, 0);
	if (n > 0)
		take_input(subs, sub, subs->input, held + (size_t)n);
	return n;
}

static void handle(struct subs *subs, struct sub *sub, uint32_t events)
{
	if (sub->state == SUB_GONE)
		return;
	if (sub->state == SUB_CONNECTING) {
		greet(subs, sub);
	} else if (sub->is_stopped && sub->state == SUB_READING) {
		if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			lose(subs, sub);
	} else {
		ssize_t n = receive(subs, sub);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			lose(subs, sub);
	}
}

static void show_progress(struct subs *subs, uint64_t now)
{
	if (!subs->has_progress || now < subs->progress_ns)
		return;
	subs->progress_ns = now + PROGRESS_MS * 1000000U;
	fprintf(stderr, "\r%llu of %llu subscribers to greet, %llu to subscribe, %llu to finish ",
	        (unsigned long long)subs->to_greet, (unsigned long long)subs->n,
	        (unsigned long long)subs->to_subscribe, (unsigned long long)subs->to_finish);
}

static void turn(struct subs *subs, uint64_t deadline_ns, uint64_t now)
{
	struct epoll_event events[EVENTS];
	uint64_t wait_ms = (deadline_ns - now) / 1000000 + 1, one;

	if (subs->has_progress && wait_ms > PROGRESS_MS)
		wait_ms = PROGRESS_MS;
	begin_connects(subs);
	int n = epoll_wait(subs->epoll_fd, events, EVENTS, wait_ms < 60000 ? (int)wait_ms : 60000);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr != NULL)
			handle(subs, events[i].data.ptr, events[i].events);
		else if (read(subs->done_fd, &one, sizeof one) > 0)
			subs->to_finish--;
	}
	show_progress(subs, now);
}

static bool run(struct subs *subs, const uint64_t *left, uint64_t deadline_ns)
{
	for (uint64_t now; *left > 0; turn(subs, deadline_ns, now))
		if ((now = now_ns()) >= deadline_ns)
			return false;
	return true;
}

/* ---- what the run asks for ---- */

struct subs *subs_open(const struct options *options, const struct share *shares,
                       bool has_byte_counts, const char *where, struct histogram *latency)
{
	struct subs *subs = calloc(1, sizeof *subs);

	if (subs == NULL)
		die("memory");
	subs->options = options;
	subs->where = where;
	subs->latency = latency;
	subs->has_progress = isatty(STDERR_FILENO) != 0;
	subs->n = options->subs + options->stopped;
	subs->to_greet = subs->to_subscribe = subs->n;
	subs->to_ping = options->subs;
	subs->has_byte_counts = has_byte_counts && latency == NULL;
	subs->all = calloc(subs->n + 1, sizeof *subs->all);
	subs->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (subs->all == NULL || subs->epoll_fd < 0)
		die("epoll");
	for (uint64_t i = 0; i < subs->n; i++) {
		struct sub *sub = &subs->all[i];
		sub->number = (uint32_t)i;
		sub->fd = -1;
		sub->is_stopped = sub->has_ping = i >= options->subs;
		sub->is_counting = subs->has_byte_counts && i > 0;
		sub->share = sub->is_stopped ? (struct share){0} : shares[i];
		sub->is_finished = sub->share.messages == 0;
		subs->to_finish += !sub->is_finished;
	}
	return subs;
}

bool subs_connect(struct subs *subs, uint64_t deadline_ns)
{
	subs->max_in_flight = IN_FLIGHT;
	return run(subs, &subs->to_greet, deadline_ns) && subs->result.disconnected == 0;
}

bool subs_subscribe(struct subs *subs, bool does_wait, uint64_t deadline_ns)
{
	for (uint64_t i = 0; i < subs->n; i++)
		if (subs->all[i].state == SUB_GREETED)
			subscribe(subs, &subs->all[i]);
	if (!does_wait)
		return true;
	bool is_ready = run(subs, &subs->to_subscribe, deadline_ns);
	/* nats pings about 2 s after a connect, and bytes can't be counted with that among them. */
	if (subs->options->proto == PROTO_NATS && subs->has_byte_counts)
		(void)run(subs, &subs->to_ping, now_ns() + FIRST_PING_NS);
	return is_ready && subs->result.disconnected == 0;
}

void subs_storm(struct subs *subs)
{
	subs->is_storm = true;
	subs->max_in_flight = STORM_IN_FLIGHT;
}

void subs_begin(struct subs *subs, int done_fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	subs->is_measuring = true;
	subs->done_fd = done_fd;
	if (done_fd < 0)
		return;
	subs->to_finish++;
	if (epoll_ctl(subs->epoll_fd, EPOLL_CTL_ADD, done_fd, &event) != 0)
		die("epoll_ctl");
}

bool subs_finish(struct subs *subs, uint64_t deadline_ns)
{
	return run(subs, &subs->to_finish, deadline_ns);
}

void subs_linger(struct subs *subs, uint64_t until_ns)
{
	for (uint64_t now; (now = now_ns()) < until_ns;)
		turn(subs, until_ns, now);
}

static void add_up(struct subs *subs, const struct sub *sub)
{
	uint64_t messages = sub->messages;

	if (sub->is_stopped)
		return;
	if (sub->is_counting) /* as many of those that it is owed as came of their bytes */
		messages = sub->share.bytes == 0
		                   ? 0
		                   : (uint64_t)((double)sub->share.messages * (double)sub->bytes /
		                                (double)sub->share.bytes);
	if (sub->is_counting && sub->bytes == sub->share.bytes)
		messages = sub->share.messages;
	subs->result.deliveries += messages;
	subs->result.bytes += sub->bytes - sub->skip;
	if (!sub->is_finished)
		subs->result.unfinished++;
}

void subs_close(struct subs *subs, struct subs_result *result)
{
	for (uint64_t i = 0; i < subs->n; i++) {
		struct sub *sub = &subs->all[i];
		add_up(subs, sub);
		if (sub->fd >= 0)
			close(sub->fd);
		buf_clear(&sub->tail);
	}
	if (subs->has_progress)
		fprintf(stderr, "\r%79s\r", "");
	*result = subs->result;
	close(subs->epoll_fd);
	free(subs->all);
	free(subs);
}
