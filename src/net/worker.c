/* SPDX-License-Identifier: MIT */
#include "net/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/thread.h"
#include "net/conn.h"
#include "net/outlet.h"

enum {
	TICK_MS = 100,    /* how exact timers are */
	LINGER_MS = 1000, /* SPEC: reads on for up to a second */
	PEER_MS = 5000,
	PROGRESS_MS = 30000,
};

/* ---- timers ---- */

static uint64_t timer_length_ms(const struct worker *worker, enum timer_kind kind)
{
	switch (kind) {
	case TIMER_IDLE:
		return limit_get(&worker->hub->limits.idle_timeout_ms);
	case TIMER_PUT:
		return limit_get(&worker->hub->limits.put_timeout_ms);
	case TIMER_LINGER:
		return LINGER_MS;
	case TIMER_PEER:
		return PEER_MS;
	case TIMER_PROGRESS:
		return PROGRESS_MS;
	case TIMER_NONE:
	case TIMER_KINDS:
		break;
	}
	return 0;
}

static void start_ticking(struct worker *worker)
{
	const struct timeval interval = {.tv_usec = TICK_MS * 1000};
	if (!worker->is_ticking && event_add(worker->tick_event, &interval) == 0)
		worker->is_ticking = true;
}

void worker_set_timer(struct worker *worker, struct conn *conn, enum timer_kind kind)
{
	if (conn->timer != TIMER_NONE)
		TAILQ_REMOVE(&worker->timed[conn->timer], conn, timed);
	conn->timer = kind;
	if (kind == TIMER_NONE)
		return;
	conn->timer_start_ms = clock_mono_ms();
	TAILQ_INSERT_TAIL(&worker->timed[kind], conn, timed);
	start_ticking(worker);
}

static void on_tick(int fd, short what, void *context)
{
	struct worker *worker = context;
	uint64_t now_ms = clock_mono_ms();
	bool has_more = false;
	(void)fd;
	(void)what;

	worker_stir(worker);
	worker->is_ticking = false;
	for (int kind = TIMER_NONE + 1; kind < TIMER_KINDS; kind++) {
		struct conn *conn;
		/* Of the length as it is now: a reload may have changed it. */
		uint64_t length_ms = timer_length_ms(worker, kind);
		while ((conn = TAILQ_FIRST(&worker->timed[kind])) != NULL &&
		       conn->timer_start_ms + length_ms <= now_ms)
			conn_expire(conn);
		has_more = has_more || conn != NULL;
	}
	if (has_more)
		start_ticking(worker);
}

/* ---- the turn ---- */

void worker_stir(struct worker *worker)
{
	wake_stir(&worker->sleeper);
}

void worker_make_ready(struct worker *worker, struct conn *conn)
{
	if (conn->is_queued || conn->state == CONN_DEAD)
		return;
	conn->is_queued = true;
	TAILQ_INSERT_TAIL(&worker->ready, conn, ready);
}

/* The eventfd: edge-triggered and never read; being awake is all that is asked. */
static void on_ring(int fd, short what, void *context)
{
	(void)fd;
	(void)what;
	worker_stir(context);
}

/* The upcall of log/wake.h: sleeps until a socket, a timer or a ring. */
static void turn(void *context)
{
	struct worker *worker = context;
	(void)event_base_loop(worker->base, EVLOOP_ONCE);
}

static void take_handoffs(struct worker *worker)
{
	struct handoff_item item;
	while (handoff_take(worker->handoff, &item))
		conn_open(worker, &item);
}

/* There may be room in the log again: whoever waits for it tries. */
static void feed_starved(struct worker *worker)
{
	struct conn *conn;
	while ((conn = TAILQ_FIRST(&worker->starved)) != NULL) {
		TAILQ_REMOVE(&worker->starved, conn, starved);
		conn->is_starved = false;
		worker_make_ready(worker, conn);
	}
}

/* Something has been brought into memory: whoever waits for that looks whether it was it. */
static void thaw(struct worker *worker)
{
	/* Before any look at the log: what is found to be cold behind this changes it later. */
	uint64_t warmed = log_warmed(worker->hub->log);
	struct conn *conn;

	if (warmed == worker->warmed)
		return;
	worker->warmed = warmed;
	while ((conn = TAILQ_FIRST(&worker->cold)) != NULL) {
		TAILQ_REMOVE(&worker->cold, conn, cold);
		conn->is_cold = false;
		worker_make_ready(worker, conn);
	}
}

/* Lets go the answers whose messages have become part of the head. */
static void settle(struct worker *worker)
{
	struct conn *conn, *next;

	if (TAILQ_EMPTY(&worker->unsettled))
		return;
	epoch_enter(&worker->epoch);
	bool is_final = log_is_final(worker->hub->log); /* before the head: it is that head, then */
	uint64_t head = log_head(worker->hub->log);
	epoch_leave(&worker->epoch);
	for (conn = TAILQ_FIRST(&worker->unsettled); conn != NULL; conn = next) {
		next = TAILQ_NEXT(conn, unsettled); /* a settled one leaves the list */
		conn_settle(conn, head);
		if (is_final && conn->is_held)
			conn_refuse_held(conn);
	}
}

static void ring_others(struct worker *worker)
{
	if (worker->must_ring)
		log_announce(worker->hub->log);
	worker->must_ring = false;
}

/* Drives each connection that is ready once; what becomes ready meanwhile waits. */
static void drive_ready(struct worker *worker)
{
	struct conn *last = TAILQ_LAST(&worker->ready, conn_list);
	struct conn *conn = NULL;

	while (conn != last && (conn = TAILQ_FIRST(&worker->ready)) != NULL) {
		TAILQ_REMOVE(&worker->ready, conn, ready);
		conn->is_queued = false;
		conn_drive(conn);
	}
}

static void bury_dead(struct worker *worker)
{
	struct conn *conn;
	while ((conn = TAILQ_FIRST(&worker->dead)) != NULL) {
		TAILQ_REMOVE(&worker->dead, conn, all);
		free(conn);
	}
}

static void follow_phase(struct worker *worker)
{
	enum phase phase = hub_phase(worker->hub);
	struct conn *conn, *next;

	while (worker->phase < phase) {
		worker->phase++;
		for (conn = TAILQ_FIRST(&worker->conns); conn != NULL; conn = next) {
			next = TAILQ_NEXT(conn, all); /* it may be killed */
			conn_change_phase(conn);
		}
	}
}

/* The limits have changed: each connection chooses its timer anew. */
static void follow_limits(struct worker *worker)
{
	uint64_t version = limit_get(&worker->hub->limits.version);
	struct conn *conn;

	if (version == worker->limits_seen)
		return;
	worker->limits_seen = version;
	TAILQ_FOREACH(conn, &worker->conns, all)
		worker_make_ready(worker, conn);
}

/* Stopping: tells the server once that all that had been received is executed. */
static void report_stopped(struct worker *worker)
{
	if (worker->phase < PHASE_STOPPING || worker->unswept > 0 || worker->has_reported)
		return;
	worker->has_reported = true;
	atomic32_add(&worker->hub->stopped_workers, 1);
	worker->hub->report(worker->hub->context);
}

/* All work between two turns of the loop. Returns whether there is more at once. */
static bool work(struct worker *worker)
{
	follow_phase(worker);
	follow_limits(worker);
	take_handoffs(worker);
	feed_starved(worker);
	thaw(worker);
	ring_others(worker);
	settle(worker);
	drive_ready(worker);
	ring_others(worker); /* driving may publish */
	bool is_busy = fanout_step(worker->fanout,
	                           worker->turn_read >= GATHER_BYTES && worker->read_left > 0);
	settle(worker);
	bury_dead(worker);
	report_stopped(worker);
	return is_busy || !TAILQ_EMPTY(&worker->ready);
}

static bool is_concerned_with_log(const struct worker *worker)
{
	return fanout_is_following(worker->fanout) || !TAILQ_EMPTY(&worker->unsettled) ||
	       !TAILQ_EMPTY(&worker->starved) || !TAILQ_EMPTY(&worker->cold);
}

static bool is_done(const struct worker *worker)
{
	return worker->phase >= PHASE_DRAINING && worker->has_reported &&
	       TAILQ_EMPTY(&worker->conns);
}

/* How much may be read in the coming turn. */
static void allow_reading(struct worker *worker)
{
	uint64_t most = limit_get(&worker->hub->limits.round_bytes);

	switch (fanout_round(worker->fanout)) {
	case ROUND_UNDER_WAY: /* what is left of its allowance */
		break;
	case ROUND_DONE_SOME_BEHIND:
		worker->read_left = most < ROUND_BYTES_BEHIND ? most : ROUND_BYTES_BEHIND;
		break;
	case ROUND_DONE:
		worker->read_left = most;
		break;
	}
	worker->turn_read = 0;
	worker->read_end_us = 0;
	worker->scratch_size = TAILQ_EMPTY(&worker->starved) ? READ_BYTES : READ_BYTES_SHORT;
}

static void *run(void *context)
{
	struct worker *worker = context;
	struct wake *wake = worker->hub->wake;
	char name[16];

	snprintf(name, sizeof name, "psad-worker-%u", worker->number % 1000);
	pthread_setname_np(pthread_self(), name);
	for (;;) {
		/* Before the work: whatever is appended behind this look is found by the next. */
		uint64_t seen = wake_value(wake);
		bool is_busy = work(worker);
		if (is_done(worker) && !is_busy)
			break;
		worker->turn++;
		beat_raise(&worker->beat);
		allow_reading(worker);
		if (is_busy)
			(void)event_base_loop(worker->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		else if (!is_concerned_with_log(worker))
			turn(worker);
		else if (!wake_wait(wake, &worker->sleeper, seen))
			/* The log goes on; sockets must not starve for it. */
			(void)event_base_loop(worker->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	beat_end(&worker->beat);
	atomic32_add(&worker->hub->finished_workers, 1);
	worker->hub->report(worker->hub->context);
	return NULL;
}

/* ---- life ---- */

static int make_events(struct worker *worker)
{
	struct event_config *config = event_config_new();
	if (config == NULL)
		return -ENOMEM;
	/* One thread only ever touches this base; the eventfd is the door for others. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	worker->base = event_base_new_with_config(config);
	event_config_free(config);
	worker->sleeper.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->base == NULL || worker->sleeper.eventfd < 0)
		return -ENOMEM;
	worker->ring_event = event_new(worker->base, worker->sleeper.eventfd,
	                               EV_READ | EV_ET | EV_PERSIST, on_ring, worker);
	worker->tick_event = evtimer_new(worker->base, on_tick, worker);
	if (worker->ring_event == NULL || worker->tick_event == NULL ||
	    event_add(worker->ring_event, NULL) != 0)
		return -ENOMEM;
	return 0;
}

struct worker *worker_new(struct hub *hub, unsigned number)
{
	struct worker *worker = aligned_alloc(CACHE_LINE, sizeof *worker);
	if (worker == NULL)
		return NULL;
	memset(worker, 0, sizeof *worker);
	worker->hub = hub;
	worker->number = number;
	worker->sleeper = (struct sleeper){.eventfd = -1, .turn = turn, .context = worker};
	worker->counters.lowest_position = UINT64_MAX;
	TAILQ_INIT(&worker->conns);
	TAILQ_INIT(&worker->ready);
	TAILQ_INIT(&worker->unsettled);
	TAILQ_INIT(&worker->starved);
	TAILQ_INIT(&worker->cold);
	TAILQ_INIT(&worker->dead);
	for (int kind = 0; kind < TIMER_KINDS; kind++)
		TAILQ_INIT(&worker->timed[kind]);
	worker->handoff = handoff_new();
	worker->scratch = malloc(READ_BYTES);
	worker->fanout =
		fanout_new(hub->log, &worker->epoch, &worker->counters, &outlet_fanout_calls);
	if (worker->handoff == NULL || worker->scratch == NULL || worker->fanout == NULL ||
	    make_events(worker) != 0) {
		worker_free(worker);
		return NULL;
	}
	epoch_register(log_epoch(hub->log), &worker->epoch);
	wake_add(hub->wake, &worker->sleeper);
	return worker;
}

int worker_start(struct worker *worker)
{
	return thread_start(&worker->thread, run, worker);
}

void worker_join(struct worker *worker)
{
	pthread_join(worker->thread, NULL);
}

void worker_free(struct worker *worker)
{
	struct handoff_item item;

	if (worker == NULL)
		return;
	while (worker->handoff != NULL && handoff_take(worker->handoff, &item))
		close(item.fd);
	assert(TAILQ_EMPTY(&worker->conns));
	fanout_free(worker->fanout);
	if (worker->ring_event != NULL)
		event_free(worker->ring_event);
	if (worker->tick_event != NULL)
		event_free(worker->tick_event);
	if (worker->base != NULL)
		event_base_free(worker->base);
	if (worker->sleeper.eventfd >= 0)
		close(worker->sleeper.eventfd);
	handoff_free(worker->handoff);
	free(worker->scratch);
	free(worker);
}

bool worker_give(struct worker *worker, const struct handoff_item *item)
{
	if (!handoff_put(worker->handoff, item))
		return false;
	worker_poke(worker);
	return true;
}

void worker_poke(struct worker *worker)
{
	(void)eventfd_write(worker->sleeper.eventfd, 1);
}
