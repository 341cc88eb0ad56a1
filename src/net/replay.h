/* SPDX-License-Identifier: MIT */
/*
 * replay: SUB, READ, TAIL and CAT: where a follower begins, how far it goes, what is said about it.
 *
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_REPLAY_H
#define PSAD_NET_REPLAY_H

#include "net/conn.h"

/* Carries out one of the four, up to the point where the fan-out goes on. False: it has to wait,
 * conn->stall says for what. */
bool replay_begin(struct conn *conn, const struct command *command);

/* No command is executed while READ or CAT is being answered, or a LAST is being sought. */
bool replay_is_running(const struct conn *conn);

/* The fan-out has found where LAST begins. */
void replay_found(struct conn *conn);
/* The follower has reached its end. */
void replay_arrived(struct conn *conn);

#endif
