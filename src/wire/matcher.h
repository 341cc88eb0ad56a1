/* SPDX-License-Identifier: MIT */
/*
 * matcher: many patterns, asked together which of them match a topic.
 *
 * Exact patterns live in a hash table filed under topic_hash (so that a lookup costs one probe,
 * and a topic's bytes are looked at only when the hash is there), wildcards in a trie of tokens.
 * The cost of a question does not grow with the number of exact patterns; for wildcards it is
 * bounded by the trie nodes that agree with the topic, and memory by a small multiple of the
 * patterns' text (trie.h).
 *
 * Owns its copies of the pattern texts; the values are the caller's.
 * Thread: one at a time (each worker has its own).
 */
#ifndef PSAD_WIRE_MATCHER_H
#define PSAD_WIRE_MATCHER_H

#include "wire/topic.h"

struct matcher;

/* `hash_key`: the key that every `hash` given to this matcher was made with. NULL: no memory. */
struct matcher *matcher_new(uint64_t hash_key);
/* Releases the matcher and what it copied; NULL is fine. */
void matcher_free(struct matcher *matcher);

/*
 * Files `value` (not NULL) under a checked pattern. 0; -EEXIST when the pattern is filed
 * already; -ENOMEM, and then nothing changed.
 */
int matcher_add(struct matcher *matcher, struct slice pattern, void *value);

/* The value filed under exactly this pattern text, or NULL. */
void *matcher_get(const struct matcher *matcher, struct slice pattern);

/* Takes a pattern out and returns its value; NULL when it isn't there. */
void *matcher_remove(struct matcher *matcher, struct slice pattern);

/* True when a wildcard pattern is filed, so that questions look at topic bytes. */
bool matcher_has_wildcards(const struct matcher *matcher);

/*
 * Calls hit(value, context) once for each filed pattern that matches `topic`, in no particular
 * order. `hash` is topic_hash(hash_key, topic). Allocates nothing. `hit` must not change the
 * matcher.
 */
void matcher_find(const struct matcher *matcher, struct slice topic, uint32_t hash,
                  void (*hit)(void *value, void *context), void *context);

#endif
