/* SPDX-License-Identifier: MIT */
/* FUZZ: -max_len=2048 -dict=tests/fuzz/command.dict */
/*
 * Feeds the command parser with anything. What is looked for: broken promises of command.h
 * (feed.h aborts on them), bytes read that are not there, answers that depend on how the bytes were
 * cut, and data taken for commands: what is published is compared with a second opinion, which
 * knows nothing but where lines and bodies end.
 */
#include <strings.h>

#include "feed.h"
#include "fuzz.h"
#include "plain.h"

enum {
	/* max_payload (small, so that it is reached), the first cut and the size of the pieces */
	OPTION_BYTES = 3,
	/* Above it byte by byte takes too long: each byte is a copy of all that is not finished. */
	SINGLE_BYTES_MAX = 300,
	LINE_MORE = 512,
	BODY_DROPPED_MAX = 16 << 20,
};

/* ---- a second opinion on what is published ---- */

struct plain {
	const char *at, *end;
	size_t max_payload;
	bool has_spoken, in_lines, is_closed, is_bare;
	struct slice topic; /* of LINES */
	struct slice topics[4096], payloads[4096];
	size_t count;
};

static void plain_publish(struct plain *plain, struct slice topic, struct slice payload)
{
	FUZZ_CHECK(plain->count < 4096);
	plain->topics[plain->count] = topic;
	plain->payloads[plain->count++] = payload;
}

static struct slice plain_word(struct slice *line)
{
	while (line->n > 0 && line->at[0] == ' ')
		*line = (struct slice){line->at + 1, line->n - 1};
	struct slice word = {line->at, 0};
	while (word.n < line->n && word.at[word.n] != ' ')
		word.n++;
	*line = (struct slice){line->at + word.n, line->n - word.n};
	return word;
}

static bool plain_is(struct slice word, const char *verb)
{
	return word.n == strlen(verb) && strncasecmp(word.at, verb, word.n) == 0;
}

static bool plain_is_verb(struct slice word)
{
	static const char *const verbs[] = {"PUB",  "PUT",   "LINES", "SUB",  "UNSUB",
	                                    "READ", "TAIL",  "CAT",   "ACKS", "PING",
	                                    "INFO", "STATS", "HELP",  "QUIT"};
	bool is_one = false;

	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		is_one = is_one || plain_is(word, verbs[i]);
	return is_one;
}

static bool plain_may_publish(struct slice topic)
{
	return plain_is_topic(topic) && topic.at[0] != '$';
}

/* PUT, whose line is done. */
static void plain_put(struct plain *plain, struct slice line)
{
	struct slice topic = plain_word(&line), digits = plain_word(&line);
	unsigned __int128 size = 0;
	bool is_number = digits.n >= 1 && digits.n <= 19;

	for (size_t i = 0; is_number && i < digits.n; i++) {
		is_number = digits.at[i] >= '0' && digits.at[i] <= '9';
		size = 10 * size + (unsigned)(digits.at[i] - '0');
	}
	plain->is_closed = !is_number || size > INT64_MAX || plain_word(&line).n > 0;
	bool is_good = plain_may_publish(topic) && size <= plain->max_payload;
	if (!is_good && size > BODY_DROPPED_MAX && size > plain->max_payload)
		plain->is_closed = true;
	size_t left = (size_t)(plain->end - plain->at);
	if (plain->is_closed || size >= left) {
		plain->is_closed = true; /* or the body does not come */
		return;
	}
	struct slice body = {plain->at, (size_t)size};
	plain->at += body.n;
	if (*plain->at == '\r' && plain->at + 1 < plain->end)
		plain->at++;
	plain->is_closed = *plain->at++ != '\n';
	if (is_good && !plain->is_closed)
		plain_publish(plain, topic, body);
}

static void plain_line(struct plain *plain, struct slice line)
{
	struct slice rest = line;

	if (plain->in_lines) {
		if (line.n <= plain->max_payload)
			plain_publish(plain, plain->topic, line);
		return;
	}
	struct slice verb = plain_word(&rest);
	if (verb.n == 0)
		return;
	if (!plain_is_verb(verb)) {
		plain->is_closed = !plain->has_spoken;
		return;
	}
	plain->has_spoken = true;
	plain->is_bare = plain_is(verb, "TAIL") || plain_is(verb, "CAT");
	if (plain_is(verb, "PUT")) {
		plain_put(plain, rest);
	} else if (plain_is(verb, "PUB")) {
		struct slice topic = plain_word(&rest);
		if (rest.n > 0)
			rest = (struct slice){rest.at + 1, rest.n - 1};
		if (topic.n > 0 && plain_may_publish(topic) && rest.n <= plain->max_payload)
			plain_publish(plain, topic, rest);
	} else if (plain_is(verb, "LINES")) {
		plain->topic = plain_word(&rest);
		plain->in_lines = plain->topic.n > 0 && plain_may_publish(plain->topic) &&
		                  plain_word(&rest).n == 0;
		plain->is_closed = !plain->in_lines;
	}
}

/* Up to the end of what can be told: TAIL and CAT close where they are refused, or not. */
static void plain_read(struct plain *plain)
{
	while (plain->at < plain->end && !plain->is_closed && !plain->is_bare) {
		size_t left = (size_t)(plain->end - plain->at),
		       most = plain->max_payload + LINE_MORE;
		const char *lf = memchr(plain->at, '\n', left);
		size_t n = lf == NULL ? left : (size_t)(lf - plain->at);
		struct slice line = {plain->at, n};
		if (n > most) { /* dropped, where that is safe */
			line.n = most + 1;
			struct slice verb = plain_word(&line);
			bool is_pub = line.n > 0 && plain_is(verb, "PUB");
			plain->is_closed = lf == NULL || !(plain->in_lines || is_pub);
			plain->has_spoken = true;
		} else if (lf == NULL) {
			return;
		}
		plain->at += n + (lf != NULL);
		if (n > most)
			continue;
		if (n > 0 && line.at[n - 1] == '\r')
			line.n--;
		plain_line(plain, line);
	}
}

static void check_published(size_t max_payload, const char *bytes, size_t n)
{
	static struct plain plain;
	const struct parser_limits limits = {.max_payload = max_payload};
	struct slice topic = {"", 0};
	struct parser parser;
	size_t count = 0;

	plain = (struct plain){.at = bytes, .end = bytes + n, .max_payload = max_payload};
	plain_read(&plain);
	parser_init(&parser);
	while (n > 0) {
		struct command command;
		struct refusal refusal;
		size_t need;
		enum parser_verdict verdict =
			parser_next(&parser, &limits, bytes, n, &command, &need, &refusal);
		if (verdict == PARSER_PARTIAL)
			break;
		bytes += command.size;
		n -= command.size;
		if (verdict != PARSER_COMMAND)
			continue;
		if (command.verb == VERB_LINES) {
			topic = command.topic;
			parser_enter_lines(&parser);
		}
		if (command.verb == VERB_LINE)
			command.topic = topic;
		else if (command.verb != VERB_PUB && command.verb != VERB_PUT)
			continue;
		if (count == plain.count && plain.is_bare)
			return;
		FUZZ_CHECKF(count < plain.count, "data became the command PUB %.*s",
		            (int)command.topic.n, command.topic.at);
		FUZZ_CHECK(slice_equals(command.topic, plain.topics[count]));
		FUZZ_CHECK(slice_equals(command.payload, plain.payloads[count]));
		count++;
	}
	FUZZ_CHECKF(count == plain.count, "not published: %.*s", (int)plain.payloads[count].n,
	            plain.payloads[count].at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n <= OPTION_BYTES)
		return 0;

	const char *bytes = (const char *)data + OPTION_BYTES;
	size_t max_payload = data[0], first = data[1], piece = 1 + (size_t)data[2];
	n -= OPTION_BYTES;
	check_published(max_payload, bytes, n);
	feed_compare_cut(max_payload, bytes, n, first, piece);
	feed_compare_cut(max_payload, bytes, n, n / 2, n);
	if (n <= SINGLE_BYTES_MAX)
		feed_compare_cut(max_payload, bytes, n, 1, 1);
	return 0;
}
