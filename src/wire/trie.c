/* SPDX-License-Identifier: MIT */
/*
 *   patterns a.*.c, a.*.d, a.>, *.x.*:
 *
 *                  root
 *           "a" /        \ "*.x.*"      the label of the edge is kept in the lower node;
 *            node         node          "a" has a value at `rest`, "*.x.*" and the leaves
 *     "*" /                             "c" and "d" have theirs at `here`
 *      node
 *   "c" /  \ "d"
 *
 * All edges are in one hash table, filed under the upper node's number and the label's first
 * token, by which the edges of a node differ. (A table for each node would cost 600 bytes each.)
 * The number is not the node's address, so that a node can be cut in two, or two made one, while
 * the edges to the nodes below stay as they are filed: an uthash item must not move, and to file
 * it again may need memory.
 */
#include "wire/trie.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A failed allocation is an answer (-ENOMEM), never an exit(). */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "wire/pattern.h"

enum {
	TOKENS_MAX = (TOPIC_MAX + 1) / 2,
	DEPTH_MAX = TOKENS_MAX + 1, /* and the root */
};

struct node {
	UT_hash_handle hh;     /* in trie->edges; the key is `from` and the label's first token */
	struct node *children; /* all of them; linked by `prev` and `next` */
	struct node *prev, *next;
	struct node *star; /* the child whose label begins with "*", or NULL */
	void *here;        /* the value of the pattern that ends here, or NULL */
	void *rest;        /* the value of the pattern that ends with ">" from here, or NULL */
	uint64_t number;   /* the children are filed under it */
	size_t label_n;
	uint64_t from; /* the number of the node above */
	char label[];  /* tokens between that node and this one, '*' among them; never '>' */
};

/* What an edge is looked up with: a node's `from` and the beginning of its label. */
struct edge {
	uint64_t from;
	char token[TOPIC_MAX];
};

static_assert(offsetof(struct node, label) == offsetof(struct node, from) + sizeof(uint64_t),
              "a node's key must be one piece");
static_assert(offsetof(struct edge, token) == sizeof(uint64_t), "an edge's key must be one piece");

struct trie {
	uint64_t hash_key;
	uint64_t last_number;
	struct node *edges; /* uthash: every node but the root */
	struct node *root;  /* an empty label; `here` is never set */
};

/* The nodes from the root down to one of them. */
struct path {
	size_t n;
	struct node *at[DEPTH_MAX];
};

static struct slice label_of(const struct node *node)
{
	return (struct slice){node->label, node->label_n};
}

static struct slice first_token(struct slice tokens)
{
	return topic_next_token(&tokens);
}

static bool is_star(struct slice token)
{
	return token.n == 1 && token.at[0] == '*';
}

/* Numbers are spread over all 64 bits, because the hash only adds them to what a token gives. */
static uint64_t new_number(struct trie *trie)
{
	return trie->last_number += UINT64_C(0x9E3779B97F4A7C15);
}

static uint32_t edge_hash(const struct trie *trie, uint64_t from, struct slice token)
{
	return topic_hash(trie->hash_key + from, token);
}

/* The node below `from` whose label begins with `token`, or NULL. */
static struct node *edge_find(const struct trie *trie, uint64_t from, struct slice token)
{
	struct edge edge;
	struct node *node;

	edge.from = from;
	memcpy(edge.token, token.at, token.n);
	HASH_FIND_BYHASHVALUE(hh, trie->edges, &edge, sizeof(edge.from) + token.n,
	                      edge_hash(trie, from, token), node);
	return node;
}

/* Files a node with its `from` and label; -ENOMEM, and then it is not filed. */
static int edge_add(struct trie *trie, struct node *node)
{
	struct slice token = first_token(label_of(node));
	uint32_t hash = edge_hash(trie, node->from, token);

	HASH_ADD_KEYPTR_BYHASHVALUE(hh, trie->edges, &node->from, sizeof(node->from) + token.n,
	                            hash, node);
	return node->hh.tbl != NULL ? 0 : -ENOMEM;
}

static void link_child(struct node *above, struct node *child)
{
	DL_APPEND(above->children, child);
	if (is_star(first_token(label_of(child))))
		above->star = child;
}

static void unlink_child(struct node *above, struct node *child)
{
	DL_DELETE(above->children, child);
	if (above->star == child)
		above->star = NULL;
}

static bool has_value(const struct node *node)
{
	return node->here != NULL || node->rest != NULL;
}

static bool has_one_child(const struct node *node)
{
	return node->children != NULL && node->children->next == NULL;
}

/* What lies below `source`, and its values, becomes that of `target`. */
static void take_over(struct node *target, const struct node *source)
{
	target->number = source->number;
	target->children = source->children;
	target->star = source->star;
	target->here = source->here;
	target->rest = source->rest;
}

/* A node with room for a label of `label_n` bytes, which the caller writes. */
static struct node *node_new(struct trie *trie, uint64_t from, size_t label_n)
{
	assert(label_n <= TOPIC_MAX);

	struct node *node = malloc(sizeof(*node) + label_n);
	if (node == NULL)
		return NULL;
	memset(node, 0, sizeof(*node));
	node->number = new_number(trie);
	node->from = from;
	node->label_n = label_n;
	return node;
}

struct trie *trie_new(uint64_t hash_key)
{
	struct trie *trie = malloc(sizeof(*trie));

	if (trie == NULL)
		return NULL;
	*trie = (struct trie){.hash_key = hash_key};
	trie->root = node_new(trie, 0, 0);
	if (trie->root == NULL) {
		free(trie);
		return NULL;
	}
	return trie;
}

void trie_free(struct trie *trie)
{
	struct node *node, *next;

	if (trie == NULL)
		return;
	HASH_ITER(hh, trie->edges, node, next) {
		HASH_DELETE(hh, trie->edges, node);
		free(node);
	}
	free(trie->root);
	free(trie);
}

static bool token_ends_at(struct slice tokens, size_t at)
{
	return at == tokens.n || tokens.at[at] == '.';
}

/* The number of leading bytes that are the same whole tokens in both. */
static size_t common_tokens(struct slice a, struct slice b)
{
	size_t shorter = a.n < b.n ? a.n : b.n;
	size_t whole = 0;
	size_t i = 0;

	for (; i < shorter && a.at[i] == b.at[i]; i++) {
		if (a.at[i] == '.')
			whole = i;
	}
	return token_ends_at(a, i) && token_ends_at(b, i) ? i : whole;
}

/* What is behind the first n bytes, which are whole tokens, and the dot there. */
static struct slice behind(struct slice tokens, size_t n)
{
	size_t skipped = n < tokens.n ? n + 1 : n;

	return (struct slice){tokens.at + skipped, tokens.n - skipped};
}

/*
 * Cuts a node in two behind the first n bytes of its label: it keeps these tokens, and a new node
 * below it takes the rest, the values and the children. 0, or -ENOMEM and nothing changed.
 */
static int split(struct trie *trie, struct node *node, size_t n)
{
	struct slice tail = behind(label_of(node), n);
	uint64_t number = new_number(trie);
	struct node *lower = node_new(trie, number, tail.n);

	if (lower == NULL)
		return -ENOMEM;
	memcpy(lower->label, tail.at, tail.n);
	if (edge_add(trie, lower) != 0) {
		free(lower);
		return -ENOMEM;
	}
	take_over(lower, node);
	take_over(node, &(struct node){.number = number});
	link_child(node, lower);
	/* The first token stays, so the node is still filed rightly. */
	node->label_n = n;
	return 0;
}

/* Makes one node of a node without a value and its only child. */
static void merge(struct trie *trie, struct node *above, struct node *node)
{
	struct node *child = node->children;
	struct node *merged = node_new(trie, node->from, node->label_n + 1 + child->label_n);

	/* Without memory they just stay two, until the next removal there. */
	if (merged == NULL)
		return;
	memcpy(merged->label, node->label, node->label_n);
	merged->label[node->label_n] = '.';
	memcpy(merged->label + node->label_n + 1, child->label, child->label_n);
	/* Has the same key as `node` for a moment; nobody looks. */
	if (edge_add(trie, merged) != 0) {
		free(merged);
		return;
	}
	take_over(merged, child);
	unlink_child(above, node);
	link_child(above, merged);
	HASH_DELETE(hh, trie->edges, child);
	HASH_DELETE(hh, trie->edges, node);
	free(child);
	free(node);
}

/* Takes out the nodes at the end of a path that are good for nothing any more. */
static void tidy(struct trie *trie, struct path *path)
{
	for (; path->n > 1; path->n--) {
		struct node *node = path->at[path->n - 1];
		struct node *above = path->at[path->n - 2];
		if (has_value(node))
			return;
		if (has_one_child(node)) {
			merge(trie, above, node);
			return;
		}
		if (node->children != NULL)
			return;
		unlink_child(above, node);
		HASH_DELETE(hh, trie->edges, node);
		free(node);
	}
}

/*
 * Goes down by the tokens of `body` as far as there are nodes for them; *path is the way. Returns
 * how many bytes of the last node's label agree (all of them, unless the way ends within it), and
 * leaves in *body what is behind these.
 */
static size_t descend(const struct trie *trie, struct slice *body, struct path *path)
{
	struct node *node = trie->root;
	size_t agreed = 0;

	path->n = 0;
	path->at[path->n++] = node;
	while (body->n > 0 && agreed == node->label_n) {
		struct node *child = edge_find(trie, node->number, first_token(*body));
		if (child == NULL)
			break;
		node = child;
		path->at[path->n++] = node;
		agreed = common_tokens(label_of(node), *body);
		*body = behind(*body, agreed);
	}
	return agreed;
}

/* Hangs a new node with the tokens of `body` below the last node of a path. */
static struct node *add_leaf(struct trie *trie, struct node *above, struct slice body)
{
	struct node *leaf = node_new(trie, above->number, body.n);

	if (leaf == NULL)
		return NULL;
	memcpy(leaf->label, body.at, body.n);
	if (edge_add(trie, leaf) != 0) {
		free(leaf);
		return NULL;
	}
	link_child(above, leaf);
	return leaf;
}

/* Where a node keeps the value of a pattern with that body. */
static void **value_slot(struct node *node, struct slice pattern, struct slice body)
{
	return body.n == pattern.n ? &node->here : &node->rest;
}

int trie_add(struct trie *trie, struct slice pattern, void *value)
{
	struct slice body = pattern_body(pattern);
	struct slice missing = body;
	struct path path;
	size_t agreed = descend(trie, &missing, &path);
	struct node *node = path.at[path.n - 1];

	if (agreed < node->label_n && split(trie, node, agreed) != 0)
		return -ENOMEM;
	if (missing.n > 0) {
		struct node *leaf = add_leaf(trie, node, missing);
		if (leaf == NULL) {
			tidy(trie, &path); /* mends a split that was in vain */
			return -ENOMEM;
		}
		node = leaf;
	}

	void **slot = value_slot(node, pattern, body);
	if (*slot != NULL)
		return -EEXIST;
	*slot = value;
	return 0;
}

/* Finds the slot of a filed pattern and the way to its node; NULL when it isn't there. */
static void **find_slot(const struct trie *trie, struct slice pattern, struct path *path)
{
	struct slice body = pattern_body(pattern);
	struct slice missing = body;
	size_t agreed = descend(trie, &missing, path);
	struct node *node = path->at[path->n - 1];

	if (missing.n > 0 || agreed < node->label_n)
		return NULL;
	return value_slot(node, pattern, body);
}

void *trie_get(const struct trie *trie, struct slice pattern)
{
	struct path path;
	void **slot = find_slot(trie, pattern, &path);

	return slot != NULL ? *slot : NULL;
}

void *trie_remove(struct trie *trie, struct slice pattern)
{
	struct path path;
	void **slot = find_slot(trie, pattern, &path);

	if (slot == NULL)
		return NULL;
	void *value = *slot;
	*slot = NULL;
	tidy(trie, &path);
	return value;
}

void trie_find(const struct trie *trie, struct slice topic, void (*hit)(void *value, void *context),
               void *context)
{
	/*
	 * What is still to be visited: a node that agrees with the topic, and the topic's tokens
	 * behind it. Depth first, so that it holds one node for each level above the current one,
	 * and two at the lowest.
	 */
	struct visit {
		const struct node *node;
		struct slice topic;
	} visits[DEPTH_MAX + 1];
	size_t n = 0;
	bool is_brokers = topic.at[0] == '$';

	visits[n++] = (struct visit){trie->root, topic};
	while (n > 0) {
		struct visit visit = visits[--n];
		const struct node *node = visit.node;
		if (visit.topic.n == 0) {
			if (node->here != NULL)
				hit(node->here, context);
			continue;
		}
		/* A wildcard as first token does not match topics that begin with '$'. */
		bool is_wild = !is_brokers || node != trie->root;
		if (is_wild && node->rest != NULL)
			hit(node->rest, context);

		const struct node *below[2] = {
			is_wild ? node->star : NULL,
			edge_find(trie, node->number, first_token(visit.topic)),
		};
		for (size_t i = 0; i < 2; i++) {
			struct slice left = visit.topic;
			if (below[i] == NULL || !pattern_take(label_of(below[i]), &left))
				continue;
			assert(n < DEPTH_MAX + 1);
			visits[n++] = (struct visit){below[i], left};
		}
	}
}
