/* SPDX-License-Identifier: MIT */
/* FUZZ: -max_len=2048 -dict=tests/fuzz/command.dict */
/*
 * Feeds the command parser with anything. What is looked for: broken promises of command.h
 * (feed.h aborts on them), bytes read that are not there, and answers that depend on how the
 * bytes were cut.
 */
#include "feed.h"
#include "fuzz.h"

enum {
	/* max_payload (small, so that it is reached), the first cut and the size of the pieces */
	OPTION_BYTES = 3,
	/* Above it byte by byte takes too long: each byte is a copy of all that is not finished. */
	SINGLE_BYTES_MAX = 300,
};

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
