/* SPDX-License-Identifier: MIT */
/*
 * Filters that are the same for all are matched once a message. Those with a subscriber's number
 * are found by their literal prefix (the tokens before the first wildcard) in a hash table: a topic
 * is looked up there once for each prefix of its tokens, however many subscribers there are.
 */
#include "plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/frame.h"
#include "proto.h"

void plan_make(struct plan *plan, const struct options *options)
{
	*plan = (struct plan){.options = options, .begin = options->preload};
	plan->topic = text_make(options->topic);
	plan->also = text_make(options->also_topic == NULL ? "" : options->also_topic);
	plan->total = options->preload + options->messages + options->also_messages;
}

/* How many of the first k messages are --also's: an even share of them. */
static uint64_t also_before(const struct plan *plan, uint64_t k)
{
	uint64_t also = plan->options->also_messages;

	return also == 0 ? 0 : k * also / (also + plan->options->messages);
}

size_t plan_topic(const struct plan *plan, uint64_t k, char *at)
{
	uint64_t also = also_before(plan, k), number = k - also, topics = plan->options->topics;

	if (also_before(plan, k + 1) > also)
		return text_write(&plan->also, at, also);
	if (topics != 0)
		number = topics == 1 ? 0 : number % topics;
	return text_write(&plan->topic, at, number);
}

/* redis: * is any bytes, and so is what stands for > . */
static bool matches_glob(const char *filter, const char *topic)
{
	for (; *filter != '*' && *filter != '>'; filter++, topic++)
		if (*filter != *topic || *topic == '\0')
			return *filter == *topic;
	do {
		if (matches_glob(filter + 1, topic))
			return true;
	} while (*topic++ != '\0');
	return false;
}

bool plan_matches(enum proto proto, const char *filter, const char *topic)
{
	if (proto == PROTO_REDIS)
		return matches_glob(filter, topic);
	for (;; filter++, topic++) {
		if (*filter == '>' && *topic != '\0')
			return true;
		if (*filter == '*') {
			topic += strcspn(topic, ".");
			filter++;
		}
		if (*filter != *topic || *topic == '\0')
			return *filter == *topic;
	}
}

/* ---- filters with a subscriber's number ---- */

struct numbered {
	char *filter;
	uint64_t hash; /* of its literal prefix */
	uint32_t next; /* of the same bucket, + 1 */
	uint32_t sub, index;
};

struct table {
	struct numbered *all;
	uint32_t *buckets; /* + 1 */
	uint64_t n, mask;
};

static const uint64_t HASH_EMPTY = 14695981039346656037U; /* FNV-1a */

static uint64_t hash_byte(uint64_t hash, char byte)
{
	return (hash ^ (unsigned char)byte) * 1099511628211U;
}

/* Of the tokens before the first wildcard, their dots included but for the last. */
static uint64_t hash_prefix(const char *filter)
{
	size_t size = strcspn(filter, "*>");
	uint64_t hash = HASH_EMPTY;

	if (filter[size] != '\0')
		for (size -= size > 0 ? 1 : 0; size > 0 && filter[size] != '.'; size--)
			;
	for (size_t i = 0; i < size; i++)
		hash = hash_byte(hash, filter[i]);
	return hash;
}

static void *allocate(size_t n, size_t size)
{
	void *memory = calloc(n + 1, size);

	if (memory == NULL) {
		perror("load: memory");
		exit(1);
	}
	return memory;
}

static void table_add(struct table *table, struct text text, uint32_t sub, uint32_t index)
{
	char filter[TOPIC_MAX + 1];
	struct numbered *numbered = &table->all[table->n++];

	filter[text_write(&text, filter, sub)] = '\0';
	*numbered = (struct numbered){.filter = strdup(filter), .sub = sub, .index = index};
	assert(numbered->filter != NULL);
	numbered->hash = hash_prefix(filter);
	uint32_t *bucket = &table->buckets[numbered->hash & table->mask];
	numbered->next = *bucket;
	*bucket = (uint32_t)table->n;
}

static void table_make(struct table *table, const struct options *options)
{
	uint64_t size = 16;

	while (size < 2 * options->subs * options->n_filters)
		size *= 2;
	*table = (struct table){.mask = size - 1};
	table->buckets = allocate(size, sizeof *table->buckets);
	table->all = allocate(options->subs * options->n_filters, sizeof *table->all);
	for (uint32_t index = 0; index < options->n_filters; index++) {
		struct text text = text_make(options->filters[index]);
		for (uint32_t sub = 0; text.has_number && sub < options->subs; sub++)
			table_add(table, text, sub, index);
	}
}

static void table_free(struct table *table)
{
	for (uint64_t i = 0; i < table->n; i++)
		free(table->all[i].filter);
	free(table->all);
	free(table->buckets);
}

/* ---- shares ---- */

struct counting {
	const struct options *options;
	struct table table;
	struct share common; /* what everybody is owed */
	struct share *shares;
	uint64_t *seen; /* by subscriber: the last message that was counted, + 1 */
	uint64_t k, id;
	char topic[TOPIC_MAX + 1];
	size_t topic_size;
};

/* nats and redis send a message once for each subscription of a connection that matches. */
static bool is_once(const struct options *options)
{
	return options->proto != PROTO_NATS && options->proto != PROTO_REDIS;
}

static void count_one(const struct counting *counting, struct share *share, const char *filter,
                      uint32_t index)
{
	struct delivery delivery = {.id = counting->id,
	                            .topic_size = (uint32_t)counting->topic_size,
	                            .filter = filter,
	                            .filter_index = index};

	share->messages++;
	share->bytes += proto_delivery_size(counting->options, &delivery);
}

static bool count_common(struct counting *counting)
{
	const struct options *options = counting->options;
	bool is_counted = false;

	if (options->proto == PROTO_RAW) {
		count_one(counting, &counting->common, "", 0);
		return true;
	}
	for (uint32_t i = 0; i < options->n_filters; i++) {
		if (strstr(options->filters[i], "%d") != NULL ||
		    !plan_matches(options->proto, options->filters[i], counting->topic))
			continue;
		count_one(counting, &counting->common, options->filters[i], i);
		is_counted = true;
		if (is_once(options))
			break;
	}
	return is_counted;
}

static void count_bucket(struct counting *counting, uint64_t hash)
{
	const struct table *table = &counting->table;

	for (uint32_t i = table->buckets[hash & table->mask]; i != 0; i = table->all[i - 1].next) {
		const struct numbered *numbered = &table->all[i - 1];
		if (numbered->hash != hash)
			continue;
		if (is_once(counting->options) && counting->seen[numbered->sub] == counting->k + 1)
			continue;
		if (!plan_matches(counting->options->proto, numbered->filter, counting->topic))
			continue;
		counting->seen[numbered->sub] = counting->k + 1;
		count_one(counting, &counting->shares[numbered->sub], numbered->filter,
		          numbered->index);
	}
}

static void count_numbered(struct counting *counting)
{
	uint64_t hash = HASH_EMPTY;

	count_bucket(counting, hash);
	for (size_t i = 0; i < counting->topic_size; i++) {
		if (counting->topic[i] == '.')
			count_bucket(counting, hash);
		hash = hash_byte(hash, counting->topic[i]);
	}
	count_bucket(counting, hash);
}

bool plan_shares(const struct plan *plan, uint64_t base, struct share *shares)
{
	const struct options *options = plan->options;
	uint64_t begin = options->start == START_LIVE ? plan->begin : 0;
	struct counting counting = {.options = options, .shares = shares};

	counting.seen = allocate(options->subs, sizeof *counting.seen);
	table_make(&counting.table, options);
	for (uint64_t k = begin; k < plan->total && options->subs > 0; k++) {
		counting.k = k;
		counting.id = base + k + 1;
		counting.topic_size = plan_topic(plan, k, counting.topic);
		counting.topic[counting.topic_size] = '\0';
		if ((!count_common(&counting) || !is_once(options)) && counting.table.n > 0)
			count_numbered(&counting);
	}
	for (uint64_t i = 0; i < options->subs; i++) {
		shares[i].messages += counting.common.messages;
		shares[i].bytes += counting.common.bytes;
	}
	table_free(&counting.table);
	free(counting.seen);
	return options->proto != PROTO_PSAD || options->pubs == 1 ||
	       counting.common.messages == plan->total - begin;
}
