/* SPDX-License-Identifier: MIT */
/*
 * process: what another process has used so far.
 */
#ifndef LOAD_PROCESS_H
#define LOAD_PROCESS_H

#include <stdint.h>

struct usage {
	double cpu_s;            /* of all its threads, exact to nanoseconds */
	double user_s, system_s; /* in the kernel's ticks of 10 ms or so */
	uint64_t rss, rss_peak;  /* bytes */
};

/* From here on rss_peak is the peak since now, where the kernel lets us. */
void process_reset_peak(int pid);
/* 0 or -errno (no such process); pid 0: all zero. */
int process_usage(int pid, struct usage *usage);

#endif
