/* SPDX-License-Identifier: MIT */
#include "net/crowd.h"

#include <assert.h>
#include <errno.h>

/* ---- states ---- */

void crowd_forget_due_set(struct fanout *fanout, struct interest_set *set)
{
	if (!set->is_due || !TAILQ_EMPTY(&set->sides[!set->live_side]))
		return;
	TAILQ_REMOVE(&fanout->due, set, due);
	set->is_due = false;
}

void crowd_detach(struct fanout *fanout, struct follower *follower)
{
	follower->position = fanout_position(fanout, follower);
	switch (follower->state) {
	case FOLLOWER_IDLE:
		return;
	case FOLLOWER_LIVE:
		TAILQ_REMOVE(&follower->set->sides[follower->side], follower, link);
		fanout->live--;
		crowd_forget_due_set(fanout, follower->set);
		break;
	case FOLLOWER_BEHIND:
		TAILQ_REMOVE(&fanout->behind, follower, link);
		fanout->behind_count--;
		break;
	case FOLLOWER_BLOCKED:
		TAILQ_REMOVE(&fanout->blocked, follower, link);
		break;
	case FOLLOWER_COLD:
		TAILQ_REMOVE(&fanout->cold, follower, link);
		break;
	}
	fanout->lagging -= follower->is_lagging;
	follower->is_lagging = false;
	follower->state = FOLLOWER_IDLE;
}

void crowd_become_live(struct fanout *fanout, struct follower *follower)
{
	/* A pass sends whole runs: whoever wants less stays behind. */
	assert(follower->end == FOLLOW_FOREVER && follower->limit == FOLLOW_FOREVER);
	crowd_detach(fanout, follower);
	follower->side = follower->set->live_side;
	TAILQ_INSERT_TAIL(&follower->set->sides[follower->side], follower, link);
	follower->state = FOLLOWER_LIVE;
	fanout->live++;
}

/* It lags from here on; the lowest position is then right until the gauges are computed again. */
static void count_lagging(struct fanout *fanout, struct follower *follower)
{
	uint64_t *lowest = &fanout->counters->lowest_position;

	follower->is_lagging = follower->end == FOLLOW_FOREVER;
	fanout->lagging += follower->is_lagging;
	/* Relaxed: a statistic. */
	if (follower->is_lagging && follower->position < atomic64_load_relaxed(lowest))
		atomic64_store_relaxed(lowest, follower->position);
}

void crowd_become_behind(struct fanout *fanout, struct follower *follower)
{
	crowd_detach(fanout, follower);
	TAILQ_INSERT_TAIL(&fanout->behind, follower, link);
	fanout->behind_count++;
	follower->state = FOLLOWER_BEHIND;
	count_lagging(fanout, follower);
}

void crowd_become_blocked(struct fanout *fanout, struct follower *follower)
{
	crowd_detach(fanout, follower);
	TAILQ_INSERT_TAIL(&fanout->blocked, follower, link);
	follower->state = FOLLOWER_BLOCKED;
	count_lagging(fanout, follower);
}

void crowd_become_cold(struct fanout *fanout, struct follower *follower, const struct block *block)
{
	crowd_detach(fanout, follower);
	TAILQ_INSERT_TAIL(&fanout->cold, follower, link);
	follower->state = FOLLOWER_COLD;
	count_lagging(fanout, follower);
	log_want(fanout->log, block);
}

void crowd_thaw(struct fanout *fanout)
{
	/* Before any look at the log: what is found to be cold behind this changes it later. */
	uint64_t warmed = log_warmed(fanout->log);

	if (warmed == fanout->warmed)
		return;
	fanout->warmed = warmed;
	while (!TAILQ_EMPTY(&fanout->cold))
		crowd_become_behind(fanout, TAILQ_FIRST(&fanout->cold));
}

void crowd_lose(struct fanout *fanout, struct follower *follower)
{
	crowd_detach(fanout, follower);
	fanout->calls->lost(follower);
}

uint64_t fanout_position(const struct fanout *fanout, const struct follower *follower)
{
	if (follower->state != FOLLOWER_LIVE)
		return follower->position;
	return follower->side == follower->set->live_side ? fanout->walked : fanout->pass_from;
}

/* ---- writing ---- */

/* The first message not wholly sent, or the rest of it, is next. Negative: it can't be kept. */
static int stop_at(struct fanout *fanout, struct follower *follower, const struct border *border,
                   const struct block *block)
{
	uint64_t id = block->first + border->entry;

	follower->position = border->sent == 0 ? id - 1 : id;
	if (border->sent == 0)
		return 0;
	uint32_t rest = (uint32_t)border->rest.iov_len;
	return fanout->calls->owe(follower, id, block_entry(block, border->entry)->size - rest,
	                          border->rest.iov_base, rest);
}

static void note_delivery(struct fanout *fanout, struct follower *follower, uint32_t messages,
                          size_t bytes)
{
	atomic64_count(&fanout->counters->delivered_total, messages);
	atomic64_count(&fanout->counters->delivered_bytes_total, bytes);
	if (messages > 0)
		follower->quiet_to = 0;
	if (follower->limit != FOLLOW_FOREVER)
		follower->limit -= messages;
}

/*
 * Not all of the run list went, but `sent` bytes. 0, or negative when the follower can't be served
 * any more.
 */
static int stop_short(struct fanout *fanout, struct follower *follower,
                      const struct selection *selection, size_t sent)
{
	const struct block *block = selection->block;
	const struct border border = run_list_border(&fanout->run, selection, sent);
	const uint64_t position = follower->position;
	int error = block_is_damaged(block) ? 0 : stop_at(fanout, follower, &border, block);

	if (error < 0)
		return error;
	if (block_is_damaged(block)) {
		/* Where the border is can't be known any more, nor what went or was kept. */
		follower->position = position;
		if (sent == 0)
			return 0;
		atomic64_count(&fanout->counters->cut_total, 1);
		return -ENODATA;
	}
	/* What is owed counts as delivered: it is sent, or the connection ends. */
	bool owes = border.sent > 0;
	note_delivery(fanout, follower, border.messages + owes,
	              sent + (owes ? border.rest.iov_len : 0));
	return 0;
}

bool crowd_deliver(struct fanout *fanout, struct follower *follower,
                   const struct selection *selection)
{
	const struct run_list *run = &fanout->run;
	const struct block *block = selection->block;

	/* What the list was made from may have been zeros in a hole: nothing of it goes. */
	if (block_is_damaged(block)) {
		crowd_become_behind(fanout, follower);
		return false;
	}
	ssize_t sent = fanout->calls->write(follower, run->iov, run->count, run->bytes);
	if (sent == (ssize_t)run->bytes && !block_is_damaged(block)) {
		note_delivery(fanout, follower, run->messages, run->bytes);
		return true;
	}
	if (sent == -EFAULT) { /* our memory, not the peer */
		log_damage(fanout->log, block);
		crowd_become_behind(fanout, follower);
		return false;
	}
	crowd_become_blocked(fanout, follower);
	int error = (int)sent;
	if (sent >= 0)
		error = stop_short(fanout, follower, selection, (size_t)sent);
	if (error < 0)
		crowd_lose(fanout, follower);
	return false;
}
