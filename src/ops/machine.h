/* SPDX-License-Identifier: MIT */
/*
 * machine: what this process may use of the machine. Thread: startup.
 */
#ifndef PSAD_OPS_MACHINE_H
#define PSAD_OPS_MACHINE_H

#include <stdint.h>

/*
 * CPUs that the process may use: the smaller of its affinity and its control group's quota (version
 * 2, rounded up), at least 1.
 */
unsigned machine_cpus(void);

/* Raises the soft limit of open files to the hard one; returns what it is then (1024 where it can't
 * be known). */
uint64_t machine_raise_open_files(void);

#endif
