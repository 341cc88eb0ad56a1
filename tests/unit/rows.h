/* SPDX-License-Identifier: MIT */
/*
 * rows: what a client sends and how it is understood, as a transcript of tests/fuzz/feed.h. Each
 * row is also sent cut at every place, and byte by byte, and must be understood the same.
 */
#ifndef PSAD_UNIT_ROWS_H
#define PSAD_UNIT_ROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../fuzz/feed.h"

enum {
	MAX_PAYLOAD = 20,
	MAX_LINE = MAX_PAYLOAD + 512,
};

struct row {
	struct slice input;
	const char *transcript;
};

#define SLICE(text) ((struct slice){(text), sizeof(text) - 1})
#define ROW(input, transcript)                                                                     \
	{                                                                                          \
		SLICE(input), (transcript)                                                         \
	}
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The input, written so that a failure can be read. */
static inline void print_input(struct slice input)
{
	for (size_t i = 0; i < input.n; i++) {
		if (input.at[i] >= ' ' && input.at[i] <= '~')
			print_error("%c", input.at[i]);
		else
			print_error("\\x%02X", (unsigned char)input.at[i]);
	}
	print_error("\n");
}

static inline void check(struct slice input, const char *transcript)
{
	char *whole = feed_all(MAX_PAYLOAD, false, input.at, input.n, 0, input.n, NULL);

	if (strcmp(whole, transcript) != 0) {
		print_input(input);
		assert_string_equal(whole, transcript);
	}
	free(whole);
	feed_compare_cut(MAX_PAYLOAD, input.at, input.n, 1, 1);
	for (size_t at = 1; at < input.n; at++)
		feed_compare_cut(MAX_PAYLOAD, input.at, input.n, at, input.n);
}

static inline void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check(rows[i].input, rows[i].transcript);
}

#endif
