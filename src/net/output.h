/* SPDX-License-Identifier: MIT */
/*
 * output: the bytes that a connection owes its peer, other than whole messages of the log.
 *
 *      rest of a message cut short | answers that may go | answers held | ... later messages
 *
 * Answers stand in the order of the commands. Those of publishes are held until the head has
 * reached the id that they name: at most two such borders are kept, so that a stream of publishes
 * moves the second one on while the first is waited for. The rest of a message that a short write
 * has cut is a copy when it is small, else a reference into the log: nothing pins the log.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_OUTPUT_H
#define PSAD_NET_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
	OUTPUT_ANSWERS_MAX = 64 << 10, /* with so many bytes waiting no command is executed */
	OUTPUT_REST_MAX = 4 << 10,     /* a longer rest is a reference */
};

/* All zero is an empty one. */
struct output {
	struct buf answers;
	uint64_t appended; /* bytes of answers since the beginning: an offset in the stream */
	struct {
		uint64_t at; /* bytes from this offset on ... */
		uint64_t id; /* ... wait for this id */
	} held[2];
	unsigned held_count;

	char *rest; /* a copy, or NULL */
	uint32_t rest_size, rest_sent;
	uint64_t rest_id; /* a reference where not 0: the message, and the first byte not sent */
	uint32_t rest_from;
};

/* Appends to the answers. 0 or -ENOMEM. */
int output_append(struct output *output, const void *bytes, size_t n);
/* Puts bytes behind the answers that may go and before those held. 0 or -ENOMEM. */
int output_insert(struct output *output, const void *bytes, size_t n);
/* What is appended from here on waits until the head has reached `id`. Ids only grow. */
void output_hold(struct output *output, uint64_t id);
/* The head has reached `head`. Returns whether nothing is held any more. */
bool output_release(struct output *output, uint64_t head);
/* What is held will never go: it is dropped, and nothing is held then. */
void output_forget_held(struct output *output);
static inline bool output_is_settled(const struct output *output)
{
	return output->held_count == 0;
}
/* Bytes of answers that may go now; they stand at buf_begin(&output->answers). */
size_t output_ready(const struct output *output);
/* Nothing has to go before the next message of the log. */
static inline bool output_is_clear(const struct output *output)
{
	return output->rest == NULL && output->rest_id == 0 && output_ready(output) == 0;
}
/* Nothing is left to be sent, held or not. */
static inline bool output_is_empty(const struct output *output)
{
	return output->rest == NULL && output->rest_id == 0 && buf_size(&output->answers) == 0;
}

/* Keeps the rest of message `id`: n bytes at `rest`, of which the first is byte `from` of it. There
 * is none yet. 0 or -ENOMEM. */
int output_owe(struct output *output, uint64_t id, uint32_t from, const char *rest, uint32_t n);
/* Where the rest is a reference, of which the n bytes at `rest` are left, and n is small enough: it
 * becomes a copy. 0 or -ENOMEM. */
int output_keep_rest(struct output *output, const char *rest, size_t n);
/*
 * n bytes went, in the order rest (of which `rest_size` bytes were left), then answers.
 */
void output_sent(struct output *output, size_t rest_size, size_t n);

void output_clear(struct output *output);

#endif
