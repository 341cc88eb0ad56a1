/* SPDX-License-Identifier: MIT */
/*
 * Logs that are opened again: after a clean stop, after the process died, after the machine did,
 * and after somebody or something has changed the files.
 */
#include "durable.h"

static struct world w;

static int begin(void **state)
{
	(void)state;
	world_begin(&w, "/tmp");
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end(&w);
	return 0;
}

/* The bound that the file's header has. */
static uint64_t bound_of(uint64_t number)
{
	struct header_constant constant;
	int fd = open_file_of(&w, number);
	assert_int_equal(pread(fd, &constant, sizeof constant, 0), sizeof constant);
	close(fd);
	return constant.id_bound;
}

/* ---- nothing is wrong ---- */

static void a_log_is_what_it_was_after_a_clean_stop(void **state)
{
	(void)state;
	open_log(&w);
	uint32_t identity = log_identity(w.log);
	uint64_t key = log_hash_key(w.log);
	append_many(&w, 5000);
	close_log(&w);
	open_log(&w);
	assert_int_equal(log_identity(w.log), identity);
	assert_true(log_hash_key(w.log) == key);
	check_map(&w, "5000M");
	assert_true(world_synced(&w) == 5000);
	append_many(&w, 1000);
	check_map(&w, "6000M");
}

static void append_3000(struct world *world)
{
	append_many(world, 3000);
}

static void a_log_is_what_it_was_after_the_process_died(void **state)
{
	(void)state;
	crash(&w, append_3000);
	crash(&w, append_3000);
	open_log(&w);
	check_map(&w, "6000M");
	append_many(&w, 1000);
	check_map(&w, "7000M");
}

static void every_way_to_sync_survives_the_process(void **state)
{
	(void)state;
	static const enum log_sync ways[] = {LOG_SYNC_NO, LOG_SYNC_INTERVAL, LOG_SYNC_ALWAYS};
	for (size_t i = 0; i < 3; i++) {
		w.options.sync = ways[i];
		crash(&w, append_20);
	}
	open_log(&w);
	WAIT_FOR(world_head(&w) == 60);
	check_map(&w, "60M");
}

static void an_empty_log_can_be_opened_again(void **state)
{
	(void)state;
	open_log(&w);
	close_log(&w);
	open_log(&w);
	assert_int_equal(world_head(&w), 0);
	append_many(&w, 3);
	check_map(&w, "3M");
}

static void restarts_cost_no_segments(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 5);
	WAIT_FOR(count_segments(&w) == 3);
	close_log(&w);
	for (int i = 0; i < 20; i++) {
		if (i % 2 == 0) {
			crash(&w, append_20);
		} else {
			open_log(&w);
			close_log(&w);
		}
		assert_int_equal(count_segments(&w), 3);
	}
	open_log(&w);
	check_map(&w, "205M");
	assert_int_equal(count_segments(&w), 3);
}

static void a_full_segment_is_followed_by_the_spare(void **state)
{
	(void)state;
	for (int i = 0; i < 30; i++)
		crash(&w, append_20);
	open_log(&w);
	check_map(&w, "600M");
	assert_true(count_segments(&w) <= 4);
}

static void another_segment_size_begins_with_the_next_segment(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 700);
	close_log(&w);
	w.options.segment_size = 2 * SMALL;
	open_log(&w);
	check_map(&w, "700M");
	append_many(&w, 2000);
	check_map(&w, "2700M");
	close_log(&w);
	w.options.segment_size = SMALL;
	w.options.retain_messages = 800;
	crash(&w, append_20);
	open_log(&w);
	append_many(&w, 1000);
	WAIT_FOR(count_segments(&w) > 5);
	assert_true(world_head(&w) == 3720);
}

static void append_in_future(struct world *world)
{
	clock_open(clock_wall_us() + 1000000000ULL * 3600);
	append_many(world, 10);
}

static uint64_t time_of(uint64_t id)
{
	struct block block;
	epoch_enter(&w.me);
	assert_int_equal(look(&w, id, id, false, &block), BLOCK_HERE);
	uint64_t time_us = entry_time_us(block_entry(&block, 0));
	epoch_leave(&w.me);
	return time_us;
}

static void time_never_goes_back_over_restarts(void **state)
{
	(void)state;
	crash(&w, append_in_future);
	open_log(&w);
	append_many(&w, 1);
	assert_true(time_of(11) >= time_of(10));
	close_log(&w);
	change_boot(&w);
	open_log(&w);
	append_many(&w, 1);
	assert_true(time_of(12) >= time_of(11));
	close_log(&w);
	clock_open(0);
}

static void a_search_by_time_finds_what_a_former_run_wrote(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 3000);
	close_log(&w);
	open_log(&w);
	for (uint64_t id = 1; id <= 3000; id += 37) {
		uint64_t found = find_time(&w, time_of(id));
		assert_true(found <= id && time_of(found) == time_of(id));
		assert_true(found == 1 || time_of(found - 1) < time_of(id));
	}
	assert_true(find_time(&w, UINT64_MAX >> 8) == 3001);
}

/* ---- retention ---- */

static void files_go_oldest_first_and_what_is_left_is_opened(void **state)
{
	(void)state;
	w.options.retain_bytes = 4 * SMALL;
	open_log(&w);
	append_many(&w, 8000);
	WAIT_FOR(count_segments(&w) <= 6);
	close_log(&w);
	size_t files = count_segments(&w);
	open_log(&w);
	assert_int_equal(world_head(&w), 8000);
	epoch_enter(&w.me);
	uint64_t first = log_first(w.log);
	epoch_leave(&w.me);
	assert_true(first > 4000 && first < 8000);
	assert_true(count_segments(&w) <= files + 1);
	append_many(&w, 10);
	assert_int_equal(world_head(&w), 8010);
}

static void append_and_let_age(struct world *world)
{
	append_many(world, 10);
	uint64_t first = 0;
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	while (first != 11 && clock_mono_ms() < deadline_ms) {
		(void)poll(NULL, 0, 5);
		epoch_enter(&world->me);
		first = log_first(world->log);
		epoch_leave(&world->me);
	}
	MUST(first == 11);
	char path[512];
	segment_path(world, 1, path);
	while (access(path, F_OK) == 0)
		(void)poll(NULL, 0, 1);
}

static void ids_go_on_where_all_messages_are_gone(void **state)
{
	(void)state;
	w.options.retain_age_us = 50000;
	crash(&w, append_and_let_age);
	w.options.retain_age_us = 0;
	open_log(&w);
	assert_int_equal(world_head(&w), 10);
	append_many(&w, 5);
	check_map(&w, "10- 5M");
}

/* ---- holes ---- */

static void leave_holes(struct world *world)
{
	append_many(world, 5);
	claim_in_vain(world, 3);
	/* Ids are counted from the committed prefix: these three get 9, 10 and 11. */
	for (uint64_t id = 9; id <= 11; id++) {
		char topic[32], text[1024];
		struct message message = message_of(id, topic, text);
		size_t appended;
		epoch_enter(&world->me);
		MUST(log_append(world->log, &message, 1, &appended) == LOG_APPENDED);
		epoch_leave(&world->me);
		MUST(message.id == id);
	}
}

static void a_claim_never_committed_is_void(void **state)
{
	(void)state;
	crash(&w, leave_holes);
	open_log(&w);
	check_map(&w, "5M 3V 3M");
	append_many(&w, 5);
	check_map(&w, "5M 3V 8M");
	close_log(&w);
	open_log(&w);
	check_map(&w, "5M 3V 8M");
	append_many(&w, 1000);
	close_log(&w);
	open_log(&w); /* the segment is sealed by now */
	check_map(&w, "5M 3V 1008M");
}

static void claim_only(struct world *world)
{
	append_many(world, 5);
	claim_in_vain(world, 3);
}

static void claims_that_nothing_follows_are_given_out_again(void **state)
{
	(void)state;
	crash(&w, claim_only);
	open_log(&w);
	check_map(&w, "5M");
	append_many(&w, 5);
	check_map(&w, "10M");
}

/* The segment ends in claims, the next one goes on behind them. */
static void leave_hole_at_end(struct world *world)
{
	append_many(world, 5);
	claim_in_vain(world, 4);
	segment_seal(world->log->tail);
	epoch_enter(&world->me);
	MUST(log_roll(world->log, world->log->tail) != NULL);
	epoch_leave(&world->me);
	for (uint64_t id = 10; id <= 12; id++) {
		char topic[32], text[1024];
		struct message message = message_of(id, topic, text);
		size_t appended;
		epoch_enter(&world->me);
		MUST(log_append(world->log, &message, 1, &appended) == LOG_APPENDED);
		epoch_leave(&world->me);
		MUST(message.id == id);
	}
}

static void wait_and_leave_hole_at_end(struct world *world)
{
	wait_for_spares(world, 3);
	leave_hole_at_end(world);
}

static void claims_at_the_end_of_a_segment_are_void(void **state)
{
	(void)state;
	crash(&w, wait_and_leave_hole_at_end);
	open_log(&w);
	check_map(&w, "5M 4V 3M");
	append_many(&w, 5);
	close_log(&w);
	open_log(&w);
	check_map(&w, "5M 4V 8M");
}

/* Bytes of claims that were being copied stand where slots will be: they are not taken for any. */
static void leave_litter(struct world *world)
{
	append_many(world, 5);
	char *map = segment_map(world->log->tail);
	memset(map + SMALL - 3000, 0x5a, 2000);
}

static void what_stands_behind_the_last_entry_does_no_harm(void **state)
{
	(void)state;
	crash(&w, leave_litter);
	open_log(&w);
	check_map(&w, "5M");
	append_many(&w, 500);
	check_map(&w, "505M");
	close_log(&w);
	open_log(&w);
	check_map(&w, "505M");
}

/* ---- the machine has died ---- */

static void ids_go_on_above_the_bound_after_a_loss_of_power(void **state)
{
	(void)state;
	crash(&w, append_20);
	uint64_t bound = bound_of(count_segments(&w));
	char expected[64];
	change_boot(&w);
	open_log(&w);
	assert_true(world_head(&w) == bound);
	assert_true(world_synced(&w) == bound);
	snprintf(expected, sizeof expected, "20M %" PRIu64 "L", bound - 20);
	check_map(&w, expected);
	append_many(&w, 5);
	close_log(&w);
	open_log(&w);
	snprintf(expected, sizeof expected, "20M %" PRIu64 "L 5M", bound - 20);
	check_map(&w, expected);
}

static void ids_are_never_given_out_twice_however_often_power_is_lost(void **state)
{
	(void)state;
	uint64_t head = 0, bound = 0;
	for (int i = 0; i < 4; i++) {
		open_log(&w);
		WAIT_FOR(count_segments(&w) >= 3);
		assert_true(world_head(&w) >= bound);
		assert_true(world_head(&w) >= head);
		head = world_head(&w);
		close_log(&w);
		crash(&w, append_20);
		for (uint64_t n = 1; n < 20; n++) {
			char path[512];
			segment_path(&w, n, path);
			if (access(path, F_OK) == 0 && bound_of(n) > bound)
				bound = bound_of(n);
		}
		change_boot(&w);
	}
	open_log(&w);
	assert_true(world_head(&w) == bound);
}

static void nothing(struct world *world)
{
	(void)world;
}

/* A machine that dies again and again must not fill the log with empty segments. */
static void empty_segments_do_not_pile_up(void **state)
{
	(void)state;
	crash(&w, append_20);
	for (int i = 0; i < 5; i++) {
		change_boot(&w);
		crash(&w, nothing);
	}
	open_log(&w);
	WAIT_FOR(count_segments(&w) == 4);
	static char map[IDS_MAX + 1];
	read_all(&w, map);
	assert_int_equal(strspn(map, "M"), 20);
	assert_int_equal(strspn(map + 20, "L"), strlen(map) - 20);
}

static void no_sync(struct world *world)
{
	append_many(world, 20);
}

/* Pages that did not get to the disk: what is not there is lost, what is there is there. */
static void what_did_not_get_to_the_disk_is_lost(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	crash(&w, no_sync);
	wipe(&w, 1, slot_at(9), 3 * sizeof(struct entry)); /* ids 8, 9 and 10 */
	flip(&w, 1, slot_at(14) + 9, 3);                   /* id 15 */
	change_boot(&w);
	open_log(&w);
	static char map[IDS_MAX + 1];
	read_all(&w, map);
	map[22] = '\0';
	assert_string_equal(map, "MMMMMMMLLLMMMMLMMMMMLL");
	append_many(&w, 3);
	close_log(&w);
	open_log(&w);
	read_all(&w, map);
	assert_string_equal(map + strlen(map) - 4, "LMMM");
	map[22] = '\0';
	assert_string_equal(map, "MMMMMMMLLLMMMMLMMMMMLL");
}

static void append_1500(struct world *world)
{
	append_many(world, 1500);
}

/* A whole segment between others did not get to the disk, and the ends of two. */
static void segments_that_did_not_get_to_the_disk_are_lost(void **state)
{
	(void)state;
	static char before[IDS_MAX + 1], after[IDS_MAX + 1];
	w.options.sync = LOG_SYNC_NO;
	crash(&w, append_1500);
	size_t files = count_segments(&w);
	assert_true(files >= 4);
	/* As if none had been sealed: no seal, nothing known to be synced. */
	struct segment_header header;
	for (uint64_t n = 1; n <= files; n++) {
		int fd = open_file_of(&w, n);
		assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
		memset(&header.seal, 0, sizeof header.seal);
		header.synced[0].id = header.synced[1].id = 0;
		header_set_synced(&header, 0);
		header.synced[1] = header.synced[0];
		assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
		close(fd);
	}
	wipe(&w, 2, SEGMENT_HEADER_SIZE, SMALL - SEGMENT_HEADER_SIZE);
	memset(before, 'M', 1500);
	change_boot(&w);
	open_log(&w);
	read_all(&w, after);
	assert_null(strchr(after, 'W'));
	size_t first = strspn(after, "M"), lost = strspn(after + first, "L");
	assert_true(first > 100 && lost > 100);
	assert_int_equal(first + lost + strspn(after + first + lost, "M"), 1500);
	close_log(&w);
	open_log(&w);
	read_all(&w, before);
	assert_string_equal(before, after);
}

static void append_and_sync(struct world *world)
{
	append_many(world, 20);
	/* Until the header tells of it, as the file has it: the mapping is the syncer's. */
	struct segment_header header;
	uint64_t id = 0;
	int fd = open_file_of(world, 1);
	for (uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	     id < 20 && clock_mono_ms() < deadline_ms; (void)poll(NULL, 0, 1)) {
		MUST(pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header);
		MUST(header_synced(&header, &id));
	}
	MUST(id == 20);
}

static void what_was_synced_must_be_there(void **state)
{
	(void)state;
	crash(&w, append_and_sync);
	wipe(&w, 1, slot_at(9), sizeof(struct entry));
	change_boot(&w);
	check_refused(&w, "00000000000000000001.seg: messages 10 to 10 are damaged");
	check_refused(&w, "--repair");
}

static void what_was_synced_must_be_there_at_the_end_too(void **state)
{
	(void)state;
	crash(&w, append_and_sync);
	wipe(&w, 1, slot_at(19), 2 * sizeof(struct entry));
	change_boot(&w);
	check_refused(&w, "messages 19 to 20 are damaged");
}

static void what_was_synced_is_no_claim(void **state)
{
	(void)state;
	crash(&w, append_and_sync);
	wipe(&w, 1, slot_at(9), sizeof(struct entry));
	check_refused(&w, "messages 10 to 10 are damaged");
}

/* ---- damage ---- */

static void a_claim_is_no_excuse_after_a_clean_stop(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 20);
	close_log(&w);
	wipe(&w, 1, slot_at(9), sizeof(struct entry));
	check_refused(&w, "messages 10 to 10 are damaged");
}

static void what_a_clean_stop_wrote_down_must_be_there(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 20);
	close_log(&w);
	wipe(&w, 1, slot_at(19), 4 * sizeof(struct entry));
	check_refused(&w, "are damaged");
}

static void a_changed_byte_in_a_living_machine_is_damage(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	crash(&w, append_20);
	flip(&w, 1, SEGMENT_HEADER_SIZE + 7, 3);
	check_refused(&w, "messages 1 to 1 are damaged");
	flip(&w, 1, SEGMENT_HEADER_SIZE + 7, 3);
	flip(&w, 1, slot_at(19), 0); /* the last one's commit word */
	check_refused(&w, "messages 20 to 20 are damaged");
	flip(&w, 1, slot_at(19), 0);
	open_log(&w);
	check_map(&w, "20M");
}

/* What was sealed is taken as it is; looking at it shows what is damaged, and no more is lost. */
static void damage_in_a_sealed_segment_is_a_gap(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 2000);
	close_log(&w);
	flip(&w, 1, slot_at(4) + 12, 3);
	flip(&w, 1, slot_at(6), 3);
	wipe(&w, 2, SEGMENT_HEADER_SIZE, 1);
	open_log(&w);
	static char map[IDS_MAX + 1];
	read_all(&w, map);
	assert_int_equal(strspn(map, "M"), 4);
	assert_memory_equal(map, "MMMMDMDM", 8);
	size_t damaged = 0;
	for (size_t i = 0; i < 2000; i++) {
		damaged += map[i] == 'D';
		assert_true(map[i] == 'D' || map[i] == 'M');
	}
	assert_int_equal(damaged, 3);
	/* A search by time does not go by what stands in damaged slots. */
	epoch_enter(&w.me);
	for (uint64_t id = 1; id <= 8; id++)
		if (map[id - 1] == 'M')
			assert_true(log_find_time(w.log, time_of(id), NULL) <= id);
	epoch_leave(&w.me);
}

static void a_missing_file_is_named(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_many(&w, 2000);
	close_log(&w);
	segment_path(&w, 2, path);
	assert_int_equal(unlink(path), 0);
	check_refused(&w, "00000000000000000002.seg: is missing");
}

static void a_log_without_its_segments_is_not_begun_anew(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 20);
	close_log(&w);
	(void)count_files(&w, ".seg", true);
	check_refused(&w, "log: says that there was a log");
}

static void segments_without_their_log_are_not_taken(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_many(&w, 20);
	close_log(&w);
	path_of(&w, "log", path);
	assert_int_equal(unlink(path), 0);
	check_refused(&w, "log: is missing, though there are segments");
}

static void a_file_of_another_log_is_not_taken(void **state)
{
	(void)state;
	char ours[512], theirs[512];
	struct world other;
	world_begin(&other, "/tmp");
	open_log(&other);
	close_log(&other);
	open_log(&w);
	close_log(&w);
	segment_path(&w, 1, ours);
	segment_path(&other, 1, theirs);
	assert_int_equal(rename(theirs, ours), 0);
	check_refused(&w, "belongs to another log");
	world_end(&other);
}

static void a_renamed_file_is_not_taken(void **state)
{
	(void)state;
	char from[512], to[512];
	open_log(&w);
	append_many(&w, 2000);
	close_log(&w);
	segment_path(&w, 3, from);
	segment_path(&w, 1, to);
	assert_int_equal(rename(from, to), 0);
	check_refused(&w, "has been renamed");
}

static void replace_in_file(const char *name, const char *text, const char *other)
{
	char path[512], content[1024];
	path_of(&w, name, path);
	FILE *file = fopen(path, "r+e");
	assert_non_null(file);
	size_t n = fread(content, 1, sizeof content - 1, file);
	content[n] = '\0';
	char *at = strstr(content, text);
	assert_non_null(at);
	assert_int_equal(strlen(text), strlen(other));
	memcpy(at, other, strlen(other));
	rewind(file);
	assert_int_equal(fwrite(content, 1, n, file), n);
	fclose(file);
}

static void another_format_is_named(void **state)
{
	(void)state;
	open_log(&w);
	close_log(&w);
	replace_in_file("log", "psad log 1\n", "psad log 2\n");
	check_refused(&w, "log: has format 2, this psad knows format 1");
	replace_in_file("log", "psad log 2\n", "psad log 1\n");
	flip(&w, 1, offsetof(struct header_constant, version), 1);
	check_refused(&w, "00000000000000000001.seg: has another format");
}

static void the_other_byte_order_is_named(void **state)
{
	(void)state;
	uint64_t swapped = __builtin_bswap64(STORE_BYTE_ORDER);
	open_log(&w);
	close_log(&w);
	replace_in_file("log", "order 0807060504030201", "order 0102030405060708");
	check_refused(&w, "log: was written by a machine of the other byte order");
	replace_in_file("log", "order 0102030405060708", "order 0807060504030201");
	int fd = open_file_of(&w, 1);
	assert_int_equal(
		pwrite(fd, &swapped, sizeof swapped, offsetof(struct header_constant, byte_order)),
		sizeof swapped);
	close(fd);
	check_refused(&w, "00000000000000000001.seg: was written by a machine of the other byte");
}

/* What was not refused stays as it was refused: nothing has been changed. */
static void a_refused_start_changes_nothing(void **state)
{
	(void)state;
	w.options.sync = LOG_SYNC_NO;
	crash(&w, leave_holes);
	flip(&w, 1, slot_at(0) + 20, 0);
	check_refused(&w, "messages 1 to 1 are damaged");
	flip(&w, 1, slot_at(0) + 20, 0);
	open_log(&w);
	check_map(&w, "5M 3V 3M");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_log_is_what_it_was_after_a_clean_stop),
		TEST(a_log_is_what_it_was_after_the_process_died),
		TEST(every_way_to_sync_survives_the_process),
		TEST(an_empty_log_can_be_opened_again),
		TEST(restarts_cost_no_segments),
		TEST(a_full_segment_is_followed_by_the_spare),
		TEST(another_segment_size_begins_with_the_next_segment),
		TEST(time_never_goes_back_over_restarts),
		TEST(a_search_by_time_finds_what_a_former_run_wrote),
		TEST(files_go_oldest_first_and_what_is_left_is_opened),
		TEST(ids_go_on_where_all_messages_are_gone),
		TEST(a_claim_never_committed_is_void),
		TEST(claims_that_nothing_follows_are_given_out_again),
		TEST(claims_at_the_end_of_a_segment_are_void),
		TEST(what_stands_behind_the_last_entry_does_no_harm),
		TEST(ids_go_on_above_the_bound_after_a_loss_of_power),
		TEST(ids_are_never_given_out_twice_however_often_power_is_lost),
		TEST(empty_segments_do_not_pile_up),
		TEST(what_did_not_get_to_the_disk_is_lost),
		TEST(segments_that_did_not_get_to_the_disk_are_lost),
		TEST(what_was_synced_must_be_there),
		TEST(what_was_synced_must_be_there_at_the_end_too),
		TEST(what_was_synced_is_no_claim),
		TEST(a_claim_is_no_excuse_after_a_clean_stop),
		TEST(what_a_clean_stop_wrote_down_must_be_there),
		TEST(a_changed_byte_in_a_living_machine_is_damage),
		TEST(damage_in_a_sealed_segment_is_a_gap),
		TEST(a_missing_file_is_named),
		TEST(a_log_without_its_segments_is_not_begun_anew),
		TEST(segments_without_their_log_are_not_taken),
		TEST(a_file_of_another_log_is_not_taken),
		TEST(a_renamed_file_is_not_taken),
		TEST(another_format_is_named),
		TEST(the_other_byte_order_is_named),
		TEST(a_refused_start_changes_nothing),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
