/* SPDX-License-Identifier: MIT */
#define HASH_NONFATAL_OOM 1
#include "net/interest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "log/frame.h"
#include "wire/command.h"
#include "wire/matcher.h"
#include "wire/pattern.h"

/* The bond between a set and a pattern; lives in the set's `members`. */
struct interest_member {
	struct interest_pattern *pattern;
	struct interest_set *set;
	LIST_ENTRY(interest_member) of_pattern;
	struct interest_member *next_active; /* in the set's list */
};

/* Neighbouring entries that match a pattern. */
struct run {
	uint32_t first, count;
	uint32_t before; /* an earlier one's place in interest->runs, or RUN_NONE */
};

enum { RUNS_MIN = 256, RUNS_MAX = 128 << 10, RUN_NONE = UINT32_MAX };

struct interest_pattern {
	size_t uses; /* sets and commands under way that hold it */
	LIST_HEAD(, interest_member) members;
	uint64_t stamp;  /* the question that `last` answers, or that the pattern is marked for */
	struct run last; /* the earlier ones are in interest->runs */
	uint32_t bytes;  /* of the frames that matched */
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
	uint64_t stamp;      /* of the newest question */
	uint64_t set_number; /* of the newest set */
	/* The question being asked, or asked last. */
	struct interest_pattern *active;
	uint32_t active_count;
	uint32_t entry, entry_size;
	uint32_t hits;
	bool is_full; /* a pattern has QUESTION_BYTES */
	struct run *runs;
	uint32_t run_count, run_room;
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

static void bits_clear(struct bits *bits, uint32_t n)
{
	memset(bits, 0, (n + 63) / 64 * sizeof bits->word[0]);
}

static void bits_set(struct bits *bits, uint32_t i)
{
	bits->word[i / 64] |= 1ULL << (i % 64);
}

static void bits_set_run(struct bits *bits, uint32_t first, uint32_t count)
{
	uint32_t end = first + count;

	while (first < end) {
		uint32_t next = (first / 64 + 1) * 64;
		uint64_t word = ~0ULL << (first % 64);
		if (next > end)
			word &= ~0ULL >> (next - end);
		bits->word[first / 64] |= word;
		first = next;
	}
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

/* Nobody publishes to topics that begin with $, the only ones that it does not match. */
static const struct slice everything = {.at = ">", .n = 1};

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
	set->number = ++interest->set_number;
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
		set->is_everything |= slice_equals(pattern_text(member->pattern), everything);
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
	/* Each hold is given back, those said twice too: the sorted key is a list of its own. */
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

/* matcher_find's hit: entry interest->entry matches this pattern. There is room for a run. */
static void mark_entry(void *value, void *context)
{
	struct interest_pattern *pattern = value;
	struct interest *interest = context;
	struct run *last = &pattern->last;

	interest->hits++;
	if (pattern->stamp != interest->stamp) {
		pattern->stamp = interest->stamp;
		pattern->next_active = interest->active;
		interest->active = pattern;
		interest->active_count++;
		pattern->bytes = 0;
		*last = (struct run){.first = interest->entry, .before = RUN_NONE};
	} else if (last->first + last->count != interest->entry) {
		uint32_t place = interest->run_count++;
		interest->runs[place] = *last;
		*last = (struct run){.first = interest->entry, .before = place};
	}
	last->count++;
	pattern->bytes += interest->entry_size;
	if (pattern->bytes >= QUESTION_BYTES)
		interest->is_full = true;
}

/* Tells the sets that hold a pattern that it has matched something. */
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
			set->active = NULL;
			set->is_due = true;
			TAILQ_INSERT_TAIL(due, set, due);
		}
		member->next_active = set->active;
		set->active = member;
	}
}

void interest_bits(const struct interest *interest, const struct interest_set *set, uint32_t n,
                   struct bits *bits)
{
	const struct interest_member *member;

	bits_clear(bits, n);
	for (member = set->active; member != NULL; member = member->next_active) {
		struct run run = member->pattern->last;
		bits_set_run(bits, run.first, run.count);
		while (run.before != RUN_NONE) {
			run = interest->runs[run.before];
			bits_set_run(bits, run.first, run.count);
		}
	}
}

/* Runs were too few for the last question: this one may have more. */
static void widen(struct interest *interest)
{
	uint32_t room = interest->run_room * 2;
	struct run *runs;

	if (interest->run_count + interest->active_count <= interest->run_room || room > RUNS_MAX)
		return;
	runs = realloc(interest->runs, room * sizeof *runs);
	if (runs == NULL)
		return; /* shorter questions do as well */
	interest->runs = runs;
	interest->run_room = room;
}

/* The topic that will be looked at so many entries later is fetched from memory meanwhile. */
enum { ENTRIES_AHEAD = 16 };
enum { ENTRIES_PER_LOOK = 64, HITS_PER_LOOK = 4096 }; /* between two looks at the clock */

/* Whether the question has to end before its next entry, the `looked`th. */
static bool is_over(struct interest *interest, uint32_t looked, uint64_t end_us)
{
	/* Each pattern that has a run may need another one. */
	if (interest->is_full || interest->run_count + interest->active_count > interest->run_room)
		return true;
	if (looked % ENTRIES_PER_LOOK != 0 && interest->hits < HITS_PER_LOOK)
		return false;
	interest->hits = 0;
	return clock_mono_us() >= end_us;
}

uint32_t interest_match_all(struct interest *interest, const struct block *block, uint64_t end_us,
                            struct interest_due_list *due)
{
	uint32_t i = 0;

	widen(interest);
	interest->stamp++;
	interest->active = NULL;
	interest->active_count = interest->run_count = interest->hits = 0;
	interest->is_full = false;
	do {
		const struct entry *entry = block_entry(block, i);
		if (i + ENTRIES_AHEAD < block->count)
			__builtin_prefetch(block_topic(block, i + ENTRIES_AHEAD));
		interest->entry = i;
		interest->entry_size = entry->size;
		matcher_find(interest->matcher, topic_of(block, i), entry->topic_hash, mark_entry,
		             interest);
	} while (++i < block->count && !is_over(interest, i, end_us));
	for (struct interest_pattern *pattern = interest->active; pattern != NULL;
	     pattern = pattern->next_active)
		spread(interest, pattern, due);
	return i;
}

void interest_match_none(struct interest *interest, struct interest_due_list *due)
{
	struct interest_set *set, *next;
	HASH_ITER(hh, interest->sets, set, next) {
		if (set->is_due || TAILQ_EMPTY(&set->sides[set->live_side]))
			continue;
		set->active = NULL;
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

enum {
	QUESTION_COST = 64 << 10, /* wildcards times entries: about a millisecond */
	EXACT_PER_WILDCARD = 16,  /* that cost as much: their hashes are compared */
};

uint32_t interest_question_size(const struct interest_set *set)
{
	size_t exact = set->count - set->wildcards;
	size_t entries = QUESTION_COST / (set->wildcards + exact / EXACT_PER_WILDCARD + 1);
	return entries > BLOCK_ENTRIES ? BLOCK_ENTRIES : entries == 0 ? 1 : (uint32_t)entries;
}

static bool matches_any(const struct interest_set *set, const struct block *block, uint32_t i)
{
	for (size_t n = 0; n < set->count; n++)
		if (matches_one(set->members[n].pattern, block, i))
			return true;
	return false;
}

/* The bits from..to - 1 are cleared; whole words at once. */
static void bits_clear_range(struct bits *bits, uint32_t from, uint32_t to)
{
	while (from < to) {
		uint32_t next = (from / 64 + 1) * 64;
		uint64_t word = ~0ULL << (from % 64);
		if (next > to)
			word &= ~0ULL >> (next - to);
		bits->word[from / 64] &= ~word;
		from = next;
	}
}

/* As below, for a set that is one topic, which most are: a few nanoseconds an entry. */
static uint64_t match_topic(const struct interest_pattern *pattern, const struct block *block,
                            uint32_t from, uint32_t to, struct bits *bits)
{
	const char *map = block->map;
	const struct entry *entry = block_entry(block, from);
	const size_t size = pattern->size;
	uint64_t bytes = 0;
	uint32_t digits_end = from; /* ids below have as many digits as that of `topic_at` */
	uint32_t topic_at = 0;

	for (uint32_t i = from; i < to; i++, entry--) { /* the index grows downwards */
		if (i == digits_end) {
			/* Where the last id has more digits than this one, each is asked. */
			topic_at = frame_topic_offset(block->first + i);
			digits_end = to;
			if (frame_topic_offset(block->first + to - 1) != topic_at)
				digits_end = i + 1;
		}
		if (i + ENTRIES_AHEAD < to)
			__builtin_prefetch(map + (entry - ENTRIES_AHEAD)->offset);
		if (entry->topic_hash != pattern->hash || entry_topic_size(entry) != size ||
		    memcmp(map + entry->offset + topic_at, pattern->text, size) != 0)
			continue;
		bits_set(bits, i);
		bytes += entry->size;
	}
	return bytes;
}

/* Pattern by pattern: what other followers of the worker want does not come into it. */
uint64_t interest_match_range(const struct interest_set *set, const struct block *block,
                              uint32_t from, uint32_t to, struct bits *bits)
{
	uint64_t bytes = 0;

	if (set->is_everything) {
		const struct entry *last = block_entry(block, to - 1);
		bits_set_run(bits, from, to - from);
		return (uint64_t)last->offset + last->size - block_entry(block, from)->offset;
	}
	bits_clear_range(bits, from, to);
	if (set->count == 1 && set->wildcards == 0)
		return match_topic(set->members[0].pattern, block, from, to, bits);
	for (uint32_t i = from; i < to; i++) {
		if (!matches_any(set, block, i))
			continue;
		bits_set(bits, i);
		bytes += block_entry(block, i)->size;
	}
	return bytes;
}

/* ---- life ---- */

struct interest *interest_new(uint64_t hash_key)
{
	struct interest *interest = calloc(1, sizeof *interest);
	if (interest == NULL)
		return NULL;
	interest->hash_key = hash_key;
	interest->matcher = matcher_new(hash_key);
	interest->runs = malloc(RUNS_MIN * sizeof *interest->runs);
	interest->run_room = RUNS_MIN;
	if (interest->matcher == NULL || interest->runs == NULL) {
		matcher_free(interest->matcher);
		free(interest->runs);
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
	free(interest->runs);
	free(interest);
}
