/* SPDX-License-Identifier: MIT */
/*
 * fuzz: what the fuzz targets share.
 *
 * A target is a function that takes any bytes and aborts when a promise is broken. It is driven by
 * libFuzzer or AFL++, which make up the bytes, and by replay.c, which reads them from files.
 */
#ifndef PSAD_FUZZ_FUZZ_H
#define PSAD_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not assert(): it must hold in every build. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The same with a printf that says more. */
#define FUZZ_CHECKF(condition, ...)                                                                \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: broken: %s: ", __FILE__, __LINE__, #condition);    \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The bytes of an input, taken from the front; zeros where there are no more. */
struct input {
	const uint8_t *at;
	size_t n;
};

static inline uint8_t input_byte(struct input *input)
{
	if (input->n == 0)
		return 0;
	input->n--;
	return *input->at++;
}

static inline uint16_t input_short(struct input *input)
{
	uint16_t low = input_byte(input);
	return (uint16_t)(low | input_byte(input) << 8);
}

/*
 * What stands before the next byte `end` (-1: none ends it), or all that is left, as a string of
 * its own that the caller
 * frees: in a block of its size, so that the address sanitizer sees a byte too many. A NUL ends it
 * early, as it does for whoever reads a string.
 */
static inline char *input_text(struct input *input, int end)
{
	const uint8_t *stop = end < 0 || input->n == 0 ? NULL : memchr(input->at, end, input->n);
	size_t n = stop == NULL ? input->n : (size_t)(stop - input->at);
	char *raw = malloc(n + 1);

	FUZZ_CHECK(raw != NULL);
	if (n > 0)
		memcpy(raw, input->at, n);
	raw[n] = '\0';
	input->at += n + (stop != NULL);
	input->n -= n + (stop != NULL);
	char *text = strdup(raw);
	FUZZ_CHECK(text != NULL);
	free(raw);
	return text;
}

#endif
