/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=clock_gettime */
/*
 * The clock over a machine whose clocks the test sets.
 */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

int __wrap_clock_gettime(clockid_t id, struct timespec *now);

static uint64_t mono_us, wall_us;

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t us = id == CLOCK_REALTIME ? wall_us : mono_us;
	now->tv_sec = (time_t)(us / 1000000);
	now->tv_nsec = (long)(us % 1000000) * 1000;
	return 0;
}

static void pass_time(uint64_t us)
{
	mono_us += us;
	wall_us += us;
}

static int set_clocks(void **state)
{
	(void)state;
	mono_us = 5000000;
	wall_us = 1700000000000000;
	clock_open(0);
	return 0;
}

static void wall_time_is_the_machines(void **state)
{
	(void)state;
	assert_int_equal(clock_wall_us(), wall_us);
	pass_time(1234567);
	assert_int_equal(clock_wall_us(), wall_us);
}

static void wall_time_is_never_below_the_floor(void **state)
{
	(void)state;
	const uint64_t floor_us = wall_us + 3600000000;
	clock_open(floor_us);
	assert_int_equal(clock_wall_us(), floor_us);
	pass_time(10);
	clock_follow();
	assert_int_equal(clock_wall_us(), floor_us + 10);
}

static void a_wall_clock_set_forward_is_followed(void **state)
{
	(void)state;
	pass_time(1000000);
	wall_us += 86400000000;
	assert_int_equal(clock_wall_us(), wall_us - 86400000000);
	clock_follow();
	assert_int_equal(clock_wall_us(), wall_us);
}

static void a_wall_clock_set_back_is_not_followed(void **state)
{
	(void)state;
	const uint64_t before = clock_wall_us();
	wall_us -= 3600000000;
	clock_follow();
	assert_int_equal(clock_wall_us(), before);
	pass_time(77);
	clock_follow();
	assert_int_equal(clock_wall_us(), before + 77);
}

static void a_wall_clock_that_comes_back_forward_goes_on_where_it_was(void **state)
{
	(void)state;
	wall_us -= 1000000;
	clock_follow();
	pass_time(500000);
	wall_us += 1000000;
	clock_follow();
	assert_int_equal(clock_wall_us(), wall_us);
}

static void less_than_a_millisecond_is_not_a_new_date(void **state)
{
	(void)state;
	const uint64_t before = clock_wall_us();
	wall_us += 1000;
	clock_follow();
	assert_int_equal(clock_wall_us(), before);
	wall_us += 1;
	clock_follow();
	assert_int_equal(clock_wall_us(), wall_us);
}

static void durations_are_of_the_monotonic_clock(void **state)
{
	(void)state;
	assert_int_equal(clock_mono_us(), 5000000);
	assert_int_equal(clock_mono_ms(), 5000);
	mono_us += 1999;
	wall_us = 0;
	assert_int_equal(clock_mono_us(), 5001999);
	assert_int_equal(clock_mono_ms(), 5001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(wall_time_is_the_machines, set_clocks),
		cmocka_unit_test_setup(wall_time_is_never_below_the_floor, set_clocks),
		cmocka_unit_test_setup(a_wall_clock_set_forward_is_followed, set_clocks),
		cmocka_unit_test_setup(a_wall_clock_set_back_is_not_followed, set_clocks),
		cmocka_unit_test_setup(a_wall_clock_that_comes_back_forward_goes_on_where_it_was,
	                               set_clocks),
		cmocka_unit_test_setup(less_than_a_millisecond_is_not_a_new_date, set_clocks),
		cmocka_unit_test_setup(durations_are_of_the_monotonic_clock, set_clocks),
	};
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
