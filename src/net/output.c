/* SPDX-License-Identifier: MIT */
#include "net/output.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int output_append(struct output *output, const void *bytes, size_t n)
{
	int error = buf_append(&output->answers, bytes, n);
	if (error == 0)
		output->appended += n;
	return error;
}

int output_insert(struct output *output, const void *bytes, size_t n)
{
	size_t ready = output_ready(output);
	size_t held = buf_size(&output->answers) - ready;
	int error = output_append(output, bytes, n);

	if (error != 0 || held == 0)
		return error;
	char *border = buf_begin(&output->answers) + ready;
	memmove(border + n, border, held);
	memcpy(border, bytes, n);
	for (unsigned i = 0; i < output->held_count; i++)
		output->held[i].at += n;
	return 0;
}

void output_hold(struct output *output, uint64_t id)
{
	if (output->held_count < 2)
		output->held[output->held_count++].at = output->appended;
	output->held[output->held_count - 1].id = id;
}

bool output_release(struct output *output, uint64_t head)
{
	while (output->held_count > 0 && output->held[0].id <= head) {
		output->held[0] = output->held[1];
		output->held_count--;
	}
	return output->held_count == 0;
}

void output_forget_held(struct output *output)
{
	size_t n = buf_size(&output->answers) - output_ready(output);

	output->held_count = 0;
	output->appended -= n;
	buf_cut(&output->answers, n);
}

size_t output_ready(const struct output *output)
{
	size_t size = buf_size(&output->answers);
	if (output->held_count == 0)
		return size;
	/* Offsets: what is buffered begins at appended - size. */
	return size - (size_t)(output->appended - output->held[0].at);
}

int output_owe(struct output *output, uint64_t id, uint32_t from, const char *rest, uint32_t n)
{
	assert(output->rest == NULL && output->rest_id == 0 && n > 0);
	if (n > OUTPUT_REST_MAX) {
		output->rest_id = id;
		output->rest_from = from;
		return 0;
	}
	output->rest = malloc(n);
	if (output->rest == NULL)
		return -ENOMEM;
	memcpy(output->rest, rest, n);
	output->rest_size = n;
	output->rest_sent = 0;
	return 0;
}

int output_keep_rest(struct output *output, const char *rest, size_t n)
{
	uint64_t id = output->rest_id;

	if (id == 0 || n == 0 || n > OUTPUT_REST_MAX)
		return 0;
	output->rest_id = 0;
	return output_owe(output, id, output->rest_from, rest, (uint32_t)n);
}

void output_sent(struct output *output, size_t rest_size, size_t n)
{
	size_t of_rest = n < rest_size ? n : rest_size;

	if (output->rest != NULL) {
		output->rest_sent += (uint32_t)of_rest;
		if (output->rest_sent == output->rest_size) {
			free(output->rest);
			output->rest = NULL;
		}
	} else if (output->rest_id != 0) {
		output->rest_from += (uint32_t)of_rest;
		if (of_rest == rest_size)
			output->rest_id = 0;
	}
	if (n > of_rest)
		buf_consume(&output->answers, n - of_rest);
}

void output_clear(struct output *output)
{
	free(output->rest);
	buf_clear(&output->answers);
	*output = (struct output){.rest = NULL};
}
