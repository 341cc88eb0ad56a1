/* SPDX-License-Identifier: MIT */
/* FUZZ: -max_len=2048 -dict=tests/fuzz/config.dict */
/*
 * Loads any configuration, and takes it over into a running one.
 *
 * The input is two configurations, a 0xFE between them; each is overrides, a line each, and after a
 * 0xFF a file. What is accepted is within the bounds of the manual, which stand here once more, and
 * is what was asked for; what is refused is refused in one sentence that names the place, and has
 * changed nothing. Without a leak.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "ops/config.h"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

enum { OVERRIDES_MAX = 32 };

/* What the manual says of the numbers. */
static const struct number {
	const char *key;
	char kind; /* c: a count, s: a size, t: a time */
	uint64_t least, most;
	size_t offset, size;
	bool needs_restart;
} numbers[] = {
#define NUMBER(key, kind, least, most, field, needs_restart)                                       \
	{                                                                                          \
		key, kind, least, most, offsetof(struct config, field),                            \
			sizeof(((struct config *)0)->field), needs_restart                         \
	}
	NUMBER("server.workers", 'c', 0, 1024, workers, true),
	NUMBER("server.drain_timeout", 't', 0, 86400000, drain_timeout_ms, false),
	NUMBER("listen.backlog", 'c', 1, 65535, listen_backlog, false),
	NUMBER("log.retain_bytes", 's', 0, UINT64_MAX, retain_bytes, false),
	NUMBER("log.retain_messages", 'c', 0, UINT64_MAX, retain_messages, false),
	NUMBER("log.retain_age", 't', 0, UINT64_MAX, retain_age_ms, false),
	NUMBER("log.fsync_interval", 't', 1, 86400000, log_fsync_interval_ms, false),
	NUMBER("limits.max_payload", 's', 1, 64 * MIB, max_payload, false),
	NUMBER("limits.max_connections", 'c', 0, UINT32_MAX, max_connections, false),
	NUMBER("limits.max_connections_per_ip", 'c', 0, UINT32_MAX, max_connections_per_ip, false),
	NUMBER("limits.max_patterns", 'c', 1, UINT32_MAX, max_patterns, false),
	NUMBER("limits.input_memory", 's', 1, UINT64_MAX, input_memory, false),
	NUMBER("limits.put_timeout", 't', 1, UINT64_MAX, put_timeout_ms, false),
	NUMBER("limits.idle_timeout", 't', 0, UINT64_MAX, idle_timeout_ms, false),
	NUMBER("limits.send_buffer", 's', 0, UINT64_MAX, send_buffer, false),
	NUMBER("limits.keepalive", 't', 1, UINT64_MAX, keepalive_ms, false),
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static uint64_t number_of(const struct config *config, const struct number *number)
{
	const char *field = (const char *)config + number->offset;
	unsigned narrow;
	uint64_t wide;

	if (number->size == sizeof wide) {
		memcpy(&wide, field, sizeof wide);
		return wide;
	}
	FUZZ_CHECK(number->size == sizeof narrow);
	memcpy(&narrow, field, sizeof narrow);
	return narrow;
}

/* What a text that was accepted stands for. */
static uint64_t plain_value(const char *text, char kind)
{
	static const struct {
		const char *unit;
		uint64_t size, time;
	} units[] = {{"", 1, 1},        {"K", KIB, 0},     {"k", KIB, 0},     {"M", MIB, 0},
	             {"G", GIB, 0},     {"g", GIB, 0},     {"ms", 0, 1},      {"s", 0, 1000},
	             {"m", MIB, 60000}, {"h", 0, 3600000}, {"d", 0, 86400000}};
	char *unit;
	uint64_t number = strtoull(text, &unit, 10);

	size_t n = strcspn(unit, " \t\r\f\v"); /* blanks behind it do not count */
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (strlen(units[i].unit) == n && strncmp(units[i].unit, unit, n) == 0)
			return number * (kind == 's'   ? units[i].size
			                 : kind == 't' ? units[i].time
			                               : 1);
	FUZZ_CHECKF(false, "\"%s\" was accepted", text);
	return 0;
}

static void check_addresses(const struct config *config)
{
	for (size_t i = 0; i < config->listen_tcp_count; i++) {
		const struct config_address *at = &config->listen_tcp[i];
		const struct sockaddr *address = (const void *)&at->address;
		FUZZ_CHECK(address->sa_family == AF_INET || address->sa_family == AF_INET6);
		FUZZ_CHECK(at->length == (address->sa_family == AF_INET
		                                  ? sizeof(struct sockaddr_in)
		                                  : sizeof(struct sockaddr_in6)));
		FUZZ_CHECKF(value_address_is_local(address) || config->listen_insecure, "%s",
		            at->text);
	}
}

/* SPEC, Configuration. */
static void check_config(const struct config *config)
{
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t number = number_of(config, &numbers[i]);
		FUZZ_CHECKF(number >= numbers[i].least && number <= numbers[i].most, "%s = %llu",
		            numbers[i].key, (unsigned long long)number);
	}
	FUZZ_CHECK(config->segment_size >= 64 * KIB && config->segment_size <= GIB);
	FUZZ_CHECK(config->segment_size % (64 * KIB) == 0);
	FUZZ_CHECK(config->retain_bytes == 0 || config->retain_bytes / 4 >= config->segment_size);
	FUZZ_CHECK(config->max_payload <= config->segment_size / 4);
	FUZZ_CHECK(config->listen_unix_mode <= 0777);
	FUZZ_CHECK(config->listen_unix == NULL ||
	           (strlen(config->listen_unix) > 0 && strlen(config->listen_unix) <= 107));
	FUZZ_CHECK(config->log_dir == NULL || strlen(config->log_dir) > 0);
	FUZZ_CHECK(config->log_level <= DIAG_ERROR && config->log_fsync <= LOG_SYNC_ALWAYS);
	FUZZ_CHECK(config->log_dir != NULL || config->log_fsync == LOG_SYNC_INTERVAL);
	/* What is multiplied by others must have room for it. */
	FUZZ_CHECK(config->retain_bytes <= UINT64_MAX / 16);
	FUZZ_CHECK(config->retain_messages <= UINT64_MAX / 16);
	FUZZ_CHECK(config->retain_age_ms <= UINT64_MAX / 16000);
	FUZZ_CHECK(config->input_memory <= UINT64_MAX / 16);
	FUZZ_CHECK(config->put_timeout_ms <= UINT64_MAX / 16000);
	FUZZ_CHECK(config->idle_timeout_ms <= UINT64_MAX / 16000);
	FUZZ_CHECK(config->send_buffer <= INT32_MAX && config->keepalive_ms / 1000 <= INT16_MAX);
	check_addresses(config);
}

/* What an override gives to the key, blanks around it or not; NULL: it is of another one. */
static const char *override_of(const char *override, const char *key)
{
	static const char blanks[] = " \t\r\f\v";
	const char *at = override + strspn(override, blanks);
	size_t n = strlen(key);

	if (strncmp(at, key, n) != 0)
		return NULL;
	at += n;
	at += strspn(at, blanks);
	return *at == '=' ? at + 1 : NULL;
}

/* The last override of a key is what counts. */
static void check_overrides(const struct config *config, char *const *overrides, size_t count)
{
	for (size_t i = 0; i < NUMBERS; i++) {
		const struct number *number = &numbers[i];
		const char *text = NULL;
		for (size_t j = 0; j < count; j++) {
			const char *given = override_of(overrides[j], number->key);
			text = given != NULL ? given : text;
		}
		if (text == NULL)
			continue;
		FUZZ_CHECKF(number_of(config, number) == plain_value(text, number->kind), "%s=%s",
		            number->key, text);
	}
}

/* One sentence, that fits and names a place: the file, the option, or the key. */
static void check_error(const char *error, const char *file)
{
	size_t n = strnlen(error, CONFIG_ERROR_MAX);

	FUZZ_CHECKF(n > 0 && n < CONFIG_ERROR_MAX - 1, "%s", error);
	FUZZ_CHECK(strchr(error, '\n') == NULL || strncmp(error, "-o ", 3) == 0);
	bool names = strncmp(error, "-o ", 3) == 0 || strncmp(error, file, strlen(file)) == 0 ||
	             strncmp(error, "limits.", 7) == 0 || strncmp(error, "log.", 4) == 0 ||
	             strncmp(error, "listen.", 7) == 0 || strncmp(error, "server.", 7) == 0;
	FUZZ_CHECKF(names, "%s", error);
}

/* A file of these bytes; its name. */
static int make_file(struct input *input, char name[64])
{
	const uint8_t *end = input->n == 0 ? NULL : memchr(input->at, 0xFE, input->n);
	size_t n = end == NULL ? input->n : (size_t)(end - input->at);
	int fd = memfd_create("config", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(n == 0 || write(fd, input->at, n) == (ssize_t)n);
	snprintf(name, 64, "/proc/self/fd/%d", fd);
	input->at += n + (end != NULL);
	input->n -= n + (end != NULL);
	return fd;
}

/* Reads one configuration off the input. Whether it was accepted. */
static bool load(struct input *input, struct config *config)
{
	char *overrides[OVERRIDES_MAX], name[64], error[CONFIG_ERROR_MAX] = "";
	struct config before;
	size_t count = 0;

	while (count < OVERRIDES_MAX && input->n > 0 && *input->at != 0xFF && *input->at != 0xFE)
		overrides[count++] = input_text(input, '\n');
	bool has_file = input->n > 0 && *input->at == 0xFF;
	if (input->n > 0 && (has_file || *input->at == 0xFE))
		(void)input_byte(input);
	int fd = has_file ? make_file(input, name) : -1;

	memset(config, 0xA5, sizeof *config);
	memcpy(&before, config, sizeof before);
	int result = config_load(config, has_file ? name : NULL, (const char *const *)overrides,
	                         count, error, sizeof error);
	if (result == 0) {
		check_config(config);
		check_overrides(config, overrides, count);
	} else {
		FUZZ_CHECK(memcmp(config, &before, sizeof before) == 0);
		check_error(error, has_file ? name : "?");
	}
	while (count > 0)
		free(overrides[--count]);
	if (fd >= 0)
		close(fd);
	return result == 0;
}

struct changes {
	unsigned applied, kept;
};

static void count_change(void *context, const struct config_change *change)
{
	struct changes *changes = context;

	FUZZ_CHECK(strchr(change->key, '.') != NULL);
	FUZZ_CHECK(strlen(change->before) < CONFIG_TEXT_MAX);
	FUZZ_CHECK(strlen(change->now) < CONFIG_TEXT_MAX);
	if (change->is_applied)
		changes->applied++;
	else
		changes->kept++;
}

/* All of it that can be is in force, or none. */
static void adopt(struct config *running, struct config *fresh, struct config *again)
{
	struct changes first = {0, 0}, second = {0, 0};
	struct config before = *running;
	char error[CONFIG_ERROR_MAX] = "";

	if (config_check_reload(running, fresh, error, sizeof error) != 0) {
		check_error(error, "?");
		FUZZ_CHECK(memcmp(running, &before, sizeof before) == 0);
		return;
	}
	config_adopt(running, fresh, count_change, &first);
	check_config(running);
	FUZZ_CHECK(running->segment_size == before.segment_size);
	for (size_t i = 0; i < NUMBERS; i++) {
		const struct config *expected = numbers[i].needs_restart ? &before : again;
		FUZZ_CHECKF(number_of(running, &numbers[i]) == number_of(expected, &numbers[i]),
		            "%s", numbers[i].key);
	}
	FUZZ_CHECK(running->log_dir == before.log_dir);
	/* The same once more changes nothing. */
	FUZZ_CHECK(config_check_reload(running, again, error, sizeof error) == 0);
	config_adopt(running, again, count_change, &second);
	FUZZ_CHECK(second.applied == 0 && second.kept == first.kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input input = {data, n};
	struct config running, fresh, again;

	if (!load(&input, &running))
		return 0;
	struct input same = input;
	if (load(&input, &fresh)) {
		FUZZ_CHECK(load(&same, &again));
		adopt(&running, &fresh, &again);
		config_free(&again);
		config_free(&fresh);
	}
	config_free(&running);
	return 0;
}
