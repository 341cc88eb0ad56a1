/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=getrandom,--wrap=fstatfs,--wrap=clock_wall_us,--wrap=diag */
/* FUZZ: -max_len=512 */
/*
 * Changes the files of a log and lets everything loose on them that reads such files: the dump, a
 * start, a repair and the start behind it.
 *
 * The log that is changed is always the same one, made below: four files, with gaps of several
 * kinds,
 * as left by a run that ended in good order, by its death or by the machine's. The input is a list
 * of edits (see edit()): bits, ranges, blocks, whole files. Some of them put checks right again, so
 * that what lies behind a check is reached: nothing is promised then about what is read, but no
 * byte outside of the files may be looked at, and everything must end.
 *
 * Otherwise: no message is ever shown that was not written under its id, no id stands for two, what
 * is missing is said to be, with its ids, what was synced is never lost in silence, a refused start
 * has changed nothing, and behind a repair the log opens and has all that could be read before.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/hash.h"
#include "fuzz.h"
#include "log/chain.h"
#include "log/dump.h"
#include "log/frame.h"
#include "log/header.h"
#include "log/log.h"
#include "log/repair.h"
#include "log/store.h"

enum {
	SMALL = SEGMENT_SIZE_MIN,
	ROOM = 2 * SMALL, /* of an image: files may become longer */
	IMAGES = 4,
	IMAGES_MAX = 6,
	EDITS_MAX = 24,
	PATIENCE_MS = 20000,

	/* The ids of the log: 1-10 in the first file, 11-22 in the second, 40-51 in the third. */
	FIRST_ENTRIES = 10,
	SECOND_BASE = 11,
	SECOND_ENTRIES = 12,
	SECOND_MARKER = 15, /* void, since a recovery before */
	TAIL_BASE = 40,     /* behind ids that were lost */
	TAIL_ENTRIES = 12,
	TAIL_HOLE = 48,   /* claimed and never committed; after a clean end, a marker */
	TAIL_SYNCED = 43, /* by the older of the two marks */
	NEWEST = TAIL_BASE + TAIL_ENTRIES - 1,
};

static const uint64_t log_key = 0x0f1e2d3c4b5a6978;
static const uint32_t log_name = 0x3f9a12c4;
static const uint64_t wall_us = 1700000000000000;

/* ---- the same in every run: random numbers, the clock, a file system that forgets nothing ---- */

static uint64_t random_state;

ssize_t __wrap_getrandom(void *at, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *at, size_t n, unsigned flags)
{
	uint64_t state = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15, __ATOMIC_RELAXED);
	(void)flags;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)at)[i] = (unsigned char)hash64(&i, sizeof i, state);
	return (ssize_t)n;
}

/* Not a tmpfs: else no log in there would ever have lost power. */
int __real_fstatfs(int fd, struct statfs *system);
int __wrap_fstatfs(int fd, struct statfs *system);
int __wrap_fstatfs(int fd, struct statfs *system)
{
	int result = __real_fstatfs(fd, system);
	system->f_type = 0xEF53;
	return result;
}

uint64_t __wrap_clock_wall_us(void);
uint64_t __wrap_clock_wall_us(void)
{
	return wall_us;
}

/* What it says to the operator is formatted, to see that it can be, and not shown. */
void __wrap_diag(enum diag_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_diag(enum diag_level level, const char *format, ...)
{
	char text[2048];
	va_list arguments;

	FUZZ_CHECK(level <= DIAG_ERROR);
	va_start(arguments, format);
	int n = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	FUZZ_CHECK(n > 0 && (size_t)n < sizeof text);
}

/* For people who look into a finding. */
static void tell(const char *what, const char *text)
{
	if (getenv("PSAD_FUZZ_VERBOSE") != NULL)
		fprintf(stderr, "---- %s\n%s\n", what, text);
}

/* ---- the log that is changed ---- */

struct image {
	bool is_there;
	uint64_t number; /* of its name */
	size_t size;
	char *bytes; /* ROOM */
};

enum { TAIL_CLEAN = IMAGES, ORIGINALS };
static struct image originals[ORIGINALS]; /* the last: the third file after a clean end */
static struct image images[IMAGES_MAX];
static char dir[256];
static char boot[STORE_BOOT_MAX];

static struct message truth(uint64_t id, char topic[32], char payload[256])
{
	int topic_n = snprintf(topic, 32, "t.%" PRIu64, id % 5);
	size_t n = (size_t)snprintf(payload, 256, "%" PRIu64 ":", id);
	size_t size = n + (size_t)(id * 2654435761U % 61);

	memset(payload + n, 'a' + (int)(id % 26), size - n);
	return (struct message){.topic = topic,
	                        .topic_size = (uint32_t)topic_n,
	                        .payload = payload,
	                        .payload_size = (uint32_t)size,
	                        .topic_hash = (uint32_t)(id % 5 * 2654435761U)};
}

static bool was_written(uint64_t id)
{
	return (id >= 1 && id <= NEWEST) && id != SECOND_MARKER && id != TAIL_HOLE &&
	       (id < SECOND_BASE + SECOND_ENTRIES || id >= TAIL_BASE);
}

static void append(struct segment *segment, uint64_t id)
{
	char topic[32], payload[256];
	struct message message = truth(id, topic, payload);
	struct claim claim;

	FUZZ_CHECK(segment_claim(segment, &message, 1, &claim) == CLAIM_DONE);
	if (was_written(id))
		segment_commit(segment, &message, &claim);
}

static void mark(struct segment *segment, uint64_t id)
{
	uint64_t base = atomic64_load_acquire(&segment->base);
	entry_mark(segment_entry(segment, (uint32_t)(id - base)), id, wall_us, LOSS_VOID, segment);
}

static struct segment *make(struct store *store, uint64_t number, uint64_t before, uint64_t said,
                            uint64_t base, unsigned entries)
{
	const struct store_plan plan = {.number = number,
	                                .size = SMALL,
	                                .max_entries = UINT32_MAX >> 1,
	                                .before = before,
	                                .base = said,
	                                .loss = said == TAIL_BASE ? LOSS_LOST : LOSS_NONE};
	int error = 0;
	struct segment *segment = store_make_segment(store, &plan, &error);

	FUZZ_CHECK(segment != NULL);
	if (base != 0)
		atomic64_store_release(&segment->base, base);
	for (unsigned i = 0; i < entries; i++)
		append(segment, base + i);
	return segment;
}

static void seal(struct segment *segment, unsigned entries)
{
	struct segment_header *header = (void *)segment_map(segment);

	segment_seal(segment);
	segment_sum_up(segment, entries);
	header_set_synced(header, atomic64_load_acquire(&segment->base) + entries - 1);
	header_set_seal(header, segment);
}

static void keep(struct image *image, struct segment *segment)
{
	*image = (struct image){.is_there = true,
	                        .number = segment->file.number,
	                        .size = SMALL,
	                        .bytes = calloc(1, ROOM)};
	FUZZ_CHECK(image->bytes != NULL);
	memcpy(image->bytes, segment_map(segment), SMALL);
}

static void remove_files(void)
{
	DIR *stream = opendir(dir);
	char path[1024];

	FUZZ_CHECK(stream != NULL);
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
		snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] != '.' && unlink(path) != 0)
			(void)rmdir(path);
	}
	closedir(stream);
}

static void remove_dir(void)
{
	remove_files();
	(void)rmdir(dir);
}

static void make_dir(void)
{
	const char *above = getenv("PSAD_FUZZ_DIR");

	if (above == NULL)
		above = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(dir, sizeof dir, "%s/psad-fuzz-XXXXXX", above);
	FUZZ_CHECK(mkdtemp(dir) != NULL);
	atexit(remove_dir);
}

static void make_originals(void)
{
	char error[LOG_ERROR_MAX];

	make_dir();
	struct store *store = store_open(dir, error, sizeof error);
	FUZZ_CHECK(store != NULL);
	store_set_key(store, log_key);
	snprintf(boot, sizeof boot, "%s", store_boot(store));

	struct segment *first = make(store, 1, 0, 1, 1, FIRST_ENTRIES);
	seal(first, FIRST_ENTRIES);
	keep(&originals[0], first);
	struct segment *second =
		make(store, 2, first->file.id_bound, 0, SECOND_BASE, SECOND_ENTRIES);
	mark(second, SECOND_MARKER);
	seal(second, SECOND_ENTRIES);
	keep(&originals[1], second);
	struct segment *tail =
		make(store, 3, second->file.id_bound, TAIL_BASE, TAIL_BASE, TAIL_ENTRIES);
	struct segment_header *header = (void *)segment_map(tail);
	header_set_synced(header, TAIL_SYNCED);
	header_set_synced(header, TAIL_SYNCED + 2);
	keep(&originals[2], tail);
	mark(tail, TAIL_HOLE);
	keep(&originals[TAIL_CLEAN], tail);
	struct segment *spare = make(store, 4, tail->file.id_bound, 0, 0, 0);
	keep(&originals[3], spare);

	segment_free(first);
	segment_free(second);
	segment_free(tail);
	segment_free(spare);
	store_close(store);
	remove_files();
}

/* ---- one input ---- */

static struct {
	bool is_clean, is_other_boot;
	bool is_forged;   /* checks were put right: nothing that is read means anything */
	bool moved_files; /* removed, renamed or doubled some */
	struct store_log log;
	char charter[CHARTER_MAX + 1];
	size_t charter_n;
	bool has_charter;
} the;

static void set_up(uint8_t options)
{
	the.is_clean = (options & 3) == 1;
	the.is_other_boot = (options & 3) == 2;
	the.is_forged = the.moved_files = false;
	the.has_charter = true;
	the.log = (struct store_log){.identity = log_name, .key = log_key, .end = STORE_OPEN};
	snprintf(the.log.boot, sizeof the.log.boot, "%s", the.is_other_boot ? "0-0" : boot);
	if (the.is_clean) {
		the.log.end = STORE_CLEAN;
		the.log.head = NEWEST;
	}
	the.charter_n = charter_print(&the.log, the.charter);
	for (size_t i = 0; i < IMAGES_MAX; i++) {
		char *bytes = images[i].bytes == NULL ? malloc(ROOM) : images[i].bytes;
		FUZZ_CHECK(bytes != NULL);
		const struct image *from =
			&originals[i == 2 && the.is_clean ? TAIL_CLEAN : i % IMAGES];
		images[i] = *from;
		images[i].is_there = i < IMAGES;
		images[i].bytes = bytes;
		memcpy(bytes, from->bytes, ROOM);
	}
}

/* ---- edits ---- */

struct edit {
	uint8_t op, file, where, index;
	uint16_t offset;
	uint8_t a, b;
};

enum {
	PLACE_CONSTANT,
	PLACE_GAP,
	PLACE_SEAL,
	PLACE_SYNCED,
	PLACE_FAILED,
	PLACE_FILTER,
	PLACE_SLOT,
	PLACE_FRAME,
	PLACES
};

static struct entry *slot_of(const struct image *image, unsigned index)
{
	return map_entry(image->bytes, SMALL, index % 16);
}

/* Where an edit begins; at least 64 bytes of the image are behind it. */
static size_t place(const struct image *image, const struct edit *edit)
{
	static const size_t begins[] = {
		offsetof(struct segment_header, constant), offsetof(struct segment_header, gap),
		offsetof(struct segment_header, seal),     offsetof(struct segment_header, synced),
		offsetof(struct segment_header, failed),   FILTER_OFFSET};
	size_t at;

	switch (edit->where % (PLACES + 1)) {
	case PLACE_SLOT:
		at = (size_t)((char *)slot_of(image, edit->index) - image->bytes) +
		     edit->offset % 32;
		break;
	case PLACE_FRAME:
		at = slot_of(image, edit->index)->offset % SMALL + edit->offset % 128;
		break;
	case PLACES:
		at = edit->offset | (size_t)(edit->index & 1) << 16;
		break;
	default:
		at = begins[edit->where % (PLACES + 1)] + edit->offset % 64;
	}
	return at % (ROOM - 64);
}

static bool is_in_header(size_t at)
{
	return at < SEGMENT_HEADER_SIZE;
}

static const uint64_t telling[] = {0,          1,         2,          7,          0x7f,
                                   0xff,       0x100,     0xfff,      0x1000,     0xffff,
                                   0x10000,    0x10001,   INT32_MAX,  1U << 31,   UINT32_MAX,
                                   1ULL << 32, INT64_MAX, 1ULL << 63, UINT64_MAX, UINT64_MAX - 1,
                                   10,         11,        22,         23,         39,
                                   40,         51,        52,         4096,       4097};

#define PUT_RIGHT(part, key) ((part)->check = hash64((part), sizeof *(part)-8, (key)))

/* Makes the check of what stands at the place right. */
static void put_right(struct image *image, const struct edit *edit)
{
	struct segment_header *header = (void *)image->bytes;
	uint64_t key = header->constant.key;
	struct entry *entry = slot_of(image, edit->index);
	uint64_t id = entry->commit ^ header->constant.secret;

	the.is_forged = true;
	switch (edit->where % PLACES) {
	case PLACE_CONSTANT:
		/* A repair makes a file as long as this says, and all files up to this number: that
		 * takes its time. */
		if (header->constant.size > ROOM)
			header->constant.size = ROOM;
		if (header->constant.number > 64 && header->constant.number <= UINT32_MAX)
			header->constant.number %= 64;
		PUT_RIGHT(&header->constant, 0);
		break;
	case PLACE_GAP:
		PUT_RIGHT(&header->gap, key);
		break;
	case PLACE_FILTER:
		header->seal.filter_hash =
			hash64(image->bytes + FILTER_OFFSET, FILTER_BITS / 8, key);
		/* fall through */
	case PLACE_SEAL:
		PUT_RIGHT(&header->seal, key);
		break;
	case PLACE_FAILED:
	case PLACE_SYNCED:
		PUT_RIGHT(&header->synced[0], key);
		PUT_RIGHT(&header->synced[1], key);
		break;
	case PLACE_SLOT:
	case PLACE_FRAME:
		if ((uint64_t)entry->offset + entry->size <= SMALL)
			entry->checksum = entry_checksum(entry, id, image->bytes + entry->offset,
			                                 header->constant.key);
		break;
	}
}

static void edit_charter(const struct edit *edit)
{
	static const char *const boots[] = {"", "0-0", "-", "abcdef"};

	switch (edit->where % 5) {
	case 0:
		the.charter[edit->offset % CHARTER_MAX] = (char)edit->a;
		break;
	case 1:
		the.charter_n = edit->offset % CHARTER_MAX;
		break;
	case 2:
		the.has_charter = false;
		break;
	case 3:
		the.charter[edit->offset % (the.charter_n + 1)] ^= (char)(1 << edit->a % 8);
		break;
	case 4:
		the.is_forged = true;
		the.log.end = (enum store_end)(edit->a % 3);
		the.log.head = telling[edit->b % (sizeof telling / sizeof telling[0])];
		the.log.key ^= edit->index & 1;
		snprintf(the.log.boot, sizeof the.log.boot, "%s",
		         edit->index & 2 ? boots[edit->offset % 4] : boot);
		the.charter_n = charter_print(&the.log, the.charter);
		break;
	}
}

static void move_file(struct image *image, const struct edit *edit)
{
	/* None a few thousand away: a survey then looks for all those between. */
	static const uint64_t numbers[] = {0, 1, 2, 3, 4, 5, 6, 9, 40, UINT32_MAX, UINT64_MAX};
	struct image *other = &images[edit->a % IMAGES_MAX];
	uint64_t number = image->number;

	the.moved_files = true;
	switch (edit->where % 4) {
	case 0:
		image->is_there = false;
		break;
	case 1: /* two change places */
		image->number = other->number;
		other->number = number;
		break;
	case 2: /* stands there twice */
		memcpy(other->bytes, image->bytes, ROOM);
		other->size = image->size;
		other->is_there = true;
		other->number = 1 + edit->b % 7;
		break;
	case 3:
		image->number = numbers[edit->b % (sizeof numbers / sizeof numbers[0])];
		break;
	}
}

static void edit(struct input *input, const struct edit *edit)
{
	struct image *image = &images[edit->file % IMAGES];
	size_t at = place(image, edit);
	char *target = image->bytes + at;
	size_t n;

	switch (edit->op % 12) {
	case 0:
		*target ^= (char)(1 << edit->a % 8);
		break;
	case 1:
		*target = (char)edit->a;
		break;
	case 2: /* a range of one byte, page or anything between becomes something else */
		n = ((size_t)1 << edit->b % 14) % (ROOM - at);
		memset(target, edit->a & 1 ? 0 : edit->a, n);
		break;
	case 3:
		n = edit->b & 1 ? 8 : 4;
		memcpy(target, &telling[edit->a % (sizeof telling / sizeof telling[0])], n);
		break;
	case 4: { /* what stands elsewhere */
		struct edit there = *edit;
		there.index = (uint8_t)(edit->index + edit->a);
		const struct image *from = &images[edit->b % IMAGES];
		size_t source = place(from, &there);
		memmove(target, from->bytes + source, 32);
		the.is_forged = the.is_forged || is_in_header(at) || is_in_header(source);
		break;
	}
	case 5:
		image->size = (edit->offset | (size_t)(edit->a & 1) << 16) % ROOM;
		break;
	case 6: { /* two pages change places */
		char page[4096],
			*one = image->bytes + edit->a % 16 * sizeof page,
			*other = images[edit->index % IMAGES].bytes + edit->b % 16 * sizeof page;
		memcpy(page, one, sizeof page);
		memmove(one, other, sizeof page);
		memcpy(other, page, sizeof page);
		the.is_forged = the.is_forged || edit->a % 16 == 0 || edit->b % 16 == 0;
		break;
	}
	case 7:
		put_right(image, edit);
		break;
	case 8:
		edit_charter(edit);
		break;
	case 9:
		move_file(image, edit);
		break;
	case 10: /* bytes of the input */
		for (n = edit->b % 32U; n > 0; n--)
			*target++ = (char)input_byte(input);
		break;
	case 11: /* nothing: so that an edit can be taken out */
		break;
	}
}

static void edit_all(struct input *input)
{
	for (unsigned i = 0; i < EDITS_MAX && input->n > 0; i++) {
		const struct edit next = {.op = input_byte(input),
		                          .file = input_byte(input),
		                          .where = input_byte(input),
		                          .index = input_byte(input),
		                          .offset = input_short(input),
		                          .a = input_byte(input),
		                          .b = input_byte(input)};
		edit(input, &next);
	}
}

/* ---- files ---- */

static void write_file(const char *name, const char *bytes, size_t n)
{
	static const char zeros[4096];
	char path[512];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)n) == 0);
	for (size_t at = 0; at < n; at += sizeof zeros) {
		size_t piece = n - at < sizeof zeros ? n - at : sizeof zeros;
		if (memcmp(bytes + at, zeros, piece) != 0)
			FUZZ_CHECK(pwrite(fd, bytes + at, piece, (off_t)at) == (ssize_t)piece);
	}
	close(fd);
}

static void write_files(void)
{
	char name[STORE_NAME_MAX];

	remove_files();
	if (the.has_charter)
		write_file("log", the.charter, the.charter_n);
	for (size_t i = 0; i < IMAGES_MAX; i++) {
		if (!images[i].is_there)
			continue;
		store_name(images[i].number, name);
		write_file(name, images[i].bytes, images[i].size);
	}
}

/* Aborts when a file is not as write_files() has left it. */
static void check_file(const char *name, const char *bytes, size_t n)
{
	static char found[ROOM + 1];
	char path[512];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	FUZZ_CHECKF(fd >= 0, "%s is gone", name);
	FUZZ_CHECKF(read(fd, found, sizeof found) == (ssize_t)n && memcmp(found, bytes, n) == 0,
	            "%s has been changed", name);
	close(fd);
}

static void check_files(void)
{
	char name[STORE_NAME_MAX];

	if (the.has_charter)
		check_file("log", the.charter, the.charter_n);
	for (size_t i = 0; i < IMAGES_MAX; i++) {
		bool is_hidden = false; /* by one written later under the same name */
		for (size_t j = i + 1; j < IMAGES_MAX; j++)
			is_hidden = is_hidden ||
			            (images[j].is_there && images[j].number == images[i].number);
		if (!images[i].is_there || is_hidden)
			continue;
		store_name(images[i].number, name);
		check_file(name, images[i].bytes, images[i].size);
	}
}

/* One line, printable, of this directory. */
static void check_sentence(const char *error)
{
	size_t n = strlen(error);

	FUZZ_CHECK(n > 0 && n < LOG_ERROR_MAX - 1);
	FUZZ_CHECKF(strncmp(error, dir, strlen(dir)) == 0, "%s", error);
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECKF(error[i] >= ' ' && error[i] <= '~', "%s", error);
}

/* ---- what there is to be read ---- */

/* Of the ids up to NEWEST: M a message, V L D a gap, - dropped, space: beyond the head. */
struct reading {
	char map[NEWEST + 2];
	uint64_t first, head;
};

struct world {
	_Alignas(CACHE_LINE) struct epoch_thread me;
	struct log *log;
	struct wake *wake;
};

static bool world_open(struct world *w, char *error)
{
	const struct log_options options = {.segment_size = SMALL, .dir = dir, .sync = LOG_SYNC_NO};

	memset(w, 0, sizeof *w);
	w->wake = wake_new(1);
	FUZZ_CHECK(w->wake != NULL);
	w->log = log_open(&options, w->wake, error, LOG_ERROR_MAX);
	if (w->log == NULL) {
		wake_free(w->wake);
		return false;
	}
	epoch_register(log_epoch(w->log), &w->me);
	return true;
}

static void world_close(struct world *w)
{
	log_close(w->log);
	wake_free(w->wake);
}

static void wait_until_warm(struct world *w, const struct block *block, uint64_t warmed)
{
	uint64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

	log_want(w->log, block);
	epoch_leave(&w->me);
	while (log_warmed(w->log) == warmed) {
		FUZZ_CHECK(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
	epoch_enter(&w->me);
}

static enum block_verdict look(struct world *w, uint64_t id, uint64_t upto, struct block *block)
{
	for (;;) {
		uint64_t warmed = log_warmed(w->log);
		enum block_verdict verdict = log_block(w->log, id, upto, block);
		if (verdict != BLOCK_COLD)
			return verdict;
		wait_until_warm(w, block, warmed);
	}
}

/* What can be sent is a frame of that id; of a log whose checks were left alone, the one written.
 * */
static void check_message(const struct block *block, uint32_t i)
{
	const struct entry *entry = block_entry(block, i);
	uint64_t id = block->first + i;
	char head[64], topic[32], payload[256], frame[512];
	int n = snprintf(head, sizeof head, "MSG %" PRIu64 " ", id);

	FUZZ_CHECK(entry->offset >= SEGMENT_HEADER_SIZE && entry->size > (uint32_t)n);
	FUZZ_CHECK((uint64_t)entry->offset + entry->size <= block->segment->size);
	FUZZ_CHECK(memcmp(block_frame(block, i), head, (size_t)n) == 0);
	FUZZ_CHECK(block_frame(block, i)[entry->size - 1] == '\n');
	if (the.is_forged)
		return;
	FUZZ_CHECKF(was_written(id), "%" PRIu64 " was never written", id);
	const struct message m = truth(id, topic, payload);
	frame_write(frame, id, m.topic, m.topic_size, m.payload, m.payload_size);
	FUZZ_CHECKF(entry->size == frame_size(id, m.topic_size, m.payload_size) &&
	                    entry_topic_size(entry) == m.topic_size &&
	                    entry->topic_hash == m.topic_hash &&
	                    memcmp(block_frame(block, i), frame, entry->size) == 0,
	            "%" PRIu64 " is another message", id);
}

static void note(struct reading *reading, uint64_t from, uint64_t to, char letter)
{
	for (uint64_t id = from; id <= to && id <= NEWEST; id++)
		reading->map[id] = letter;
}

static void read_log(struct world *w, struct reading *reading)
{
	static const char letters[] = {'?', 'V', 'L', 'D'};
	struct block block;

	memset(reading->map, ' ', sizeof reading->map);
	reading->map[NEWEST + 1] = '\0';
	epoch_enter(&w->me);
	reading->first = log_first(w->log);
	reading->head = log_head(w->log);
	note(reading, 1, reading->first - 1, '-');
	for (uint64_t id = reading->first; id <= reading->head;) {
		enum block_verdict verdict = look(w, id, reading->head, &block);
		FUZZ_CHECK(verdict == BLOCK_HERE || verdict == BLOCK_GAP);
		FUZZ_CHECK(block.first == id);
		if (verdict == BLOCK_GAP) {
			FUZZ_CHECK(block.last >= id && block.last <= reading->head);
			FUZZ_CHECK(block.loss >= LOSS_VOID && block.loss <= LOSS_DAMAGED);
			note(reading, id, block.last, letters[block.loss]);
			id = block.last + 1;
			continue;
		}
		FUZZ_CHECK(block.count > 0);
		for (uint32_t i = 0; i < block.count; i++)
			check_message(&block, i);
		note(reading, id, id + block.count - 1, 'M');
		id += block.count;
	}
	epoch_leave(&w->me);
	tell("log", reading->map + 1);
}

/* A new message, as far as there is room: returns its id. */
static uint64_t append_one(struct world *w)
{
	struct message message = {
		.topic = "new", .topic_size = 3, .payload = "x", .payload_size = 1};
	uint64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
	enum log_verdict verdict;
	size_t appended = 0;

	do {
		FUZZ_CHECK(clock_mono_ms() < deadline_ms);
		epoch_enter(&w->me);
		verdict = log_append(w->log, &message, 1, &appended);
		epoch_leave(&w->me);
		if (verdict == LOG_NO_SEGMENT)
			sched_yield();
	} while (verdict == LOG_NO_SEGMENT);
	log_announce(w->log);
	if (verdict == LOG_APPENDED)
		return message.id;
	FUZZ_CHECK(the.is_forged);
	return 0;
}

/* ---- what must hold ---- */

/* Whether the slot of an id stands in the third file as if it had never been used. */
static bool looks_unused(uint64_t id)
{
	return id < TAIL_BASE || id > NEWEST ||
	       slot_of(&images[2], (unsigned)(id - TAIL_BASE))->commit == 0;
}

/* Each id that was synced is there, or said to be damaged. */
static void check_synced(const struct reading *reading)
{
	for (uint64_t id = reading->first; id <= TAIL_SYNCED; id++)
		if (was_written(id))
			FUZZ_CHECKF(reading->map[id] == 'M' || reading->map[id] == 'D',
			            "%" PRIu64 " was synced: %s", id, reading->map + 1);
}

/* A start that was not refused; `next`: the id of a message that was appended to it. */
static void check_started(const struct reading *reading, uint64_t next)
{
	FUZZ_CHECK(reading->first >= 1 && reading->first <= reading->head + 1);
	FUZZ_CHECK(next == 0 || next > reading->head);
	if (the.is_forged || the.moved_files)
		return;
	FUZZ_CHECKF(reading->first == 1, "%s", reading->map + 1);
	check_synced(reading);
	if (the.is_clean)
		FUZZ_CHECKF(reading->head == NEWEST, "%s", reading->map + 1);
	if (the.is_other_boot)
		FUZZ_CHECKF(next > NEWEST, "%" PRIu64 " is used again", next);
	FUZZ_CHECKF(next > NEWEST || looks_unused(next), "%" PRIu64 " is used again", next);
	/* What is missing was not there to be found. */
	for (uint64_t id = TAIL_BASE; id <= NEWEST && !the.is_other_boot; id++)
		if (was_written(id) && reading->map[id] != 'M')
			FUZZ_CHECKF(looks_unused(id), "%" PRIu64 " is dropped: %s", id,
			            reading->map + 1);
}

/* What a dump says. */
struct showing {
	enum dump_verdict verdict;
	struct reading reading;
};

static void take_line(struct showing *showing, const char *line, uint64_t *before)
{
	char topic[32], payload[256], said[64], why[32], log[16];
	uint64_t id, to;
	uint32_t size;

	for (const char *at = line; *at != '\0'; at++)
		FUZZ_CHECKF((unsigned char)*at >= ' ' && *at != 0x7f, "%s", line);
	if (sscanf(line, "GAP %" SCNu64 " %" SCNu64 " %31s", &id, &to, why) == 3) {
		FUZZ_CHECKF(id > *before && to >= id, "%s", line);
		note(&showing->reading, id, to, 'G');
		*before = to;
	} else if (sscanf(line, "%" SCNu64 "@%15s %*s %63s %" SCNu32, &id, log, said, &size) == 4) {
		FUZZ_CHECKF(id > *before, "%s", line);
		*before = id;
		note(&showing->reading, id, id, 'M');
		if (the.is_forged)
			return;
		const struct message m = truth(id, topic, payload);
		FUZZ_CHECKF(was_written(id) && strcmp(said, topic) == 0 && size == m.payload_size,
		            "%s", line);
	} else {
		FUZZ_CHECKF(strncmp(line, "DAMAGED ", 8) == 0 || strncmp(line, "LOG ", 4) == 0,
		            "%s", line);
	}
}

static void show(struct showing *showing)
{
	const struct dump_filter filter = {.selects = NULL};
	char error[LOG_ERROR_MAX] = "", *text = NULL, *rest;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	uint64_t before = 0;

	FUZZ_CHECK(out != NULL);
	memset(showing->reading.map, ' ', sizeof showing->reading.map);
	showing->verdict = log_dump(dir, &filter, out, error, sizeof error);
	fclose(out);
	FUZZ_CHECK(showing->verdict != DUMP_CUT);
	if (showing->verdict == DUMP_FAILED)
		check_sentence(error);
	else
		FUZZ_CHECK(n > 0 && text[n - 1] == '\n' && strlen(text) == n);
	tell("dump", showing->verdict == DUMP_FAILED ? error : text);
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest))
		take_line(showing, line, &before);
	free(text);
}

static void start(const struct showing *showing, bool reopens)
{
	struct reading reading, again;
	char error[LOG_ERROR_MAX] = "";
	struct world w;

	if (!world_open(&w, error)) {
		tell("start", error);
		check_sentence(error);
		check_files();
		FUZZ_CHECKF(the.is_forged || showing->verdict != DUMP_WHOLE, "%s", error);
		return;
	}
	read_log(&w, &reading);
	uint64_t next = append_one(&w);
	world_close(&w);
	check_started(&reading, next);
	for (uint64_t id = 1; id <= NEWEST && !the.is_forged && showing->verdict == DUMP_WHOLE;
	     id++)
		FUZZ_CHECKF((showing->reading.map[id] == 'M') == (reading.map[id] == 'M'),
		            "%" PRIu64 " is not what was shown", id);
	if (!reopens)
		return;
	bool is_open = world_open(&w, error);
	FUZZ_CHECKF(is_open || the.is_forged, "%s", error);
	if (!is_open)
		return;
	the.is_forged = true; /* there is a message of ours now */
	read_log(&w, &again);
	world_close(&w);
	for (uint64_t id = 1; id <= NEWEST && id <= reading.head; id++)
		FUZZ_CHECKF(again.map[id] == reading.map[id], "%" PRIu64 " has changed", id);
}

static void repair(const struct showing *showing)
{
	char error[LOG_ERROR_MAX] = "", *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	struct reading reading;
	struct world w;

	FUZZ_CHECK(out != NULL);
	int result = log_repair(dir, out, error, sizeof error);
	fclose(out);
	tell("repair", text);
	tell("", error);
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECKF((unsigned char)text[i] >= ' ' || text[i] == '\n', "%s", text);
	free(text);
	if (result != 0) {
		check_sentence(error);
		return;
	}
	bool is_open = world_open(&w, error);
	FUZZ_CHECKF(is_open, "repaired, but: %s", error);
	read_log(&w, &reading);
	(void)append_one(&w);
	world_close(&w);
	/* What could be read is there; but where files were moved, one without a header may be in
	 * the place of another. */
	bool is_told = !the.is_forged && !the.moved_files;
	for (uint64_t id = 1; id <= NEWEST && is_told; id++)
		if (showing->verdict != DUMP_FAILED && showing->reading.map[id] == 'M')
			FUZZ_CHECKF(reading.map[id] == 'M', "%" PRIu64 " is gone: %s", id,
			            reading.map + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input input = {data, n};
	struct showing showing;

	if (dir[0] == '\0')
		make_originals();
	random_state = 0;
	uint8_t options = input_byte(&input);
	set_up(options);
	edit_all(&input);
	bool is_forged = the.is_forged;
	write_files();
	show(&showing);
	check_files();
	start(&showing, (options & 4) != 0);
	the.is_forged = is_forged;
	write_files();
	repair(&showing);
	return 0;
}
