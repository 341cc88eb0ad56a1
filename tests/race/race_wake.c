/* SPDX-License-Identifier: MIT */
/*
 * race_wake [SECONDS [SEED]]: sleeping and ringing under torture.
 *
 * Publishers raise counters and ring; sleepers look at the counters and sleep. The publishers go in
 * rounds: each adds a few times, and then all wait, without another ring, until every sleeper has
 * seen what the round came to. So that a single ring that is lost leaves a sleeper behind for good,
 * which a deadline finds. Some sleepers sleep as workers do, in epoll_wait with their eventfd
 * edge-triggered and never read; some poll and read it; some only try to read it all the time,
 * which brings them back sooner than the kernel could.
 *
 * Now and then everybody is stopped and started anew: with a flag and a ring, or with a flag and a
 * direct write to the sleeper's eventfd, as one who puts a thing into a worker's mailbox does.
 *
 * Ends with 0 and the counts, or says what was wrong and ends with 1.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "log/wake.h"
#define SHAKE_EVERY 30 /* a ring has few functions */
#include "race_shake.h"

#ifndef DEADLINE_MS
#define DEADLINE_MS 30000 /* for a sleeper to see what it was rung for */
#endif

enum {
	PUBLISHERS_MAX = 32,
	SLEEPERS_MAX = 64,
	BURST_MAX = 6,
	SPIN_BITS = 17, /* pauses of up to 2^17 rounds of an empty loop: as long as a turn takes */
	LIFE_MS = 150,  /* about so long before everybody is stopped and started anew */
};

struct publisher {
	_Alignas(CACHE_LINE) uint64_t count; /* written by this one, looked at by all */
	pthread_t thread;
	uint64_t random;
};

struct napper {
	_Alignas(CACHE_LINE) struct sleeper sleeper;
	uint64_t noise;                     /* in the sleeper's line */
	_Alignas(CACHE_LINE) uint64_t seen; /* the sum of all counts */
	uint32_t is_gone;
	pthread_t thread;
	enum { NAP_EPOLL, NAP_POLL, NAP_BUSY, NAP_KINDS } kind;
	int epoll; /* of NAP_EPOLL, else -1 */
	uint64_t turns, looks;
};

static uint64_t seed;
static struct wake *wake;
static struct publisher publishers[PUBLISHERS_MAX];
static struct napper nappers[SLEEPERS_MAX];
static unsigned publisher_count, napper_count; /* of this life */
static unsigned most_publishers, most_nappers;

static uint32_t is_over; /* the publishers' end: they take it over together, between rounds */
static uint32_t is_last_round;
static uint32_t is_stop; /* for sleepers */
static uint64_t rounds, arrived;

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list arguments;
	char text[512];

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	fprintf(stderr, "race_wake: WRONG (seed %" PRIu64 "): %s\n", seed, text);
	_exit(1);
}

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail(__VA_ARGS__);                                                         \
	} while (0)

static uint64_t draw(uint64_t *random)
{
	uint64_t x = *random += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t sum_of_counts(void)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < publisher_count; i++)
		sum += atomic64_load_acquire(&publishers[i].count);
	return sum;
}

/* ---- sleepers ---- */

static const char *const kind_names[] = {"epoll", "poll", "busy"};

static void turn(void *context)
{
	struct napper *napper = context;
	eventfd_t count;
	struct pollfd ready = {.fd = napper->sleeper.eventfd, .events = POLLIN};
	struct epoll_event event;

	napper->turns++;
	switch (napper->kind) {
	case NAP_EPOLL:
		(void)epoll_wait(napper->epoll, &event, 1, -1);
		wake_stir(&napper->sleeper);
		break;
	case NAP_POLL:
		(void)poll(&ready, 1, -1);
		wake_stir(&napper->sleeper);
		(void)eventfd_read(napper->sleeper.eventfd, &count);
		break;
	case NAP_BUSY:
		for (unsigned i = 1; eventfd_read(napper->sleeper.eventfd, &count) != 0; i++)
			if (i % 64 == 0)
				sched_yield();
		wake_stir(&napper->sleeper);
		break;
	case NAP_KINDS:
		break;
	}
}

static void *nap(void *context)
{
	struct napper *napper = context;
	uint64_t last = 0;

	for (;;) {
		uint64_t value = wake_value(wake);
		uint64_t sum = sum_of_counts();
		CHECK(sum >= last, "the counts fell from %" PRIu64 " to %" PRIu64, last, sum);
		last = sum;
		napper->looks++;
		atomic64_store_release(&napper->seen, sum);
		if (atomic32_load_acquire(&is_stop) != 0)
			break;
		(void)wake_wait(wake, &napper->sleeper, value);
	}
	atomic32_store_release(&napper->is_gone, 1);
	return NULL;
}

/* ---- publishers ---- */

/* A pause of any order of magnitude: some ring comes just when a sleeper is about to park. */
static void spin(uint64_t *random)
{
	for (uint64_t n = draw(random) % (2ULL << draw(random) % SPIN_BITS); n > 0; n--)
		__asm__ volatile("" ::: "memory");
	if (draw(random) % 16 == 0)
		sched_yield();
}

/*
 * Takes the cache lines that hold `parked` to this processor: a sleeper's store to it then waits
 * for the line, while a look at it here is quick. Where a fence is missing, this shows it.
 */
static void take_lines(void)
{
	for (unsigned i = 0; i < napper_count; i++)
		atomic64_store_relaxed(&nappers[i].noise, 1);
}

/* All have published: now everybody must get there, without another ring. */
static void settle(void)
{
	const uint64_t sum = sum_of_counts(), deadline_ms = clock_mono_ms() + DEADLINE_MS;

	for (unsigned i = 0; i < napper_count; i++)
		while (atomic64_load_acquire(&nappers[i].seen) != sum) {
			CHECK(clock_mono_ms() < deadline_ms,
			      "sleeper %u (%s) was left behind at %" PRIu64 " of %" PRIu64
			      " in round %" PRIu64,
			      i, kind_names[nappers[i].kind],
			      atomic64_load_acquire(&nappers[i].seen), sum,
			      atomic64_load_acquire(&rounds));
			sched_yield();
		}
}

static void *publish(void *context)
{
	struct publisher *publisher = context;

	for (uint64_t round = 0; atomic32_load_acquire(&is_last_round) == 0; round++) {
		for (uint64_t n = draw(&publisher->random) % (BURST_MAX + 1); n > 0; n--) {
			spin(&publisher->random);
			atomic64_store_release(&publisher->count, publisher->count + 1);
			if (draw(&publisher->random) % 2 == 0)
				take_lines();
			wake_ring(wake);
		}
		/* The last to arrive waits for the sleepers, the others for the last. */
		if (atomic64_add(&arrived, 1) + 1 == (round + 1) * publisher_count) {
			settle();
			atomic32_store_release(&is_last_round, atomic32_load_acquire(&is_over));
			atomic64_add(&rounds, 1);
		}
		while (atomic64_load_acquire(&rounds) == round)
			sched_yield();
	}
	return NULL;
}

/* ---- one life of everybody ---- */

static void napper_prepare(struct napper *napper, unsigned kind)
{
	const bool is_epoll = kind == NAP_EPOLL;

	memset(napper, 0, sizeof *napper);
	napper->sleeper.eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	napper->kind = kind;
	napper->sleeper.turn = turn;
	napper->sleeper.context = napper;
	napper->epoll = is_epoll ? epoll_create1(EPOLL_CLOEXEC) : -1;
	CHECK(napper->sleeper.eventfd >= 0 && (!is_epoll || napper->epoll >= 0), "no descriptor");
	if (is_epoll) {
		struct epoll_event event = {.events = EPOLLIN | EPOLLET};
		CHECK(epoll_ctl(napper->epoll, EPOLL_CTL_ADD, napper->sleeper.eventfd, &event) == 0,
		      "epoll_ctl");
	}
	wake_add(wake, &napper->sleeper);
}

/* `by_ring`: sleepers are stopped with a ring, else each through its eventfd. */
static void stop_nappers(bool by_ring)
{
	const uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

	atomic32_store_release(&is_stop, 1);
	if (by_ring)
		wake_ring(wake);
	for (unsigned i = 0; !by_ring && i < napper_count; i++)
		(void)eventfd_write(nappers[i].sleeper.eventfd, 1);
	for (unsigned i = 0; i < napper_count; i++) {
		while (atomic32_load_acquire(&nappers[i].is_gone) == 0) {
			CHECK(clock_mono_ms() < deadline_ms, "sleeper %u did not stop (by %s)", i,
			      by_ring ? "ring" : "eventfd");
			sched_yield();
		}
		pthread_join(nappers[i].thread, NULL);
		close(nappers[i].sleeper.eventfd);
		if (nappers[i].epoll >= 0)
			close(nappers[i].epoll);
	}
}

struct totals {
	uint64_t lives, rounds, published, rings, turns, looks;
};

static void live(uint64_t *random, uint64_t end_ms, struct totals *totals)
{
	const uint64_t until_ms = clock_mono_ms() + draw(random) % LIFE_MS;

	/* A lone sleeper has nobody whose comings and goings would wake it by accident. */
	napper_count = draw(random) % 2 == 0 ? 1 : 1 + (unsigned)(draw(random) % most_nappers);
	publisher_count = 1 + (unsigned)(draw(random) % most_publishers);
	wake = wake_new(napper_count);
	CHECK(wake != NULL, "no memory");
	is_over = is_last_round = is_stop = 0;
	rounds = arrived = 0;
	memset(publishers, 0, sizeof publishers);
	for (unsigned i = 0; i < napper_count; i++)
		napper_prepare(&nappers[i], (unsigned)draw(random) % NAP_KINDS);
	for (unsigned i = 0; i < napper_count; i++)
		CHECK(pthread_create(&nappers[i].thread, NULL, nap, &nappers[i]) == 0, "no thread");
	for (unsigned i = 0; i < publisher_count; i++) {
		publishers[i].random = draw(random);
		CHECK(pthread_create(&publishers[i].thread, NULL, publish, &publishers[i]) == 0,
		      "no thread");
	}
	while (clock_mono_ms() < until_ms && clock_mono_ms() < end_ms)
		(void)poll(NULL, 0, 1);
	atomic32_store_release(&is_over, 1);
	for (unsigned i = 0; i < publisher_count; i++)
		pthread_join(publishers[i].thread, NULL);
	/* Each ring counts, however many come at once. */
	CHECK(wake_value(wake) == sum_of_counts(), "%" PRIu64 " rings came to %" PRIu64,
	      sum_of_counts(), wake_value(wake));
	stop_nappers(draw(random) % 2 == 0);
	totals->lives++;
	totals->rounds += rounds;
	totals->published += sum_of_counts();
	totals->rings += wake_rings(wake);
	for (unsigned i = 0; i < napper_count; i++) {
		totals->turns += nappers[i].turns;
		totals->looks += nappers[i].looks;
	}
	wake_free(wake);
}

int main(int argc, char **argv)
{
	const double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct totals totals = {0};

	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : clock_mono_us() ^ (uint64_t)getpid() << 32;
	most_nappers = cpus < 4 ? 4 : cpus > SLEEPERS_MAX ? SLEEPERS_MAX : (unsigned)cpus;
	most_publishers = most_nappers / 2 > PUBLISHERS_MAX ? PUBLISHERS_MAX : most_nappers / 2;
	printf("race_wake: up to %u publishers and %u sleepers, %g s, seed %" PRIu64 "\n",
	       most_publishers, most_nappers, seconds, seed);
	fflush(stdout);
	uint64_t random = seed;
	const uint64_t end_ms = clock_mono_ms() + (uint64_t)(seconds * 1000);
	do
		live(&random, end_ms, &totals);
	while (clock_mono_ms() < end_ms);
	printf("race_wake: %" PRIu64 " lives, %" PRIu64 " rounds, published %" PRIu64
	       ", eventfds written %" PRIu64 ", turns %" PRIu64 ", looks %" PRIu64 "\n",
	       totals.lives, totals.rounds, totals.published, totals.rings, totals.turns,
	       totals.looks);
	CHECK(totals.turns > 0 && totals.rings > 0, "nobody slept");
	return 0;
}
