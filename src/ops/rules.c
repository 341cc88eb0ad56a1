/* SPDX-License-Identifier: MIT */
#include "ops/rules.h"

#include <stdarg.h>
#include <stdio.h>

#include "ops/value.h"

#define SEGMENT_UNIT (64 * KIB)

/* Returns false. */
static bool __attribute__((format(printf, 3, 4)))
refuse(struct rules_breach *breach, enum key_id key, const char *format, ...)
{
	va_list arguments;

	breach->key = key;
	va_start(arguments, format);
	vsnprintf(breach->text, sizeof breach->text, format, arguments);
	va_end(arguments);
	return false;
}

static uint64_t round_to_segment_unit(uint64_t bytes)
{
	return (bytes + SEGMENT_UNIT - 1) / SEGMENT_UNIT * SEGMENT_UNIT;
}

static uint64_t default_segment_size(const struct config *config)
{
	uint64_t size = config->retain_bytes == 0 ? 64 * MIB : config->retain_bytes / 16;
	if (size < MIB)
		size = MIB;
	if (size > 64 * MIB)
		size = 64 * MIB;
	if (size < 4 * config->max_payload)
		size = 4 * config->max_payload;
	return round_to_segment_unit(size);
}

static bool settle_segment_size(struct config *config, struct rules_breach *breach)
{
	config->segment_size_is_default = config->segment_size == 0;
	if (config->segment_size_is_default) {
		config->segment_size = default_segment_size(config);
		return true;
	}
	if (config->segment_size < SEGMENT_UNIT)
		return refuse(breach, KEY_log_segment_size, "log.segment_size: %s is less than 64K",
		              value_size_text(config->segment_size).text);
	config->segment_size = round_to_segment_unit(config->segment_size);
	return true;
}

bool rules_check_sizes(const struct config *config, uint64_t segment_size, const char *why,
                       struct rules_breach *breach)
{
	if (config->max_payload > segment_size / 4)
		return refuse(breach, KEY_limits_max_payload,
		              "limits.max_payload: %s is more than a quarter of log.segment_size "
		              "(%s%s)",
		              value_size_text(config->max_payload).text,
		              value_size_text(segment_size).text, why);
	if (config->retain_bytes != 0 && config->retain_bytes < 4 * segment_size)
		return refuse(breach, KEY_log_retain_bytes,
		              "log.retain_bytes: %s is less than 4 x log.segment_size (%s%s)",
		              value_size_text(config->retain_bytes).text,
		              value_size_text(segment_size).text, why);
	return true;
}

static bool check_listeners(const struct config *config, struct rules_breach *breach)
{
	for (size_t i = 0; i < config->listen_tcp_count && !config->listen_insecure; i++) {
		const struct config_address *at = &config->listen_tcp[i];
		if (!value_address_is_local((const struct sockaddr *)&at->address))
			return refuse(breach, KEY_listen_tcp,
			              "listen.tcp: %s lets other machines in, and there is no "
			              "authentication: it needs listen.insecure = yes",
			              at->text);
	}
	return true;
}

/*
 * Without a directory there is nothing to sync: whoever asks for it believes that there is. (The
 * defaults may be written down: psad.conf.example does.)
 */
static bool check_sync(const struct config *config, struct rules_breach *breach)
{
	char text[CONFIG_TEXT_MAX];

	if (config->log_dir != NULL)
		return true;
	if (config->log_fsync != LOG_SYNC_INTERVAL) {
		key_show(&keys[KEY_log_fsync], config, text, sizeof text);
		return refuse(breach, KEY_log_fsync,
		              "log.fsync: %s means nothing without log.dir: the log is in memory",
		              text);
	}
	if (config->log_fsync_interval_ms != DEFAULT_SYNC_INTERVAL_MS)
		return refuse(
			breach, KEY_log_fsync_interval,
			"log.fsync_interval: means nothing without log.dir: the log is in memory");
	return true;
}

bool rules_settle(struct config *config, struct rules_breach *breach)
{
	return settle_segment_size(config, breach) && check_listeners(config, breach) &&
	       check_sync(config, breach) &&
	       rules_check_sizes(config, config->segment_size,
	                         config->segment_size_is_default ? ", by default" : "", breach);
}
