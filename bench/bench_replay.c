/* SPDX-License-Identifier: MIT */
/*
 * bench_replay [PSAD]: what those who look back cost those who look on. A daemon of its own (PSAD,
 * else $PSAD, else build/psad) holds a million messages. A publisher at a steady rate stamps more,
 * LIVE subscribers say how old they are on arrival; a reader asks READ > LAST 10 now and then, and
 * how long its answer takes. Beside that there is
 *
 *      nothing   what the others are compared with
 *      a spin    two processes that only count: what the machine's scheduler does to anybody when
 *                it has as many others to run
 *      a replay  of the whole log to one connection, over and over
 *      nosuch    NOSUCH times READ nosuch LAST 1 waiting on one connection, always
 *      last      a connection that asks READ > LAST 10 again as soon as it is answered
 *
 * in turn, ROUNDS times each; the table shows medians of the rounds' figures. On a machine that
 * others use too, ratios count, and only where they stand out from those of the spin.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	MESSAGES = 1000000, /* in the log before the first round */
	TOPICS = 1000,      /* that they are spread over */
	PAYLOAD_SIZE = 64,
	LIVE = 10,
	NOSUCH = 4000,
	ROUNDS = 11,
	ROUND_US = 1200 * 1000,
	PUBLISH_US = 2000,   /* between two messages */
	ASK_US = 10 * 1000,  /* between two questions, at least */
	STUCK_US = 30000000, /* after a round nothing can take so long */
	SAMPLES = 1 << 14,   /* of a round, at most */
	INPUT = 64 << 10,    /* bytes of one connection's input */
};

static const char last_10[] = "READ > LAST 10\n";
static uint16_t port;

static void die(const char *what)
{
	fprintf(stderr, "bench_replay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static pid_t start_process(void)
{
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* no orphans, however we end */
	return pid;
}

static void stop_process(pid_t pid)
{
	if (pid > 0 && kill(pid, SIGTERM) == 0)
		(void)waitpid(pid, NULL, 0);
}

/* Returns its process; the first lines that it says have set `port`. */
static pid_t start_daemon(const char *path)
{
	int ends[2];
	char line[512];
	pid_t pid = pipe(ends) == 0 ? start_process() : -1;

	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		execl(path, path, "-o", "listen.tcp=127.0.0.1:0", "-o", "log.retain_bytes=512M",
		      NULL);
		_exit(1);
	}
	close(ends[1]);
	FILE *said = fdopen(ends[0], "r");
	while (port == 0 && said != NULL && fgets(line, sizeof line, said) != NULL)
		if (strstr(line, "listening on 127.0.0.1:") != NULL)
			port = (uint16_t)atoi(strrchr(line, ':') + 1);
	if (port == 0)
		die("the daemon does not say where it listens");
	return pid;
}

/* ---- a connection ---- */

struct peer {
	int fd;
	size_t begin, end; /* what has come and not been taken: input[begin..end) */
	char input[INPUT];
};

static int connect_to_daemon(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		die("connect");
	return fd;
}

static void send_all(int fd, const char *bytes, size_t n)
{
	for (ssize_t sent; n > 0; bytes += sent, n -= (size_t)sent)
		if ((sent = send(fd, bytes, n, MSG_NOSIGNAL)) < 0)
			die("send");
}

static void receive(struct peer *peer)
{
	memmove(peer->input, peer->input + peer->begin, peer->end - peer->begin);
	peer->end -= peer->begin;
	peer->begin = 0;
	ssize_t n = recv(peer->fd, peer->input + peer->end, INPUT - peer->end, 0);
	if (n <= 0)
		die("a connection was closed");
	peer->end += (size_t)n;
}

/* The next line that has come, or NULL. Payloads hold no LF here: each is a line of its own. */
static const char *next_line(struct peer *peer)
{
	const char *line = peer->input + peer->begin;
	const char *lf = memchr(line, '\n', peer->end - peer->begin);

	if (lf == NULL)
		return NULL;
	peer->begin += (size_t)(lf - line) + 1;
	return line;
}

/* Asks, and waits for the line that begins so. */
static void ask(struct peer *peer, const char *question, const char *answer)
{
	const char *line;

	send_all(peer->fd, question, strlen(question));
	while ((line = next_line(peer)) == NULL || strncmp(line, answer, strlen(answer)) != 0)
		if (line == NULL)
			receive(peer);
}

static void fill_log(struct peer *peer)
{
	FILE *stream = fdopen(dup(peer->fd), "w");

	for (int i = 0; i < MESSAGES && stream != NULL; i++)
		fprintf(stream, "PUB fill.%d %0*d\n", i % TOPICS, PAYLOAD_SIZE, i);
	if (stream == NULL || fclose(stream) != 0)
		die("filling the log");
	ask(peer, "PING\n", "PONG ");
}

/* ---- loads: processes of their own ---- */

static volatile uint64_t *progress; /* bytes or answers that the load, its one writer, has had */

static void load_spin(void)
{
	(void)start_process();
	for (;;)
		++*progress;
}

static void load_replay(void)
{
	int fd = connect_to_daemon();

	for (int i = 0; i < 1000; i++) /* more than a round can take */
		send_all(fd, "READ > AFTER 0\n", 15);
	/* What comes is thrown away unseen: what is measured runs on the same CPUs. */
	for (ssize_t n; (n = recv(fd, NULL, 1 << 20, MSG_TRUNC)) > 0;)
		*progress += (uint64_t)n;
}

static void load_nosuch(void)
{
	struct peer peer = {.fd = connect_to_daemon()};

	for (int waiting = 0;; waiting--, ++*progress) {
		for (; waiting < NOSUCH; waiting++)
			send_all(peer.fd, "READ nosuch LAST 1\n", 19);
		ask(&peer, "", "END ");
	}
}

static void load_last(void)
{
	struct peer peer = {.fd = connect_to_daemon()};

	for (;; ++*progress)
		ask(&peer, last_10, "END ");
}

static const struct setting {
	const char *name;
	void (*load)(void);
	const char *unit; /* of its progress */
	double units;
} settings[] = {
	{"nothing", NULL, "", 1},
	{"a spin", load_spin, "M/s", 1e6},
	{"a replay", load_replay, "MB/s", 1e6},
	{"nosuch", load_nosuch, "answers/s", 1},
	{"last", load_last, "answers/s", 1},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static pid_t start_load(void (*load)(void))
{
	*progress = 0;
	if (load == NULL)
		return 0;
	pid_t pid = start_process();
	if (pid == 0) {
		load();
		_exit(1);
	}
	for (; *progress == 0; usleep(1000))
		if (waitpid(pid, NULL, WNOHANG) != 0)
			die("a load ended");
	return pid;
}

/* ---- a round ---- */

enum kind { MESSAGE, ANSWER, KINDS };
enum { P50, P99, MOST, FIGURES };

static struct peer live[LIVE], publisher, asker;
static double samples[KINDS][SAMPLES]; /* microseconds */
static size_t counts[KINDS];
static uint64_t asked_us; /* when the asker asked; 0: it has its answer */
static double results[SETTINGS][KINDS][FIGURES][ROUNDS], rates[SETTINGS][ROUNDS];

static void note(enum kind kind, uint64_t since_us)
{
	if (counts[kind] < SAMPLES)
		samples[kind][counts[kind]++] = (double)(clock_mono_us() - since_us);
}

static void hear(struct peer *peer)
{
	receive(peer);
	for (const char *line; (line = next_line(peer)) != NULL;) {
		if (peer != &asker && *line == '0') /* a payload, else the line before it */
			note(MESSAGE, strtoull(line, NULL, 10));
		if (peer == &asker && *line == 'E') {
			note(ANSWER, asked_us);
			asked_us = 0;
		}
	}
}

/* Publishes and asks when it is time, listens in between; then until nothing is owed. */
static void run_round(void)
{
	struct pollfd fds[LIVE + 1];
	uint64_t next_us = clock_mono_us(), end_us = next_us + ROUND_US, ask_us = next_us;
	size_t owed = 0;

	for (int i = 0; i <= LIVE; i++)
		fds[i] = (struct pollfd){.fd = i < LIVE ? live[i].fd : asker.fd, .events = POLLIN};
	counts[MESSAGE] = counts[ANSWER] = 0;
	while (next_us < end_us || asked_us != 0 || counts[MESSAGE] < owed) {
		uint64_t now_us = clock_mono_us();
		for (; next_us <= now_us && next_us < end_us; next_us += PUBLISH_US, owed += LIVE)
			dprintf(publisher.fd, "PUB live %0*" PRIu64 "\n", PAYLOAD_SIZE,
			        clock_mono_us());
		if (asked_us == 0 && now_us >= ask_us && now_us < end_us) {
			asked_us = clock_mono_us();
			ask_us = asked_us + ASK_US;
			send_all(asker.fd, last_10, sizeof last_10 - 1);
		}
		uint64_t wait_us = next_us > now_us ? next_us - now_us : 1;
		const struct timespec timeout = {.tv_nsec = (long)wait_us * 1000};
		if (ppoll(fds, LIVE + 1, &timeout, NULL) < 0 || now_us > end_us + STUCK_US)
			die("messages or answers are missing");
		for (int i = 0; i <= LIVE; i++)
			if (fds[i].revents != 0)
				hear(i < LIVE ? &live[i] : &asker);
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(int setting, int round)
{
	pid_t load = start_load(settings[setting].load);
	uint64_t begin_us = clock_mono_us(), before = *progress;

	run_round();
	double seconds = (double)(clock_mono_us() - begin_us) / 1e6;
	rates[setting][round] = (double)(*progress - before) / settings[setting].units / seconds;
	stop_process(load);
	for (int kind = 0; kind < KINDS; kind++) {
		double(*result)[ROUNDS] = results[setting][kind], *us = samples[kind];
		size_t n = counts[kind];
		qsort(us, n, sizeof *us, compare);
		result[P50][round] = us[n / 2];
		result[P99][round] = us[n * 99 / 100];
		result[MOST][round] = us[n - 1];
	}
}

static double median(double *of_rounds)
{
	qsort(of_rounds, ROUNDS, sizeof *of_rounds, compare);
	return of_rounds[ROUNDS / 2];
}

static void print_table(enum kind kind, const char *what)
{
	double base[FIGURES] = {0}, now[FIGURES];

	printf("\n%-24s %8s %8s %8s     to nothing: %5s %7s %7s\n", what, "p50 us", "p99 us",
	       "max us", "p50", "p99", "max");
	for (int i = 0; i < SETTINGS; i++) {
		for (int figure = 0; figure < FIGURES; figure++) {
			now[figure] = median(results[i][kind][figure]);
			base[figure] = i == 0 ? now[figure] : base[figure];
		}
		printf("beside %-17s %8.0f %8.0f %8.0f     %15.2fx %6.2fx %6.2fx\n",
		       settings[i].name, now[P50], now[P99], now[MOST], now[P50] / base[P50],
		       now[P99] / base[P99], now[MOST] / base[MOST]);
	}
}

static void print_machine(const char *path)
{
	struct utsname system;
	double load = -1;

	(void)uname(&system);
	(void)getloadavg(&load, 1);
	printf("# %ld cpus, %s %s %s, load %.1f before the start; %s\n"
	       "# %d messages of %d bytes, %d subscribers; medians of %d rounds of %d ms\n",
	       sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release, system.machine, load,
	       path, MESSAGES, PAYLOAD_SIZE, LIVE, ROUNDS, ROUND_US / 1000);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : getenv("PSAD");

	path = path == NULL ? "build/psad" : path;
	if (access(path, X_OK) != 0) {
		printf("bench_replay: skipped: there is no daemon at %s (make builds it)\n", path);
		return 0;
	}
	progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	                -1, 0);
	if (progress == MAP_FAILED)
		die("mmap");
	print_machine(path);
	pid_t daemon = start_daemon(path);
	publisher.fd = connect_to_daemon();
	ask(&publisher, "ACKS OFF\n", "OK");
	fill_log(&publisher);
	for (int i = 0; i < LIVE; i++) {
		live[i].fd = connect_to_daemon();
		ask(&live[i], "SUB live\n", "OK ");
	}
	asker.fd = connect_to_daemon();
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < SETTINGS; i++)
			measure(i, round);
	print_table(MESSAGE, "live messages");
	print_table(ANSWER, "answers to READ > LAST 10");
	printf("\nmeanwhile:");
	for (int i = 1; i < SETTINGS; i++)
		printf("%s %s %.0f %s", i > 1 ? "," : "", settings[i].name, median(rates[i]),
		       settings[i].unit);
	printf("\n");
	stop_process(daemon);
	return 0;
}
