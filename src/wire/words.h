/* SPDX-License-Identifier: MIT */
/*
 * words: a line taken apart at its spaces. Only 0x20 separates; a tab, a NUL or any other byte is
 * a byte of a word. Used by the command parser alone.
 *
 * Pure functions of their arguments. Thread: any.
 */
#ifndef PSAD_WIRE_WORDS_H
#define PSAD_WIRE_WORDS_H

#include "wire/topic.h"

/*
 * Takes the next word off *rest, with the spaces before it; *rest then begins at the space behind
 * it, or is empty. n = 0 when only spaces were left.
 */
struct slice words_next(struct slice *rest);

/* True when the word is `upper` (capital letters), in any case. */
bool word_is(struct slice word, const char *upper);

/* Reads 1 to 19 decimal digits, at most 2^63-1, and nothing else. */
bool word_number(struct slice word, uint64_t *number);

#endif
