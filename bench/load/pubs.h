/* SPDX-License-Identifier: MIT */
/*
 * pubs: the publishers of one phase: connections that send messages [from, to) of a plan from a
 * thread of their own. What they will send is built before they start, where it fits into
 * PUBS_BUILT_MAX bytes and neither its pace nor its content is a matter of time.
 */
#ifndef LOAD_PUBS_H
#define LOAD_PUBS_H

#include <stdbool.h>

#include "histogram.h"
#include "plan.h"

enum { PUBS_BUILT_MAX = 512 << 20 };

struct pubs_result {
	bool is_complete; /* all was sent and, as far as the protocol can say, taken */
	uint64_t end_ns;  /* when that was known */
	uint64_t errors;
	char reason[256]; /* of the first error, or "" */
};

struct pubs;

/*
 * Connects and builds. `base` is the id before message 0 of the plan. Exits where it can't.
 * `ok_latency` may be NULL; it is pubs_join's caller's again when that returns.
 */
struct pubs *pubs_open(const struct plan *plan, uint64_t from, uint64_t to,
                       struct histogram *ok_latency);
void pubs_start(struct pubs *pubs);
/* Becomes readable when they are done. */
int pubs_done_fd(const struct pubs *pubs);
/* Stops them if they are not done; closes and frees. */
void pubs_join(struct pubs *pubs, struct pubs_result *result);

#endif
