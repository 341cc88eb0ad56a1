/* SPDX-License-Identifier: MIT */
/*
 * address: how an address of TCP is written: 127.0.0.1:9853, [::1]:9853.
 */
#ifndef PSAD_NET_ADDRESS_H
#define PSAD_NET_ADDRESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

/* Writes it as text, ended by NUL, into `room` bytes. AF_INET and AF_INET6 only. Thread: any. */
static inline void address_write(const struct sockaddr_storage *address, char *text, size_t room)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
		snprintf(text, room, "%s:%u", host, ntohs(in->sin_port));
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
		snprintf(text, room, "[%s]:%u", host, ntohs(in6->sin6_port));
	}
}

#endif
