/* SPDX-License-Identifier: MIT */
/*
 * escape: bytes of strangers made fit for a line on a terminal: control bytes, line ends, the
 * backslash and what is not UTF-8 become \n, \\ or \x1b. Thread: any.
 */
#ifndef PSAD_BASE_ESCAPE_H
#define PSAD_BASE_ESCAPE_H

#include <stddef.h>

enum { ESCAPE_MAX = 8 }; /* bytes that are enough for what stands for one character */

/*
 * Deals with the character at the beginning of the n > 0 bytes at `at`: *taken is how many of them
 * it has. What stands for it is written into `piece`, without a NUL; returns how many bytes that
 * are.
 */
size_t escape_one(const unsigned char *at, size_t n, char piece[ESCAPE_MAX], size_t *taken);

#endif
