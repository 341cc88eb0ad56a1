/* SPDX-License-Identifier: MIT */
#include "log/assess.h"

#include <assert.h>
#include <stdio.h>
#include <sys/random.h>

/* What the steps share. */
struct judge {
	struct survey *survey;
	struct assessment *out;
	uint64_t end;     /* behind the last id of the pieces before; 0: none has any */
	uint64_t time_us; /* of the newest message before */
	uint64_t id_bound;
	bool has_gone; /* between the last piece with ids and this one something is gone */
	bool was_sealed, is_cut;
};

static bool is_gone(const struct piece *piece)
{
	return piece->segment == NULL;
}

static uint32_t capacity_of(const struct piece *piece)
{
	const struct header_constant *constant = &piece->header.constant;
	return header_capacity(constant->size, constant->max_entries);
}

/* The least id that cannot have been given out before this piece, which has none: its bound counts
 * from the highest one before it. */
static uint64_t safe_base(const struct piece *piece)
{
	uint64_t bound = piece->header.constant.id_bound, capacity = capacity_of(piece);
	return bound > capacity ? bound - capacity + 1 : 1;
}

/* ---- which pieces hold messages ---- */

/* Pieces whose ids can't be: they would be told twice. */
static void drop_conflicts(struct survey *survey)
{
	uint64_t end = 0;

	for (size_t i = 0; i < survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		if (is_gone(piece) || piece->base == 0)
			continue;
		uint64_t after = piece->base + piece->entries;
		if (piece->base < end)
			piece_drop(piece, "has messages of the segments before it");
		else if (after - 1 > piece->header.constant.id_bound)
			piece_drop(piece, "has more messages than it can have");
		else
			end = after;
	}
}

/* Whether messages have been in it; of the others nothing was ever used, as far as can be told. */
static bool is_begun(const struct assessment *out, const struct piece *piece)
{
	if (is_gone(piece) || piece->base != 0)
		return !is_gone(piece);
	switch (out->mode) {
	case MODE_CLEAN: /* the head tells what is missing */
	case MODE_LIVE:
		return false;
	case MODE_MACHINE:
		return piece->synced != 0;
	case MODE_PROCESS:
	case MODE_RENEWED:
		break;
	}
	return piece->synced != 0 || piece->crowd > 0;
}

static size_t count_begun(const struct survey *survey, const struct assessment *out)
{
	size_t begun = 0;
	for (size_t i = 0; i < survey->count; i++)
		if (is_begun(out, &survey->pieces[i]))
			begun = i + 1;
	return begun;
}

/* The first piece from `from` on that says where it begins; NULL: none. */
static const struct piece *next_with_base(const struct survey *survey, size_t from)
{
	for (size_t i = from; i < survey->count; i++)
		if (!is_gone(&survey->pieces[i]) && survey->pieces[i].base != 0)
			return &survey->pieces[i];
	return NULL;
}

/*
 * The piece behind all that is begun that has to say where ids go on, since by chain it can't be
 * told: something before it is gone, or what it said itself. NULL: there is none, and then
 * *is_needed says whether there had to be.
 */
static struct piece *find_carrier(struct survey *survey, size_t begun, bool *is_needed)
{
	struct piece *carrier = NULL;

	*is_needed = begun == 0;
	for (size_t i = begun; i < survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		if (is_gone(piece)) {
			carrier = NULL;
			*is_needed = true;
		} else if (carrier == NULL && (*is_needed || (piece->faults & FAULT_GAP) != 0)) {
			carrier = piece;
			*is_needed = true;
		}
	}
	return carrier;
}

/* ---- how it ended ---- */

/* Whether there are messages behind the head that a clean end wrote down: that file is an older
 * one. */
static bool is_behind(const struct survey *survey)
{
	for (size_t i = 0; i < survey->count; i++) {
		const struct piece *piece = &survey->pieces[i];
		if (is_gone(piece))
			continue;
		if (piece->synced > survey->log.head ||
		    (piece->reach > 0 && piece->base + piece->reach - 1 > survey->log.head))
			return true;
	}
	return false;
}

/* Whether nothing bounds the ids that have been given out. */
static bool is_unbounded(struct survey *survey, const struct assessment *out)
{
	bool is_needed, is_gone_before = false, is_last_sure = true;
	const struct piece *carrier = find_carrier(survey, count_begun(survey, out), &is_needed);

	if (is_needed && (carrier == NULL || !carrier->is_bound_sure))
		return true;
	for (size_t i = 0; i < survey->count; i++) {
		const struct piece *piece = &survey->pieces[i];
		if (is_gone(piece)) {
			is_gone_before = true;
			continue;
		}
		is_last_sure = piece->is_bound_sure;
		if (piece->base != 0)
			is_gone_before = false;
		else if (is_gone_before && is_begun(out, piece) &&
		         next_with_base(survey, i) == NULL)
			return true;
	}
	return !is_last_sure && out->mode == MODE_MACHINE;
}

static enum mode mode_of(enum ending ending)
{
	switch (ending) {
	case ENDED_CLEAN:
		return MODE_CLEAN;
	case ENDED_PROCESS:
		return MODE_PROCESS;
	case ENDED_MACHINE:
		break;
	}
	return MODE_MACHINE;
}

/* 0, or -1 when there are no random numbers. */
static int renew(struct survey *survey, struct assessment *out)
{
	const struct store_log before = survey->log;

	out->mode = MODE_RENEWED;
	out->writes_log = true;
	out->log = (struct store_log){.key = survey->key, .end = STORE_CLEAN};
	snprintf(out->log.boot, sizeof out->log.boot, "%s", store_boot(survey->store));
	do {
		if (getrandom(&out->log.identity, sizeof out->log.identity, 0) !=
		    (ssize_t)sizeof out->log.identity)
			return -1;
	} while (survey->is_known && out->log.identity == before.identity);
	return 0;
}

static int choose_mode(struct survey *survey, struct assessment *out)
{
	out->log = survey->log;
	if (survey->owner != 0) {
		out->mode = MODE_LIVE;
		return 0;
	}
	if (!survey->is_known)
		return renew(survey, out);
	out->mode = mode_of(survey->ending);
	if (out->mode == MODE_CLEAN && is_behind(survey)) {
		/* How the run that wrote them ended nobody knows. */
		out->writes_log = true;
		out->log.end = STORE_OPEN;
		out->log.head = 0;
		out->log.boot[0] = '\0';
		out->mode = mode_of(recover_ending(survey->store, &out->log));
	}
	if (out->mode != MODE_CLEAN && is_unbounded(survey, out))
		return renew(survey, out);
	return 0;
}

/* ---- what is in a piece ---- */

/* Beside a running psad: up to the first slot that may be about to be written. */
static uint32_t live_entries(const struct piece *piece, uint64_t base)
{
	uint32_t entries = piece->entries;

	for (size_t i = 0; i < piece->run_count; i++) {
		const struct run *run = &piece->runs[i];
		if (base + run->to <= piece->synced)
			continue;
		if (run->from < entries)
			entries = run->from;
		break;
	}
	return entries;
}

/* How many ids have been given out in an unsealed piece; `most` bounds them. */
static uint32_t given_out(const struct judge *judge, const struct piece *piece, uint64_t base,
                          uint64_t most)
{
	uint64_t entries = judge->out->mode == MODE_MACHINE ? piece->entries : piece->reach;

	if (judge->out->mode == MODE_LIVE)
		entries = live_entries(piece, base);
	if (piece->synced >= base + entries)
		entries = piece->synced - base + 1;
	if ((judge->out->mode == MODE_PROCESS || judge->out->mode == MODE_RENEWED) &&
	    piece->crowd > entries)
		entries = piece->crowd;
	if (entries > piece->room)
		entries = piece->room;
	return (uint32_t)(entries < most ? entries : most);
}

/* ---- one after the other ---- */

/* What is missing between the pieces before and this one, which begins at verdict->base. */
static void judge_gap(struct judge *judge, struct piece *piece)
{
	struct verdict *verdict = &piece->verdict;
	const struct header_gap *gap = &piece->header.gap;
	bool is_good = (piece->faults & FAULT_GAP) == 0;
	bool is_right = is_good && (gap->base == 0 || gap->base == verdict->base);
	bool is_told = is_good && gap->base == verdict->base && gap->loss != LOSS_NONE;
	enum mode mode = judge->out->mode;

	verdict->gap_from = judge->end == 0 ? verdict->base : judge->end;
	verdict->loss = LOSS_NONE;
	/* The first one has to say it by itself. */
	verdict->writes_gap = !is_right || (judge->end == 0 && piece->base == 0);
	if (verdict->base == verdict->gap_from)
		return;
	if (is_told) {
		verdict->loss = (enum loss)gap->loss;
	} else if (is_right && !judge->has_gone && !judge->was_sealed &&
	           (mode == MODE_PROCESS || mode == MODE_MACHINE)) {
		verdict->loss = mode_loss(judge->out->mode);
	} else {
		verdict->loss = LOSS_DAMAGED;
		verdict->writes_gap = true;
		judge->out->damaged += verdict->base - verdict->gap_from;
	}
}

/* Where a piece that does not say it begins. */
static uint64_t find_base(const struct judge *judge, const struct piece *piece,
                          const struct piece *next)
{
	if (piece->base != 0)
		return piece->base;
	if (judge->end != 0)
		return judge->end;
	if (piece->number == 1) /* the log began with it */
		return 1;
	return next != NULL ? next->base : safe_base(piece);
}

/* Its seal is neither good nor none. A crash may leave one so: then it is as good as none. */
static bool needs_seal(const struct assessment *out, const struct piece *piece)
{
	return (piece->faults & FAULT_SEAL) != 0 &&
	       (out->mode == MODE_CLEAN || out->mode == MODE_RENEWED);
}

static int judge_begun(struct judge *judge, struct piece *piece, const struct piece *next)
{
	struct verdict *verdict = &piece->verdict;
	enum mode mode = judge->out->mode;
	uint64_t base = find_base(judge, piece, next);
	/* What was in it is among what is missing before the next one. */
	bool is_adrift = piece->base == 0 && judge->has_gone;

	verdict->is_begun = true;
	verdict->base = base;
	verdict->time_us = judge->time_us;
	verdict->writes_seal = needs_seal(judge->out, piece) ||
	                       (mode != MODE_LIVE && (piece->faults & FAULT_FILTER) != 0);
	verdict->marks_all = piece->is_sealed || mode == MODE_CLEAN || mode == MODE_RENEWED;
	verdict->writes_synced =
		(piece->faults & FAULT_SYNCED) != 0 || (is_adrift && piece->synced >= base);
	judge_gap(judge, piece);
	verdict->end = base + (is_adrift ? 0
	                       : piece->is_sealed
	                               ? piece->entries
	                               : given_out(judge, piece, base,
	                                           next == NULL ? UINT32_MAX : next->base - base));
	if (piece->last_us > judge->time_us)
		judge->time_us = piece->last_us;
	judge->end = verdict->end;
	judge->has_gone = false;
	judge->was_sealed = piece->is_sealed || verdict->writes_seal;
	return verdict_judge_slots(piece, judge->out->mode);
}

static int judge_spare(struct judge *judge, struct piece *piece)
{
	struct verdict *verdict = &piece->verdict;

	verdict->time_us = judge->time_us;
	verdict->writes_gap = (piece->faults & FAULT_GAP) != 0;
	verdict->writes_synced = (piece->faults & FAULT_SYNCED) != 0;
	verdict->clears_seal = needs_seal(judge->out, piece);
	verdict->base = verdict->end = 0;
	return verdict_judge_slots(piece, judge->out->mode);
}

/* Beside a running psad nothing is looked at behind the first place that is not complete. */
static bool is_being_written(const struct judge *judge, const struct piece *piece)
{
	const struct header_gap *gap = &piece->header.gap;
	bool is_told = (piece->faults & FAULT_GAP) == 0 && gap->base == piece->base;

	if (judge->out->mode != MODE_LIVE || judge->end == 0)
		return false;
	return judge->is_cut ||
	       (piece->base > judge->end && !judge->was_sealed && !judge->has_gone && !is_told);
}

static int judge_all(struct judge *judge)
{
	struct survey *survey = judge->survey;
	int error = 0;

	for (size_t i = 0; i < survey->count && error == 0; i++) {
		struct piece *piece = &survey->pieces[i];
		const struct header_constant *constant = &piece->header.constant;
		if (is_gone(piece)) {
			piece->verdict.base = piece->verdict.end = judge->end;
			piece->verdict.time_us = judge->time_us;
			piece->verdict.id_bound = judge->id_bound;
			judge->has_gone = true;
			continue;
		}
		piece->verdict.id_bound = constant->id_bound;
		if (constant->id_bound > judge->id_bound)
			judge->id_bound = constant->id_bound;
		if (is_being_written(judge, piece))
			judge->out->begun = i;
		if (i < judge->out->begun)
			error = judge_begun(judge, piece, next_with_base(survey, i + 1));
		else
			error = judge_spare(judge, piece);
		if (i < judge->out->begun)
			judge->is_cut = piece->verdict.end < piece->base + piece->entries;
	}
	return error;
}

/* ---- the end ---- */

/* Ids go on in this piece, with `base`, and those up to there are gone. */
static void carry(struct judge *judge, struct piece *piece, uint64_t base)
{
	struct verdict *verdict = &piece->verdict;

	if (base < judge->end)
		base = judge->end;
	verdict->is_begun = true;
	verdict->base = verdict->end = base;
	verdict->gap_from = judge->end == 0 ? base : judge->end;
	verdict->loss = verdict->gap_from < base ? LOSS_DAMAGED : LOSS_NONE;
	verdict->writes_gap = true;
	if (verdict->id_bound < base - 1 + capacity_of(piece))
		verdict->id_bound = base - 1 + capacity_of(piece);
	judge->out->damaged += base - verdict->gap_from;
	judge->end = base;
}

/* The place for one more file, behind all that stay. */
static struct piece *place_to_add(struct survey *survey)
{
	size_t nth = survey->count;
	while (nth > 0 && is_gone(&survey->pieces[nth - 1]))
		nth--;
	return &survey->pieces[nth];
}

/* The last piece, when ids up to `head` fit into it, and nothing says that they were elsewhere. */
static struct piece *piece_with_room(struct judge *judge, uint64_t head)
{
	struct survey *survey = judge->survey;
	size_t begun = judge->out->begun;
	struct piece *last = begun == 0 ? NULL : &survey->pieces[begun - 1];

	if (last == NULL || is_gone(last) || last->is_sealed || last->verdict.writes_seal ||
	    head - last->verdict.base >= last->room)
		return NULL;
	return begun == survey->count || !is_gone(last + 1) ? last : NULL;
}

/* A clean end wrote down which id was the newest. */
static int end_at_head(struct judge *judge)
{
	struct survey *survey = judge->survey;
	uint64_t head = survey->log.head;
	struct piece *last = piece_with_room(judge, head);

	if (judge->end == head + 1)
		return 0;
	if (last != NULL) {
		judge->end = last->verdict.end = head + 1;
		return verdict_judge_slots(last, judge->out->mode);
	}
	for (size_t i = judge->out->begun; i < survey->count; i++)
		if (!is_gone(&survey->pieces[i])) {
			carry(judge, &survey->pieces[i], head + 1);
			return 0;
		}
	struct piece *added = place_to_add(survey);
	const struct piece *before = added - 1;
	added->verdict = (struct verdict){.action = ACTION_ADD, .id_bound = judge->id_bound};
	added->header.constant = before->header.constant;
	carry(judge, added, head + 1);
	return 0;
}

static int judge_end(struct judge *judge)
{
	struct survey *survey = judge->survey;
	bool is_needed;
	struct piece *carrier = find_carrier(survey, judge->out->begun, &is_needed);

	switch (judge->out->mode) {
	case MODE_LIVE:
		break;
	case MODE_CLEAN:
		return end_at_head(judge);
	case MODE_RENEWED:
		/* Nobody has seen an id of this log yet. */
		if (judge->end == 0 && carrier != NULL)
			carry(judge, carrier, 1);
		judge->out->log.head = judge->end - 1;
		break;
	case MODE_PROCESS:
	case MODE_MACHINE:
		if (carrier != NULL)
			carry(judge, carrier, safe_base(carrier));
		break;
	}
	/* Where nothing is begun before it, the chain begins with it. */
	for (struct piece *piece = survey->pieces;
	     judge->out->begun == 0 && carrier != NULL && piece < carrier; piece++)
		if (!is_gone(piece))
			carry(judge, piece, carrier->verdict.base);
	return 0;
}

/* What takes the place of pieces that are gone. */
static void judge_gone(struct survey *survey, struct assessment *out)
{
	struct piece *first = NULL, *last = NULL;

	for (size_t i = 0; i <= survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		if (is_gone(piece) && piece->verdict.action != ACTION_ADD)
			continue;
		first = first == NULL ? piece : first;
		last = piece;
	}
	assert(first != NULL); /* assess() has refused a directory without any */
	/* The log's very first one is known to begin with 1; of others before all that is left
	 * nobody knows more than that they are gone, as those that were dropped. */
	struct piece *front = &survey->pieces[0];
	bool has_front =
		front != first && front->has_file && front->number == 1 && first->verdict.base > 1;
	if (has_front) {
		first->verdict.gap_from = 1;
		first->verdict.loss = LOSS_DAMAGED;
		first->verdict.writes_gap = true;
		out->damaged += first->verdict.base - 1;
	}
	for (size_t i = 0; i < survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		struct verdict *verdict = &piece->verdict;
		if (!is_gone(piece) || verdict->action == ACTION_ADD)
			continue;
		bool is_inside = piece < last && (piece > first || has_front);
		verdict->action = is_inside         ? ACTION_REPLACE
		                  : piece->has_file ? ACTION_ASIDE
		                                    : ACTION_NONE;
		if (piece < first)
			verdict->base = verdict->end = 1;
	}
}

/* Empty segments begin where those before them end. */
static void place_empty_ones(struct survey *survey)
{
	bool has_begun = false;
	uint64_t end = 0;

	for (size_t i = survey->count; i-- > 0;)
		end = survey->pieces[i].verdict.is_begun ? survey->pieces[i].verdict.base : end;
	for (size_t i = 0; i < survey->count; i++) {
		struct verdict *verdict = &survey->pieces[i].verdict;
		if (verdict->is_begun) {
			end = verdict->end;
			has_begun = true;
		} else if (verdict->action == ACTION_REPLACE && (has_begun || verdict->base == 0)) {
			verdict->base = verdict->end = end;
		}
	}
}

static void count_changes(struct survey *survey, struct assessment *out)
{
	out->changes = out->writes_log;
	out->first = 0;
	for (size_t i = 0; i <= survey->count; i++) {
		struct piece *piece = &survey->pieces[i];
		struct verdict *verdict = &piece->verdict;
		if (!is_gone(piece) && verdict_is_change(piece))
			verdict->action = ACTION_CHANGE;
		out->changes += verdict->action != ACTION_NONE;
		out->damaged += verdict_marked(verdict);
		if (out->first == 0 && verdict->action != ACTION_ASIDE)
			out->first = verdict->base;
	}
}

int assess(struct survey *survey, struct assessment *assessment, char *error, size_t error_size)
{
	struct judge judge = {.survey = survey, .out = assessment};
	bool is_any = false;

	*assessment = (struct assessment){.mode = MODE_LIVE};
	if (survey->owner == 0)
		drop_conflicts(survey);
	for (size_t i = 0; i < survey->count; i++)
		is_any = is_any || !is_gone(&survey->pieces[i]);
	if (!is_any) {
		snprintf(error, error_size, "%s: nothing of any segment can be used",
		         store_dir(survey->store));
		return -1;
	}
	if (choose_mode(survey, assessment) != 0) {
		snprintf(error, error_size, "%s: the system has no random numbers",
		         store_dir(survey->store));
		return -1;
	}
	assessment->begun = count_begun(survey, assessment);
	if (judge_all(&judge) != 0 || judge_end(&judge) != 0) {
		snprintf(error, error_size, "%s: no memory to look at it",
		         store_dir(survey->store));
		return -1;
	}
	assessment->end = judge.end;
	judge_gone(survey, assessment);
	place_empty_ones(survey);
	count_changes(survey, assessment);
	return 0;
}
