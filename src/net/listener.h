/* SPDX-License-Identifier: MIT */
/*
 * listener: a listening socket: opened by us, or handed over by who started us. Accepting is
 * acceptor.c's.
 *
 * Thread: main, all of it.
 */
#ifndef PSAD_NET_LISTENER_H
#define PSAD_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { LISTENER_TEXT_MAX = 128, LISTENER_NAME_MAX = 64 };

struct listener {
	int fd;
	bool is_unix;
	bool is_handed_over; /* others have it too: it goes on listening when we close it */
	bool is_dual;        /* handed over: [::] that takes IPv4 as well */
	bool is_wanted;      /* for the owner's use */
	/* What was asked for, with port 0 where that was asked; of one handed over, what it has. */
	struct sockaddr_storage address;
	socklen_t length;
	char text[LISTENER_TEXT_MAX]; /* what it has: "127.0.0.1:9853", "unix:/run/psad/socket" */
	char name[LISTENER_NAME_MAX]; /* under which it was handed over */
	/* The path that we made: it goes when we close it, if it is still that one. */
	bool has_path;
	dev_t device;
	ino_t inode;
};

/* Opens, binds and listens. 0 or a negative errno, such as -EADDRINUSE, or -EADDRNOTAVAIL where the
 * machine does not have the address. */
int listener_open_tcp(struct listener *listener, const struct sockaddr *address, socklen_t length,
                      int backlog);
/* The same. A path left over by a dead process is replaced; one that somebody listens on is
 * -EADDRINUSE. `mode`: its permissions, from the first moment on. */
int listener_open_unix(struct listener *listener, const char *path, unsigned mode, int backlog);
/* NULL; or what it is instead of a listening stream socket, and `fd` stays the caller's. */
const char *listener_adopt(struct listener *listener, int fd, const char *name);

/* Whether it listens where `address` says, as it was asked to; a Unix socket's is its path. */
bool listener_is_at(const struct listener *listener, const struct sockaddr *address);
bool listener_is_at_path(const struct listener *listener, const char *path);

/* Of one that we made. 0 or a negative errno. */
int listener_set_backlog(const struct listener *listener, int backlog);
/* Of a Unix socket that we made. *before: what it was. 0 or a negative errno; -ENOENT: what is at
 * the path now is not ours. */
int listener_set_mode(const struct listener *listener, unsigned mode, unsigned *before);

/* Closes it, and removes what we made. */
void listener_close(struct listener *listener);

#endif
