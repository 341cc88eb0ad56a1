/* SPDX-License-Identifier: MIT */
/*
 * Follow topics of a psad broker; write each payload and a line feed to standard output.
 *
 *     cc -O2 -o subscribe subscribe.c
 *     ./subscribe [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]
 *
 * --after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
 * --count N         end after N messages
 *
 * The position of the last complete message is kept. When the connection is lost, the program
 * connects again and goes on exactly behind it; what is gone for good is reported as a gap.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WORD_SIZE 64 /* an id, a position, a reason or a code is shorter */

struct subscriber {
	char **patterns;          /* ends with NULL */
	char position[WORD_SIZE]; /* "<id>@<log>": all up to here was written; "": from now on */
	char log[WORD_SIZE];      /* the part behind the @ */
	long left;                /* messages still wanted; 0 = no limit */
	bool is_done;
	bool is_subscribed; /* on this connection */
	unsigned pause_ms;  /* before the next try to connect */
	char *data;         /* what was received and not taken yet */
	size_t size;        /* room in data */
	size_t end;         /* bytes in data */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void flush(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		die("standard output");
}

/* The id comes from the line, the log from the OK. */
static void set_position(struct subscriber *sub, const char *id)
{
	char position[sizeof(sub->position)];
	snprintf(position, sizeof(position), "%.20s@%.40s", id, sub->log);
	strcpy(sub->position, position);
}

/* Any line but MSG; second and third are its words behind the first. */
static void take_line(struct subscriber *sub, const char *line, const char *kind,
                      const char *second, const char *third)
{
	if (strcmp(kind, "OK") == 0) { /* OK <position> */
		const char *at = strchr(second, '@');
		strcpy(sub->position, second);
		strcpy(sub->log, at != NULL ? at + 1 : "");
		sub->is_subscribed = true;
		sub->pause_ms = 100;
		fprintf(stderr, "subscribed %s\n", second);
	} else if (strcmp(kind, "GAP") == 0) { /* GAP <from> <to> <reason>: these will not come */
		set_position(sub, third);
		fprintf(stderr, "%s\n", line);
	} else if (strcmp(kind, "PONG") == 0) { /* PONG <position>: all that matches has come */
		strcpy(sub->position, second);
	} else if (strcmp(kind, "BYE") == 0) { /* BYE <reason> <position>: ours if subscribed */
		if (sub->is_subscribed)
			strcpy(sub->position, third);
		fprintf(stderr, "%s\n", line);
	} else if (strcmp(kind, "ERR") == 0) { /* ERR <code> <text> */
		fprintf(stderr, "%s\n", line);
		/* These two codes pass; trying again helps no other. */
		if (strcmp(second, "too-many") != 0 && strcmp(second, "shutting-down") != 0) {
			flush();
			exit(1);
		}
	}
	/* A word or a kind of line that we do not know is not for us. */
}

/* Takes all that is complete from the front of the data; returns the number of bytes taken. */
static size_t take(struct subscriber *sub)
{
	size_t taken = 0;
	char *eol;
	while (!sub->is_done && (eol = memchr(sub->data + taken, '\n', sub->end - taken)) != NULL) {
		/* A topic may be longer than third, which is not used then. */
		char kind[WORD_SIZE] = "", second[WORD_SIZE] = "", third[WORD_SIZE] = "";
		size_t nbytes = 0;
		char *line = sub->data + taken;
		char *payload = eol + 1;
		size_t after = (size_t)(payload - sub->data);
		*eol = '\0';
		if (strncmp(line, "MSG ", 4) != 0) {
			sscanf(line, "%63s %63s %63s", kind, second, third);
			take_line(sub, line, kind, second, third);
		} else if (sscanf(line, "MSG %63s %*s %zu", second, &nbytes) == 2) {
			if (sub->end - after < nbytes + 1) {
				*eol = '\n'; /* the payload has not arrived completely */
				break;
			}
			fwrite(payload, 1, nbytes + 1, stdout); /* with the line feed behind it */
			after += nbytes + 1;
			set_position(sub, second);
			sub->left--;
			sub->is_done = sub->left == 0;
		}
		taken = after;
	}
	return taken;
}

/* Sends SUB <pattern>... [AFTER <position>]; on an error the reading will end as well. */
static void send_sub(const struct subscriber *sub, int fd)
{
	char *command = NULL;
	size_t length;
	FILE *text = open_memstream(&command, &length);
	if (text == NULL)
		die("open_memstream");
	fputs("SUB", text);
	for (char **pattern = sub->patterns; *pattern != NULL; pattern++)
		fprintf(text, " %s", *pattern);
	if (sub->position[0] != '\0')
		fprintf(text, " AFTER %s", sub->position);
	fputs("\n", text);
	if (fclose(text) != 0)
		die("open_memstream");
	for (size_t sent = 0; sent < length;) {
		ssize_t n = send(fd, command + sent, length - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			break;
		sent += n > 0 ? (size_t)n : 0;
	}
	free(command);
}

static void follow(struct subscriber *sub, int fd)
{
	sub->is_subscribed = false;
	sub->end = 0;
	send_sub(sub, fd);
	while (!sub->is_done) {
		if (sub->end == sub->size) {
			sub->size = sub->size > 0 ? 2 * sub->size : 1 << 18;
			sub->data = realloc(sub->data, sub->size);
			if (sub->data == NULL)
				die("realloc");
		}
		ssize_t received = recv(fd, sub->data + sub->end, sub->size - sub->end, 0);
		if (received < 0)
			perror("connection");
		if (received <= 0)
			break;
		sub->end += (size_t)received;
		size_t taken = take(sub);
		flush();
		sub->end -= taken;
		memmove(sub->data, sub->data + taken, sub->end);
	}
}

/* A connected socket, or -1 after a word on standard error. */
static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *addresses;
	int error = getaddrinfo(host, port, &hints, &addresses);
	if (error != 0) {
		fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
		return -1;
	}
	int fd = -1;
	for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
			perror("connection");
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(addresses);
	/* A server that vanished (power, network) is noticed by keepalive. */
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
	return fd;
}

static void run(struct subscriber *sub, const char *host, const char *port)
{
	while (!sub->is_done) {
		int fd = connect_to(host, port);
		if (fd >= 0) {
			follow(sub, fd);
			close(fd);
		}
		if (sub->is_done)
			break;
		fprintf(stderr, "connecting again in %g s\n", sub->pause_ms / 1000.0);
		struct timespec pause = {.tv_sec = sub->pause_ms / 1000,
		                         .tv_nsec = sub->pause_ms % 1000 * 1000000L};
		nanosleep(&pause, NULL);
		sub->pause_ms = sub->pause_ms < 2500 ? 2 * sub->pause_ms : 5000;
	}
}

int main(int argc, char **argv)
{
	struct subscriber sub = {.pause_ms = 100};
	int i = 1;
	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--after") == 0)
			snprintf(sub.position, sizeof(sub.position), "%s", argv[i + 1]);
		else if (strcmp(argv[i], "--count") == 0)
			sub.left = atol(argv[i + 1]);
		else
			break;
	}
	if (argc - i < 3) {
		fprintf(stderr, "usage: %s [--after POSITION] [--count N] HOST PORT PATTERN...\n",
		        argv[0]);
		return 2;
	}
	sub.patterns = argv + i + 2;
	run(&sub, argv[i], argv[i + 1]);
	free(sub.data);
	return 0;
}
