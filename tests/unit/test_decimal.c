/* SPDX-License-Identifier: MIT */
/*
 * Numbers in decimal: their length and their digits, at every border.
 */
#include "base/decimal.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 0x5a };

/* Compares with what the C library makes of the number. */
static void check(uint64_t number)
{
	char expected[32], got[32];
	int digits = snprintf(expected, sizeof expected, "%" PRIu64, number);

	memset(got, GUARD, sizeof got);
	assert_int_equal(decimal_digits(number), digits);
	assert_int_equal(decimal_write(got, number), digits);
	assert_memory_equal(got, expected, (size_t)digits);
	/* No NUL, nothing behind the digits. */
	for (size_t i = (size_t)digits; i < sizeof got; i++)
		assert_int_equal(got[i], GUARD);
}

static void zero_is_one_digit(void **state)
{
	(void)state;
	check(0);
}

static void every_power_of_ten_and_its_neighbours_are_right(void **state)
{
	(void)state;
	uint64_t power = 1;
	for (int i = 0; i < 20; i++, power *= 10) {
		check(power - 1);
		check(power);
		check(power + 1);
	}
}

static void every_power_of_two_and_its_neighbours_are_right(void **state)
{
	(void)state;
	for (int i = 0; i < 64; i++) {
		check((1ULL << i) - 1);
		check(1ULL << i);
		check((1ULL << i) + 1);
	}
	check(INT64_MAX);
	check(UINT64_MAX);
}

static void numbers_of_every_length_are_right(void **state)
{
	(void)state;
	uint64_t random = 88172645463325252ULL;
	for (int i = 0; i < 200000; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		check(random >> (random % 64));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_is_one_digit),
		cmocka_unit_test(every_power_of_ten_and_its_neighbours_are_right),
		cmocka_unit_test(every_power_of_two_and_its_neighbours_are_right),
		cmocka_unit_test(numbers_of_every_length_are_right),
	};
	return cmocka_run_group_tests_name("decimal", tests, NULL, NULL);
}
