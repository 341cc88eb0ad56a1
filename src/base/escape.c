/* SPDX-License-Identifier: MIT */
#include "base/escape.h"

#include <stdio.h>
#include <string.h>

/*
 * Bytes of the UTF-8 character at `at`, of which n > 0 are there; 0 when it isn't one or is one of
 * the C1 controls (U+0080-U+009F), which terminals obey.
 */
static size_t utf8_length(const unsigned char *at, size_t n)
{
	const unsigned char lead = at[0];
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	}
	const unsigned char next = at[1];
	if ((lead == 0xc2 && next < 0xa0) || /* C1 controls */
	    (lead == 0xe0 && next < 0xa0) || /* longer than needed */
	    (lead == 0xed && next > 0x9f) || /* surrogates */
	    (lead == 0xf0 && next < 0x90) || /* longer than needed */
	    (lead == 0xf4 && next > 0x8f))   /* beyond U+10FFFF */
		return 0;
	return length;
}

size_t escape_one(const unsigned char *at, size_t n, char piece[ESCAPE_MAX], size_t *taken)
{
	const char *letter = NULL;
	*taken = 1;
	switch (at[0]) {
	case '\n':
		letter = "\\n";
		break;
	case '\r':
		letter = "\\r";
		break;
	case '\t':
		letter = "\\t";
		break;
	case '\\':
		letter = "\\\\";
		break;
	}
	if (letter != NULL) {
		memcpy(piece, letter, 2);
		return 2;
	}
	if (at[0] >= 0x20 && at[0] < 0x7f) {
		piece[0] = (char)at[0];
		return 1;
	}
	const size_t length = utf8_length(at, n);
	if (length > 0) {
		memcpy(piece, at, length);
		*taken = length;
		return length;
	}
	return (size_t)snprintf(piece, ESCAPE_MAX, "\\x%02x", at[0]);
}
