/* SPDX-License-Identifier: MIT */
#include "log/header.h"

#include <string.h>

#include "base/hash.h"
#include "log/frame.h"

/* All of a part but its check, which is its last member. */
#define CHECK_OF(part, key) hash64((part), sizeof *(part) - sizeof(part)->check, (key))

const char header_magic[8] = {'p', 's', 'a', 'd', ' ', 's', 'e', 'g'};

uint32_t header_capacity(size_t size, uint32_t max_entries)
{
	uint64_t most = (size - SEGMENT_HEADER_SIZE) / (sizeof(struct entry) + frame_size(1, 1, 0));
	return most < max_entries ? (uint32_t)most : max_entries;
}

void header_set_constant(struct header_constant *part)
{
	memcpy(part->magic, header_magic, sizeof part->magic);
	part->byte_order = STORE_BYTE_ORDER;
	part->version = STORE_VERSION;
	part->check = CHECK_OF(part, 0);
}

bool header_constant_is_good(const struct header_constant *part)
{
	/* The check says that it is as it was written; these, that a psad here wrote it. */
	return part->check == CHECK_OF(part, 0) && part->byte_order == STORE_BYTE_ORDER &&
	       memcmp(part->magic, header_magic, sizeof part->magic) == 0;
}

bool header_gap_is_good(const struct header_gap *part, uint64_t key)
{
	return part->check == CHECK_OF(part, key) && part->loss <= LOSS_DAMAGED;
}

bool header_seal_is_good(const struct header_seal *part, uint64_t key)
{
	return part->base != 0 && part->check == CHECK_OF(part, key);
}

bool header_synced(const struct segment_header *header, uint64_t *id)
{
	bool is_known = false;
	*id = 0;
	for (size_t i = 0; i < 2; i++) {
		const struct header_synced *part = &header->synced[i];
		if (part->check != CHECK_OF(part, header->constant.key))
			continue;
		is_known = true;
		if (part->id > *id)
			*id = part->id;
	}
	return is_known;
}

void header_set_gap(struct segment_header *header, uint64_t base, enum loss loss)
{
	struct header_gap gap = {.base = base, .loss = loss};

	/* At once: where the same stands there already it is whole at every moment. */
	gap.check = CHECK_OF(&gap, header->constant.key);
	header->gap = gap;
}

void header_set_synced(struct segment_header *header, uint64_t id)
{
	/* The place with the older id; the other one stays whole whatever happens. */
	struct header_synced *part = &header->synced[header->synced[0].id > header->synced[1].id];
	part->id = id;
	part->check = CHECK_OF(part, header->constant.key);
}

void header_set_seal(struct segment_header *header, const struct segment *segment)
{
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	uint64_t key = header->constant.key;
	char *filter = (char *)header + FILTER_OFFSET;
	struct header_seal seal = {
		.base = atomic64_load_acquire(&segment->base), /* [O2] */
		.entries = state_entries(state),
		.bytes = state_bytes(state),
		.first_time_us = segment->first_time_us,
		.last_time_us = segment->last_time_us,
	};

	if (segment->filter != NULL)
		memcpy(filter, segment->filter, FILTER_BITS / 8);
	/* Without one the hash is made not to agree, so that nobody goes by zeros. */
	seal.filter_hash = hash64(filter, FILTER_BITS / 8, key) ^ (segment->filter == NULL);
	seal.check = CHECK_OF(&seal, key);
	header->seal = seal;
}

bool header_filter_is_good(const struct segment_header *header, const void *filter)
{
	return header->seal.filter_hash == hash64(filter, FILTER_BITS / 8, header->constant.key);
}
