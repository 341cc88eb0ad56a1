/* SPDX-License-Identifier: MIT */
/* proto: what clients send. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log/frame.h"
#include "proto.h"
#include "text.h"

/* Where things are written. */
static char *put(char *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static char *put_word(char *at, const char *word)
{
	return put(at, word, strlen(word));
}

static char *put_number(char *at, uint64_t number)
{
	return at + decimal_write(at, number);
}

static char *put_bulk(char *at, const char *bytes, size_t n)
{
	at = put_word(put_number(put_word(at, "$"), n), "\r\n");
	return put_word(put(at, bytes, n), "\r\n");
}

static char *put_u16(char *at, size_t number)
{
	*at++ = (char)(number >> 8);
	*at++ = (char)number;
	return at;
}

/* Type and flags, and mqtt's form of the bytes that follow. */
static char *put_mqtt(char *at, unsigned char type, size_t rest)
{
	*at++ = (char)type;
	for (; rest >= 128; rest >>= 7)
		*at++ = (char)(rest | 128);
	*at++ = (char)rest;
	return at;
}

static char *put_mqtt_connect(char *at, bool is_publisher, uint64_t number)
{
	char id[48];
	size_t size = (size_t)snprintf(id, sizeof id, "load-%d-%c%llu", (int)getpid(),
	                               is_publisher ? 'p' : 's', (unsigned long long)number);

	at = put_mqtt(at, 0x10, 12 + size);
	at = put(at, "\0\4MQTT\4\2\0\0", 10); /* 3.1.1, a clean session, no keepalive */
	return put(put_u16(at, size), id, size);
}

static void translate(char *at, size_t n, const char *from, const char *to)
{
	for (size_t i = 0; i < n; i++) {
		const char *found = strchr(from, at[i]);
		if (found != NULL && *found != '\0')
			at[i] = to[found - from];
	}
}

size_t proto_write_hello(const struct options *options, char *at, bool is_publisher,
                         uint64_t number)
{
	char *begin = at;

	switch (options->proto) {
	case PROTO_PSAD:
		if (is_publisher && !options->has_acks)
			at = put_word(at, "ACKS OFF\n");
		break;
	case PROTO_NATS:
		at = put_word(at, "CONNECT {\"verbose\":");
		at = put_word(at, is_publisher && options->has_acks ? "true" : "false");
		at = put_word(at, ",\"pedantic\":false,\"tls_required\":false,\"echo\":true,"
		                  "\"lang\":\"c\",\"version\":\"1\",\"protocol\":0}\r\n");
		break;
	case PROTO_MQTT:
		at = put_mqtt_connect(at, is_publisher, number);
		break;
	case PROTO_REDIS:
		at = put_word(at, "PING\r\n");
		break;
	case PROTO_RAW:
		at = put_word(at, is_publisher ? "P" : "");
	}
	at += proto_write_barrier(options, at);
	return (size_t)(at - begin);
}

static char *put_subscribe_psad(const struct options *options, char *at, uint64_t number,
                                const char *where)
{
	at = put_word(at, "SUB");
	for (uint64_t i = 0; i < options->n_filters; i++) {
		struct text text = text_make(options->filters[i]);
		*at++ = ' ';
		at += text_write(&text, at, number);
	}
	return put_word(put_word(at, where), "\n");
}

static char *put_subscribe_nats(const struct options *options, char *at, uint64_t number)
{
	for (uint64_t i = 0; i < options->n_filters; i++) {
		struct text text = text_make(options->filters[i]);
		at = put_word(at, "SUB ");
		at += text_write(&text, at, number);
		at = put_word(put_number(put_word(at, " "), i + 1), "\r\n");
	}
	return put_word(at, "PING\r\n");
}

static bool is_wildcard(const char *filter)
{
	return strpbrk(filter, "*>") != NULL;
}

static char *put_subscribe_redis(const struct options *options, char *at, uint64_t number)
{
	char filter[TOPIC_MAX + 1];

	for (uint64_t i = 0; i < options->n_filters; i++) {
		struct text text = text_make(options->filters[i]);
		size_t size = text_write(&text, filter, number);
		translate(filter, size, ">", "*");
		at = put_word(at, "*2\r\n");
		at = put_word(at, is_wildcard(options->filters[i]) ? "$10\r\nPSUBSCRIBE\r\n"
		                                                   : "$9\r\nSUBSCRIBE\r\n");
		at = put_bulk(at, filter, size);
	}
	return at;
}

static char *put_subscribe_mqtt(const struct options *options, char *at, uint64_t number)
{
	char filter[TOPIC_MAX + 1];
	size_t rest = 2;

	for (uint64_t i = 0; i < options->n_filters; i++) {
		struct text text = text_make(options->filters[i]);
		rest += 2 + text_write(&text, filter, number) + 1;
	}
	at = put_u16(put_mqtt(at, 0x82, rest), 1);
	for (uint64_t i = 0; i < options->n_filters; i++) {
		struct text text = text_make(options->filters[i]);
		size_t size = text_write(&text, filter, number);
		translate(filter, size, ".*>", "/+#");
		at = put(put_u16(at, size), filter, size);
		*at++ = 0;
	}
	return at;
}

size_t proto_write_subscribe(const struct options *options, char *at, uint64_t number,
                             const char *where)
{
	switch (options->proto) {
	case PROTO_PSAD:
		return (size_t)(put_subscribe_psad(options, at, number, where) - at);
	case PROTO_NATS:
		return (size_t)(put_subscribe_nats(options, at, number) - at);
	case PROTO_REDIS:
		return (size_t)(put_subscribe_redis(options, at, number) - at);
	case PROTO_MQTT:
		return (size_t)(put_subscribe_mqtt(options, at, number) - at);
	case PROTO_RAW:
		break;
	}
	*at = options->start == START_LIVE ? 'S' : 'A';
	return 1;
}

unsigned proto_subscribe_oks(const struct options *options)
{
	if (options->proto == PROTO_NATS)
		return 0;
	return options->proto == PROTO_REDIS ? (unsigned)options->n_filters : 1;
}

unsigned proto_subscribe_pongs(const struct options *options)
{
	return options->proto == PROTO_NATS ? 1 : 0;
}

static char *put_publish_psad(const struct options *options, char *at,
                              const struct publication *publication)
{
	at = put_word(at, options->is_verb_pub ? "PUB " : "PUT ");
	at = put(at, publication->topic, publication->topic_size);
	*at++ = ' ';
	if (!options->is_verb_pub)
		at = put_word(put_number(at, options->size), "\n");
	return put_word(put(at, publication->payload, options->size), "\n");
}

static char *put_publish_redis(const struct options *options, char *at,
                               const struct publication *publication)
{
	at = put_word(at, "*3\r\n$7\r\nPUBLISH\r\n");
	at = put_bulk(at, publication->topic, publication->topic_size);
	return put_bulk(at, publication->payload, options->size);
}

static char *put_publish_mqtt(const struct options *options, char *at,
                              const struct publication *publication)
{
	size_t rest = 2 + publication->topic_size + options->size + (options->has_acks ? 2 : 0);

	at = put_u16(put_mqtt(at, options->has_acks ? 0x32 : 0x30, rest), publication->topic_size);
	char *topic = at;
	at = put(at, publication->topic, publication->topic_size);
	translate(topic, publication->topic_size, ".", "/");
	if (options->has_acks)
		at = put_u16(at, publication->id % 65535 + 1);
	return put(at, publication->payload, options->size);
}

size_t proto_write_publish(const struct options *options, char *at,
                           const struct publication *publication)
{
	char *begin = at;
	uint32_t topic_size = (uint32_t)publication->topic_size, size = (uint32_t)options->size;

	switch (options->proto) {
	case PROTO_PSAD:
		return (size_t)(put_publish_psad(options, at, publication) - begin);
	case PROTO_NATS:
		at = put(put_word(at, "PUB "), publication->topic, topic_size);
		at = put_word(put_number(put_word(at, " "), size), "\r\n");
		at = put_word(put(at, publication->payload, size), "\r\n");
		return (size_t)(at - begin);
	case PROTO_REDIS:
		return (size_t)(put_publish_redis(options, at, publication) - begin);
	case PROTO_MQTT:
		return (size_t)(put_publish_mqtt(options, at, publication) - begin);
	case PROTO_RAW:
		break;
	}
	frame_write(at, publication->id, publication->topic, topic_size, publication->payload,
	            size);
	return frame_size(publication->id, topic_size, size);
}

size_t proto_write_barrier(const struct options *options, char *at)
{
	switch (options->proto) {
	case PROTO_PSAD:
		return (size_t)(put_word(at, "PING\n") - at);
	case PROTO_NATS:
		return (size_t)(put_word(at, "PING\r\n") - at);
	case PROTO_MQTT:
		return (size_t)(put_mqtt(at, 0xc0, 0) - at);
	case PROTO_REDIS: /* each publish is answered */
	case PROTO_RAW:   /* closing is */
		break;
	}
	return 0;
}

size_t proto_write_pong(const struct options *options, char *at)
{
	return options->proto == PROTO_NATS ? (size_t)(put_word(at, "PONG\r\n") - at) : 0;
}

static uint64_t bulk_size(uint64_t n)
{
	return 1 + decimal_digits(n) + 2 + n + 2;
}

uint64_t proto_delivery_size(const struct options *options, const struct delivery *delivery)
{
	uint64_t topic = delivery->topic_size, size = options->size, bytes;

	switch (options->proto) {
	case PROTO_NATS:
		bytes = 4 + topic + 1 + decimal_digits(delivery->filter_index + 1) + 1;
		return bytes + decimal_digits(size) + 2 + size + 2;
	case PROTO_REDIS:
		bytes = 4 + bulk_size(topic) + bulk_size(size);
		if (!is_wildcard(delivery->filter))
			return bytes + bulk_size(7);
		return bytes + bulk_size(8) + bulk_size(strlen(delivery->filter));
	case PROTO_MQTT:
		bytes = 2 + topic + size;
		return bytes + 1 + (bytes < 128 ? 1 : bytes < 16384 ? 2 : bytes < 2097152 ? 3 : 4);
	case PROTO_PSAD:
	case PROTO_RAW:
		break;
	}
	return frame_size(delivery->id, delivery->topic_size, (uint32_t)size);
}
