/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=renameat -Wl,--wrap=linkat -Wl,--wrap=unlinkat -Wl,--wrap=fdatasync -Wl,--wrap=fsync -Wl,--wrap=pwrite -Wl,--wrap=write -Wl,--wrap=posix_fallocate -Wl,--wrap=openat */
/*
 * Repairing: each kind of damage, what comes of it, and repairs that are killed before or after
 * each of their system calls.
 *
 * The oracle: what was not damaged is there as it was appended, to the byte; what was is a gap with
 * exact bounds; a second repair has nothing to do and changes nothing; and the log goes on with ids
 * that have never been given out, or under another identity.
 */
#include "durable.h"

#include "base/hash.h"
#include "chance.h"
#include "log/repair.h"

enum { FILES_MAX = 32, MESSAGES = 1500, TEXT_MAX = 8192 };

/* ---- system calls that kill ---- */

static unsigned calls_left; /* 0: for ever */

static void count_call(void)
{
	if (calls_left > 0 && --calls_left == 0)
		_exit(7);
}

/* Counted twice: killed before it, or behind it. */
#define WRAP(type, name, parameters, arguments)                                                    \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		count_call();                                                                      \
		type result = __real_##name arguments;                                             \
		int error = errno;                                                                 \
		count_call();                                                                      \
		errno = error;                                                                     \
		return result;                                                                     \
	}

WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c))
WRAP(int, fdatasync, (int a), (a))
WRAP(int, fsync, (int a), (a))
WRAP(ssize_t, pwrite, (int a, const void *b, size_t c, off_t d), (a, b, c, d))
WRAP(ssize_t, write, (int a, const void *b, size_t c), (a, b, c))

static bool has_no_links, is_full, is_locked_up;

int __real_linkat(int a, const char *b, int c, const char *d, int e);
int __wrap_linkat(int a, const char *b, int c, const char *d, int e);
int __wrap_linkat(int a, const char *b, int c, const char *d, int e)
{
	count_call();
	if (!has_no_links)
		return __real_linkat(a, b, c, d, e);
	/* As a file system without them does it. */
	errno = faccessat(c, d, F_OK, 0) == 0 ? EEXIST : EPERM;
	return -1;
}

int __real_posix_fallocate(int a, off_t b, off_t c);
int __wrap_posix_fallocate(int a, off_t b, off_t c);
int __wrap_posix_fallocate(int a, off_t b, off_t c)
{
	count_call();
	return is_full ? ENOSPC : __real_posix_fallocate(a, b, c);
}

int __real_openat(int a, const char *b, int c, mode_t d);
int __wrap_openat(int a, const char *b, int c, mode_t d);
int __wrap_openat(int a, const char *b, int c, mode_t d)
{
	count_call();
	if (is_locked_up && strstr(b, ".seg") != NULL) {
		errno = EACCES;
		return -1;
	}
	return __real_openat(a, b, c, d);
}

/* ---- directories ---- */

static struct world w;

static int begin(void **state)
{
	(void)state;
	calls_left = 0;
	has_no_links = is_full = is_locked_up = false;
	world_begin(&w, "/dev/shm");
	w.options.sync_interval_us = 1000;
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end(&w);
	return 0;
}

/* All files of a directory but the lock. */
struct snapshot {
	size_t count;
	struct file {
		char name[64];
		char *data;
		size_t size;
	} files[FILES_MAX];
};

static int compare_files(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void free_snapshot(struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->count; i++)
		free(snapshot->files[i].data);
	snapshot->count = 0;
}

static void take_snapshot(struct snapshot *snapshot)
{
	char path[512];
	DIR *dir = opendir(w.dir);

	free_snapshot(snapshot);
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct file *file = &snapshot->files[snapshot->count];
		struct stat status;
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock") == 0)
			continue;
		assert_true(++snapshot->count <= FILES_MAX);
		snprintf(file->name, sizeof file->name, "%.63s", entry->d_name);
		path_of(&w, file->name, path);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(fstat(fd, &status), 0);
		file->size = (size_t)status.st_size;
		file->data = malloc(file->size + 1);
		assert_int_equal(read(fd, file->data, file->size), (ssize_t)file->size);
		close(fd);
	}
	closedir(dir);
	qsort(snapshot->files, snapshot->count, sizeof snapshot->files[0], compare_files);
}

static void put_snapshot(const struct snapshot *snapshot)
{
	char path[512];

	(void)count_files(&w, "", true);
	for (size_t i = 0; i < snapshot->count; i++) {
		const struct file *file = &snapshot->files[i];
		path_of(&w, file->name, path);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, file->data, file->size), (ssize_t)file->size);
		close(fd);
	}
}

static void check_same(const struct snapshot *a, const struct snapshot *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++) {
		assert_string_equal(a->files[i].name, b->files[i].name);
		assert_int_equal(a->files[i].size, b->files[i].size);
		if (memcmp(a->files[i].data, b->files[i].data, a->files[i].size) != 0)
			fail_msg("%s has changed", a->files[i].name);
	}
}

static const struct file *file_of(const struct snapshot *snapshot, const char *name)
{
	for (size_t i = 0; i < snapshot->count; i++)
		if (strcmp(snapshot->files[i].name, name) == 0)
			return &snapshot->files[i];
	return NULL;
}

/* ---- logs to be damaged ---- */

enum ended { CLEAN, KILLED, POWER_LOST };

static uint64_t bases[FILES_MAX]; /* by number: the first id of each that has messages */
static uint64_t tail, files;      /* numbers of the one written last, and of the last spare */

static void append_until_stored(struct world *world)
{
	const struct segment *first = world->log->tail;

	append_many(world, MESSAGES);
	while (world_synced(world) < MESSAGES || count_segments(world) < 6)
		(void)poll(NULL, 0, 1);
	epoch_enter(&world->me);
	for (const struct segment *segment = first; segment != world->log->tail;
	     segment = segment->next)
		while (!segment_is_stored(segment))
			(void)poll(NULL, 0, 1);
	epoch_leave(&world->me);
	(void)poll(NULL, 0, 20); /* and the header tells of the last sync */
}

static void learn_bases(void)
{
	memset(bases, 0, sizeof bases);
	files = count_segments(&w);
	bases[1] = 1;
	for (tail = 1;; tail++) {
		struct segment_header header;
		int fd = open_file_of(&w, tail);
		assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
		close(fd);
		if (header.seal.base == 0)
			break;
		bases[tail + 1] = header.seal.base + header.seal.entries;
	}
	assert_true(tail >= 4 && files == tail + 2);
}

/* The same for all tests: made once for each way to end. */
static const struct snapshot *log_that(enum ended how)
{
	static struct snapshot logs[3];

	if (logs[how].count > 0) {
		put_snapshot(&logs[how]);
	} else {
		(void)count_files(&w, "", true);
		if (how == CLEAN) {
			open_log(&w);
			append_until_stored(&w);
			close_log(&w);
		} else {
			crash(&w, append_until_stored);
		}
		if (how == POWER_LOST)
			change_boot(&w);
		take_snapshot(&logs[how]);
	}
	learn_bases();
	return &logs[how];
}

static uint32_t slot_of(uint64_t number, uint64_t id)
{
	return (uint32_t)(id - bases[number]);
}

static void with_file(uint64_t number, off_t at, const void *bytes, size_t n)
{
	int fd = open_file_of(&w, number);
	assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
	close(fd);
}

static void read_file(uint64_t number, off_t at, void *bytes, size_t n)
{
	int fd = open_file_of(&w, number);
	assert_int_equal(pread(fd, bytes, n, at), (ssize_t)n);
	close(fd);
}

/* A bit of the payload of a message. */
static void flip_payload(uint64_t number, uint64_t id)
{
	struct entry entry;
	read_file(number, slot_at(slot_of(number, id)), &entry, sizeof entry);
	flip(&w, number, entry.offset + entry.size - 2, 3);
}

static void remove_segment(uint64_t number)
{
	char path[512];
	segment_path(&w, number, path);
	assert_int_equal(unlink(path), 0);
}

static void cut_segment(uint64_t number, off_t size)
{
	char path[512];
	segment_path(&w, number, path);
	assert_int_equal(truncate(path, size), 0);
}

/* ---- kinds of damage; `map` is what is expected, all M before ---- */

static void lose(char *map, uint64_t from, uint64_t to)
{
	memset(map + from - 1, 'D', to - from + 1);
}

static void lose_segment(char *map, uint64_t number)
{
	lose(map, bases[number], number == tail ? MESSAGES : bases[number + 1] - 1);
}

static void a_payload_in_the_tail(char *map)
{
	flip_payload(tail, 1490);
	lose(map, 1490, 1490);
}

static void payloads_in_sealed_segments(char *map)
{
	flip_payload(1, 7);
	flip_payload(1, 8);
	flip_payload(2, bases[2]);
	flip_payload(3, bases[4] - 1);
	lose(map, 7, 8);
	lose(map, bases[2], bases[2]);
	lose(map, bases[4] - 1, bases[4] - 1);
}

static void commit_words(char *map)
{
	(void)map;
	flip(&w, tail, slot_at(slot_of(tail, 1480)), 2);
	flip(&w, tail, slot_at(slot_of(tail, MESSAGES)) + 3, 2);
	flip(&w, 1, slot_at(5), 7);
}

static void commit_words_wiped(char *map)
{
	(void)map;
	wipe(&w, tail, slot_at(slot_of(tail, 1480)), 8);
	wipe(&w, tail, slot_at(slot_of(tail, MESSAGES)), 8);
}

static void the_last_slots_wiped(char *map)
{
	wipe(&w, tail, slot_at(slot_of(tail, MESSAGES)), 4 * sizeof(struct entry));
	lose(map, MESSAGES - 3, MESSAGES);
}

static void all_slots_wiped(char *map)
{
	wipe(&w, tail, SMALL / 2, SMALL / 2);
	lose_segment(map, tail);
}

static void the_last_slots_overwritten(char *map)
{
	char bytes[3 * sizeof(struct entry)];
	memset(bytes, 0x5a, sizeof bytes);
	with_file(tail, slot_at(slot_of(tail, MESSAGES)), bytes, sizeof bytes);
	lose(map, MESSAGES - 2, MESSAGES);
}

static void the_last_payload(char *map)
{
	flip_payload(tail, MESSAGES);
	lose(map, MESSAGES, MESSAGES);
}

static void a_constant_part(char *map)
{
	(void)map;
	flip(&w, 2, offsetof(struct header_constant, secret) + 3, 1);
}

static void the_constant_part_of_the_tail(char *map)
{
	(void)map;
	flip(&w, tail, offsetof(struct header_constant, id_bound), 1);
}

static void magic_number_and_size(char *map)
{
	(void)map;
	flip(&w, 1, 2, 1);
	flip(&w, 2, offsetof(struct header_constant, number), 1);
	flip(&w, 3, offsetof(struct header_constant, size) + 2, 1);
	flip(&w, tail, offsetof(struct header_constant, key) + 2, 1);
}

static void gap_parts(char *map)
{
	(void)map;
	for (uint64_t n = 1; n <= tail; n++)
		flip(&w, n, offsetof(struct segment_header, gap) + 17, 1);
}

static void synced_marks(char *map)
{
	(void)map;
	for (uint64_t n = 1; n <= tail; n++)
		for (size_t i = 0; i < 2; i++)
			flip(&w, n, (off_t)(offsetof(struct segment_header, synced[i]) + 9), 1);
}

static void seals(char *map)
{
	(void)map;
	flip(&w, 1, offsetof(struct segment_header, seal) + 9, 1);
	flip(&w, 3, offsetof(struct segment_header, seal) + 13, 1);
	flip(&w, 2, FILTER_OFFSET + 100, 1);
}

static void seals_and_payloads(char *map)
{
	seals(map);
	flip_payload(1, 1);
	flip_payload(3, bases[3] + 2);
	lose(map, 1, 1);
	lose(map, bases[3] + 2, bases[3] + 2);
}

static void whole_headers(char *map)
{
	(void)map;
	wipe(&w, 1, 0, SEGMENT_HEADER_SIZE);
	wipe(&w, 3, 0, SEGMENT_HEADER_SIZE);
	wipe(&w, tail, 0, SEGMENT_HEADER_SIZE);
}

static void all_headers(char *map)
{
	(void)map;
	for (uint64_t n = 1; n <= files; n++)
		wipe(&w, n, 0, SEGMENT_HEADER_SIZE);
}

static void the_headers_of_spares(char *map)
{
	(void)map;
	wipe(&w, tail + 1, 0, SEGMENT_HEADER_SIZE);
	flip(&w, tail + 2, 3, 3);
}

static void a_spare_is_not_empty(char *map)
{
	(void)map;
	with_file(tail + 1, slot_at(0), "nonsense", 8);
}

static void one_missing(char *map)
{
	remove_segment(2);
	lose_segment(map, 2);
}

static void two_missing(char *map)
{
	remove_segment(2);
	remove_segment(3);
	lose_segment(map, 2);
	lose_segment(map, 3);
}

static void the_tail_missing(char *map)
{
	remove_segment(tail);
	lose_segment(map, tail);
}

static void the_newest_missing(char *map)
{
	for (uint64_t n = 3; n <= files; n++) {
		remove_segment(n);
		if (n <= tail)
			lose_segment(map, n);
	}
}

static void the_newest_empty(char *map)
{
	for (uint64_t n = 3; n <= files; n++) {
		cut_segment(n, 0);
		if (n <= tail)
			lose_segment(map, n);
	}
}

static void the_spares_missing_or_empty(char *map)
{
	(void)map;
	remove_segment(tail + 2);
	cut_segment(tail + 1, 0);
}

static void the_first_empty(char *map)
{
	cut_segment(1, 0);
	lose_segment(map, 1);
}

static void one_cut_below_its_index(char *map)
{
	cut_segment(2, SMALL / 2);
	lose_segment(map, 2);
}

static void one_cut_within_its_index(char *map)
{
	cut_segment(2, SMALL - 10 * (off_t)sizeof(struct entry));
	lose(map, bases[2], bases[2] + 9);
}

static void the_tail_cut(char *map)
{
	cut_segment(tail, SMALL - 3 * (off_t)sizeof(struct entry));
	lose(map, bases[tail], bases[tail] + 2);
}

static void one_made_longer(char *map)
{
	(void)map;
	cut_segment(2, SMALL + 4096);
}

static void one_of_no_log(char *map)
{
	char path[512];
	segment_path(&w, 3, path);
	FILE *file = fopen(path, "we");
	fputs("somebody's notes\n", file);
	fclose(file);
	lose_segment(map, 3);
}

static void one_of_another_log(char *map)
{
	char ours[512], theirs[512];
	struct world other;
	world_begin(&other, "/dev/shm");
	open_log(&other);
	append_many(&other, MESSAGES);
	close_log(&other);
	segment_path(&w, 2, ours);
	segment_path(&other, 2, theirs);
	assert_int_equal(rename(theirs, ours), 0);
	world_end(&other);
	lose_segment(map, 2);
}

static void one_renamed(char *map)
{
	char from[512], to[512];
	(void)map;
	segment_path(&w, 2, from);
	segment_path(&w, 20, to);
	assert_int_equal(rename(from, to), 0);
}

static void one_over_another(char *map)
{
	char from[512], to[512];
	segment_path(&w, 2, from);
	segment_path(&w, 3, to);
	assert_int_equal(rename(from, to), 0);
	lose_segment(map, 3);
}

static void no_log_file(char *map)
{
	char path[512];
	(void)map;
	path_of(&w, "log", path);
	assert_int_equal(unlink(path), 0);
}

static void write_text(const char *text)
{
	char path[512];
	path_of(&w, "log", path);
	FILE *file = fopen(path, "we");
	fputs(text, file);
	fclose(file);
}

static void a_damaged_log_file(char *map)
{
	(void)map;
	write_text("psad log 1\nthis is not what it was\n");
}

static void a_damaged_log_file_and_a_payload(char *map)
{
	a_damaged_log_file(map);
	a_payload_in_the_tail(map);
	payloads_in_sealed_segments(map);
}

static void the_log_file_of_another_log(char *map)
{
	(void)map;
	char text[CHARTER_MAX + 1];
	const struct store_log log = {.identity = 1, .key = 2, .end = STORE_CLEAN};
	text[charter_print(&log, text)] = '\0';
	write_text(text);
}

static void rewrite_log(uint64_t head)
{
	struct store_log log;
	struct store *store = store_open(w.dir, w.error, sizeof w.error);
	assert_int_equal(store_read_log(store, &log, w.error, sizeof w.error), 0);
	log.head = head;
	assert_int_equal(store_write_log(store, &log), 0);
	store_close(store);
}

static void an_older_log_file(char *map)
{
	(void)map;
	rewrite_log(1200);
}

static void a_newer_log_file(char *map)
{
	(void)map;
	rewrite_log(MESSAGES + 5);
	lose(map, MESSAGES + 1, MESSAGES + 5);
}

static void the_gap_part_of_a_spare(char *map)
{
	(void)map;
	flip(&w, tail + 1, offsetof(struct segment_header, gap) + 3, 3);
}

static void everything_at_once(char *map)
{
	flip_payload(1, 3);
	lose(map, 3, 3);
	flip(&w, 1, offsetof(struct segment_header, gap) + 17, 1);
	one_missing(map);
	wipe(&w, 3, 0, SEGMENT_HEADER_SIZE);
	a_payload_in_the_tail(map);
}

/* What the rest is to be, behind the messages. */
enum rest { NOTHING, LOST, GONE /* damaged: nobody knows how many there were */ };

static const struct scenario {
	const char *name;
	enum ended ended;
	void (*damage)(char *map);
	const char *refusal; /* NULL: a start goes on in spite of it */
	bool is_renewed;     /* it gets another identity */
	bool is_short;       /* what is lost at the end is not told, but by the identity */
	enum rest rest;
} scenarios[] = {
#define ROW(ended, damage, ...)                                                                    \
	{                                                                                          \
#ended ": " #damage, ended, damage, __VA_ARGS__                                    \
	}
	ROW(CLEAN, a_payload_in_the_tail, "messages 1490 to 1490 are damaged", 0, 0, NOTHING),
	ROW(CLEAN, payloads_in_sealed_segments, NULL, 0, 0, NOTHING),
	ROW(CLEAN, commit_words, "are damaged", 0, 0, NOTHING),
	ROW(CLEAN, commit_words_wiped, "are damaged", 0, 0, NOTHING),
	ROW(CLEAN, the_last_slots_wiped, "1497 to 1500 are damaged", 0, 0, NOTHING),
	ROW(CLEAN, all_slots_wiped, "to 1500 are damaged", 0, 0, NOTHING),
	ROW(CLEAN, the_last_slots_overwritten, "are damaged", 0, 0, NOTHING),
	ROW(CLEAN, a_constant_part, "its header is damaged", 0, 0, NOTHING),
	ROW(CLEAN, the_constant_part_of_the_tail, "its header is damaged", 0, 0, NOTHING),
	ROW(CLEAN, magic_number_and_size, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, gap_parts, "its header is damaged", 0, 0, NOTHING),
	ROW(CLEAN, synced_marks, "its header is damaged", 0, 0, NOTHING),
	ROW(CLEAN, seals, NULL, 0, 0, NOTHING),
	ROW(CLEAN, seals_and_payloads, "messages 1 to 1 are damaged", 0, 0, NOTHING),
	ROW(CLEAN, whole_headers, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, all_headers, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, the_headers_of_spares, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, a_spare_is_not_empty, "are damaged", 0, 0, NOTHING),
	ROW(CLEAN, one_missing, "is missing", 0, 0, NOTHING),
	ROW(CLEAN, two_missing, "is missing", 0, 0, NOTHING),
	ROW(CLEAN, the_tail_missing, "is missing", 0, 0, NOTHING),
	ROW(CLEAN, the_newest_missing, "but the log was closed with 1500", 0, 0, NOTHING),
	ROW(CLEAN, the_newest_empty, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, the_spares_missing_or_empty, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, the_first_empty, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, one_cut_below_its_index, "has been cut short", 0, 0, NOTHING),
	ROW(CLEAN, one_cut_within_its_index, "has been cut short", 0, 0, NOTHING),
	ROW(CLEAN, the_tail_cut, "has been cut short", 0, 0, NOTHING),
	ROW(CLEAN, one_made_longer, "made longer", 0, 0, NOTHING),
	ROW(CLEAN, one_of_no_log, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(CLEAN, one_of_another_log, "belongs to another log", 0, 0, NOTHING),
	ROW(CLEAN, one_renamed, "is missing", 0, 0, NOTHING),
	ROW(CLEAN, one_over_another, "is missing", 0, 0, NOTHING),
	ROW(CLEAN, no_log_file, "log: is missing", 1, 0, NOTHING),
	ROW(CLEAN, a_damaged_log_file, "log: is damaged", 1, 0, NOTHING),
	ROW(CLEAN, a_damaged_log_file_and_a_payload, "log: is damaged", 1, 0, NOTHING),
	ROW(CLEAN, the_log_file_of_another_log, "belongs to another log", 1, 0, NOTHING),
	ROW(CLEAN, an_older_log_file, "but the log was closed with 1200", 0, 0, NOTHING),
	ROW(CLEAN, a_newer_log_file, "but the log was closed with 1505", 0, 0, NOTHING),
	ROW(CLEAN, everything_at_once, "is damaged", 0, 0, NOTHING),
	ROW(KILLED, a_payload_in_the_tail, "messages 1490 to 1490 are damaged", 0, 0, NOTHING),
	ROW(KILLED, the_last_payload, "messages 1500 to 1500 are damaged", 0, 0, NOTHING),
	ROW(KILLED, payloads_in_sealed_segments, NULL, 0, 0, NOTHING),
	ROW(KILLED, commit_words, "are damaged", 0, 0, NOTHING),
	ROW(KILLED, commit_words_wiped, "are damaged", 0, 0, NOTHING),
	ROW(KILLED, the_last_slots_wiped, "1497 to 1500 are damaged", 0, 0, NOTHING),
	ROW(KILLED, all_slots_wiped, "to 1500 are damaged", 0, 0, NOTHING),
	ROW(KILLED, the_last_slots_overwritten, "are damaged", 0, 0, NOTHING),
	ROW(KILLED, whole_headers, "is not a segment of psad's", 0, 0, NOTHING),
	ROW(KILLED, gap_parts, "its header is damaged", 0, 0, NOTHING),
	ROW(KILLED, synced_marks, "its header is damaged", 0, 0, NOTHING),
	ROW(KILLED, seals_and_payloads, "messages 1 to 1 are damaged", 0, 0, NOTHING),
	ROW(KILLED, a_spare_is_not_empty, "are damaged", 0, 0, GONE),
	ROW(KILLED, one_missing, "is missing", 0, 0, NOTHING),
	ROW(KILLED, the_tail_missing, "is missing", 0, 0, GONE),
	ROW(KILLED, the_newest_empty, "is not a segment of psad's", 1, 1, NOTHING),
	ROW(KILLED, one_cut_within_its_index, "has been cut short", 0, 0, NOTHING),
	ROW(KILLED, the_tail_cut, "has been cut short", 0, 0, NOTHING),
	ROW(KILLED, no_log_file, "log: is missing", 1, 0, NOTHING),
	ROW(KILLED, the_gap_part_of_a_spare, "its header is damaged", 0, 0, GONE),
	ROW(KILLED, everything_at_once, "is damaged", 0, 0, NOTHING),
	ROW(POWER_LOST, a_payload_in_the_tail, "messages 1490 to 1490 are damaged", 0, 0, LOST),
	ROW(POWER_LOST, payloads_in_sealed_segments, NULL, 0, 0, LOST),
	ROW(POWER_LOST, the_last_slots_wiped, "1497 to 1500 are damaged", 0, 0, LOST),
	ROW(POWER_LOST, all_slots_wiped, "to 1500 are damaged", 0, 0, LOST),
	ROW(POWER_LOST, whole_headers, "is not a segment of psad's", 0, 0, LOST),
	ROW(POWER_LOST, gap_parts, "its header is damaged", 0, 0, LOST),
	ROW(POWER_LOST, one_missing, "is missing", 0, 0, LOST),
	ROW(POWER_LOST, the_tail_missing, "is missing", 0, 0, GONE),
	ROW(POWER_LOST, the_newest_empty, "is not a segment of psad's", 1, 1, NOTHING),
	ROW(POWER_LOST, no_log_file, "log: is missing", 1, 0, NOTHING),
	ROW(POWER_LOST, everything_at_once, "is damaged", 0, 0, LOST),
#undef ROW
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* In memory nothing is lost with the machine, so that a tmpfs is not to be taken for one. */
static bool is_possible(const struct scenario *scenario)
{
	struct store *store = store_open(w.dir, w.error, sizeof w.error);
	bool is_in_memory = store_is_in_memory(store);
	store_close(store);
	return scenario->ended != POWER_LOST || !is_in_memory;
}

/* ---- repairing ---- */

static char said[TEXT_MAX];

static bool try_repair(void)
{
	FILE *out = fmemopen(said, sizeof said, "w");
	w.error[0] = '\0';
	memset(said, 0, sizeof said);
	int result = log_repair(w.dir, out, w.error, sizeof w.error);
	fclose(out);
	return result == 0;
}

static void repair(const char *what)
{
	if (!try_repair())
		fail_msg("%s: %s; said: %s", what, w.error, said);
}

/* A second repair finds nothing and changes nothing. */
static void check_repaired(const char *what)
{
	static struct snapshot before, after;
	take_snapshot(&before);
	repair(what);
	if (strstr(said, "there is nothing to repair") == NULL)
		fail_msg("%s: again: %s", what, said);
	take_snapshot(&after);
	check_same(&before, &after);
}

/* What is there after a repair. */
static void check_scenario(const struct scenario *scenario, const char *expected, uint32_t identity,
                           const char *when)
{
	static char map[IDS_MAX + 1];
	static const char letters[] = {[LOST] = 'L', [GONE] = 'D'};

	if (!try_open(&w))
		fail_msg("%s, %s: %s; said: %s", scenario->name, when, w.error, said);
	read_all(&w, map);
	size_t known = strlen(expected), n = strlen(map);
	if (scenario->is_short && n < known)
		known = n;
	if (n < known || memcmp(map, expected, known) != 0) {
		for (size_t i = 0; i < known; i++)
			if (map[i] != expected[i])
				fail_msg("%s, %s: %zu is %c, not %c (of %zu); said: %s",
				         scenario->name, when, i + 1, map[i], expected[i], n, said);
		fail_msg("%s, %s: ends with %zu", scenario->name, when, n);
	}
	if (n > known && scenario->rest == NOTHING && scenario->damage != an_older_log_file)
		fail_msg("%s, %s: goes on with %s", scenario->name, when, map + known);
	if (n > known && scenario->rest != NOTHING)
		assert_int_equal(map[known], letters[scenario->rest]);
	if ((log_identity(w.log) != identity) != scenario->is_renewed)
		fail_msg("%s, %s: identity %08x", scenario->name, when, log_identity(w.log));
	assert_true(scenario->is_renewed || world_head(&w) >= MESSAGES);
	assert_int_equal(append_one(&w), LOG_APPENDED);
	close_log(&w);
	open_log(&w);
	read_all(&w, map);
	assert_true(map[n] == 'M' && map[n + 1] == '\0');
	close_log(&w);
}

static uint32_t identity_of(void)
{
	struct store_log log;
	struct store *store = store_open(w.dir, w.error, sizeof w.error);
	assert_int_equal(store_read_log(store, &log, w.error, sizeof w.error), 0);
	store_close(store);
	return log.identity;
}

/* Makes the log, damages it, and tells what is expected of it. */
static uint32_t prepare(const struct scenario *scenario, char expected[IDS_MAX])
{
	(void)log_that(scenario->ended);
	uint32_t identity = identity_of();
	memset(expected, 0, IDS_MAX);
	memset(expected, 'M', MESSAGES);
	scenario->damage(expected);
	return identity;
}

/* Each file that is not what it was is kept as it was. */
static void check_kept(const struct snapshot *before, const char *what)
{
	static struct snapshot after;
	char other[128];

	take_snapshot(&after);
	for (size_t i = 0; i < before->count; i++) {
		const struct file *old = &before->files[i], *new = file_of(&after, old->name);
		if (new != NULL &&new->size == old->size &&
		    memcmp(new->data, old->data, old->size) == 0)
			continue;
		snprintf(other, sizeof other, "%s.damaged", old->name);
		const struct file *kept = file_of(&after, other);
		/* One that has been put back under its own name is there. */
		if (kept == NULL && strstr(said, "has been renamed: is") != NULL)
			continue;
		if (kept == NULL || kept->size != old->size ||
		    memcmp(kept->data, old->data, old->size) != 0)
			fail_msg("%s: %s is not kept", what, old->name);
	}
}

static void run_scenarios(bool on_disk)
{
	static char expected[IDS_MAX];
	static struct snapshot damaged, now;

	for (size_t i = 0; i < SCENARIOS; i++) {
		const struct scenario *scenario = &scenarios[i];
		if (!is_possible(scenario) || (on_disk && scenario->ended != POWER_LOST))
			continue;
		uint32_t identity = prepare(scenario, expected);
		take_snapshot(&damaged);
		if (scenario->refusal != NULL) {
			check_refused(&w, scenario->refusal);
			take_snapshot(&now);
			check_same(&damaged, &now);
		}
		repair(scenario->name);
		check_kept(&damaged, scenario->name);
		static char first[TEXT_MAX];
		memcpy(first, said, sizeof first);
		if (getenv("SHOW") != NULL)
			fprintf(stderr, "== %s\n%s", scenario->name, said);
		check_repaired(scenario->name);
		memcpy(said, first, sizeof first);
		check_scenario(scenario, expected, identity, "repaired");
	}
}

static void each_kind_of_damage_is_repaired_exactly(void **state)
{
	(void)state;
	run_scenarios(false);
}

static void after_a_loss_of_power_too(void **state)
{
	(void)state;
	run_scenarios(true);
}

static void what_is_whole_is_left_alone(void **state)
{
	(void)state;
	static struct snapshot before, after;
	for (int how = CLEAN; how <= POWER_LOST; how++) {
		(void)log_that((enum ended)how);
		take_snapshot(&before);
		repair("whole");
		assert_non_null(strstr(said, "there is nothing to repair"));
		take_snapshot(&after);
		check_same(&before, &after);
	}
}

/* ---- killed repairs ---- */

/* The repair is killed at its n-th call. False: it came to its end. */
static bool kill_repair(unsigned n)
{
	fflush(NULL);
	pid_t child = fork();
	int status = 0;
	assert_true(child >= 0);
	if (child == 0) {
		calls_left = n;
		bool is_done = try_repair();
		calls_left = 0;
		if (!is_done)
			fprintf(stderr, "%s\n", w.error);
		_exit(is_done ? 0 : 99);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7));
	return WEXITSTATUS(status) == 7;
}

/* At every call; then either another repair, or a start, which is refused or has lost nothing. */
static void kill_everywhere(const struct scenario *scenario, bool starts)
{
	static char expected[IDS_MAX];
	char when[64];
	bool is_killed = true;

	for (unsigned n = 1; is_killed; n += stride()) {
		uint32_t identity = prepare(scenario, expected);
		is_killed = kill_repair(n);
		if (!is_killed && getenv("SHOW") != NULL)
			fprintf(stderr, "== %s: killed at %u places\n", scenario->name, n - 1);
		snprintf(when, sizeof when, "killed at call %u", n);
		if (starts && try_open(&w)) {
			static char map[IDS_MAX + 1];
			read_all(&w, map);
			for (size_t i = 0; i < strlen(map) && i < strlen(expected); i++)
				assert_true(map[i] == expected[i] || map[i] == 'D');
			assert_true(log_identity(w.log) != identity || world_head(&w) >= MESSAGES);
			close_log(&w);
			continue;
		}
		repair(when);
		check_scenario(scenario, expected, identity, when);
	}
}

static const struct scenario *find_scenario(enum ended ended, void (*damage)(char *map))
{
	for (size_t i = 0; i < SCENARIOS; i++)
		if (scenarios[i].ended == ended && scenarios[i].damage == damage)
			return &scenarios[i];
	fail_msg("no such scenario");
	return NULL;
}

static void a_killed_repair_is_completed_by_the_next(void **state)
{
	(void)state;
	kill_everywhere(find_scenario(CLEAN, everything_at_once), false);
	kill_everywhere(find_scenario(KILLED, everything_at_once), false);
	kill_everywhere(find_scenario(CLEAN, the_newest_empty), false);
	kill_everywhere(find_scenario(CLEAN, the_newest_missing), false);
	kill_everywhere(find_scenario(CLEAN, an_older_log_file), false);
	kill_everywhere(find_scenario(CLEAN, one_renamed), false);
	kill_everywhere(find_scenario(CLEAN, one_of_another_log), false);
	kill_everywhere(find_scenario(KILLED, the_tail_missing), false);
	kill_everywhere(find_scenario(KILLED, the_newest_empty), false);
	kill_everywhere(find_scenario(KILLED, a_spare_is_not_empty), false);
	kill_everywhere(find_scenario(KILLED, no_log_file), false);
}

static void a_start_after_a_killed_repair_loses_nothing(void **state)
{
	(void)state;
	kill_everywhere(find_scenario(CLEAN, everything_at_once), true);
	kill_everywhere(find_scenario(CLEAN, the_newest_empty), true);
	kill_everywhere(find_scenario(KILLED, everything_at_once), true);
	kill_everywhere(find_scenario(KILLED, the_tail_missing), true);
	kill_everywhere(find_scenario(KILLED, the_newest_empty), true);
}

/* ---- every byte ---- */

/* After a clean end, one changed byte costs the message that it was in, or none. */
static void flip_and_repair(const struct snapshot *whole, uint64_t number, off_t at, bool costs)
{
	static char map[IDS_MAX + 1];
	char what[64];

	snprintf(what, sizeof what, "file %d, byte %ld", (int)number, (long)at);
	flip(&w, number, at, (unsigned)at % 8);
	repair(what);
	bool had_nothing_to_do = strstr(said, "there is nothing to repair") != NULL;
	if (!had_nothing_to_do)
		check_repaired(what);
	if (!try_open(&w))
		fail_msg("%s: %s; said: %s", what, w.error, said);
	read_all(&w, map);
	size_t damaged = 0;
	for (size_t i = 0; map[i] != '\0'; i++)
		damaged += map[i] == 'D';
	if (strlen(map) != MESSAGES || strspn(map, "MD") != MESSAGES || damaged > costs)
		fail_msg("%s: %s; %s", what, said, map);
	close_log(&w);
	put_snapshot(whole);
}

static void every_byte_of_headers_and_index_can_be_damaged(void **state)
{
	(void)state;
	static const size_t sectors[] = {
		offsetof(struct segment_header, constant), offsetof(struct segment_header, gap),
		offsetof(struct segment_header, seal),     offsetof(struct segment_header, synced),
		offsetof(struct segment_header, failed),   FILTER_OFFSET};
	const struct snapshot *whole = log_that(CLEAN);
	uint64_t numbers[] = {2, tail, tail + 1};
	unsigned jump = stride();

	for (size_t n = 0; n < 3; n++) {
		for (size_t i = 0; i < sizeof sectors / sizeof sectors[0]; i++)
			for (off_t at = 0; at < 80; at += jump)
				flip_and_repair(whole, numbers[n], (off_t)sectors[i] + at, false);
		for (off_t at = SMALL - 4 * (off_t)sizeof(struct entry); at < SMALL; at += jump)
			flip_and_repair(whole, numbers[n], at, true);
		for (off_t at = SEGMENT_HEADER_SIZE; at < SMALL; at += 997 * (off_t)jump)
			flip_and_repair(whole, numbers[n], at, true);
	}
}

static void a_file_can_be_cut_anywhere(void **state)
{
	(void)state;
	static char map[IDS_MAX + 1];
	const struct snapshot *whole = log_that(CLEAN);

	for (off_t size = 0; size < SMALL; size += 509 * (off_t)stride()) {
		for (uint64_t number = 1; number <= tail + 1; number++) {
			char what[64];
			snprintf(what, sizeof what, "file %d cut to %ld", (int)number, (long)size);
			cut_segment(number, size);
			repair(what);
			check_repaired(what);
			if (!try_open(&w))
				fail_msg("%s: %s", what, w.error);
			read_all(&w, map);
			uint64_t from = number > tail ? MESSAGES + 1 : bases[number];
			uint64_t to = number >= tail ? MESSAGES : bases[number + 1] - 1;
			if (strlen(map) != MESSAGES || strspn(map, "MD") != MESSAGES)
				fail_msg("%s: %s; %s", what, said, map);
			for (uint64_t id = 1; id <= MESSAGES; id++)
				if (map[id - 1] != 'M' && (id < from || id > to))
					fail_msg("%s: %d", what, (int)id);
			close_log(&w);
			put_snapshot(whole);
		}
	}
}

/* ---- by chance ---- */

/* Something happens to some file. */
static void damage_something(void)
{
	static const char zeros[SMALL];
	char path[512], noise[512];
	uint64_t number = 1 + random_below((unsigned)files);
	struct stat status;

	segment_path(&w, number, path);
	if (stat(path, &status) != 0)
		return;
	off_t size = status.st_size;
	off_t at = random_below(2) == 0   ? (off_t)random_below(SEGMENT_HEADER_SIZE)
	           : random_below(2) == 0 ? SMALL - (off_t)random_below(700 * sizeof(struct entry))
	                                  : (off_t)random_below(SMALL);
	size_t n = 1 + random_below(random_below(2) == 0 ? 8 : 512);
	for (size_t i = 0; i < n; i++)
		noise[i] = (char)random_below(256);
	if (at + (off_t)n > size)
		return;
	switch (random_below(8)) {
	case 0:
		remove_segment(number);
		break;
	case 1:
		cut_segment(number, at);
		break;
	case 2:
	case 3:
		with_file(number, at, zeros, n);
		break;
	case 4:
	case 5:
		with_file(number, at, noise, n);
		break;
	default:
		flip(&w, number, at, random_below(8));
	}
}

/* Whether slot and frame of an id are in the file as they were. */
static bool is_untouched(const struct snapshot *before, const struct snapshot *now, uint64_t id)
{
	char name[STORE_NAME_MAX];
	uint64_t number = 1;
	while (number < tail && id >= bases[number + 1])
		number++;
	store_name(number, name);
	const struct file *old = file_of(before, name), *new = file_of(now, name);
	if (new == NULL || new->size != SMALL)
		return false; /* of one cut short the header must be good, too */
	size_t at = (size_t)slot_at(slot_of(number, id));
	struct entry entry;
	memcpy(&entry, old->data + at, sizeof entry);
	return memcmp(old->data + at, new->data + at, sizeof entry) == 0 &&
	       memcmp(old->data + entry.offset, new->data + entry.offset, entry.size) == 0;
}

/* The marks by which it is known what is missing at the end, and those of the spares' bounds. */
static bool ends_are_untouched(const struct snapshot *before, const struct snapshot *now)
{
	for (uint64_t number = 1; number <= files; number++) {
		char name[STORE_NAME_MAX];
		store_name(number, name);
		const struct file *old = file_of(before, name), *new = file_of(now, name);
		if (new == NULL || new->size < sizeof(struct segment_header) ||
		    memcmp(old->data, new->data, sizeof(struct segment_header)) != 0)
			return false;
	}
	return true;
}

static void damage_by_chance(enum ended how)
{
	static struct snapshot before, damaged;
	static char map[IDS_MAX + 1];
	uint64_t first = seed;

	(void)log_that(how);
	take_snapshot(&before);
	uint32_t identity = identity_of();
	for (uint64_t n = 1 + random_below(4); n > 0; n--)
		damage_something();
	take_snapshot(&damaged);
	if (!try_repair()) {
		if (strstr(w.error, "has another format") == NULL)
			fail_msg("seed %" PRIu64 ": %s; said: %s", first, w.error, said);
		return;
	}
	char what[64];
	snprintf(what, sizeof what, "seed %" PRIu64, first);
	static char text[TEXT_MAX];
	memcpy(text, said, sizeof text);
	if (getenv("SHOW") != NULL)
		fprintf(stderr, "== %s\n%s", what, said);
	check_repaired(what);
	if (!try_open(&w))
		fail_msg("%s: %s; said: %s", what, w.error, text);
	read_all(&w, map);
	size_t n = strlen(map);
	for (uint64_t id = 1; id <= MESSAGES; id++)
		if (is_untouched(&before, &damaged, id) && (id > n || map[id - 1] != 'M'))
			fail_msg("%s: %d is %c; said: %s", what, (int)id, map[id - 1], text);
	if (strchr(map, 'W') != NULL)
		fail_msg("%s: a wrong message; said: %s", what, text);
	if (log_identity(w.log) == identity && n < MESSAGES &&
	    (how == CLEAN || ends_are_untouched(&before, &damaged)))
		fail_msg("%s: goes on with %zu; said: %s", what, n + 1, text);
	close_log(&w);
}

static void any_damage_is_repaired(void **state)
{
	(void)state;
	draw_seed();
	for (unsigned i = 0; i < 600; i += stride())
		damage_by_chance(i % 3 == 0 ? KILLED : CLEAN);
}

static void any_damage_is_repaired_after_a_loss_of_power(void **state)
{
	(void)state;
	draw_seed();
	for (unsigned i = 0; i < 60; i += stride())
		damage_by_chance(POWER_LOST);
}

/* ---- what is not repaired ---- */

static void check_not_repaired(const char *words)
{
	static struct snapshot before, after;
	take_snapshot(&before);
	assert_false(try_repair());
	if (strstr(w.error, words) == NULL)
		fail_msg("\"%s\" is not in: %s", words, w.error);
	assert_int_equal(strncmp(w.error, w.dir, strlen(w.dir)), 0);
	take_snapshot(&after);
	check_same(&before, &after);
}

static void where_no_log_is_none_is_made(void **state)
{
	(void)state;
	char path[512];
	check_not_repaired("there is no log in it");
	assert_int_equal(count_files(&w, "", false), 0);
	path_of(&w, "nothing", path);
	assert_true(log_repair(path, stdout, w.error, sizeof w.error) != 0);
	assert_true(access(path, F_OK) != 0);
	assert_true(log_renew_identity(w.dir, stdout, w.error, sizeof w.error) != 0);
	assert_int_equal(count_files(&w, "", false), 0);
}

static void other_formats_are_left_alone(void **state)
{
	(void)state;
	struct header_constant constant;
	log_that(CLEAN);
	write_text("psad log 2\nof another time\n");
	check_not_repaired("has format 2");
	log_that(CLEAN);
	read_file(2, 0, &constant, sizeof constant);
	header_set_constant(&constant);
	constant.version = 2;
	constant.check = hash64(&constant, sizeof constant - sizeof constant.check, 0);
	with_file(2, 0, &constant, sizeof constant);
	check_not_repaired("has another format");
}

static void where_nothing_is_left_nothing_is_changed(void **state)
{
	(void)state;
	log_that(CLEAN);
	for (uint64_t n = 1; n <= files; n++)
		cut_segment(n, 0);
	check_not_repaired("nothing of any segment can be used");
	(void)count_files(&w, ".seg", true);
	check_not_repaired("holds no segments");
	char ignored[1];
	log_that(CLEAN);
	no_log_file(ignored);
	for (uint64_t n = 1; n <= files; n++)
		wipe(&w, n, 0, SEGMENT_HEADER_SIZE);
	check_not_repaired("nothing says which log this is");
}

static void a_log_in_use_is_not_repaired(void **state)
{
	(void)state;
	log_that(CLEAN);
	int ready[2], done[2], status;
	char byte = 0;
	assert_int_equal(pipe(ready) | pipe(done), 0);
	pid_t child = fork();
	if (child == 0) {
		MUST(try_open(&w));
		MUST(write(ready[1], "x", 1) == 1);
		close(done[1]);
		MUST(read(done[0], &byte, 1) == 0);
		_exit(0);
	}
	close(done[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_false(try_repair());
	assert_non_null(strstr(w.error, "in use by process"));
	assert_true(log_renew_identity(w.dir, stdout, w.error, sizeof w.error) != 0);
	assert_non_null(strstr(w.error, "in use by process"));
	close(done[1]);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
}

/* What can't be opened may be whole. */
static void what_is_not_to_be_looked_at_is_not_taken_for_damaged(void **state)
{
	(void)state;
	log_that(CLEAN);
	is_locked_up = true;
	check_not_repaired("00000000000000000001.seg: can't be looked at: Permission denied");
	is_locked_up = false;
}

static void where_the_disk_is_full_all_stays_until_there_is_room(void **state)
{
	(void)state;
	static char expected[IDS_MAX];
	const struct scenario *scenario = find_scenario(CLEAN, everything_at_once);
	uint32_t identity = prepare(scenario, expected);
	is_full = true;
	check_not_repaired("No space left on device");
	is_full = false;
	repair("with room");
	check_scenario(scenario, expected, identity, "with room");
}

static void without_links_copies_are_kept(void **state)
{
	(void)state;
	static char expected[IDS_MAX];
	static struct snapshot damaged;
	const struct scenario *scenario = find_scenario(CLEAN, everything_at_once);
	uint32_t identity = prepare(scenario, expected);
	take_snapshot(&damaged);
	has_no_links = true;
	repair("without links");
	check_kept(&damaged, "without links");
	has_no_links = false;
	check_scenario(scenario, expected, identity, "without links");
}

/* ---- twice, and identities ---- */

static void what_was_kept_before_is_kept_still(void **state)
{
	(void)state;
	static struct snapshot first, second;
	char map[IDS_MAX], name[64];
	log_that(CLEAN);
	a_payload_in_the_tail(map);
	repair("first");
	take_snapshot(&first);
	flip_payload(tail, 1480);
	repair("second");
	take_snapshot(&second);
	store_name(tail, name);
	strcat(name, ".damaged");
	const struct file *before = file_of(&first, name), *now = file_of(&second, name);
	assert_true(before != NULL && now != NULL);
	assert_memory_equal(before->data, now->data, SMALL);
	store_name(tail, name);
	strcat(name, ".2.damaged");
	assert_non_null(file_of(&second, name));
	open_log(&w);
	check_map(&w, "1479M 1D 9M 1D 10M");
}

static void a_gap_stays_where_the_next_repair_finds_more(void **state)
{
	(void)state;
	char map[IDS_MAX], expected[64];
	log_that(KILLED);
	one_missing(map);
	repair("first");
	open_log(&w);
	append_many(&w, 5);
	close_log(&w);
	flip_payload(1, 9);
	repair("second");
	open_log(&w);
	snprintf(expected, sizeof expected, "8M 1D %dM %dD %dM", (int)bases[2] - 10,
	         (int)(bases[3] - bases[2]), (int)(MESSAGES + 5 - bases[3] + 1));
	check_map(&w, expected);
}

static void another_identity_is_another_identity(void **state)
{
	(void)state;
	log_that(CLEAN);
	uint32_t before = identity_of();
	FILE *out = fmemopen(said, sizeof said, "w");
	assert_int_equal(log_renew_identity(w.dir, out, w.error, sizeof w.error), 0);
	fclose(out);
	char old[16], new[16];
	snprintf(old, sizeof old, "%08x", before);
	snprintf(new, sizeof new, "%08x", identity_of());
	assert_string_not_equal(old, new);
	assert_true(strstr(said, old) != NULL && strstr(said, new) != NULL);
	open_log(&w);
	assert_int_not_equal(log_identity(w.log), before);
	check_map(&w, "1500M");
	close_log(&w);
	char ignored[1];
	a_damaged_log_file(ignored);
	assert_true(log_renew_identity(w.dir, stdout, w.error, sizeof w.error) != 0);
	assert_non_null(strstr(w.error, "log: is damaged"));
}

static int begin_on_disk(void **state)
{
	(void)state;
	calls_left = 0;
	world_begin(&w, "/tmp");
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(each_kind_of_damage_is_repaired_exactly),
		cmocka_unit_test_setup_teardown(after_a_loss_of_power_too, begin_on_disk, end),
		TEST(what_is_whole_is_left_alone),
		TEST(a_killed_repair_is_completed_by_the_next),
		TEST(a_start_after_a_killed_repair_loses_nothing),
		TEST(every_byte_of_headers_and_index_can_be_damaged),
		TEST(a_file_can_be_cut_anywhere),
		TEST(any_damage_is_repaired),
		cmocka_unit_test_setup_teardown(any_damage_is_repaired_after_a_loss_of_power,
	                                        begin_on_disk, end),
		TEST(where_no_log_is_none_is_made),
		TEST(other_formats_are_left_alone),
		TEST(where_nothing_is_left_nothing_is_changed),
		TEST(a_log_in_use_is_not_repaired),
		TEST(what_is_not_to_be_looked_at_is_not_taken_for_damaged),
		TEST(where_the_disk_is_full_all_stays_until_there_is_room),
		TEST(without_links_copies_are_kept),
		TEST(what_was_kept_before_is_kept_still),
		TEST(a_gap_stays_where_the_next_repair_finds_more),
		TEST(another_identity_is_another_identity),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
