/* SPDX-License-Identifier: MIT */
#include "net/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/diag.h"

enum {
	ACCEPTS_PER_TURN = 64, /* so that a storm does not keep main from its signals */
	PAUSE_MS = 100,        /* when descriptors are used up */
	FULL_PAUSE_MS = 10,    /* when no worker has taken what was handed to it */
	DOORS_MAX = 256,
};

/* Where connections come in. */
struct door {
	struct acceptor *acceptor;
	struct event *event;
	struct listener listener;
};

struct acceptor {
	struct event_base *base;
	struct hub *hub;
	struct worker **workers;
	size_t worker_count, next_worker;
	struct acceptor_options options;
	struct door *doors[DOORS_MAX];
	size_t door_count;
	struct event *pause_event;
	int reserve; /* a descriptor to be spent when there is no other; -1: spent */
	struct handoff_item pending; /* no worker had room for it */
	bool has_pending;
	struct counters counters;
};

/* ---- new sockets ---- */

static void set_int(int fd, int level, int name, uint64_t value)
{
	int number = value > INT32_MAX ? INT32_MAX : (int)value;
	/* A socket that refuses an option works without it. */
	(void)setsockopt(fd, level, name, &number, sizeof number);
}

static void tune(const struct acceptor *acceptor, int fd, bool is_unix)
{
	const struct acceptor_options *options = &acceptor->options;
	uint64_t idle_s = options->keepalive_ms / 1000;

	if (is_unix) {
		if (options->send_buffer > 0)
			set_int(fd, SOL_SOCKET, SO_SNDBUF, options->send_buffer);
		return;
	}
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (options->send_buffer > 0)
		set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options->send_buffer);
	if (options->keepalive_ms == 0)
		return;
	if (idle_s == 0)
		idle_s = 1;
	/* Four probes within as long again: dead peers are gone after twice the time. */
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, idle_s >= 4 ? idle_s / 4 : 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

/* The worker with the fewest connections, those on their way included. */
static struct worker *choose_worker(struct acceptor *acceptor)
{
	struct worker *best = NULL;
	uint64_t fewest = UINT64_MAX;

	for (size_t i = 0; i < acceptor->worker_count; i++) {
		size_t n = (acceptor->next_worker + i) % acceptor->worker_count;
		struct worker *worker = acceptor->workers[n];
		/* Relaxed: a guess is good enough. */
		uint64_t load = atomic64_load_relaxed(&worker->counters.connections) +
		                handoff_size(worker->handoff);
		if (load < fewest) {
			fewest = load;
			best = worker;
		}
	}
	acceptor->next_worker = (acceptor->next_worker + 1) % acceptor->worker_count;
	return best;
}

/* Tries to give the pending socket to a worker. False: they all have a thousand waiting. */
static bool give_pending(struct acceptor *acceptor)
{
	if (acceptor->has_pending && !worker_give(choose_worker(acceptor), &acceptor->pending))
		return false;
	acceptor->has_pending = false;
	return true;
}

/* Gives the socket to a worker, now or soon; with a refusal it is not counted. False: soon. */
static bool give(struct acceptor *acceptor, const struct handoff_item *item)
{
	if (item->refusal[0] != '\0')
		atomic64_count(&acceptor->counters.rejected_total, 1);
	else
		atomic64_add(&acceptor->hub->connections, 1);
	acceptor->pending = *item;
	acceptor->has_pending = true;
	return give_pending(acceptor);
}

/* Fills in the refusal where there may be no more connections, else counts the peer. */
static void admit(struct acceptor *acceptor, struct handoff_item *item)
{
	const struct acceptor_options *options = &acceptor->options;
	static struct diag_limit all_limit, peer_limit;

	/* Relaxed: the acceptor alone adds to it. */
	if (atomic64_load_relaxed(&acceptor->hub->connections) >= options->max_connections) {
		snprintf(
			item->refusal, sizeof item->refusal,
			"ERR too-many connections (limits.max_connections); the connection closes\n");
		diag_limited(&all_limit, DIAG_WARNING,
		             "limits.max_connections: %llu are open, refusing %s",
		             (unsigned long long)options->max_connections,
		             peer_describe(item->fd).text);
	} else if (!peers_enter(acceptor->hub->peers, &item->peer,
	                        options->max_connections_per_ip)) {
		snprintf(item->refusal, sizeof item->refusal,
		         "ERR too-many connections from your address "
		         "(limits.max_connections_per_ip); the connection closes\n");
		diag_limited(&peer_limit, DIAG_WARNING,
		             "limits.max_connections_per_ip: refusing %s, whose address has %llu",
		             peer_describe(item->fd).text,
		             (unsigned long long)options->max_connections_per_ip);
	}
}

/* ---- no descriptors ---- */

static void set_accepting(struct acceptor *acceptor, bool is_on)
{
	for (size_t i = 0; i < acceptor->door_count; i++) {
		if (is_on)
			event_add(acceptor->doors[i]->event, NULL);
		else
			event_del(acceptor->doors[i]->event);
	}
}

static void open_reserve(struct acceptor *acceptor)
{
	if (acceptor->reserve < 0)
		acceptor->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void pause_accepting(struct acceptor *acceptor, int pause_ms)
{
	const struct timeval pause = {.tv_usec = pause_ms * 1000};
	set_accepting(acceptor, false);
	event_add(acceptor->pause_event, &pause);
}

static void on_pause_over(int fd, short what, void *context)
{
	struct acceptor *acceptor = context;
	(void)fd;
	(void)what;
	open_reserve(acceptor);
	if (!give_pending(acceptor))
		pause_accepting(acceptor, FULL_PAUSE_MS);
	else if (acceptor->reserve < 0)
		pause_accepting(acceptor, PAUSE_MS);
	else
		set_accepting(acceptor, true);
}

/* accept() found no descriptor: tells one peer, and waits. */
static void run_out(struct acceptor *acceptor, const struct listener *listener, int error)
{
	static struct diag_limit limit;
	struct handoff_item item = {.is_unix = listener->is_unix};

	diag_limited(&limit, DIAG_WARNING, "accepting connections: %s; waiting for some to close",
	             strerror(error));
	if (acceptor->reserve >= 0 && (error == EMFILE || error == ENFILE)) {
		close(acceptor->reserve);
		acceptor->reserve = -1;
		item.fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (item.fd >= 0) {
			snprintf(item.refusal, sizeof item.refusal,
			         "ERR too-many open files (limits.max_connections is above what "
			         "the system allows); the connection closes\n");
			(void)give(acceptor, &item);
		}
	}
	pause_accepting(acceptor, PAUSE_MS);
}

static void on_connection(int fd, short what, void *context)
{
	struct door *door = context;
	struct acceptor *acceptor = door->acceptor;
	(void)what;

	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
		socklen_t length = sizeof address;
		struct handoff_item item = {.is_unix = door->listener.is_unix};

		item.fd = accept4(fd, (struct sockaddr *)&address, &length,
		                  SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (item.fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			    errno == ENOMEM)
				run_out(acceptor, &door->listener, errno);
			/* Else nothing waits, or the peer that did has gone. */
			return;
		}
		tune(acceptor, item.fd, item.is_unix);
		item.peer = peer_key_of((const struct sockaddr *)&address);
		admit(acceptor, &item);
		if (!give(acceptor, &item)) {
			pause_accepting(acceptor, FULL_PAUSE_MS);
			return;
		}
	}
}

/* ---- listening ---- */

struct listener *acceptor_add(struct acceptor *acceptor, const struct listener *listener)
{
	if (acceptor->door_count == DOORS_MAX)
		return NULL;
	struct door *door = malloc(sizeof *door);
	if (door == NULL)
		return NULL;
	*door = (struct door){.acceptor = acceptor, .listener = *listener};
	door->event =
		event_new(acceptor->base, listener->fd, EV_READ | EV_PERSIST, on_connection, door);
	if (door->event == NULL || event_add(door->event, NULL) != 0) {
		if (door->event != NULL)
			event_free(door->event);
		free(door);
		return NULL;
	}
	acceptor->doors[acceptor->door_count++] = door;
	return &door->listener;
}

void acceptor_remove(struct acceptor *acceptor, struct listener *listener)
{
	size_t i = 0;

	while (&acceptor->doors[i]->listener != listener)
		i++;
	struct door *door = acceptor->doors[i];
	acceptor->doors[i] = acceptor->doors[--acceptor->door_count];
	event_free(door->event);
	listener_close(&door->listener);
	free(door);
}

struct listener *acceptor_listener(const struct acceptor *acceptor, size_t nth)
{
	return nth < acceptor->door_count ? &acceptor->doors[nth]->listener : NULL;
}

/* ---- life ---- */

struct acceptor *acceptor_new(struct event_base *base, struct hub *hub, struct worker **workers,
                              size_t worker_count, const struct acceptor_options *options)
{
	struct acceptor *acceptor = aligned_alloc(CACHE_LINE, sizeof *acceptor);
	if (acceptor == NULL)
		return NULL;
	memset(acceptor, 0, sizeof *acceptor);
	acceptor->base = base;
	acceptor->hub = hub;
	acceptor->workers = workers;
	acceptor->worker_count = worker_count;
	acceptor->options = *options;
	acceptor->counters.lowest_position = UINT64_MAX;
	acceptor->reserve = -1;
	open_reserve(acceptor);
	acceptor->pause_event = evtimer_new(base, on_pause_over, acceptor);
	if (acceptor->reserve < 0 || acceptor->pause_event == NULL) {
		acceptor_free(acceptor);
		return NULL;
	}
	return acceptor;
}

void acceptor_set_options(struct acceptor *acceptor, const struct acceptor_options *options)
{
	acceptor->options = *options;
}

void acceptor_stop(struct acceptor *acceptor)
{
	while (acceptor->door_count > 0)
		acceptor_remove(acceptor, &acceptor->doors[acceptor->door_count - 1]->listener);
	if (acceptor->pause_event != NULL)
		event_del(acceptor->pause_event);
}

void acceptor_free(struct acceptor *acceptor)
{
	if (acceptor == NULL)
		return;
	acceptor_stop(acceptor);
	if (acceptor->pause_event != NULL)
		event_free(acceptor->pause_event);
	if (acceptor->reserve >= 0)
		close(acceptor->reserve);
	if (acceptor->has_pending)
		close(acceptor->pending.fd);
	free(acceptor);
}

const struct counters *acceptor_counters(const struct acceptor *acceptor)
{
	return &acceptor->counters;
}
