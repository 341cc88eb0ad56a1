/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: load --proto=psad|nats|redis|mqtt|raw --port=N [--name=value ...]\n"
	"One run of publishers and subscribers against a server on 127.0.0.1; prints a line\n"
	"of JSON. Exit status: 0 all deliveries came, 1 not (complete: false), 2 usage.\n"
	"\n"
	"  --proto=P          raw: the program bare\n"
	"  --pid=N            the server's process: its CPU time and memory are reported\n"
	"  --subs=N           subscriber connections (0)\n"
	"  --filter=PATTERN   repeatable: each subscriber subscribes to all of them; %d is the\n"
	"                     subscriber's number from 0. As in psad (a.*, a.>), translated for\n"
	"                     mqtt and redis (whose * also matches dots). Default: the topic, if\n"
	"                     it has no %d. raw: ignored, everybody gets everything\n"
	"  --start=live       subscribers get what is published from now on (default)\n"
	"          all        (psad, raw) also what --preload published; measured from the moment\n"
	"                     when all are connected and begin to subscribe\n"
	"          resume     (psad, raw) all messages are published first, unmeasured; then\n"
	"                     all subscribers connect at once and resume from before them;\n"
	"                     measured from the first connect. raw needs a fresh server for both\n"
	"  --stopped=N        further subscribers that never read (0)\n"
	"  --pubs=N           publisher connections (1); message k goes through k modulo N\n"
	"  --messages=N       in all (0)\n"
	"  --topic=T          their topic (bench); %d is the message's number from 0\n"
	"  --topics=N         modulo N (1; 0: never repeats)\n"
	"  --also=T:N         N more messages on topic T, evenly in between; %d is their own\n"
	"                     number, not taken modulo\n"
	"  --size=B           bytes of payload (16)\n"
	"  --preload=N        so many of the same sequence are published before, unmeasured (0)\n"
	"  --pace=full        as fast as the server takes them (default)\n"
	"         window:W    at most W unanswered messages per connection\n"
	"         rate:R      R a second in all, on an absolute schedule\n"
	"  --acks=on|off      on: each message is answered (psad OK, nats verbose, mqtt QoS 1;\n"
	"                     redis always; default with window); off: barrier at the end (PING,\n"
	"                     raw: close). With window and rate, write to answer: ok_latency_us\n"
	"  --verb=PUT|PUB     (psad) how to publish (PUT)\n"
	"  --latency          payloads begin with the time of writing in 16 hex digits; every\n"
	"                     delivery is parsed and its age counted\n"
	"  --idle             only connect and subscribe, and say what memory that took\n"
	"  --timeout=S        of each phase (60)\n"
	"  --settle=MS        between the last delivery and reading CPU time (20)\n"
	"  --name=TEXT        repeated in the JSON\n";

static const char *const proto_names[] = {"psad", "nats", "redis", "mqtt", "raw", NULL};
static const char *const start_names[] = {"live", "all", "resume", NULL};

static const struct number {
	const char *name;
	size_t offset;
	uint64_t max;
} numbers[] = {
	{"port", offsetof(struct options, port), 65535},
	{"pid", offsetof(struct options, pid), INT32_MAX},
	{"subs", offsetof(struct options, subs), 1 << 20},
	{"stopped", offsetof(struct options, stopped), 1 << 20},
	{"pubs", offsetof(struct options, pubs), 1024},
	{"messages", offsetof(struct options, messages), 1U << 31},
	{"preload", offsetof(struct options, preload), 1U << 31},
	{"topics", offsetof(struct options, topics), UINT32_MAX},
	{"size", offsetof(struct options, size), 64 << 20},
	{"timeout", offsetof(struct options, timeout_s), 86400},
	{"settle", offsetof(struct options, settle_ms), 60000},
};

static void refuse(const char *what, const char *value)
{
	fprintf(stderr, "load: %s%s%s; --help says what there is\n", what,
	        value == NULL ? "" : ": ", value == NULL ? "" : value);
	exit(2);
}

const char *options_proto_name(enum proto proto)
{
	return proto_names[proto];
}

static uint64_t parse_number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long number = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || number > max)
		refuse("not a number, or too large", text);
	return number;
}

static unsigned parse_word(const char *word, const char *const *words)
{
	for (unsigned i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	refuse("no such word", word);
	return 0;
}

static void parse_pace(struct options *options, const char *value)
{
	const char *colon = strchr(value, ':');

	if (strncmp(value, "window:", 7) == 0)
		options->pace = PACE_WINDOW;
	else if (strncmp(value, "rate:", 5) == 0)
		options->pace = PACE_RATE;
	else if (strcmp(value, "full") != 0)
		refuse("no such pace", value);
	if (options->pace != PACE_FULL && colon != NULL)
		options->pace_number = parse_number(colon + 1, 1000000000);
	if (options->pace != PACE_FULL && options->pace_number == 0)
		refuse("not a pace", value);
}

static void parse_also(struct options *options, char *value)
{
	char *colon = strrchr(value, ':');

	if (colon == NULL)
		refuse("--also=TOPIC:N", value);
	*colon = '\0';
	options->also_topic = value;
	options->also_messages = parse_number(colon + 1, 1U << 31);
}

static bool parse_flag(struct options *options, const char *name)
{
	if (strcmp(name, "latency") == 0)
		options->has_latency = true;
	else if (strcmp(name, "idle") == 0)
		options->is_idle = true;
	else
		return false;
	return true;
}

/* Those that are not numbers. */
static void parse_text(struct options *options, const char *name, char *value)
{
	static const char *const verbs[] = {"PUT", "PUB", NULL}, *const switches[] = {"off", "on",
	                                                                              NULL};

	if (strcmp(name, "proto") == 0)
		options->proto = parse_word(value, proto_names);
	else if (strcmp(name, "start") == 0)
		options->start = parse_word(value, start_names);
	else if (strcmp(name, "verb") == 0)
		options->is_verb_pub = parse_word(value, verbs) == 1;
	else if (strcmp(name, "acks") == 0)
		options->has_acks = parse_word(value, switches) == 1;
	else if (strcmp(name, "pace") == 0)
		parse_pace(options, value);
	else if (strcmp(name, "also") == 0)
		parse_also(options, value);
	else if (strcmp(name, "topic") == 0)
		options->topic = value;
	else if (strcmp(name, "name") == 0)
		options->name = value;
	else if (strcmp(name, "filter") == 0 && options->n_filters < FILTERS_MAX)
		options->filters[options->n_filters++] = value;
	else
		refuse("no such option, or too many", name);
}

static void parse_one(struct options *options, char *argument)
{
	if (strcmp(argument, "--help") == 0) {
		fputs(usage, stdout);
		exit(0);
	}
	if (strncmp(argument, "--", 2) != 0)
		refuse("not an option", argument);
	char *name = argument + 2, *value = strchr(name, '=');
	if (value == NULL) {
		if (!parse_flag(options, name))
			refuse("no such option, or it needs a value", argument);
		return;
	}
	*value++ = '\0';
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		uint64_t *number = (uint64_t *)((char *)options + numbers[i].offset);
		if (strcmp(numbers[i].name, name) == 0) {
			*number = parse_number(value, numbers[i].max);
			return;
		}
	}
	parse_text(options, name, value);
}

static void check(struct options *options)
{
	bool is_raw = options->proto == PROTO_RAW;

	if (options->port == 0)
		refuse("--port is missing", NULL);
	if (options->start != START_LIVE && options->proto != PROTO_PSAD && !is_raw)
		refuse("--start is for psad and raw", NULL);
	if (options->has_latency && options->size < 16)
		refuse("--latency needs a --size of 16 or more", NULL);
	if (is_raw && (options->pubs != 1 || options->has_acks || options->pace == PACE_WINDOW))
		refuse("raw has one publisher and no answers", NULL);
	if (options->is_verb_pub && options->proto != PROTO_PSAD)
		refuse("--verb is for psad", NULL);
	if (options->pubs == 0)
		refuse("--pubs is at least 1", NULL);
	if (strlen(options->topic) > TOPIC_MAX - 20)
		refuse("too long", options->topic);
	if (options->also_topic != NULL && strlen(options->also_topic) > TOPIC_MAX - 20)
		refuse("too long", options->also_topic);
	for (uint64_t i = 0; i < options->n_filters; i++)
		if (strlen(options->filters[i]) > TOPIC_MAX - 20)
			refuse("too long", options->filters[i]);
	if (options->n_filters == 0 && strstr(options->topic, "%d") == NULL)
		options->filters[options->n_filters++] = options->topic;
	if (options->n_filters == 0 && !is_raw && options->subs + options->stopped > 0)
		refuse("--filter is missing", NULL);
}

void options_parse(struct options *options, int argc, char **argv)
{
	*options = (struct options){.pubs = 1,
	                            .topics = 1,
	                            .size = 16,
	                            .topic = "bench",
	                            .name = "",
	                            .timeout_s = 60,
	                            .settle_ms = 20};
	for (int i = 1; i < argc; i++)
		parse_one(options, argv[i]);
	check(options);
	/* A window is counted by answers, and redis always answers. */
	if (options->pace == PACE_WINDOW || options->proto == PROTO_REDIS)
		options->has_acks = true;
	if (options->is_idle)
		options->messages = options->also_messages = options->preload = 0;
}
