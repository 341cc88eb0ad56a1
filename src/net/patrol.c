/* SPDX-License-Identifier: MIT */
#include "net/patrol.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "net/conn.h"

enum {
	LOOKS_MAX = 256, /* at a time: about a quarter of a millisecond */
	REST_MS = 10,    /* between two times, however many connections there are */
	ASKED_OFTEN = 2, /* repetitions or probes: one alone may be lost */
};

/* Two looks in the time of keepalive, so that nobody is missed for much longer than that. */
static uint64_t rest_ms(const struct worker *worker)
{
	uint64_t round_ms = limit_get(&worker->hub->limits.keepalive_ms) / 2;
	uint64_t count = atomic64_load_relaxed(&worker->counters.connections); /* our own */
	uint64_t rest = count > LOOKS_MAX ? round_ms * LOOKS_MAX / count : round_ms;

	return rest < REST_MS ? REST_MS : rest;
}

static bool is_dead(const struct conn *conn, uint64_t silence_ms)
{
	struct tcp_info info = {.tcpi_state = 0};
	socklen_t size = sizeof info;

	/* A Unix socket has no such thing, and needs none. */
	if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
		return false;
	/* With no room on the other side nothing is on its way, and probes ask for room. */
	unsigned asked = info.tcpi_unacked > 0 ? info.tcpi_retransmits : info.tcpi_probes;
	return asked >= ASKED_OFTEN && info.tcpi_last_ack_recv > silence_ms;
}

static void on_patrol(int fd, short what, void *context)
{
	struct worker *worker = context;
	uint64_t silence_ms = 2 * limit_get(&worker->hub->limits.keepalive_ms);
	uint64_t looks = atomic64_load_relaxed(&worker->counters.connections); /* our own */
	(void)fd;
	(void)what;

	worker_stir(worker);
	worker->is_on_patrol = false;
	if (looks > LOOKS_MAX)
		looks = LOOKS_MAX;
	for (; looks > 0 && !TAILQ_EMPTY(&worker->conns); looks--) {
		struct conn *conn = TAILQ_FIRST(&worker->conns);
		/* Nobody relies on their order, so the list itself says who is next. */
		TAILQ_REMOVE(&worker->conns, conn, all);
		TAILQ_INSERT_TAIL(&worker->conns, conn, all);
		if (silence_ms > 0 && is_dead(conn, silence_ms))
			conn_kill(conn);
	}
	if (!TAILQ_EMPTY(&worker->conns))
		patrol_begin(worker);
}

int patrol_make(struct worker *worker)
{
	worker->patrol_event = evtimer_new(worker->base, on_patrol, worker);
	return worker->patrol_event != NULL ? 0 : -ENOMEM;
}

void patrol_begin(struct worker *worker)
{
	uint64_t ms = rest_ms(worker);
	const struct timeval rest = {.tv_sec = (time_t)(ms / 1000),
	                             .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	if (!worker->is_on_patrol && event_add(worker->patrol_event, &rest) == 0)
		worker->is_on_patrol = true;
}
