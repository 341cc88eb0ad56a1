/* SPDX-License-Identifier: MIT */
/*
 * feed: drives the command parser as a connection does and writes down what it answers, for the
 * unit tests and the fuzz target. The bytes arrive in pieces; what was not taken is presented
 * again with more behind it, each time in a block of its own and of just that size, so that the
 * address sanitizer sees a byte too many, or a slice that is used too late.
 *
 * The transcript is one line for each answer that a client would notice:
 *
 *   PUB a.b|payload            SUB 2[a b.>] AFTER 5@0000000a       ERR bad-topic
 *   LINE payload               READ 1[a] SINCE 1700000000000000 LIMIT 3   ERR bad-framing closes
 *   ACKS ON                    LEFT 12 (unfinished bytes at the end)      HTTP closes
 *
 * Broken promises of command.h abort.
 */
#ifndef PSAD_FUZZ_FEED_H
#define PSAD_FUZZ_FEED_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/command.h"
#include "wire/pattern.h"

/* Not assert(): it must hold in every build. */
#define FEED_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct feed {
	struct parser parser;
	struct parser_limits limits;
	bool has_offsets; /* each line of the transcript ends with where its command ended */
	size_t taken;     /* bytes, of the whole input */
	size_t need;      /* what the last PARTIAL said; 0 otherwise */
	char *text;
	size_t text_n, text_size;
};

static inline void feed_write(struct feed *feed, const char *bytes, size_t n)
{
	if (feed->text_n + n + 1 > feed->text_size) {
		feed->text_size = 2 * (feed->text_n + n + 1);
		feed->text = realloc(feed->text, feed->text_size);
		FEED_CHECK(feed->text != NULL);
	}
	if (n > 0)
		memcpy(feed->text + feed->text_n, bytes, n);
	feed->text_n += n;
	feed->text[feed->text_n] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void feed_print(struct feed *feed,
                                                                    const char *format, ...)
{
	char line[256];
	va_list arguments;

	va_start(arguments, format);
	int n = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	FEED_CHECK(n >= 0 && (size_t)n < sizeof(line));
	feed_write(feed, line, (size_t)n);
}

static inline void feed_end_line(struct feed *feed)
{
	if (feed->has_offsets)
		feed_print(feed, " @%zu", feed->taken);
	feed_write(feed, "\n", 1);
}

static inline void feed_selection(struct feed *feed, const struct command *command)
{
	const struct start *start = &command->start;
	struct slice words = command->words;
	size_t count = 0;

	FEED_CHECK(words.at != NULL);
	for (;;) {
		struct slice pattern = command_next_pattern(&words);
		if (pattern.n == 0)
			break;
		FEED_CHECK(pattern_check(pattern) == NULL);
		count++;
	}
	FEED_CHECK(count == command->pattern_count);
	FEED_CHECK(count > 0 || command->verb == VERB_UNSUB);

	feed_print(feed, "%s %zu[", verb_name(command->verb), count);
	feed_write(feed, command->words.at, command->words.n);
	feed_write(feed, "]", 1);
	switch (start->kind) {
	case START_NONE:
		break;
	case START_AFTER:
		feed_print(feed, " AFTER %" PRIu64, start->id);
		break;
	case START_LAST:
		feed_print(feed, " LAST %" PRIu64, start->id);
		break;
	case START_SINCE:
		feed_print(feed, " SINCE %" PRIu64, start->time_us);
		break;
	case START_AGE:
		feed_print(feed, " AGE %" PRIu64, start->time_us);
		break;
	}
	FEED_CHECK(start->id <= INT64_MAX && start->time_us <= INT64_MAX);
	if (start->has_log)
		feed_print(feed, "@%08" PRIx32, start->log);
	if (command->limit != 0)
		feed_print(feed, " LIMIT %" PRIu64, command->limit);
}

static inline void feed_command(struct feed *feed, const struct command *command)
{
	FEED_CHECK(command->payload.n <= feed->limits.max_payload);
	switch (command->verb) {
	case VERB_PUB:
	case VERB_PUT:
		FEED_CHECK(topic_check(command->topic) == NULL);
		feed_print(feed, "%s ", verb_name(command->verb));
		feed_write(feed, command->topic.at, command->topic.n);
		feed_write(feed, "|", 1);
		feed_write(feed, command->payload.at, command->payload.n);
		break;
	case VERB_LINE:
		feed_print(feed, "LINE ");
		feed_write(feed, command->payload.at, command->payload.n);
		break;
	case VERB_LINES:
		FEED_CHECK(topic_check(command->topic) == NULL);
		feed_print(feed, "LINES ");
		feed_write(feed, command->topic.at, command->topic.n);
		break;
	case VERB_SUB:
	case VERB_UNSUB:
	case VERB_READ:
	case VERB_TAIL:
	case VERB_CAT:
		feed_selection(feed, command);
		break;
	case VERB_ACKS:
		feed_print(feed, "ACKS %s", command->acks_on ? "ON" : "OFF");
		break;
	case VERB_PING:
	case VERB_INFO:
	case VERB_STATS:
	case VERB_HELP:
	case VERB_QUIT:
		feed_print(feed, "%s", verb_name(command->verb));
		break;
	}
	feed_end_line(feed);
}

static inline void feed_refusal(struct feed *feed, const struct refusal *refusal)
{
	size_t n = strlen(refusal->text);

	/* Fit to be sent: a line, printable, which says so when the connection closes. */
	FEED_CHECK(n > 0 && n < sizeof(refusal->text) - 1);
	for (size_t i = 0; i < n; i++)
		FEED_CHECK(refusal->text[i] >= ' ' && refusal->text[i] <= '~');
	FEED_CHECK(refusal->closes == (strstr(refusal->text, "; the connection closes") != NULL));
	FEED_CHECK(refusal->closes == (feed->parser.state == PARSER_CLOSED));
	FEED_CHECK(refusal->closes || !refusal->is_http);
	if (refusal->is_http)
		feed_print(feed, "HTTP");
	else
		feed_print(feed, "ERR %s", error_word(refusal->code));
	if (refusal->closes)
		feed_print(feed, " closes");
	feed_end_line(feed);
}

/* Asks once, with these bytes; returns how many were taken. */
static inline size_t feed_ask(struct feed *feed, const char *bytes, size_t n)
{
	struct command command;
	struct refusal refusal;
	size_t need = 0;

	memset(&command, 0xA5, sizeof(command)); /* nothing may be left as it was */
	memset(&refusal, 0xA5, sizeof(refusal));
	enum parser_verdict verdict =
		parser_next(&feed->parser, &feed->limits, bytes, n, &command, &need, &refusal);
	if (verdict == PARSER_PARTIAL) {
		FEED_CHECK(need > n && need >= feed->need);
		feed->need = need;
		return 0;
	}
	FEED_CHECK(n >= feed->need);
	feed->need = 0;
	FEED_CHECK(command.size > 0 && command.size <= n);
	FEED_CHECK(feed->parser.scanned == 0 && !feed->parser.in_body);
	feed->taken += command.size;
	switch (verdict) {
	case PARSER_COMMAND:
		feed_command(feed, &command);
		if (command.verb == VERB_LINES)
			parser_enter_lines(&feed->parser);
		break;
	case PARSER_REFUSED:
		feed_refusal(feed, &refusal);
		break;
	case PARSER_NOTHING:
	case PARSER_PARTIAL:
		break;
	}
	return command.size;
}

/* Asks as often as bytes are taken; returns how many were left. */
static inline size_t feed_block(struct feed *feed, const char *bytes, size_t n)
{
	while (n > 0) {
		char *block = malloc(n);
		FEED_CHECK(block != NULL);
		memcpy(block, bytes, n);
		size_t taken = feed_ask(feed, block, n);
		free(block);
		if (taken == 0)
			return n;
		bytes += taken;
		n -= taken;
	}
	return 0;
}

/*
 * Lets n bytes arrive in pieces of `piece` bytes but for the first, which has `first` (0: as all
 * others). Returns the transcript, terminated, which the caller frees.
 */
static inline char *feed_all(size_t max_payload, bool has_offsets, const char *bytes, size_t n,
                             size_t first, size_t piece, size_t *transcript_n)
{
	struct feed feed = {.limits.max_payload = max_payload, .has_offsets = has_offsets};
	size_t arrived = 0, left = 0;

	parser_init(&feed.parser);
	feed_write(&feed, "", 0);
	while (arrived < n) {
		size_t next = arrived == 0 && first > 0 ? first : piece;
		arrived += next < n - arrived ? next : n - arrived;
		left = feed_block(&feed, bytes + feed.taken, arrived - feed.taken);
	}
	/* While something refused is dropped, nothing may be left for "truncated". */
	FEED_CHECK(left == 0 || feed.parser.state == PARSER_COMMANDS ||
	           feed.parser.state == PARSER_LINES);
	if (left > 0) {
		feed_print(&feed, "LEFT %zu", left);
		feed_end_line(&feed);
	}
	if (transcript_n != NULL)
		*transcript_n = feed.text_n;
	return feed.text;
}

/* Aborts when bytes that are cut, as feed_all() does, are understood differently. */
static inline void feed_compare_cut(size_t max_payload, const char *bytes, size_t n, size_t first,
                                    size_t piece)
{
	size_t whole_n, cut_n;
	char *whole = feed_all(max_payload, true, bytes, n, 0, n, &whole_n);
	char *cut = feed_all(max_payload, true, bytes, n, first, piece, &cut_n);

	if (whole_n != cut_n || memcmp(whole, cut, whole_n) != 0) {
		fprintf(stderr, "broken: cut at %zu, then every %zu bytes\nwhole:\n%scut:\n%s",
		        first, piece, whole, cut);
		abort();
	}
	free(whole);
	free(cut);
}

#endif
