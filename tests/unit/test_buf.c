/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=realloc */
/*
 * The queue of bytes against a plain array. PSAD_TEST_SEED repeats the random test.
 */
#include "base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"

void *__real_realloc(void *block, size_t n);
void *__wrap_realloc(void *block, size_t n);

static size_t most = SIZE_MAX; /* more than this is not to be had at once */

void *__wrap_realloc(void *block, size_t n)
{
	return n > most ? NULL : __real_realloc(block, n);
}

static void an_empty_one_owns_nothing_and_may_be_cleared(void **state)
{
	(void)state;
	struct buf buf = {.memory = NULL};

	assert_int_equal(buf_size(&buf), 0);
	buf_clear(&buf);
	buf_consume(&buf, 0);
	assert_int_equal(buf_append(&buf, NULL, 0), 0);
	assert_null(buf.memory);
}

static void the_memory_goes_with_the_last_byte(void **state)
{
	(void)state;
	struct buf buf = {.memory = NULL};

	assert_int_equal(buf_append(&buf, "abc", 3), 0);
	buf_consume(&buf, 2);
	assert_memory_equal(buf_begin(&buf), "c", 1);
	assert_non_null(buf.memory);
	buf_consume(&buf, 1);
	assert_null(buf.memory);
	assert_int_equal(buf_room(&buf), 0);
}

static void reserved_room_is_exact_and_can_be_filled(void **state)
{
	(void)state;
	static const struct {
		size_t held, consumed, n;
	} rows[] = {{0, 0, 1}, {0, 0, 100000}, {10, 0, 1000}, {256, 255, 256}, {300, 1, 700}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct buf buf = {.memory = NULL};
		char bytes[300];
		memset(bytes, 'x', sizeof bytes);
		assert_int_equal(buf_append(&buf, bytes, rows[i].held), 0);
		buf_consume(&buf, rows[i].consumed);
		size_t size = buf_size(&buf), had = buf.capacity;
		assert_int_equal(buf_reserve(&buf, rows[i].n), 0);
		assert_true(buf_room(&buf) >= rows[i].n);
		assert_true(buf.capacity == had || buf.capacity == size + rows[i].n);
		memset(buf_end(&buf), 'y', rows[i].n);
		buf_grow(&buf, rows[i].n);
		assert_int_equal(buf_size(&buf), size + rows[i].n);
		for (size_t k = 0; k < size; k++)
			assert_int_equal(buf_begin(&buf)[k], 'x');
		buf_clear(&buf);
	}
}

static void without_memory_what_is_held_stays(void **state)
{
	(void)state;
	struct buf buf = {.memory = NULL};
	char bytes[1000];

	memset(bytes, 'x', sizeof bytes);
	most = 1100;
	assert_int_equal(buf_append(&buf, bytes, 1000), 0);
	assert_int_equal(buf_append(&buf, bytes, 100), 0); /* not twice, but enough */
	assert_int_equal(buf_append(&buf, bytes, 1), -ENOMEM);
	assert_int_equal(buf_reserve(&buf, 1), -ENOMEM);
	assert_int_equal(buf_size(&buf), 1100);
	buf_consume(&buf, 600);
	assert_int_equal(buf_append(&buf, bytes, 600), 0); /* in the room that was consumed */
	assert_int_equal(buf_append(&buf, bytes, 1), -ENOMEM);
	assert_int_equal(buf_size(&buf), 1100);
	for (size_t i = 0; i < 1100; i++)
		assert_int_equal(buf_begin(&buf)[i], 'x');
	most = SIZE_MAX;
	buf_clear(&buf);
}

static void bytes_come_out_as_they_went_in(void **state)
{
	(void)state;
	static char model[1 << 20];
	struct buf buf = {.memory = NULL};
	size_t begin = 0, end = 0;

	for (unsigned i = 0; i < 20000; i++) {
		size_t n = random_below(random_below(8) ? 100 : 3000);
		if (random_below(2) == 0 && end + n <= sizeof model) {
			for (size_t k = 0; k < n; k++)
				model[end + k] = (char)next_random();
			most = random_below(4) ? SIZE_MAX : random_below(8000);
			int error = buf_append(&buf, model + end, n);
			most = SIZE_MAX;
			assert_true(error == 0 || error == -ENOMEM);
			end += error == 0 ? n : 0;
		} else {
			n = n < end - begin ? n : end - begin;
			buf_consume(&buf, n);
			begin += n;
		}
		assert_int_equal(buf_size(&buf), end - begin);
		if (begin < end)
			assert_memory_equal(buf_begin(&buf), model + begin, end - begin);
		else
			assert_null(buf.memory);
		if (begin == end)
			begin = end = 0;
	}
	buf_clear(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_one_owns_nothing_and_may_be_cleared),
		cmocka_unit_test(the_memory_goes_with_the_last_byte),
		cmocka_unit_test(reserved_room_is_exact_and_can_be_filled),
		cmocka_unit_test(without_memory_what_is_held_stays),
		cmocka_unit_test(bytes_come_out_as_they_went_in),
	};

	draw_seed();
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
