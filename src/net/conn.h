/* SPDX-License-Identifier: MIT */
/*
 * conn: one connection: its socket, what has come in and not been executed, what is to go out.
 *
 *              EOF without patterns,
 *              QUIT, stop, idle           all owed is said           all is sent
 *        OPEN ---------------> FINISHING -----------------> FLUSHING ------------> LINGERING
 *          |                                                ^     |                    |
 *          +-- an error that closes, a refused connection --+     | peer's end seen    | its end,
 *          |                                                      v                    v 1 s
 *          +-- lost, cut (of any state) ------------------------> DEAD <---------------+
 *
 * conn_drive() is the one loop that moves a connection on; conn.c's conn_become() the one place
 * where a state changes. What commands mean is session.c's; this file knows bytes.
 *
 * Thread: the owner worker, all of it.
 */
#ifndef PSAD_NET_CONN_H
#define PSAD_NET_CONN_H

#include <event2/event_struct.h>

#include "net/output.h"
#include "net/worker.h"
#include "wire/command.h"

enum conn_state {
	CONN_OPEN,      /* commands are executed */
	CONN_FINISHING, /* none any more; waits until all that is owed has been said */
	CONN_FLUSHING,  /* the last bytes are on their way */
	CONN_LINGERING, /* our side is shut down; input is dropped until the peer's end, or 1 s */
	CONN_DEAD,      /* closed; freed at the end of the turn */
};

/* Why commands that have come are not executed now. */
enum stall {
	STALL_NONE,
	STALL_ANSWERS, /* the peer does not take its answers */
	STALL_PREFIX,  /* a publish before is not yet part of the head */
	STALL_SEGMENT, /* there is no room in the log for a moment */
	STALL_REPLAY,  /* READ is being answered, or a start is being sought */
	STALL_TURN,    /* it has had its share of this turn */
	STALL_COLD,    /* what says where to begin has to be brought into memory */
};

/* What the follower is used for. */
enum follow_use {
	FOLLOW_NONE,
	FOLLOW_SUB,
	FOLLOW_TAIL,
	FOLLOW_READ,
	FOLLOW_CAT,
};

/* A LINES command under way. */
struct lines {
	uint64_t number; /* of the line being read, from 1 */
	uint64_t count;  /* published */
	uint64_t last_id;
	uint32_t topic_hash;
	uint8_t topic_size;
	char topic[];
};

struct conn {
	struct worker *worker;
	int fd;
	enum conn_state state;

	/* Input: bytes not executed yet. */
	struct parser parser;
	struct buf input;
	size_t need;     /* bytes of input that make the command complete, where known; else 0 */
	size_t reserved; /* of hub->input_memory */
	enum stall stall;
	bool is_reading; /* the read event is added */
	bool saw_eof;
	bool is_deaf; /* TAIL, CAT: what comes is dropped */

	/* Session. */
	enum follow_use use;
	bool acks_off;
	bool has_found;   /* the follower's start has been found: say so, and go on */
	bool has_arrived; /* the follower has reached its end */
	bool is_lost;     /* to be cut when we are out of the fan-out's calls */
	bool says_bye;
	enum bye_reason bye;
	struct lines *lines;
	struct follower follower;
	uint64_t last_id; /* newest id published here */

	/* Stopping: bytes that had been received and are still to be read. */
	bool is_swept;
	uint64_t sweep_left;
	uint64_t grace; /* is_swept: bytes of input within which publishes may still begin */

	struct output output;

	/* It counts as a connection (a refused one does not); the write event is added; it is on
	 * the worker's list `ready`, `unsettled`, `starved`, `cold`. */
	bool is_counted, is_writing, is_queued, is_held, is_starved, is_cold;
	bool has_sent; /* bytes, since TIMER_PROGRESS was started */
	int unsent;    /* bytes that the kernel had of us then */
	struct peer_key peer;
	enum timer_kind timer; /* the one that runs; it is on that list of worker->timed */
	uint32_t executed;     /* commands executed or refused, to tell one body from the next */
	uint32_t timer_mark;   /* `executed` when the timer was looked at last */
	uint64_t timer_start_ms;
	uint64_t stalled_turn; /* STALL_TURN: the turn in which it was stalled */
	TAILQ_ENTRY(conn) all, ready, unsettled, starved, cold, timed;
	struct event read_event, write_event;
};

/* Takes over a socket that was handed over, or closes it where there is no memory. */
void conn_open(struct worker *worker, const struct handoff_item *item);

/* Runs until the connection must wait, has had its share of the turn, or is done. It may be DEAD
 * then, but is still there: the worker frees it at the end of the turn. */
void conn_drive(struct conn *conn);

/* Appends to the answers; where there is no memory the connection is cut. */
void conn_answer(struct conn *conn, const void *bytes, size_t n);
void conn_answerf(struct conn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "ERR <code> <text>". */
void conn_error(struct conn *conn, enum error_code code, const char *text);

/* The answer to what is appended next waits until the head has reached `id`. */
void conn_hold(struct conn *conn, uint64_t id);
/* The head has moved: lets go what may. */
void conn_settle(struct conn *conn, uint64_t head);
/* The head will not move any more: instead of what waits for it the client gets an error, and the
 * connection closes. */
void conn_refuse_held(struct conn *conn);

/* STALL_SEGMENT: commands wait for room in the log; driven again when the log has changed. */
void conn_starve(struct conn *conn);

/* Driven again when the socket takes bytes. */
void conn_wait_to_write(struct conn *conn);
/* Driven again when something has been brought into memory. */
void conn_wait_until_warm(struct conn *conn);

/* No more commands; when all that is owed has been said, "BYE <reason> <position>" where
 * says_bye, and the close. */
void conn_finish(struct conn *conn, bool says_bye, enum bye_reason bye);
/* What has been answered is sent, then the connection closes. Not within a call of the fan-out. */
void conn_close_after_answers(struct conn *conn);
/* Closes at once. Not within a call of the fan-out: set is_lost there. */
void conn_kill(struct conn *conn);
/* As conn_kill, for a peer that we had to give up: counted and told. */
void conn_cut(struct conn *conn);
/* Only counts and tells: it is to be cut. */
void conn_note_cut(struct conn *conn);

/* The timer of its kind has expired. */
void conn_expire(struct conn *conn);
/* The worker's phase has changed. */
void conn_change_phase(struct conn *conn);

#endif
