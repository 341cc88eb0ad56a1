/* SPDX-License-Identifier: MIT */
#include "wire/matcher.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A failed allocation is an answer (-ENOMEM), never an exit(). */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "wire/pattern.h"
#include "wire/trie.h"

struct exact {
	UT_hash_handle hh; /* in matcher->exacts; the key is the text */
	void *value;
	char text[];
};

struct matcher {
	uint64_t hash_key;
	struct exact *exacts; /* uthash, filed under topic_hash(hash_key, text) */
	struct trie *wildcards;
	size_t wildcard_count;
};

struct matcher *matcher_new(uint64_t hash_key)
{
	struct matcher *matcher = malloc(sizeof(*matcher));

	if (matcher == NULL)
		return NULL;
	*matcher = (struct matcher){.hash_key = hash_key, .wildcards = trie_new(hash_key)};
	if (matcher->wildcards == NULL) {
		free(matcher);
		return NULL;
	}
	return matcher;
}

void matcher_free(struct matcher *matcher)
{
	struct exact *exact, *next;

	if (matcher == NULL)
		return;
	HASH_ITER(hh, matcher->exacts, exact, next) {
		HASH_DELETE(hh, matcher->exacts, exact);
		free(exact);
	}
	trie_free(matcher->wildcards);
	free(matcher);
}

static struct exact *find_exact(const struct matcher *matcher, struct slice topic, uint32_t hash)
{
	struct exact *exact;

	HASH_FIND_BYHASHVALUE(hh, matcher->exacts, topic.at, topic.n, hash, exact);
	return exact;
}

static int add_exact(struct matcher *matcher, struct slice pattern, void *value)
{
	uint32_t hash = topic_hash(matcher->hash_key, pattern);

	if (find_exact(matcher, pattern, hash) != NULL)
		return -EEXIST;
	struct exact *exact = malloc(sizeof(*exact) + pattern.n);
	if (exact == NULL)
		return -ENOMEM;
	exact->value = value;
	memcpy(exact->text, pattern.at, pattern.n);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, matcher->exacts, exact->text, pattern.n, hash, exact);
	if (exact->hh.tbl == NULL) {
		free(exact);
		return -ENOMEM;
	}
	return 0;
}

int matcher_add(struct matcher *matcher, struct slice pattern, void *value)
{
	assert(value != NULL);
	assert(pattern_check(pattern) == NULL);

	if (pattern_is_exact(pattern))
		return add_exact(matcher, pattern, value);
	int error = trie_add(matcher->wildcards, pattern, value);
	if (error == 0)
		matcher->wildcard_count++;
	return error;
}

void *matcher_get(const struct matcher *matcher, struct slice pattern)
{
	if (!pattern_is_exact(pattern))
		return trie_get(matcher->wildcards, pattern);
	struct exact *exact = find_exact(matcher, pattern, topic_hash(matcher->hash_key, pattern));
	return exact != NULL ? exact->value : NULL;
}

static void *remove_exact(struct matcher *matcher, struct slice pattern)
{
	struct exact *exact = find_exact(matcher, pattern, topic_hash(matcher->hash_key, pattern));

	if (exact == NULL)
		return NULL;
	void *value = exact->value;
	HASH_DELETE(hh, matcher->exacts, exact);
	free(exact);
	return value;
}

void *matcher_remove(struct matcher *matcher, struct slice pattern)
{
	if (pattern_is_exact(pattern))
		return remove_exact(matcher, pattern);
	void *value = trie_remove(matcher->wildcards, pattern);
	if (value != NULL)
		matcher->wildcard_count--;
	return value;
}

bool matcher_has_wildcards(const struct matcher *matcher)
{
	return matcher->wildcard_count > 0;
}

void matcher_find(const struct matcher *matcher, struct slice topic, uint32_t hash,
                  void (*hit)(void *value, void *context), void *context)
{
	const struct exact *exact = find_exact(matcher, topic, hash);

	if (exact != NULL)
		hit(exact->value, context);
	if (matcher->wildcard_count > 0)
		trie_find(matcher->wildcards, topic, hit, context);
}
