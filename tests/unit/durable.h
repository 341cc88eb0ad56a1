/* SPDX-License-Identifier: MIT */
/*
 * durable: what the tests of durable logs share: a directory, a log in it, messages that can be
 * told by their ids, and crashes.
 *
 * A crash is a child that opens the log, works and leaves by _exit(): what the kernel has of its
 * mappings is all that is left. A loss of power is that, and another boot id in the file `log`, and
 * whatever the test takes away from the files.
 */
#ifndef PSAD_TESTS_DURABLE_H
#define PSAD_TESTS_DURABLE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "deadline.h"
#include "base/clock.h"
#include "log/chain.h"
#include "log/frame.h"
#include "log/recover.h"
#include "log/store.h"

enum { SMALL = SEGMENT_SIZE_MIN, IDS_MAX = 1 << 16 };

struct world {
	_Alignas(CACHE_LINE) struct epoch_thread me;
	char dir[64];
	struct log_options options;
	struct log *log;
	struct wake *wake;
	char error[LOG_ERROR_MAX];
};

/* In a child nobody listens to cmocka: what must be, or the parent sees it fail. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* Of many tries in a row only each stride()'th is made. */
static inline unsigned stride(void)
{
	const char *scale = getenv("PSAD_TEST_SCALE");
	return scale != NULL && strcmp(scale, "small") == 0 ? 7 : 1;
}

/* ---- directories ---- */

/* A fresh one: on the disk that /tmp is on, or in a tmpfs. */
static inline void world_begin(struct world *w, const char *above)
{
	memset(w, 0, sizeof *w);
	snprintf(w->dir, sizeof w->dir, "%s/psad-test-XXXXXX", above);
	assert_non_null(mkdtemp(w->dir));
	w->options = (struct log_options){.segment_size = SMALL,
	                                  .dir = w->dir,
	                                  .sync = LOG_SYNC_INTERVAL,
	                                  .sync_interval_us = 1000};
}

static inline void path_of(const struct world *w, const char *name, char path[512])
{
	snprintf(path, 512, "%s/%s", w->dir, name);
}

static inline void segment_path(const struct world *w, uint64_t number, char path[512])
{
	char name[STORE_NAME_MAX];
	store_name(number, name);
	path_of(w, name, path);
}

/* Names that end so; a lock file is always there too. */
static inline size_t count_files(const struct world *w, const char *end, bool removes)
{
	DIR *dir = opendir(w->dir);
	size_t count = 0, n = strlen(end);
	char path[512];

	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		size_t length = strlen(entry->d_name);
		if (entry->d_name[0] == '.' || length < n ||
		    strcmp(entry->d_name + length - n, end) != 0)
			continue;
		count++;
		path_of(w, entry->d_name, path);
		if (removes)
			unlink(path);
	}
	closedir(dir);
	return count;
}

static inline size_t count_segments(const struct world *w)
{
	return count_files(w, ".seg", false);
}

/* ---- opening and closing ---- */

static inline bool try_open(struct world *w)
{
	w->error[0] = '\0';
	w->wake = wake_new(1);
	w->log = log_open(&w->options, w->wake, w->error, sizeof w->error);
	if (w->log == NULL) {
		wake_free(w->wake);
		return false;
	}
	memset(&w->me, 0, sizeof w->me);
	epoch_register(log_epoch(w->log), &w->me);
	return true;
}

static inline void open_log(struct world *w)
{
	if (!try_open(w))
		fail_msg("%s", w->error);
}

static inline void close_log(struct world *w)
{
	log_close(w->log);
	wake_free(w->wake);
	w->log = NULL;
}

/* Closes the log where it is open. */
static inline void world_end(struct world *w)
{
	if (w->log != NULL)
		close_log(w);
	(void)count_files(w, "", true);
	assert_int_equal(rmdir(w->dir), 0);
}

/* The open is refused, and says so in these words. */
static inline void check_refused(struct world *w, const char *words)
{
	assert_false(try_open(w));
	if (strstr(w->error, words) == NULL)
		fail_msg("\"%s\" is not in: %s", words, w->error);
	if (strncmp(w->error, w->dir, strlen(w->dir)) != 0)
		fail_msg("does not name the directory: %s", w->error);
}

/* Runs `work` on the opened log in a child that then dies with no more ado. */
static inline void crash(struct world *w, void (*work)(struct world *w))
{
	fflush(NULL);
	pid_t child = fork();
	int status = 0;
	assert_true(child >= 0);
	if (child == 0) {
		if (!try_open(w))
			fprintf(stderr, "%s\n", w->error);
		MUST(w->log != NULL);
		work(w);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* As if the machine had been started since. */
static inline void change_boot(struct world *w)
{
	struct store_log log;
	struct store *store = store_open(w->dir, w->error, sizeof w->error);
	assert_non_null(store);
	assert_int_equal(store_read_log(store, &log, w->error, sizeof w->error), 0);
	snprintf(log.boot, sizeof log.boot, "0-0");
	assert_int_equal(store_write_log(store, &log), 0);
	store_close(store);
}

/* ---- messages ---- */

static inline uint64_t world_head(struct world *w)
{
	epoch_enter(&w->me);
	uint64_t id = log_head(w->log);
	epoch_leave(&w->me);
	return id;
}

static inline uint64_t world_committed(struct world *w)
{
	epoch_enter(&w->me);
	uint64_t id = log_committed(w->log);
	epoch_leave(&w->me);
	return id;
}

static inline uint64_t world_synced(struct world *w)
{
	epoch_enter(&w->me);
	uint64_t id = log_synced(w->log);
	epoch_leave(&w->me);
	return id;
}

/* What the message of an id looks like; `text` is its payload. */
static inline struct message message_of(uint64_t id, char topic[32], char text[1024])
{
	int topic_size = sprintf(topic, "t.%" PRIu64, id % 7);
	size_t n = (size_t)sprintf(text, "%" PRIu64 ":", id);
	size_t size = n + (size_t)(id * 2654435761U % 97) * (id % 11 == 0 ? 10 : 1);
	memset(text + n, 'a' + (int)(id % 26), size - n);
	return (struct message){.topic = topic,
	                        .topic_size = (uint32_t)topic_size,
	                        .payload = text,
	                        .payload_size = (uint32_t)size,
	                        .topic_hash = (uint32_t)(id % 7 * 2654435761U)};
}

static inline enum log_verdict append_one(struct world *w)
{
	char topic[32], text[1024];
	struct message message = message_of(world_committed(w) + 1, topic, text);
	size_t appended = 0;
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	enum log_verdict verdict;

	do {
		epoch_enter(&w->me);
		verdict = log_append(w->log, &message, 1, &appended);
		epoch_leave(&w->me);
		if (verdict == LOG_NO_SEGMENT)
			(void)poll(NULL, 0, 1);
	} while (verdict == LOG_NO_SEGMENT && clock_mono_ms() < deadline_ms);
	log_announce(w->log);
	return verdict;
}

static inline void append_many(struct world *w, unsigned n)
{
	while (n-- > 0)
		if (append_one(w) != LOG_APPENDED) {
			fprintf(stderr, "could not append\n");
			abort();
		}
}

/* Until so many files are there, and the tail has a follower. */
static inline void wait_for_spares(struct world *w, size_t files)
{
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

	for (bool is_there = false; !is_there && clock_mono_ms() < deadline_ms;) {
		(void)poll(NULL, 0, 1);
		epoch_enter(&w->me);
		const struct segment *tail = atomic_load_pointer_acquire(&w->log->tail);
		is_there = count_segments(w) >= files &&
		           atomic_load_pointer_acquire(&tail->next) != NULL;
		epoch_leave(&w->me);
	}
}

static inline void append_20(struct world *w)
{
	append_many(w, 20);
}

/* Claims room for n messages of 30 bytes that never come. */
static inline void claim_in_vain(struct world *w, unsigned n)
{
	const struct message message = {.topic = "x", .topic_size = 1, .payload_size = 30};
	struct claim claim;

	epoch_enter(&w->me);
	while (n-- > 0)
		(void)segment_claim(w->log->tail, &message, 1, &claim);
	epoch_leave(&w->me);
}

/* Whether entry i of the block is, to the byte, what was appended under its id. */
static inline bool is_right(const struct block *block, uint32_t i)
{
	char topic[32], text[1024], frame[1200];
	uint64_t id = block->first + i;
	const struct message m = message_of(id, topic, text);
	const struct entry *entry = block_entry(block, i);
	uint32_t size = frame_size(id, m.topic_size, m.payload_size);

	frame_write(frame, id, m.topic, m.topic_size, m.payload, m.payload_size);
	return entry->size == size && entry_topic_size(entry) == m.topic_size &&
	       entry->topic_hash == m.topic_hash &&
	       memcmp(block_frame(block, i), frame, size) == 0 &&
	       segment_may_hold(block->segment, m.topic_hash);
}

/* Waits until the cold segment of the block has been warmed, if it ever is: leaves the section. */
static inline void wait_until_warm(struct world *w, const struct block *block, uint64_t warmed)
{
	log_want(w->log, block);
	epoch_leave(&w->me);
	WAIT_FOR(log_warmed(w->log) != warmed);
	epoch_enter(&w->me);
}

/* As log_block() and log_block_back(), but waits for what is cold. */
static inline enum block_verdict look(struct world *w, uint64_t id, uint64_t upto, bool is_back,
                                      struct block *block)
{
	for (;;) {
		uint64_t warmed = log_warmed(w->log);
		enum block_verdict verdict = is_back ? log_block_back(w->log, id, block)
		                                     : log_block(w->log, id, upto, block);
		if (verdict != BLOCK_COLD)
			return verdict;
		wait_until_warm(w, block, warmed);
	}
}

/* As log_find_time(), likewise. */
static inline uint64_t find_time(struct world *w, uint64_t time_us)
{
	struct block cold;
	uint64_t found;

	epoch_enter(&w->me);
	for (;;) {
		uint64_t warmed = log_warmed(w->log);
		found = log_find_time(w->log, time_us, &cold);
		if (cold.segment == NULL)
			break;
		wait_until_warm(w, &cold, warmed);
	}
	epoch_leave(&w->me);
	return found;
}

/*
 * What is under each id from 1 to the head, a letter for each in `map` (IDS_MAX + 1): M a message,
 * as it was appended; W one that is wrong; V, L, D a gap: void, lost, damaged; - dropped. The
 * verdicts of looking forward, and looking back says the same.
 */
static inline void read_all(struct world *w, char *map)
{
	static const char letters[] = {'?', 'V', 'L', 'D'};
	struct block block;

	epoch_enter(&w->me);
	uint64_t head = log_head(w->log);
	assert_true(head < IDS_MAX);
	memset(map, '-', head + 1);
	map[head] = '\0';
	for (uint64_t id = log_first(w->log); id <= head;) {
		enum block_verdict verdict = look(w, id, head, false, &block);
		assert_true(verdict == BLOCK_HERE || verdict == BLOCK_GAP);
		assert_true(block.first == id);
		for (uint32_t i = 0; verdict == BLOCK_HERE && i < block.count; i++, id++)
			map[id - 1] = is_right(&block, i) ? 'M' : 'W';
		for (; verdict == BLOCK_GAP && id <= block.last; id++)
			map[id - 1] = letters[block.loss];
	}
	for (uint64_t id = head; id >= log_first(w->log) && id > 0;) {
		enum block_verdict verdict = look(w, id, head, true, &block);
		assert_true(verdict == BLOCK_HERE || verdict == BLOCK_GAP);
		if (verdict == BLOCK_HERE)
			assert_true(block.first + block.count - 1 == id);
		else
			assert_true(block.last == id);
		for (; id >= block.first; id--)
			assert_true(verdict == BLOCK_HERE ? map[id - 1] == 'M' || map[id - 1] == 'W'
			                                  : map[id - 1] == letters[block.loss]);
	}
	epoch_leave(&w->me);
}

/* The map, as runs: "20M 3V 5M". */
static inline void check_map(struct world *w, const char *expected)
{
	static char map[IDS_MAX + 1];
	char runs[512] = "";

	read_all(w, map);
	for (size_t i = 0, n; map[i] != '\0'; i += n) {
		char letter[2] = {map[i], '\0'};
		n = strspn(map + i, letter);
		size_t used = strlen(runs);
		snprintf(runs + used, sizeof runs - used, "%s%zu%c", used > 0 ? " " : "", n,
		         map[i]);
	}
	assert_string_equal(runs, expected);
}

/* ---- files, byte by byte ---- */

static inline int open_file_of(const struct world *w, uint64_t number)
{
	char path[512];
	segment_path(w, number, path);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* Where slot i of a small segment begins in its file. */
static inline off_t slot_at(uint32_t i)
{
	return SMALL - ((off_t)i + 1) * (off_t)sizeof(struct entry);
}

/* Overwrites n bytes of a segment file with zeros. */
static inline void wipe(const struct world *w, uint64_t number, off_t at, size_t n)
{
	static const char zeros[SMALL];
	int fd = open_file_of(w, number);
	assert_int_equal(pwrite(fd, zeros, n, at), (ssize_t)n);
	close(fd);
}

static inline void flip(const struct world *w, uint64_t number, off_t at, unsigned bit)
{
	unsigned char byte;
	int fd = open_file_of(w, number);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= (unsigned char)(1U << bit);
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

#endif
