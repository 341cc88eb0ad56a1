/* SPDX-License-Identifier: MIT */
#include "wire/words.h"

#include <string.h>

/* 19 digits stay below 2^64, so that they can be added up before they are compared. */
enum { DIGITS_MAX = 19 };

struct slice words_next(struct slice *rest)
{
	const char *at = rest->at;
	const char *end = at + rest->n;

	while (at < end && *at == ' ')
		at++;
	const char *space = at < end ? memchr(at, ' ', (size_t)(end - at)) : NULL;
	const char *word_end = space != NULL ? space : end;
	*rest = (struct slice){word_end, (size_t)(end - word_end)};
	return (struct slice){at, (size_t)(word_end - at)};
}

bool word_is(struct slice word, const char *upper)
{
	for (size_t i = 0; i < word.n; i++) {
		/* Only the two cases of a letter become a capital without bit 0x20. A NUL byte
		 * would equal the end of `upper`, so that is asked for first. */
		if (upper[i] == '\0' || (word.at[i] & ~0x20) != upper[i])
			return false;
	}
	return upper[word.n] == '\0';
}

bool word_number(struct slice word, uint64_t *number)
{
	if (word.n == 0 || word.n > DIGITS_MAX)
		return false;

	uint64_t sum = 0;
	for (size_t i = 0; i < word.n; i++) {
		if (word.at[i] < '0' || word.at[i] > '9')
			return false;
		sum = sum * 10 + (uint64_t)(word.at[i] - '0');
	}
	if (sum > INT64_MAX)
		return false;
	*number = sum;
	return true;
}
