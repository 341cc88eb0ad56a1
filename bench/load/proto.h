/* SPDX-License-Identifier: MIT */
/*
 * proto: what five protocols put on the wire. Writers get room of PROTO_ROOM bytes beyond topics
 * and payloads. Thread: any.
 */
#ifndef LOAD_PROTO_H
#define LOAD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"

enum { PROTO_ROOM = 1024 };

enum item_kind {
	ITEM_MORE,    /* its head is not complete */
	ITEM_MESSAGE, /* head, payload, end; only the head need be there */
	ITEM_OK,      /* a publish or a subscription was answered */
	ITEM_PONG,    /* a ping was answered */
	ITEM_PING,    /* to be answered */
	ITEM_NOTE,    /* nothing to do about it */
	ITEM_GAP,     /* messages are missing */
	ITEM_ERROR,   /* the server refuses something, or what comes is not understood */
};

struct item {
	size_t head;  /* bytes before the payload */
	size_t total; /* bytes of all of it */
	size_t payload;
	const char *topic; /* of a message, as this protocol writes it */
	size_t topic_size;
	uint64_t id; /* of a message, where it has one */
};

/* The next item of n bytes that a server sent. Not for raw's first byte. */
enum item_kind proto_next(enum proto proto, const char *at, size_t n, struct item *item);

/* What a connection says first; the answer ends with ITEM_PONG, but raw has none. Their size. */
size_t proto_write_hello(const struct options *options, char *at, bool is_publisher,
                         uint64_t number);
/*
 * Subscribes number `number` to the filters; `where` is psad's start or "". Needs FILTERS_MAX times
 * TOPIC_MAX of room. Returns the size; the answers have as many ITEM_OK and ITEM_PONG.
 */
size_t proto_write_subscribe(const struct options *options, char *at, uint64_t number,
                             const char *where);
unsigned proto_subscribe_oks(const struct options *options);
unsigned proto_subscribe_pongs(const struct options *options);

struct publication {
	uint64_t id; /* raw: the message's; mqtt: its low bits tell answers apart */
	const char *topic;
	size_t topic_size;
	const char *payload; /* options->size bytes */
};
/* Returns its size. */
size_t proto_write_publish(const struct options *options, char *at,
                           const struct publication *publication);
/* After the last publish: ITEM_PONG comes when all was taken. raw: nothing. */
size_t proto_write_barrier(const struct options *options, char *at);
/* The answer to an ITEM_PING. */
size_t proto_write_pong(const struct options *options, char *at);

struct delivery {
	uint64_t id;
	uint32_t topic_size;
	uint32_t filter_index;
	const char *filter; /* in psad's syntax, its number filled in */
};
/* The bytes of it that a subscriber gets. */
uint64_t proto_delivery_size(const struct options *options, const struct delivery *delivery);

#endif
