/* SPDX-License-Identifier: MIT */
/*
 * worker: a thread with an event loop of its own, its connections and its fan-out.
 *
 * One turn:  callbacks (read, parse, append)  ->  ring the others once  ->  release answers  ->
 *            walk the log and write to followers, about a millisecond  ->  drive what became ready
 *            ->  sleep for sockets and the log at once (log/wake.h), or not at all if there is more
 *
 * A connection belongs to one worker from hand-off to close, and to nobody else.
 */
#ifndef PSAD_NET_WORKER_H
#define PSAD_NET_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/queue.h>

#include "base/beat.h"
#include "net/counters.h"
#include "net/fanout.h"
#include "net/handoff.h"
#include "net/hub.h"

struct conn;
TAILQ_HEAD(conn_list, conn);

/* Deadlines of one kind are equally long, so that each list is in order of expiry. */
enum timer_kind {
	TIMER_NONE,
	TIMER_IDLE,
	TIMER_PUT,
	TIMER_LINGER,
	TIMER_PEER,     /* half-closed: is the peer still there? */
	TIMER_PROGRESS, /* finishing or flushing: it has taken nothing of what it is owed */
	TIMER_KINDS,
};

enum {
	BATCH_MAX = 64,             /* publishes that share a claim */
	READ_BYTES = 64 << 10,      /* of one read */
	READ_BYTES_SHORT = 4 << 10, /* while there is no room in the log, or the round is used up */
	/* Taken from all connections in a round (fanout.h) in which followers are behind: of each
	 * of them a round sends at least as much. Otherwise limits.round_bytes. */
	ROUND_BYTES_BEHIND = 256 << 10,
	GATHER_BYTES = 64 << 10, /* in a turn: publishers are ahead of us */
	TURN_READ_US = 2000,     /* of one turn of the loop */
};

/* The publishes of one connection that have been parsed and not yet appended. */
struct batch {
	size_t count;
	size_t ends[BATCH_MAX]; /* where each ends in the bytes being executed */
	struct message messages[BATCH_MAX];
};

struct worker {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	_Alignas(CACHE_LINE) struct sleeper sleeper;
	struct counters counters;
	struct beat beat; /* raised with each turn */

	_Alignas(CACHE_LINE) struct hub *hub;
	struct fanout *fanout;
	struct event_base *base;
	struct event *ring_event, *tick_event, *patrol_event;
	struct handoff *handoff;
	pthread_t thread;
	unsigned number;

	struct conn_list conns;     /* all of them, by `all` */
	struct conn_list ready;     /* to be driven, by `ready` */
	struct conn_list unsettled; /* with answers held, by `unsettled` */
	struct conn_list starved;   /* waiting for room in the log, by `starved` */
	struct conn_list cold;      /* waiting for log_warmed() to change, by `cold` */
	struct conn_list dead;      /* to be freed at the end of the turn, by `all` */
	struct conn_list timed[TIMER_KINDS];
	bool is_ticking;
	bool is_on_patrol;

	char *scratch;       /* READ_BYTES: what was read last */
	size_t scratch_size; /* how much of it a read may fill */
	struct batch batch;
	uint64_t turn;        /* number of the present one */
	uint64_t read_left;   /* of this round's allowance */
	uint64_t turn_read;   /* bytes read in the last turn */
	uint64_t read_end_us; /* no more reading in this turn from then on; 0: not begun */
	uint64_t limits_seen; /* hub->limits.version when the timers were chosen */
	uint64_t warmed;      /* log_warmed() when those that are cold were last let on */
	bool must_ring;       /* something was appended since the last ring */
	enum phase phase;
	uint64_t unswept; /* connections whose received commands are not all executed yet */
	bool has_reported;
};

/* Made, not running. NULL and errno: no memory or descriptors. Thread: startup. */
struct worker *worker_new(struct hub *hub, unsigned number);
/* 0 or a negative errno. Thread: startup. */
int worker_start(struct worker *worker);
/* Thread: main; returns when the thread has ended. */
void worker_join(struct worker *worker);
void worker_free(struct worker *worker);

/* Hands a socket over. False: the ring is full. Thread: the acceptor. */
bool worker_give(struct worker *worker, const struct handoff_item *item);
/* Wakes the worker, to look at hub->phase, or to show that it lives. Thread: any. */
void worker_poke(struct worker *worker);

/* The connection is driven before the worker sleeps. Thread: owner, like all below. */
void worker_make_ready(struct worker *worker, struct conn *conn);
/* (Re)starts the connection's one timer, or stops it (TIMER_NONE). */
void worker_set_timer(struct worker *worker, struct conn *conn, enum timer_kind kind);
/* The first thing in every callback. */
void worker_stir(struct worker *worker);

#endif
