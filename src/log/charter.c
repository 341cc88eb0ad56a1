/* SPDX-License-Identifier: MIT */
#include "log/charter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "log/header.h"

static const char *const end_words[] = {"new", "open", "clean"};

/* Everything but the last line; returns its length. */
static size_t print_log(const struct store_log *log, char text[CHARTER_MAX])
{
	const uint64_t order = STORE_BYTE_ORDER;
	unsigned char bytes[sizeof order];
	size_t n = (size_t)snprintf(text, CHARTER_MAX, "psad log %d\norder ", (int)STORE_VERSION);

	memcpy(bytes, &order, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		n += (size_t)snprintf(text + n, CHARTER_MAX - n, "%02x", bytes[i]);
	n += (size_t)snprintf(text + n, CHARTER_MAX - n,
	                      "\nidentity %08" PRIx32 "\nkey %016" PRIx64
	                      "\nboot %s\nend %s\nhead %" PRIu64 "\n",
	                      log->identity, log->key, log->boot[0] == '\0' ? "-" : log->boot,
	                      end_words[log->end], log->head);
	return n;
}

static size_t add_check(char text[CHARTER_MAX], size_t n)
{
	uint64_t check = hash64(text, n, 0);
	return n + (size_t)snprintf(text + n, CHARTER_MAX - n, "check %016" PRIx64 "\n", check);
}

size_t charter_print(const struct store_log *log, char *text)
{
	return add_check(text, print_log(log, text));
}

int charter_parse(const char *text, struct store_log *log)
{
	char end[8], again[CHARTER_MAX];

	*log = (struct store_log){.identity = 0};
	if (sscanf(text,
	           "psad log %*d\norder %*x\nidentity %8" SCNx32 "\nkey %16" SCNx64
	           "\nboot %63[0-9a-f-]\nend %7[a-z]\nhead %20" SCNu64 "\n",
	           &log->identity, &log->key, log->boot, end, &log->head) != 5)
		return -1;
	if (strcmp(log->boot, "-") == 0)
		log->boot[0] = '\0';
	for (size_t i = 0; i < 3; i++) {
		log->end = (enum store_end)i;
		if (strcmp(end, end_words[i]) == 0)
			break;
	}
	size_t n = charter_print(log, again);
	return strlen(text) == n && memcmp(text, again, n) == 0 ? 0 : -1;
}

bool charter_is_foreign(const char *text)
{
	int version = 0;
	char order[20] = "", next = '\0';

	if (sscanf(text, "psad log %9d%c", &version, &next) != 2 || next != '\n')
		return false;
	if (version != STORE_VERSION)
		return true;
	return sscanf(text, "psad log %*d\norder %16[0-9a-f]", order) == 1 &&
	       strcmp(order, "0102030405060708") == 0;
}

const char *charter_fault(const char *text, char *fault)
{
	int version = 0;
	char order[20] = "";

	if (sscanf(text, "psad log %9d\norder %16[0-9a-f]", &version, order) < 1)
		return "is not what psad writes there";
	if (strcmp(order, "0102030405060708") == 0)
		return "was written by a machine of the other byte order";
	if (version == STORE_VERSION)
		return "is damaged; psad --repair makes a new one from the segments";
	snprintf(fault, CHARTER_FAULT_MAX, "has format %d, this psad knows format %d", version,
	         (int)STORE_VERSION);
	return fault;
}
