/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=write */
/*
 * Hands any bytes to those who show them to people: diag() and what it is made of.
 *
 * One write of one line; nothing in it that a terminal obeys, and only UTF-8; and what was escaped
 * can be told from what was not: read backwards it is what went in, as far as it was shown.
 */
#include <stdbool.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/escape.h"
#include "fuzz.h"

static char line[DIAG_LINE_MAX + 1];
static size_t line_n, lines;
static bool catches;

ssize_t __real_write(int fd, const void *at, size_t n);
ssize_t __wrap_write(int fd, const void *at, size_t n);
ssize_t __wrap_write(int fd, const void *at, size_t n)
{
	if (!catches || fd != STDERR_FILENO)
		return __real_write(fd, at, n);
	catches = n <= DIAG_LINE_MAX; /* or what follows could not be said */
	FUZZ_CHECK(n <= DIAG_LINE_MAX);
	memcpy(line, at, n);
	line_n = n;
	lines++;
	return (ssize_t)n;
}

/* Bytes of the character at the beginning by the table of RFC 3629; 0: it is none. */
static size_t plain_utf8(const unsigned char *at, size_t n)
{
	uint32_t code;
	size_t size = at[0] < 0x80       ? 1
	              : at[0] >> 5 == 6  ? 2
	              : at[0] >> 4 == 14 ? 3
	              : at[0] >> 3 == 30 ? 4
	                                 : 0;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	if (size == 0 || size > n)
		return 0;
	code = size == 1 ? at[0] : at[0] & (0x7fU >> size);
	for (size_t i = 1; i < size; i++) {
		if (at[i] >> 6 != 2)
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	return code < least[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0
	                                                                                  : size;
}

/* What stands on a terminal: printable, and UTF-8 without the controls of C1. */
static void check_shown(const unsigned char *at, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t size = plain_utf8(at + i, n - i);
		FUZZ_CHECKF(size > 0, "byte %zu is not UTF-8", i);
		FUZZ_CHECKF(at[i] >= ' ' && at[i] != 0x7f, "byte %zu is a control", i);
		FUZZ_CHECKF(!(at[i] == 0xc2 && at[i + 1] < 0xa0), "byte %zu is a control", i);
		i += size;
	}
}

static int plain_hex(char digit)
{
	const char *at = strchr("0123456789abcdef", digit);
	FUZZ_CHECK(digit != '\0' && at != NULL);
	return (int)(at - "0123456789abcdef");
}

/* Takes one escaped character apart; returns its byte, or -1 where it stands for itself. */
static int unescape(const char *at, size_t n, size_t *taken)
{
	*taken = 1;
	if (at[0] != '\\')
		return -1;
	FUZZ_CHECK(n >= 2);
	*taken = 2;
	switch (at[1]) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case '\\':
		return '\\';
	case 'x':
		break;
	default:
		FUZZ_CHECKF(false, "\\%c", at[1]);
	}
	FUZZ_CHECK(n >= 4);
	*taken = 4;
	return plain_hex(at[2]) << 4 | plain_hex(at[3]);
}

/* The text shown is that of the bytes, all of them or a beginning. */
static void check_same(const char *shown, size_t shown_n, const unsigned char *bytes, size_t n,
                       bool is_cut)
{
	size_t at = 0;

	for (size_t i = 0, taken; i < shown_n; i += taken) {
		int byte = unescape(shown + i, shown_n - i, &taken);
		FUZZ_CHECK(at < n);
		FUZZ_CHECK(bytes[at] == (byte < 0 ? (unsigned char)shown[i] : byte));
		at++;
	}
	FUZZ_CHECK(is_cut || at == n);
}

static void check_escape(const unsigned char *bytes, size_t n)
{
	for (size_t i = 0, taken; i < n; i += taken) {
		char piece[ESCAPE_MAX];
		unsigned char *copy = malloc(n - i); /* of just that size */
		FUZZ_CHECK(copy != NULL);
		memcpy(copy, bytes + i, n - i);
		size_t size = escape_one(copy, n - i, piece, &taken);
		free(copy);
		FUZZ_CHECK(size >= 1 && size <= ESCAPE_MAX && taken >= 1 && taken <= n - i);
		check_shown((const unsigned char *)piece, size);
		check_same(piece, size, bytes + i, taken, false);
	}
}

static void check_diag(const char *text)
{
	static const char before[] = "psad: ", cut[] = "...";
	size_t begin = sizeof before - 1;

	lines = 0;
	catches = true;
	diag(DIAG_ERROR, "%s", text);
	catches = false;
	FUZZ_CHECK(lines == 1 && line_n > begin && line[line_n - 1] == '\n');
	FUZZ_CHECK(memcmp(line, before, begin) == 0);
	size_t n = line_n - 1 - begin;
	check_shown((const unsigned char *)line + begin, n);
	bool is_cut =
		line_n > DIAG_LINE_MAX - 16 && n >= 3 && memcmp(line + line_n - 4, cut, 3) == 0;
	check_same(line + begin, is_cut ? n - 3 : n, (const unsigned char *)text, strlen(text),
	           is_cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input input = {data, n};

	check_escape(data, n);
	/* Again and again, so that short inputs reach the end of a line too. */
	unsigned times = input_byte(&input);
	char *text = input_text(&input, -1);
	size_t size = strlen(text);
	char *repeated = malloc(size * (times % 64 + 1U) + 1);
	FUZZ_CHECK(repeated != NULL);
	for (unsigned i = 0; i <= times % 64; i++)
		memcpy(repeated + i * size, text, size);
	repeated[size * (times % 64 + 1U)] = '\0';
	check_diag(repeated);
	free(repeated);
	free(text);
	return 0;
}
