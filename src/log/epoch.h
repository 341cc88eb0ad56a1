/* SPDX-License-Identifier: MIT */
/*
 * epoch: memory that others may still be looking at. The only door to ck_epoch.
 *
 * Readers look at shared memory inside a section (epoch_enter .. epoch_leave). A reclaimer takes a
 * thing out of everybody's reach, then defers its release; the release runs, from its own
 * epoch_poll(), when every section that was open at that time has been left. There are two of them:
 * the keeper, and in durable logs the warmer.
 *
 * Sections are short: they never span a turn of an event loop, since one open section holds up all
 * reclamation. They may nest. epoch.c is also the one place that tells ThreadSanitizer of the order
 * that a grace period makes.
 */
#ifndef PSAD_LOG_EPOCH_H
#define PSAD_LOG_EPOCH_H

#include <stdbool.h>
#include <stddef.h>

#include <ck_epoch.h>

struct epoch {
	ck_epoch_t ck;
};

/*
 * A thread's part in an epoch. Lives in memory aligned to 64 bytes, at a fixed place, as long as
 * the epoch itself (ck keeps pointers to records for ever).
 */
struct epoch_thread {
	ck_epoch_record_t record;
	struct epoch *epoch;
	unsigned depth; /* of nested sections */
};

/* Embedded in what is to be released. */
struct epoch_deferred {
	/* [O26] epoch_defer: full fence, then ck looks at the epoch; epoch_enter: full fence, then
	 * it looks, and only then at what may be deferred. */
	ck_epoch_entry_t entry;
	void (*release)(struct epoch_deferred *deferred, void *context);
	void *context;
	struct epoch *epoch;
};

/* Makes the epoch ready for its threads. Thread: startup. */
void epoch_init(struct epoch *epoch);
/* Makes `thread` a part of the epoch. Thread: startup, or the one that will use it. */
void epoch_register(struct epoch *epoch, struct epoch_thread *thread);

/* Begins and ends a section. Thread: the record's owner. */
void epoch_enter(struct epoch_thread *thread);
void epoch_leave(struct epoch_thread *thread);
static inline bool epoch_is_inside(const struct epoch_thread *thread)
{
	return thread->depth > 0;
}

/*
 * Calls release(deferred, context) from a later epoch_poll(), when nobody can still be looking.
 * Thread: a reclaimer, inside or outside a section.
 */
void epoch_defer(struct epoch_thread *thread, struct epoch_deferred *deferred,
                 void (*release)(struct epoch_deferred *, void *), void *context);

/*
 * Runs what releases have become possible; never waits. A release needs several polls to come
 * through. Thread: the reclaimer that deferred it, outside sections.
 */
void epoch_poll(struct epoch_thread *thread);

/* Waits until all deferred releases have run. Thread: the reclaimer, when all others are gone. */
void epoch_drain(struct epoch_thread *thread);

#endif
