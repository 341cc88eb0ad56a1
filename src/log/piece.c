/* SPDX-License-Identifier: MIT */
#include "log/piece.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/fault.h"
#include "log/frame.h"
#include "log/pages.h"
#include "log/scan.h"

enum { LOOKS_MAX = 50 };

/* ---- headers ---- */

void piece_drop(struct piece *piece, const char *why)
{
	if (piece->segment != NULL)
		segment_free(piece->segment);
	free(piece->runs);
	piece->segment = NULL;
	piece->why = why;
	piece->runs = NULL;
	piece->run_count = piece->run_room = 0;
	piece->is_sealed = false;
	piece->base = piece->synced = piece->last_us = 0;
	piece->entries = piece->reach = piece->crowd = 0;
}

/* Reads the first page and the size. 0, or a negative errno. */
static int peek(const struct store *store, struct piece *piece, char page[PAGE])
{
	char name[STORE_NAME_MAX];
	struct stat status;

	store_name(piece->number, name);
	int fd = openat(store_fd(store), name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	memset(page, 0, PAGE); /* of a file that is shorter */
	if (pread(fd, page, PAGE, 0) < 0)
		piece->faults |= FAULT_UNREAD;
	int error = fstat(fd, &status) == 0 ? 0 : -errno;
	close(fd);
	piece->has_file = true;
	piece->file_size = error == 0 ? (uint64_t)status.st_size : 0;
	memcpy(&piece->header, page, sizeof piece->header);
	return error;
}

int piece_peek(const struct store *store, struct piece *piece)
{
	_Alignas(512) char page[PAGE];
	return peek(store, piece, page);
}

/* Whether the constant part becomes good when one of its fields is put right, which then is. */
static bool mend_constant(const struct piece *piece, uint64_t key, struct header_constant *constant)
{
	for (int i = 0; i < 4; i++) {
		*constant = piece->header.constant;
		if (i == 0) {
			struct header_constant right = *constant;
			header_set_constant(&right); /* magic, order and version */
			right.check = constant->check;
			*constant = right;
		} else if (i == 1) {
			constant->number = piece->number;
		} else if (i == 2) {
			constant->size = piece->file_size;
		} else {
			constant->key = key;
		}
		if (header_constant_is_good(constant) && constant->number == piece->number &&
		    constant->key == key && constant->version == STORE_VERSION)
			return true;
	}
	return false;
}

bool piece_is_foreign(const struct piece *piece)
{
	const struct header_constant *constant = &piece->header.constant;
	struct header_constant mended;

	if (memcmp(constant->magic, header_magic, sizeof header_magic) != 0)
		return false;
	if (header_constant_is_good(constant))
		return constant->version != STORE_VERSION;
	return constant->byte_order == __builtin_bswap64(STORE_BYTE_ORDER) &&
	       !mend_constant(piece, constant->key, &mended);
}

static bool size_is_possible(uint64_t size)
{
	return size >= SEGMENT_SIZE_MIN && size <= SEGMENT_SIZE_MAX && size % PAGE == 0;
}

/* What can be said of the constant part without looking further. NULL: it is usable, or was mended,
 * or is to be made anew. */
static const char *judge_constant(struct piece *piece, uint64_t key)
{
	struct header_constant *constant = &piece->header.constant, mended;

	if (header_constant_is_good(constant)) {
		if (constant->key != key)
			return "belongs to another log";
		if (constant->number != piece->number)
			return "has been renamed: it is another segment's file";
		piece->is_bound_sure = true;
		return NULL;
	}
	piece->faults |= FAULT_CONSTANT;
	if (mend_constant(piece, key, &mended)) {
		*constant = mended;
		piece->is_bound_sure = true;
		return NULL;
	}
	if (!size_is_possible(piece->file_size))
		return piece->file_size == 0 ? "is empty" : "is no segment, or what is left of one";
	/* What is not known yet comes later: secret and bound. */
	*constant = (struct header_constant){.number = piece->number,
	                                     .size = piece->file_size,
	                                     .key = key,
	                                     .max_entries = INT32_MAX,
	                                     .secret = segment_draw_secret(),
	                                     .id_bound = INT64_MAX};
	return NULL;
}

static int judge_header(const struct store *store, uint64_t key, struct piece *piece)
{
	struct segment_header *header = &piece->header;
	static const struct header_seal none;
	const char *why = judge_constant(piece, key);

	if (why == NULL && !size_is_possible(header->constant.size))
		why = "has a size that can't be";
	if (why != NULL) {
		piece_drop(piece, why);
		return 0;
	}
	piece->segment = store_segment_of(store, &header->constant);
	if (piece->segment == NULL)
		return -ENOMEM;
	if (piece->file_size != header->constant.size)
		piece->faults |= FAULT_SIZE;
	if (!header_gap_is_good(&header->gap, key))
		piece->faults |= FAULT_GAP;
	/* In the key's place of a constant part that was made anew stands the right one by now. */
	if (!header_synced(header, &piece->synced))
		piece->faults |= FAULT_SYNCED;
	bool is_good = header_seal_is_good(&header->seal, key);
	if (!is_good && memcmp(&header->seal, &none, sizeof none) != 0)
		piece->faults |= FAULT_SEAL;
	piece->is_sealed = is_good && header->failed == 0;
	return 0;
}

/* A filter that is not the one sealed, unless it was sealed as one that is not to be used. */
static bool filter_is_damaged(const struct piece *piece, const char *page)
{
	struct segment_header header = piece->header;

	if (!piece->is_sealed || header_filter_is_good(&header, page + FILTER_OFFSET))
		return false;
	header.seal.filter_hash ^= 1;
	return !header_filter_is_good(&header, page + FILTER_OFFSET);
}

int piece_read_header(const struct store *store, uint64_t key, bool is_live, struct piece *piece)
{
	_Alignas(512) char page[PAGE];
	int error = 0;

	/* Beside a running psad parts may be seen half written, for a moment. */
	for (int looks = 0; looks < LOOKS_MAX; looks++) {
		piece_drop(piece, "is missing");
		piece->faults = 0;
		piece->has_file = piece->is_bound_sure = false;
		error = peek(store, piece, page);
		if (error != 0)
			break;
		error = judge_header(store, key, piece);
		if (piece->segment != NULL && filter_is_damaged(piece, page))
			piece->faults |= FAULT_FILTER;
		if (error != 0 || piece->faults == 0 || !is_live)
			break;
		(void)poll(NULL, 0, 1);
	}
	return error == -ENOENT ? 0 : error;
}

/* ---- slots ---- */

static bool add_run(struct piece *piece, uint32_t i, enum run_kind kind)
{
	struct run *last = piece->run_count == 0 ? NULL : &piece->runs[piece->run_count - 1];

	if (last != NULL && last->kind == kind && last->to + 1 == i) {
		last->to = i;
		return true;
	}
	if (piece->run_count == piece->run_room) {
		size_t room = piece->run_room == 0 ? 8 : 2 * piece->run_room;
		struct run *runs = realloc(piece->runs, room * sizeof *runs);
		if (runs == NULL)
			return false;
		piece->runs = runs;
		piece->run_room = room;
	}
	piece->runs[piece->run_count++] = (struct run){.from = i, .to = i, .kind = kind};
	return true;
}

const struct run *piece_run(const struct piece *piece, uint32_t i)
{
	size_t low = 0, high = piece->run_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (piece->runs[middle].to < i)
			low = middle + 1;
		else
			high = middle;
	}
	return low < piece->run_count && piece->runs[low].from <= i ? &piece->runs[low] : NULL;
}

/* The id that the frame of slot i says it has; 0: there is no frame. */
static uint64_t id_in_text(const struct segment *segment, char *map, uint32_t i)
{
	const struct entry *entry = map_entry(map, segment->size, i);
	const char *slot = (const char *)entry;
	uint64_t id = 0;

	if (entry->size < 8 || entry->offset < SEGMENT_HEADER_SIZE ||
	    (uint64_t)entry->offset + entry->size > (uint64_t)(slot - map) ||
	    memcmp(map + entry->offset, "MSG ", 4) != 0)
		return 0;
	const char *at = map + entry->offset + 4;
	for (int digits = 0; digits < 19 && *at >= '0' && *at <= '9'; digits++)
		id = 10 * id + (uint64_t)(*at++ - '0');
	return *at == ' ' ? id : 0;
}

/* The id of a message in slot i, by its own text and checksum; 0: there is none. */
static uint64_t id_of_message(const struct segment *segment, char *map, uint32_t i)
{
	uint64_t id = id_in_text(segment, map, i);
	return id > i && verify_slot_as(segment, map, i, id) == SLOT_GOOD ? id : 0;
}

/* The secret that the commit words were made with: what two messages agree on, or one has. */
static void find_secret(struct piece *piece, char *map)
{
	struct segment *segment = piece->segment;
	uint64_t secret = 0;

	for (uint32_t i = 0; i < scan_slots(segment, SEGMENT_HEADER_SIZE); i++) {
		uint64_t id = id_of_message(segment, map, i);
		uint64_t found = map_entry(map, segment->size, i)->commit ^ id;
		if (id == 0 || found >> 63 == 0)
			continue;
		bool is_agreed = found == secret;
		secret = found;
		if (is_agreed)
			break;
	}
	if (secret != 0)
		piece->header.constant.secret = segment->secret = secret;
}

/* The first id, as the first good entry has it; 0: there is none. */
static uint64_t find_base(const struct segment *segment, char *map)
{
	for (uint32_t i = 0; i < scan_slots(segment, SEGMENT_HEADER_SIZE); i++) {
		uint64_t id = 0;
		(void)verify_slot(segment, map, i, &id);
		if (id == 0)
			id = id_of_message(segment, map, i);
		if (id != 0)
			return id - i;
	}
	return 0;
}

/* Where the frame of a slot that is not good ends, when it begins where it must. */
static size_t end_of_bad(const struct segment *segment, char *map, uint32_t i, size_t data_end)
{
	const struct entry *entry = map_entry(map, segment->size, i);
	uint64_t end = (uint64_t)entry->offset + entry->size;

	return entry->offset == data_end && end <= (uint64_t)((const char *)entry - map)
	               ? (size_t)end
	               : data_end;
}

static enum run_kind kind_of(const struct segment *segment, char *map, uint32_t i, uint64_t id,
                             enum slot slot)
{
	bool is_whole = id != 0 && verify_slot_as(segment, map, i, id) != SLOT_BAD;

	if (slot == SLOT_EMPTY)
		return is_whole ? RUN_UNCOMMITTED : RUN_EMPTY;
	return is_whole ? RUN_MENDABLE : RUN_BAD;
}

/* Looks at every slot that there can be. False: no memory. */
static bool look_at_slots(struct piece *piece, char *map, uint64_t base)
{
	const struct segment *segment = piece->segment;
	size_t data_end = SEGMENT_HEADER_SIZE;

	for (uint32_t i = 0; i < (piece->is_sealed ? piece->entries : piece->room); i++) {
		const struct entry *entry = map_entry(map, segment->size, i);
		uint64_t id = 0;
		enum slot slot = verify_slot(segment, map, i, &id);
		bool is_good = id != 0 && id == base + i;
		enum run_kind kind = RUN_BAD;
		if (!is_good) {
			kind = kind_of(segment, map, i, base == 0 ? 0 : base + i, slot);
			if (!add_run(piece, i, kind))
				return false;
		}
		if (is_good || kind == RUN_MENDABLE) {
			piece->reach = i + 1;
			if (!entry_is_marker(entry))
				data_end = (size_t)entry->offset + entry->size;
		} else if (kind == RUN_BAD) {
			data_end = end_of_bad(segment, map, i, data_end);
		}
		if (is_good) {
			piece->last_us = entry_time_us(entry);
			if (!piece->is_sealed)
				piece->entries = i + 1;
		}
		piece->room = scan_slots(segment, data_end);
	}
	return true;
}

/* Where the slots behind `reach` that are not empty, one behind the other, end. */
static uint32_t end_of_crowd(const struct piece *piece)
{
	uint32_t end = piece->reach;

	for (const struct run *run; (run = piece_run(piece, end)) != NULL;) {
		if (run->kind == RUN_EMPTY || run->kind == RUN_UNCOMMITTED)
			break;
		end = run->to + 1;
	}
	return end;
}

/* What the parts of the header and the slots have to say about where it begins. */
static uint64_t first_id(const struct piece *piece, uint64_t base)
{
	if (piece->is_sealed)
		return piece->header.seal.base;
	if (base != 0)
		return base;
	return (piece->faults & FAULT_GAP) != 0 ? 0 : piece->header.gap.base;
}

int piece_read_slots(const struct store *store, struct piece *piece)
{
	char *map = NULL;
	const struct header_seal *seal = &piece->header.seal;
	int error = piece_map(store, piece, &map);

	if (error != 0)
		return error;
	if ((piece->faults & FAULT_CONSTANT) != 0 && !piece->is_bound_sure)
		find_secret(piece, map);
	uint64_t base = piece->is_sealed ? seal->base : find_base(piece->segment, map);
	piece->room = scan_slots(piece->segment, SEGMENT_HEADER_SIZE);
	if (piece->is_sealed)
		piece->entries = seal->entries < piece->room ? seal->entries : piece->room;
	bool has_memory = look_at_slots(piece, map, base);
	piece->base = first_id(piece, base);
	piece->crowd = piece->is_sealed ? piece->entries : end_of_crowd(piece);
	if (piece->is_sealed)
		piece->reach = piece->entries;
	if (segment_is_damaged(piece->segment))
		piece->faults |= FAULT_UNREAD;
	piece_unmap(piece, map);
	return has_memory ? 0 : -ENOMEM;
}

int piece_map(const struct store *store, struct piece *piece, char **map)
{
	struct segment *segment = piece->segment;
	size_t size = piece->file_size < segment->size ? piece->file_size : segment->size;
	char name[STORE_NAME_MAX];

	/* Anonymous beneath, for what the file lacks. */
	char *at = mmap(NULL, segment->size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	store_name(piece->number, name);
	int fd = openat(store_fd(store), name, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : 0;
	if (error == 0 && size > 0 &&
	    mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		error = -errno;
	if (fd >= 0)
		close(fd);
	if (error == 0)
		error = fault_watch(at, segment->size, &segment->is_damaged);
	if (error != 0) {
		munmap(at, segment->size);
		return error;
	}
	(void)madvise(at, segment->size, MADV_SEQUENTIAL);
	*map = at;
	return 0;
}

void piece_unmap(struct piece *piece, char *map)
{
	store_unmap(piece->segment, map);
}
