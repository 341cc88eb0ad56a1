/* SPDX-License-Identifier: MIT */
/*
 * A thread that does not come round must be noticed, whichever it is, and nobody else blamed.
 */
#include "ops/vigil.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 5 };

static struct beat beats[THREADS];
static struct vigil *vigil;

static int begin(void **state)
{
	char name[VIGIL_NAME_MAX];
	(void)state;
	memset(beats, 0, sizeof beats);
	vigil = vigil_new(THREADS);
	for (int i = 0; i < THREADS; i++) {
		snprintf(name, sizeof name, "thread %d", i);
		vigil_add(vigil, name, &beats[i]);
	}
	return 0;
}

static int end(void **state)
{
	(void)state;
	vigil_free(vigil);
	return 0;
}

static void raise_all_but(int left_out)
{
	for (int i = 0; i < THREADS; i++)
		if (i != left_out)
			beat_raise(&beats[i]);
}

static void threads_that_all_move_pass_each_look(void **state)
{
	(void)state;
	for (int look = 0; look < 10; look++) {
		assert_true(vigil_look(vigil));
		raise_all_but(-1);
	}
}

static void one_thread_that_does_not_move_is_found_whichever_it_is(void **state)
{
	char name[VIGIL_NAME_MAX];
	(void)state;
	assert_true(vigil_look(vigil));
	for (int stuck = 0; stuck < THREADS; stuck++) {
		snprintf(name, sizeof name, "thread %d", stuck);
		for (int look = 0; look < 3; look++) {
			raise_all_but(stuck);
			assert_false(vigil_look(vigil));
			assert_string_equal(vigil_stuck(vigil), name);
		}
		beat_raise(&beats[stuck]);
		assert_true(vigil_look(vigil));
	}
}

static void a_move_counts_from_the_last_look_that_was_passed(void **state)
{
	(void)state;
	assert_true(vigil_look(vigil));
	raise_all_but(3);
	assert_false(vigil_look(vigil));
	/* The others need not move once more for that one to pass. */
	beat_raise(&beats[3]);
	assert_true(vigil_look(vigil));
	/* And now all of them again. */
	assert_false(vigil_look(vigil));
}

static void a_thread_that_has_ended_is_not_missed(void **state)
{
	(void)state;
	assert_true(vigil_look(vigil));
	raise_all_but(2);
	beat_end(&beats[2]);
	for (int look = 0; look < 3; look++) {
		assert_true(vigil_look(vigil));
		raise_all_but(2);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(threads_that_all_move_pass_each_look),
		TEST(one_thread_that_does_not_move_is_found_whichever_it_is),
		TEST(a_move_counts_from_the_last_look_that_was_passed),
		TEST(a_thread_that_has_ended_is_not_missed),
	};
#undef TEST
	return cmocka_run_group_tests_name("vigil", tests, NULL, NULL);
}
