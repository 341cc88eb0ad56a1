/* SPDX-License-Identifier: MIT */
#include "ops/vigil.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct watched {
	char name[VIGIL_NAME_MAX];
	const struct beat *beat;
	uint64_t seen; /* at the last look that was passed */
};

struct vigil {
	size_t count, max;
	size_t stuck; /* the first that has not moved */
	bool has_begun;
	struct watched threads[];
};

struct vigil *vigil_new(size_t max_threads)
{
	struct vigil *vigil = calloc(1, sizeof *vigil + max_threads * sizeof vigil->threads[0]);
	if (vigil != NULL)
		vigil->max = max_threads;
	return vigil;
}

void vigil_free(struct vigil *vigil)
{
	free(vigil);
}

void vigil_add(struct vigil *vigil, const char *name, const struct beat *beat)
{
	assert(vigil->count < vigil->max && !vigil->has_begun);
	struct watched *thread = &vigil->threads[vigil->count++];
	snprintf(thread->name, sizeof thread->name, "%s", name);
	thread->beat = beat;
}

bool vigil_look(struct vigil *vigil)
{
	for (size_t i = 0; i < vigil->count && vigil->has_begun; i++) {
		uint64_t count = beat_look(vigil->threads[i].beat);
		if (count == vigil->threads[i].seen && count != BEAT_ENDED) {
			vigil->stuck = i;
			return false;
		}
	}
	for (size_t i = 0; i < vigil->count; i++)
		vigil->threads[i].seen = beat_look(vigil->threads[i].beat);
	vigil->has_begun = true;
	return true;
}

const char *vigil_stuck(const struct vigil *vigil)
{
	return vigil->threads[vigil->stuck].name;
}
