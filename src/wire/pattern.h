/* SPDX-License-Identifier: MIT */
/*
 * pattern: a topic in which a token may be '*' (exactly one token) and the last may be '>' (one
 * token or more). A '*' or '>' as first token does not match topics that begin with '$'.
 * Otherwise the rules of NATS subjects.
 *
 * Pure functions of their arguments; linear in the topic's length, no recursion. Thread: any.
 */
#ifndef PSAD_WIRE_PATTERN_H
#define PSAD_WIRE_PATTERN_H

#include "wire/topic.h"

/* Returns NULL when `pattern` is one, else a short reason fit for the text of `ERR bad-pattern`. */
const char *pattern_check(struct slice pattern);

/* True when a checked pattern holds no wildcard: it matches the topic of the same bytes alone. */
bool pattern_is_exact(struct slice pattern);

/* Says whether a checked pattern matches a checked topic. */
bool pattern_matches(struct slice pattern, struct slice topic);

/*
 * The two steps of pattern_matches(), for trie.c. The body of a checked pattern is the pattern
 * without a last token '>' and the dot before it: empty for ">" alone, of the same length as the
 * pattern where that has no '>'.
 */
struct slice pattern_body(struct slice pattern);
/*
 * Takes off *topic the tokens that `tokens` (a body, or some whole tokens of one) stands for.
 * False when they do not agree; *topic is then of no use. Knows nothing of '$'.
 */
bool pattern_take(struct slice tokens, struct slice *topic);

#endif
