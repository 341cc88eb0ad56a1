/* SPDX-License-Identifier: MIT */
/*
 * text: a topic or pattern with a place for a number, "user.%d".
 */
#ifndef LOAD_TEXT_H
#define LOAD_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/decimal.h"

struct text {
	const char *before, *after;
	size_t before_size, after_size;
	bool has_number;
};

static inline struct text text_make(const char *from)
{
	const char *mark = strstr(from, "%d");
	struct text text = {.before = from, .before_size = strlen(from), .after = ""};

	if (mark != NULL) {
		text.has_number = true;
		text.before_size = (size_t)(mark - from);
		text.after = mark + 2;
		text.after_size = strlen(text.after);
	}
	return text;
}

/* Writes it and no NUL; returns its size: up to 18 more than what it was made from. */
static inline size_t text_write(const struct text *text, char *at, uint64_t number)
{
	char *begin = at;

	memcpy(at, text->before, text->before_size);
	at += text->before_size;
	if (text->has_number)
		at += decimal_write(at, number);
	memcpy(at, text->after, text->after_size);
	return (size_t)(at - begin) + text->after_size;
}

#endif
