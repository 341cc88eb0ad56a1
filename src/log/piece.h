/* SPDX-License-Identifier: MIT */
/*
 * piece: what can be told of one file of a log by looking at nothing else.
 *
 * Each part of the header and each slot of the index is looked at by itself, and what checks out is
 * known from then on, by its checksum and not by its surroundings. Where the header has gone the
 * entries stand in for it: the checksum says which id a frame has, the id says where the segment
 * begins and what the secret was. Nothing is changed.
 *
 * Functions return 0 or a negative errno. Thread: startup.
 */
#ifndef PSAD_LOG_PIECE_H
#define PSAD_LOG_PIECE_H

#include "log/store.h"
#include "log/verify.h"

/* What is wrong with a file's header, bit by bit. */
enum fault {
	FAULT_CONSTANT = 1,
	FAULT_GAP = 2,
	FAULT_SEAL = 4,
	FAULT_FILTER = 8,
	FAULT_SYNCED = 16,
	FAULT_SIZE = 32,   /* the file is cut short or longer than its header says */
	FAULT_UNREAD = 64, /* the system could not read all of it */
};

/* Neighbouring slots that are not what they should be. */
struct run {
	uint32_t from, to; /* inclusive */
	enum run_kind {
		RUN_EMPTY,       /* never committed */
		RUN_UNCOMMITTED, /* the same, but a whole message stands there */
		RUN_BAD,
		RUN_MENDABLE, /* only the commit word is not what it should be */
	} kind;
};

/* A file of the directory, or a number that has none. */
struct piece {
	/* Parts that are in `faults` were not good; a constant part that was mended is here as it
	 * should be. */
	struct segment_header header;
	struct segment *segment; /* NULL: nothing of it can be used, and `why` says it */
	const char *why;
	uint64_t number;
	uint64_t file_size;
	bool has_file;
	unsigned faults;
	bool is_bound_sure; /* header.constant.id_bound can be relied on */

	bool is_sealed;   /* by a good seal */
	uint64_t synced;  /* 0: nothing is known to be */
	uint64_t base;    /* as seal, entries or gap part have it; 0: none says it */
	uint32_t entries; /* up to the last good one, or what the seal says */
	uint32_t reach;   /* up to the last good or mendable one */
	uint32_t crowd;   /* up to the first slot behind `reach` that is empty or uncommitted */
	uint32_t room;    /* how many slots there can be */
	uint64_t last_us; /* the time of the last good one; 0: none */
	struct run *runs; /* of slots below `room` (of sealed ones, `entries`), in order */
	size_t run_count, run_room;

	/* What assess.h makes of it: see verdict.h. */
	struct verdict {
		enum action {
			ACTION_NONE,
			ACTION_CHANGE,
			ACTION_REPLACE, /* by an empty segment: its messages are gone */
			ACTION_ADD,     /* the same, at the end, to be appended to */
			ACTION_ASIDE,   /* it loses its name, and nothing takes its place */
		} action;
		uint64_t base, end; /* of what will be there: ids base .. end - 1 */
		uint64_t gap_from;  /* missing before base; equal to it: nothing */
		enum loss loss;     /* why */
		uint64_t time_us;   /* of the last message before it */
		uint64_t id_bound;
		struct gap_list marked; /* ids that become markers */
		uint32_t mended;        /* commit words */
		bool is_begun;          /* else a spare */
		bool marks_all;         /* each slot that is not good is damage */
		bool writes_gap, writes_seal, clears_seal, writes_synced;
		bool wipes; /* what stands behind the last entry */
	} verdict;
};

/* Reads the first page and the size of the file with piece->number; -ENOENT: there is none. */
int piece_peek(const struct store *store, struct piece *piece);
/* Behind piece_peek(): whether it may be whole, but is of another version of psad or another kind
 * of machine. */
bool piece_is_foreign(const struct piece *piece);

/*
 * The header, its segment if it has one, and the faults of both. `key`: the log's. `is_live`: a
 * psad may be writing to it. That there is no file is no error.
 */
int piece_read_header(const struct store *store, uint64_t key, bool is_live, struct piece *piece);
/* All the rest, of one that has a segment. */
int piece_read_slots(const struct store *store, struct piece *piece);

/*
 * Maps one that has a segment, to be read; what the file lacks is zeros. Segment.is_damaged says
 * afterwards whether all could be read.
 */
int piece_map(const struct store *store, struct piece *piece, char **map);
void piece_unmap(struct piece *piece, char *map);

/* From here on it is as if nothing of the file could be used, `why` (static) says why. Releases all
 * that it has. */
void piece_drop(struct piece *piece, const char *why);
/* Of those that piece_read_slots() found, the run that slot i is in; NULL: the slot is good, or
 * behind the last one looked at. */
const struct run *piece_run(const struct piece *piece, uint32_t i);

#endif
