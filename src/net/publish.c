/* SPDX-License-Identifier: MIT */
#include "net/publish.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"

static void count_error(struct conn *conn)
{
	atomic64_count(&conn->worker->counters.publish_errors_total, 1);
}

void publish_add(struct conn *conn, const struct command *command, size_t end)
{
	struct worker *worker = conn->worker;
	struct batch *batch = &worker->batch;
	struct message *message = &batch->messages[batch->count];

	assert(batch->count < BATCH_MAX);
	batch->ends[batch->count++] = end;
	message->payload = command->payload.at;
	message->payload_size = (uint32_t)command->payload.n;
	if (command->verb == VERB_LINE) {
		message->topic = conn->lines->topic;
		message->topic_size = conn->lines->topic_size;
		message->topic_hash = conn->lines->topic_hash;
		return;
	}
	message->topic = command->topic.at;
	message->topic_size = (uint32_t)command->topic.n;
	message->topic_hash = topic_hash(log_hash_key(worker->hub->log), command->topic);
}

/* The answers of the first `n` of the batch, which have been appended. */
static void acknowledge(struct conn *conn, size_t n)
{
	const struct message *messages = conn->worker->batch.messages;
	char text[BATCH_MAX * (sizeof "OK \n" + 20)];
	size_t size = 0;

	conn_hold(conn, messages[n - 1].id);
	if (conn->lines != NULL) {
		conn->lines->number += n;
		conn->lines->count += n;
		conn->lines->last_id = messages[n - 1].id;
		return;
	}
	if (conn->acks_off)
		return;
	for (size_t i = 0; i < n; i++) {
		memcpy(text + size, "OK ", 3);
		size += 3;
		size += decimal_write(text + size, messages[i].id);
		text[size++] = '\n';
	}
	conn_answer(conn, text, size);
}

/* A publish that can't be executed is refused; in LINES that is the end. */
static void refuse_publish(struct conn *conn, enum error_code code, const char *text)
{
	if (conn->lines != NULL) {
		publish_refuse_line(conn, code, text);
		conn_finish(conn, false, BYE_QUIT);
		return;
	}
	count_error(conn);
	conn_error(conn, code, text);
}

/* Refuses what is in the batch from the nth on. */
static void refuse_rest(struct conn *conn, size_t nth, enum error_code code, const char *text)
{
	struct batch *batch = &conn->worker->batch;
	for (size_t i = nth; i < batch->count && conn->state == CONN_OPEN; i++)
		refuse_publish(conn, code, text);
}

static void note_appended(struct conn *conn, size_t n, size_t begin)
{
	struct worker *worker = conn->worker;
	struct batch *batch = &worker->batch;
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += batch->messages[i].payload_size;
	atomic64_count(&worker->counters.published_total, n);
	atomic64_count(&worker->counters.published_bytes_total, bytes);
	worker->must_ring = true;
	size_t size = batch->ends[n - 1] - begin;
	conn->grace -= conn->grace < size ? conn->grace : size;
	conn->executed++;
	acknowledge(conn, n);
}

bool publish_flush(struct conn *conn, size_t *at)
{
	struct worker *worker = conn->worker;
	struct batch *batch = &worker->batch;
	size_t done = 0, begin = *at;
	bool is_done = true;

	if (batch->count == 0)
		return true;
	if (conn->is_swept && worker->phase >= PHASE_STOPPING && conn->grace == 0) {
		refuse_rest(conn, 0, ERROR_SHUTTING_DOWN, "the broker stops");
		*at = batch->ends[batch->count - 1];
		batch->count = 0;
		return true;
	}
	epoch_enter(&worker->epoch);
	enum log_verdict verdict =
		log_append(worker->hub->log, batch->messages, batch->count, &done);
	epoch_leave(&worker->epoch);
	if (done > 0) {
		note_appended(conn, done, begin);
		*at = batch->ends[done - 1];
	}
	switch (verdict) {
	case LOG_APPENDED:
		break;
	case LOG_NO_SEGMENT:
		conn_starve(conn);
		is_done = false;
		break;
	case LOG_FULL:
		refuse_rest(conn, done, ERROR_LOG_FULL,
		            "nothing more can be stored, try again later");
		*at = batch->ends[batch->count - 1];
		break;
	case LOG_FAILED:
		refuse_rest(conn, done, ERROR_LOG_FAILED,
		            "messages don't get to the disk, nothing is taken until a restart");
		*at = batch->ends[batch->count - 1];
		break;
	}
	batch->count = 0;
	return is_done;
}

void publish_begin_lines(struct conn *conn, const struct command *command)
{
	if (conn->use != FOLLOW_NONE) {
		conn_error(
			conn, ERROR_BAD_ARGUMENT,
			"LINES can't be used on a connection with a subscription; the connection closes");
		conn_close_after_answers(conn);
		return;
	}
	struct lines *lines = malloc(sizeof *lines + command->topic.n);
	if (lines == NULL) {
		conn->is_lost = true;
		return;
	}
	*lines = (struct lines){.number = 1, .topic_size = (uint8_t)command->topic.n};
	lines->topic_hash = topic_hash(log_hash_key(conn->worker->hub->log), command->topic);
	memcpy(lines->topic, command->topic.at, command->topic.n);
	conn->lines = lines;
	parser_enter_lines(&conn->parser);
	conn_answer(conn, "OK\n", 3);
}

void publish_refuse_line(struct conn *conn, enum error_code code, const char *text)
{
	count_error(conn);
	conn_answerf(conn, "ERR %s line %llu %s\n", error_word(code),
	             (unsigned long long)conn->lines->number++, text);
}
