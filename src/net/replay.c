/* SPDX-License-Identifier: MIT */
#include "net/replay.h"

#include <assert.h>

#include "base/clock.h"
#include "net/session.h"

/* A start, resolved. */
struct begin {
	uint64_t position;
	uint64_t head;
	uint64_t first;
	uint64_t seek;      /* LAST */
	bool is_other_log;  /* the position is another log's: all of this one, after a gap */
	bool is_ahead;      /* refused */
	bool is_cold;       /* not resolved yet: it has to be looked for on the disk */
	bool asks_for_kept; /* a loss before the first message is none */
};

static bool is_read(const struct command *command)
{
	return command->verb == VERB_READ || command->verb == VERB_CAT;
}

/* Of SINCE: in Unix microseconds. */
static uint64_t oldest_time(const struct start *start)
{
	uint64_t now_us = clock_wall_us();

	if (start->kind == START_SINCE)
		return start->time_us;
	return start->time_us < now_us ? now_us - start->time_us : 0;
}

static struct begin resolve(struct conn *conn, const struct command *command)
{
	struct worker *worker = conn->worker;
	struct log *log = worker->hub->log;
	const struct start *start = &command->start;
	struct begin begin = {.asks_for_kept = true};
	struct block cold;

	epoch_enter(&worker->epoch);
	/* The first before the head: what is kept can only shrink from the old end. */
	begin.first = log_first(log);
	begin.head = log_head(log);
	switch (start->kind) {
	case START_NONE:
		begin.position = is_read(command) ? begin.first - 1 : begin.head;
		break;
	case START_AFTER:
		begin.asks_for_kept = false;
		begin.is_other_log = start->has_log && start->log != log_identity(log);
		begin.is_ahead = !begin.is_other_log && start->id > begin.head;
		begin.position = begin.is_other_log ? begin.first - 1 : start->id;
		break;
	case START_LAST:
		begin.position = begin.head;
		begin.seek = start->id;
		break;
	case START_SINCE:
	case START_AGE:
		begin.position = log_find_time(log, oldest_time(start), &cold) - 1;
		begin.is_cold = cold.segment != NULL;
		break;
	}
	if (begin.is_cold)
		log_want(log, &cold);
	epoch_leave(&worker->epoch);
	return begin;
}

static void refuse(struct conn *conn, const struct command *command, enum error_code code,
                   const char *text)
{
	bool closes = command->verb == VERB_TAIL || command->verb == VERB_CAT;
	conn_answerf(conn, "ERR %s %s%s\n", error_word(code), text,
	             closes ? "; the connection closes" : "");
	if (closes)
		conn_close_after_answers(conn);
}

/* What the connection is already used for, and how many patterns it may have. False: refused. */
static bool may_begin(struct conn *conn, const struct command *command)
{
	struct worker *worker = conn->worker;

	if (conn->use != FOLLOW_NONE && command->verb != VERB_SUB) {
		refuse(conn, command, ERROR_BAD_ARGUMENT,
		       "this connection has a subscription: use another one");
		return false;
	}
	if (conn->use != FOLLOW_NONE && command->start.kind != START_NONE) {
		refuse(conn, command, ERROR_BAD_ARGUMENT,
		       "a start needs a connection without subscription: UNSUB first");
		return false;
	}
	if (fanout_count_patterns(worker->fanout, &conn->follower, command->words) >
	    limit_get(&worker->hub->limits.max_patterns)) {
		refuse(conn, command, ERROR_TOO_MANY,
		       "more patterns than limits.max_patterns allows");
		return false;
	}
	return true;
}

static void say_other_log(struct conn *conn, const struct begin *begin)
{
	conn_answerf(conn, "GAP 1 %llu %s\n", (unsigned long long)begin->first - 1,
	             gap_word(GAP_OTHER_LOG));
}

enum { NEAR_HEAD = 512 }; /* messages: looked at in less than a slice */

/* Adds patterns to a subscription, from its position on. */
static void extend(struct conn *conn, const struct command *command)
{
	struct fanout *fanout = conn->worker->fanout;

	/* One that is nearly at the head goes there first: "from now on" then means what the client
	 * thinks. */
	if (session_head(conn) - fanout_position(fanout, &conn->follower) <= NEAR_HEAD)
		fanout_advance(fanout, &conn->follower);
	if (conn->is_lost)
		return;
	uint64_t position = fanout_position(fanout, &conn->follower);
	if (fanout_add_patterns(fanout, &conn->follower, command->words, false) != 0) {
		conn->is_lost = true;
		return;
	}
	session_say_position(conn, "OK", position);
}

static void start_follower(struct conn *conn, const struct command *command,
                           const struct begin *begin)
{
	struct follower *follower = &conn->follower;

	follower->position = begin->position;
	follower->seek = begin->seek;
	follower->limit = command->limit > 0 ? command->limit : FOLLOW_FOREVER;
	follower->end = is_read(command) ? begin->head : FOLLOW_FOREVER;
	follower->quiet_to = begin->asks_for_kept && command->verb != VERB_SUB ? begin->head : 0;
	fanout_start(conn->worker->fanout, follower);
}

bool replay_begin(struct conn *conn, const struct command *command)
{
	static const enum follow_use uses[] = {
		[VERB_SUB] = FOLLOW_SUB,
		[VERB_READ] = FOLLOW_READ,
		[VERB_TAIL] = FOLLOW_TAIL,
		[VERB_CAT] = FOLLOW_CAT,
	};
	struct worker *worker = conn->worker;

	if (!may_begin(conn, command))
		return true;
	if (conn->use == FOLLOW_SUB) {
		extend(conn, command);
		return true;
	}
	struct begin begin = resolve(conn, command);
	if (begin.is_cold) {
		conn->stall = STALL_COLD;
		conn_wait_until_warm(conn);
		return false;
	}
	if (begin.is_ahead) {
		refuse(conn, command, ERROR_AHEAD_OF_LOG, "no message has that id yet");
		return true;
	}
	bool is_bare = command->verb == VERB_TAIL || command->verb == VERB_CAT;
	if (fanout_add_patterns(worker->fanout, &conn->follower, command->words, is_bare) != 0) {
		conn->is_lost = true;
		return true;
	}
	conn->use = uses[command->verb];
	conn->is_deaf = is_bare;
	if (conn->use == FOLLOW_SUB || conn->use == FOLLOW_TAIL)
		atomic64_count(&worker->counters.subscribers, 1);
	if (conn->use == FOLLOW_SUB && begin.seek == 0)
		session_say_position(conn, "OK", begin.is_other_log ? 0 : begin.position);
	if (begin.is_other_log)
		say_other_log(conn, &begin);
	start_follower(conn, command, &begin);
	return true;
}

bool replay_is_running(const struct conn *conn)
{
	return conn->use == FOLLOW_READ || conn->use == FOLLOW_CAT ||
	       (conn->use == FOLLOW_SUB && (conn->follower.seek > 0 || conn->has_found));
}

void replay_found(struct conn *conn)
{
	if (conn->use == FOLLOW_SUB)
		session_say_position(conn, "OK", conn->follower.position);
}

void replay_arrived(struct conn *conn)
{
	struct follower *follower = &conn->follower;

	switch (conn->use) {
	case FOLLOW_READ:
		/* With its limit used up it stands at the last message, else at its end. */
		session_say_position(conn, "END",
		                     follower->limit == 0 ? follower->position : follower->end);
		/* fall through */
	case FOLLOW_CAT:
		fanout_leave(conn->worker->fanout, follower);
		if (conn->use == FOLLOW_CAT)
			conn_finish(conn, false, BYE_QUIT);
		conn->use = FOLLOW_NONE;
		break;
	case FOLLOW_NONE:
	case FOLLOW_SUB:
	case FOLLOW_TAIL:
		break; /* the end of a subscription: session_farewell() */
	}
}
