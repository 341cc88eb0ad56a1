/* SPDX-License-Identifier: MIT */
/*
 * race_shake: makes narrow windows wide. Where src/ is compiled with -finstrument-functions, the
 * compiler calls these two at the begin and the end of every function, inlined ones too, and so
 * around every atomic operation, ck's included. Now and then they hold the thread up there, so that
 * two neighbouring instructions come apart. Without that flag nobody calls them.
 *
 * tests/race/planted/run builds like this. It hides what depends on nanoseconds, such as a store
 * that a processor delays: both kinds of build are needed.
 */
#ifndef PSAD_RACE_SHAKE_H
#define PSAD_RACE_SHAKE_H

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>

#define SHAKE_HOOK __attribute__((no_instrument_function))

#ifndef SHAKE_EVERY
#define SHAKE_EVERY 400 /* calls of a hook, on average */
#endif

enum { SHAKE_SPINS = 20000, SHAKE_NAP_NS = 1500000 };

void __cyg_profile_func_enter(void *function, void *caller) SHAKE_HOOK;
void __cyg_profile_func_exit(void *function, void *caller) SHAKE_HOOK;

SHAKE_HOOK static inline void shake(void)
{
	static __thread uint64_t random;
	if (random == 0)
		random = (uintptr_t)&random;
	random = random * 6364136223846793005ULL + 1442695040888963407ULL;
	uint64_t draw = random >> 24;
	if (draw % SHAKE_EVERY != 0)
		return;
	draw /= SHAKE_EVERY;
	if (draw % 64 == 0) {
		int error = errno;
		struct timespec nap = {.tv_nsec = (long)(draw >> 6) % SHAKE_NAP_NS};
		nanosleep(&nap, NULL);
		errno = error;
	} else if (draw % 2 == 0) {
		sched_yield();
	} else {
		for (uint64_t n = (draw >> 6) % SHAKE_SPINS; n > 0; n--)
			__asm__ volatile("" ::: "memory");
	}
}

void __cyg_profile_func_enter(void *function, void *caller)
{
	(void)function;
	(void)caller;
	shake();
}

void __cyg_profile_func_exit(void *function, void *caller)
{
	(void)function;
	(void)caller;
	shake();
}

#endif
