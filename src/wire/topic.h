/* SPDX-License-Identifier: MIT */
/*
 * topic: the names that messages carry.
 *
 * A topic is 1..TOPIC_MAX bytes of tokens separated by single dots; a token is not empty and
 * holds no white space or control byte (0x00-0x20, 0x7F), no '*' and no '>'. Bytes from 0x80 on
 * are allowed and mean nothing. Topics that begin with '$' belong to the broker.
 *
 * Pure functions of their arguments. Thread: any.
 */
#ifndef PSAD_WIRE_TOPIC_H
#define PSAD_WIRE_TOPIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOPIC_MAX = 255 };

/* A view of bytes that somebody else owns; not terminated. */
struct slice {
	const char *at;
	size_t n;
};

/*
 * Says whether a client may publish to `topic`. Returns NULL when it may, else a short reason
 * fit for the text of `ERR bad-topic` (a static string without line end).
 */
const char *topic_check(struct slice topic);

/*
 * The keyed hash by which a topic is filed in the log and looked up by subscribers. `key` is
 * random per log, so that topics can't be chosen beforehand to collide. Where two do, their bytes
 * tell them apart.
 */
uint32_t topic_hash(uint64_t key, struct slice topic);

/* Bits: what can be wrong with the bytes of a topic or pattern. For pattern.c, which asks more. */
enum topic_fault {
	TOPIC_FAULT_LENGTH = 1, /* none, or more than TOPIC_MAX; nothing else was looked at */
	TOPIC_FAULT_EMPTY_TOKEN = 2,
	TOPIC_FAULT_BLANK = 4,    /* white space or a control byte */
	TOPIC_FAULT_WILDCARD = 8, /* '*' or '>', wherever it stands */
};

/*
 * The size of the topic that begins at `at` and ends before a space within the n bytes, when it is
 * one that may be published to; 0 when it isn't, or where no space has come yet: topic_check() says
 * what is wrong. Word and check in one pass.
 */
size_t topic_scan(const char *at, size_t n);

/* The enum topic_fault bits of a name; 0 for the name of a topic. One pass, any bytes. */
unsigned topic_faults(struct slice name);

/* Takes the first token, and the dot behind it, off *rest, which is not empty and well formed. */
struct slice topic_next_token(struct slice *rest);

bool slice_equals(struct slice a, struct slice b);

/* The library that hashes, with its version: "xxhash 0.8.1". */
const char *topic_hash_library(void);

#endif
