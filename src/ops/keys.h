/* SPDX-License-Identifier: MIT */
/*
 * keys: the table of all keys, and what is done with one of them: its field in a struct config is
 * set from a text, compared, shown, exchanged. What keys must be to one another is said by rules.
 *
 * Thread: startup, and main afterwards (a reload).
 */
#ifndef PSAD_OPS_KEYS_H
#define PSAD_OPS_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "ops/config.h"
#include "ops/value.h"

/* Units and bounds, for the table. */
#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define SECOND 1000ULL /* ms */
#define DAY (86400 * SECOND)

/* Where the manual names no bound: far above use, far below what could overflow anywhere. */
#define BYTES_MAX (GIB << 20)
#define MESSAGES_MAX 1000000000000000ULL
#define PEERS_MAX (1ULL << 24)
#define UNIX_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)
#define DIR_MAX 512 /* so that messages that name files in it fit */
#define SEGMENT_MAX GIB

#define DEFAULT_SYNC_INTERVAL_MS 200 /* the "200ms" of log.fsync_interval, as rules compares it */

/* How a value is written, and the type of its field. */
enum kind {
	KIND_COUNT,     /* unsigned or uint64_t */
	KIND_SIZE,      /* uint64_t */
	KIND_TIME,      /* uint64_t */
	KIND_MODE,      /* unsigned */
	KIND_FLAG,      /* bool */
	KIND_LEVEL,     /* enum diag_level */
	KIND_SYNC,      /* enum log_sync */
	KIND_PATH,      /* char *, NULL where it is empty */
	KIND_ADDRESSES, /* listen_tcp, and listen_tcp_count with it */
};

/* When a changed value is in force: on SIGHUP, or after a restart only. */
enum when { WHEN_RELOAD, WHEN_RESTART };

/* clang-format off */
/*
 * Every key there is, those of one section together:
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

/* KEY_listen_tcp: listen.tcp. */
enum key_id {
#define X(section, name, field, kind, default_text, least, most, when, description) \
	KEY_##section##_##name,
	KEY_TABLE(X)
#undef X
	KEY_COUNT,
};
/* clang-format on */

/* A row of the table. */
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

extern const struct key keys[KEY_COUNT]; /* by key_id */

/* NULL: there is none of that name. */
const struct key *key_find(const char *section, const char *name);

/*
 * Gives its field the value that `text` means, and releases what the field owned. False: the field
 * is as it was, and *reason says why, as in value.h.
 */
bool key_set(const struct key *key, struct config *config, const char *text,
             struct value_reason *reason);
/* Adds to a list: KIND_ADDRESSES alone. False: likewise, but some may have been added. */
bool key_add(const struct key *key, struct config *config, const char *text,
             struct value_reason *reason);

bool key_is_same(const struct key *key, const struct config *one, const struct config *other);

/* The value as it would be written, in `size` bytes; cut where it is longer. */
void key_show(const struct key *key, const struct config *config, char *out, size_t size);

/* Exchanges the values, and what they own with them. */
void key_swap(const struct key *key, struct config *one, struct config *other);

#endif
