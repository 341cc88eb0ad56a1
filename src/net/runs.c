/* SPDX-License-Identifier: MIT */
#include "net/runs.h"

#include <assert.h>
#include <string.h>

#include "log/frame.h"

enum { GATHER_RUNS = 4, GATHER_RUN_BYTES = 1024 }; /* at least so many, so small on average */

/* The bytes of entry i that the format sends. */
static struct iovec entry_bytes(const struct block *block, uint32_t i, bool is_bare)
{
	const struct entry *entry = block_entry(block, i);
	uint32_t skip = 0;
	if (is_bare) {
		uint64_t id = block->first + i;
		uint32_t topic = entry_topic_size(entry);
		skip = frame_payload_offset(id, topic, frame_payload_size(id, topic, entry->size));
	}
	return (struct iovec){.iov_base = block_frame(block, i) + skip,
	                      .iov_len = entry->size - skip};
}

/* Bytes of the entries first..end - 1, which are neighbours. */
static size_t frames_size(const struct block *block, uint32_t first, uint32_t end)
{
	const struct entry *last = block_entry(block, end - 1);
	return (size_t)last->offset + last->size - block_entry(block, first)->offset;
}

/* The smallest end with which the run from `first` on has `bytes`, or `end`. */
static uint32_t cut_run(const struct block *block, uint32_t first, uint32_t end, size_t bytes)
{
	uint32_t low = first + 1;

	if (frames_size(block, first, end) <= bytes)
		return end;
	while (low < end) {
		uint32_t middle = low + (end - low) / 2;
		if (frames_size(block, first, middle) < bytes)
			low = middle + 1;
		else
			end = middle;
	}
	return low;
}

/*
 * Many small pieces become one: the kernel charges more for a piece than a copy of it costs, and
 * each follower of the list would be charged.
 */
static void gather(struct run_list *list, const struct block *block)
{
	size_t at = 0;

	/* What can't be read any more has no sizes to go by; the caller looks at that. */
	if (block_is_damaged(block))
		return;
	if (list->count < GATHER_RUNS || list->bytes > sizeof list->gathered ||
	    list->bytes > (size_t)list->count * GATHER_RUN_BYTES)
		return;
	for (int i = 0; i < list->count; i++) {
		memcpy(list->gathered + at, list->iov[i].iov_base, list->iov[i].iov_len);
		at += list->iov[i].iov_len;
	}
	list->count = 1;
	list->iov[0] = (struct iovec){.iov_base = list->gathered, .iov_len = at};
}

void run_list_build(struct run_list *list, const struct selection *selection, size_t max_bytes,
                    uint64_t max_messages)
{
	const struct block *block = selection->block;
	const struct bits *bits = selection->bits;
	uint32_t to = selection->to;
	uint32_t i = bits_find(bits, true, selection->from, to);

	list->messages = 0;
	list->bytes = 0;
	list->count = 0;
	list->end = to;
	while (i < to) {
		if (list->bytes >= max_bytes || list->messages >= max_messages)
			break;
		/* Payloads have a header between them: each is a run of its own. */
		uint32_t end = selection->is_bare ? i + 1 : bits_find(bits, false, i, to);
		if (end - i > max_messages - list->messages)
			end = i + (uint32_t)(max_messages - list->messages);
		end = cut_run(block, i, end, max_bytes - list->bytes);
		struct iovec run = entry_bytes(block, i, selection->is_bare);
		if (!selection->is_bare)
			run.iov_len = frames_size(block, i, end);
		list->iov[list->count++] = run;
		list->bytes += run.iov_len;
		list->messages += end - i;
		list->end = end;
		i = bits_find(bits, true, end, to);
		/* Nothing more matches; but who wanted only so many stands behind the last. */
		if (i == to && list->messages < max_messages)
			list->end = to;
	}
	gather(list, block);
}

/* Of the run first..end - 1, the entry that byte `at` of it belongs to. */
static uint32_t entry_at(const struct block *block, uint32_t first, uint32_t end, size_t at)
{
	const size_t offset = block_entry(block, first)->offset + at;
	uint32_t low = first, high = end;

	/* Invariant: `low` and those below begin at or before it, `high` and those above behind. */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (block_entry(block, middle)->offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

struct border run_list_border(const struct run_list *list, const struct selection *selection,
                              size_t size)
{
	const struct block *block = selection->block;
	const bool is_bare = selection->is_bare;
	struct border border = {.entry = list->end};
	uint32_t i = selection->from;

	for (uint32_t left = list->messages; left > 0;) {
		i = bits_find(selection->bits, true, i, selection->to);
		uint32_t end =
			is_bare ? i + 1 : bits_find(selection->bits, false, i, selection->to);
		if (end - i > left)
			end = i + left;
		struct iovec bytes = entry_bytes(block, i, is_bare);
		if (!is_bare)
			bytes.iov_len = frames_size(block, i, end);
		if (size >= bytes.iov_len) {
			size -= bytes.iov_len;
			border.messages += end - i;
			left -= end - i;
			i = end;
			continue;
		}
		uint32_t cut = is_bare ? i : entry_at(block, i, end, size);
		bytes = entry_bytes(block, cut, is_bare);
		if (!is_bare)
			size -= block_entry(block, cut)->offset - block_entry(block, i)->offset;
		border.messages += cut - i;
		border.entry = cut;
		border.sent = (uint32_t)size;
		border.rest = (struct iovec){.iov_base = (char *)bytes.iov_base + size,
		                             .iov_len = bytes.iov_len - size};
		return border;
	}
	/* What can't be read any more has no sizes: the caller looks at that. */
	assert(size == 0 || block_is_damaged(block));
	return border;
}
