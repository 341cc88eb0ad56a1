/* SPDX-License-Identifier: MIT */
/*
 * A sleeper and a ringer: parked and the counter, Dekker with full fences on both sides, as tagged
 * [O6] in the code. What must hold: a sleeper that has looked and sleeps is rung, and who was rung
 * sees what was committed [O1] before.
 *
 * Stands for:
 *     src/log/wake.c park 4837673e
 *     src/log/wake.c wake_all bfc859d4
 *     src/log/wake.c wake_ring 780b0433
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int parked, word, message;
static atomic_int rung;
static int slept;

static void *sleeper(void *context)
{
	(void)context;
	atomic_store_explicit(&parked, 1, memory_order_relaxed);
#ifndef BUG_NO_FENCE_SLEEPER
	atomic_thread_fence(memory_order_seq_cst); /* [O6] park() */
#endif
	slept = atomic_load_explicit(&word, memory_order_acquire) == 0;
	if (!slept)
		assert(atomic_load_explicit(&message, memory_order_relaxed) == 1);
	return NULL;
}

static void *ringer(void *context)
{
	(void)context;
	atomic_store_explicit(&message, 1, memory_order_relaxed);
#ifdef BUG_RING_WITHOUT_RELEASE
	atomic_fetch_add_explicit(&word, 2, memory_order_relaxed);
#else
	atomic_fetch_add_explicit(&word, 2, memory_order_release); /* wake_ring */
#endif
#ifndef BUG_NO_FENCE_RINGER
	atomic_thread_fence(memory_order_seq_cst); /* [O6] wake_all() */
#endif
	if (atomic_load_explicit(&parked, memory_order_relaxed) != 0 &&
	    atomic_exchange_explicit(&parked, 0, memory_order_relaxed) != 0)
		atomic_store_explicit(&rung, 1, memory_order_relaxed);
	return NULL;
}

int main(void)
{
	pthread_t threads[2];
	pthread_create(&threads[0], NULL, sleeper, NULL);
	pthread_create(&threads[1], NULL, ringer, NULL);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert(!slept || atomic_load_explicit(&rung, memory_order_relaxed) == 1);
	return 0;
}
