/* SPDX-License-Identifier: MIT */
/*
 * net: sockets to 127.0.0.1. Thread: any.
 */
#ifndef LOAD_NET_H
#define LOAD_NET_H

#include <stddef.h>
#include <stdint.h>

/* As perror and exit(1), under the program's name. */
_Noreturn void die(const char *what);
/* A connected blocking socket with TCP_NODELAY; dies if there is none. */
int net_connect(uint64_t port);
/*
 * Begins to connect a nonblocking socket whose close is a reset, so that no TIME_WAIT stays;
 * `receive_buffer` 0: the system's choice. Dies if it can't. Goes on to another source address
 * when one has no ports left.
 */
int net_begin_connect(uint64_t port, int receive_buffer);
/* Blocks; dies. */
void net_send_all(int fd, const void *bytes, size_t n);
/* Raises the limit of open files to what is allowed. */
void net_raise_files(void);

#endif
