/* SPDX-License-Identifier: MIT */
/*
 * Configurations, good and bad. Files are written to a memory file and loaded under its name, so
 * that errors begin with FILE_NAME. Run from the top of the tree: the examples there are loaded.
 */
#include "ops/config.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_FD = 100 };
#define FILE_NAME "/proc/self/fd/100"
#define FILE_TEXT(text) text, sizeof(text) - 1

static struct config config;
static char error[CONFIG_ERROR_MAX];

static int forget(void **state)
{
	(void)state;
	config_free(&config);
	return 0;
}

static void write_file(const char *text, size_t n)
{
	const int fd = memfd_create("psad.conf", MFD_CLOEXEC);
	assert_int_equal(write(fd, text, n), n);
	assert_int_equal(dup2(fd, FILE_FD), FILE_FD);
	close(fd);
}

/* Loads a file of these n bytes; what was loaded before is released. */
static int load_bytes(const char *text, size_t n)
{
	config_free(&config);
	error[0] = '\0';
	write_file(text, n);
	const int result = config_load(&config, FILE_NAME, NULL, 0, error, sizeof error);
	close(FILE_FD);
	return result;
}

static int load_text(const char *text)
{
	return load_bytes(text, strlen(text));
}

/* Loads one override over a file. */
static int load_override(const char *text, const char *override)
{
	config_free(&config);
	error[0] = '\0';
	write_file(text, strlen(text));
	const int result = config_load(&config, FILE_NAME, &override, 1, error, sizeof error);
	close(FILE_FD);
	return result;
}

static void check_error(int result, const char *expected)
{
	assert_string_equal(error, expected);
	assert_int_equal(result, -1);
}

static void asking_for_syncs_of_a_log_in_memory_is_an_error(void **state)
{
	(void)state;
	check_error(
		load_override("[log]\n", "log.fsync=always"),
		"-o log.fsync=always: log.fsync: always means nothing without log.dir: the log is "
		"in memory");
	check_error(load_text("[log]\n\nfsync_interval = 1s\n"), FILE_NAME
	            ":3: log.fsync_interval: means nothing without log.dir: the log is in "
	            "memory");
	assert_int_equal(load_text("[log]\nfsync = interval\nfsync_interval = 200ms\n"), 0);
	assert_null(config.log_dir);
	assert_int_equal(load_text("[log]\nfsync = always\ndir = /nowhere\n"), 0);
	assert_string_equal(config.log_dir, "/nowhere");
	assert_int_equal(config.log_fsync, LOG_SYNC_ALWAYS);
}

static void nothing_given_is_the_default(void **state)
{
	(void)state;
	assert_int_equal(config_load(&config, NULL, NULL, 0, error, sizeof error), 0);
	assert_int_equal(config.workers, 0);
	assert_int_equal(config.drain_timeout_ms, 5000);
	assert_int_equal(config.log_level, DIAG_INFO);
	assert_int_equal(config.listen_tcp_count, 2);
	assert_string_equal(config.listen_tcp[0].text, "127.0.0.1:9853");
	assert_string_equal(config.listen_tcp[1].text, "[::1]:9853");
	assert_true(config.listen_tcp[0].may_be_missing);
	assert_true(config.listen_tcp[1].may_be_missing);
	assert_true(config.listen_tcp_is_default);
	assert_null(config.listen_unix);
	assert_int_equal(config.listen_unix_mode, 0660);
	assert_int_equal(config.listen_backlog, 4096);
	assert_false(config.listen_insecure);
	assert_int_equal(config.segment_size, 16 << 20);
	assert_true(config.segment_size_is_default);
	assert_int_equal(config.retain_bytes, 256 << 20);
	assert_int_equal(config.retain_messages, 0);
	assert_int_equal(config.retain_age_ms, 0);
	assert_int_equal(config.max_payload, 1 << 20);
	assert_int_equal(config.max_connections, 0);
	assert_int_equal(config.max_connections_per_ip, 0);
	assert_int_equal(config.max_patterns, 1024);
	assert_int_equal(config.input_memory, 64 << 20);
	assert_int_equal(config.put_timeout_ms, 30000);
	assert_int_equal(config.idle_timeout_ms, 0);
	assert_int_equal(config.send_buffer, 256 << 10);
	assert_int_equal(config.keepalive_ms, 60000);
}

static void every_key_can_be_set(void **state)
{
	(void)state;
	assert_int_equal(load_text("[server]\n"
	                           "workers = 3\n"
	                           "drain_timeout = 250ms\n"
	                           "log_level = debug\n"
	                           "[listen]\n"
	                           "tcp = :9853\n"
	                           "unix = /run/a b.sock\n"
	                           "unix_mode = 0600\n"
	                           "backlog = 16\n"
	                           "insecure = yes\n"
	                           "[log]\n"
	                           "segment_size = 128K\n"
	                           "retain_bytes = 1M\n"
	                           "retain_messages = 1000\n"
	                           "retain_age = 7d\n"
	                           "[limits]\n"
	                           "max_payload = 32K\n"
	                           "max_connections = 10\n"
	                           "max_connections_per_ip = 11\n"
	                           "max_patterns = 12\n"
	                           "input_memory = 13K\n"
	                           "put_timeout = 14s\n"
	                           "idle_timeout = 15m\n"
	                           "send_buffer = 16K\n"
	                           "keepalive = 17s\n"),
	                 0);
	assert_int_equal(config.workers, 3);
	assert_int_equal(config.drain_timeout_ms, 250);
	assert_int_equal(config.log_level, DIAG_DEBUG);
	assert_int_equal(config.listen_tcp_count, 2);
	assert_string_equal(config.listen_tcp[0].text, "0.0.0.0:9853");
	assert_string_equal(config.listen_tcp[1].text, "[::]:9853");
	assert_false(config.listen_tcp_is_default);
	assert_string_equal(config.listen_unix, "/run/a b.sock");
	assert_int_equal(config.listen_unix_mode, 0600);
	assert_int_equal(config.listen_backlog, 16);
	assert_true(config.listen_insecure);
	assert_int_equal(config.segment_size, 128 << 10);
	assert_false(config.segment_size_is_default);
	assert_int_equal(config.retain_bytes, 1 << 20);
	assert_int_equal(config.retain_messages, 1000);
	assert_int_equal(config.retain_age_ms, 7 * 86400000);
	assert_int_equal(config.max_payload, 32 << 10);
	assert_int_equal(config.max_connections, 10);
	assert_int_equal(config.max_connections_per_ip, 11);
	assert_int_equal(config.max_patterns, 12);
	assert_int_equal(config.input_memory, 13 << 10);
	assert_int_equal(config.put_timeout_ms, 14000);
	assert_int_equal(config.idle_timeout_ms, 900000);
	assert_int_equal(config.send_buffer, 16 << 10);
	assert_int_equal(config.keepalive_ms, 17000);
}

static void a_file_may_be_laid_out_in_many_ways(void **state)
{
	(void)state;
	assert_int_equal(load_text(""), 0);
	assert_int_equal(load_text("\n\n \t \n"), 0);
	assert_int_equal(load_text("# nothing = here"), 0);
	assert_int_equal(load_text("[server]\r\nworkers = 5\r\n"), 0);
	assert_int_equal(config.workers, 5);
	assert_int_equal(load_text("[server] ; the first\nworkers=6 ; not more\n; and = no\n"), 0);
	assert_int_equal(config.workers, 6);
	assert_int_equal(load_text("  [server]\n\tworkers = 7\n  log_level = error\n"), 0);
	assert_int_equal(config.workers, 7);
	assert_int_equal(config.log_level, DIAG_ERROR);
	assert_int_equal(load_text("[server]\nworkers = 8\n[limits]\n[server]\nlog_level=debug"),
	                 0);
	assert_int_equal(config.workers, 8);
	assert_int_equal(config.log_level, DIAG_DEBUG);
}

static void a_list_of_addresses_may_go_on_in_indented_lines(void **state)
{
	(void)state;
	assert_int_equal(load_text("[listen]\n"
	                           "tcp = 127.0.0.1:1,\n"
	                           "   127.0.0.2:2, [::1]:3\n"
	                           "# a comment between\n"
	                           "\n"
	                           "\t[::1]:4 ; = inline\n"
	                           "  backlog = 5\n"),
	                 0);
	assert_int_equal(config.listen_tcp_count, 4);
	assert_string_equal(config.listen_tcp[0].text, "127.0.0.1:1");
	assert_string_equal(config.listen_tcp[3].text, "[::1]:4");
	assert_int_equal(config.listen_backlog, 5);
	assert_false(config.listen_tcp_is_default);
	assert_int_equal(load_text("[listen]\ntcp =\n  127.0.0.1:1\n  127.0.0.1:2\n"), 0);
	assert_int_equal(config.listen_tcp_count, 2);
	check_error(load_text("[listen]\ntcp = 127.0.0.1:1\n  127.0.0.1:1\n"),
	            FILE_NAME ":3: listen.tcp: 127.0.0.1:1 is there twice");
}

static void lines_that_are_no_configuration_are_errors(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} rows[] = {
		{"[server]\nworkers\n", ":2: \"workers\": neither a [section] nor KEY = VALUE"},
		{"[server]\nworkers 3\n", ":2: \"workers 3\": neither a [section] nor KEY = VALUE"},
		{"[listen]\ntcp 127.0.0.1:9853\n",
	         ":2: \"tcp 127.0.0.1:9853\": neither a [section] nor KEY = VALUE"},
		{"[listen]\ntcp: 127.0.0.1:9853\n",
	         ":2: \"tcp: 127.0.0.1:9853\": neither a [section] nor KEY = VALUE"},
		{"\n\n[server\n", ":3: \"[server\": a section has no closing bracket"},
		{"[server] workers = 3\n",
	         ":1: \"[server] workers = 3\": something stands behind a section's name"},
		{"[sever]\n\nworkers = 1\n", ":3: sever.workers: unknown key"},
		{"[]\nworkers = 1\n", ":2: workers: stands before any [section]"},
		{"workers = 3\n", ":1: workers: stands before any [section]"},
		{"[server]\n= 3\n", ":2: server.: unknown key"},
		{"[limits]\nmax_paylod = 1\n", ":2: limits.max_paylod: unknown key"},
		{"[limits]\nworkers = 1\n", ":2: limits.workers: unknown key"},
		{"[log]\ndirectory = /var/lib/psad\n", ":2: log.directory: unknown key"},
		{"[server]\nWorkers = 1\n", ":2: server.Workers: unknown key"},
		{"[server]\nworkers = 1\n  2\n",
	         ":3: server.workers: the value can't go on in another line"},
		{"[server]\n  2\n", ":2: neither a [section] nor KEY = VALUE"},
		{"[server]\nworkers = 1\nlog_level = info\nworkers = 2\n",
	         ":4: server.workers: is there twice, first in line 2"},
		{"[listen]\ntcp = 127.0.0.1:1\ntcp = 127.0.0.1:2\n",
	         ":3: listen.tcp: is there twice, first in line 2"},
		{"[server]\nworkers = 1\n[server]\nworkers = 1\n",
	         ":4: server.workers: is there twice, first in line 2"},
		{"[server]\nworkers = many # CPUs\nlog_level = loud\n",
	         ":2: server.workers: \"many # CPUs\" is not a number"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char expected[256];
		snprintf(expected, sizeof expected, FILE_NAME "%s", rows[i].error);
		check_error(load_text(rows[i].text), expected);
	}
}

static void long_lines_are_errors_and_long_comments_are_not(void **state)
{
	static char text[8192];
	(void)state;
	for (size_t n = 150; n < 4000; n++) {
		/* A comment that would be a key again where inih's buffer ends. */
		memset(text, ' ', sizeof text);
		memcpy(text, "# ", 2);
		strcpy(text + n, "workers = 9\n[server]\nlog_level = error\n");
		assert_int_equal(load_text(text), 0);
		assert_int_equal(config.workers, 0);
		assert_int_equal(config.log_level, DIAG_ERROR);
	}
	for (size_t n = 150; n < 1000; n++) {
		memcpy(text, "[server]\nworkers = ", 19);
		memset(text + 19, '0', n);
		strcpy(text + 19 + n, "7");
		const size_t length = strlen(text) - strlen("[server]\n");
		if (length <= 199) {
			assert_int_equal(load_text(text), 0);
			assert_int_equal(config.workers, 7);
		} else {
			check_error(
				load_text(text), FILE_NAME
				":2: \"workers = 000000000000000000000000000000\": the line has more than 199 bytes");
		}
	}
	memset(text, ' ', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(load_text(text), 0);
}

static void bytes_that_are_no_text_are_errors(void **state)
{
	(void)state;
	check_error(load_bytes(FILE_TEXT("[server]\nwor\0kers = 1\n")),
	            FILE_NAME ":2: \"wor\": the line holds a NUL byte");
	check_error(load_bytes(FILE_TEXT("# \0")), FILE_NAME ":1: \"\": the line holds a NUL byte");
	check_error(load_bytes(FILE_TEXT("\0\0\0\0")),
	            FILE_NAME ":1: \"\": the line holds a NUL byte");
	check_error(load_text("\xff\xfe\x01\n"),
	            FILE_NAME ":1: \"\xff\xfe\x01\": neither a [section] nor KEY = VALUE");
}

static void a_file_has_an_end(void **state)
{
	const size_t n = 100001;
	char *text = test_malloc(n);
	(void)state;
	memset(text, '\n', n);
	assert_int_equal(load_bytes(text, n - 1), 0);
	check_error(load_bytes(text, n), FILE_NAME ":100001: there are more than 100000 lines");
	test_free(text);
}

static void a_file_that_cannot_be_read_is_an_error(void **state)
{
	(void)state;
	check_error(config_load(&config, "/nonexistent/psad.conf", NULL, 0, error, sizeof error),
	            "/nonexistent/psad.conf: can't be opened: No such file or directory");
	check_error(config_load(&config, "/", NULL, 0, error, sizeof error),
	            "/: can't be read: Is a directory");
}

static void bad_values_are_errors_that_name_line_and_key(void **state)
{
	static const struct {
		const char *section;
		const char *pair;
		const char *error;
	} rows[] = {
		{"server", "workers = 1025", "workers: 1025 is more than 1024"},
		{"server", "drain_timeout = 10",
	         "drain_timeout: \"10\" has no unit (ms, s, m, h or d)"},
		{"server", "drain_timeout = 25h", "drain_timeout: 25h is more than 1d"},
		{"server", "log_level = loud",
	         "log_level: \"loud\" is not debug, info, notice, warning or error"},
		{"server",
	         "log_level =", "log_level: \"\" is not debug, info, notice, warning or error"},
		{"listen", "tcp = localhost:9853",
	         "tcp: \"localhost:9853\" is not an address such as 127.0.0.1:9853, [::1]:9853 or "
	         ":9853 (names are not looked up)"},
		{"listen", "unix_mode = 660x",
	         "unix_mode: \"660x\" is not a mode (octal digits such as 0660)"},
		{"listen", "unix_mode = 1777", "unix_mode: 1777 is not within 0000 and 0777"},
		{"listen", "backlog = 0", "backlog: 0 is less than 1"},
		{"listen", "backlog = 65536", "backlog: 65536 is more than 65535"},
		{"listen", "insecure = true", "insecure: \"true\" is not no or yes"},
		{"log", "segment_size = 2G", "segment_size: 2G is more than 1G"},
		{"log", "segment_size = 65535", "segment_size: 65535 is less than 64K"},
		{"log", "retain_bytes = 1048577G", "retain_bytes: 1048577G is more than 1048576G"},
		{"log", "retain_messages = 1000000000000001",
	         "retain_messages: 1000000000000001 is more than 1000000000000000"},
		{"log", "retain_age = 36501d", "retain_age: 36501d is more than 36500d"},
		{"limits", "max_payload = 0", "max_payload: 0 is less than 1"},
		{"limits", "max_payload = 65M", "max_payload: 65M is more than 64M"},
		{"limits", "max_connections = -1", "max_connections: \"-1\" is not a number"},
		{"limits", "max_connections = 16777217",
	         "max_connections: 16777217 is more than 16777216"},
		{"limits", "max_connections_per_ip = 1K",
	         "max_connections_per_ip: \"1K\" is not a number"},
		{"limits", "max_patterns = 0", "max_patterns: 0 is less than 1"},
		{"limits", "max_patterns = 65537", "max_patterns: 65537 is more than 65536"},
		{"limits", "input_memory = 1K", "input_memory: 1K is less than 4K"},
		{"limits", "put_timeout = 0", "put_timeout: 0 is less than 1ms"},
		{"limits", "idle_timeout = 366d", "idle_timeout: 366d is more than 365d"},
		{"limits", "send_buffer = 2G", "send_buffer: 2G is more than 1G"},
		{"limits", "keepalive = 0", "keepalive: 0 is less than 1s"},
		{"limits", "keepalive = 10h", "keepalive: 10h is more than 32767s"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[128], expected[512];
		snprintf(text, sizeof text, "# first\n[%s]\n%s\n", rows[i].section, rows[i].pair);
		snprintf(expected, sizeof expected, FILE_NAME ":3: %s.%s", rows[i].section,
		         rows[i].error);
		check_error(load_text(text), expected);
		snprintf(text, sizeof text, "%s.%s", rows[i].section, rows[i].pair);
		snprintf(expected, sizeof expected, "-o %s: %s.%s", text, rows[i].section,
		         rows[i].error);
		check_error(load_override("", text), expected);
	}
}

static void a_socket_path_must_fit(void **state)
{
	char text[160] = "listen.unix=/";
	(void)state;
	memset(text + strlen(text), 'x', 106);
	assert_int_equal(load_override("", text), 0);
	assert_int_equal(strlen(config.listen_unix), 107);
	memset(text + strlen(text), 'x', 1);
	assert_int_equal(load_override("", text), -1);
	assert_non_null(strstr(error, ": listen.unix: has 108 bytes, the longest path 107"));
	assert_int_equal(load_override("[listen]\nunix = /a\n", "listen.unix="), 0);
	assert_null(config.listen_unix);
}

static void overrides_win_over_the_file_and_the_last_one_over_all(void **state)
{
	static const char *const overrides[] = {"server.workers=2", " server.workers = 3 ",
	                                        "listen.tcp=127.0.0.1:1", "listen.tcp=[::1]:0"};
	(void)state;
	write_file(FILE_TEXT("[server]\nworkers = 1\nlog_level = error\n"
	                     "[listen]\ntcp = 127.0.0.1:7,\n  127.0.0.1:8\n"));
	assert_int_equal(config_load(&config, FILE_NAME, overrides, 4, error, sizeof error), 0);
	close(FILE_FD);
	assert_int_equal(config.workers, 3);
	assert_int_equal(config.log_level, DIAG_ERROR);
	assert_int_equal(config.listen_tcp_count, 1);
	assert_string_equal(config.listen_tcp[0].text, "[::1]:0");
	assert_false(config.listen_tcp[0].may_be_missing);
	assert_false(config.listen_tcp_is_default);
}

static void bad_overrides_are_errors(void **state)
{
	(void)state;
	check_error(load_override("", "server.workers"),
	            "-o server.workers: is not SECTION.KEY=VALUE");
	check_error(load_override("", "workers=3"), "-o workers=3: is not SECTION.KEY=VALUE");
	check_error(load_override("", ""), "-o : is not SECTION.KEY=VALUE");
	check_error(load_override("", "limits.max_paylod=3"),
	            "-o limits.max_paylod=3: limits.max_paylod: unknown key");
	check_error(load_override("", "server.workers.x=3"),
	            "-o server.workers.x=3: server.workers.x: unknown key");
	/* Indentation means nothing here. */
	check_error(load_override("[listen]\ntcp = 127.0.0.1:1\n  127.0.0.1:2\n", "log.x=1"),
	            "-o log.x=1: log.x: unknown key");
}

static void values_that_do_not_go_together_are_errors(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} rows[] = {
		{"[limits]\nmax_payload = 5M\n[log]\nsegment_size = 16M\n", FILE_NAME
	         ":2: limits.max_payload: 5M is more than a quarter of log.segment_size (16M)"},
		{"[log]\nsegment_size = 1M\n", FILE_NAME
	         ":2: limits.max_payload: 1M is more than a quarter of log.segment_size (1M)"},
		{"[log]\nsegment_size = 16M\n\nretain_bytes = 63M\n",
	         FILE_NAME ":4: log.retain_bytes: 63M is less than 4 x log.segment_size (16M)"},
		{"[log]\nsegment_size = 128M\n",
	         FILE_NAME ":2: log.retain_bytes: 256M is less than 4 x log.segment_size (128M)"},
		{"[log]\nretain_bytes = 8M\n", FILE_NAME
	         ":2: log.retain_bytes: 8M is less than 4 x log.segment_size (4M, by default)"},
		{"[log]\nretain_bytes = 1\n[limits]\nmax_payload = 1\n", FILE_NAME
	         ":2: log.retain_bytes: 1 is less than 4 x log.segment_size (1M, by default)"},
		{"[listen]\ntcp = 127.0.0.1:1, 192.168.0.1:1\n",
	         FILE_NAME ":2: listen.tcp: 192.168.0.1:1 lets other machines in, and there is no "
	                   "authentication: it needs listen.insecure = yes"},
		{"[listen]\ninsecure = no\ntcp = :9853\n",
	         FILE_NAME ":3: listen.tcp: 0.0.0.0:9853 lets other machines in, and there is no "
	                   "authentication: it needs listen.insecure = yes"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		check_error(load_text(rows[i].text), rows[i].error);
	check_error(load_override("[log]\nsegment_size = 128M\n", "log.retain_bytes=128M"),
	            "-o log.retain_bytes=128M: log.retain_bytes: 128M is less than 4 x "
	            "log.segment_size (128M)");
	assert_int_equal(load_text("[listen]\ntcp =\nunix = /a\n"), 0);
	assert_int_equal(config.listen_tcp_count, 0);
}

static void a_segment_has_a_fitting_size_by_default(void **state)
{
	static const struct {
		const char *retain_bytes;
		const char *max_payload;
		uint64_t segment_size;
	} rows[] = {
		{"256M", "1M", 16ULL << 20},     {"16M", "256K", 1ULL << 20},
		{"4M", "1", 1ULL << 20},         {"17M", "1K", 1088ULL << 10},
		{"16500K", "1K", 1088ULL << 10}, {"8G", "1M", 64ULL << 20},
		{"0", "1M", 64ULL << 20},        {"1G", "64M", 256ULL << 20},
		{"0", "64M", 256ULL << 20},      {"64M", "1M", 4ULL << 20},
		{"1048576G", "1M", 64ULL << 20},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[128];
		snprintf(text, sizeof text,
		         "[log]\nretain_bytes = %s\n[limits]\nmax_payload = %s\n",
		         rows[i].retain_bytes, rows[i].max_payload);
		assert_int_equal(load_text(text), 0);
		assert_int_equal(config.segment_size, rows[i].segment_size);
		assert_true(config.segment_size_is_default);
	}
	assert_int_equal(load_text("[log]\nsegment_size = 4194305\n"), 0);
	assert_int_equal(config.segment_size, (4 << 20) + (64 << 10));
	assert_int_equal(load_text("[log]\nsegment_size = 1G\nretain_bytes = 0\n"), 0);
	assert_int_equal(config.segment_size, 1 << 30);
}

static void a_failure_leaves_everything_as_it_was(void **state)
{
	struct config before;
	(void)state;
	assert_int_equal(load_text("[listen]\nunix = /a\n"), 0);
	memcpy(&before, &config, sizeof before);
	write_file(FILE_TEXT("[server]\nworkers = 5\n[listen]\nunix = /b\ntcp = 127.0.0.1:7\n"
	                     "[limits]\nmax_payload = 64M\n[log]\nsegment_size = 64K\n"));
	assert_int_equal(config_load(&config, FILE_NAME, NULL, 0, error, sizeof error), -1);
	close(FILE_FD);
	assert_memory_equal(&before, &config, sizeof before);
}

static void an_error_fits_wherever_it_is_put(void **state)
{
	char small[20];
	(void)state;
	assert_int_equal(
		config_load(&config, "/nonexistent/psad.conf", NULL, 0, small, sizeof small), -1);
	assert_string_equal(small, "/nonexistent/psad.c");
}

/* Reloading */

static char changes[2048];

static void note_change(void *context, const struct config_change *change)
{
	(void)context;
	const size_t used = strlen(changes);
	snprintf(changes + used, sizeof changes - used, "%s%s:%s->%s ", change->key,
	         change->is_applied ? "" : "!", change->before, change->now);
}

static int adopt(const char *text)
{
	struct config fresh;
	changes[0] = error[0] = '\0';
	write_file(text, strlen(text));
	assert_int_equal(config_load(&fresh, FILE_NAME, NULL, 0, error, sizeof error), 0);
	close(FILE_FD);
	const int result = config_check_reload(&config, &fresh, error, sizeof error);
	if (result == 0)
		config_adopt(&config, &fresh, note_change, NULL);
	config_free(&fresh);
	return result;
}

static void a_reload_takes_over_what_can_change(void **state)
{
	(void)state;
	assert_int_equal(load_text("[listen]\nunix = /a\n"), 0);
	assert_int_equal(adopt("[listen]\nunix = /a\n"), 0);
	assert_string_equal(changes, "");
	assert_int_equal(adopt("[server]\nworkers = 9\nlog_level = error\ndrain_timeout = 60s\n"
	                       "[listen]\nunix = /b\ntcp = 127.0.0.1:1\nunix_mode = 600\n"
	                       "insecure = yes\n"
	                       "[log]\nretain_messages = 7\n"
	                       "[limits]\nmax_payload = 2M\nkeepalive = 61s\n"),
	                 0);
	assert_string_equal(changes, "server.workers!:0->9 server.drain_timeout:5s->1m "
	                             "server.log_level:info->error "
	                             "listen.tcp:127.0.0.1:9853, [::1]:9853->127.0.0.1:1 "
	                             "listen.unix:/a->/b listen.unix_mode:0660->0600 "
	                             "listen.insecure:no->yes log.retain_messages:0->7 "
	                             "limits.max_payload:1M->2M limits.keepalive:1m->61s ");
	assert_int_equal(config.workers, 0);
	assert_int_equal(config.log_level, DIAG_ERROR);
	assert_int_equal(config.drain_timeout_ms, 60000);
	assert_string_equal(config.listen_unix, "/b");
	assert_int_equal(config.listen_tcp_count, 1);
	assert_false(config.listen_tcp_is_default);
	assert_int_equal(config.retain_messages, 7);
	assert_int_equal(config.max_payload, 2 << 20);
	assert_int_equal(config.keepalive_ms, 61000);
	/* What is in force now is no change any more; what needs a restart still is. */
	assert_int_equal(adopt("[server]\nlog_level = error\ndrain_timeout = 1m\nworkers = 3\n"
	                       "[listen]\ninsecure = yes\nunix_mode = 600\n"
	                       "[log]\nretain_messages = 7\ndir = /d\nfsync = always\n"
	                       "[limits]\nmax_payload = 2M\nkeepalive = 61s\n"),
	                 0);
	assert_string_equal(changes, "server.workers!:0->3 "
	                             "listen.tcp:127.0.0.1:1->127.0.0.1:9853, [::1]:9853 "
	                             "listen.unix:/b-> log.dir!:->/d log.fsync!:interval->always ");
	assert_null(config.listen_unix);
	assert_int_equal(config.listen_tcp_count, 2);
	assert_true(config.listen_tcp_is_default);
	assert_null(config.log_dir);
}

static void a_long_value_is_cut_where_it_is_shown(void **state)
{
	char text[4096] = "[listen]\ntcp = 127.0.0.1:1";
	(void)state;
	for (int i = 2; i < 40; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), ",\n  127.0.0.1:%d", i);
	assert_int_equal(load_text(""), 0);
	assert_int_equal(adopt(text), 0);
	assert_int_equal(config.listen_tcp_count, 39);
	assert_true(strlen(changes) < 2 * CONFIG_TEXT_MAX);
}

static void both_listeners_may_be_empty_where_sockets_are_handed_over(void **state)
{
	(void)state;
	assert_int_equal(load_text("[listen]\ntcp =\n"), 0);
	assert_false(config_listens(&config));
	assert_int_equal(adopt("[listen]\ntcp =\nunix = /a\n"), 0);
	assert_true(config_listens(&config));
}

static void a_reload_does_not_change_the_size_of_segments(void **state)
{
	(void)state;
	assert_int_equal(load_text(""), 0);
	/* The default would be another one now, but nobody asked for that. */
	assert_int_equal(adopt("[log]\nretain_bytes = 1G\n"), 0);
	assert_string_equal(changes, "log.retain_bytes:256M->1G ");
	assert_int_equal(config.segment_size, 16 << 20);
	assert_int_equal(config.retain_bytes, 1 << 30);
	assert_int_equal(adopt("[log]\nretain_bytes = 1G\nsegment_size = 32M\n"), 0);
	assert_string_equal(changes, "log.segment_size!:16M->32M ");
	assert_int_equal(config.segment_size, 16 << 20);
	/* Fine after a restart, but not with the segments that there are. */
	check_error(adopt("[limits]\nmax_payload = 5M\n[log]\nretain_bytes = 1G\n"),
	            "limits.max_payload: 5M is more than a quarter of log.segment_size (16M, until "
	            "a restart)");
	assert_string_equal(changes, "");
	check_error(adopt("[log]\nretain_bytes = 32M\n"),
	            "log.retain_bytes: 32M is less than 4 x log.segment_size (16M, until a "
	            "restart)");
	assert_int_equal(config.max_payload, 1 << 20);
	assert_int_equal(config.retain_bytes, 1 << 30);
}

/* The files that come with psad */

static void the_profiles_are_good(void **state)
{
	static const char *const files[] = {"conf/laptop.conf", "conf/many-subscribers.conf",
	                                    "conf/edge-box.conf", "conf/firehose.conf",
	                                    "conf/tmpfs.conf"};
	(void)state;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		config_free(&config);
		error[0] = '\0';
		const int result = config_load(&config, files[i], NULL, 0, error, sizeof error);
		assert_string_equal(error, "");
		assert_int_equal(result, 0);
	}
}

static void the_example_shows_every_key_with_its_default(void **state)
{
	FILE *file = fopen("psad.conf.example", "re");
	struct config_key_info key;
	char line[256], expected[256];
	const char *section = "";
	bool has_description = false;
	size_t nth = 0;
	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof line, file) != NULL) {
		const bool is_pair = line[0] == '#' && strcspn(line + 1, " \n") > 0;
		if (line[0] == '[') {
			assert_true(config_key(nth, &key));
			section = key.section;
			snprintf(expected, sizeof expected, "[%s]\n", section);
			assert_string_equal(line, expected);
		} else if (is_pair) {
			assert_true(config_key(nth++, &key));
			assert_string_equal(section, key.section);
			snprintf(expected, sizeof expected, "#%s =%s%s\n", key.name,
			         key.default_text[0] ? " " : "", key.default_text);
			assert_string_equal(line, expected);
			assert_true(has_description);
			has_description = false;
		} else if (line[0] == '#') {
			if (!config_key(nth, &key))
				continue;
			snprintf(expected, sizeof expected, "# %s%s\n", key.description,
			         key.needs_restart ? " (restart)" : "");
			has_description |= strcmp(line, expected) == 0;
		} else {
			assert_string_equal(line, "\n");
		}
	}
	fclose(file);
	assert_false(config_key(nth, &key));
}

static void the_example_without_its_comment_signs_is_the_default(void **state)
{
	FILE *file = fopen("psad.conf.example", "re");
	char line[256], text[8192] = "";
	struct config plain;
	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof line, file) != NULL) {
		const bool is_pair = line[0] == '#' && strcspn(line + 1, " \n") > 0;
		strcat(text, is_pair ? line + 1 : line[0] == '#' ? "\n" : line);
	}
	fclose(file);
	assert_int_equal(load_text(text), 0);
	assert_int_equal(config_load(&plain, NULL, NULL, 0, error, sizeof error), 0);
	changes[0] = '\0';
	config_adopt(&plain, &config, note_change, NULL);
	assert_string_equal(changes, "");
	config_free(&plain);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, forget)
	const struct CMUnitTest tests[] = {
		TEST(asking_for_syncs_of_a_log_in_memory_is_an_error),
		TEST(nothing_given_is_the_default),
		TEST(every_key_can_be_set),
		TEST(a_file_may_be_laid_out_in_many_ways),
		TEST(a_list_of_addresses_may_go_on_in_indented_lines),
		TEST(lines_that_are_no_configuration_are_errors),
		TEST(long_lines_are_errors_and_long_comments_are_not),
		TEST(bytes_that_are_no_text_are_errors),
		TEST(a_file_has_an_end),
		TEST(a_file_that_cannot_be_read_is_an_error),
		TEST(bad_values_are_errors_that_name_line_and_key),
		TEST(a_socket_path_must_fit),
		TEST(overrides_win_over_the_file_and_the_last_one_over_all),
		TEST(bad_overrides_are_errors),
		TEST(values_that_do_not_go_together_are_errors),
		TEST(a_segment_has_a_fitting_size_by_default),
		TEST(a_failure_leaves_everything_as_it_was),
		TEST(an_error_fits_wherever_it_is_put),
		TEST(a_reload_takes_over_what_can_change),
		TEST(a_long_value_is_cut_where_it_is_shown),
		TEST(both_listeners_may_be_empty_where_sockets_are_handed_over),
		TEST(a_reload_does_not_change_the_size_of_segments),
		TEST(the_profiles_are_good),
		TEST(the_example_shows_every_key_with_its_default),
		TEST(the_example_without_its_comment_signs_is_the_default),
	};
#undef TEST
	return cmocka_run_group_tests(tests, NULL, NULL);
}
