/* SPDX-License-Identifier: MIT */
/*
 * What may happen to the files of a log: every bit of them changed, every length cut, no room for
 * another one, somebody else in the directory, and files that go away while they are in use.
 *
 * The oracle for changed files: the open is refused with a sentence, or every id that was given out
 * is either what was appended, to the byte, or said to be missing; and the log goes on behind them.
 */
#include "durable.h"

#include <sched.h>

enum { FILES = 3, MESSAGES = 6 };

static struct world w;

static int begin(void **state)
{
	(void)state;
	world_begin(&w, "/tmp");
	return 0;
}

/* Where nothing is written to a disk: for those that open thousands of times. */
static int begin_in_memory(void **state)
{
	(void)state;
	world_begin(&w, "/dev/shm");
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end(&w);
	return 0;
}

/* ---- images: the files of a log, to be put back ---- */

static struct image {
	char files[FILES][SMALL];
	char log[512];
	size_t log_size;
} image;

static size_t read_whole(const char *path, char *at, size_t room)
{
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	size_t n = fread(at, 1, room, file);
	fclose(file);
	return n;
}

static void write_whole(const char *path, const char *at, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, at, n), (ssize_t)n);
	close(fd);
}

static void take_image(void)
{
	char path[512];
	assert_int_equal(count_segments(&w), FILES);
	for (uint64_t n = 0; n < FILES; n++) {
		segment_path(&w, n + 1, path);
		assert_int_equal(read_whole(path, image.files[n], SMALL), SMALL);
	}
	path_of(&w, "log", path);
	image.log_size = read_whole(path, image.log, sizeof image.log);
}

static void put_image(void)
{
	char path[512];
	(void)count_files(&w, "", true);
	for (uint64_t n = 0; n < FILES; n++) {
		segment_path(&w, n + 1, path);
		write_whole(path, image.files[n], SMALL);
	}
	path_of(&w, "log", path);
	write_whole(path, image.log, image.log_size);
}

/* Two in a sealed and stored segment, four in the tail, and a spare. */
static void append_to_two(struct world *world)
{
	struct segment *first = world->log->tail;

	append_many(world, 2);
	wait_for_spares(world, FILES);
	segment_seal(first);
	epoch_enter(&world->me);
	MUST(log_roll(world->log, first) != NULL);
	epoch_leave(&world->me);
	append_many(world, MESSAGES - 2);
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	while (!segment_is_stored(first) && clock_mono_ms() < deadline_ms)
		(void)poll(NULL, 0, 1);
	MUST(segment_is_stored(first));
}

/* The keeper has a spare more than we want to look at. */
static void drop_fourth_file(void)
{
	char path[512];
	segment_path(&w, 4, path);
	(void)unlink(path);
}

static void make_clean_image(void)
{
	open_log(&w);
	append_to_two(&w);
	close_log(&w);
	drop_fourth_file();
	take_image();
}

static void make_crashed_image(void)
{
	crash(&w, append_to_two);
	drop_fourth_file();
	take_image();
}

/* Opens what is there now, and looks. False: it was refused, and nothing has been changed. */
static bool check_oracle(const char *what, size_t at)
{
	static char map[IDS_MAX + 1];

	if (!try_open(&w)) {
		if (strncmp(w.error, w.dir, strlen(w.dir)) != 0)
			fail_msg("%s at %zu: the error does not name the file: %s", what, at,
			         w.error);
		return false;
	}
	read_all(&w, map);
	size_t n = strlen(map);
	if (n < MESSAGES || strspn(map, "MVLD") != n)
		fail_msg("%s at %zu: opened as %s", what, at, map);
	assert_int_equal(append_one(&w), LOG_APPENDED);
	close_log(&w);
	return true;
}

static void put_byte(size_t file, size_t at)
{
	char path[512];
	if (file < FILES)
		segment_path(&w, file + 1, path);
	else
		path_of(&w, "log", path);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	const char *byte = file < FILES ? &image.files[file][at] : &image.log[at];
	assert_int_equal(pwrite(fd, byte, 1, (off_t)at), 1);
	close(fd);
}

/* Each `step`th bit of bytes from .. to of a file in turn. */
static void flip_all(size_t file, size_t from, size_t to, size_t step, const char *what)
{
	put_image();
	for (size_t bit = from * 8; bit < to * 8; bit += step) {
		char *byte = file < FILES ? &image.files[file][bit / 8] : &image.log[bit / 8];
		*byte ^= (char)(1 << bit % 8);
		put_byte(file, bit / 8);
		bool is_changed = check_oracle(what, bit);
		*byte ^= (char)(1 << bit % 8);
		if (is_changed)
			put_image();
		else
			put_byte(file, bit / 8);
	}
}

/*
 * All that psad looks at of the three files and `log`. What is not: the rest of the header's
 * sectors and the room between the data and the index, which hold zeros and are overwritten unread,
 * but for the slot behind the last and the commit words, which only count where the keyed checksum
 * agrees.
 */
static void flip_everything(size_t step)
{
	for (size_t n = 0; n < FILES; n++) {
		const struct segment_header *header = (const void *)image.files[n];
		flip_all(n, 0, sizeof header->constant, step, "constant part");
		flip_all(n, offsetof(struct segment_header, gap),
		         offsetof(struct segment_header, gap) + sizeof header->gap, step,
		         "gap part");
		flip_all(n, offsetof(struct segment_header, seal),
		         offsetof(struct segment_header, seal) + sizeof header->seal, step, "seal");
		flip_all(n, offsetof(struct segment_header, synced),
		         offsetof(struct segment_header, failed) + 8, step, "synced and failed");
		flip_all(n, SEGMENT_HEADER_SIZE, SEGMENT_HEADER_SIZE + 120, step, "data");
		flip_all(n, SMALL - 5 * sizeof(struct entry), SMALL, step, "index");
	}
	flip_all(FILES, 0, image.log_size, step, "log");
}

static void no_changed_bit_goes_unnoticed_after_a_clean_stop(void **state)
{
	(void)state;
	make_clean_image();
	flip_everything(stride());
	flip_all(0, FILTER_OFFSET, SEGMENT_HEADER_SIZE, 37 * stride(), "filter");
}

static void no_changed_bit_goes_unnoticed_after_a_crash(void **state)
{
	(void)state;
	make_crashed_image();
	flip_everything(stride());
}

static void no_changed_bit_goes_unnoticed_after_a_loss_of_power(void **state)
{
	(void)state;
	crash(&w, append_to_two);
	drop_fourth_file();
	change_boot(&w);
	take_image();
	flip_everything(11 * stride());
}

static void no_cut_goes_unnoticed(void **state)
{
	(void)state;
	char path[512];
	make_clean_image();
	for (uint64_t n = 1; n <= FILES; n++) {
		off_t step = (off_t)stride() * (n == 1 ? 1 : 61);
		put_image();
		segment_path(&w, n, path);
		for (off_t size = SMALL - 1; size >= 0; size -= step) {
			assert_int_equal(truncate(path, size), 0);
			assert_false(try_open(&w));
			assert_non_null(strstr(w.error, path));
		}
	}
	for (size_t size = 0; size < image.log_size; size++) {
		put_image();
		path_of(&w, "log", path);
		assert_int_equal(truncate(path, (off_t)size), 0);
		check_refused(&w, "/log: ");
	}
	put_image();
	open_log(&w);
	check_map(&w, "6M");
}

/* ---- the directory ---- */

static void a_directory_is_made_with_those_above(void **state)
{
	(void)state;
	char above[512], deep[512];
	path_of(&w, "a", above);
	path_of(&w, "a/b", deep);
	w.options.dir = deep;
	open_log(&w);
	append_many(&w, 3);
	close_log(&w);
	struct stat status;
	assert_int_equal(stat(deep, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	char command[1100];
	snprintf(command, sizeof command, "rm -rf %s", above);
	assert_int_equal(system(command), 0);
}

static void a_file_is_no_directory(void **state)
{
	(void)state;
	char path[512];
	path_of(&w, "file", path);
	write_whole(path, "x", 1);
	w.options.dir = path;
	check_refused(&w, "file: can't be used as the directory of a log: ");
	w.options.dir = w.dir;
}

static void two_processes_do_not_share_a_directory(void **state)
{
	(void)state;
	int ready[2], done[2], status;
	char byte = 0, expected[64];
	assert_int_equal(pipe(ready) | pipe(done), 0);
	pid_t child = fork();
	if (child == 0) {
		MUST(try_open(&w));
		MUST(write(ready[1], "x", 1) == 1);
		close(done[1]);
		MUST(read(done[0], &byte, 1) == 0);
		_exit(0);
	}
	close(ready[1]);
	close(done[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	snprintf(expected, sizeof expected, "the log is in use by process %ld", (long)child);
	check_refused(&w, expected);
	close(done[1]);
	close(ready[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	open_log(&w);
}

/* In another namespace of processes, where its number means nothing: it is in use all the same. */
static void a_process_that_is_not_seen_has_its_directory_for_itself(void **state)
{
	(void)state;
	int ready[2], status;
	char byte = 0;

	open_log(&w);
	assert_int_equal(pipe(ready), 0);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWPID) != 0)
			_exit(77);
		pid_t grandchild = fork();
		if (grandchild == 0) {
			MUST(!try_open(&w));
			MUST(strstr(w.error, "the log is in use by another process") != NULL);
			MUST(write(ready[1], "x", 1) == 1);
			_exit(0);
		}
		MUST(waitpid(grandchild, &status, 0) == grandchild && status == 0);
		_exit(0);
	}
	close(ready[1]);
	ssize_t n = read(ready[0], &byte, 1);
	close(ready[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("needs root, for a namespace of processes\n");
		skip();
	}
	assert_int_equal(status, 0);
	assert_int_equal(n, 1);
}

static void what_is_half_made_is_removed_and_what_is_not_ours_stays(void **state)
{
	(void)state;
	static const char *const names[] = {"00000000000000000009.seg.tmp",
	                                    "log.tmp",
	                                    "00000000000000000007.seg.damaged",
	                                    "notes.txt",
	                                    "1.seg",
	                                    "x.tmp"};
	char path[512];
	for (size_t i = 0; i < 6; i++) {
		path_of(&w, names[i], path);
		write_whole(path, "x", 1);
	}
	open_log(&w);
	append_many(&w, 3);
	for (size_t i = 0; i < 6; i++) {
		path_of(&w, names[i], path);
		assert_int_equal(access(path, F_OK), i < 2 ? -1 : 0);
	}
}

static void files_are_wholly_allocated_and_nobody_elses(void **state)
{
	(void)state;
	char path[512];
	struct stat status;
	open_log(&w);
	WAIT_FOR(count_segments(&w) == FILES);
	for (uint64_t n = 1; n <= FILES; n++) {
		segment_path(&w, n, path);
		assert_int_equal(stat(path, &status), 0);
		assert_int_equal(status.st_size, SMALL);
		assert_true((size_t)status.st_blocks * 512 >= SMALL);
		assert_int_equal(status.st_mode & 07777, 0600);
	}
}

/* ---- no room ---- */

static bool mount_small(const char *dir)
{
	return mount("psad-test", dir, "tmpfs", 0, "size=400k") == 0;
}

/* As many as go; the verdict that ended it, which is not APPENDED. */
static enum log_verdict fill(void)
{
	enum log_verdict verdict;
	uint64_t n = 0;
	while ((verdict = append_one(&w)) == LOG_APPENDED && n++ < 100000)
		;
	return verdict;
}

static void a_full_disk_refuses_messages_and_is_tried_again(void **state)
{
	(void)state;
	static char map[IDS_MAX + 1], all[IDS_MAX + 1];
	char path[512];
	if (!mount_small(w.dir)) {
		print_message("needs root, to mount a small tmpfs\n");
		skip();
	}
	open_log(&w);
	path_of(&w, "ballast", path);
	assert_int_equal(fill(), LOG_FULL);
	uint64_t kept = world_head(&w);
	assert_true(kept > 500);
	assert_int_equal(append_one(&w), LOG_FULL);
	WAIT_FOR(count_files(&w, ".tmp", false) == 0); /* one may be tried just now */
	/* Room is made: it goes on by itself. */
	assert_int_equal(mount("psad-test", w.dir, "tmpfs", MS_REMOUNT, "size=800k"), 0);
	WAIT_FOR(append_one(&w) == LOG_APPENDED);
	uint64_t head = world_head(&w);
	memset(all, 'M', head);
	read_all(&w, map);
	assert_string_equal(map, all);
	close_log(&w);
	open_log(&w);
	read_all(&w, map);
	assert_string_equal(map, all);
	close_log(&w);
	assert_int_equal(umount(w.dir), 0);
}

/* Which is memory too: what is there after another boot was never away. */
static void a_log_on_a_ramfs_is_one_in_memory(void **state)
{
	(void)state;
	if (mount("psad-test", w.dir, "ramfs", 0, NULL) != 0) {
		print_message("needs root, to mount a ramfs\n");
		skip();
	}
	crash(&w, append_20);
	change_boot(&w);
	open_log(&w);
	check_map(&w, "20M");
	assert_int_equal(append_one(&w), LOG_APPENDED);
	check_map(&w, "21M");
	close_log(&w);
	assert_int_equal(umount(w.dir), 0);
}

static void a_full_disk_refuses_the_first_start(void **state)
{
	(void)state;
	if (mount("psad-test", w.dir, "tmpfs", 0, "size=40k") != 0) {
		print_message("needs root, to mount a small tmpfs\n");
		skip();
	}
	check_refused(&w, "00000000000000000001.seg: can't be made: No space left on device");
	assert_int_equal(mount("psad-test", w.dir, "tmpfs", MS_REMOUNT, "size=800k"), 0);
	open_log(&w);
	append_many(&w, 3);
	check_map(&w, "3M");
	close_log(&w);
	assert_int_equal(umount(w.dir), 0);
}

/* ---- files that go away in use ---- */

/* Whether nothing that is not acknowledged now will ever be. */
static bool is_final(void)
{
	epoch_enter(&w.me);
	bool is_final = log_is_final(w.log);
	epoch_leave(&w.me);
	return is_final;
}

static void a_removed_file_ends_appending(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_many(&w, 5);
	WAIT_FOR(world_synced(&w) == 5);
	segment_path(&w, 1, path);
	assert_false(is_final());
	assert_int_equal(unlink(path), 0);
	WAIT_FOR(log_has_failed(w.log));
	assert_int_equal(append_one(&w), LOG_FAILED);
	assert_false(is_final()); /* what has been taken is there, and acknowledged */
	check_map(&w, "5M");
}

/* What we write gets into a file that nobody will find again. */
static void a_file_that_another_one_takes_the_place_of_ends_appending(void **state)
{
	(void)state;
	static char data[SMALL];
	char path[512], other[512];
	open_log(&w);
	append_many(&w, 5);
	WAIT_FOR(world_synced(&w) == 5);
	segment_path(&w, 1, path);
	path_of(&w, "other", other);
	assert_int_equal(read_whole(path, data, SMALL), SMALL);
	write_whole(other, data, SMALL);
	assert_int_equal(rename(other, path), 0);
	WAIT_FOR(log_has_failed(w.log));
	assert_int_equal(append_one(&w), LOG_FAILED);
	check_map(&w, "5M");
}

static void a_file_that_is_made_longer_ends_appending(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_many(&w, 5);
	WAIT_FOR(world_synced(&w) == 5);
	segment_path(&w, 1, path);
	assert_int_equal(truncate(path, 2 * SMALL), 0);
	WAIT_FOR(log_has_failed(w.log));
	assert_int_equal(append_one(&w), LOG_FAILED);
	check_map(&w, "5M");
}

static void a_file_cut_short_is_damage_and_ends_appending(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_many(&w, 5);
	assert_int_equal(world_head(&w), 5);
	segment_path(&w, 1, path);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(append_one(&w), LOG_FAILED);
	assert_true(log_has_failed(w.log));
	assert_true(is_final());
	/* The sixth was refused; it has an id where it found out itself, before the syncer did. */
	check_map(&w, world_head(&w) == 6 ? "6D" : "5D");
	close_log(&w);
}

static void a_stored_file_cut_short_is_damage_alone(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_to_two(&w);
	close_log(&w);
	open_log(&w);
	segment_path(&w, 1, path);
	assert_int_equal(truncate(path, 0), 0);
	struct block block;
	epoch_enter(&w.me);
	if (log_block(w.log, 1, 2, &block) == BLOCK_HERE)
		(void)is_right(&block, 0); /* whoever looks first sees zeros */
	epoch_leave(&w.me);
	check_map(&w, "2D 4M");
	assert_int_equal(append_one(&w), LOG_APPENDED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_IN_MEMORY(name) cmocka_unit_test_setup_teardown(name, begin_in_memory, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_IN_MEMORY(no_changed_bit_goes_unnoticed_after_a_clean_stop),
		TEST_IN_MEMORY(no_changed_bit_goes_unnoticed_after_a_crash),
		TEST(no_changed_bit_goes_unnoticed_after_a_loss_of_power),
		TEST_IN_MEMORY(no_cut_goes_unnoticed),
		TEST(a_directory_is_made_with_those_above),
		TEST(a_file_is_no_directory),
		TEST(two_processes_do_not_share_a_directory),
		TEST(a_process_that_is_not_seen_has_its_directory_for_itself),
		TEST(what_is_half_made_is_removed_and_what_is_not_ours_stays),
		TEST(files_are_wholly_allocated_and_nobody_elses),
		TEST(a_full_disk_refuses_messages_and_is_tried_again),
		TEST(a_log_on_a_ramfs_is_one_in_memory),
		TEST(a_full_disk_refuses_the_first_start),
		TEST(a_removed_file_ends_appending),
		TEST(a_file_that_another_one_takes_the_place_of_ends_appending),
		TEST(a_file_that_is_made_longer_ends_appending),
		TEST(a_file_cut_short_is_damage_and_ends_appending),
		TEST(a_stored_file_cut_short_is_damage_alone),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
