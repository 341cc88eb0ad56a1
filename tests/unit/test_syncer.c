/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=fdatasync */
/*
 * When what is committed gets to the disk, what is shown before that, and what happens when it does
 * not get there. Syncs are counted, held up and made to fail through link-time wrapping.
 */
#include "durable.h"

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static uint64_t syncs;
static uint32_t is_held_up, is_failing, waiting;

/* The log's threads come here too. */
int __wrap_fdatasync(int fd)
{
	atomic64_add(&syncs, 1);
	atomic32_add(&waiting, 1);
	while (atomic32_load_acquire(&is_held_up) != 0)
		(void)poll(NULL, 0, 1);
	atomic32_add(&waiting, UINT32_MAX);
	if (atomic32_load_acquire(&is_failing) != 0) {
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

static struct world w;

static int begin(void **state)
{
	(void)state;
	world_begin(&w, "/tmp");
	atomic32_store_release(&is_held_up, 0);
	atomic32_store_release(&is_failing, 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	atomic32_store_release(&is_held_up, 0);
	atomic32_store_release(&is_failing, 0);
	world_end(&w);
	return 0;
}

/* So that no file is being made, and the next sync is one of messages. */
static void wait_for_rest(void)
{
	WAIT_FOR(count_segments(&w) == 3);
	epoch_enter(&w.me);
	struct segment *spare = atomic_load_pointer_acquire(&w.log->tail->next);
	epoch_leave(&w.me);
	WAIT_FOR(spare == NULL || atomic_load_pointer_acquire(&spare->next) != NULL);
}

static void always_shows_nothing_before_it_is_synced(void **state)
{
	(void)state;
	struct block block;
	w.options.sync = LOG_SYNC_ALWAYS;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 3);
	WAIT_FOR(world_head(&w) == 3);
	atomic32_store_release(&is_held_up, 1);
	uint64_t rung = wake_value(w.wake);
	append_many(&w, 5);
	WAIT_FOR(atomic32_load_acquire(&waiting) == 1);
	assert_int_equal(world_committed(&w), 8);
	assert_int_equal(world_head(&w), 3);
	assert_int_equal(world_synced(&w), 3);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, 4, log_head(w.log), &block), BLOCK_END);
	epoch_leave(&w.me);
	assert_true(wake_value(w.wake) == rung);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(world_head(&w) == 8);
	WAIT_FOR(wake_value(w.wake) != rung);
	check_map(&w, "8M");
}

static void commits_during_a_sync_share_the_next(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_ALWAYS;
	open_log(&w);
	wait_for_rest();
	atomic32_store_release(&is_held_up, 1);
	append_many(&w, 1);
	WAIT_FOR(atomic32_load_acquire(&waiting) == 1);
	uint64_t before = atomic64_load_acquire(&syncs);
	append_many(&w, 200);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(world_head(&w) == 201);
	assert_int_equal(atomic64_load_acquire(&syncs), before + 1);
}

static void an_interval_is_synced_without_anybody_asking(void **state)
{
	(void)state;
	w.options.sync_interval_us = 20000;
	open_log(&w);
	wait_for_rest();
	for (uint64_t n = 1; n <= 3; n++) {
		append_many(&w, 10);
		assert_int_equal(world_head(&w), n * 10); /* shown at once */
		WAIT_FOR(world_synced(&w) == n * 10);
	}
	uint64_t before = atomic64_load_acquire(&syncs);
	(void)poll(NULL, 0, 60);
	assert_int_equal(atomic64_load_acquire(&syncs), before); /* nothing new: no sync */
}

/* Whoever watches wants the threads to come round; what waits for its sync goes on waiting. */
static void stirring_moves_the_threads_and_syncs_nothing_before_its_time(void **state)
{
	(void)state;
	w.options.sync_interval_us = 3600ULL * 1000000;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 1);
	WAIT_FOR(world_synced(&w) == 1); /* the first is not waited for */
	append_many(&w, 10);
	for (int i = 0; i < 20; i++) {
		uint64_t keeper = beat_look(log_keeper_beat(w.log));
		uint64_t syncer = beat_look(log_syncer_beat(w.log));
		log_stir(w.log);
		WAIT_FOR(beat_look(log_keeper_beat(w.log)) != keeper);
		WAIT_FOR(beat_look(log_syncer_beat(w.log)) != syncer);
	}
	assert_int_equal(world_synced(&w), 1);
}

static void a_stuck_sync_is_a_syncer_that_does_not_move(void **state)
{
	(void)state;
	w.options.sync_interval_us = 1000;
	open_log(&w);
	wait_for_rest();
	atomic32_store_release(&is_held_up, 1);
	append_many(&w, 10);
	WAIT_FOR(atomic32_load_acquire(&waiting) > 0);
	uint64_t syncer = beat_look(log_syncer_beat(w.log));
	for (int i = 0; i < 20; i++) {
		uint64_t keeper = beat_look(log_keeper_beat(w.log));
		log_stir(w.log);
		WAIT_FOR(beat_look(log_keeper_beat(w.log)) != keeper);
	}
	assert_int_equal(beat_look(log_syncer_beat(w.log)), syncer);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(beat_look(log_syncer_beat(w.log)) != syncer);
}

static void another_interval_is_in_force_for_what_waits_already(void **state)
{
	(void)state;
	w.options.sync_interval_us = 3600ULL * 1000000;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 1);
	WAIT_FOR(world_synced(&w) == 1);
	append_many(&w, 10);
	log_set_sync_interval(w.log, 1000);
	WAIT_FOR(world_synced(&w) == 11);
	log_set_sync_interval(w.log, 3600ULL * 1000000);
	append_many(&w, 10);
	log_stir(w.log);
	(void)poll(NULL, 0, 20);
	assert_int_equal(world_synced(&w), 11);
}

static void no_syncs_what_is_sealed_and_at_the_end(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	open_log(&w);
	wait_for_rest();
	uint64_t before = atomic64_load_acquire(&syncs);
	append_many(&w, 100);
	(void)poll(NULL, 0, 30);
	assert_int_equal(atomic64_load_acquire(&syncs), before);
	assert_int_equal(world_synced(&w), 0);
	append_many(&w, 1500);
	WAIT_FOR(world_synced(&w) > 300);
	assert_true(world_synced(&w) < 1600);
	before = atomic64_load_acquire(&syncs);
	close_log(&w);
	assert_true(atomic64_load_acquire(&syncs) > before);
	change_boot(&w); /* it was a clean stop: the machine may go down */
	open_log(&w);
	check_map(&w, "1600M");
	assert_int_equal(world_synced(&w), 1600);
}

static void a_sealed_segment_becomes_stored(void **state)
{
	(void)state;
	open_log(&w);
	struct segment *first = w.log->tail;
	append_many(&w, 1500);
	WAIT_FOR(segment_is_stored(first));
	assert_int_equal(first->file.fd, -1);
}

static void a_failed_sync_ends_appending_and_shows_nothing_more(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_ALWAYS;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 3);
	WAIT_FOR(world_head(&w) == 3);
	atomic32_store_release(&is_failing, 1);
	uint64_t rung = wake_value(w.wake);
	append_many(&w, 1);
	WAIT_FOR(log_has_failed(w.log));
	WAIT_FOR(wake_value(w.wake) != rung);   /* whoever waits is told */
	atomic32_store_release(&is_failing, 0); /* the next one would be a lie */
	uint64_t before = atomic64_load_acquire(&syncs);
	assert_int_equal(append_one(&w), LOG_FAILED);
	(void)poll(NULL, 0, 30);
	assert_int_equal(atomic64_load_acquire(&syncs), before);
	assert_int_equal(world_head(&w), 3);
	check_map(&w, "3M");
}

static ino_t inode_of(uint64_t number)
{
	struct stat status;
	char path[512];
	segment_path(&w, number, path);
	assert_int_equal(stat(path, &status), 0);
	return status.st_ino;
}

static void a_file_that_a_sync_has_failed_for_is_copied(void **state)
{
	(void)state;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 3);
	WAIT_FOR(world_synced(&w) == 3);
	ino_t before = inode_of(1);
	atomic32_store_release(&is_held_up, 1); /* until all four are there */
	append_many(&w, 4);
	WAIT_FOR(atomic32_load_acquire(&waiting) > 0);
	atomic32_store_release(&is_failing, 1);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(log_has_failed(w.log));
	close_log(&w);
	/* As long as syncs fail, so does the start. */
	check_refused(&w, "00000000000000000001.seg: can't be written: Input/output error");
	assert_int_equal(inode_of(1), before);
	atomic32_store_release(&is_failing, 0);
	open_log(&w);
	check_map(&w, "7M");
	assert_true(inode_of(1) != before);
	append_many(&w, 4);
	check_map(&w, "11M");
	close_log(&w);
	open_log(&w);
	check_map(&w, "11M");
}

static void a_stop_that_can_not_sync_is_no_clean_one(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	open_log(&w);
	wait_for_rest();
	append_many(&w, 3);
	atomic32_store_release(&is_failing, 1);
	close_log(&w);
	atomic32_store_release(&is_failing, 0);
	char path[512], text[512];
	path_of(&w, "log", path);
	FILE *file = fopen(path, "re");
	size_t n = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[n] = '\0';
	assert_non_null(strstr(text, "\nend open\n"));
	open_log(&w);
	check_map(&w, "3M");
}

static void append_unsynced(struct world *world)
{
	append_many(world, 20);
}

static void always_syncs_what_it_found_before_it_is_shown(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	crash(&w, append_unsynced);
	w.options.sync = LOG_SYNC_ALWAYS;
	atomic32_store_release(&is_failing, 1);
	check_refused(&w, "can't be written");
	atomic32_store_release(&is_failing, 0);
	open_log(&w);
	assert_int_equal(world_synced(&w), 20);
	check_map(&w, "20M");
}

static void a_log_in_memory_is_always_synced(void **state)
{
	(void)state;
	w.options.dir = NULL;
	open_log(&w);
	append_many(&w, 5);
	assert_int_equal(world_synced(&w), 5);
	assert_string_equal(log_sync_word(w.log), "memory");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(always_shows_nothing_before_it_is_synced),
		TEST(commits_during_a_sync_share_the_next),
		TEST(an_interval_is_synced_without_anybody_asking),
		TEST(stirring_moves_the_threads_and_syncs_nothing_before_its_time),
		TEST(a_stuck_sync_is_a_syncer_that_does_not_move),
		TEST(another_interval_is_in_force_for_what_waits_already),
		TEST(no_syncs_what_is_sealed_and_at_the_end),
		TEST(a_sealed_segment_becomes_stored),
		TEST(a_failed_sync_ends_appending_and_shows_nothing_more),
		TEST(a_file_that_a_sync_has_failed_for_is_copied),
		TEST(a_stop_that_can_not_sync_is_no_clean_one),
		TEST(always_syncs_what_it_found_before_it_is_shown),
		TEST(a_log_in_memory_is_always_synced),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
