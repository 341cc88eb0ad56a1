/* SPDX-License-Identifier: MIT */
/*
 * listening: from what the configuration names and what the service manager hands over to the
 * sockets that we listen on, at the start and at a reload.
 *
 * What is handed over is listened on as long as we live. The default of listen.tcp holds only where
 * nothing is; an address that is configured and handed over too is the one handed over.
 *
 * A change is prepared, which may fail and then has done nothing, and afterwards either made or
 * dropped, which can't fail.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_LISTENING_H
#define PSAD_LISTENING_H

#include "net/acceptor.h"
#include "ops/config.h"
#include "ops/manager.h"

enum { LISTENING_ERROR_MAX = 512, LISTENING_MAX = VALUE_ADDRESSES_MAX + 1 };

/* Listens on the sockets handed over, and takes those that it does. 0 or -1, and `error` is why. */
int listening_adopt(struct acceptor *acceptor, struct manager_sockets *sockets, char *error,
                    size_t error_size);

struct listening_change {
	struct acceptor *acceptor;
	struct listener *opened[LISTENING_MAX];
	struct listener *unwanted[LISTENING_MAX];
	const char *skipped[LISTENING_MAX]; /* addresses that this machine does not have */
	size_t opened_count, unwanted_count, skipped_count;
	int backlog;
	struct listener *changed_mode; /* NULL: none */
	unsigned mode_before;
};

/* Opens what `config` wants and is not there. 0; or -1, all is as it was, and `error` is why. */
int listening_prepare(struct listening_change *change, struct acceptor *acceptor,
                      const struct config *config, char *error, size_t error_size);
/* Closes what is not wanted any more, and says what has changed. `config` is still there. */
void listening_make(struct listening_change *change);
/* Closes what was opened. */
void listening_drop(struct listening_change *change);

#endif
