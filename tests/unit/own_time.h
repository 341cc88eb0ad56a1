/* SPDX-License-Identifier: MIT */
/*
 * own_time: what the test's own thread measures is as long as the test says, however busy the
 * machine is; all other threads have the true time. Links with -Wl,--wrap=clock_mono_us.
 */
#ifndef PSAD_TESTS_OWN_TIME_H
#define PSAD_TESTS_OWN_TIME_H

#include <stdint.h>

uint64_t __real_clock_mono_us(void);
uint64_t __wrap_clock_mono_us(void);

static _Thread_local uint64_t own_time_us; /* 0: the true one */

uint64_t __wrap_clock_mono_us(void)
{
	return own_time_us != 0 ? own_time_us : __real_clock_mono_us();
}

#endif
