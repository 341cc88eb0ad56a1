/* SPDX-License-Identifier: MIT */
/*
 * decimal: numbers as the protocol writes them. Thread: any.
 */
#ifndef PSAD_BASE_DECIMAL_H
#define PSAD_BASE_DECIMAL_H

#include <stdint.h>

/* Decimal digits of a number: 1 for 0, at most 20. */
static inline unsigned decimal_digits(uint64_t number)
{
	static const uint64_t powers[20] = {
		0ULL,
		10ULL,
		100ULL,
		1000ULL,
		10000ULL,
		100000ULL,
		1000000ULL,
		10000000ULL,
		100000000ULL,
		1000000000ULL,
		10000000000ULL,
		100000000000ULL,
		1000000000000ULL,
		10000000000000ULL,
		100000000000000ULL,
		1000000000000000ULL,
		10000000000000000ULL,
		100000000000000000ULL,
		1000000000000000000ULL,
		10000000000000000000ULL,
	};
	/* log10(2) is about 1233 / 4096; the guess is right or one too small. */
	unsigned bits = 64U - (unsigned)__builtin_clzll(number | 1);
	unsigned guess = (bits * 1233U) >> 12;
	return guess + (number >= powers[guess] ? 1U : 0U);
}

/* Writes the digits of `number` at `at`, no NUL; returns how many. */
static inline unsigned decimal_write(char *at, uint64_t number)
{
	unsigned digits = decimal_digits(number);
	for (unsigned i = digits; i-- > 0; number /= 10)
		at[i] = (char)('0' + number % 10);
	return digits;
}

#endif
