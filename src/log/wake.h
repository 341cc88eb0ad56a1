/* SPDX-License-Identifier: MIT */
/*
 * wake: one place to sleep, for a thread that waits for the log and for its sockets at once. The
 * only door to ck_ec.
 *
 * ck_ec lets its user supply how to wait and how to wake. Here waiting is one turn of the sleeper's
 * own event loop (an upcall: this module knows no event library), and waking is a write to the
 * eventfd of each sleeper that said it was parked. The eventfd is registered edge-triggered by its
 * owner and never read.
 *
 *     seen = wake_value();          before looking at the log
 *     ... look at the log, do all work ...
 *     wake_wait(seen);              one turn; returns at once when somebody rang since
 *
 * No ring is lost: the sleeper publishes `parked`, fences, and looks at the counter again; the
 * ringer raises the counter, fences, and looks at `parked` (Dekker). The comparison is of ck_ec's
 * raw word, flag bit included: comparing values lets a sleeper sleep through a cleared flag.
 */
#ifndef PSAD_LOG_WAKE_H
#define PSAD_LOG_WAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wake;

struct sleeper {
	/* [O6] wake_wait: store, full fence, load of the counter; wake_ring: add, full fence,
	 * load. Whichever comes second sees the other. */
	uint32_t parked;
	int eventfd;          /* written by ringers; the owner closes it */
	void (*turn)(void *); /* one turn of the loop, until something happens */
	void *context;
	bool has_turned;
};

/* NULL: no memory. Thread: startup. */
struct wake *wake_new(size_t max_sleepers);
void wake_free(struct wake *wake);
/* The sleeper stays where it is as long as the wake. Thread: startup, while others may ring. */
void wake_add(struct wake *wake, struct sleeper *sleeper);

/* What to hand to wake_wait(); an acquire. Thread: any. */
uint64_t wake_value(const struct wake *wake);

/*
 * Runs at most one turn of the sleeper's loop, none when somebody rang after `seen` was taken.
 * Returns whether the turn was run. Thread: the sleeper's own.
 */
bool wake_wait(struct wake *wake, struct sleeper *sleeper, uint64_t seen);

/* The first thing that every callback of the loop does: we are awake. Thread: the sleeper's own. */
void wake_stir(struct sleeper *sleeper);

/* Tells everybody to look at the log; one atomic add when nobody sleeps. A release. Thread: any. */
void wake_ring(struct wake *wake);

/* Times that an eventfd was written, since the start. Thread: any. */
uint64_t wake_rings(const struct wake *wake);

#endif
