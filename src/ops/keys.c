/* SPDX-License-Identifier: MIT */
#include "ops/keys.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
const struct key keys[KEY_COUNT] = {
#define X(section, name, field, kind, default_text, least, most, when, description) \
	{#section, #name, KIND_##kind, default_text, {least, most}, WHEN_##when, description, \
	 offsetof(struct config, field), sizeof(((struct config *)0)->field)},
	KEY_TABLE(X)
#undef X
};

static const char *const level_words[] = {
#define X(name, word, priority) word,
	DIAG_TABLE(X)
#undef X
	NULL,
};
/* clang-format on */

static const char *const flag_words[] = {"no", "yes", NULL};
static const char *const sync_words[] = {
	[LOG_SYNC_NO] = "no", [LOG_SYNC_INTERVAL] = "interval", [LOG_SYNC_ALWAYS] = "always", NULL};

const struct key *key_find(const char *section, const char *name)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return &keys[i];
	}
	return NULL;
}

/* ---- numbers ---- */

static bool parse_number(const struct key *key, const char *text, uint64_t *out,
                         struct value_reason *reason)
{
	switch (key->kind) {
	case KIND_COUNT:
		return value_count(text, key->bounds, out, reason);
	case KIND_SIZE:
		return value_size(text, key->bounds, out, reason);
	case KIND_TIME:
		return value_time(text, key->bounds, out, reason);
	case KIND_MODE:
		return value_mode(text, key->bounds, out, reason);
	case KIND_FLAG:
		return value_choice(text, flag_words, out, reason);
	case KIND_LEVEL:
		return value_choice(text, level_words, out, reason);
	case KIND_SYNC:
		return value_choice(text, sync_words, out, reason);
	case KIND_PATH:
	case KIND_ADDRESSES:
		break;
	}
	abort(); /* key_set() deals with these */
}

/* A number's field is as wide as its C type: bool, unsigned or an enum, uint64_t. */
static void store_number(struct config *config, const struct key *key, uint64_t number)
{
	char *field = (char *)config + key->offset;
	const bool flag = number != 0;
	const unsigned narrow = (unsigned)number;
	switch (key->size) {
	case sizeof flag:
		memcpy(field, &flag, sizeof flag);
		break;
	case sizeof narrow:
		memcpy(field, &narrow, sizeof narrow);
		break;
	default:
		memcpy(field, &number, sizeof number);
	}
}

/* A number's field, see store_number(). */
static uint64_t load_number(const struct config *config, const struct key *key)
{
	const char *field = (const char *)config + key->offset;
	bool flag;
	unsigned narrow;
	uint64_t number;

	switch (key->size) {
	case sizeof flag:
		memcpy(&flag, field, sizeof flag);
		return flag;
	case sizeof narrow:
		memcpy(&narrow, field, sizeof narrow);
		return narrow;
	default:
		memcpy(&number, field, sizeof number);
		return number;
	}
}

/* ---- paths ---- */

static bool store_path(char **field, const char *text, size_t longest, struct value_reason *reason)
{
	char *path = NULL;
	const size_t length = strlen(text);
	if (length > longest) {
		snprintf(reason->text, sizeof reason->text, "has %zu bytes, the longest path %zu",
		         length, longest);
		return false;
	}
	if (length > 0 && (path = strdup(text)) == NULL) {
		snprintf(reason->text, sizeof reason->text, "out of memory");
		return false;
	}
	free(*field);
	*field = path;
	return true;
}

static bool is_same_path(const char *one, const char *other)
{
	return strcmp(one != NULL ? one : "", other != NULL ? other : "") == 0;
}

/* ---- addresses ---- */

static bool store_list(struct config *config, const char *text, struct value_reason *reason)
{
	struct value_addresses list = {0};

	if (!value_addresses(text, &list, reason)) {
		value_addresses_free(&list);
		return false;
	}
	free(config->listen_tcp);
	config->listen_tcp = list.at;
	config->listen_tcp_count = list.count;
	return true;
}

static bool is_same_list(const struct config *one, const struct config *other)
{
	if (one->listen_tcp_count != other->listen_tcp_count)
		return false;
	for (size_t i = 0; i < one->listen_tcp_count; i++) {
		if (strcmp(one->listen_tcp[i].text, other->listen_tcp[i].text) != 0)
			return false;
	}
	return true;
}

static void show_list(const struct config *config, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < config->listen_tcp_count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "",
		                         config->listen_tcp[i].text);
}

/* ---- any key ---- */

bool key_set(const struct key *key, struct config *config, const char *text,
             struct value_reason *reason)
{
	uint64_t number = 0;

	switch (key->kind) {
	case KIND_PATH:
		return store_path((char **)((char *)config + key->offset), text, key->bounds.most,
		                  reason);
	case KIND_ADDRESSES:
		return store_list(config, text, reason);
	default:
		if (!parse_number(key, text, &number, reason))
			return false;
		store_number(config, key, number);
		return true;
	}
}

bool key_add(const struct key *key, struct config *config, const char *text,
             struct value_reason *reason)
{
	assert(key->kind == KIND_ADDRESSES);
	struct value_addresses list = {config->listen_tcp, config->listen_tcp_count};
	const bool is_good = value_addresses(text, &list, reason);
	config->listen_tcp = list.at;
	config->listen_tcp_count = list.count;
	return is_good;
}

bool key_is_same(const struct key *key, const struct config *one, const struct config *other)
{
	const char *one_field = (const char *)one + key->offset;
	const char *other_field = (const char *)other + key->offset;

	if (key->kind == KIND_ADDRESSES)
		return is_same_list(one, other);
	if (key->kind == KIND_PATH)
		return is_same_path(*(char *const *)(const void *)one_field,
		                    *(char *const *)(const void *)other_field);
	return memcmp(one_field, other_field, key->size) == 0;
}

void key_show(const struct key *key, const struct config *config, char *out, size_t size)
{
	const char *field = (const char *)config + key->offset;
	const char *text = NULL;
	struct value_amount amount;

	switch (key->kind) {
	case KIND_COUNT:
		snprintf(out, size, "%" PRIu64, load_number(config, key));
		return;
	case KIND_MODE:
		snprintf(out, size, "%04" PRIo64, load_number(config, key));
		return;
	case KIND_ADDRESSES:
		show_list(config, out, size);
		return;
	case KIND_SIZE:
		amount = value_size_text(load_number(config, key));
		text = amount.text;
		break;
	case KIND_TIME:
		amount = value_time_text(load_number(config, key));
		text = amount.text;
		break;
	case KIND_FLAG:
		text = flag_words[load_number(config, key)];
		break;
	case KIND_LEVEL:
		text = level_words[load_number(config, key)];
		break;
	case KIND_SYNC:
		text = sync_words[load_number(config, key)];
		break;
	case KIND_PATH:
		text = *(char *const *)(const void *)field;
		break;
	}
	snprintf(out, size, "%s", text != NULL ? text : "");
}

static void swap(void *one, void *other, size_t size)
{
	char kept[sizeof(uint64_t)];
	memcpy(kept, one, size);
	memcpy(one, other, size);
	memcpy(other, kept, size);
}

void key_swap(const struct key *key, struct config *one, struct config *other)
{
	swap((char *)one + key->offset, (char *)other + key->offset, key->size);
	if (key->kind == KIND_ADDRESSES)
		swap(&one->listen_tcp_count, &other->listen_tcp_count,
		     sizeof one->listen_tcp_count);
}
