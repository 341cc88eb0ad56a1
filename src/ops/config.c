/* SPDX-License-Identifier: MIT */
#include "ops/config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/keys.h"
#include "ops/rules.h"

/* Where a value came from: 0 the default, n > 0 line n of the file, n < 0 override number -n. */
typedef int origin;

struct loading {
	struct config config;
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

/*
 * The place to look at when a rule is broken: by a value that was set, or by a default that does
 * not go with the size of segments.
 */
static origin origin_of(const struct loading *loading, enum key_id key)
{
	const origin at = loading->origins[key];
	return at != 0 ? at : loading->origins[KEY_log_segment_size];
}

/* One value */

/* Sets a key from the file or the command line. */
static int set(struct loading *loading, origin at, const char *section, const char *name,
               const char *text)
{
	struct value_reason reason;
	const struct key *key = key_find(section, name);
	if (key == NULL)
		return fail(loading, at, "%.50s.%.50s: unknown key", section, name);
	origin *before = &loading->origins[key - keys];
	if (loading->is_continuation && key->kind != KIND_ADDRESSES)
		return fail(loading, at, "%s.%s: the value can't go on in another line", section,
		            name);
	if (at > 0 && *before > 0 && !loading->is_continuation)
		return fail(loading, at, "%s.%s: is there twice, first in line %d", section, name,
		            *before);
	const bool is_good = loading->is_continuation
	                             ? key_add(key, &loading->config, text, &reason)
	                             : key_set(key, &loading->config, text, &reason);
	if (!is_good)
		return fail(loading, at, "%s.%s: %s", section, name, reason.text);
	if (!loading->is_continuation)
		*before = at;
	return 0;
}

static int set_defaults(struct loading *loading)
{
	struct config *config = &loading->config;
	struct value_reason reason;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (!key_set(&keys[i], config, keys[i].default_text, &reason))
			return fail(loading, 0, "the default of %s.%s: %s", keys[i].section,
			            keys[i].name, reason.text);
	}
	for (size_t i = 0; i < config->listen_tcp_count; i++)
		config->listen_tcp[i].may_be_missing = true;
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

/* All of it */

static int load(struct loading *loading, const char *file, const char *const *overrides,
                size_t override_count)
{
	struct rules_breach breach;
	loading->overrides = overrides;
	if (set_defaults(loading) != 0)
		return -1;
	if (file != NULL && load_file(loading, file) != 0)
		return -1;
	for (size_t i = 0; i < override_count; i++) {
		if (load_override(loading, -(origin)i - 1, overrides[i]) != 0)
			return -1;
	}
	loading->config.listen_tcp_is_default = loading->origins[KEY_listen_tcp] == 0;
	if (!rules_settle(&loading->config, &breach))
		return fail(loading, origin_of(loading, breach.key), "%s", breach.text);
	return 0;
}

int config_load(struct config *out, const char *file, const char *const *overrides,
                size_t override_count, char *error, size_t error_size)
{
	struct loading loading = {.error = error, .error_size = error_size};
	if (load(&loading, file, overrides, override_count) != 0) {
		config_free(&loading.config);
		return -1;
	}
	*out = loading.config;
	return 0;
}

void config_free(struct config *config)
{
	free(config->listen_tcp);
	free(config->listen_unix);
	free(config->log_dir);
	*config = (struct config){0};
}

bool config_listens(const struct config *config)
{
	return config->listen_tcp_count > 0 || config->listen_unix != NULL;
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
		.needs_restart = keys[nth].when == WHEN_RESTART,
	};
	return true;
}
