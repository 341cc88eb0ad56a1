/* SPDX-License-Identifier: MIT */
/*
 * trie: the wildcard patterns of a matcher, filed token by token.
 *
 * It is a radix tree over tokens (Morrison's PATRICIA, with tokens for bits): a run of tokens at
 * which no pattern branches off is one node, so that n patterns make at most 2n nodes, whatever
 * they are. With a node for each token one connection could make 128 of them with a line of 260
 * bytes, and that 1024 times.
 *
 * Takes any checked pattern, but exact ones are better off in the matcher's hash table.
 * Owns its copies of the pattern texts; the values are the caller's.
 * Thread: one at a time.
 */
#ifndef PSAD_WIRE_TRIE_H
#define PSAD_WIRE_TRIE_H

#include "wire/topic.h"

struct trie;

/* `hash_key`: random, so that nobody can choose tokens that collide. NULL: no memory. */
struct trie *trie_new(uint64_t hash_key);
/* NULL is fine. */
void trie_free(struct trie *trie);

/* As matcher_add(), matcher_get() and matcher_remove(). */
int trie_add(struct trie *trie, struct slice pattern, void *value);
void *trie_get(const struct trie *trie, struct slice pattern);
void *trie_remove(struct trie *trie, struct slice pattern);

/*
 * Calls hit(value, context) for each pattern that matches `topic`. Visits only nodes whose tokens
 * agree with the topic; allocates nothing, does not recurse.
 */
void trie_find(const struct trie *trie, struct slice topic, void (*hit)(void *value, void *context),
               void *context);

#endif
