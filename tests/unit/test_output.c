/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=malloc */
/*
 * What a connection owes: the order of its bytes and what holds them up, by hand and against a
 * naive model. PSAD_TEST_SEED repeats the random test.
 */
#include "net/output.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static bool is_out_of_memory;

void *__wrap_malloc(size_t n)
{
	return is_out_of_memory ? NULL : __real_malloc(n);
}

static void append(struct output *output, const char *text)
{
	assert_int_equal(output_append(output, text, strlen(text)), 0);
}

static void assert_ready(const struct output *output, const char *text)
{
	assert_int_equal(output_ready(output), strlen(text));
	if (text[0] != '\0')
		assert_memory_equal(buf_begin(&output->answers), text, strlen(text));
}

static void nothing_is_owed_at_first(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	assert_true(output_is_clear(&output));
	assert_true(output_is_empty(&output));
	assert_true(output_is_settled(&output));
	assert_true(output_release(&output, 0));
	output_sent(&output, 0, 0);
	output_clear(&output);
}

static void an_answer_waits_for_its_id_and_those_before_it_do_not(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	append(&output, "one ");
	output_hold(&output, 10);
	append(&output, "two ");
	append(&output, "three ");
	assert_ready(&output, "one ");
	assert_false(output_is_settled(&output));
	assert_false(output_release(&output, 9));
	assert_ready(&output, "one ");
	output_sent(&output, 0, 4);
	assert_ready(&output, "");
	assert_true(output_is_clear(&output)); /* messages may pass what is held */
	assert_false(output_is_empty(&output));
	assert_true(output_release(&output, 10));
	assert_ready(&output, "two three ");
	output_clear(&output);
}

/* A gap that waited with an answer would come behind the messages that follow it. */
static void what_is_inserted_goes_before_the_answers_held(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	append(&output, "OK 1\n");
	output_hold(&output, 2);
	append(&output, "OK 2\n");
	output_hold(&output, 3);
	append(&output, "OK 3\n");
	assert_int_equal(output_insert(&output, "GAP 5 9 x\n", 10), 0);
	assert_ready(&output, "OK 1\nGAP 5 9 x\n");
	output_release(&output, 2);
	assert_ready(&output, "OK 1\nGAP 5 9 x\nOK 2\n");
	assert_int_equal(output_insert(&output, "GAP 10 11 x\n", 12), 0);
	output_release(&output, 3);
	assert_ready(&output, "OK 1\nGAP 5 9 x\nOK 2\nGAP 10 11 x\nOK 3\n");
	output_clear(&output);
}

static void a_stream_of_publishes_does_not_put_off_the_first_answer(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	output_hold(&output, 10);
	append(&output, "10 ");
	output_hold(&output, 20);
	append(&output, "20 ");
	output_hold(&output, 30); /* the second border moves on, and 20 waits with it */
	append(&output, "30 ");
	assert_ready(&output, "");
	assert_false(output_release(&output, 10));
	assert_ready(&output, "10 ");
	assert_false(output_release(&output, 29));
	assert_ready(&output, "10 ");
	output_hold(&output, 40); /* there is room for a second border again */
	append(&output, "40 ");
	assert_false(output_release(&output, 35));
	assert_ready(&output, "10 20 30 ");
	output_sent(&output, 0, 7);
	assert_ready(&output, "0 ");
	assert_true(output_release(&output, 40));
	assert_ready(&output, "0 40 ");
	output_clear(&output);
}

static void one_head_releases_both_borders(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	output_hold(&output, 10);
	append(&output, "a");
	output_hold(&output, 11);
	append(&output, "b");
	assert_true(output_release(&output, 11));
	assert_ready(&output, "ab");
	output_clear(&output);
}

static void a_small_rest_is_kept_and_goes_first(void **state)
{
	(void)state;
	static char bytes[OUTPUT_REST_MAX];
	struct output output = {.rest = NULL};

	memset(bytes, 'r', sizeof bytes);
	append(&output, "answer");
	assert_int_equal(output_owe(&output, 5, 100, bytes, OUTPUT_REST_MAX), 0);
	memset(bytes, 'x', sizeof bytes); /* it is a copy */
	assert_false(output_is_clear(&output));
	assert_true(output.rest != NULL && output.rest_id == 0);
	output_sent(&output, OUTPUT_REST_MAX, OUTPUT_REST_MAX - 1);
	assert_int_equal(output.rest_sent, OUTPUT_REST_MAX - 1);
	assert_int_equal(output.rest[OUTPUT_REST_MAX - 1], 'r');
	assert_ready(&output, "answer");
	output_sent(&output, 1, 3); /* the last byte and two of the answer */
	assert_null(output.rest);
	assert_ready(&output, "swer");
	output_sent(&output, 0, 4);
	assert_true(output_is_empty(&output));
	/* There may be another one now. */
	assert_int_equal(output_owe(&output, 6, 1, "z", 1), 0);
	output_sent(&output, 1, 1);
	assert_true(output_is_empty(&output));
	output_clear(&output);
}

static void a_large_rest_is_a_reference_that_moves_on(void **state)
{
	(void)state;
	static const char bytes[OUTPUT_REST_MAX + 1];
	struct output output = {.rest = NULL};

	is_out_of_memory = true; /* needs none */
	assert_int_equal(output_owe(&output, 5, 100, bytes, OUTPUT_REST_MAX + 1), 0);
	is_out_of_memory = false;
	assert_null(output.rest);
	assert_true(output.rest_id == 5);
	assert_int_equal(output.rest_from, 100);
	append(&output, "answer");
	assert_false(output_is_clear(&output));
	output_sent(&output, OUTPUT_REST_MAX + 1, OUTPUT_REST_MAX);
	assert_true(output.rest_id == 5);
	assert_int_equal(output.rest_from, 100 + OUTPUT_REST_MAX);
	output_sent(&output, 1, 2);
	assert_true(output.rest_id == 0);
	assert_ready(&output, "nswer");
	output_clear(&output);
	assert_true(output_is_empty(&output));
}

static void without_memory_a_rest_cannot_be_kept_and_is_not_half_kept(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	is_out_of_memory = true;
	int error = output_owe(&output, 5, 100, "rest", 4);
	is_out_of_memory = false;
	assert_int_equal(error, -ENOMEM);
	assert_true(output_is_empty(&output));
}

static void whoever_goes_leaves_no_memory_behind(void **state)
{
	(void)state;
	struct output output = {.rest = NULL};

	append(&output, "held");
	output_hold(&output, 7);
	append(&output, "too");
	assert_int_equal(output_owe(&output, 5, 100, "rest", 4), 0);
	output_clear(&output);
	assert_true(output_is_empty(&output) && output_is_settled(&output));
}

/* ---- the model: all bytes in the order in which they are to go ---- */

enum { ROUNDS = 200, OPERATIONS = 400, BYTES_MAX = 8 << 10 };

struct model {
	struct {
		char byte;
		uint64_t id; /* that it waits for; 0: none */
	} answers[OPERATIONS * 64];
	size_t begin, end;
	char rest[BYTES_MAX];
	size_t rest_begin, rest_end;
	uint64_t last_id, head;
};

/* How many answers may go: those before the first that waits. */
static size_t model_ready(const struct model *model)
{
	size_t i = model->begin;
	while (i < model->end && model->answers[i].id <= model->head)
		i++;
	return i - model->begin;
}

static void check(const struct output *output, const struct model *model)
{
	size_t ready = model_ready(model), rest = model->rest_end - model->rest_begin;

	/* Two borders are kept: what waits may wait longer than it must, never less. */
	assert_true(output_ready(output) <= ready);
	if (output_is_settled(output))
		assert_int_equal(output_ready(output), ready);
	assert_int_equal(buf_size(&output->answers), model->end - model->begin);
	for (size_t i = 0; i < model->end - model->begin; i++)
		assert_int_equal(buf_begin(&output->answers)[i],
		                 model->answers[model->begin + i].byte);
	assert_int_equal(output_is_clear(output), rest == 0 && output_ready(output) == 0);
	assert_int_equal(output_is_empty(output), rest == 0 && model->begin == model->end);
	if (output->rest != NULL)
		assert_memory_equal(output->rest + output->rest_sent,
		                    model->rest + model->rest_begin, rest);
	assert_int_equal(output->rest_id != 0, rest > 0 && model->rest_end > OUTPUT_REST_MAX);
	if (output->rest_id != 0)
		assert_int_equal(output->rest_from, 10 + model->rest_begin);
}

static void answer(struct output *output, struct model *model)
{
	char bytes[64];
	size_t n = random_below(sizeof bytes);

	for (size_t i = 0; i < n; i++) {
		bytes[i] = (char)next_random();
		model->answers[model->end].byte = bytes[i];
		model->answers[model->end++].id = model->last_id;
	}
	assert_int_equal(output_append(output, bytes, n), 0);
}

static void send_some(struct output *output, struct model *model)
{
	size_t rest = model->rest_end - model->rest_begin;
	size_t n = rest + output_ready(output);

	if (random_below(3))
		n = random_below((unsigned)n + 1);
	output_sent(output, rest, n);
	size_t of_rest = n < rest ? n : rest;
	model->rest_begin += of_rest;
	model->begin += n - of_rest;
}

static void owe(struct output *output, struct model *model)
{
	size_t n = 1 + random_below(random_below(2) ? 100 : BYTES_MAX - 1);

	if (model->rest_begin < model->rest_end)
		return;
	for (size_t i = 0; i < n; i++)
		model->rest[i] = (char)next_random();
	model->rest_begin = 0;
	model->rest_end = n;
	assert_int_equal(output_owe(output, 1 + random_below(9), 10, model->rest, (uint32_t)n), 0);
}

static void whatever_is_sent_goes_in_order_and_never_before_its_id(void **state)
{
	(void)state;
	struct model *model = malloc(sizeof *model);

	assert_non_null(model);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct output output = {.rest = NULL};
		memset(model, 0, sizeof *model);
		for (unsigned i = 0; i < OPERATIONS; i++) {
			switch (random_below(6)) {
			case 0:
			case 1:
				answer(&output, model);
				break;
			case 2:
				model->last_id += random_below(5);
				if (model->last_id > model->head)
					output_hold(&output, model->last_id);
				break;
			case 3:
				model->head += random_below(10);
				if (model->last_id < model->head)
					model->last_id = model->head; /* ids only grow */
				output_release(&output, model->head);
				break;
			case 4:
				send_some(&output, model);
				break;
			case 5:
				owe(&output, model);
				break;
			}
			check(&output, model);
		}
		assert_true(output_release(&output, model->last_id));
		model->head = model->last_id;
		check(&output, model);
		assert_int_equal(output_ready(&output), model->end - model->begin);
		output_clear(&output);
	}
	free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_owed_at_first),
		cmocka_unit_test(an_answer_waits_for_its_id_and_those_before_it_do_not),
		cmocka_unit_test(what_is_inserted_goes_before_the_answers_held),
		cmocka_unit_test(a_stream_of_publishes_does_not_put_off_the_first_answer),
		cmocka_unit_test(one_head_releases_both_borders),
		cmocka_unit_test(a_small_rest_is_kept_and_goes_first),
		cmocka_unit_test(a_large_rest_is_a_reference_that_moves_on),
		cmocka_unit_test(without_memory_a_rest_cannot_be_kept_and_is_not_half_kept),
		cmocka_unit_test(whoever_goes_leaves_no_memory_behind),
		cmocka_unit_test(whatever_is_sent_goes_in_order_and_never_before_its_id),
	};

	draw_seed();
	return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
