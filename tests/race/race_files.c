/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * race_files [SECONDS [SEED]]: race_log with a durable log, synced as the seed says, which is
 * opened again at the end: what is kept must be there and right.
 */
#define RACE_IN_FILES true
#include "race_log.c"
