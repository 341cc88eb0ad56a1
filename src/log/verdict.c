/* SPDX-License-Identifier: MIT */
#include "log/verdict.h"

#include <errno.h>

enum fate slot_fate(enum mode mode, const struct piece *piece, enum run_kind kind, uint64_t id)
{
	bool must_be_there = piece->verdict.marks_all || id <= piece->synced;
	bool is_torn = mode == MODE_MACHINE && !must_be_there;

	switch (kind) {
	case RUN_EMPTY:
		return must_be_there ? FATE_MARK : FATE_LEAVE;
	case RUN_UNCOMMITTED:
		return must_be_there ? FATE_MEND : FATE_LEAVE;
	case RUN_BAD:
		return is_torn ? FATE_LEAVE : FATE_MARK;
	case RUN_MENDABLE:
		break;
	}
	return is_torn ? FATE_LEAVE : FATE_MEND;
}

enum loss mode_loss(enum mode mode)
{
	return mode == MODE_MACHINE ? LOSS_LOST : LOSS_VOID;
}

uint64_t verdict_marked(const struct verdict *verdict)
{
	const struct gaps *gaps = verdict->marked.gaps;
	uint64_t ids = 0;
	for (size_t i = 0; gaps != NULL && i < gaps->count; i++)
		ids += gaps->at[i].to - gaps->at[i].from + 1;
	return ids;
}

int verdict_judge_slots(struct piece *piece, enum mode mode)
{
	struct verdict *verdict = &piece->verdict;
	uint32_t entries = verdict_entries(verdict);

	verdict->mended = 0;
	if (verdict->marked.gaps != NULL)
		verdict->marked.gaps->count = 0;
	for (size_t i = 0; i < piece->run_count; i++) {
		const struct run *run = &piece->runs[i];
		for (uint32_t slot = run->from; slot <= run->to && slot < entries; slot++) {
			uint64_t id = verdict->base + slot;
			enum fate fate = slot_fate(mode, piece, run->kind, id);
			verdict->mended += fate == FATE_MEND;
			if (fate == FATE_MARK &&
			    gap_list_add(&verdict->marked, id, id, LOSS_DAMAGED) != 0)
				return -ENOMEM;
		}
	}
	const struct run *next = piece_run(piece, entries);
	verdict->wipes = !piece->is_sealed && !verdict->writes_seal && mode != MODE_MACHINE &&
	                 mode != MODE_LIVE && next != NULL &&
	                 (next->kind == RUN_BAD || next->kind == RUN_MENDABLE);
	return 0;
}

bool verdict_is_change(const struct piece *piece)
{
	const struct verdict *verdict = &piece->verdict;

	return (piece->faults & (FAULT_CONSTANT | FAULT_SIZE | FAULT_UNREAD)) != 0 ||
	       verdict->id_bound != piece->header.constant.id_bound || verdict->mended > 0 ||
	       verdict->writes_gap || verdict->writes_seal || verdict->clears_seal ||
	       verdict->writes_synced || verdict->wipes || verdict_marked(verdict) > 0;
}
