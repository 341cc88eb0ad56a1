/* SPDX-License-Identifier: MIT */
/*
 * decimal: numbers as the protocol writes them. Thread: any.
 */
#ifndef PSAD_BASE_DECIMAL_H
#define PSAD_BASE_DECIMAL_H

#include <stdint.h>
#include <string.h>

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

/* Writes the digits of `number` at `at`, no NUL; returns how many, at most 20. */
static inline unsigned decimal_write(char *at, uint64_t number)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324"
				    "25262728293031323334353637383940414243444546474849"
				    "50515253545556575859606162636465666768697071727374"
				    "75767778798081828384858687888990919293949596979899";
	unsigned digits = decimal_digits(number);
	unsigned i = digits;

	/* Two at a time: half the divisions, which are most of it. */
	for (; number >= 100; number /= 100) {
		i -= 2;
		memcpy(at + i, pairs + number % 100 * 2, 2);
	}
	if (number >= 10)
		memcpy(at, pairs + number * 2, 2);
	else
		at[0] = (char)('0' + number);
	return digits;
}

#endif
