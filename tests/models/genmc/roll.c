/* SPDX-License-Identifier: MIT */
/*
 * The keeper links a spare that it has reset [O3], two publishers roll into it [O2] [O9] and claim
 * [O4] there. What must hold: who appends in the new tail counts from its base, and finds it as it
 * was reset: neither sealed nor used.
 *
 * Stands for:
 *     src/log/segment.c segment_reset f19eac40
 *     src/log/segment.c segment_claim 98e2aec9
 *     src/log/log.c log_roll a5adab2e
 *     src/log/keeper.c link_spare 49b64075
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

enum { OLD_ENTRIES = 1, OLD_BASE = 1, NO_BASE = 99, USED = 77 };
#ifdef BUG_LINK_RELAXED
#define LINK memory_order_relaxed
#else
#define LINK memory_order_release
#endif
#ifdef BUG_BASE_AND_TAIL_RELAXED
#define BASE memory_order_relaxed
#define TAIL memory_order_relaxed
#else
#define BASE memory_order_release
#define TAIL memory_order_acq_rel
#endif

static atomic_int next, base, state, tail;
static int secret; /* plain: reset writes it before the link */
static atomic_int got[2];

static void *keeper(void *context)
{
	(void)context;
	/* segment_reset() */
	secret = 5;
	atomic_store_explicit(&base, NO_BASE, memory_order_relaxed);
	atomic_store_explicit(&state, 0, memory_order_relaxed);
	atomic_store_explicit(&next, 1, LINK); /* [O3] link_spare() */
	return NULL;
}

/* log_roll() of a sealed tail, then segment_claim() in what is the tail. */
static void *publisher(void *context)
{
	long me = (long)context;
	int now = atomic_load_explicit(&tail, memory_order_acquire); /* [O9] */
	if (now == 0) {
		int follower = atomic_load_explicit(&next, memory_order_acquire); /* [O3] */
		if (follower == 0)
			return NULL;
		int from = OLD_BASE + OLD_ENTRIES;
#ifdef BUG_TAIL_BEFORE_BASE
		atomic_compare_exchange_strong_explicit(&tail, &now, 1, TAIL, memory_order_relaxed);
		atomic_store_explicit(&base, from, BASE);
#else
		if (atomic_load_explicit(&base, memory_order_acquire) != from)
			atomic_store_explicit(&base, from, BASE);             /* [O2] */
		atomic_compare_exchange_strong_explicit(&tail, &now, 1, TAIL, /* [O9] */
		                                        memory_order_relaxed);
#endif
		now = atomic_load_explicit(&tail, memory_order_acquire); /* [O9] */
	}
	assert(now == 1);
	assert(secret == 5);
	int first = atomic_load_explicit(&base, memory_order_acquire);   /* [O2] */
	int before = atomic_load_explicit(&state, memory_order_acquire); /* [O4] */
	while (!atomic_compare_exchange_strong_explicit(&state, &before, before + 1,
	                                                memory_order_acq_rel, memory_order_acquire))
		;
	assert(before < 2);
	atomic_store_explicit(&got[me], first + before, memory_order_relaxed);
	return NULL;
}

int main(void)
{
	pthread_t threads[3];
	atomic_store_explicit(&base, USED, memory_order_relaxed);
	atomic_store_explicit(&state, USED, memory_order_relaxed);
	pthread_create(&threads[0], NULL, keeper, NULL);
	pthread_create(&threads[1], NULL, publisher, (void *)0);
	pthread_create(&threads[2], NULL, publisher, (void *)1);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	int a = atomic_load_explicit(&got[0], memory_order_relaxed);
	int b = atomic_load_explicit(&got[1], memory_order_relaxed);
	assert(a == 0 || a == 2 || a == 3);
	assert(b == 0 || b == 2 || b == 3);
	assert(a == 0 || a != b);
	return 0;
}
