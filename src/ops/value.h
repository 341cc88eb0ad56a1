/* SPDX-License-Identifier: MIT */
/*
 * value: what the words of a configuration mean: numbers, sizes, times, choices, addresses.
 *
 * Every function takes a text without blanks around it and returns true with the result in *out,
 * or false and in *reason why not: a short text that reads well behind "section.key: ". Nothing is
 * guessed, nothing overflows.
 *
 * Thread: any.
 */
#ifndef PSAD_OPS_VALUE_H
#define PSAD_OPS_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct value_reason {
	char text[256];
};

struct value_bounds {
	uint64_t least;
	uint64_t most;
};

/* A decimal number. */
bool value_count(const char *text, struct value_bounds bounds, uint64_t *out,
                 struct value_reason *reason);

/* Bytes: a number, or one with K, M or G (of 1024), in either case. */
bool value_size(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason);

/* Milliseconds: a number with ms, s, m, h or d, or just 0. */
bool value_time(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason);

/* Permission bits in octal digits. */
bool value_mode(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason);

/* The index in `words` (NULL behind the last) of the one that `text` is. */
bool value_choice(const char *text, const char *const *words, uint64_t *out,
                  struct value_reason *reason);

struct config_address {
	struct sockaddr_storage address;
	socklen_t length;
	/* The machine may lack it, then it is skipped: [::] of ":9853", and the defaults. */
	bool may_be_missing;
	char text[80]; /* "127.0.0.1:9853", "[::1]:9853" */
};

enum { VALUE_ADDRESSES_MAX = 64 };

/* Owns `at`; all zero is an empty one. */
struct value_addresses {
	struct config_address *at;
	size_t count;
};

/*
 * Adds the addresses of a list with commas to *list: "127.0.0.1:9853", "[::1]:9853"; ":9853" adds
 * 0.0.0.0 and [::]. Port 0 is allowed, names are not. An empty text adds nothing; a comma may end
 * the list.
 */
bool value_addresses(const char *text, struct value_addresses *list, struct value_reason *reason);
void value_addresses_free(struct value_addresses *list);

/*
 * True for an address that only this machine reaches: 127.0.0.0/8, ::1 and Unix sockets. Anything
 * else must not be listened on unless listen.insecure says yes (sockets handed over too).
 */
bool value_address_is_local(const struct sockaddr *address);

/* 65536 as "64K", 1000 as "1000": what value_size() reads. */
struct value_amount {
	char text[32];
};
struct value_amount value_size_text(uint64_t bytes);
/* 60000 as "1m", 1500 as "1500ms", 0 as "0": what value_time() reads. */
struct value_amount value_time_text(uint64_t ms);

#endif
