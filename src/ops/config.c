/* SPDX-License-Identifier: MIT */
#include "ops/config.h"

#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define SECOND 1000ULL /* ms */
#define DAY (86400 * SECOND)

/* Bounds where the manual names none: far above use, far below what could overflow anywhere. */
#define BYTES_MAX (GIB << 20)
#define MESSAGES_MAX 1000000000000000ULL
#define PEERS_MAX (1ULL << 24)
#define UNIX_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)

#define DEFAULT_SYNC_INTERVAL_MS 200

#define DIR_MAX 512 /* so that messages that name files in it fit */

#define SEGMENT_UNIT (64 * KIB)
#define SEGMENT_MAX GIB

enum kind { COUNT, SIZE, TIME, MODE, FLAG, LEVEL, SYNC, PATH, ADDRESSES };

/* When a changed value is in force: on SIGHUP, or after a restart only. */
enum when { RELOAD, RESTART };

/* clang-format off */
/*
 * Every key there is:
 * section, key, field, kind, default, least, most, when, what it means (psad.conf.example
 * says it in the same words).
 */
#define KEY_TABLE(X) \
	X(server, workers, workers, COUNT, "0", 0, 1024, RESTART, \
	  "Worker threads; 0 = one for each CPU that the process may use.") \
	X(server, drain_timeout, drain_timeout_ms, TIME, "5s", 0, DAY, RELOAD, \
	  "At shutdown, how long connections may take to get what they are owed.") \
	X(server, log_level, log_level, LEVEL, "info", 0, 0, RELOAD, \
	  "The least important messages shown: debug, info, notice, warning or error.") \
\
	X(listen, tcp, listen_tcp, ADDRESSES, "127.0.0.1:9853, [::1]:9853", 0, 0, RELOAD, \
	  "Numeric addresses with ports, comma-separated; :9853 = every address; empty = none.") \
	X(listen, unix, listen_unix, PATH, "", 0, UNIX_PATH_MAX, RELOAD, \
	  "Path of a Unix socket; empty = none.") \
	X(listen, unix_mode, listen_unix_mode, MODE, "0660", 0, 0777, RELOAD, \
	  "Permissions of the Unix socket, octal.") \
	X(listen, backlog, listen_backlog, COUNT, "4096", 1, 65535, RELOAD, \
	  "Connections that may wait to be accepted.") \
	X(listen, insecure, listen_insecure, FLAG, "no", 0, 0, RELOAD, \
	  "yes = other machines may be let in, although there is no authentication.") \
\
	X(log, segment_size, segment_size, SIZE, "0", 0, SEGMENT_MAX, RESTART, \
	  "Bytes of one segment, 64K to 1G; 0 = a sixteenth of retain_bytes, within 1M and 64M.") \
	X(log, retain_bytes, retain_bytes, SIZE, "256M", 0, BYTES_MAX, RELOAD, \
	  "Memory or disk for kept messages; at least 4 segments; 0 = no limit.") \
	X(log, retain_messages, retain_messages, COUNT, "0", 0, MESSAGES_MAX, RELOAD, \
	  "So many messages are kept, an eighth more at most; 0 = no limit.") \
	X(log, retain_age, retain_age_ms, TIME, "0", 0, 36500 * DAY, RELOAD, \
	  "Messages are dropped at this age, a quarter older at most; 0 = no limit.") \
	X(log, dir, log_dir, PATH, "", 0, DIR_MAX, RESTART, \
	  "Directory of a log that survives restarts and crashes; empty = in memory.") \
	X(log, fsync, log_fsync, SYNC, "interval", 0, 0, RESTART, \
	  "What survives losing power: no = what the system has written by itself, interval, always.") \
	X(log, fsync_interval, log_fsync_interval_ms, TIME, "200ms", 1, DAY, RELOAD, \
	  "With fsync = interval, how much of the newest may be lost.") \
\
	X(limits, max_payload, max_payload, SIZE, "1M", 1, 64 * MIB, RELOAD, \
	  "Bytes of the largest message; at most 64M and a quarter of a segment.") \
	X(limits, max_connections, max_connections, COUNT, "0", 0, PEERS_MAX, RELOAD, \
	  "Connections at a time; 0 = as many as the limit of open files allows.") \
	X(limits, max_connections_per_ip, max_connections_per_ip, COUNT, "0", 0, PEERS_MAX, RELOAD, \
	  "Connections from one address; 0 = no limit.") \
	X(limits, max_patterns, max_patterns, COUNT, "1024", 1, 65536, RELOAD, \
	  "Patterns of one connection.") \
	X(limits, input_memory, input_memory, SIZE, "64M", 4 * KIB, BYTES_MAX, RELOAD, \
	  "Bytes of unfinished commands, over all connections, beyond 4K each.") \
	X(limits, put_timeout, put_timeout_ms, TIME, "30s", 1, DAY, RELOAD, \
	  "A PUT whose body is not complete by then closes its connection.") \
	X(limits, idle_timeout, idle_timeout_ms, TIME, "0", 0, 365 * DAY, RELOAD, \
	  "A connection without subscription and traffic for so long is closed; 0 = never.") \
	X(limits, send_buffer, send_buffer, SIZE, "256K", 0, GIB, RELOAD, \
	  "Unsent bytes that the kernel may hold for one subscriber; 0 = the system's choice.") \
	X(limits, keepalive, keepalive_ms, TIME, "60s", SECOND, 32767 * SECOND, RELOAD, \
	  "Silence before the first TCP keepalive probe; the dead are gone after about twice that.")

enum key_id {
#define X(section, name, field, kind, default_text, least, most, when, description) \
	KEY_##section##_##name,
	KEY_TABLE(X)
#undef X
	KEY_COUNT,
};

struct key {
	const char *section;
	const char *name;
	enum kind kind;
	const char *default_text;
	struct value_bounds bounds;
	enum when when;
	const char *description;
	size_t offset; /* of its field in struct config */
	size_t size;
};

static const struct key keys[KEY_COUNT] = {
#define X(section, name, field, kind, default_text, least, most, when, description) \
	{#section, #name, kind, default_text, {least, most}, when, description, \
	 offsetof(struct config, field), sizeof(((struct config *)0)->field)},
	KEY_TABLE(X)
#undef X
};

static const char *const level_words[] = {
#define X(name, word, priority) word,
	DIAG_TABLE(X)
#undef X
	NULL,
};
/* clang-format on */

static const char *const flag_words[] = {"no", "yes", NULL};
static const char *const sync_words[] = {
	[LOG_SYNC_NO] = "no", [LOG_SYNC_INTERVAL] = "interval", [LOG_SYNC_ALWAYS] = "always", NULL};

/* Where a value came from: 0 the default, n > 0 line n of the file, n < 0 override number -n. */
typedef int origin;

struct loading {
	struct config config; /* but for listen_tcp, which is in `addresses` until the end */
	struct value_addresses addresses;
	origin origins[KEY_COUNT];
	const char *file;
	const char *const *overrides;

	FILE *stream;
	int line;             /* the one that inih works on */
	bool is_continuation; /* that line goes on with the value of the key before */

	char *error;
	size_t error_size;
	bool has_failed; /* *error is written; the first error stands */
};

/* Errors */

/* Names the place, then says the sentence. Returns -1. */
static int __attribute__((format(printf, 3, 4)))
fail(struct loading *loading, origin at, const char *format, ...)
{
	char text[CONFIG_ERROR_MAX];
	if (loading->has_failed)
		return -1;
	loading->has_failed = true;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (at > 0)
		snprintf(loading->error, loading->error_size, "%s:%d: %s", loading->file, at, text);
	else if (at < 0)
		snprintf(loading->error, loading->error_size, "-o %.100s: %s",
		         loading->overrides[-at - 1], text);
	else
		snprintf(loading->error, loading->error_size, "%s", text);
	return -1;
}

/* The place to look at when two values do not go together. */
static origin origin_of(const struct loading *loading, enum key_id first, enum key_id second)
{
	return loading->origins[first] != 0 ? loading->origins[first] : loading->origins[second];
}

/* One value */

static bool parse_number(const struct key *key, const char *text, uint64_t *out,
                         struct value_reason *reason)
{
	switch (key->kind) {
	case COUNT:
		return value_count(text, key->bounds, out, reason);
	case SIZE:
		return value_size(text, key->bounds, out, reason);
	case TIME:
		return value_time(text, key->bounds, out, reason);
	case MODE:
		return value_mode(text, key->bounds, out, reason);
	case FLAG:
		return value_choice(text, flag_words, out, reason);
	case LEVEL:
		return value_choice(text, level_words, out, reason);
	case SYNC:
		return value_choice(text, sync_words, out, reason);
	case PATH:
	case ADDRESSES:
		break;
	}
	abort(); /* set_text() deals with these */
}

/* A number's field is as wide as its C type: bool, unsigned or an enum, uint64_t. */
static void store_number(struct config *config, const struct key *key, uint64_t number)
{
	char *field = (char *)config + key->offset;
	const bool flag = number != 0;
	const unsigned narrow = (unsigned)number;
	switch (key->size) {
	case sizeof flag:
		memcpy(field, &flag, sizeof flag);
		break;
	case sizeof narrow:
		memcpy(field, &narrow, sizeof narrow);
		break;
	default:
		memcpy(field, &number, sizeof number);
	}
}

static bool store_path(char **field, const char *text, size_t longest, struct value_reason *reason)
{
	char *path = NULL;
	const size_t length = strlen(text);
	if (length > longest) {
		snprintf(reason->text, sizeof reason->text, "has %zu bytes, the longest path %zu",
		         length, longest);
		return false;
	}
	if (length > 0 && (path = strdup(text)) == NULL) {
		snprintf(reason->text, sizeof reason->text, "out of memory");
		return false;
	}
	free(*field);
	*field = path;
	return true;
}

static bool set_text(struct loading *loading, const struct key *key, const char *text,
                     struct value_reason *reason)
{
	uint64_t number = 0;
	switch (key->kind) {
	case PATH:
		return store_path((char **)((char *)&loading->config + key->offset), text,
		                  key->bounds.most, reason);
	case ADDRESSES:
		if (!loading->is_continuation)
			value_addresses_free(&loading->addresses);
		return value_addresses(text, &loading->addresses, reason);
	default:
		if (!parse_number(key, text, &number, reason))
			return false;
		store_number(&loading->config, key, number);
		return true;
	}
}

static const struct key *key_find(const char *section, const char *name)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return &keys[i];
	}
	return NULL;
}

/* Sets a key from the file or the command line. */
static int set(struct loading *loading, origin at, const char *section, const char *name,
               const char *text)
{
	struct value_reason reason;
	const struct key *key = key_find(section, name);
	if (key == NULL)
		return fail(loading, at, "%.50s.%.50s: unknown key", section, name);
	origin *before = &loading->origins[key - keys];
	if (loading->is_continuation && key->kind != ADDRESSES)
		return fail(loading, at, "%s.%s: the value can't go on in another line", section,
		            name);
	if (at > 0 && *before > 0 && !loading->is_continuation)
		return fail(loading, at, "%s.%s: is there twice, first in line %d", section, name,
		            *before);
	if (!set_text(loading, key, text, &reason))
		return fail(loading, at, "%s.%s: %s", section, name, reason.text);
	if (!loading->is_continuation)
		*before = at;
	return 0;
}

static int set_defaults(struct loading *loading)
{
	struct value_reason reason;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (!set_text(loading, &keys[i], keys[i].default_text, &reason))
			return fail(loading, 0, "the default of %s.%s: %s", keys[i].section,
			            keys[i].name, reason.text);
	}
	for (size_t i = 0; i < loading->addresses.count; i++)
		loading->addresses.at[i].may_be_missing = true;
	return 0;
}

/* The file */

/*
 * inih silently cuts a line that is longer than its buffer and reads the rest as another line, so
 * it gets its lines from here, where each has been looked at.
 */
enum { LINES_MAX = 100000 };

static bool is_blank(int byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\f' || byte == '\v';
}

/* An error that shows how the line begins. Returns -1. */
static int fail_line(struct loading *loading, const char *line, const char *reason)
{
	return fail(loading, loading->line, "\"%.40s\": %s", line, reason);
}

/* inih overlooks what stands behind a section's name. */
static int check_section(struct loading *loading, const char *text)
{
	const char *behind = strchr(text, ']');
	if (behind == NULL)
		return fail_line(loading, text, "a section has no closing bracket");
	for (behind++; is_blank(*behind); behind++)
		;
	if (*behind != '\0' && *behind != ';' && *behind != '#')
		return fail_line(loading, text, "something stands behind a section's name");
	return 0;
}

/*
 * Reads a line of any length into the `size` bytes at `out`, nothing of a comment or blanks alone.
 * Returns its length, which is below `size` where it fits; -1 at the end of the file.
 */
static long read_raw(FILE *stream, char *out, size_t size, bool *has_nul)
{
	size_t length = 0;
	int first = '\0'; /* that is not blank */
	int byte;
	*has_nul = false;
	while ((byte = getc(stream)) != EOF && byte != '\n') {
		*has_nul |= byte == '\0';
		if (first == '\0' && !is_blank(byte))
			first = byte;
		if (length < size)
			out[length++] = (char)byte;
	}
	if (byte == EOF && (length == 0 || ferror(stream)))
		return -1;
	if (first == '\0' || first == '#' || first == ';')
		length = 0;
	out[length < size ? length : size - 1] = '\0';
	return (long)length;
}

/*
 * Decides what a line is, so that inih's own guesses don't count. An indented line with a '=' is a
 * key like any other; without, it goes on with the value of the key before (inih sees that there
 * is one). A key needs a '=': a ':' would be found in the middle of an address.
 */
static int settle_line(struct loading *loading, char *line)
{
	char *begin = line;
	while (is_blank(*begin))
		begin++;
	const bool has_value = begin[strcspn(begin, "=;")] == '=';
	loading->is_continuation = begin > line && *begin != '\0' && !has_value;
	if (loading->is_continuation) {
		begin[strcspn(begin, ";")] = '\0'; /* inih keeps such a comment here */
		return 0;
	}
	memmove(line, begin, strlen(begin) + 1);
	if (line[0] == '[')
		return check_section(loading, line);
	if (line[0] != '\0' && !has_value)
		return fail_line(loading, line, "neither a [section] nor KEY = VALUE");
	return 0;
}

/* An ini_reader: the next line, or NULL at the end and after an error. */
static char *next_line(char *line, int size, void *context)
{
	struct loading *loading = context;
	bool has_nul = false;
	if (loading->has_failed)
		return NULL;
	const long length = read_raw(loading->stream, line, (size_t)size, &has_nul);
	if (length < 0)
		return NULL;
	loading->line++;
	if (loading->line > LINES_MAX) {
		fail(loading, loading->line, "there are more than %d lines", (int)LINES_MAX);
		return NULL;
	}
	if (has_nul) {
		fail_line(loading, line, "the line holds a NUL byte");
		return NULL;
	}
	if (length >= size) {
		fail(loading, loading->line, "\"%.40s\": the line has more than %d bytes", line,
		     size - 1);
		return NULL;
	}
	return settle_line(loading, line) == 0 ? line : NULL;
}

/* An ini_handler: non-zero is good. */
static int take_pair(void *context, const char *section, const char *name, const char *text)
{
	struct loading *loading = context;
	if (section[0] == '\0')
		return fail(loading, loading->line, "%.50s: stands before any [section]", name) ==
		       0;
	return set(loading, loading->line, section, name, text) == 0;
}

static int load_file(struct loading *loading, const char *file)
{
	loading->file = file;
	loading->stream = fopen(file, "re");
	if (loading->stream == NULL)
		return fail(loading, 0, "%s: can't be opened: %s", file, strerror(errno));
	const int bad_line = ini_parse_stream(next_line, loading, take_pair, loading);
	if (ferror(loading->stream))
		fail(loading, 0, "%s: can't be read: %s", file, strerror(errno));
	else if (bad_line > 0)
		fail(loading, bad_line, "neither a [section] nor KEY = VALUE");
	else if (bad_line < 0)
		fail(loading, 0, "%s: out of memory", file);
	fclose(loading->stream);
	loading->is_continuation = false;
	return loading->has_failed ? -1 : 0;
}

/* The command line */

/* Cuts off the blanks around a text; returns where it begins. */
static char *trim(char *text)
{
	while (is_blank(*text))
		text++;
	size_t length = strlen(text);
	while (length > 0 && is_blank(text[length - 1]))
		text[--length] = '\0';
	return text;
}

static int load_override(struct loading *loading, origin at, const char *override)
{
	int result = -1;
	char *copy = strdup(override);
	if (copy == NULL)
		return fail(loading, at, "out of memory");
	char *value = strchr(copy, '=');
	if (value != NULL)
		*value++ = '\0';
	char *section = trim(copy);
	char *name = strchr(section, '.');
	if (name != NULL)
		*name++ = '\0';
	if (value == NULL || name == NULL)
		fail(loading, at, "is not SECTION.KEY=VALUE");
	else
		result = set(loading, at, section, name, trim(value));
	free(copy);
	return result;
}

/* How the values go together */

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

static int settle_segment_size(struct loading *loading)
{
	struct config *config = &loading->config;
	config->segment_size_is_default = config->segment_size == 0;
	if (config->segment_size_is_default) {
		config->segment_size = default_segment_size(config);
		return 0;
	}
	if (config->segment_size < SEGMENT_UNIT)
		return fail(loading, loading->origins[KEY_log_segment_size],
		            "log.segment_size: %s is less than 64K",
		            value_size_text(config->segment_size).text);
	config->segment_size = round_to_segment_unit(config->segment_size);
	return 0;
}

/* Checks what depends on the size of segments; `why` explains that size. */
static int check_sizes(struct loading *loading, uint64_t segment_size, const char *why)
{
	const struct config *config = &loading->config;
	if (config->max_payload > segment_size / 4)
		return fail(loading,
		            origin_of(loading, KEY_limits_max_payload, KEY_log_segment_size),
		            "limits.max_payload: %s is more than a quarter of log.segment_size "
		            "(%s%s)",
		            value_size_text(config->max_payload).text,
		            value_size_text(segment_size).text, why);
	if (config->retain_bytes != 0 && config->retain_bytes < 4 * segment_size)
		return fail(loading, origin_of(loading, KEY_log_retain_bytes, KEY_log_segment_size),
		            "log.retain_bytes: %s is less than 4 x log.segment_size (%s%s)",
		            value_size_text(config->retain_bytes).text,
		            value_size_text(segment_size).text, why);
	return 0;
}

static int check_listeners(struct loading *loading)
{
	const struct value_addresses *list = &loading->addresses;
	for (size_t i = 0; i < list->count && !loading->config.listen_insecure; i++) {
		if (!value_address_is_local((const struct sockaddr *)&list->at[i].address))
			return fail(loading, loading->origins[KEY_listen_tcp],
			            "listen.tcp: %s lets other machines in, and there is no "
			            "authentication: it needs listen.insecure = yes",
			            list->at[i].text);
	}
	return 0;
}

/* Without a directory there is nothing to sync: whoever asks for it believes that there is. (The
 * defaults may be written down: psad.conf.example does.) */
static int check_sync(struct loading *loading)
{
	const struct config *config = &loading->config;

	if (config->log_dir != NULL)
		return 0;
	if (config->log_fsync != LOG_SYNC_INTERVAL)
		return fail(loading, loading->origins[KEY_log_fsync],
		            "log.fsync: %s means nothing without log.dir: the log is in memory",
		            sync_words[config->log_fsync]);
	if (config->log_fsync_interval_ms != DEFAULT_SYNC_INTERVAL_MS)
		return fail(
			loading, loading->origins[KEY_log_fsync_interval],
			"log.fsync_interval: means nothing without log.dir: the log is in memory");
	return 0;
}

/* Everything but the move into the caller's struct. */
static int load(struct loading *loading, const char *file, const char *const *overrides,
                size_t override_count)
{
	loading->overrides = overrides;
	if (set_defaults(loading) != 0)
		return -1;
	if (file != NULL && load_file(loading, file) != 0)
		return -1;
	for (size_t i = 0; i < override_count; i++) {
		if (load_override(loading, -(origin)i - 1, overrides[i]) != 0)
			return -1;
	}
	if (settle_segment_size(loading) != 0 || check_listeners(loading) != 0 ||
	    check_sync(loading) != 0)
		return -1;
	return check_sizes(loading, loading->config.segment_size,
	                   loading->config.segment_size_is_default ? ", by default" : "");
}

/* Moves what was loaded into *out. */
static void finish(struct loading *loading, struct config *out)
{
	*out = loading->config;
	out->listen_tcp = loading->addresses.at;
	out->listen_tcp_count = loading->addresses.count;
	out->listen_tcp_is_default = loading->origins[KEY_listen_tcp] == 0;
}

static void drop(struct loading *loading)
{
	value_addresses_free(&loading->addresses);
	config_free(&loading->config);
}

int config_load(struct config *out, const char *file, const char *const *overrides,
                size_t override_count, char *error, size_t error_size)
{
	struct loading loading = {.error = error, .error_size = error_size};
	if (load(&loading, file, overrides, override_count) != 0) {
		drop(&loading);
		return -1;
	}
	finish(&loading, out);
	return 0;
}

void config_free(struct config *config)
{
	free(config->listen_tcp);
	free(config->listen_unix);
	free(config->log_dir);
	*config = (struct config){0};
}

/* Reloading */

static bool is_same_list(const struct config *one, const struct config *other)
{
	if (one->listen_tcp_count != other->listen_tcp_count)
		return false;
	for (size_t i = 0; i < one->listen_tcp_count; i++) {
		if (strcmp(one->listen_tcp[i].text, other->listen_tcp[i].text) != 0)
			return false;
	}
	return true;
}

static bool is_same_path(const char *one, const char *other)
{
	return strcmp(one != NULL ? one : "", other != NULL ? other : "") == 0;
}

static bool is_same(const struct key *key, const struct config *one, const struct config *other)
{
	const char *one_field = (const char *)one + key->offset;
	const char *other_field = (const char *)other + key->offset;
	if (key->kind == ADDRESSES)
		return is_same_list(one, other);
	if (key->kind == PATH)
		return is_same_path(*(char *const *)(const void *)one_field,
		                    *(char *const *)(const void *)other_field);
	/* A size that follows from others doesn't differ because they do. */
	if (key == &keys[KEY_log_segment_size] && one->segment_size_is_default &&
	    other->segment_size_is_default)
		return true;
	return memcmp(one_field, other_field, key->size) == 0;
}

bool config_listens(const struct config *config)
{
	return config->listen_tcp_count > 0 || config->listen_unix != NULL;
}

/* A number's field, see store_number(). */
static uint64_t load_number(const struct config *config, const struct key *key)
{
	const char *field = (const char *)config + key->offset;
	bool flag;
	unsigned narrow;
	uint64_t number;

	switch (key->size) {
	case sizeof flag:
		memcpy(&flag, field, sizeof flag);
		return flag;
	case sizeof narrow:
		memcpy(&narrow, field, sizeof narrow);
		return narrow;
	default:
		memcpy(&number, field, sizeof number);
		return number;
	}
}

static void show_list(const struct config *config, char out[CONFIG_TEXT_MAX])
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < config->listen_tcp_count && used < CONFIG_TEXT_MAX; i++)
		used += (size_t)snprintf(out + used, CONFIG_TEXT_MAX - used, "%s%s",
		                         i > 0 ? ", " : "", config->listen_tcp[i].text);
}

/* The value as it would be written. */
static void show(const struct key *key, const struct config *config, char out[CONFIG_TEXT_MAX])
{
	const char *field = (const char *)config + key->offset;
	const char *text = NULL;
	struct value_amount amount;

	switch (key->kind) {
	case COUNT:
		snprintf(out, CONFIG_TEXT_MAX, "%" PRIu64, load_number(config, key));
		return;
	case MODE:
		snprintf(out, CONFIG_TEXT_MAX, "%04" PRIo64, load_number(config, key));
		return;
	case ADDRESSES:
		show_list(config, out);
		return;
	case SIZE:
		amount = value_size_text(load_number(config, key));
		text = amount.text;
		break;
	case TIME:
		amount = value_time_text(load_number(config, key));
		text = amount.text;
		break;
	case FLAG:
		text = flag_words[load_number(config, key)];
		break;
	case LEVEL:
		text = level_words[load_number(config, key)];
		break;
	case SYNC:
		text = sync_words[load_number(config, key)];
		break;
	case PATH:
		text = *(char *const *)(const void *)field;
		break;
	}
	snprintf(out, CONFIG_TEXT_MAX, "%s", text != NULL ? text : "");
}

int config_check_reload(const struct config *running, const struct config *fresh, char *error,
                        size_t error_size)
{
	struct loading loading = {.config = *fresh, .error = error, .error_size = error_size};
	return check_sizes(&loading, running->segment_size, ", until a restart");
}

static void swap(void *one, void *other, size_t size)
{
	char kept[sizeof(uint64_t)];
	memcpy(kept, one, size);
	memcpy(one, other, size);
	memcpy(other, kept, size);
}

/* What a field owns goes with it. */
static void take_over(const struct key *key, struct config *running, struct config *fresh)
{
	swap((char *)running + key->offset, (char *)fresh + key->offset, key->size);
	if (key->kind == ADDRESSES)
		swap(&running->listen_tcp_count, &fresh->listen_tcp_count,
		     sizeof running->listen_tcp_count);
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
		show(key, running, before);
		show(key, fresh, now);
		if (key->when == RELOAD)
			take_over(key, running, fresh);
		const struct config_change change = {.key = name,
		                                     .before = before,
		                                     .now = now,
		                                     .is_applied = key->when == RELOAD};
		changed(context, &change);
	}
}

bool config_key(size_t nth, struct config_key_info *out)
{
	if (nth >= KEY_COUNT)
		return false;
	*out = (struct config_key_info){
		.section = keys[nth].section,
		.name = keys[nth].name,
		.default_text = keys[nth].default_text,
		.description = keys[nth].description,
		.needs_restart = keys[nth].when == RESTART,
	};
	return true;
}
