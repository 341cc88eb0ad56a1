/* SPDX-License-Identifier: MIT */
#include "net/recall.h"

#include <stdlib.h>
#include <string.h>

enum {
	ANSWERS =
		32, /* followers of so many sets, or at so many places, do not disturb each other */
	STEP_ENTRIES = 1024, /* looked at between two looks at what there is */
};

struct answer {
	uint64_t set;      /* its number; 0: none */
	uint64_t first;    /* id of the block's first entry */
	uint32_t from, to; /* the bits in between are right */
	uint64_t used;
	struct bits bits;
};

struct recall {
	uint64_t clock; /* of uses */
	struct answer answers[ANSWERS];
};

struct recall *recall_new(void)
{
	return calloc(1, sizeof(struct recall));
}

void recall_free(struct recall *recall)
{
	free(recall);
}

/* The answer for (set, block), or the one used longest ago, made empty. */
static struct answer *find(struct recall *recall, const struct interest_set *set,
                           const struct block *block)
{
	struct answer *oldest = &recall->answers[0];

	for (size_t i = 0; i < ANSWERS; i++) {
		struct answer *answer = &recall->answers[i];
		if (answer->set == set->number && answer->first == block->first)
			return answer;
		if (answer->used < oldest->used)
			oldest = answer;
	}
	oldest->set = set->number;
	oldest->first = block->first;
	oldest->from = oldest->to = 0;
	return oldest;
}

uint32_t recall_ask(struct recall *recall, const struct interest_set *set,
                    const struct block *block, uint32_t from, const struct bits **bits)
{
	struct answer *answer = find(recall, set, block);
	uint32_t most = interest_question_size(set);

	answer->used = ++recall->clock;
	*bits = &answer->bits;
	/* Somebody was here, but not where we are: what is in between nobody has asked for. */
	if (from < answer->from || from > answer->to)
		answer->from = answer->to = from;
	uint32_t to = answer->to;
	uint64_t bytes = 0; /* that match; of what is known already all that there are */
	if (to > from)
		bytes = block_entry(block, to - 1)->offset - block_entry(block, from)->offset;
	while (to < block->count && to - from < most && bytes < QUESTION_BYTES) {
		uint32_t step = most < STEP_ENTRIES ? most : STEP_ENTRIES;
		uint32_t end = block->count - to < step ? block->count : to + step;
		bytes += interest_match_range(set, block, to, end, &answer->bits);
		to = end;
	}
	answer->to = to;
	return to < block->count ? to : block->count;
}
