/* SPDX-License-Identifier: MIT */
/*
 * session: what each command means: where the wire meets the log.
 *
 * Publishes that stand together are appended together, and their answers are held until the head
 * has reached them. Every other command is executed only when nothing is held any more: that makes
 * PONG and every position say what they promise.
 *
 * Thread: the owner worker, all of it.
 */
#ifndef PSAD_NET_SESSION_H
#define PSAD_NET_SESSION_H

#include "net/conn.h"

/*
 * Executes what is complete among the n bytes at `bytes`, the first of which has not been executed.
 * Returns how many have been; where that is fewer than n, conn->stall says why, or, where it is
 * STALL_NONE, the rest is the beginning of a command, and conn->need how many bytes it will have.
 */
size_t session_execute(struct conn *conn, const char *bytes, size_t n);

/* Whether the reason for the stall is still there. */
bool session_is_stalled(const struct conn *conn);

/* Goes on after has_found and has_arrived. */
void session_follow_up(struct conn *conn);

/* The peer has closed its side, and all complete commands have been executed. */
void session_end_of_input(struct conn *conn);

/* Draining, and the connection stands between two commands: everything owed, then BYE. */
void session_drain(struct conn *conn);
/* Whether it stands there. */
bool session_is_between_commands(const struct conn *conn);

/* For replay.c: the head now, and "<word> <position>". */
uint64_t session_head(struct conn *conn);
void session_say_position(struct conn *conn, const char *word, uint64_t id);

/* FINISHING: everything owed has been delivered; says what is left to say (OK of LINES, BYE). */
void session_farewell(struct conn *conn);

#endif
