/* SPDX-License-Identifier: MIT */
/*
 * vigil: whether every thread has moved since the last time that all had.
 *
 * It looks at their beats. A thread that may sleep for long is woken for that by whoever keeps the
 * vigil, behind each look that was passed: one that has not come round by the next look is stuck.
 *
 * Thread: one.
 */
#ifndef PSAD_OPS_VIGIL_H
#define PSAD_OPS_VIGIL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/beat.h"

struct vigil;

/* NULL: no memory. */
struct vigil *vigil_new(size_t max_threads);
void vigil_free(struct vigil *vigil);

/* A thread to be watched; its name is copied (VIGIL_NAME_MAX bytes of it), its beat stays. */
enum { VIGIL_NAME_MAX = 32 };
void vigil_add(struct vigil *vigil, const char *name, const struct beat *beat);

/*
 * True when every thread has moved, or ended, since the last time that this was true; from then on
 * all have to move again. The first look is always passed.
 */
bool vigil_look(struct vigil *vigil);
/* After a look that was not passed: the name of a thread that has not moved. */
const char *vigil_stuck(const struct vigil *vigil);

#endif
