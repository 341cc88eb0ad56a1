/* SPDX-License-Identifier: MIT */
/*
 * Compares what words of a configuration and of a <start> are taken for with a second opinion:
 * numbers in 128 bits, rules as plain as those of the contract.
 *
 * The first byte says what the rest is: a count, a size, a time, a mode, a choice, a list of
 * addresses, or what stands behind the pattern of a SUB or READ.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <strings.h>

#include "fuzz.h"
#include "ops/value.h"
#include "wire/command.h"

typedef unsigned __int128 wide;

static const wide much = (wide)1 << 88;

/* The digits at the beginning, up to `much`; *n of them. */
static wide plain_digits(const char *text, size_t n, size_t *digits)
{
	wide sum = 0;

	for (*digits = 0; *digits < n && text[*digits] >= '0' && text[*digits] <= '9'; ++*digits)
		sum = sum >= much ? much : 10 * sum + (wide)(text[*digits] - '0');
	return sum;
}

struct plain_unit {
	const char *name;
	uint64_t factor;
};

static const struct plain_unit count_units[] = {{"", 1}, {NULL, 0}};
static const struct plain_unit size_units[] = {{"", 1},        {"K", 1 << 10}, {"k", 1 << 10},
                                               {"M", 1 << 20}, {"m", 1 << 20}, {"G", 1 << 30},
                                               {"g", 1 << 30}, {NULL, 0}};
static const struct plain_unit time_units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                               {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

/* Whether the text is such a number, and which. */
static bool plain_scaled(const char *text, const struct plain_unit *units, wide *out)
{
	size_t digits;
	wide sum = plain_digits(text, strlen(text), &digits);

	if (digits == 0)
		return false;
	for (; units->name != NULL; units++) {
		if (strcmp(text + digits, units->name) != 0)
			continue;
		*out = sum * units->factor;
		return true;
	}
	*out = 0;
	return sum == 0 && text[digits] == '\0'; /* 0 needs no unit */
}

static bool plain_mode(const char *text, wide *out)
{
	size_t n = strlen(text);

	*out = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '7')
			return false;
		*out = *out * 8 + (wide)(text[i] - '0');
	}
	return n >= 1 && n <= 8;
}

static void check_reason(const struct value_reason *reason)
{
	size_t n = strnlen(reason->text, sizeof reason->text);
	FUZZ_CHECK(n > 0 && n < sizeof reason->text);
}

static void check_number(unsigned kind, struct value_bounds bounds, const char *text)
{
	struct value_reason reason = {""};
	uint64_t number = 0;
	bool is_taken = false, is_right = false;
	wide expected = 0;

	switch (kind) {
	case 0:
		is_taken = value_count(text, bounds, &number, &reason);
		is_right = plain_scaled(text, count_units, &expected);
		break;
	case 1:
		is_taken = value_size(text, bounds, &number, &reason);
		is_right = plain_scaled(text, size_units, &expected);
		break;
	case 2:
		is_taken = value_time(text, bounds, &number, &reason);
		is_right = plain_scaled(text, time_units, &expected);
		break;
	default:
		is_taken = value_mode(text, bounds, &number, &reason);
		is_right = plain_mode(text, &expected);
	}
	is_right = is_right && expected >= bounds.least && expected <= bounds.most;
	FUZZ_CHECKF(is_taken == is_right, "\"%s\": %s", text, reason.text);
	if (is_taken)
		FUZZ_CHECKF(number == expected, "\"%s\"", text);
	else
		check_reason(&reason);
	if (is_taken && kind == 1) {
		uint64_t again = 0;
		struct value_amount amount = value_size_text(number);
		FUZZ_CHECK(value_size(amount.text, bounds, &again, &reason) && again == number);
	}
}

static void check_choice(const char *text)
{
	static const char *const words[] = {"no", "interval", "always", NULL};
	struct value_reason reason = {""};
	uint64_t index = 99, expected = 0;

	bool is_taken = value_choice(text, words, &index, &reason);
	while (words[expected] != NULL && strcmp(words[expected], text) != 0)
		expected++;
	FUZZ_CHECK(is_taken == (words[expected] != NULL));
	if (is_taken)
		FUZZ_CHECK(index == expected);
	else
		check_reason(&reason);
}

/* One address, blanks around it taken off: its family, 0 when it is none. */
static int plain_address(const char *text, size_t n, unsigned char bytes[16], uint64_t *port)
{
	char host[64];
	size_t digits, colon = n;

	while (colon > 0 && text[colon - 1] != ':')
		colon--;
	if (colon == 0 || colon == n)
		return 0;
	wide number = plain_digits(text + colon, n - colon, &digits);
	if (digits != n - colon || number > 65535)
		return 0;
	*port = (uint64_t)number;
	colon--;
	memset(bytes, 0, 16);
	if (colon == 0)
		return AF_UNSPEC + 1000; /* every address */
	bool is_v6 = text[0] == '[' && text[colon - 1] == ']' && colon > 2;
	size_t host_n = is_v6 ? colon - 2 : colon;
	if (host_n >= sizeof host)
		return 0;
	memcpy(host, text + is_v6, host_n);
	host[host_n] = '\0';
	int family = is_v6 ? AF_INET6 : AF_INET;
	return inet_pton(family, host, bytes) == 1 ? family : 0;
}

/* Whether entry `at` of the list is this address. */
static bool is_address(const struct config_address *at, int family, const unsigned char *bytes,
                       uint64_t port)
{
	const struct sockaddr_in *v4 = (const void *)&at->address;
	const struct sockaddr_in6 *v6 = (const void *)&at->address;

	if (at->address.ss_family != family)
		return false;
	if (family == AF_INET)
		return at->length == sizeof *v4 && ntohs(v4->sin_port) == port &&
		       memcmp(&v4->sin_addr, bytes, 4) == 0;
	return at->length == sizeof *v6 && ntohs(v6->sin6_port) == port &&
	       memcmp(&v6->sin6_addr, bytes, 16) == 0;
}

/* Each is what stands there; its text means itself; local is what only this machine reaches. */
static void check_list(const char *text, const struct value_addresses *list)
{
	size_t nth = 0;

	FUZZ_CHECK(list->count <= VALUE_ADDRESSES_MAX);
	while (*text != '\0') {
		size_t n = strcspn(text, ","), begin = 0, end = n;
		const char *next = text + n + (text[n] == ',');
		unsigned char bytes[16];
		uint64_t port;
		while (begin < end && (text[begin] == ' ' || text[begin] == '\t'))
			begin++;
		while (end > begin && (text[end - 1] == ' ' || text[end - 1] == '\t'))
			end--;
		if (begin == end && *next == '\0')
			break; /* blanks behind the last comma */
		int family = plain_address(text + begin, end - begin, bytes, &port);
		FUZZ_CHECKF(family != 0, "\"%.*s\" was taken", (int)(end - begin), text + begin);
		FUZZ_CHECK(nth < list->count);
		if (family != AF_INET && family != AF_INET6) {
			FUZZ_CHECK(is_address(&list->at[nth++], AF_INET, bytes, port));
			FUZZ_CHECK(nth < list->count);
			family = AF_INET6;
		}
		FUZZ_CHECK(is_address(&list->at[nth++], family, bytes, port));
		text = next;
	}
	FUZZ_CHECK(nth == list->count);
	for (size_t i = 0; i < list->count; i++) {
		const struct config_address *at = &list->at[i];
		struct value_addresses again = {.count = 0};
		struct value_reason reason;
		const unsigned char *v4 =
			(const void *)&((const struct sockaddr_in *)(const void *)&at->address)
				->sin_addr;
		FUZZ_CHECKF(value_addresses(at->text, &again, &reason), "%s", at->text);
		FUZZ_CHECK(again.count == 1 && strcmp(again.at[0].text, at->text) == 0);
		value_addresses_free(&again);
		bool is_local = at->address.ss_family == AF_INET
		                        ? v4[0] == 127
		                        : strncmp(at->text, "[::1]:", 6) == 0;
		FUZZ_CHECKF(value_address_is_local((const void *)&at->address) == is_local, "%s",
		            at->text);
		for (size_t j = 0; j < i; j++)
			FUZZ_CHECK(strcmp(list->at[j].text, at->text) != 0);
	}
}

static void check_addresses(const char *text)
{
	struct value_addresses list = {.count = 0};
	struct value_reason reason = {""};

	if (value_addresses(text, &list, &reason))
		check_list(text, &list);
	else
		check_reason(&reason);
	value_addresses_free(&list);
}

/* ---- what stands behind a pattern ---- */

struct words {
	const char *at;
	size_t n;
};

/* The next word, n = 0 when there is none. */
static struct words plain_word(const char **at, const char *end)
{
	while (*at < end && **at == ' ')
		++*at;
	struct words word = {*at, 0};
	while (*at < end && **at != ' ')
		++*at;
	word.n = (size_t)(*at - word.at);
	return word;
}

static bool is_word(struct words word, const char *upper)
{
	return word.n == strlen(upper) && strncasecmp(word.at, upper, word.n) == 0;
}

/* 1 to 19 digits, at most 2^63-1. */
static bool plain_number(const char *at, size_t n, uint64_t *out)
{
	size_t digits;
	wide sum = plain_digits(at, n, &digits);

	*out = (uint64_t)sum;
	return digits == n && n >= 1 && n <= 19 && sum <= INT64_MAX;
}

static bool plain_after(struct words word, struct start *start)
{
	const char *sign = word.n == 0 ? NULL : memchr(word.at, '@', word.n);
	size_t n = sign == NULL ? word.n : (size_t)(sign - word.at);

	start->kind = START_AFTER;
	start->has_log = sign != NULL;
	for (size_t i = n + 1; sign != NULL && i < word.n; i++) {
		const char *digit = memchr("0123456789abcdef", word.at[i], 16);
		if (digit == NULL)
			return false;
		start->log = start->log << 4 |
		             (uint32_t)(digit[0] <= '9' ? digit[0] - '0' : digit[0] - 'a' + 10);
	}
	return (sign == NULL || word.n - n == 9) && plain_number(word.at, n, &start->id);
}

static bool plain_since(struct words word, struct start *start)
{
	static const char units[] = "smhd";
	static const uint64_t seconds[] = {1, 60, 3600, 86400};
	size_t digits, more;
	wide sum = plain_digits(word.at, word.n, &digits), part = 0;
	uint64_t number;

	if (!plain_number(word.at, digits, &number))
		return false;
	if (digits + 1 == word.n && word.at[digits] != '.') {
		const char *unit = memchr(units, word.at[digits], 4);
		if (unit == NULL)
			return false;
		sum = sum * seconds[unit - units] * 1000000;
		start->kind = START_AGE;
		start->time_us = sum > INT64_MAX ? INT64_MAX : (uint64_t)sum;
		return true;
	}
	start->kind = START_SINCE;
	if (digits < word.n) {
		if (word.at[digits] != '.')
			return false;
		const char *fraction = word.at + digits + 1;
		(void)plain_digits(fraction, word.n - digits - 1, &more);
		if (more != word.n - digits - 1 || more < 1 || more > 19)
			return false;
		for (size_t i = 0; i < 6; i++)
			part = 10 * part + (i < more ? (wide)(fraction[i] - '0') : 0);
	}
	sum = sum * 1000000 + part;
	start->time_us = (uint64_t)sum;
	return number >= 1000000000 && sum <= INT64_MAX;
}

/* What "SUB a <text>" or "READ a <text>" says; false: it is refused. Other patterns are none
 * here. */
static bool plain_start(struct words *words, size_t count, bool may_limit, struct command *out)
{
	size_t i = 0;
	bool is_good = true;

	if (i < count && (is_word(words[i], "AFTER") || is_word(words[i], "LAST") ||
	                  is_word(words[i], "SINCE"))) {
		struct words value = i + 1 < count ? words[i + 1] : (struct words){"", 0};
		if (is_word(words[i], "AFTER")) {
			is_good = plain_after(value, &out->start);
		} else if (is_word(words[i], "SINCE")) {
			is_good = plain_since(value, &out->start);
		} else {
			out->start.kind = START_LAST;
			is_good = plain_number(value.at, value.n, &out->start.id);
		}
		i += 2;
	}
	if (is_good && may_limit && i < count && is_word(words[i], "LIMIT")) {
		is_good = i + 1 < count &&
		          plain_number(words[i + 1].at, words[i + 1].n, &out->limit) &&
		          out->limit >= 1;
		i += 2;
	}
	return is_good && i >= count;
}

static void check_start(bool may_limit, const char *text)
{
	static const struct parser_limits limits = {.max_payload = 1 << 20};
	char line[1024];
	int n = snprintf(line, sizeof line, "%s a %.900s", may_limit ? "READ" : "SUB", text);
	size_t stop = strcspn(line, "\n\r");
	struct words words[512];
	size_t count = 0, need;
	struct parser parser;
	struct command command, expected = {.limit = 0};
	struct refusal refusal;
	const char *at = line + (may_limit ? 6 : 5), *end = line + stop;

	(void)n;
	line[stop] = '\n';
	for (struct words word; (word = plain_word(&at, end)).n > 0;)
		words[count++] = word;
	/* What comes before the first keyword are patterns: not looked at here. */
	if (count > 0 && !is_word(words[0], "AFTER") && !is_word(words[0], "LAST") &&
	    !is_word(words[0], "SINCE") && !is_word(words[0], "LIMIT"))
		return;
	bool is_right = plain_start(words, count, may_limit, &expected);
	parser_init(&parser);
	enum parser_verdict verdict =
		parser_next(&parser, &limits, line, stop + 1, &command, &need, &refusal);
	FUZZ_CHECKF((verdict == PARSER_COMMAND) == is_right, "%s", line);
	if (!is_right)
		return;
	FUZZ_CHECK(command.start.kind == expected.start.kind);
	FUZZ_CHECKF(command.start.id == expected.start.id, "%s", line);
	FUZZ_CHECKF(command.start.time_us == expected.start.time_us, "%s", line);
	FUZZ_CHECK(command.start.has_log == expected.start.has_log);
	FUZZ_CHECK(command.start.log == expected.start.log);
	FUZZ_CHECK(command.limit == expected.limit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct value_bounds bounds[] = {
		{0, UINT64_MAX - 1}, {1, 65535}, {0, 0777}, {65536, 1 << 30}};
	struct input input = {data, n};
	uint8_t first = input_byte(&input);
	char *text = input_text(&input, -1);

	switch (first % 8) {
	case 0:
	case 1:
	case 2:
	case 3:
		check_number(first % 8, bounds[first / 8 % 4], text);
		break;
	case 4:
		check_choice(text);
		break;
	case 5:
		check_addresses(text);
		break;
	case 6:
	case 7:
		check_start(first % 2, text);
		break;
	}
	free(text);
	return 0;
}
