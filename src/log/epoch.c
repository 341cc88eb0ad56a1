/* SPDX-License-Identifier: MIT */
/* Model: tests/models/epoch.pml */
/* Model: tests/models/genmc/defer.c */
#include "log/epoch.h"

#include <assert.h>

#include "base/atomic.h"

void epoch_init(struct epoch *epoch)
{
	ck_epoch_init(&epoch->ck);
}

void epoch_register(struct epoch *epoch, struct epoch_thread *thread)
{
	thread->epoch = epoch;
	thread->depth = 0;
	ck_epoch_register(&epoch->ck, &thread->record, NULL);
}

void epoch_enter(struct epoch_thread *thread)
{
	if (thread->depth++ == 0) /* [O26] ck's fence stands before its look at the epoch */
		ck_epoch_begin(&thread->record, NULL);
}

void epoch_leave(struct epoch_thread *thread)
{
	assert(thread->depth > 0);
	if (--thread->depth > 0)
		return;
	/* What was read in the section was read before the grace period could end. */
	tsan_release(thread->epoch);
	ck_epoch_end(&thread->record, NULL);
}

/* epoch_deferred begins with its ck entry, which is how ck hands it back. */
static void dispatch(ck_epoch_entry_t *entry)
{
	struct epoch_deferred *deferred = (struct epoch_deferred *)(void *)entry;
	tsan_acquire(deferred->epoch);
	deferred->release(deferred, deferred->context);
}

void epoch_defer(struct epoch_thread *thread, struct epoch_deferred *deferred,
                 void (*release)(struct epoch_deferred *, void *), void *context)
{
	_Static_assert(offsetof(struct epoch_deferred, entry) == 0, "dispatch() casts it back");
	deferred->release = release;
	deferred->context = context;
	deferred->epoch = thread->epoch;
	/*
	 * ck files it under the epoch of now, and releases it when all sections are of later ones.
	 * That holds only if nobody who enters in a later one can still find it. With one reclaimer
	 * alone its own step to the next epoch would see to that; there are two, and another one's
	 * step does not wait for what is still in our store buffer.
	 */
	fence_full(); /* [O26] out of reach before the look at the epoch */
	ck_epoch_call(&thread->record, &deferred->entry, dispatch);
}

void epoch_poll(struct epoch_thread *thread)
{
	assert(thread->depth == 0);
	ck_epoch_poll(&thread->record);
}

void epoch_drain(struct epoch_thread *thread)
{
	assert(thread->depth == 0);
	ck_epoch_barrier(&thread->record);
}
