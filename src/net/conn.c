/* SPDX-License-Identifier: MIT */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/diag.h"
#include "net/intake.h"
#include "net/outlet.h"
#include "net/patrol.h"
#include "net/session.h"

enum {
	CONN_READ_BYTES = 256 << 10, /* of one connection in one turn */
};

/* ---- states ---- */

static void stop_reading(struct conn *conn)
{
	if (conn->is_reading)
		event_del(&conn->read_event);
	conn->is_reading = false;
}

/* Nothing would ever tell that there is something to do for it: it ends when it is driven. */
static void lose(struct conn *conn)
{
	conn->is_lost = true;
	worker_make_ready(conn->worker, conn);
}

static void start_reading(struct conn *conn)
{
	if (conn->is_reading || conn->saw_eof)
		return;
	if (event_add(&conn->read_event, NULL) == 0)
		conn->is_reading = true;
	else
		lose(conn);
}

static void stop_waiting_to_write(struct conn *conn)
{
	if (conn->is_writing)
		event_del(&conn->write_event);
	conn->is_writing = false;
}

void conn_wait_to_write(struct conn *conn)
{
	if (conn->is_writing)
		return;
	if (event_add(&conn->write_event, NULL) == 0)
		conn->is_writing = true;
	else
		lose(conn);
}

static void conn_become(struct conn *conn, enum conn_state state)
{
	/* The drawing in conn.h. */
	assert(state > conn->state);
	conn->state = state;
}

static bool is_idle_timed(const struct conn *conn)
{
	return conn->state == CONN_OPEN && conn->use != FOLLOW_SUB && conn->use != FOLLOW_TAIL &&
	       limit_get(&conn->worker->hub->limits.idle_timeout_ms) > 0;
}

/* Bytes that the kernel has taken and the peer has not, roughly; 0 where it does not say. */
static int count_unsent(const struct conn *conn)
{
	int n = 0;
	return ioctl(conn->fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

static void start_progress_timer(struct conn *conn)
{
	worker_set_timer(conn->worker, conn, TIMER_PROGRESS);
	conn->has_sent = false;
	conn->unsent = count_unsent(conn);
}

/* Which timer should run: one is enough, the body's goes before the idle one. */
static void choose_timer(struct conn *conn, bool had_traffic)
{
	enum timer_kind kind = TIMER_NONE;
	bool in_body = conn->parser.in_body || conn->parser.state == PARSER_DROP_BODY;

	if (conn->state == CONN_LINGERING)
		kind = TIMER_LINGER;
	else if (conn->state == CONN_FINISHING || conn->state == CONN_FLUSHING)
		kind = TIMER_PROGRESS;
	else if (conn->saw_eof)
		kind = TIMER_PEER;
	else if (conn->state == CONN_OPEN && in_body && conn->stall == STALL_NONE)
		kind = TIMER_PUT;
	else if (is_idle_timed(conn))
		kind = TIMER_IDLE;
	/* Each body has the whole time to itself. */
	bool is_another_body = kind == TIMER_PUT && conn->timer_mark != conn->executed;
	bool is_renewed = had_traffic && (kind == TIMER_IDLE || kind == TIMER_PROGRESS);
	if (kind != conn->timer || is_another_body || is_renewed) {
		if (kind == TIMER_PROGRESS)
			start_progress_timer(conn);
		else
			worker_set_timer(conn->worker, conn, kind);
	}
	conn->timer_mark = conn->executed;
}

void conn_kill(struct conn *conn)
{
	struct worker *worker = conn->worker;
	struct hub *hub = worker->hub;

	if (conn->state == CONN_DEAD)
		return;
	conn_become(conn, CONN_DEAD);
	if (conn->use == FOLLOW_SUB || conn->use == FOLLOW_TAIL)
		atomic64_count(&worker->counters.subscribers, (uint64_t)-1);
	fanout_leave(worker->fanout, &conn->follower);
	stop_reading(conn);
	stop_waiting_to_write(conn);
	worker_set_timer(worker, conn, TIMER_NONE);
	if (conn->is_queued)
		TAILQ_REMOVE(&worker->ready, conn, ready);
	if (conn->is_held)
		TAILQ_REMOVE(&worker->unsettled, conn, unsettled);
	if (conn->is_starved)
		TAILQ_REMOVE(&worker->starved, conn, starved);
	if (conn->is_cold)
		TAILQ_REMOVE(&worker->cold, conn, cold);
	if (!conn->is_swept && worker->phase >= PHASE_STOPPING)
		worker->unswept--;
	intake_drop(conn);
	close(conn->fd);
	if (conn->is_counted) {
		peers_leave(hub->peers, &conn->peer);
		atomic64_add(&hub->connections, -(uint64_t)1);
		atomic64_count(&worker->counters.connections, (uint64_t)-1);
	} else {
		atomic64_add(&hub->refused, -(uint64_t)1);
	}
	output_clear(&conn->output);
	free(conn->lines);
	TAILQ_REMOVE(&worker->conns, conn, all);
	TAILQ_INSERT_TAIL(&worker->dead, conn, all);
}

void conn_note_cut(struct conn *conn)
{
	static struct diag_limit limit;

	atomic64_count(&conn->worker->counters.cut_total, 1);
	diag_limited(&limit, DIAG_NOTICE, "cutting %s: it does not take what it is sent",
	             peer_describe(conn->fd).text);
}

void conn_cut(struct conn *conn)
{
	if (conn->state != CONN_DEAD)
		conn_note_cut(conn);
	conn_kill(conn);
}

void conn_finish(struct conn *conn, bool says_bye, enum bye_reason bye)
{
	if (conn->state != CONN_OPEN)
		return;
	conn->says_bye = says_bye;
	conn->bye = bye;
	conn_become(conn, CONN_FINISHING);
	worker_make_ready(conn->worker, conn);
}

void conn_close_after_answers(struct conn *conn)
{
	if (conn->state >= CONN_FLUSHING)
		return;
	fanout_leave(conn->worker->fanout, &conn->follower);
	conn_become(conn, CONN_FLUSHING);
	worker_make_ready(conn->worker, conn);
}

/* ---- answers ---- */

void conn_answer(struct conn *conn, const void *bytes, size_t n)
{
	if (output_append(&conn->output, bytes, n) != 0)
		conn->is_lost = true;
	worker_make_ready(conn->worker, conn);
}

void conn_answerf(struct conn *conn, const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	assert(n >= 0 && (size_t)n < sizeof text);
	conn_answer(conn, text, (size_t)n);
}

void conn_error(struct conn *conn, enum error_code code, const char *text)
{
	conn_answerf(conn, "ERR %s %s\n", error_word(code), text);
}

void conn_hold(struct conn *conn, uint64_t id)
{
	output_hold(&conn->output, id);
	if (!conn->is_held)
		TAILQ_INSERT_TAIL(&conn->worker->unsettled, conn, unsettled);
	conn->is_held = true;
}

void conn_settle(struct conn *conn, uint64_t head)
{
	size_t before = output_ready(&conn->output);
	bool is_settled = output_release(&conn->output, head);
	if (is_settled) {
		TAILQ_REMOVE(&conn->worker->unsettled, conn, unsettled);
		conn->is_held = false;
	}
	if (is_settled || output_ready(&conn->output) != before)
		worker_make_ready(conn->worker, conn);
}

void conn_refuse_held(struct conn *conn)
{
	output_forget_held(&conn->output);
	TAILQ_REMOVE(&conn->worker->unsettled, conn, unsettled);
	conn->is_held = false;
	conn_error(conn, ERROR_LOG_FAILED,
	           "messages don't get to the disk: what was not acknowledged may be lost; the "
	           "connection closes");
	conn_close_after_answers(conn);
}

void conn_starve(struct conn *conn)
{
	conn->stall = STALL_SEGMENT;
	if (!conn->is_starved)
		TAILQ_INSERT_TAIL(&conn->worker->starved, conn, starved);
	conn->is_starved = true;
}

void conn_wait_until_warm(struct conn *conn)
{
	if (!conn->is_cold)
		TAILQ_INSERT_TAIL(&conn->worker->cold, conn, cold);
	conn->is_cold = true;
}

/* ---- input ---- */

static void see_end(struct conn *conn)
{
	conn->saw_eof = true;
	conn->sweep_left = 0;
	stop_reading(conn);
	if (conn->state == CONN_LINGERING)
		conn_kill(conn);
}

/* One read. Returns the bytes that came; 0 when there are none now, or no more will come. */
static size_t read_some(struct conn *conn)
{
	size_t wanted;
	char *place = intake_place(conn, &wanted);
	if (place == NULL)
		return 0;
	ssize_t n = read(conn->fd, place, wanted);
	if (n < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			conn_kill(conn);
		return 0;
	}
	if (n == 0) {
		see_end(conn);
		return 0;
	}
	conn->worker->turn_read += (size_t)n;
	conn->sweep_left -= conn->sweep_left < (size_t)n ? conn->sweep_left : (size_t)n;
	if (place == conn->worker->scratch) {
		intake_take(conn, place, (size_t)n);
	} else {
		buf_grow(&conn->input, (size_t)n);
		intake_execute(conn);
	}
	return (size_t)n == wanted ? (size_t)n : 0;
}

static bool wants_input(const struct conn *conn)
{
	if (conn->saw_eof || conn->is_lost)
		return false;
	return conn->state == CONN_LINGERING ||
	       (conn->state == CONN_OPEN && (conn->stall == STALL_NONE || conn->is_deaf));
}

static void on_readable(int fd, short what, void *context)
{
	struct conn *conn = context;
	struct worker *worker = conn->worker;
	size_t taken = 0;
	(void)fd;
	(void)what;

	worker_stir(worker);
	if (!wants_input(conn)) {
		stop_reading(conn);
		return;
	}
	/* What is left in the socket is there at the next turn. */
	if (worker->read_end_us == 0)
		worker->read_end_us = clock_mono_us() + TURN_READ_US;
	/* Where the round's allowance is used up by some, others still get a word in. */
	size_t most = worker->read_left > 0 ? CONN_READ_BYTES : 1;
	while (wants_input(conn) && taken < most &&
	       (conn->state == CONN_LINGERING || clock_mono_us() < worker->read_end_us)) {
		if (worker->read_left == 0)
			worker->scratch_size = READ_BYTES_SHORT;
		size_t n = read_some(conn);
		taken += n;
		worker->read_left -= worker->read_left < n ? worker->read_left : n;
		if (n == 0)
			break;
	}
	if (conn->state != CONN_DEAD) {
		choose_timer(conn, true);
		worker_make_ready(worker, conn);
	}
}

static void on_writable(int fd, short what, void *context)
{
	struct conn *conn = context;
	(void)fd;
	(void)what;

	worker_stir(conn->worker);
	conn->is_writing = false; /* not persistent */
	choose_timer(conn, true);
	worker_make_ready(conn->worker, conn);
}

/* ---- the drive ---- */

/* OPEN: executes what can be, answers what has come of it. */
static void drive_session(struct conn *conn)
{
	session_follow_up(conn);
	while (conn->state == CONN_OPEN && !conn->is_lost && buf_size(&conn->input) > 0 &&
	       !conn->is_deaf && conn->stall != STALL_NONE && !session_is_stalled(conn)) {
		conn->stall = STALL_NONE;
		intake_execute(conn);
	}
	if (conn->stall != STALL_NONE && !session_is_stalled(conn))
		conn->stall = STALL_NONE;
	if (conn->state == CONN_OPEN && conn->saw_eof && conn->stall == STALL_NONE)
		session_end_of_input(conn);
	if (conn->state == CONN_OPEN && conn->worker->phase >= PHASE_DRAINING &&
	    session_is_between_commands(conn))
		session_drain(conn);
}

/* Stopping: notes when what had been received is executed. */
static void look_at_sweep(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->is_swept || worker->phase < PHASE_STOPPING)
		return;
	/* Whoever does not take answers, or is being replayed to, can't hold up the others. */
	if (conn->state == CONN_OPEN &&
	    (conn->stall == STALL_PREFIX || conn->stall == STALL_SEGMENT ||
	     conn->stall == STALL_TURN || (conn->stall == STALL_NONE && conn->sweep_left > 0)))
		return;
	conn->is_swept = true;
	conn->grace = buf_size(&conn->input) + conn->sweep_left;
	worker->unswept--;
}

/* True when the state has changed, or commands can go on: drive again. */
static bool drive_once(struct conn *conn)
{
	enum conn_state state = conn->state;

	if (state == CONN_OPEN)
		drive_session(conn);
	if (state == CONN_FINISHING) {
		session_follow_up(conn);
		if (conn->follower.state == FOLLOWER_IDLE && output_is_settled(&conn->output))
			session_farewell(conn);
	}
	if (conn->is_lost) {
		conn_kill(conn);
		return false;
	}
	if (conn->state == CONN_DEAD)
		return false;
	if (conn->state != CONN_OPEN)
		intake_drop(conn);
	switch (outlet_flush(conn)) {
	case FLUSH_LOST:
		conn_kill(conn);
		return false;
	case FLUSH_CUT:
		conn_cut(conn);
		return false;
	case FLUSH_BLOCKED:
	case FLUSH_COLD:
		return conn->state != state;
	case FLUSH_DONE:
		break;
	}
	if (!conn->is_writing && !conn->has_found)
		fanout_resume(conn->worker->fanout, &conn->follower);
	if (conn->state == CONN_FLUSHING && output_is_empty(&conn->output)) {
		if (conn->saw_eof || shutdown(conn->fd, SHUT_WR) != 0) {
			conn_kill(conn);
			return false;
		}
		conn_become(conn, CONN_LINGERING);
	}
	/* Its answers were taken: its commands go on in the next turn, behind the others'. */
	if (conn->stall == STALL_ANSWERS && !session_is_stalled(conn))
		worker_make_ready(conn->worker, conn);
	return conn->state != state;
}

void conn_drive(struct conn *conn)
{
	if (conn->state == CONN_DEAD)
		return;
	while (drive_once(conn))
		;
	if (conn->state == CONN_DEAD)
		return;
	look_at_sweep(conn);
	if (conn->stall == STALL_TURN)
		worker_make_ready(conn->worker, conn);
	if (wants_input(conn))
		start_reading(conn);
	choose_timer(conn, false);
}

/* ---- from the worker ---- */

/* A half-closed peer has no read event: nothing else tells that it is gone altogether. */
static bool is_peer_gone(const struct conn *conn)
{
	struct pollfd peer = {.fd = conn->fd};
	return poll(&peer, 1, 0) == 1 && (peer.revents & (POLLERR | POLLHUP)) != 0;
}

/*
 * It is the peer that has taken nothing, and not we who wait for the log or the disk. Of one that takes
 * little the kernel may not say for long that it can be written to, but it has less of it.
 */
static bool is_peer_stuck(const struct conn *conn)
{
	return conn->is_writing && !conn->has_sent && count_unsent(conn) >= conn->unsent;
}

void conn_expire(struct conn *conn)
{
	switch (conn->timer) {
	case TIMER_PEER:
		if (is_peer_gone(conn))
			conn_kill(conn);
		else
			worker_set_timer(conn->worker, conn, TIMER_PEER);
		return;
	case TIMER_PROGRESS:
		if (is_peer_stuck(conn))
			conn_cut(conn);
		else if (is_peer_gone(conn))
			conn_kill(conn);
		else
			start_progress_timer(conn);
		return;
	case TIMER_LINGER:
		conn_kill(conn);
		return;
	case TIMER_PUT:
		conn_error(
			conn, ERROR_TRUNCATED,
			"the body was not complete within limits.put_timeout; the connection closes");
		conn_close_after_answers(conn);
		break;
	case TIMER_IDLE:
		conn_finish(conn, true, BYE_IDLE);
		break;
	case TIMER_NONE:
	case TIMER_KINDS:
		break;
	}
	worker_set_timer(conn->worker, conn, TIMER_NONE);
}

/* What the kernel holds for us now has been received; it is executed before we stop. */
static void begin_sweep(struct conn *conn)
{
	int waiting = 0;

	conn->worker->unswept++;
	if (conn->state == CONN_OPEN && !conn->saw_eof && !conn->is_deaf &&
	    ioctl(conn->fd, FIONREAD, &waiting) == 0 && waiting > 0)
		conn->sweep_left = (uint64_t)waiting;
}

void conn_change_phase(struct conn *conn)
{
	switch (conn->worker->phase) {
	case PHASE_RUNNING:
		break;
	case PHASE_STOPPING:
		begin_sweep(conn);
		break;
	case PHASE_DRAINING:
		break;
	case PHASE_ENDING:
		conn_kill(conn);
		return;
	}
	worker_make_ready(conn->worker, conn);
}

void conn_open(struct worker *worker, const struct handoff_item *item)
{
	struct conn *conn = calloc(1, sizeof *conn);
	bool is_refused = item->refusal[0] != '\0';

	if (conn == NULL) {
		close(item->fd);
		if (is_refused) {
			atomic64_add(&worker->hub->refused, -(uint64_t)1);
		} else {
			peers_leave(worker->hub->peers, &item->peer);
			atomic64_add(&worker->hub->connections, -(uint64_t)1);
		}
		return;
	}
	conn->worker = worker;
	conn->fd = item->fd;
	conn->peer = item->peer;
	conn->is_counted = !is_refused;
	conn->is_swept = worker->has_reported;
	parser_init(&conn->parser);
	TAILQ_INSERT_TAIL(&worker->conns, conn, all);
	patrol_begin(worker);
	event_assign(&conn->read_event, worker->base, conn->fd, EV_READ | EV_PERSIST, on_readable,
	             conn);
	event_assign(&conn->write_event, worker->base, conn->fd, EV_WRITE, on_writable, conn);
	if (conn->is_counted) {
		atomic64_count(&worker->counters.connections, 1);
		atomic64_count(&worker->counters.connections_total, 1);
	} else {
		conn_answer(conn, item->refusal, strlen(item->refusal));
		conn_become(conn, CONN_FLUSHING);
	}
	/* It was on its way when the signal came: what it has sent is executed like the others'. */
	if (worker->phase >= PHASE_STOPPING && !conn->is_swept)
		begin_sweep(conn);
	if (worker->phase == PHASE_ENDING)
		conn_kill(conn);
	worker_make_ready(worker, conn);
}
