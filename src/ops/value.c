/* SPDX-License-Identifier: MIT */
#include "ops/value.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool __attribute__((format(printf, 2, 3)))
refuse(struct value_reason *reason, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason->text, sizeof reason->text, format, arguments);
	va_end(arguments);
	return false;
}

/* Numbers */

struct unit {
	const char *name;
	uint64_t factor;
};

/* What can be measured, and how it is written. */
struct scale {
	const char *what;
	int (*compare)(const char *, const char *);
	struct unit units[6]; /* small to large; one without a name ends them */
};

static const struct scale count_scale = {"a number", strcmp, {{"", 1}}};

static const struct scale size_scale = {
	"a size (a number of bytes, or one with K, M or G)",
	strcasecmp,
	{{"", 1}, {"K", 1ULL << 10}, {"M", 1ULL << 20}, {"G", 1ULL << 30}},
};

static const struct scale time_scale = {
	"a time (a number with ms, s, m, h or d)",
	strcmp,
	{{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}},
};

/* `amount` in the largest unit that divides it. */
static struct value_amount scale_amount(const struct scale *scale, uint64_t amount)
{
	struct value_amount out = {"0"};
	const struct unit *unit = scale->units;
	for (const struct unit *larger = unit; larger->name != NULL; larger++) {
		if (amount % larger->factor == 0)
			unit = larger;
	}
	if (amount > 0)
		snprintf(out.text, sizeof out.text, "%" PRIu64 "%s", amount / unit->factor,
		         unit->name);
	return out;
}

struct value_amount value_size_text(uint64_t bytes)
{
	return scale_amount(&size_scale, bytes);
}

struct value_amount value_time_text(uint64_t ms)
{
	return scale_amount(&time_scale, ms);
}

/* Reads the digits at the beginning of *text and moves behind them; too many give UINT64_MAX. */
static bool take_digits(const char **text, uint64_t *out)
{
	const char *const begin = *text;
	bool is_too_much = false;
	uint64_t number = 0;
	for (; **text >= '0' && **text <= '9'; (*text)++) {
		is_too_much |= __builtin_mul_overflow(number, 10U, &number);
		is_too_much |= __builtin_add_overflow(number, (unsigned)(**text - '0'), &number);
	}
	*out = is_too_much ? UINT64_MAX : number;
	return *text > begin;
}

static const struct unit *unit_find(const struct scale *scale, const char *name)
{
	for (const struct unit *unit = scale->units; unit->name != NULL; unit++) {
		if (scale->compare(unit->name, name) == 0)
			return unit;
	}
	return NULL;
}

static bool value_scaled(const struct scale *scale, const char *text, struct value_bounds bounds,
                         uint64_t *out, struct value_reason *reason)
{
	const char *rest = text;
	uint64_t amount = 0;
	if (!take_digits(&rest, &amount))
		return refuse(reason, "\"%.40s\" is not %s", text, scale->what);
	const bool needs_no_unit = *rest == '\0' && amount == 0;
	const struct unit *unit = needs_no_unit ? &scale->units[0] : unit_find(scale, rest);
	if (unit == NULL && *rest == '\0')
		return refuse(reason, "\"%.40s\" has no unit (ms, s, m, h or d)", text);
	if (unit == NULL)
		return refuse(reason, "\"%.40s\" is not %s", text, scale->what);
	if (__builtin_mul_overflow(amount, unit->factor, &amount))
		amount = UINT64_MAX;
	if (amount < bounds.least)
		return refuse(reason, "%.40s is less than %s", text,
		              scale_amount(scale, bounds.least).text);
	if (amount > bounds.most)
		return refuse(reason, "%.40s is more than %s", text,
		              scale_amount(scale, bounds.most).text);
	*out = amount;
	return true;
}

bool value_count(const char *text, struct value_bounds bounds, uint64_t *out,
                 struct value_reason *reason)
{
	return value_scaled(&count_scale, text, bounds, out, reason);
}

bool value_size(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason)
{
	return value_scaled(&size_scale, text, bounds, out, reason);
}

bool value_time(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason)
{
	return value_scaled(&time_scale, text, bounds, out, reason);
}

bool value_mode(const char *text, struct value_bounds bounds, uint64_t *out,
                struct value_reason *reason)
{
	uint64_t mode = 0;
	const size_t length = strlen(text);
	if (length == 0 || length > 8 || strspn(text, "01234567") != length)
		return refuse(reason, "\"%.40s\" is not a mode (octal digits such as 0660)", text);
	for (size_t i = 0; i < length; i++)
		mode = mode * 8 + (uint64_t)(text[i] - '0');
	if (mode < bounds.least || mode > bounds.most)
		return refuse(reason, "%s is not within %04jo and %04jo", text,
		              (uintmax_t)bounds.least, (uintmax_t)bounds.most);
	*out = mode;
	return true;
}

/* Words */

bool value_choice(const char *text, const char *const *words, uint64_t *out,
                  struct value_reason *reason)
{
	char list[128] = "";
	size_t used = 0;
	for (size_t i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return true;
		}
		const char *between = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
		if (used < sizeof list)
			used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", between,
			                         words[i]);
	}
	return refuse(reason, "\"%.40s\" is not %s", text, list);
}

/* Addresses */

static bool refuse_address(const char *text, struct value_reason *reason)
{
	return refuse(reason,
	              "\"%.80s\" is not an address such as 127.0.0.1:9853, [::1]:9853 or :9853 "
	              "(names are not looked up)",
	              text);
}

/* False when `host` is not a numeric address of that family. */
static bool address_make(int family, const char *host, uint16_t port, struct config_address *out)
{
	char shown[INET6_ADDRSTRLEN];
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out->address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->address;
	void *bytes = family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr;

	*out = (struct config_address){0};
	if (inet_pton(family, host, bytes) != 1)
		return false;
	out->address.ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		v4->sin_port = htons(port);
		out->length = sizeof *v4;
	} else {
		v6->sin6_port = htons(port);
		out->length = sizeof *v6;
	}
	inet_ntop(family, bytes, shown, sizeof shown);
	snprintf(out->text, sizeof out->text, family == AF_INET ? "%s:%u" : "[%s]:%u", shown, port);
	return true;
}

static bool list_add(struct value_addresses *list, const struct config_address *address,
                     struct value_reason *reason)
{
	if (list->count == VALUE_ADDRESSES_MAX)
		return refuse(reason, "more than %d addresses", (int)VALUE_ADDRESSES_MAX);
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->at[i].text, address->text) == 0)
			return refuse(reason, "%s is there twice", address->text);
	}
	struct config_address *at = realloc(list->at, (list->count + 1) * sizeof *at);
	if (at == NULL)
		return refuse(reason, "out of memory");
	at[list->count] = *address;
	list->at = at;
	list->count++;
	return true;
}

static bool list_add_every(struct value_addresses *list, uint16_t port, struct value_reason *reason)
{
	struct config_address address;
	address_make(AF_INET, "0.0.0.0", port, &address);
	address.may_be_missing = true;
	if (!list_add(list, &address, reason))
		return false;
	address_make(AF_INET6, "::", port, &address);
	address.may_be_missing = true;
	return list_add(list, &address, reason);
}

/* One item of a list, without blanks around it. */
static bool list_add_text(struct value_addresses *list, const char *text,
                          struct value_reason *reason)
{
	char host[INET6_ADDRSTRLEN + 2]; /* and brackets */
	const char *colon = strrchr(text, ':');
	uint64_t port = 0;
	struct config_address address;

	if (colon == NULL || (size_t)(colon - text) >= sizeof host)
		return refuse_address(text, reason);
	const size_t length = (size_t)(colon - text);
	memcpy(host, text, length);
	host[length] = '\0';
	const char *digits = colon + 1;
	if (!take_digits(&digits, &port) || *digits != '\0')
		return refuse(reason, "\"%.80s\" does not end in a port number", text);
	if (port > UINT16_MAX)
		return refuse(reason, "\"%.80s\": a port is at most %d", text, UINT16_MAX);
	if (length == 0)
		return list_add_every(list, (uint16_t)port, reason);

	const bool is_v6 = length > 2 && host[0] == '[' && host[length - 1] == ']';
	if (is_v6)
		host[length - 1] = '\0';
	if (!address_make(is_v6 ? AF_INET6 : AF_INET, is_v6 ? host + 1 : host, (uint16_t)port,
	                  &address))
		return refuse_address(text, reason);
	return list_add(list, &address, reason);
}

bool value_addresses(const char *text, struct value_addresses *list, struct value_reason *reason)
{
	static const char blanks[] = " \t";
	for (;;) {
		text += strspn(text, blanks);
		if (*text == '\0')
			return true; /* nothing, or nothing behind the last comma */
		char item[128];
		size_t length = strcspn(text, ",");
		const char *next = text + length;
		while (length > 0 && strchr(blanks, text[length - 1]) != NULL)
			length--;
		if (length == 0)
			return refuse(reason, "there is nothing before a comma");
		if (length >= sizeof item)
			return refuse_address(text, reason);
		memcpy(item, text, length);
		item[length] = '\0';
		if (!list_add_text(list, item, reason))
			return false;
		text = *next == ',' ? next + 1 : next;
	}
}

void value_addresses_free(struct value_addresses *list)
{
	free(list->at);
	*list = (struct value_addresses){0};
}

bool value_address_is_local(const struct sockaddr *address)
{
	if (address->sa_family == AF_UNIX)
		return true;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
		return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	}
	return false;
}
