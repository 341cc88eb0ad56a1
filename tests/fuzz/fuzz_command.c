/* SPDX-License-Identifier: MIT */
/*
 * Feeds the command parser with anything. What is looked for: broken promises of command.h
 * (feed.h aborts on them), bytes read that are not there, and answers that depend on how the
 * bytes were cut.
 *
 *   clang-14 -std=gnu11 -D_GNU_SOURCE -Isrc -g -O1 -fsanitize=fuzzer,address,undefined \
 *           -fno-sanitize-recover=all -o fuzz_command tests/fuzz/fuzz_command.c \
 *           $(find src/wire -name "*.c")
 *   ./fuzz_command -dict=tests/fuzz/command.dict -max_len=2048 -max_total_time=60
 */
#include <stddef.h>
#include <stdint.h>

#include "feed.h"

enum {
	/* max_payload (small, so that it is reached), the first cut and the size of the pieces */
	OPTION_BYTES = 3,
	/* Above it byte by byte takes too long: each byte is a copy of all that is not finished. */
	SINGLE_BYTES_MAX = 300,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n <= OPTION_BYTES)
		return 0;

	const char *bytes = (const char *)data + OPTION_BYTES;
	size_t max_payload = data[0], first = data[1], piece = 1 + (size_t)data[2];
	n -= OPTION_BYTES;
	feed_compare_cut(max_payload, bytes, n, first, piece);
	feed_compare_cut(max_payload, bytes, n, n / 2, n);
	if (n <= SINGLE_BYTES_MAX)
		feed_compare_cut(max_payload, bytes, n, 1, 1);
	return 0;
}
