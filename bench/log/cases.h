/* SPDX-License-Identifier: MIT */
/*
 * cases: two questions about psad's log alone. Each prints its table. Thread: main.
 */
#ifndef PSAD_BENCH_LOG_CASES_H
#define PSAD_BENCH_LOG_CASES_H

#include <stdio.h>

/*
 * For how long readers wait for a writer that was stopped between its claim and its commit, with
 * more writers than CPUs; beside what the scheduler does to any thread then.
 */
void measure_holes(unsigned rounds, unsigned ms);

/* What the first use of memory costs an append, and what would make it cheaper. */
void measure_memory(unsigned rounds, unsigned megabytes, FILE *csv);

#endif
