/* SPDX-License-Identifier: MIT */
/*
 * reload: what of a fresh configuration comes into force while psad runs (the second half of
 * config.h).
 */
#include <stdio.h>

#include "ops/config.h"
#include "ops/keys.h"
#include "ops/rules.h"

int config_check_reload(const struct config *running, const struct config *fresh, char *error,
                        size_t error_size)
{
	struct rules_breach breach;

	if (rules_check_sizes(fresh, running->segment_size, ", until a restart", &breach))
		return 0;
	snprintf(error, error_size, "%s", breach.text);
	return -1;
}

static bool is_same(const struct key *key, const struct config *running, const struct config *fresh)
{
	/* A size that follows from others doesn't differ because they do. */
	if (key == &keys[KEY_log_segment_size] && running->segment_size_is_default &&
	    fresh->segment_size_is_default)
		return true;
	return key_is_same(key, running, fresh);
}

void config_adopt(struct config *running, struct config *fresh, config_changed *changed,
                  void *context)
{
	bool was_default = running->listen_tcp_is_default;

	/* The same addresses may have been written down, or not any more. */
	running->listen_tcp_is_default = fresh->listen_tcp_is_default;
	fresh->listen_tcp_is_default = was_default;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		const struct key *key = &keys[i];
		char name[64], before[CONFIG_TEXT_MAX], now[CONFIG_TEXT_MAX];

		if (is_same(key, running, fresh))
			continue;
		snprintf(name, sizeof name, "%s.%s", key->section, key->name);
		key_show(key, running, before, sizeof before);
		key_show(key, fresh, now, sizeof now);
		if (key->when == WHEN_RELOAD)
			key_swap(key, running, fresh);
		const struct config_change change = {.key = name,
		                                     .before = before,
		                                     .now = now,
		                                     .is_applied = key->when == WHEN_RELOAD};
		changed(context, &change);
	}
}
