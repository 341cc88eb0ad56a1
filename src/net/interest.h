/* SPDX-License-Identifier: MIT */
/*
 * interest: which patterns the followers of one worker have, and what of a block matches them.
 *
 * Followers with the same patterns (and format) share one set. A block of the log is asked about
 * once (a *question*): each entry is looked up once for all patterns (exact ones by hash, wildcards
 * in a trie), and what matched is kept as runs of neighbouring entries with its pattern; a set's
 * bits are the union of its patterns' runs, made when the set's turn has come. So the work is per
 * entry and per set that has something to get, never per follower.
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

struct follower;
TAILQ_HEAD(follower_list, follower);

struct interest_pattern;

struct interest_set {
	UT_hash_handle hh;
	uint64_t number;    /* never used twice */
	size_t uses;        /* followers that hold it */
	bool is_bare;       /* format: payloads alone */
	bool is_everything; /* `>` is among its patterns */
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

	uint64_t stamp;                 /* the question that `active` answers */
	struct interest_member *active; /* those of its patterns that something matched */
	bool is_due;                    /* in interest_due_list of the current pass */
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
 * Bytes of frames that may match one pattern in one question: what is worth one write, and what a
 * socket takes at once. More than a message's length beyond it are never collected.
 */
enum { QUESTION_BYTES = 256 << 10 };

/*
 * Appends to `due` each set with live followers that something of the block matches;
 * interest_bits() then says what, until the next question. Stops early where a pattern has had
 * QUESTION_BYTES, where many patterns have made it long (`end_us`, monotonic, is over), and where
 * what matches is too scattered to be kept: returns how many entries have been looked at, at least
 * one.
 */
uint32_t interest_match_all(struct interest *interest, const struct block *block, uint64_t end_us,
                            struct interest_due_list *due);
/* What matches a set that is due, of the n entries that have been looked at. */
void interest_bits(const struct interest *interest, const struct interest_set *set, uint32_t n,
                   struct bits *bits);
/* Appends each set with live followers that is not due yet, matched or not; it has no bits. */
void interest_match_none(struct interest *interest, struct interest_due_list *due);
/* False: nothing in the whole segment of the block matches the set. Looks at no entry. */
bool interest_may_match_segment(const struct interest_set *set, const struct block *block);
/*
 * How many entries may be put to the set in one question, so that its cost is bounded whatever
 * patterns a client has thought of.
 */
uint32_t interest_question_size(const struct interest_set *set);
/* What of the entries from..to - 1 matches one set: sets these bits, and returns the bytes of the
 * frames that match. */
uint64_t interest_match_range(const struct interest_set *set, const struct block *block,
                              uint32_t from, uint32_t to, struct bits *bits);

#endif
