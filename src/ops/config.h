/* SPDX-License-Identifier: MIT */
/*
 * config: what the operator asked for, from defaults, a file and the command line.
 *
 * The keys, their defaults, bounds and meanings are one table in keys.h. A file is an ini file
 * (see psad.conf.example); overrides have the form SECTION.KEY=VALUE and win over the file, the
 * last over those before it. Nothing is half applied: a configuration is either loaded as a whole
 * or refused with a sentence that names the place and the key.
 *
 * Thread: startup, and main afterwards (a reload).
 */
#ifndef PSAD_OPS_CONFIG_H
#define PSAD_OPS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/diag.h"
#include "log/log.h"
#include "ops/value.h"

/*
 * Named as the keys are, with the unit at the end; sizes without a unit are bytes. Where the
 * manual says that 0 means "no limit" or "the system's choice", it is 0 here too, except in
 * segment_size, which is always resolved. Owns what it points to: config_free().
 */
struct config {
	unsigned workers; /* 0: one for each CPU that the process may use */
	uint64_t drain_timeout_ms;
	enum diag_level log_level;

	/*
	 * ":9853" has become two addresses, 0.0.0.0 and [::]: each listens for its own family
	 * alone (IPV6_V6ONLY).
	 */
	struct config_address *listen_tcp;
	size_t listen_tcp_count;
	bool listen_tcp_is_default; /* nobody asked for these addresses */
	char *listen_unix;          /* a path that fits into sockaddr_un; NULL: none */
	unsigned listen_unix_mode;  /* permission bits */
	unsigned listen_backlog;
	bool listen_insecure;

	uint64_t segment_size; /* never 0; a multiple of 64 KiB */
	bool segment_size_is_default;
	uint64_t retain_bytes;    /* 0: no limit, else at least 4 x segment_size */
	uint64_t retain_messages; /* 0: no limit */
	uint64_t retain_age_ms;   /* 0: no limit */
	char *log_dir;            /* NULL: in memory */
	enum log_sync log_fsync;
	uint64_t log_fsync_interval_ms;

	uint64_t max_payload;            /* at most 64M and a quarter of segment_size */
	unsigned max_connections;        /* 0: what the limit of open files allows */
	unsigned max_connections_per_ip; /* 0: no limit */
	unsigned max_patterns;
	uint64_t input_memory;
	uint64_t put_timeout_ms;
	uint64_t idle_timeout_ms; /* 0: never */
	uint64_t send_buffer;     /* 0: the system's choice */
	uint64_t keepalive_ms;
};

enum { CONFIG_ERROR_MAX = 512 }; /* bytes that are enough for any sentence */

/*
 * Reads `file` (NULL: none), then the overrides ("limits.max_payload=2M"), then checks how the
 * values go together. Returns 0; or -1 with one sentence without line end in `error`, which may
 * hold bytes of the file: show it through diag(). On failure *out is untouched. What *out held
 * before is not freed.
 */
int config_load(struct config *out, const char *file, const char *const *overrides,
                size_t override_count, char *error, size_t error_size);

/* Releases what a loaded configuration owns, and zeroes it. */
void config_free(struct config *config);

/* Whether it names anything to listen on: without, there must be sockets handed over. */
bool config_listens(const struct config *config);

enum { CONFIG_TEXT_MAX = 256 }; /* bytes of a value that are shown */

struct config_change {
	const char *key;          /* its full name */
	const char *before, *now; /* as they would be written; cut where they are long */
	bool is_applied;          /* in force now; else after a restart */
};
/* Told of a key that differs. */
typedef void config_changed(void *context, const struct config_change *change);

/*
 * A reload: whether what can change while psad runs may be taken over from `fresh` into `running`.
 * (The segment size stays, so the new limits must fit the one that runs.) 0; or -1 with a sentence
 * in `error`.
 */
int config_check_reload(const struct config *running, const struct config *fresh, char *error,
                        size_t error_size);
/*
 * Takes it over, and calls changed() once for each key that differs, also for those that stay as
 * they were until a restart. What *running owned and has given up is in *fresh then, which stays
 * the caller's.
 */
void config_adopt(struct config *running, struct config *fresh, config_changed *changed,
                  void *context);

/* One row of the table of keys, for those who show or check it. */
struct config_key_info {
	const char *section;
	const char *name;
	const char *default_text;
	const char *description;
	bool needs_restart;
};

/* The nth key; false behind the last. Keys of one section stand together. */
bool config_key(size_t nth, struct config_key_info *out);

#endif
