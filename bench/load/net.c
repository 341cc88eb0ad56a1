/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOURCES = 250 };

_Noreturn void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(uint32_t host, uint64_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	address.sin_addr.s_addr = htonl(0x7f000000U + host);
	return address;
}

static int open_socket(int flags)
{
	static const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

int net_connect(uint64_t port)
{
	struct sockaddr_in address = loopback(1, port);
	int fd = open_socket(0);

	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		die("connect");
	return fd;
}

int net_begin_connect(uint64_t port, int receive_buffer)
{
	static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	static const int one = 1;
	static uint32_t source = 1;
	struct sockaddr_in address = loopback(1, port);

	for (; source < SOURCES; source++) {
		struct sockaddr_in from = loopback(source, 0);
		int fd = open_socket(SOCK_NONBLOCK);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (receive_buffer > 0)
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(int));
		if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
			die("bind");
		if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ||
		    errno == EINPROGRESS)
			return fd;
		if (errno != EADDRNOTAVAIL)
			die("connect");
		close(fd);
	}
	die("connect: no source address has a port left");
}

void net_send_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	for (ssize_t sent; n > 0; at += sent, n -= (size_t)sent)
		if ((sent = send(fd, at, n, MSG_NOSIGNAL)) < 0)
			die("send");
}

void net_raise_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		die("RLIMIT_NOFILE");
}
