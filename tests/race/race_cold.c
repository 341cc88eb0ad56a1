/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * race_cold [SECONDS [SEED]]: race_log with a durable log of which hardly anything may stay mapped:
 * segments are warmed, let go and taken by retention all the time, under the readers' eyes.
 */
#define RACE_IN_FILES true
#define RACE_SEGMENTS_MAX 24
#define RACE_MAPPED_MAX 2
#include "race_log.c"
