/* SPDX-License-Identifier: MIT */
#define HASH_NONFATAL_OOM 1
#include "net/interest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/command.h"
#include "wire/matcher.h"
#include "wire/pattern.h"

/* The bond between a set and a pattern; lives in the set's `members`. */
struct interest_member {
	struct interest_pattern *pattern;
	struct interest_set *set;
	LIST_ENTRY(interest_member) of_pattern;
};

struct interest_pattern {
	size_t uses; /* sets and commands under way that hold it */
	LIST_HEAD(, interest_member) members;
	uint64_t stamp; /* the question that `bits` answers, or that the pattern is marked for */
	struct bits bits;
	struct interest_pattern *next_active;
	uint32_t hash; /* of an exact pattern */
	bool is_exact;
	uint8_t size;
	char text[];
};

struct interest {
	uint64_t hash_key;
	struct matcher *matcher; /* of all patterns in use */
	struct interest_set *sets;
	uint64_t stamp; /* of the newest question */
	/* The question being asked. */
	struct interest_pattern *active;
	uint32_t entry;
	uint32_t hits;
};

/* ---- bits ---- */

uint32_t bits_find(const struct bits *bits, bool value, uint32_t i, uint32_t n)
{
	while (i < n) {
		uint64_t word = (value ? bits->word[i / 64] : ~bits->word[i / 64]) >> (i % 64);
		if (word != 0) {
			i += (uint32_t)__builtin_ctzll(word);
			return i < n ? i : n;
		}
		i = (i / 64 + 1) * 64;
	}
	return n;
}

uint32_t bits_count(const struct bits *bits)
{
	uint32_t count = 0;
	for (size_t i = 0; i < BLOCK_ENTRIES / 64; i++)
		count += (uint32_t)__builtin_popcountll(bits->word[i]);
	return count;
}

static void bits_set(struct bits *bits, uint32_t i)
{
	bits->word[i / 64] |= 1ULL << (i % 64);
}

/* ---- patterns ---- */

static struct slice pattern_text(const struct interest_pattern *pattern)
{
	return (struct slice){.at = pattern->text, .n = pattern->size};
}

/* A use of the pattern of this text; NULL: no memory. */
static struct interest_pattern *pattern_hold(struct interest *interest, struct slice text)
{
	struct interest_pattern *pattern = matcher_get(interest->matcher, text);
	if (pattern != NULL) {
		pattern->uses++;
		return pattern;
	}
	pattern = calloc(1, sizeof *pattern + text.n);
	if (pattern == NULL)
		return NULL;
	pattern->uses = 1;
	LIST_INIT(&pattern->members);
	pattern->is_exact = pattern_is_exact(text);
	pattern->hash = topic_hash(interest->hash_key, text);
	pattern->size = (uint8_t)text.n;
	memcpy(pattern->text, text.at, text.n);
	if (matcher_add(interest->matcher, text, pattern) != 0) {
		free(pattern);
		return NULL;
	}
	return pattern;
}

static void pattern_release(struct interest *interest, struct interest_pattern *pattern)
{
	assert(pattern->uses > 0);
	if (--pattern->uses > 0)
		return;
	assert(LIST_EMPTY(&pattern->members));
	matcher_remove(interest->matcher, pattern_text(pattern));
	free(pattern);
}

/* ---- sets ---- */

static int compare_pointers(const void *a, const void *b)
{
	const uintptr_t left = (uintptr_t) * (void *const *)a,
			right = (uintptr_t) * (void *const *)b;
	return left < right ? -1 : left > right;
}

/* The set filed under `key` (is_bare, then `count` sorted patterns), made where it isn't there. */
static struct interest_set *set_hold(struct interest *interest, void *const *key, size_t count)
{
	const size_t key_size = (count + 1) * sizeof *key;
	struct interest_set *set = NULL;

	HASH_FIND(hh, interest->sets, key, key_size, set);
	if (set != NULL) {
		set->uses++;
		return set;
	}
	set = calloc(1, sizeof *set + count * sizeof *set->members + key_size);
	if (set == NULL)
		return NULL;
	set->uses = 1;
	set->is_bare = key[0] != NULL;
	set->count = count;
	set->members = (struct interest_member *)(void *)(set + 1);
	set->key = (void **)(void *)(set->members + count);
	memcpy(set->key, key, key_size);
	TAILQ_INIT(&set->sides[0]);
	TAILQ_INIT(&set->sides[1]);
	HASH_ADD_KEYPTR(hh, interest->sets, set->key, key_size, set);
	if (set->hh.tbl == NULL) { /* HASH_NONFATAL_OOM */
		free(set);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		struct interest_member *member = &set->members[i];
		member->set = set;
		member->pattern = key[i + 1];
		member->pattern->uses++;
		set->wildcards += !member->pattern->is_exact;
		LIST_INSERT_HEAD(&member->pattern->members, member, of_pattern);
	}
	return set;
}

void interest_release(struct interest *interest, struct interest_set *set)
{
	assert(set->uses > 0);
	if (--set->uses > 0)
		return;
	assert(TAILQ_EMPTY(&set->sides[0]) && TAILQ_EMPTY(&set->sides[1]) && !set->is_due);
	HASH_DELETE(hh, interest->sets, set);
	for (size_t i = 0; i < set->count; i++) {
		LIST_REMOVE(&set->members[i], of_pattern);
		pattern_release(interest, set->members[i].pattern);
	}
	free(set);
}

static size_t count_words(struct slice words)
{
	size_t count = 0;
	while (command_next_pattern(&words).n > 0)
		count++;
	return count;
}

struct interest_set *interest_add(struct interest *interest, struct interest_set *set,
                                  struct slice words, bool is_bare)
{
	const size_t old = set == NULL ? 0 : set->count;
	size_t held = 0, count = 0;
	struct interest_set *result = NULL;
	/* key[0] is the format; behind it the old patterns, then the new ones that we hold. */
	void **key = malloc((1 + old + count_words(words)) * sizeof *key);
	void **added = NULL;

	if (key == NULL)
		return NULL;
	key[0] = is_bare ? interest : NULL;
	for (; count < old; count++)
		key[1 + count] = set->members[count].pattern;
	added = key + 1 + old;
	for (struct slice word; (word = command_next_pattern(&words)).n > 0; held++) {
		added[held] = pattern_hold(interest, word);
		if (added[held] == NULL)
			goto out;
	}
	/* Holds are given back by what stands in `uses`, so keep a list apart from the sorted key. */
	void **sorted = malloc((1 + old + held) * sizeof *sorted);
	if (sorted == NULL)
		goto out;
	memcpy(sorted, key, (1 + old + held) * sizeof *sorted);
	qsort(sorted + 1, old + held, sizeof *sorted, compare_pointers);
	count = 0;
	for (size_t i = 0; i < old + held; i++)
		if (count == 0 || sorted[count] != sorted[1 + i])
			sorted[++count] = sorted[1 + i];
	result = set_hold(interest, sorted, count);
	free(sorted);
out:
	while (held > 0)
		pattern_release(interest, added[--held]);
	free(key);
	return result;
}

int interest_subtract(struct interest *interest, struct interest_set *set, struct slice words,
                      struct interest_set **out)
{
	void **key = malloc((1 + set->count) * sizeof *key);
	size_t count = 0;

	if (key == NULL)
		return -ENOMEM;
	key[0] = set->is_bare ? interest : NULL;
	/* Marked patterns are those to be taken out. */
	const uint64_t stamp = ++interest->stamp;
	for (struct slice word; (word = command_next_pattern(&words)).n > 0;) {
		struct interest_pattern *pattern = matcher_get(interest->matcher, word);
		if (pattern != NULL)
			pattern->stamp = stamp;
	}
	for (size_t i = 0; i < set->count; i++)
		if (set->members[i].pattern->stamp != stamp)
			key[++count] = set->members[i].pattern;
	*out = count == 0 ? NULL : set_hold(interest, key, count);
	free(key);
	return count > 0 && *out == NULL ? -ENOMEM : 0;
}

size_t interest_count_with(struct interest *interest, const struct interest_set *set,
                           struct slice words)
{
	const uint64_t stamp = ++interest->stamp;
	size_t count = set == NULL ? 0 : set->count;

	for (size_t i = 0; i < count; i++)
		set->members[i].pattern->stamp = stamp;
	for (struct slice word; (word = command_next_pattern(&words)).n > 0;) {
		struct interest_pattern *pattern = matcher_get(interest->matcher, word);
		if (pattern == NULL || pattern->stamp != stamp)
			count++; /* one said twice in `words` counts twice: a limit may be strict */
	}
	return count;
}

/* ---- questions ---- */

static struct slice topic_of(const struct block *block, uint32_t i)
{
	return (struct slice){.at = block_topic(block, i),
	                      .n = entry_topic_size(block_entry(block, i))};
}

/* matcher_find's hit: entry interest->entry matches this pattern. */
static void mark_entry(void *value, void *context)
{
	struct interest_pattern *pattern = value;
	struct interest *interest = context;

	if (pattern->stamp != interest->stamp) {
		pattern->stamp = interest->stamp;
		memset(&pattern->bits, 0, sizeof pattern->bits);
		pattern->next_active = interest->active;
		interest->active = pattern;
	}
	bits_set(&pattern->bits, interest->entry);
	interest->hits++;
}

/* Adds what matched a pattern to the sets that hold it. */
static void spread(struct interest *interest, const struct interest_pattern *pattern,
                   struct interest_due_list *due)
{
	struct interest_member *member;
	LIST_FOREACH(member, &pattern->members, of_pattern) {
		struct interest_set *set = member->set;
		if (TAILQ_EMPTY(&set->sides[set->live_side]))
			continue;
		if (set->stamp != interest->stamp) {
			set->stamp = interest->stamp;
			set->bits = pattern->bits;
			set->is_due = true;
			TAILQ_INSERT_TAIL(due, set, due);
			continue;
		}
		for (size_t i = 0; i < BLOCK_ENTRIES / 64; i++)
			set->bits.word[i] |= pattern->bits.word[i];
	}
}

enum { ENTRIES_PER_LOOK = 16, HITS_PER_LOOK = 4096 }; /* between two looks at the clock */

uint32_t interest_match_all(struct interest *interest, const struct block *block, uint64_t end_us,
                            struct interest_due_list *due)
{
	uint32_t i = 0;

	interest->stamp++;
	interest->active = NULL;
	interest->hits = 0;
	while (i < block->count) {
		interest->entry = i;
		matcher_find(interest->matcher, topic_of(block, i),
		             block_entry(block, i)->topic_hash, mark_entry, interest);
		i++;
		if (i % ENTRIES_PER_LOOK != 0 && interest->hits < HITS_PER_LOOK)
			continue;
		interest->hits = 0;
		if (clock_mono_us() >= end_us)
			break;
	}
	for (struct interest_pattern *pattern = interest->active; pattern != NULL;
	     pattern = pattern->next_active)
		spread(interest, pattern, due);
	return i;
}

void interest_match_none(struct interest *interest, struct interest_due_list *due)
{
	struct interest_set *set, *next;
	HASH_ITER(hh, interest->sets, set, next) {
		if (TAILQ_EMPTY(&set->sides[set->live_side]))
			continue;
		set->is_due = true;
		TAILQ_INSERT_TAIL(due, set, due);
	}
}

/* The topic's bytes are looked at only where the hash agrees. */
static bool matches_one(const struct interest_pattern *pattern, const struct block *block,
                        uint32_t i)
{
	const struct entry *entry = block_entry(block, i);
	if (!pattern->is_exact)
		return pattern_matches(pattern_text(pattern), topic_of(block, i));
	return entry->topic_hash == pattern->hash && entry_topic_size(entry) == pattern->size &&
	       memcmp(block_topic(block, i), pattern->text, pattern->size) == 0;
}

bool interest_may_match_segment(const struct interest_set *set, const struct block *block)
{
	for (size_t n = 0; n < set->count; n++) {
		const struct interest_pattern *pattern = set->members[n].pattern;
		if (!pattern->is_exact || segment_may_hold(block->segment, pattern->hash))
			return true;
	}
	return false;
}

enum { QUESTION_COST = 64 << 10 }; /* wildcards times entries: about a millisecond */

uint32_t interest_question_size(const struct interest_set *set)
{
	size_t entries = QUESTION_COST / (set->wildcards + 1);
	return entries > BLOCK_ENTRIES ? BLOCK_ENTRIES : entries == 0 ? 1 : (uint32_t)entries;
}

static bool matches_any(const struct interest_set *set, const struct block *block, uint32_t i)
{
	for (size_t n = 0; n < set->count; n++)
		if (matches_one(set->members[n].pattern, block, i))
			return true;
	return false;
}

/* Pattern by pattern: what other followers of the worker want does not come into it. */
void interest_match_set(const struct interest_set *set, const struct block *block,
                        struct bits *bits)
{
	memset(bits, 0, sizeof *bits);
	for (uint32_t i = 0; i < block->count; i++)
		if (matches_any(set, block, i))
			bits_set(bits, i);
}

/* ---- life ---- */

struct interest *interest_new(uint64_t hash_key)
{
	struct interest *interest = calloc(1, sizeof *interest);
	if (interest == NULL)
		return NULL;
	interest->hash_key = hash_key;
	interest->matcher = matcher_new(hash_key);
	if (interest->matcher == NULL) {
		free(interest);
		return NULL;
	}
	return interest;
}

void interest_free(struct interest *interest)
{
	if (interest == NULL)
		return;
	assert(interest->sets == NULL);
	matcher_free(interest->matcher);
	free(interest);
}
