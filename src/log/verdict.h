/* SPDX-License-Identifier: MIT */
/*
 * verdict: what becomes of a piece and of each slot of it, once it is known which ids it has and
 * how the run before ended. Thread: any.
 */
#ifndef PSAD_LOG_VERDICT_H
#define PSAD_LOG_VERDICT_H

#include "log/piece.h"

enum mode {
	MODE_CLEAN,   /* as the run before ended: see enum ending */
	MODE_PROCESS, /* or the machine did, but the files are in memory */
	MODE_MACHINE,
	MODE_RENEWED, /* nobody knows; the log gets a new identity */
	MODE_LIVE,    /* a psad is writing to it: what is not complete is not looked at */
};

enum fate {
	FATE_MARK,  /* it is damaged */
	FATE_MEND,  /* it is whole when its commit word is put right */
	FATE_LEAVE, /* recovery will know what it is */
};
/* What becomes of a slot below the verdict's end that is not good. */
enum fate slot_fate(enum mode mode, const struct piece *piece, enum run_kind kind, uint64_t id);
/* What ids that are left to recovery will be said to be. */
enum loss mode_loss(enum mode mode);

/* Slots of the index that hold what will be there. */
static inline uint32_t verdict_entries(const struct verdict *verdict)
{
	return (uint32_t)(verdict->end - verdict->base);
}

/* The verdict's base and end are set: fills in what becomes of the slots. 0 or -ENOMEM. */
int verdict_judge_slots(struct piece *piece, enum mode mode);
/* How many ids become markers. */
uint64_t verdict_marked(const struct verdict *verdict);
/* Whether the file is to be written anew for all that the verdict says. */
bool verdict_is_change(const struct piece *piece);

#endif
