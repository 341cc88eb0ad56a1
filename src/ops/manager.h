/* SPDX-License-Identifier: MIT */
/*
 * manager: the service manager that started us, where there is one: what it is told, and the
 * sockets that it hands over. The only door to sd-daemon.h.
 *
 * Messages are those of sd_notify(3), sent to the socket that $NOTIFY_SOCKET names; where nobody
 * listens nothing is sent. One that can't be sent is lost: that is said once, and the broker goes
 * on. Built without libsystemd, nobody ever listens and nothing is handed over.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_OPS_MANAGER_H
#define PSAD_OPS_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A socket handed over, ours to close. */
struct manager_socket {
	int fd;
	char *name; /* FileDescriptorName= of the socket unit; "unknown" where it has none */
};

struct manager_sockets {
	struct manager_socket *at;
	size_t count;
};

/*
 * Takes what was handed over: $LISTEN_FDS, $LISTEN_FDNAMES, once; they are gone from the
 * environment then. Descriptors of any kind, close-on-exec. 0; or a negative errno, and why has
 * been said.
 */
int manager_take_sockets(struct manager_sockets *out);
/* Closes those whose fd is not -1, and forgets all. */
void manager_sockets_free(struct manager_sockets *sockets);

/* Whether anybody listens. */
bool manager_listens(void);
/* Within how many microseconds manager_feed_watchdog() is to be called again; 0: never. */
uint64_t manager_watchdog_us(void);

/* In each message: a line for "systemctl status", with no line end. */
enum { MANAGER_STATUS_MAX = 256 };

/* Only the status. */
void manager_tell(const char *status);
/* Started, or reloaded. */
void manager_tell_ready(const char *status);
void manager_tell_reloading(const char *status);
/* Stopping has begun, and takes at most `more_us` until the next word. */
void manager_tell_stopping(const char *status, uint64_t more_us);
/* Starting or stopping takes at most `more_us` until the next word. */
void manager_tell_progress(const char *status, uint64_t more_us);
void manager_feed_watchdog(void);

#endif
