/* SPDX-License-Identifier: MIT */
/*
 * server: one broker: puts the modules together, runs the main thread, ends in good order.
 *
 * The main thread accepts connections, receives the signals and conducts the end:
 *
 *     SIGTERM --> STOPPING: every worker executes what had been received, then reports
 *             --> DRAINING: the final head is fixed; everybody is given what is owed, and BYE
 *             --> ENDING:   at drain_timeout or a second signal: whoever is left is cut
 *
 * SIGHUP reads the configuration again: what can change while it runs is taken over as a whole, or,
 * where any of it can't be had, not at all.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_SERVER_H
#define PSAD_SERVER_H

#include <stddef.h>

#include "ops/config.h"
#include "ops/manager.h"

struct server;

/* Where the configuration came from, to read it again on SIGHUP. */
struct server_sources {
	const char *file; /* NULL: none */
	const char *const *overrides;
	size_t override_count;
};

/*
 * Starts everything that `config` asks for, listening included, on the sockets handed over too.
 * NULL: it failed, and why has been said. Takes over *config, and of *sockets what it listens on;
 * `sources` must live as long as the server.
 */
struct server *server_start(struct config *config, const struct server_sources *sources,
                            struct manager_sockets *sockets);
/* Serves until a signal has ended it. */
void server_run(struct server *server);
/* After server_run(): closes the log and releases everything. */
void server_free(struct server *server);

#endif
