/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and ringing. A sleeper's turn is an upcall, so that what happens while it is parked can
 * be done from inside its turn, in one thread and in a certain order; tests/race has the rest.
 */
#include "log/wake.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "deadline.h"
#include "base/atomic.h"

enum { SLEEPERS = 3, RINGERS = 2, ROUNDS = 2000, MANY = 10000000 };

static struct wake *wake;
static struct sleeper sleepers[SLEEPERS];
static unsigned turns[SLEEPERS];
static void (*in_turn)(unsigned sleeper); /* what a test wants to happen while it is parked */

static void turn(void *context)
{
	unsigned i = (unsigned)((struct sleeper *)context - sleepers);
	turns[i]++;
	if (in_turn != NULL)
		in_turn(i);
}

static int begin(void **state)
{
	(void)state;
	memset(sleepers, 0, sizeof sleepers);
	memset(turns, 0, sizeof turns);
	in_turn = NULL;
	wake = wake_new(SLEEPERS);
	if (wake == NULL)
		return -1;
	for (size_t i = 0; i < SLEEPERS; i++) {
		sleepers[i].eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		sleepers[i].turn = turn;
		sleepers[i].context = &sleepers[i];
		wake_add(wake, &sleepers[i]);
	}
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < SLEEPERS; i++)
		close(sleepers[i].eventfd);
	wake_free(wake);
	return 0;
}

/* Writes to the sleeper's eventfd since the last look. */
static uint64_t rings_of(unsigned i)
{
	eventfd_t count = 0;
	return eventfd_read(sleepers[i].eventfd, &count) == 0 ? count : 0;
}

static void ring_once(unsigned i)
{
	(void)i;
	wake_ring(wake);
}

static void a_ring_raises_the_value(void **state)
{
	(void)state;
	uint64_t before = wake_value(wake);
	wake_ring(wake);
	assert_int_equal(wake_value(wake), before + 1);
	wake_ring(wake);
	assert_int_equal(wake_value(wake), before + 2);
}

static void nobody_is_rung_while_all_are_awake(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		wake_ring(wake);
	for (unsigned i = 0; i < SLEEPERS; i++)
		assert_int_equal(rings_of(i), 0);
	assert_int_equal(wake_rings(wake), 0);
}

static void a_wait_runs_one_turn_when_nobody_rang(void **state)
{
	(void)state;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	assert_int_equal(turns[0], 1);
	assert_int_equal(sleepers[0].parked, 0);
}

static void a_wait_runs_no_turn_when_somebody_rang_since(void **state)
{
	(void)state;
	uint64_t seen = wake_value(wake);
	wake_ring(wake);
	assert_false(wake_wait(wake, &sleepers[0], seen));
	assert_int_equal(turns[0], 0);
	assert_int_equal(sleepers[0].parked, 0);
}

static void a_parked_sleeper_is_rung(void **state)
{
	(void)state;
	in_turn = ring_once;
	assert_true(wake_wait(wake, &sleepers[1], wake_value(wake)));
	assert_int_equal(turns[1], 1);
	assert_int_equal(rings_of(1), 1);
	assert_int_equal(rings_of(0), 0);
	assert_int_equal(wake_rings(wake), 1);
}

static void ring_thrice(unsigned i)
{
	(void)i;
	for (int n = 0; n < 3; n++)
		wake_ring(wake);
}

static void a_parked_sleeper_is_rung_once_for_many_rings(void **state)
{
	(void)state;
	in_turn = ring_thrice;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	assert_int_equal(rings_of(0), 1);
}

static void stir_and_ring(unsigned i)
{
	wake_stir(&sleepers[i]);
	wake_ring(wake);
}

static void who_has_stirred_does_not_ring_itself(void **state)
{
	(void)state;
	in_turn = stir_and_ring;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	assert_int_equal(rings_of(0), 0);
	assert_int_equal(wake_rings(wake), 0);
}

static void park_the_next_then_ring(unsigned i)
{
	if (i + 1 < SLEEPERS)
		assert_true(wake_wait(wake, &sleepers[i + 1], wake_value(wake)));
	else
		wake_ring(wake);
}

static void all_that_are_parked_are_rung_by_one_ring(void **state)
{
	(void)state;
	in_turn = park_the_next_then_ring;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	for (unsigned i = 0; i < SLEEPERS; i++) {
		assert_int_equal(turns[i], 1);
		assert_int_equal(rings_of(i), 1);
	}
}

/* While the first is parked, the second wants to park behind a value that is gone. */
static void wait_for_the_past(unsigned i)
{
	if (i != 0)
		return;
	uint64_t seen = wake_value(wake);
	wake_ring(wake);
	assert_false(wake_wait(wake, &sleepers[1], seen));
	assert_int_equal(turns[1], 0);
}

static void a_ring_between_two_sleepers_is_lost_for_neither(void **state)
{
	(void)state;
	in_turn = wait_for_the_past;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	assert_int_equal(rings_of(0), 1);
}

static void a_sleeper_can_park_again_and_again(void **state)
{
	(void)state;
	in_turn = ring_once;
	for (unsigned i = 1; i <= 1000; i++) {
		assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
		assert_int_equal(turns[0], i);
		assert_int_equal(rings_of(0), 1);
	}
}

static void a_turn_without_a_ring_leaves_no_trace(void **state)
{
	(void)state;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	wake_ring(wake); /* the flag may still be set: finds nobody parked */
	assert_int_equal(rings_of(0), 0);
	in_turn = ring_once;
	assert_true(wake_wait(wake, &sleepers[0], wake_value(wake)));
	assert_int_equal(rings_of(0), 1);
}

/* ---- with threads ---- */

static uint64_t published, taken[SLEEPERS];

static void wait_for_eventfd(void *context)
{
	struct sleeper *sleeper = context;
	struct pollfd ready = {.fd = sleeper->eventfd, .events = POLLIN};
	eventfd_t count;

	(void)poll(&ready, 1, -1);
	wake_stir(sleeper);
	(void)eventfd_read(sleeper->eventfd, &count);
}

static void *follow(void *context)
{
	struct sleeper *sleeper = context;
	for (;;) {
		uint64_t seen = wake_value(wake);
		uint64_t value = atomic64_load_acquire(&published);
		atomic64_store_release(&taken[sleeper - sleepers], value);
		if (value == (uint64_t)RINGERS * ROUNDS)
			return NULL;
		(void)wake_wait(wake, sleeper, seen);
	}
}

static void *publish(void *context)
{
	(void)context;
	for (int i = 0; i < ROUNDS; i++) {
		atomic64_add(&published, 1);
		wake_ring(wake);
	}
	return NULL;
}

static pthread_barrier_t together;

static void *ring_often(void *context)
{
	(void)context;
	pthread_barrier_wait(&together);
	for (int i = 0; i < MANY; i++)
		wake_ring(wake);
	return NULL;
}

static uint32_t is_over;
static struct wake *growing;

static void *ring_until_over(void *context)
{
	(void)context;
	while (atomic32_load_relaxed(&is_over) == 0) {
		wake_ring(growing);
		(void)usleep(20); /* so that somebody can get to wait */
	}
	return NULL;
}

/* At a start the log's threads ring while the workers are being made. */
static void sleepers_may_come_while_others_ring(void **state)
{
	static struct sleeper many[64];
	pthread_t ringer;
	(void)state;

	memset(many, 0, sizeof many);
	growing = wake_new(64);
	assert_non_null(growing);
	atomic32_store_relaxed(&is_over, 0);
	assert_int_equal(pthread_create(&ringer, NULL, ring_until_over, NULL), 0);
	for (size_t i = 0; i < 64; i++) {
		many[i].eventfd = sleepers[0].eventfd;
		many[i].turn = turn;
		many[i].context = &sleepers[0];
		wake_add(growing, &many[i]);
		/* One that waits makes the ringer look at all of them. */
		for (int round = 0; round < 20; round++)
			(void)wake_wait(growing, &many[i], wake_value(growing));
	}
	atomic32_store_relaxed(&is_over, 1);
	pthread_join(ringer, NULL);
	wake_free(growing);
}

static void every_ring_counts_however_many_come_at_once(void **state)
{
	(void)state;
	pthread_t ringers[RINGERS];

	pthread_barrier_init(&together, NULL, RINGERS);
	for (size_t i = 0; i < RINGERS; i++)
		assert_int_equal(pthread_create(&ringers[i], NULL, ring_often, NULL), 0);
	for (size_t i = 0; i < RINGERS; i++)
		pthread_join(ringers[i], NULL);
	pthread_barrier_destroy(&together);
	assert_int_equal(wake_value(wake), (uint64_t)RINGERS * MANY);
}

static void no_ring_is_lost_between_threads(void **state)
{
	(void)state;
	const uint64_t last = (uint64_t)RINGERS * ROUNDS;
	pthread_t ringers[RINGERS], followers[SLEEPERS];

	published = 0;
	memset(taken, 0, sizeof taken);
	for (size_t i = 0; i < SLEEPERS; i++) {
		sleepers[i].turn = wait_for_eventfd;
		assert_int_equal(pthread_create(&followers[i], NULL, follow, &sleepers[i]), 0);
	}
	for (size_t i = 0; i < RINGERS; i++)
		assert_int_equal(pthread_create(&ringers[i], NULL, publish, NULL), 0);
	for (size_t i = 0; i < RINGERS; i++)
		pthread_join(ringers[i], NULL);
	for (size_t i = 0; i < SLEEPERS; i++)
		WAIT_FOR(atomic64_load_acquire(&taken[i]) == last);
	for (size_t i = 0; i < SLEEPERS; i++)
		pthread_join(followers[i], NULL);
}

/* An argument is a pattern: only tests whose names match it are run. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_ring_raises_the_value, begin, end),
		cmocka_unit_test_setup_teardown(nobody_is_rung_while_all_are_awake, begin, end),
		cmocka_unit_test_setup_teardown(a_wait_runs_one_turn_when_nobody_rang, begin, end),
		cmocka_unit_test_setup_teardown(a_wait_runs_no_turn_when_somebody_rang_since, begin,
	                                        end),
		cmocka_unit_test_setup_teardown(a_parked_sleeper_is_rung, begin, end),
		cmocka_unit_test_setup_teardown(a_parked_sleeper_is_rung_once_for_many_rings, begin,
	                                        end),
		cmocka_unit_test_setup_teardown(who_has_stirred_does_not_ring_itself, begin, end),
		cmocka_unit_test_setup_teardown(all_that_are_parked_are_rung_by_one_ring, begin,
	                                        end),
		cmocka_unit_test_setup_teardown(a_ring_between_two_sleepers_is_lost_for_neither,
	                                        begin, end),
		cmocka_unit_test_setup_teardown(a_sleeper_can_park_again_and_again, begin, end),
		cmocka_unit_test_setup_teardown(a_turn_without_a_ring_leaves_no_trace, begin, end),
		cmocka_unit_test_setup_teardown(sleepers_may_come_while_others_ring, begin, end),
		cmocka_unit_test_setup_teardown(every_ring_counts_however_many_come_at_once, begin,
	                                        end),
		cmocka_unit_test_setup_teardown(no_ring_is_lost_between_threads, begin, end),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("wake", tests, NULL, NULL);
}
