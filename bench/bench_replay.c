/* SPDX-License-Identifier: MIT */
/*
 * bench_replay [PSAD [OPTION ...]]: what those who look back cost those who look on. A daemon of its
 * own (else $PSAD, else build/psad; options go to it) holds a million messages. A publisher at a
 * steady rate stamps its messages, and LIVE subscribers say how old they are on arrival; a reader
 * asks READ > LAST 10 now and then, and how long its answer takes. Meanwhile there is
 *
 *      nothing    else: what the others are compared with
 *      a copy     two processes that send bytes to each other without psad: what of the rest is
 *                 the machine's doing, which has as many to run then
 *      a replay   of the whole log to one connection, over and over
 *      nosuch     THOUSANDS of READ nosuch LAST 1 waiting on one connection, always
 *      last       one connection that asks READ > LAST 10 again as soon as it is answered
 *
 * The settings take turns, ROUNDS times each; the table shows medians of the rounds' figures. On a
 * machine that others use too the ratios count, and those that the copy does not have as well.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
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
	LIVE = 10, /* subscribers */
	ROUNDS = 7,
	ROUND_US = 2000 * 1000,
	PUBLISH_US = 2000,  /* between two messages */
	ASK_US = 10 * 1000, /* between two READ > LAST 10 */
	THOUSANDS = 4000,   /* of READ nosuch LAST 1 under way */
	CHUNK = 1 << 18,    /* bytes of a load's reads */
	INPUT = 64 << 10,   /* of one connection's input */
	SAMPLES = 1 << 14,  /* of a round, at most */
	STUCK_MS = 30 * 1000,
};

static const char ask[] = "READ > LAST 10\n";

static void die(const char *what)
{
	fprintf(stderr, "bench_replay: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the daemon ---- */

static uint16_t port;
static pid_t daemon_pid;

static void stop_daemon(void)
{
	kill(daemon_pid, SIGTERM);
	(void)waitpid(daemon_pid, NULL, 0);
}

static void run_daemon(const char *path, char **options)
{
	char *arguments[64] = {"psad", "-o", "listen.tcp=127.0.0.1:0", "-o",
	                       "log.retain_bytes=512M"};
	size_t n = 5;

	while (*options != NULL && n < 63)
		arguments[n++] = *options++;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execv(path, arguments);
	die(path);
}

/* Its first lines say where it listens; what it says later is dropped with the pipe's other end. */
static void start_daemon(const char *path, char **options)
{
	int ends[2];
	char line[512];

	if (pipe(ends) != 0 || (daemon_pid = fork()) < 0)
		die("fork");
	if (daemon_pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		run_daemon(path, options);
	}
	close(ends[1]);
	FILE *said = fdopen(ends[0], "r");
	while (port == 0 && fgets(line, sizeof line, said) != NULL) {
		const char *at = strstr(line, "listening on 127.0.0.1:");
		if (at != NULL)
			port = (uint16_t)atoi(strrchr(at, ':') + 1);
		else
			fputs(line, stderr);
	}
	if (port == 0)
		exit(1);
	atexit(stop_daemon);
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
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent < 0)
			die("send");
		bytes += sent;
		n -= (size_t)sent;
	}
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

/* The next whole line, or MSG with its payload; its first byte and how many. NULL: not yet. */
static const char *next_item(struct peer *peer, size_t *n)
{
	const char *at = peer->input + peer->begin;
	size_t here = peer->end - peer->begin;
	const char *lf = memchr(at, '\n', here);

	if (lf == NULL)
		return NULL;
	*n = (size_t)(lf - at) + 1;
	if (strncmp(at, "MSG ", 4) == 0) {
		const char *size = memrchr(at, ' ', *n);
		*n += (size_t)atoi(size + 1) + 1;
	}
	if (*n > here)
		return NULL;
	peer->begin += *n;
	return at;
}

/* Waits for a line that begins so. */
static void expect(struct peer *peer, const char *word)
{
	size_t n;
	for (;;) {
		const char *item = next_item(peer, &n);
		if (item == NULL)
			receive(peer);
		else if (strncmp(item, word, strlen(word)) == 0)
			return;
	}
}

static void open_peer(struct peer *peer, const char *request, const char *answer)
{
	peer->fd = connect_to_daemon();
	send_all(peer->fd, request, strlen(request));
	expect(peer, answer);
}

static void fill_log(struct peer *peer)
{
	char batch[100 * 128];

	for (int done = 0; done < MESSAGES;) {
		size_t n = 0;
		for (int i = 0; i < 100; i++, done++)
			n += (size_t)sprintf(batch + n, "PUB fill.%d %0*d\n", done % TOPICS,
			                     PAYLOAD_SIZE, done);
		send_all(peer->fd, batch, n);
	}
	send_all(peer->fd, "PING\n", 5);
	expect(peer, "PONG ");
}

/* ---- loads: processes of their own ---- */

/* What a load has got through, shared with it. */
static struct progress {
	uint64_t bytes;
	uint64_t lines;
} * progress;

static char chunk[CHUNK];

/* Bytes that are only thrown away cost least of the machine; where they count they are looked at. */
static ssize_t swallow(int fd, int flags)
{
	ssize_t n = recv(fd, chunk, sizeof chunk, flags);
	if (n <= 0)
		_exit(1);
	__atomic_fetch_add(&progress->bytes, (uint64_t)n, __ATOMIC_RELAXED);
	return n;
}

static uint64_t swallow_lines(int fd)
{
	ssize_t n = swallow(fd, 0);
	uint64_t lines = 0;
	for (const char *at = chunk; (at = memchr(at, '\n', (size_t)(chunk + n - at))) != NULL;
	     at++)
		lines++;
	__atomic_fetch_add(&progress->lines, lines, __ATOMIC_RELAXED);
	return lines;
}

static void load_copy(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		_exit(1);
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			send_all(ends[0], chunk, sizeof chunk);
	}
	for (;;)
		(void)swallow(ends[1], 0);
}

static void load_replay(void)
{
	int fd = connect_to_daemon();
	for (int i = 0; i < 1000; i++) /* one after the other, more than a round can take */
		send_all(fd, "READ > AFTER 0\n", 15);
	for (;;)
		(void)swallow(fd, MSG_TRUNC);
}

static void load_nosuch(void)
{
	int fd = connect_to_daemon();
	uint64_t asked = 0, answered = 0;

	for (;;) {
		for (; asked < answered + THOUSANDS; asked++)
			send_all(fd, "READ nosuch LAST 1\n", 19);
		answered += swallow_lines(fd);
	}
}

static void load_last(void)
{
	struct peer peer = {.fd = connect_to_daemon()};

	for (;;) {
		send_all(peer.fd, ask, sizeof ask - 1);
		expect(&peer, "END ");
		__atomic_fetch_add(&progress->lines, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&progress->bytes, 1, __ATOMIC_RELAXED);
	}
}

static pid_t start_load(void (*load)(void))
{
	*progress = (struct progress){.bytes = 0};
	if (load == NULL)
		return 0;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		load();
	}
	while (__atomic_load_n(&progress->bytes, __ATOMIC_RELAXED) == 0) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			die("a load ended");
		usleep(1000);
	}
	return pid;
}

/* ---- a round ---- */

enum kind { MESSAGE, ANSWER, KINDS };
enum { P50, P99, WORST, FIGURES };

static struct peer live[LIVE], publisher, asker;
static struct {
	uint32_t us[SAMPLES];
	size_t count;
} samples[KINDS];
static uint64_t asked_us; /* when the asker asked; 0: it has its answer */

static void note(enum kind kind, uint64_t since_us)
{
	if (samples[kind].count < SAMPLES)
		samples[kind].us[samples[kind].count++] = (uint32_t)(clock_mono_us() - since_us);
}

static void publish(void)
{
	char text[128];
	int n = sprintf(text, "PUB live %0*" PRIu64 "\n", PAYLOAD_SIZE, clock_mono_us());
	send_all(publisher.fd, text, (size_t)n);
}

static void hear(struct peer *peer)
{
	const char *item;
	size_t n;

	receive(peer);
	while ((item = next_item(peer, &n)) != NULL)
		note(MESSAGE, strtoull(item + n - PAYLOAD_SIZE - 1, NULL, 10));
}

static void hear_answer(void)
{
	const char *item;
	size_t n;

	receive(&asker);
	while ((item = next_item(&asker, &n)) != NULL)
		if (strncmp(item, "END ", 4) == 0) {
			note(ANSWER, asked_us);
			asked_us = 0;
		}
}

/* Publishes and asks when it is time, listens in between; at the end until nothing is owed. */
static void run_round(void)
{
	struct pollfd fds[LIVE + 1];
	uint64_t next_us = clock_mono_us(), end_us = next_us + ROUND_US, ask_us = next_us;
	size_t published = 0;

	for (int i = 0; i < LIVE; i++)
		fds[i] = (struct pollfd){.fd = live[i].fd, .events = POLLIN};
	fds[LIVE] = (struct pollfd){.fd = asker.fd, .events = POLLIN};
	samples[MESSAGE].count = samples[ANSWER].count = 0;
	while (next_us < end_us || asked_us != 0 || samples[MESSAGE].count < published * LIVE) {
		uint64_t now_us = clock_mono_us();
		for (; next_us <= now_us && next_us < end_us; next_us += PUBLISH_US, published++)
			publish();
		if (asked_us == 0 && now_us >= ask_us && now_us < end_us) {
			asked_us = clock_mono_us();
			send_all(asker.fd, ask, sizeof ask - 1);
			ask_us = now_us + ASK_US;
		}
		uint64_t wait_us = next_us > now_us && next_us < end_us ? next_us - now_us : 1000;
		struct timespec timeout = {.tv_nsec = (long)wait_us * 1000};
		if (now_us > end_us + STUCK_MS * 1000ULL)
			die("messages or answers are missing");
		if (ppoll(fds, LIVE + 1, &timeout, NULL) < 0)
			die("ppoll");
		for (int i = 0; i < LIVE; i++)
			if (fds[i].revents != 0)
				hear(&live[i]);
		if (fds[LIVE].revents != 0)
			hear_answer();
	}
}

/* ---- settings ---- */

static const struct setting {
	const char *name;
	void (*load)(void);
} settings[] = {
	{"nothing", NULL},       {"a copy", load_copy}, {"a replay", load_replay},
	{"nosuch", load_nosuch}, {"last", load_last},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static double results[SETTINGS][KINDS][FIGURES][ROUNDS];
static double rates[SETTINGS][2][ROUNDS]; /* MB and lines a second that the load got through */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int compare_us(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void measure(int setting, int round)
{
	pid_t load = start_load(settings[setting].load);
	uint64_t begin_us = clock_mono_us();
	struct progress before = *progress;

	run_round();
	double seconds = (double)(clock_mono_us() - begin_us) / 1e6;
	rates[setting][0][round] = (double)(progress->bytes - before.bytes) / 1e6 / seconds;
	rates[setting][1][round] = (double)(progress->lines - before.lines) / seconds;
	if (load > 0) {
		kill(load, SIGKILL);
		(void)waitpid(load, NULL, 0);
	}
	for (int kind = 0; kind < KINDS; kind++) {
		uint32_t *us = samples[kind].us;
		size_t n = samples[kind].count;
		double(*result)[ROUNDS] = results[setting][kind];
		qsort(us, n, sizeof *us, compare_us);
		result[P50][round] = us[n / 2];
		result[P99][round] = us[n * 99 / 100];
		result[WORST][round] = us[n - 1];
	}
}

static double median(double *of_rounds)
{
	qsort(of_rounds, ROUNDS, sizeof *of_rounds, compare);
	return of_rounds[ROUNDS / 2];
}

static void print_table(enum kind kind, const char *what)
{
	double base[FIGURES];

	printf("\n%-26s %8s %8s %8s   %s\n", what, "p50 us", "p99 us", "max us",
	       "x nothing: p50, p99, max");
	for (int i = 0; i < SETTINGS; i++) {
		double now[FIGURES];
		for (int figure = 0; figure < FIGURES; figure++) {
			now[figure] = median(results[i][kind][figure]);
			if (i == 0)
				base[figure] = now[figure];
		}
		printf("beside %-19s %8.0f %8.0f %8.0f   %8.2f %8.2f %8.2f\n", settings[i].name,
		       now[P50], now[P99], now[WORST], now[P50] / base[P50], now[P99] / base[P99],
		       now[WORST] / base[WORST]);
	}
}

static void print_machine(const char *path)
{
	struct utsname system;
	double load[1] = {-1};

	(void)uname(&system);
	(void)getloadavg(load, 1);
	printf("# %ld cpus, %s %s %s, load %.1f before the start, %s\n",
	       sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release, system.machine,
	       load[0], path);
	printf("# %d messages of %d bytes; %d live subscribers, %d messages/s, READ > LAST 10 up to "
	       "%d times/s; medians of %d rounds of %d ms\n",
	       MESSAGES, PAYLOAD_SIZE, LIVE, 1000000 / PUBLISH_US, 1000000 / ASK_US, ROUNDS,
	       ROUND_US / 1000);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : getenv("PSAD");

	if (path == NULL)
		path = "build/psad";
	if (access(path, X_OK) != 0) {
		printf("bench_replay: skipped: there is no daemon at %s\n", path);
		return 0;
	}
	progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	                -1, 0);
	if (progress == MAP_FAILED)
		die("mmap");
	print_machine(path);
	start_daemon(path, argc > 1 ? argv + 2 : argv + 1);
	open_peer(&publisher, "ACKS OFF\n", "OK");
	uint64_t begin_us = clock_mono_us();
	fill_log(&publisher);
	printf("# filled in %.1f s\n", (double)(clock_mono_us() - begin_us) / 1e6);
	fflush(stdout);
	open_peer(&asker, ask, "END ");
	for (int i = 0; i < LIVE; i++)
		open_peer(&live[i], "SUB live\n", "OK ");
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < SETTINGS; i++)
			measure(i, round);
	print_table(MESSAGE, "live message");
	print_table(ANSWER, "answer to READ > LAST 10");
	printf("\nwhat went on meanwhile: a copy %.0f MB/s, a replay %.0f MB/s, nosuch %.0f "
	       "answers/s, last %.0f answers/s\n",
	       median(rates[1][0]), median(rates[2][0]), median(rates[3][1]), median(rates[4][1]));
	return 0;
}
