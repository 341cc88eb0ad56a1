/* SPDX-License-Identifier: MIT */
/*
 * bare PORT: the yardstick. A program that does nothing but read the publishers' bytes and write
 * them to every socket from one shared array: no parsing, no ids, no topics, no retention. What a
 * broker costs beyond this is what it does for its users. One thread, epoll. Says "listening on
 * 127.0.0.1:PORT" (0: any) and ends on SIGTERM.
 *
 * A connection's first byte is its role:
 *
 *      P   publisher: all that follows is data; closed when it has closed its sending side
 *      S   subscriber from now on: answered with the byte s
 *      A   subscriber from the beginning of the array: the same
 *
 * All that was ever published stays in the array, which is address space of ARRAY_SIZE that is
 * populated some way ahead of the write position, so that no page fault is on anybody's way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PIECE = 256 << 10,       /* bytes of one read */
	SEND_BUFFER = 256 << 10, /* psad's limits.send_buffer */
	POPULATED = 64 << 20,    /* at the start */
	POPULATE = 8 << 20,      /* ahead, at a time */
	EVENTS = 512,
	BACKLOG = 4096,
};
static const size_t ARRAY_SIZE = (size_t)8 << 30;

enum role { ROLE_UNKNOWN, ROLE_PUBLISHER, ROLE_SUBSCRIBER };

struct subscriber {
	size_t offset; /* the next byte that it gets */
	int fd;
	bool is_waiting; /* for room in its socket's buffer */
};

/* By fd. */
struct connection {
	enum role role;
	uint32_t place; /* of a subscriber, in `subscribers` */
};

static char *array;
static size_t written, populated;
static struct subscriber *subscribers; /* dense */
static uint32_t n_subscribers;
static struct connection *connections;
static size_t max_connections;
static int epoll_fd, listener;

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void populate(size_t n)
{
	if (populated + n > ARRAY_SIZE) {
		errno = ENOMEM;
		die("the array is full");
	}
	if (madvise(array + populated, n, MADV_POPULATE_WRITE) != 0)
		die("MADV_POPULATE_WRITE");
	populated += n;
}

static void watch(int operation, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(epoll_fd, operation, fd, &event) != 0)
		die("epoll_ctl");
}

static void close_connection(int fd)
{
	struct connection *connection = &connections[fd];

	if (connection->role == ROLE_SUBSCRIBER) {
		struct subscriber *last = &subscribers[--n_subscribers];
		subscribers[connection->place] = *last;
		connections[last->fd].place = connection->place;
	}
	connection->role = ROLE_UNKNOWN;
	close(fd);
}

/* A failure is not looked at: epoll tells of it too. */
static inline void serve(struct subscriber *subscriber)
{
	size_t n = written - subscriber->offset;
	ssize_t sent = send(subscriber->fd, array + subscriber->offset, n, MSG_NOSIGNAL);

	if (sent > 0)
		subscriber->offset += (size_t)sent;
	/* Where less was taken than offered, the kernel tells when there is room: one edge. */
	subscriber->is_waiting = sent < (ssize_t)n;
}

static void serve_all(void)
{
	for (uint32_t i = 0; i < n_subscribers; i++)
		if (!subscribers[i].is_waiting)
			serve(&subscribers[i]);
}

static void accept_all(void)
{
	static const int one = 1, low_water = SEND_BUFFER;

	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		if ((size_t)fd >= max_connections) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low_water, sizeof low_water);
		watch(EPOLL_CTL_ADD, fd, EPOLLIN);
	}
}

static void add_subscriber(int fd, size_t offset)
{
	struct subscriber *subscriber = &subscribers[n_subscribers];

	connections[fd] = (struct connection){.role = ROLE_SUBSCRIBER, .place = n_subscribers++};
	*subscriber = (struct subscriber){.fd = fd, .offset = offset};
	if (send(fd, "s", 1, MSG_NOSIGNAL) == 1 && offset < written)
		serve(subscriber);
	/* Edges from now on: no call is needed to begin or to end waiting. */
	watch(EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void learn_role(int fd)
{
	char role = 0;

	(void)recv(fd, &role, 1, 0);
	if (role == 'P')
		connections[fd].role = ROLE_PUBLISHER;
	else if (role == 'S' || role == 'A')
		add_subscriber(fd, role == 'A' ? 0 : written);
	else
		close_connection(fd);
}

static void take_piece(int fd)
{
	while (written + PIECE > populated)
		populate(POPULATE);
	ssize_t n = recv(fd, array + written, PIECE, 0);
	if (n > 0) {
		written += (size_t)n;
		serve_all();
	} else if (n == 0 || errno != EAGAIN) {
		close_connection(fd);
	}
}

static void handle(const struct epoll_event *event)
{
	int fd = event->data.fd;

	if (fd == listener) {
		accept_all();
	} else if (connections[fd].role == ROLE_UNKNOWN) {
		learn_role(fd);
	} else if (connections[fd].role == ROLE_PUBLISHER) {
		take_piece(fd);
	} else if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		close_connection(fd);
	} else {
		struct subscriber *subscriber = &subscribers[connections[fd].place];
		subscriber->is_waiting = false;
		if (subscriber->offset < written)
			serve(subscriber);
	}
}

static void listen_on(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t size = sizeof address;
	static const int one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		die("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, size) != 0 ||
	    listen(listener, BACKLOG) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		die("listen");
	watch(EPOLL_CTL_ADD, listener, EPOLLIN);
	printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
	fflush(stdout);
}

static void make_room(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	max_connections = files.rlim_max < 1 << 20 ? files.rlim_max : 1 << 20;
	connections = calloc(max_connections, sizeof *connections);
	subscribers = calloc(max_connections, sizeof *subscribers);
	array = mmap(NULL, ARRAY_SIZE, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (connections == NULL || subscribers == NULL || array == MAP_FAILED)
		die("memory");
	(void)madvise(array, ARRAY_SIZE, MADV_HUGEPAGE);
	populate(POPULATED);
}

int main(int argc, char **argv)
{
	static struct epoll_event events[EVENTS];
	char *end = argc == 2 ? argv[1] : NULL;
	long port = argc == 2 ? strtol(argv[1], &end, 10) : -1;

	if (port < 0 || port > UINT16_MAX || *end != '\0') {
		fprintf(stderr, "usage: bare PORT\n");
		return 2;
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	make_room();
	listen_on((uint16_t)port);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			handle(&events[i]);
	}
}
