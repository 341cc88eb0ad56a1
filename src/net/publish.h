/* SPDX-License-Identifier: MIT */
/*
 * publish: PUB, PUT and LINES: from commands to the log, and their answers.
 *
 * Publishes that a connection sent together are gathered in the worker's batch and appended by one
 * call, so that they can share claims. The batch never outlives session_execute().
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_PUBLISH_H
#define PSAD_NET_PUBLISH_H

#include "net/conn.h"

/* Puts one publish into the batch, which has room; `end`: where it ends in the bytes executed. */
void publish_add(struct conn *conn, const struct command *command, size_t end);
/*
 * Appends the batch; *at moves behind the last publish executed. False when not all were:
 * conn->stall says so. A refused publish counts as executed.
 */
bool publish_flush(struct conn *conn, size_t *at);

/* LINES has been said: "OK", and from here on lines. */
void publish_begin_lines(struct conn *conn, const struct command *command);
/* "ERR <code> line <n> <text>" for the line being read. */
void publish_refuse_line(struct conn *conn, enum error_code code, const char *text);

#endif
