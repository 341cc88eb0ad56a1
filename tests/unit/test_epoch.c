/* SPDX-License-Identifier: MIT */
/*
 * Grace periods: what is deferred is released when nobody can still be looking, and not before. A
 * record is what makes a thread for the epoch, so that one thread can play several here.
 */
#include "log/epoch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/atomic.h"

enum { READERS = 3, POLLS = 8, THINGS = 1000, SWAPS = 20000 };

struct thing {
	struct epoch_deferred deferred;
	unsigned releases;
	void *context;
};

static struct epoch epoch;
static struct epoch_thread reclaimer, readers[READERS];
static struct thing things[THINGS];

/* An epoch can't be given back: each test begins a new one, with all records new. */
static int begin(void **state)
{
	(void)state;
	epoch_init(&epoch);
	memset(&reclaimer, 0, sizeof reclaimer);
	memset(readers, 0, sizeof readers);
	memset(things, 0, sizeof things);
	epoch_register(&epoch, &reclaimer);
	for (size_t i = 0; i < READERS; i++)
		epoch_register(&epoch, &readers[i]);
	return 0;
}

static void release(struct epoch_deferred *deferred, void *context)
{
	struct thing *thing = (struct thing *)(void *)deferred;
	thing->releases++;
	thing->context = context;
}

static void poll_often(void)
{
	for (int i = 0; i < POLLS; i++)
		epoch_poll(&reclaimer);
}

static unsigned count_released(void)
{
	unsigned count = 0;
	for (size_t i = 0; i < THINGS; i++)
		count += things[i].releases;
	return count;
}

static void a_release_runs_once_with_its_context_when_nobody_looks(void **state)
{
	(void)state;
	int context;
	epoch_defer(&reclaimer, &things[0].deferred, release, &context);
	assert_int_equal(things[0].releases, 0); /* never from within epoch_defer */
	poll_often();
	poll_often();
	assert_int_equal(things[0].releases, 1);
	assert_ptr_equal(things[0].context, &context);
}

static void nothing_is_released_while_a_section_is_open(void **state)
{
	(void)state;
	epoch_enter(&readers[1]);
	for (size_t i = 0; i < THINGS; i++)
		epoch_defer(&reclaimer, &things[i].deferred, release, NULL);
	for (int i = 0; i < 1000; i++)
		epoch_poll(&reclaimer);
	assert_int_equal(count_released(), 0);
	epoch_leave(&readers[1]);
	poll_often();
	assert_int_equal(count_released(), THINGS);
}

static void others_that_come_and_go_do_not_end_an_open_section(void **state)
{
	(void)state;
	epoch_enter(&readers[0]);
	epoch_defer(&reclaimer, &things[0].deferred, release, NULL);
	for (int i = 0; i < 1000; i++) {
		epoch_enter(&readers[1]);
		epoch_poll(&reclaimer);
		epoch_leave(&readers[1]);
		epoch_enter(&readers[2]);
		epoch_poll(&reclaimer);
		epoch_leave(&readers[2]);
	}
	assert_int_equal(count_released(), 0);
	epoch_leave(&readers[0]);
	poll_often();
	assert_int_equal(count_released(), 1);
}

static void sections_nest(void **state)
{
	(void)state;
	assert_false(epoch_is_inside(&readers[0]));
	epoch_enter(&readers[0]);
	epoch_enter(&readers[0]);
	epoch_defer(&reclaimer, &things[0].deferred, release, NULL);
	epoch_leave(&readers[0]);
	assert_true(epoch_is_inside(&readers[0]));
	poll_often();
	assert_int_equal(count_released(), 0);
	epoch_leave(&readers[0]);
	assert_false(epoch_is_inside(&readers[0]));
	poll_often();
	assert_int_equal(count_released(), 1);
}

/* Readers that are nearly always inside, but in ever new sections, hold nothing up for long. */
static void sections_that_are_left_and_entered_again_let_releases_through(void **state)
{
	(void)state;
	for (size_t i = 0; i < READERS; i++)
		epoch_enter(&readers[i]);
	epoch_defer(&reclaimer, &things[0].deferred, release, NULL);
	for (int round = 0; round < POLLS && count_released() == 0; round++) {
		for (size_t i = 0; i < READERS; i++) {
			epoch_leave(&readers[i]);
			epoch_enter(&readers[i]);
		}
		epoch_poll(&reclaimer);
	}
	assert_int_equal(count_released(), 1);
	for (size_t i = 0; i < READERS; i++)
		epoch_leave(&readers[i]);
}

/* How the log's keeper does it: taken out and deferred inside, polled outside. */
static void the_reclaimer_may_defer_inside_its_own_section(void **state)
{
	(void)state;
	epoch_enter(&reclaimer);
	epoch_defer(&reclaimer, &things[0].deferred, release, NULL);
	epoch_leave(&reclaimer);
	poll_often();
	assert_int_equal(count_released(), 1);
}

static void a_drain_runs_all_that_is_left(void **state)
{
	(void)state;
	for (size_t i = 0; i < THINGS; i++) {
		epoch_defer(&reclaimer, &things[i].deferred, release, NULL);
		if (i == THINGS / 2) { /* so that they belong to different generations */
			epoch_enter(&readers[0]);
			epoch_poll(&reclaimer);
			epoch_leave(&readers[0]);
		}
	}
	epoch_drain(&reclaimer);
	assert_int_equal(count_released(), THINGS);
}

/* ---- with threads: a thing that is replaced all the time, and freed ---- */

struct box {
	struct epoch_deferred deferred;
	uint64_t value, twin; /* equal as long as the box lives */
};

static struct box *shared;
static uint32_t is_over;
static uint64_t broken;

static void free_box(struct epoch_deferred *deferred, void *context)
{
	struct box *box = (struct box *)(void *)deferred;
	(void)context;
	box->twin = ~box->value;
	free(box);
}

static void *look(void *context)
{
	struct epoch_thread *thread = context;
	while (atomic32_load_relaxed(&is_over) == 0) {
		epoch_enter(thread);
		const struct box *box = atomic_load_pointer_acquire(&shared);
		if (box->value != box->twin)
			atomic64_add(&broken, 1);
		epoch_leave(thread);
	}
	return NULL;
}

static struct box *box_new(uint64_t value)
{
	struct box *box = malloc(sizeof *box);
	assert_non_null(box);
	box->value = box->twin = value;
	return box;
}

static void what_readers_look_at_is_never_freed_under_them(void **state)
{
	(void)state;
	pthread_t threads[READERS];
	shared = box_new(0);
	for (size_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look, &readers[i]), 0);
	for (uint64_t i = 1; i <= SWAPS; i++) {
		struct box *before = shared;
		atomic_store_pointer_release(&shared, box_new(i));
		epoch_defer(&reclaimer, &before->deferred, free_box, NULL);
		epoch_poll(&reclaimer);
	}
	atomic32_store_relaxed(&is_over, 1);
	for (size_t i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	epoch_drain(&reclaimer);
	free(shared);
	assert_int_equal(broken, 0);
}

/* An argument is a pattern: only tests whose names match it are run. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_release_runs_once_with_its_context_when_nobody_looks,
	                               begin),
		cmocka_unit_test_setup(nothing_is_released_while_a_section_is_open, begin),
		cmocka_unit_test_setup(others_that_come_and_go_do_not_end_an_open_section, begin),
		cmocka_unit_test_setup(sections_nest, begin),
		cmocka_unit_test_setup(
			sections_that_are_left_and_entered_again_let_releases_through, begin),
		cmocka_unit_test_setup(the_reclaimer_may_defer_inside_its_own_section, begin),
		cmocka_unit_test_setup(a_drain_runs_all_that_is_left, begin),
		cmocka_unit_test_setup(what_readers_look_at_is_never_freed_under_them, begin),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
