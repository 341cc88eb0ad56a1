/* SPDX-License-Identifier: MIT */
#include "net/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "net/intake.h"
#include "net/publish.h"
#include "net/replay.h"

static const char http_refusal[] = "HTTP/1.1 400 Bad Request\r\n"
				   "Content-Type: text/plain\r\n"
				   "Content-Length: 29\r\n"
				   "Connection: close\r\n"
				   "\r\n"
				   "This port speaks psad only.\r\n";

enum { SHARE_US = 500 }; /* of one connection's commands in a turn; one more may be begun */

uint64_t session_head(struct conn *conn)
{
	struct worker *worker = conn->worker;
	epoch_enter(&worker->epoch);
	uint64_t head = log_head(worker->hub->log);
	epoch_leave(&worker->epoch);
	return head;
}

void session_say_position(struct conn *conn, const char *word, uint64_t id)
{
	struct position_text text = position_format(id, log_identity(conn->worker->hub->log));
	conn_answerf(conn, "%s %s\n", word, text.at);
}

static uint64_t own_position(struct conn *conn)
{
	return conn->use == FOLLOW_SUB || conn->use == FOLLOW_TAIL
	               ? fanout_position(conn->worker->fanout, &conn->follower)
	               : session_head(conn);
}

/* ---- simple commands ---- */

static void write_lines(struct conn *conn, int (*write)(void *, struct buf *))
{
	struct worker *worker = conn->worker;
	struct buf text = {.memory = NULL};

	epoch_enter(&worker->epoch);
	int error = write(worker->hub->context, &text);
	epoch_leave(&worker->epoch);
	if (error != 0)
		conn->is_lost = true;
	else
		conn_answer(conn, buf_begin(&text), buf_size(&text));
	buf_clear(&text);
}

static void do_help(struct conn *conn)
{
	const char *line;
	/* What returns at once with every netcat comes first. */
	conn_answerf(conn, "HELP try: printf 'PUB news hello\\nQUIT\\n' | nc localhost 9853\n");
	for (size_t i = 0; (line = verb_help(i)) != NULL; i++)
		conn_answerf(conn, "HELP %s\n", line);
	conn_answer(conn, "END\n", 4);
}

static void do_unsub(struct conn *conn, const struct command *command)
{
	struct fanout *fanout = conn->worker->fanout;
	uint64_t position = own_position(conn);

	if (fanout_remove_patterns(fanout, &conn->follower, command->words) != 0) {
		conn->is_lost = true;
		return;
	}
	if (conn->use == FOLLOW_SUB && conn->follower.set == NULL) {
		conn->use = FOLLOW_NONE;
		atomic64_count(&conn->worker->counters.subscribers, (uint64_t)-1);
	}
	session_say_position(conn, "OK", position);
}

static void do_quit(struct conn *conn)
{
	if (conn->follower.state != FOLLOWER_IDLE)
		fanout_set_end(conn->worker->fanout, &conn->follower, session_head(conn));
	conn_finish(conn, true, BYE_QUIT);
}

/* ---- dispatch ---- */

/* Everything that this connection has published is part of the head (and synced, where asked). */
static bool is_settled(struct conn *conn)
{
	if (!output_is_settled(&conn->output))
		conn_settle(conn, session_head(conn));
	return output_is_settled(&conn->output);
}

/* Carries out a command other than a publish. False: it has to wait, conn->stall says for what. */
static bool execute(struct conn *conn, const struct command *command)
{
	if (!is_settled(conn)) {
		conn->stall = STALL_PREFIX;
		return false;
	}
	switch (command->verb) {
	case VERB_LINES:
		publish_begin_lines(conn, command);
		break;
	case VERB_SUB:
	case VERB_READ:
	case VERB_TAIL:
	case VERB_CAT:
		return replay_begin(conn, command);
	case VERB_UNSUB:
		do_unsub(conn, command);
		break;
	case VERB_ACKS:
		conn->acks_off = !command->acks_on;
		conn_answer(conn, "OK\n", 3);
		break;
	case VERB_PING:
		session_say_position(conn, "PONG", own_position(conn));
		break;
	case VERB_INFO:
		write_lines(conn, conn->worker->hub->write_info);
		break;
	case VERB_STATS:
		write_lines(conn, conn->worker->hub->write_stats);
		break;
	case VERB_HELP:
		do_help(conn);
		break;
	case VERB_QUIT:
		do_quit(conn);
		break;
	case VERB_PUB:
	case VERB_PUT:
	case VERB_LINE:
		assert(!"publishes are batched");
	}
	return true;
}

/* Whether a refusal is that of a publish: only they have these. */
static bool is_of_publish(enum error_code code)
{
	return code == ERROR_BAD_TOPIC || code == ERROR_PAYLOAD_TOO_LARGE ||
	       code == ERROR_LINE_TOO_LONG || code == ERROR_BAD_FRAMING;
}

static void refuse(struct conn *conn, const struct refusal *refusal)
{
	static struct diag_limit limit;

	if (conn->lines == NULL && is_of_publish(refusal->code))
		atomic64_count(&conn->worker->counters.publish_errors_total, 1);
	if (refusal->is_http)
		conn_answer(conn, http_refusal, sizeof http_refusal - 1);
	else if (conn->lines != NULL)
		publish_refuse_line(conn, refusal->code, refusal->text);
	else
		conn_error(conn, refusal->code, refusal->text);
	if (refusal->closes) {
		diag_limited(&limit, DIAG_INFO, "closing %s: %s %s", peer_describe(conn->fd).text,
		             refusal->is_http ? "an HTTP request:" : error_word(refusal->code),
		             refusal->text);
		conn_close_after_answers(conn);
	}
}

static bool is_publish(const struct command *command)
{
	return command->verb == VERB_PUB || command->verb == VERB_PUT || command->verb == VERB_LINE;
}

bool session_is_stalled(const struct conn *conn)
{
	switch (conn->stall) {
	case STALL_NONE:
		return false;
	case STALL_ANSWERS:
		return buf_size(&conn->output.answers) >= OUTPUT_ANSWERS_MAX;
	case STALL_PREFIX:
		return !output_is_settled(&conn->output);
	case STALL_SEGMENT:
		return conn->is_starved;
	case STALL_REPLAY:
		return replay_is_running(conn);
	case STALL_COLD:
		return conn->is_cold;
	case STALL_TURN:
		return conn->stalled_turn == conn->worker->turn;
	}
	return false;
}

static void note_executed(struct conn *conn, size_t size)
{
	conn->executed++;
	conn->grace -= conn->grace < size ? conn->grace : size;
}

/* What one look at the bytes came to. */
enum step { STEP_ON, STEP_WAIT };

/* Carries out what parser_next() said. `at` is where the command begins, `*at` moves past it. */
static enum step take(struct conn *conn, enum parser_verdict verdict, const struct command *command,
                      const struct refusal *refusal, size_t *at)
{
	switch (verdict) {
	case PARSER_COMMAND:
		if (!execute(conn, command))
			return STEP_WAIT;
		break;
	case PARSER_REFUSED:
		refuse(conn, refusal);
		break;
	case PARSER_NOTHING:
		break;
	case PARSER_PARTIAL:
		return STEP_WAIT;
	}
	*at += command->size;
	if (verdict != PARSER_NOTHING)
		note_executed(conn, command->size);
	return STEP_ON;
}

size_t session_execute(struct conn *conn, const char *bytes, size_t n)
{
	struct worker *worker = conn->worker;
	const struct parser_limits limits = {.max_payload =
	                                             limit_get(&worker->hub->limits.max_payload)};
	size_t at = 0;     /* behind the last command executed */
	size_t parsed = 0; /* behind the last one parsed: `at`, or publishes in the batch between */
	const uint64_t end_us = clock_mono_us() + SHARE_US;

	worker->batch.count = 0;
	conn->need = 0;
	while (conn->state == CONN_OPEN && !conn->is_lost && !conn->is_deaf) {
		if (parsed == n || worker->batch.count == BATCH_MAX) {
			if (!publish_flush(conn, &at) || parsed == n)
				break;
		}
		if (buf_size(&conn->output.answers) >= OUTPUT_ANSWERS_MAX) {
			if (publish_flush(conn, &at))
				conn->stall = STALL_ANSWERS;
			break;
		}
		if (replay_is_running(conn)) {
			conn->stall = STALL_REPLAY;
			break;
		}
		if (worker->batch.count == 0 && at > 0 && clock_mono_us() >= end_us) {
			conn->stall = STALL_TURN;
			conn->stalled_turn = worker->turn;
			break;
		}
		/* What is parsed behind the batch is forgotten where the batch has to wait. */
		const struct parser before = conn->parser;
		struct command command;
		struct refusal refusal;
		enum parser_verdict verdict =
			parser_next(&conn->parser, &limits, bytes + parsed, n - parsed, &command,
		                    &conn->need, &refusal);
		if (verdict == PARSER_COMMAND && is_publish(&command)) {
			parsed += command.size;
			publish_add(conn, &command, parsed);
			continue;
		}
		if (!publish_flush(conn, &at)) {
			conn->parser = before;
			conn->need = 0;
			break;
		}
		if (conn->state != CONN_OPEN)
			break;
		parsed = at;
		if (take(conn, verdict, &command, &refusal, &parsed) == STEP_WAIT) {
			if (verdict == PARSER_COMMAND) {
				conn->parser = before;
				conn->need = 0;
			}
			break;
		}
		at = parsed;
	}
	if (conn->parser.state == PARSER_CLOSED)
		conn_close_after_answers(conn);
	return conn->is_deaf || conn->state != CONN_OPEN ? n : at;
}

/* ---- the ends ---- */

void session_follow_up(struct conn *conn)
{
	if (conn->has_found) {
		conn->has_found = false;
		replay_found(conn);
	}
	if (conn->has_arrived) {
		conn->has_arrived = false;
		replay_arrived(conn);
	}
}

void session_end_of_input(struct conn *conn)
{
	bool is_cut_short = buf_size(&conn->input) > 0;

	if (conn->is_deaf || conn->state != CONN_OPEN)
		return;
	if (is_cut_short && conn->lines != NULL)
		publish_refuse_line(conn, ERROR_TRUNCATED, "the last line has no end");
	else if (is_cut_short)
		conn_error(conn, ERROR_TRUNCATED,
		           conn->use == FOLLOW_SUB
		                   ? "the input ended inside a command"
		                   : "the input ended inside a command; the connection closes");
	intake_drop(conn);
	if (conn->use == FOLLOW_SUB)
		return; /* goes on receiving */
	conn_finish(conn, false, BYE_QUIT);
}

bool session_is_between_commands(const struct conn *conn)
{
	if (conn->state != CONN_OPEN || replay_is_running(conn))
		return false;
	if (conn->is_deaf)
		return true;
	return conn->stall == STALL_NONE && conn->sweep_left == 0 && buf_size(&conn->input) == 0 &&
	       (conn->saw_eof || conn->parser.state != PARSER_DROP_BODY);
}

void session_drain(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->lines != NULL)
		publish_refuse_line(conn, ERROR_SHUTTING_DOWN,
		                    "the broker stops; the connection closes");
	if (conn->follower.state != FOLLOWER_IDLE)
		fanout_set_end(worker->fanout, &conn->follower, worker->hub->drain_head);
	conn_finish(conn, conn->lines == NULL && !conn->is_deaf, BYE_SHUTTING_DOWN);
}

void session_farewell(struct conn *conn)
{
	if (conn->lines != NULL)
		conn_answerf(conn, "OK %llu %llu\n", (unsigned long long)conn->lines->count,
		             (unsigned long long)conn->lines->last_id);
	if (conn->says_bye) {
		char word[32] = "BYE ";
		strncat(word, bye_word(conn->bye), sizeof word - 5);
		session_say_position(conn, word, own_position(conn));
	}
	conn_close_after_answers(conn);
}
