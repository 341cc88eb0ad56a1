/* SPDX-License-Identifier: MIT */
/*
 * plan: the sequence of messages of a run, and what each subscriber is owed of it. Messages are
 * numbered from 0; number k of the sequence is the same for all who ask.
 */
#ifndef LOAD_PLAN_H
#define LOAD_PLAN_H

#include "options.h"
#include "text.h"

struct plan {
	const struct options *options;
	struct text topic, also;
	uint64_t begin; /* the first that is measured: options->preload */
	uint64_t total;
};

/* What one subscriber is owed. */
struct share {
	uint64_t messages, bytes;
};

void plan_make(struct plan *plan, const struct options *options);
/* Writes the topic of message k, no NUL; returns its size. */
size_t plan_topic(const struct plan *plan, uint64_t k, char *at);
/*
 * Fills in options->subs shares. `base` is the id before message 0. Returns whether `bytes` are
 * right: they are not where publishers race for ids and a subscriber gets only some.
 */
bool plan_shares(const struct plan *plan, uint64_t base, struct share *shares);
/* Whether a filter of this protocol, in psad's syntax, matches. Both end with a NUL. */
bool plan_matches(enum proto proto, const char *filter, const char *topic);

#endif
