/* SPDX-License-Identifier: MIT */
/*
 * escape: bytes of strangers made fit for a line on a terminal: control bytes, line ends, the
 * backslash and what is not UTF-8 become \n, \\ or \x1b. Thread: any.
 */
#ifndef PSAD_BASE_ESCAPE_H
#define PSAD_BASE_ESCAPE_H

#include <stddef.h>

enum { ESCAPE_MAX = 8 };

/* Writes what stands for the character at `at`, of which n > 0 bytes are there, into `piece`, no
 * NUL; returns how many bytes that are. *taken bytes of it are dealt with. */
size_t escape_one(const unsigned char *at, size_t n, char piece[ESCAPE_MAX], size_t *taken);

#endif
