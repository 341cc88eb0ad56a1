/* SPDX-License-Identifier: MIT */
#include "wire/answer.h"

#include <assert.h>

#include "base/decimal.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define X(name, word) word,
static const char *const error_words[] = {ERROR_TABLE(X)};
static const char *const gap_words[] = {GAP_TABLE(X)};
static const char *const bye_words[] = {BYE_TABLE(X)};
#undef X

const char *error_word(enum error_code code)
{
	assert((size_t)code < ARRAY_SIZE(error_words));
	return error_words[code];
}

const char *gap_word(enum gap_reason reason)
{
	assert((size_t)reason < ARRAY_SIZE(gap_words));
	return gap_words[reason];
}

const char *bye_word(enum bye_reason reason)
{
	assert((size_t)reason < ARRAY_SIZE(bye_words));
	return bye_words[reason];
}

struct position_text position_format(uint64_t id, uint32_t log)
{
	struct position_text text;
	unsigned n = decimal_write(text.at, id);

	text.at[n++] = '@';
	for (int shift = 28; shift >= 0; shift -= 4)
		text.at[n++] = "0123456789abcdef"[log >> shift & 0xF];
	text.at[n] = '\0';
	return text;
}
