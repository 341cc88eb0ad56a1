/* SPDX-License-Identifier: MIT */
/*
 * intake: from what a socket gives to what session.c executes.
 *
 * Bytes are executed where they were read. A connection owns memory (conn->input) only for the
 * beginning of a command whose end has not come, and for commands that have to wait; beyond 4 KiB
 * that is reserved from limits.input_memory first: what has come and as much again at most, never
 * what is announced, or a few bytes from each of a few connections would deny it to all others.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_INTAKE_H
#define PSAD_NET_INTAKE_H

#include "net/conn.h"

/*
 * Where the next bytes are to be read, and how many at most: the place of a large unfinished body,
 * or the worker's scratch. NULL: the connection has been refused the memory.
 */
char *intake_place(struct conn *conn, size_t *n);

/* Takes n bytes from the scratch: executes what is complete and keeps the rest. */
void intake_take(struct conn *conn, const char *bytes, size_t n);

/* Executes what can be of the bytes kept. */
void intake_execute(struct conn *conn);

/* Forgets the bytes kept. Not within session_execute(). */
void intake_drop(struct conn *conn);

#endif
