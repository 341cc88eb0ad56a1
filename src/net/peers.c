/* SPDX-License-Identifier: MIT */
#define HASH_NONFATAL_OOM 1
#include "net/peers.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "net/address.h"

struct peer {
	UT_hash_handle hh;
	struct peer_key key;
	uint64_t count;
};

struct peers {
	pthread_mutex_t mutex;
	struct peer *table;
};

struct peers *peers_new(void)
{
	struct peers *peers = calloc(1, sizeof *peers);
	if (peers != NULL)
		pthread_mutex_init(&peers->mutex, NULL);
	return peers;
}

void peers_free(struct peers *peers)
{
	struct peer *peer, *next;
	if (peers == NULL)
		return;
	HASH_ITER(hh, peers->table, peer, next) {
		HASH_DEL(peers->table, peer);
		free(peer);
	}
	pthread_mutex_destroy(&peers->mutex);
	free(peers);
}

struct peer_key peer_key_of(const struct sockaddr *address)
{
	struct peer_key key = {.bytes = {0}};
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
		key.bytes[0] = 4;
		memcpy(key.bytes + 1, &in->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
		/* By a socket for both, an IPv4 peer: all of them would have one /64. */
		bool is_v4 = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
		key.bytes[0] = is_v4 ? 4 : 6;
		memcpy(key.bytes + 1, in6->sin6_addr.s6_addr + (is_v4 ? 12 : 0), is_v4 ? 4 : 8);
	}
	return key;
}

static void describe_local(int fd, struct peer_text *out)
{
	struct ucred who;
	socklen_t length = sizeof who;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.pid > 0)
		snprintf(out->text, sizeof out->text, "a Unix socket (process %d of user %u)",
		         (int)who.pid, (unsigned)who.uid);
	else
		snprintf(out->text, sizeof out->text, "a Unix socket");
}

struct peer_text peer_describe(int fd)
{
	struct peer_text out = {"a peer that has gone"};
	struct sockaddr_storage address;
	socklen_t length = sizeof address;

	if (getpeername(fd, (struct sockaddr *)&address, &length) != 0)
		return out;
	if (address.ss_family == AF_INET || address.ss_family == AF_INET6)
		address_write(&address, out.text, sizeof out.text);
	else
		describe_local(fd, &out);
	return out;
}

/* The peer of this key, made where it isn't there; NULL: no memory. */
static struct peer *find_or_make(struct peers *peers, const struct peer_key *key)
{
	struct peer *peer = NULL;
	HASH_FIND(hh, peers->table, key, sizeof *key, peer);
	if (peer != NULL)
		return peer;
	peer = calloc(1, sizeof *peer);
	if (peer == NULL)
		return NULL;
	peer->key = *key;
	HASH_ADD(hh, peers->table, key, sizeof peer->key, peer);
	if (peer->hh.tbl == NULL) { /* HASH_NONFATAL_OOM */
		free(peer);
		return NULL;
	}
	return peer;
}

bool peers_enter(struct peers *peers, const struct peer_key *key, uint64_t max)
{
	if (key->bytes[0] == 0)
		return true;
	pthread_mutex_lock(&peers->mutex);
	struct peer *peer = find_or_make(peers, key);
	bool is_in = peer != NULL && (max == 0 || peer->count < max);
	if (is_in)
		peer->count++;
	pthread_mutex_unlock(&peers->mutex);
	return is_in;
}

void peers_leave(struct peers *peers, const struct peer_key *key)
{
	if (key->bytes[0] == 0)
		return;
	pthread_mutex_lock(&peers->mutex);
	struct peer *peer = NULL;
	HASH_FIND(hh, peers->table, key, sizeof *key, peer);
	assert(peer != NULL && peer->count > 0);
	if (--peer->count == 0) {
		HASH_DEL(peers->table, peer);
		free(peer);
	}
	pthread_mutex_unlock(&peers->mutex);
}
