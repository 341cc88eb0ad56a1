/* SPDX-License-Identifier: MIT */
/*
 * recall: what of a block matches which set, kept for those that are behind. Whoever comes by a
 * block that another follower of the same patterns has been at, or where it could not write all,
 * does not look at its entries again.
 *
 * Blocks are whole here: from an index that is a multiple of BLOCK_ENTRIES.
 * Thread: the owner worker.
 */
#ifndef PSAD_NET_RECALL_H
#define PSAD_NET_RECALL_H

#include "net/interest.h"

struct recall;

/* NULL: no memory. */
struct recall *recall_new(void);
void recall_free(struct recall *recall);

/*
 * What matches `set` of the entries of `block` from `from` on, until there is about QUESTION_BYTES
 * of it, the block ends, or as many entries have been looked at as one question may cost. Returns
 * up to which entry the bits are right: more than `from`. They are valid until the next call.
 */
uint32_t recall_ask(struct recall *recall, const struct interest_set *set,
                    const struct block *block, uint32_t from, const struct bits **bits);

#endif
