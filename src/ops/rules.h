/* SPDX-License-Identifier: MIT */
/*
 * rules: what the values of several keys must be to one another.
 *
 * A check returns true, or false and in *breach what is wrong: a sentence that begins with the name
 * of a key, and that key.
 *
 * Thread: startup, and main afterwards (a reload).
 */
#ifndef PSAD_OPS_RULES_H
#define PSAD_OPS_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "ops/config.h"
#include "ops/keys.h"

struct rules_breach {
	enum key_id key;
	char text[256];
};

/*
 * Resolves the size of segments, which stands in *config as it was asked for, and then checks all
 * of a configuration.
 */
bool rules_settle(struct config *config, struct rules_breach *breach);

/*
 * Checks what depends on the size of segments; `why` explains that size in a few words that begin
 * with a comma, or is empty.
 */
bool rules_check_sizes(const struct config *config, uint64_t segment_size, const char *why,
                       struct rules_breach *breach);

#endif
