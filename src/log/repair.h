/* SPDX-License-Identifier: MIT */
/*
 * repair: makes a directory that recovery refuses into one that it takes, and gives copies of a log
 * an identity of their own.
 *
 * What assess.h has found is carried out, one file after the other, each in one step (rewrite.h),
 * in an order in which a repair that was cut short is completed by the next one with the same
 * result. What can be read stays as it is, to the byte; the rest becomes gaps that say `damaged`.
 * Each file that is changed or taken away is kept as <name>.damaged.
 */
#ifndef PSAD_LOG_REPAIR_H
#define PSAD_LOG_REPAIR_H

#include <stddef.h>
#include <stdio.h>

/*
 * Writes to `out` a line for each thing that is done, when it is done; one that says so when there
 * is nothing to do, and nothing is changed then. 0; -1: it can't be done, or not all of it, and
 * `error` is a sentence. Thread: startup, of a process that has no log open.
 */
int log_repair(const char *dir, FILE *out, char *error, size_t error_size);

/*
 * Gives the log another identity, so that positions of the old one are foreign to it: for a copy
 * that goes its own way. 0 or -1, as above. Thread: the same.
 */
int log_renew_identity(const char *dir, FILE *out, char *error, size_t error_size);

#endif
