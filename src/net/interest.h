/* SPDX-License-Identifier: MIT */
/*
 * interest: which patterns the followers of one worker have, and what of a block matches them.
 *
 * Followers with the same patterns (and format) share one set. A block of the log is asked about
 * once: each entry is looked up once for all patterns (exact ones by hash, wildcards in a trie), and
 * what matched is a bit in its pattern's bits; a set's bits are the union of its patterns'. So the
 * work is per entry and per set that has something to get, never per follower.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_INTEREST_H
#define PSAD_NET_INTEREST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <uthash.h>

#include "log/log.h"
#include "wire/topic.h"

/* One bit for each entry of a block. */
struct bits {
	uint64_t word[BLOCK_ENTRIES / 64];
};

static inline bool bits_test(const struct bits *bits, uint32_t i)
{
	return (bits->word[i / 64] >> (i % 64) & 1) != 0;
}
/* The first bit that is `value` from i on, or n. */
uint32_t bits_find(const struct bits *bits, bool value, uint32_t i, uint32_t n);
uint32_t bits_count(const struct bits *bits);

struct follower;
TAILQ_HEAD(follower_list, follower);

struct interest_pattern;

struct interest_set {
	UT_hash_handle hh;
	size_t uses;  /* followers that hold it */
	bool is_bare; /* format: payloads alone */
	size_t count;
	size_t wildcards;                /* of those patterns */
	struct interest_member *members; /* `count` of them, sorted by pattern */
	void **key; /* is_bare, then the patterns: what the set is filed under */

	/*
	 * The live followers, see fanout.c: those on sides[live_side] have all that the walk has
	 * passed, those on the other side are due for the block of the current pass.
	 */
	struct follower_list sides[2];
	unsigned live_side;

	uint64_t stamp; /* the question that `bits` answers */
	struct bits bits;
	bool is_due; /* in interest_due_list of the current pass */
	TAILQ_ENTRY(interest_set) due;
};
TAILQ_HEAD(interest_due_list, interest_set);

struct interest;

/* NULL: no memory. `hash_key`: the log's. */
struct interest *interest_new(uint64_t hash_key);
void interest_free(struct interest *interest);

/*
 * The set of `set`'s patterns (NULL: none) and those of the `words` of a command (spaces between
 * them, checked). The caller holds one use of what is returned; its use of `set` stays. NULL: no
 * memory.
 */
struct interest_set *interest_add(struct interest *interest, struct interest_set *set,
                                  struct slice words, bool is_bare);
/*
 * The set without those patterns; those that aren't there do not matter. *out: NULL when none is
 * left. 0 or -ENOMEM.
 */
int interest_subtract(struct interest *interest, struct interest_set *set, struct slice words,
                      struct interest_set **out);
/* How many patterns `set` and `words` would make together; a new one said twice counts twice. */
size_t interest_count_with(struct interest *interest, const struct interest_set *set,
                           struct slice words);
/* Gives back one use. */
void interest_release(struct interest *interest, struct interest_set *set);

/*
 * Appends to `due` each set with live followers that something of the block matches, with bits.
 * Stops where many patterns have made it long (`end_us`, monotonic, is over): returns how many
 * entries have been looked at, at least one.
 */
uint32_t interest_match_all(struct interest *interest, const struct block *block, uint64_t end_us,
                            struct interest_due_list *due);
/* Appends each set with live followers, matched or not, with bits that mean nothing. */
void interest_match_none(struct interest *interest, struct interest_due_list *due);
/* False: nothing in the whole segment of the block matches the set. Looks at no entry. */
bool interest_may_match_segment(const struct interest_set *set, const struct block *block);
/*
 * How many entries may be put to the set in one question, so that its cost is bounded whatever
 * patterns a client has thought of.
 */
uint32_t interest_question_size(const struct interest_set *set);
/* What of the block matches one set. */
void interest_match_set(const struct interest_set *set, const struct block *block,
                        struct bits *bits);

#endif
