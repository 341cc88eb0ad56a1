/* SPDX-License-Identifier: MIT */
/* proto: what servers send. Text that begins with no known word is a note. */
#include <stdlib.h>
#include <string.h>

#include "proto.h"

static bool begins(const char *at, const char *end, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(end - at) >= n && memcmp(at, word, n) == 0;
}

/* The digits at *at; leaves *at behind them. */
static uint64_t digits(const char **at)
{
	uint64_t number = 0;

	for (; **at >= '0' && **at <= '9'; ++*at)
		number = number * 10 + (uint64_t)(**at - '0');
	return number;
}

static enum item_kind message(struct item *item, size_t payload, size_t end)
{
	item->payload = payload;
	item->total = item->head + payload + end;
	return ITEM_MESSAGE;
}

static enum item_kind psad_next(const char *at, const char *lf, struct item *item)
{
	if (begins(at, lf, "MSG ")) {
		const char *word = at + 4;
		item->id = digits(&word);
		item->topic = ++word;
		if (word >= lf || (word = memchr(word, ' ', (size_t)(lf - word))) == NULL)
			return ITEM_ERROR;
		item->topic_size = (size_t)(word++ - item->topic);
		size_t size = digits(&word);
		return word == lf ? message(item, size, 1) : ITEM_ERROR;
	}
	if (begins(at, lf, "OK"))
		return ITEM_OK;
	if (begins(at, lf, "PONG"))
		return ITEM_PONG;
	if (begins(at, lf, "GAP "))
		return ITEM_GAP;
	return begins(at, lf, "ERR ") || begins(at, lf, "BYE ") ? ITEM_ERROR : ITEM_NOTE;
}

static enum item_kind nats_next(const char *at, const char *lf, struct item *item)
{
	if (begins(at, lf, "MSG ")) {
		const char *word = at + 4, *end = lf - 1; /* of the line, before its CR */
		item->topic = word;
		if ((word = memchr(word, ' ', (size_t)(end - word))) == NULL)
			return ITEM_ERROR;
		item->topic_size = (size_t)(word - item->topic);
		while (word < end && *word == ' ') {
			const char *last = ++word;
			size_t size = digits(&word);
			if (word == end && word > last)
				return message(item, size, 2);
		}
		return ITEM_ERROR;
	}
	if (begins(at, lf, "+OK"))
		return ITEM_OK;
	if (begins(at, lf, "PING"))
		return ITEM_PING;
	if (begins(at, lf, "PONG"))
		return ITEM_PONG;
	return begins(at, lf, "-ERR") ? ITEM_ERROR : ITEM_NOTE;
}

/* ---- redis ---- */

struct cursor {
	const char *at, *end;
};

/* A line of this type and a number; false: not complete, or another. */
static bool take_number(struct cursor *cursor, char type, size_t *number)
{
	const char *lf = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));

	if (lf == NULL || *cursor->at != type)
		return false;
	cursor->at++;
	*number = digits(&cursor->at);
	cursor->at = lf + 1;
	return true;
}

static bool take_bulk(struct cursor *cursor, const char **text, size_t *size)
{
	if (!take_number(cursor, '$', size) || (size_t)(cursor->end - cursor->at) < *size + 2)
		return false;
	*text = cursor->at;
	cursor->at += *size + 2;
	return true;
}

static enum item_kind redis_array(const char *at, size_t n, struct item *item)
{
	struct cursor cursor = {at, at + n};
	const char *word, *pattern;
	size_t count, size;

	if (!take_number(&cursor, '*', &count) || !take_bulk(&cursor, &word, &size))
		return ITEM_MORE;
	bool is_pattern = size == 8 && memcmp(word, "pmessage", 8) == 0;
	bool is_message = size == 7 && memcmp(word, "message", 7) == 0;
	if (is_pattern && !take_bulk(&cursor, &pattern, &size))
		return ITEM_MORE;
	if (!take_bulk(&cursor, &item->topic, &item->topic_size) ||
	    !take_number(&cursor, is_pattern || is_message ? '$' : ':', &size))
		return ITEM_MORE;
	item->head = item->total = (size_t)(cursor.at - at);
	return is_pattern || is_message ? message(item, size, 2) : ITEM_OK;
}

static enum item_kind redis_next(const char *at, size_t n, struct item *item)
{
	if (*at == '*')
		return redis_array(at, n, item);
	if (*at == ':')
		return ITEM_OK;
	return *at == '+' ? ITEM_PONG : ITEM_ERROR;
}

/* ---- mqtt ---- */

enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9, PINGRESP = 13 };

static enum item_kind mqtt_next(const char *at, size_t n, struct item *item)
{
	const unsigned char *byte = (const unsigned char *)at;
	size_t rest = 0, i = 1;

	for (unsigned shift = 0;; shift += 7) {
		if (i >= n)
			return ITEM_MORE;
		rest |= (size_t)(byte[i] & 127) << shift;
		if (byte[i++] < 128)
			break;
		if (shift == 21)
			return ITEM_ERROR;
	}
	item->head = item->total = i + rest;
	unsigned type = byte[0] >> 4;
	if (type == PUBLISH) {
		if (n < i + 2)
			return ITEM_MORE;
		item->topic_size = (size_t)byte[i] << 8 | byte[i + 1];
		item->topic = at + i + 2;
		item->head = i + 2 + item->topic_size;
		if (n < item->head)
			return ITEM_MORE;
		return rest < 2 + item->topic_size ? ITEM_ERROR
		                                   : message(item, rest - 2 - item->topic_size, 0);
	}
	if (n < item->total)
		return ITEM_MORE;
	if ((type == CONNACK && byte[3] != 0) || (type == SUBACK && byte[item->total - 1] > 2))
		return ITEM_ERROR;
	if (type == PUBACK || type == SUBACK)
		return ITEM_OK;
	return type == PINGRESP ? ITEM_PONG : ITEM_NOTE;
}

enum item_kind proto_next(enum proto proto, const char *at, size_t n, struct item *item)
{
	if (n == 0)
		return ITEM_MORE;
	if (proto == PROTO_MQTT)
		return mqtt_next(at, n, item);
	const char *lf = memchr(at, '\n', n);
	if (lf == NULL)
		return ITEM_MORE;
	item->head = item->total = (size_t)(lf - at) + 1;
	item->id = 0;
	if (proto == PROTO_REDIS)
		return redis_next(at, n, item);
	return proto == PROTO_NATS ? nats_next(at, lf, item) : psad_next(at, lf, item);
}
