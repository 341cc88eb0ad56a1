/* SPDX-License-Identifier: MIT */
#include "log/wake.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>

#include <ck_ec.h>

#include "base/atomic.h"

struct wake {
	_Alignas(CACHE_LINE) struct ck_ec64 count;
	_Alignas(CACHE_LINE) struct ck_ec_ops ops; /* first in its line: wake_all finds us by it */
	uint64_t rings;
	/* [O27] wake_add: release, when the sleeper stands in its place; wake_all: acquire. The
	 * log's threads ring before there is a worker. */
	uint64_t sleeper_count;
	size_t max_sleepers;
	struct sleeper *sleepers[];
};

static int get_time(const struct ck_ec_ops *ops, struct timespec *out)
{
	(void)ops;
	return clock_gettime(CLOCK_MONOTONIC, out);
}

/*
 * ck_ec_ops.wait64. The deadline is ck_ec's back-off for its single-producer mode, which we do not
 * use; a ring always finds us.
 */
static void park(const struct ck_ec_wait_state *state, const uint64_t *word, uint64_t expected,
                 const struct timespec *deadline)
{
	(void)deadline;
	struct sleeper *sleeper = state->data;
	atomic32_store_relaxed(&sleeper->parked, 1);
	fence_full(); /* [O6] parked before the look at the counter */
	if (atomic64_load_acquire(word) == expected) {
		sleeper->has_turned = true;
		sleeper->turn(sleeper->context);
	}
	atomic32_store_relaxed(&sleeper->parked, 0);
}

/* ck_ec_ops.wake64: runs where somebody has set the flag bit, i.e. may be parked. */
static void wake_all(const struct ck_ec_ops *ops, const uint64_t *word)
{
	(void)word;
	struct wake *wake =
		(struct wake *)(void *)((char *)(uintptr_t)ops - offsetof(struct wake, ops));
	fence_full(); /* [O6] the counter before the look at parked */
	uint64_t count = atomic64_load_acquire(&wake->sleeper_count); /* [O27] */
	for (size_t i = 0; i < count; i++) {
		struct sleeper *sleeper = wake->sleepers[i];
		if (atomic32_load_relaxed(&sleeper->parked) == 0)
			continue;
		if (atomic32_exchange(&sleeper->parked, 0) == 0)
			continue; /* somebody else rings this one */
		/* The counter of an eventfd can't overflow here: EAGAIN would mean 2^64-2 rings. */
		(void)eventfd_write(sleeper->eventfd, 1);
		atomic64_add(&wake->rings, 1);
	}
}

/* Any thread rings: ck_ec's mode for a single producer is a trick for one. */
static struct ck_ec_mode mode_of(const struct wake *wake)
{
	return (struct ck_ec_mode){.ops = &wake->ops, .single_producer = false};
}

struct wake *wake_new(size_t max_sleepers)
{
	size_t size = sizeof(struct wake) + max_sleepers * sizeof(struct sleeper *);
	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	struct wake *wake = aligned_alloc(CACHE_LINE, size);
	if (wake == NULL)
		return NULL;
	*wake = (struct wake){
		.ops = {.gettime = get_time,
	                .wait64 = park,
	                .wake64 = wake_all,
	                .busy_loop_iter = 1},
		.max_sleepers = max_sleepers,
	};
	ck_ec64_init(&wake->count, 0);
	return wake;
}

void wake_free(struct wake *wake)
{
	free(wake);
}

void wake_add(struct wake *wake, struct sleeper *sleeper)
{
	uint64_t count = atomic64_load_relaxed(&wake->sleeper_count); /* we alone write it */
	assert(count < wake->max_sleepers);
	wake->sleepers[count] = sleeper;
	atomic64_store_release(&wake->sleeper_count, count + 1); /* [O27] */
}

uint64_t wake_value(const struct wake *wake)
{
	return ck_ec64_value(&wake->count);
}

/* ck_ec asks this between waits: one turn is all that we want. */
static int has_turned(const struct ck_ec_wait_state *state, struct timespec *deadline)
{
	(void)deadline;
	const struct sleeper *sleeper = state->data;
	return sleeper->has_turned ? 1 : 0;
}

bool wake_wait(struct wake *wake, struct sleeper *sleeper, uint64_t seen)
{
	sleeper->has_turned = false;
	const struct ck_ec_mode mode = mode_of(wake);
	(void)ck_ec64_wait_pred(&wake->count, &mode, seen, has_turned, sleeper, NULL);
	return sleeper->has_turned;
}

void wake_stir(struct sleeper *sleeper)
{
	/* Only written when set: the line is shared with ringers. */
	if (atomic32_load_relaxed(&sleeper->parked) != 0)
		atomic32_store_relaxed(&sleeper->parked, 0);
}

void wake_ring(struct wake *wake)
{
	const struct ck_ec_mode mode = mode_of(wake);
	ck_ec64_inc(&wake->count, &mode);
}

uint64_t wake_rings(const struct wake *wake)
{
	return atomic64_load_relaxed(&wake->rings);
}
