/* SPDX-License-Identifier: MIT */
/*
 * subs: all subscribers of a run, on one epoll, in the caller's thread.
 *
 *     NEW -> CONNECTING -> GREETING -> GREETED -> SUBSCRIBING -> READING -> GONE
 *
 * Those of a storm (START_RESUME) go from CONNECTING to SUBSCRIBING at once, and those of raw have
 * nobody to greet.
 *
 * Where only bytes need to be counted (not with latency, not where a subscriber's bytes can't be
 * known), the kernel throws them away unseen (MSG_TRUNC). Subscriber 0 always reads and verifies.
 * Thread: one.
 */
#ifndef LOAD_SUBS_H
#define LOAD_SUBS_H

#include "histogram.h"
#include "plan.h"

struct subs_result {
	uint64_t deliveries; /* from bytes where only these were counted */
	uint64_t bytes;
	uint64_t last_ns; /* when the last of them had all it is owed */
	uint64_t unfinished, disconnected, stopped_disconnected;
	uint64_t gaps, errors;
	char reason[256]; /* of the first error, or "" */
};

struct subs;

/*
 * Prepares options->subs + options->stopped of them. `shares`: of the former; owned by the caller.
 * `where`: psad's start. `latency`: NULL, or where to count. Dies if it can't.
 */
struct subs *subs_open(const struct options *options, const struct share *shares,
                       bool has_byte_counts, const char *where, struct histogram *latency);
/*
 * Each begins what its name says and goes on until all have done so (true) or `deadline_ns` is over
 * (false). subs_storm connects and subscribes and does not wait; nor does subs_subscribe, unless
 * `does_wait`.
 */
bool subs_connect(struct subs *subs, uint64_t deadline_ns);
bool subs_subscribe(struct subs *subs, bool does_wait, uint64_t deadline_ns);
void subs_storm(struct subs *subs);
/* What comes from now on are messages. `done_fd` >= 0: subs_finish also waits for it. */
void subs_begin(struct subs *subs, int done_fd);
/* Until all have what they are owed. */
bool subs_finish(struct subs *subs, uint64_t deadline_ns);
/* Listens until then. */
void subs_linger(struct subs *subs, uint64_t until_ns);
/* Closes all, by resets, and frees. */
void subs_close(struct subs *subs, struct subs_result *result);

#endif
