/* SPDX-License-Identifier: MIT */
#include "wire/arguments.h"

#include <assert.h>
#include <string.h>

#include "wire/pattern.h"
#include "wire/words.h"

#define US_PER_S UINT64_C(1000000)

enum {
	/* A SINCE below this is an age whose unit was forgotten, not a time before 2001-09-09. */
	SINCE_MIN_S = 1000000000,
	FRACTION_DIGITS_MAX = 19,
	LOG_DIGITS = 8,
};

static bool refuse(struct fault *fault, enum error_code code, const char *text)
{
	*fault = (struct fault){code, text};
	return false;
}

static bool expect_no_more(struct slice rest, struct fault *fault, const char *text)
{
	return words_next(&rest).n == 0 || refuse(fault, ERROR_BAD_ARGUMENT, text);
}

/* A log's identity: exactly 8 lower-case hex digits, as psad writes it. */
static bool read_log(struct slice word, uint32_t *log)
{
	if (word.n != LOG_DIGITS)
		return false;

	uint32_t sum = 0;
	for (size_t i = 0; i < word.n; i++) {
		char digit = word.at[i];
		if (digit >= '0' && digit <= '9')
			sum = sum << 4 | (uint32_t)(digit - '0');
		else if (digit >= 'a' && digit <= 'f')
			sum = sum << 4 | (uint32_t)(digit - 'a' + 10);
		else
			return false;
	}
	*log = sum;
	return true;
}

/* <id>[@<log>] */
static bool read_after(struct slice word, struct start *start)
{
	const char *sign = memchr(word.at, '@', word.n);
	size_t id_n = sign != NULL ? (size_t)(sign - word.at) : word.n;

	start->kind = START_AFTER;
	start->has_log = sign != NULL;
	if (start->has_log && !read_log((struct slice){sign + 1, word.n - id_n - 1}, &start->log))
		return false;
	return word_number((struct slice){word.at, id_n}, &start->id);
}

/* <digits> and one of s, m, h, d */
static bool read_age(struct slice word, struct start *start)
{
	uint64_t unit_s;

	switch (word.at[word.n - 1]) {
	case 's':
		unit_s = 1;
		break;
	case 'm':
		unit_s = 60;
		break;
	case 'h':
		unit_s = 3600;
		break;
	case 'd':
		unit_s = 86400;
		break;
	default:
		return false;
	}

	uint64_t number;
	if (!word_number((struct slice){word.at, word.n - 1}, &number))
		return false;
	start->kind = START_AGE;
	/* More than can be counted is as old as can be, and means everything kept. */
	if (__builtin_mul_overflow(number, unit_s * US_PER_S, &start->time_us) ||
	    start->time_us > INT64_MAX)
		start->time_us = INT64_MAX;
	return true;
}

/* Microseconds of the digits behind a decimal point; those behind the sixth are cut off. */
static bool read_fraction(struct slice digits, uint64_t *us)
{
	if (digits.n == 0 || digits.n > FRACTION_DIGITS_MAX)
		return false;

	*us = 0;
	uint64_t weight = US_PER_S / 10;
	for (size_t i = 0; i < digits.n; i++, weight /= 10) {
		if (digits.at[i] < '0' || digits.at[i] > '9')
			return false;
		*us += weight * (uint64_t)(digits.at[i] - '0');
	}
	return true;
}

/* Unix time, or an age */
static bool read_since(struct slice word, struct start *start)
{
	if (word.n > 0 && read_age(word, start))
		return true;

	const char *dot = memchr(word.at, '.', word.n);
	size_t whole_n = dot != NULL ? (size_t)(dot - word.at) : word.n;
	uint64_t s, us = 0;
	if (!word_number((struct slice){word.at, whole_n}, &s) || s < SINCE_MIN_S)
		return false;
	if (dot != NULL && !read_fraction((struct slice){dot + 1, word.n - whole_n - 1}, &us))
		return false;
	start->kind = START_SINCE;
	return !__builtin_mul_overflow(s, US_PER_S, &start->time_us) &&
	       !__builtin_add_overflow(start->time_us, us, &start->time_us) &&
	       start->time_us <= INT64_MAX;
}

static bool is_keyword(struct slice word)
{
	return word_is(word, "AFTER") || word_is(word, "LAST") || word_is(word, "SINCE") ||
	       word_is(word, "LIMIT");
}

/*
 * Takes patterns off *rest up to its end or, with `until_keyword`, to a keyword that isn't the
 * first of them: that can only be a topic of that name.
 */
static bool take_patterns(struct slice *rest, bool until_keyword, struct command *command,
                          struct fault *fault)
{
	/* Not NULL without patterns either, so that whoever walks them need not ask. */
	command->words = (struct slice){rest->at, 0};
	for (;;) {
		struct slice behind = *rest;
		struct slice word = words_next(&behind);
		if (word.n == 0)
			return true;
		if (until_keyword && command->pattern_count > 0 && is_keyword(word))
			return true;
		const char *reason = pattern_check(word);
		if (reason != NULL)
			return refuse(fault, ERROR_BAD_PATTERN, reason);
		if (command->pattern_count == 0)
			command->words.at = word.at;
		command->words.n = (size_t)(word.at + word.n - command->words.at);
		command->pattern_count++;
		*rest = behind;
	}
}

/* Takes a <start> off *rest, where there is one. */
static bool take_start(struct slice *rest, struct command *command, struct fault *fault)
{
	struct slice behind = *rest;
	struct slice keyword = words_next(&behind);
	struct slice value = words_next(&behind);
	struct start *start = &command->start;

	if (word_is(keyword, "AFTER")) {
		if (!read_after(value, start))
			return refuse(fault, ERROR_BAD_ARGUMENT, "AFTER takes <id> or <id>@<log>");
	} else if (word_is(keyword, "LAST")) {
		start->kind = START_LAST;
		if (!word_number(value, &start->id))
			return refuse(fault, ERROR_BAD_ARGUMENT, "LAST takes a number");
	} else if (word_is(keyword, "SINCE")) {
		if (!read_since(value, start))
			return refuse(fault, ERROR_BAD_ARGUMENT,
			              "SINCE takes Unix seconds or an age: 90s, 10m, 2h, 7d");
	} else {
		return true;
	}
	*rest = behind;
	return true;
}

/* Takes LIMIT <n> off *rest, where it is there. */
static bool take_limit(struct slice *rest, struct command *command, struct fault *fault)
{
	struct slice behind = *rest;
	struct slice keyword = words_next(&behind);
	struct slice value = words_next(&behind);

	if (!word_is(keyword, "LIMIT"))
		return true;
	if (!word_number(value, &command->limit) || command->limit == 0)
		return refuse(fault, ERROR_BAD_ARGUMENT, "LIMIT takes a number from 1 on");
	*rest = behind;
	return true;
}

/* <pattern> [<pattern> ...] [<start>] [LIMIT <n>] */
static bool parse_selection(struct slice rest, struct command *command, struct fault *fault)
{
	bool may_limit = command->verb == VERB_READ || command->verb == VERB_CAT;

	if (!take_patterns(&rest, true, command, fault))
		return false;
	if (command->pattern_count == 0)
		return refuse(fault, ERROR_BAD_ARGUMENT, "a pattern is needed; > is everything");
	if (!take_start(&rest, command, fault))
		return false;
	if (may_limit && !take_limit(&rest, command, fault))
		return false;
	return expect_no_more(rest, fault,
	                      may_limit ? "expected patterns, then one start, then LIMIT <n>"
	                                : "expected patterns, then one start");
}

static bool parse_lines(struct slice rest, struct command *command, struct fault *fault)
{
	command->topic = words_next(&rest);
	if (command->topic.n == 0 || words_next(&rest).n > 0)
		return refuse(fault, ERROR_BAD_ARGUMENT, "LINES takes one topic");
	const char *reason = topic_check(command->topic);
	return reason == NULL || refuse(fault, ERROR_BAD_TOPIC, reason);
}

static bool parse_acks(struct slice rest, struct command *command, struct fault *fault)
{
	struct slice word = words_next(&rest);

	command->acks_on = word_is(word, "ON");
	if (!command->acks_on && !word_is(word, "OFF"))
		return refuse(fault, ERROR_BAD_ARGUMENT, "ACKS takes ON or OFF");
	return expect_no_more(rest, fault, "ACKS takes ON or OFF");
}

bool arguments_parse(struct slice rest, struct command *command, struct fault *fault)
{
	switch (command->verb) {
	case VERB_SUB:
	case VERB_READ:
	case VERB_TAIL:
	case VERB_CAT:
		return parse_selection(rest, command, fault);
	case VERB_UNSUB:
		return take_patterns(&rest, false, command, fault);
	case VERB_LINES:
		return parse_lines(rest, command, fault);
	case VERB_ACKS:
		return parse_acks(rest, command, fault);
	case VERB_PING:
	case VERB_INFO:
	case VERB_STATS:
	case VERB_HELP:
	case VERB_QUIT:
		return expect_no_more(rest, fault, "this command takes no arguments");
	case VERB_PUB:
	case VERB_PUT:
	case VERB_LINE:
		break;
	}
	assert(0 && "a command whose arguments are not read here");
	return refuse(fault, ERROR_UNKNOWN_COMMAND, "not a command");
}
