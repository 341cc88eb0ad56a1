/* SPDX-License-Identifier: MIT */
#include "net/handoff.h"

#include <stdlib.h>

#include <ck_ring.h>

#include "base/atomic.h"

enum { SLOTS = 1024 }; /* a power of two; one stays empty */

struct handoff {
	/*
	 * [O11] put: release, when the item stands in its slot; take: acquire, before it is read.
	 * [O12] take: release, when the item has been read; put: acquire, before the slot is used.
	 * The ring orders both itself, but in assembly that ThreadSanitizer does not see, and
	 * ck 0.7.1's barriers there are known to be short off x86 (fixed after 0.7.2).
	 */
	_Alignas(CACHE_LINE) uint64_t put_count;
	_Alignas(CACHE_LINE) uint64_t taken_count;
	_Alignas(CACHE_LINE) ck_ring_t ring;
	struct handoff_item items[SLOTS];
};

CK_RING_PROTOTYPE(handoff_items, handoff_item)

struct handoff *handoff_new(void)
{
	size_t size = (sizeof(struct handoff) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	struct handoff *handoff = aligned_alloc(CACHE_LINE, size);
	if (handoff == NULL)
		return NULL;
	handoff->put_count = handoff->taken_count = 0;
	ck_ring_init(&handoff->ring, SLOTS);
	return handoff;
}

void handoff_free(struct handoff *handoff)
{
	free(handoff);
}

bool handoff_put(struct handoff *handoff, const struct handoff_item *item)
{
	struct handoff_item copy = *item;
	uint64_t count = atomic64_load_relaxed(&handoff->put_count); /* we are its writer */
	if (count - atomic64_load_acquire(&handoff->taken_count) >= SLOTS - 1) /* [O12] */
		return false;
	if (!CK_RING_ENQUEUE_SPSC(handoff_items, &handoff->ring, handoff->items, &copy))
		return false;
	atomic64_store_release(&handoff->put_count, count + 1); /* [O11] */
	return true;
}

bool handoff_take(struct handoff *handoff, struct handoff_item *item)
{
	uint64_t taken = atomic64_load_relaxed(&handoff->taken_count); /* we are its writer */
	if (atomic64_load_acquire(&handoff->put_count) == taken)       /* [O11] */
		return false;
	if (!CK_RING_DEQUEUE_SPSC(handoff_items, &handoff->ring, handoff->items, item))
		return false;
	atomic64_store_release(&handoff->taken_count, taken + 1); /* [O12] */
	return true;
}

size_t handoff_size(const struct handoff *handoff)
{
	return ck_ring_size(&handoff->ring);
}
