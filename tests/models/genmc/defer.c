/* SPDX-License-Identifier: MIT */
/*
 * What is deferred, and ck's epoch [O26]: one thread takes a thing out of reach and files it under
 * the epoch, another steps to the next one, and a section begins in that. What must hold: a section
 * of a later epoch than a thing is filed under can't find it any more.
 *
 * Stands for:
 *     src/log/epoch.c epoch_enter d2407b18
 *     src/log/epoch.c epoch_defer ec5a9816
 *     src/log/epoch.c epoch_poll d1b904db
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int place = 1, epoch = 1;
static int filed, entered, found;

static void *reclaimer(void *context)
{
	(void)context;
	atomic_store_explicit(&place, 0, memory_order_release); /* [O5] or [O14] */
#ifndef BUG_DEFER_WITHOUT_FENCE
	atomic_thread_fence(memory_order_seq_cst); /* [O26] epoch_defer() */
#endif
	filed = atomic_load_explicit(&epoch, memory_order_relaxed);
	return NULL;
}

static void *other_reclaimer(void *context)
{
	(void)context;
	atomic_fetch_add_explicit(&epoch, 1, memory_order_seq_cst); /* epoch_poll() */
	return NULL;
}

static void *reader(void *context)
{
	(void)context;
	entered = atomic_load_explicit(&epoch, memory_order_relaxed); /* epoch_enter() */
#ifndef BUG_ENTER_WITHOUT_FENCE
	atomic_thread_fence(memory_order_seq_cst); /* [O26] */
#endif
	found = atomic_load_explicit(&place, memory_order_acquire);
	return NULL;
}

int main(void)
{
	pthread_t threads[3];
	pthread_create(&threads[0], NULL, reclaimer, NULL);
	pthread_create(&threads[1], NULL, other_reclaimer, NULL);
	pthread_create(&threads[2], NULL, reader, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert(!(entered > filed && found));
	return 0;
}
