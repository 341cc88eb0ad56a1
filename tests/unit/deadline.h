/* SPDX-License-Identifier: MIT */
/*
 * deadline: waiting for what must happen at last.
 */
#ifndef PSAD_TESTS_DEADLINE_H
#define PSAD_TESTS_DEADLINE_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#ifndef DEADLINE_MS
#define DEADLINE_MS 30000
#endif

#define WAIT_FOR(condition)                                                                        \
	do {                                                                                       \
		uint64_t deadline_ms_ = clock_mono_ms() + DEADLINE_MS;                             \
		while (!(condition)) {                                                             \
			if (clock_mono_ms() > deadline_ms_)                                        \
				fail_msg("waited in vain for: %s", #condition);                    \
			(void)poll(NULL, 0, 1);                                                    \
		}                                                                                  \
	} while (0)

#endif
