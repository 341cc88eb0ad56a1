/* SPDX-License-Identifier: MIT */
/*
 * options: what a run of load is to do; usage() in options.c says what each means.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum proto { PROTO_PSAD, PROTO_NATS, PROTO_REDIS, PROTO_MQTT, PROTO_RAW };
enum start { START_LIVE, START_ALL, START_RESUME };
enum pace { PACE_FULL, PACE_WINDOW, PACE_RATE };
enum { FILTERS_MAX = 16, TOPIC_MAX = 255 };

struct options {
	enum proto proto;
	enum start start;
	enum pace pace;
	uint64_t pace_number; /* messages, or messages a second */
	bool is_verb_pub, has_acks, has_latency, is_idle;
	uint64_t port, pid, subs, stopped, pubs;
	uint64_t messages, also_messages, preload; /* in all */
	uint64_t size;                             /* of a payload, bytes */
	uint64_t topics;                           /* 0: %d never repeats */
	uint64_t timeout_s, settle_ms;
	const char *topic, *also_topic, *name;
	const char *filters[FILTERS_MAX];
	uint64_t n_filters;
};

/* Exits with status 2 and a sentence where they make no sense, with 0 after --help. */
void options_parse(struct options *options, int argc, char **argv);
const char *options_proto_name(enum proto proto);

#endif
