/* SPDX-License-Identifier: MIT */
/*
 * peers: how many connections each address has, for limits.max_connections_per_ip.
 *
 * An IPv6 address counts with its /64, which is what one host is given, but an IPv4 address that is
 * mapped into one counts as that; Unix sockets do not count.
 * Guarded by a mutex: touched when a connection begins and ends, never in between.
 */
#ifndef PSAD_NET_PEERS_H
#define PSAD_NET_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct peers;

/* What a connection is counted under. */
struct peer_key {
	uint8_t bytes[9]; /* family (0: not counted), then address */
};

/* NULL: no memory. Thread: startup. */
struct peers *peers_new(void);
void peers_free(struct peers *peers);

/* As accept(2) gave it; of any other family than TCP's: not counted. Thread: any. */
struct peer_key peer_key_of(const struct sockaddr *address);

/* Who is at the other end of a socket, for the operator: "192.0.2.7:4711", "[2001:db8::1]:4711", "a
 * Unix socket (process 123 of user 1000)". Thread: any. */
struct peer_text {
	char text[80];
};
struct peer_text peer_describe(int fd);

/* Counts one more. False, and it does not count: there are `max` already (0: no limit), or there
 * is no memory. Thread: any. */
bool peers_enter(struct peers *peers, const struct peer_key *key, uint64_t max);
/* Undoes one peers_enter() that was true. Thread: any. */
void peers_leave(struct peers *peers, const struct peer_key *key);

#endif
