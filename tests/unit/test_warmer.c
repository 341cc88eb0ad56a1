/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=segment_verify,--wrap=store_map_segment,--wrap=store_unmap */
/*
 * Cold segments: real files of a former run, read again; with what can have happened to them since.
 */
#include "durable.h"

#include "base/diag.h"
#include "log/verify.h"
#include "log/warmer.h"

static struct world w;

/* ---- what the warmer does, seen from below ---- */

static uint32_t maps, unmaps, refusals; /* refusals: so many mappings fail for want of memory */
static uint32_t is_held_up;             /* verification waits as long as it is */
static uint32_t verifying;              /* calls */

int __real_segment_verify(const struct segment *segment, char *map, uint32_t from, uint32_t count,
                          struct gap_list *list);
int __wrap_segment_verify(const struct segment *segment, char *map, uint32_t from, uint32_t count,
                          struct gap_list *list);
int __real_store_map_segment(struct store *store, struct segment *segment, char **map);
int __wrap_store_map_segment(struct store *store, struct segment *segment, char **map);
void __real_store_unmap(const struct segment *segment, char *map);
void __wrap_store_unmap(const struct segment *segment, char *map);

int __wrap_segment_verify(const struct segment *segment, char *map, uint32_t from, uint32_t count,
                          struct gap_list *list)
{
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

	if (!segment_is_stored(segment)) /* by who opens the log */
		return __real_segment_verify(segment, map, from, count, list);
	/* What is verified is not what anybody can see yet. */
	if (segment_map(segment) != NULL)
		abort();
	(void)atomic32_add(&verifying, 1);
	while (atomic32_load_acquire(&is_held_up) != 0 && clock_mono_ms() < deadline_ms)
		(void)poll(NULL, 0, 1);
	return __real_segment_verify(segment, map, from, count, list);
}

int __wrap_store_map_segment(struct store *store, struct segment *segment, char **map)
{
	if (atomic32_load_acquire(&refusals) > 0) {
		(void)atomic32_add(&refusals, UINT32_MAX);
		return -ENOMEM;
	}
	(void)atomic32_add(&maps, 1);
	return __real_store_map_segment(store, segment, map);
}

void __wrap_store_unmap(const struct segment *segment, char *map)
{
	(void)atomic32_add(&unmaps, 1);
	__real_store_unmap(segment, map);
}

/* ---- what every test needs ---- */

enum { FEW = 3000, MANY = 40000 };

/* Inside a section. */
static const struct directory *directory_now(void)
{
	return atomic_load_pointer_acquire(&w.log->directory); /* [O5] */
}

static bool all_are_stored(void)
{
	epoch_enter(&w.me);
	const struct directory *directory = directory_now();
	size_t i = 0;
	while (segment_is_stored(directory->segments[i]))
		i++;
	bool is_tail = directory->segments[i] == atomic_load_pointer_acquire(&w.log->tail);
	epoch_leave(&w.me);
	return is_tail;
}

/* A log of `count` messages, closed and opened again: all but its end is cold. */
static void make_cold(unsigned count)
{
	open_log(&w);
	append_many(&w, count);
	WAIT_FOR(all_are_stored());
	close_log(&w);
	maps = unmaps = verifying = 0;
	open_log(&w);
	assert_int_equal(maps, 0);
}

static int begin(void **state)
{
	(void)state;
	world_begin(&w, "/dev/shm");
	refusals = is_held_up = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end(&w);
	return 0;
}

/* What is found at `id` now, without waiting. */
static enum block_verdict verdict_of(uint64_t id, struct block *block)
{
	epoch_enter(&w.me);
	enum block_verdict verdict = log_block(w.log, id, log_head(w.log), block);
	epoch_leave(&w.me);
	return verdict;
}

static void want(uint64_t id)
{
	struct block block;
	epoch_enter(&w.me);
	if (log_block(w.log, id, log_head(w.log), &block) == BLOCK_COLD)
		log_want(w.log, &block);
	epoch_leave(&w.me);
}

/* Waits until it is known what is at `id`. */
static enum block_verdict wait_for(uint64_t id, struct block *block)
{
	epoch_enter(&w.me);
	enum block_verdict verdict = look(&w, id, log_head(w.log), false, block);
	epoch_leave(&w.me);
	return verdict;
}

static size_t count_mapped(void)
{
	size_t count = 0;
	epoch_enter(&w.me);
	const struct directory *directory = directory_now();
	for (size_t i = 0; i < directory->count; i++)
		count += segment_is_stored(directory->segments[i]) &&
		         segment_map(directory->segments[i]) != NULL;
	epoch_leave(&w.me);
	return count;
}

/* The ids of the segment with that file. */
static void ids_of(uint64_t number, uint64_t *from, uint64_t *to)
{
	epoch_enter(&w.me);
	const struct directory *directory = directory_now();
	const struct segment *segment =
		directory->segments[number - directory->segments[0]->file.number];
	*from = atomic64_load_acquire(&segment->base);
	*to = *from + state_entries(atomic64_load_acquire(&segment->state)) - 1;
	epoch_leave(&w.me);
}

/* ---- the tests ---- */

static void a_former_run_is_cold_and_all_of_it_can_be_read(void **state)
{
	(void)state;
	struct block block;
	make_cold(MANY);
	assert_int_equal(verdict_of(1, &block), BLOCK_COLD);
	assert_null(block.map);
	assert_true(block.first == 1 && block_segment_first(&block) == 1);
	assert_true(segment_may_hold(block.segment, (uint32_t)(3 * 2654435761U)));
	check_map(&w, "40000M");
	assert_true(maps > WARMER_MAPPED_MAX);
}

static void in_every_way_to_sync(void **state)
{
	(void)state;
	static const enum log_sync ways[] = {LOG_SYNC_NO, LOG_SYNC_INTERVAL, LOG_SYNC_ALWAYS};
	for (size_t i = 0; i < 3; i++) {
		w.options.sync = ways[i];
		make_cold(FEW);
		WAIT_FOR(world_head(&w) == (i + 1) * FEW);
		char expected[16];
		sprintf(expected, "%zuM", (i + 1) * FEW);
		check_map(&w, expected);
		close_log(&w);
	}
}

static void whoever_asks_twice_is_served_once(void **state)
{
	(void)state;
	struct block block;
	make_cold(FEW);
	is_held_up = 1;
	want(1);
	WAIT_FOR(atomic32_load_acquire(&verifying) == 1);
	for (int i = 0; i < 100; i++)
		want(1 + (uint64_t)i);
	assert_int_equal(verdict_of(1, &block), BLOCK_COLD);
	uint64_t warmed = log_warmed(w.log);
	atomic32_store_release(&is_held_up, 0);
	assert_int_equal(wait_for(1, &block), BLOCK_HERE);
	assert_true(log_warmed(w.log) == warmed + 1);
	assert_int_equal(maps, 1);
}

static void the_ring_comes_when_it_can_be_read(void **state)
{
	(void)state;
	struct block block;
	make_cold(FEW);
	for (uint64_t id = 1; verdict_of(id, &block) == BLOCK_COLD; id += 300) {
		uint64_t warmed = log_warmed(w.log), rung = wake_value(w.wake);
		want(id);
		WAIT_FOR(log_warmed(w.log) != warmed);
		assert_int_equal(verdict_of(id, &block), BLOCK_HERE);
		WAIT_FOR(wake_value(w.wake) != rung);
	}
}

static void a_damaged_byte_is_an_exact_gap(void **state)
{
	(void)state;
	uint64_t from, to;
	char expected[100];
	make_cold(FEW);
	ids_of(3, &from, &to);
	close_log(&w);
	flip(&w, 1, SEGMENT_HEADER_SIZE + 10, 3);           /* in a frame */
	flip(&w, 1, slot_at(7) + 16, 0);                    /* an offset */
	flip(&w, 3, slot_at((uint32_t)(to - from)) + 2, 1); /* the last one's commit word */
	open_log(&w);
	sprintf(expected, "1D 6M 1D %" PRIu64 "M 1D %" PRIu64 "M", to - 9, FEW - to);
	check_map(&w, expected);
}

/* A segment that has been let go and warmed again has the gaps that it had. */
static void gaps_are_the_same_each_time(void **state)
{
	(void)state;
	w.options.mapped_max = 1;
	make_cold(FEW);
	close_log(&w);
	flip(&w, 1, slot_at(7) + 16, 0);
	open_log(&w);
	for (int i = 0; i < 10; i++)
		check_map(&w, "7M 1D 2992M");
}

/* A former file of that name, in place of one that this run has seen. */
static void another_file_under_the_name_is_a_gap_of_all_its_ids(void **state)
{
	(void)state;
	uint64_t from, to;
	char expected[100];
	struct segment_header header;
	make_cold(FEW);
	ids_of(2, &from, &to);
	int fd = open_file_of(&w, 2);
	assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
	header.constant.secret ^= 1;
	header_set_constant(&header.constant);
	assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
	close(fd);
	sprintf(expected, "%" PRIu64 "M %" PRIu64 "D %" PRIu64 "M", from - 1, to - from + 1,
	        FEW - to);
	check_map(&w, expected);
}

static void damage_in_many_places_is_an_exact_gap_in_each(void **state)
{
	(void)state;
	make_cold(FEW);
	close_log(&w);
	for (uint32_t i = 1; i <= 11; i += 2)
		flip(&w, 1, slot_at(i) + 16, 0);
	open_log(&w);
	check_map(&w, "1M 1D 1M 1D 1M 1D 1M 1D 1M 1D 1M 1D 2988M");
}

/* While another one is mapped in its place. */
static void flip_cold(uint32_t slot, uint64_t elsewhere)
{
	struct block block;
	assert_int_equal(wait_for(elsewhere, &block), BLOCK_HERE);
	flip(&w, 1, slot_at(slot) + 16, 0);
}

/* Damage that comes, grows, moves and goes while the file is not mapped. */
static void gaps_are_what_was_found_the_last_time(void **state)
{
	(void)state;
	uint64_t from, to;
	w.options.mapped_max = 1;
	make_cold(FEW);
	ids_of(2, &from, &to);
	check_map(&w, "3000M");
	flip_cold(7, from);
	check_map(&w, "7M 1D 2992M");
	flip_cold(8, from);
	check_map(&w, "7M 2D 2991M");
	flip_cold(7, from);
	check_map(&w, "8M 1D 2991M");
	flip_cold(20, from);
	check_map(&w, "8M 1D 11M 1D 2979M");
	flip_cold(20, from);
	flip_cold(8, from);
	check_map(&w, "3000M");
}

static void a_file_that_is_gone_is_a_gap_of_all_its_ids(void **state)
{
	(void)state;
	uint64_t from, to;
	char path[512], expected[100];
	make_cold(FEW);
	ids_of(2, &from, &to);
	segment_path(&w, 2, path);
	assert_int_equal(unlink(path), 0);
	sprintf(expected, "%" PRIu64 "M %" PRIu64 "D %" PRIu64 "M", from - 1, to - from + 1,
	        FEW - to);
	check_map(&w, expected);
	check_map(&w, expected);
	close_log(&w);
	check_refused(&w, "is missing"); /* and that is for --repair */
}

static void a_file_that_was_cut_is_a_gap_of_all_its_ids(void **state)
{
	(void)state;
	uint64_t from, to;
	char path[512], expected[100];
	make_cold(FEW);
	ids_of(2, &from, &to);
	segment_path(&w, 2, path);
	assert_int_equal(truncate(path, SMALL / 2), 0);
	sprintf(expected, "%" PRIu64 "M %" PRIu64 "D %" PRIu64 "M", from - 1, to - from + 1,
	        FEW - to);
	check_map(&w, expected);
}

/* Between the look at its size and the reading: the pages are not there, which is SIGBUS. */
static void a_file_that_is_cut_while_it_is_read_is_a_gap(void **state)
{
	(void)state;
	struct block block;
	uint64_t from, to;
	char path[512];
	make_cold(FEW);
	ids_of(2, &from, &to);
	segment_path(&w, 2, path);
	is_held_up = 1;
	want(from);
	WAIT_FOR(atomic32_load_acquire(&verifying) == 1);
	assert_int_equal(truncate(path, 0), 0);
	atomic32_store_release(&is_held_up, 0);
	assert_int_equal(wait_for(from, &block), BLOCK_GAP);
	assert_true(block.first == from && block.last == to && block.loss == LOSS_DAMAGED);
}

/* One that is warm: whoever looks at it takes zeros for what they are. */
static void a_file_that_is_cut_when_it_is_warm_becomes_a_gap(void **state)
{
	(void)state;
	struct block block;
	uint64_t from, to;
	char path[512];
	make_cold(FEW);
	ids_of(2, &from, &to);
	segment_path(&w, 2, path);
	assert_int_equal(wait_for(from, &block), BLOCK_HERE);
	assert_int_equal(truncate(path, 0), 0);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, from, to, &block), BLOCK_HERE);
	(void)*(volatile char *)block_frame(&block, 0);
	assert_true(block_is_damaged(&block));
	assert_int_equal(log_block(w.log, from, to, &block), BLOCK_GAP);
	epoch_leave(&w.me);
	assert_true(block.first == from && block.last == to);
	/* It is unmapped too. */
	WAIT_FOR(count_mapped() == 0);
}

static void who_met_efault_says_so_and_all_know(void **state)
{
	(void)state;
	struct block block;
	uint64_t from, to;
	make_cold(FEW);
	ids_of(2, &from, &to);
	assert_int_equal(wait_for(from + 5, &block), BLOCK_HERE);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, from + 5, to, &block), BLOCK_HERE);
	log_damage(w.log, &block);
	assert_int_equal(log_block(w.log, from + 5, to - 5, &block), BLOCK_GAP);
	assert_true(block.first == from + 5 && block.last == to - 5);
	assert_int_equal(log_block_back(w.log, to - 5, &block), BLOCK_GAP);
	assert_true(block.first == from && block.last == to - 5);
	epoch_leave(&w.me);
	WAIT_FOR(count_mapped() == 0);
}

static void want_of_memory_is_no_damage(void **state)
{
	(void)state;
	struct block block;
	make_cold(FEW);
	refusals = 3;
	assert_int_equal(wait_for(1, &block), BLOCK_HERE);
	assert_int_equal(refusals, 0);
	check_map(&w, "3000M");
}

static void no_more_are_mapped_than_may_be(void **state)
{
	(void)state;
	struct block block;
	w.options.mapped_max = 4;
	make_cold(MANY);
	for (uint64_t id = 1; wait_for(id, &block) == BLOCK_HERE && id < MANY - 400;
	     id = block.first + block.count) {
		assert_true(count_mapped() <= 4);
		assert_true(is_right(&block, 0) || verdict_of(id, &block) == BLOCK_COLD);
	}
	assert_true(maps > 20);
	WAIT_FOR(atomic32_load_acquire(&unmaps) >= maps - 4);
}

static void what_is_used_stays(void **state)
{
	(void)state;
	struct block block;
	uint64_t from, to;
	w.options.mapped_max = 4;
	make_cold(MANY);
	for (uint64_t number = 2; number < 30; number++) {
		ids_of(number, &from, &to);
		assert_int_equal(wait_for(from, &block), BLOCK_HERE);
		/* The first is looked at each time: it has been mapped once. */
		assert_int_equal(wait_for(1, &block), BLOCK_HERE);
		assert_int_equal(maps, number);
	}
}

static void what_this_run_has_written_is_let_go_too(void **state)
{
	(void)state;
	w.options.mapped_max = 4;
	open_log(&w);
	append_many(&w, MANY);
	size_t segments = count_segments(&w);
	assert_true(segments > 30);
	WAIT_FOR(count_mapped() == 4);
	check_map(&w, "40000M");
	append_many(&w, 1000);
	check_map(&w, "41000M");
}

/* A reader's section is open while others make it be unmapped: it sees what it saw. */
static void a_mapping_outlives_whoever_looks_at_it(void **state)
{
	(void)state;
	struct block mine, block;
	uint64_t from, to;
	w.options.mapped_max = 1;
	make_cold(MANY);
	static _Alignas(CACHE_LINE) struct epoch_thread reader;
	memset(&reader, 0, sizeof reader);
	epoch_register(log_epoch(w.log), &reader);
	assert_int_equal(wait_for(1, &block), BLOCK_HERE);
	epoch_enter(&reader);
	assert_int_equal(log_block(w.log, 1, 100, &mine), BLOCK_HERE);
	for (uint64_t number = 2; number < 8; number++) {
		ids_of(number, &from, &to);
		assert_int_equal(wait_for(from, &block), BLOCK_HERE);
	}
	assert_int_equal(verdict_of(1, &block), BLOCK_COLD);
	assert_int_equal(unmaps, 0);
	for (uint32_t i = 0; i < mine.count; i++)
		assert_true(is_right(&mine, i));
	epoch_leave(&reader);
	WAIT_FOR(atomic32_load_acquire(&unmaps) >= 6);
}

static void retention_may_take_what_is_being_warmed(void **state)
{
	(void)state;
	struct log_options options;
	struct block block;
	char path[512];
	make_cold(FEW);
	segment_path(&w, 1, path);
	is_held_up = 1;
	want(1);
	WAIT_FOR(atomic32_load_acquire(&verifying) == 1);
	options = w.options;
	options.retain_messages = 100;
	log_set_retention(w.log, &options);
	WAIT_FOR(verdict_of(1, &block) == BLOCK_DROPPED);
	WAIT_FOR(access(path, F_OK) != 0);
	uint64_t warmed = log_warmed(w.log);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(log_warmed(w.log) != warmed); /* whoever waits looks again */
	assert_int_equal(verdict_of(1, &block), BLOCK_DROPPED);
}

static void what_retention_has_taken_is_not_damaged(void **state)
{
	(void)state;
	struct log_options options;
	struct block block;
	make_cold(FEW);
	is_held_up = 1;
	want(2000); /* keeps the warmer busy */
	WAIT_FOR(atomic32_load_acquire(&verifying) == 1);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, 1, FEW, &block), BLOCK_COLD);
	log_want(w.log, &block);
	epoch_leave(&w.me);
	options = w.options;
	options.retain_messages = 100;
	log_set_retention(w.log, &options);
	WAIT_FOR(verdict_of(1, &block) == BLOCK_DROPPED);
	uint64_t warmed = log_warmed(w.log);
	atomic32_store_release(&is_held_up, 0);
	WAIT_FOR(log_warmed(w.log) == warmed + 2);
	assert_int_equal(maps, 1);
}

/* Else a long queue would hold up those who publish, where the log is at its bound. */
static void what_retention_has_taken_does_not_wait_in_the_queue(void **state)
{
	(void)state;
	struct log_options options;
	struct block block;
	uint64_t to;
	unsigned wanted = 0;
	make_cold(FEW);
	refusals = UINT32_MAX / 2; /* nothing gets off the queue by being warmed */
	for (uint64_t id = 1; id < 2000; id = to + 1, wanted++) {
		ids_of(wanted + 1, &id, &to);
		want(id);
	}
	uint64_t warmed = log_warmed(w.log);
	options = w.options;
	options.retain_messages = 100;
	log_set_retention(w.log, &options);
	WAIT_FOR(verdict_of(2000, &block) == BLOCK_DROPPED);
	WAIT_FOR(log_warmed(w.log) == warmed + wanted);
}

static void a_log_can_be_closed_while_it_is_warmed(void **state)
{
	(void)state;
	struct block block;
	make_cold(MANY);
	for (int i = 0; i < 20; i++) {
		for (uint64_t id = 1; id < MANY; id += 300)
			want(id);
		if (i % 2 == 0)
			(void)wait_for(1 + (uint64_t)i * 500, &block);
		close_log(&w);
		open_log(&w);
	}
	check_map(&w, "40000M");
}

static void a_search_by_time_waits_for_what_is_cold(void **state)
{
	(void)state;
	struct block cold, block;
	make_cold(FEW);
	assert_int_equal(wait_for(1000, &block), BLOCK_HERE);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, 1000, 1000, &block), BLOCK_HERE);
	uint64_t time_us = entry_time_us(block_entry(&block, 0));
	epoch_leave(&w.me);
	close_log(&w);
	open_log(&w);
	epoch_enter(&w.me);
	uint64_t found = log_find_time(w.log, time_us, &cold);
	if (cold.segment != NULL)
		assert_true(found == block_segment_first(&cold) && found <= 1000);
	assert_true(cold.segment != NULL || found <= 1000);
	epoch_leave(&w.me);
	found = find_time(&w, time_us);
	assert_int_equal(wait_for(found, &block), BLOCK_HERE);
	epoch_enter(&w.me);
	assert_int_equal(log_block(w.log, found, found, &block), BLOCK_HERE);
	assert_true(entry_time_us(block_entry(&block, 0)) == time_us);
	epoch_leave(&w.me);
}

/* Nobody knows which of its messages were newer: all of them are what can't be had. */
static void a_search_by_time_in_what_is_damaged_finds_its_beginning(void **state)
{
	(void)state;
	struct block cold;
	char path[512];
	uint64_t from, to, time_us = 0;
	make_cold(FEW);
	ids_of(2, &from, &to);
	segment_path(&w, 2, path);
	assert_int_equal(truncate(path, SMALL / 2), 0);
	epoch_enter(&w.me);
	const struct segment *segment = directory_now()->segments[1];
	time_us = segment->last_time_us;
	bool is_within = segment->first_time_us < time_us;
	epoch_leave(&w.me);
	uint64_t found = find_time(&w, time_us);
	if (is_within)
		assert_true(found == from);
	epoch_enter(&w.me);
	assert_true(log_find_time(w.log, time_us, &cold) == found);
	assert_null(cold.segment);
	epoch_leave(&w.me);
}

/* Messages that may have had any topic are passed by by nobody. */
static void what_is_lost_may_have_matched_anything(void **state)
{
	(void)state;
	struct segment *segment = segment_new(SMALL);
	uint32_t hash = 12345;
	segment_reset(segment, 100);
	segment->is_durable = true;
	atomic64_store_release(&segment->base, 1);
	for (enum loss loss = LOSS_VOID; loss <= LOSS_DAMAGED; loss++) {
		entry_mark(segment_entry(segment, 0), 1, 1, loss, segment);
		segment_sum_up(segment, 1);
		assert_int_equal(segment_may_hold(segment, hash), loss != LOSS_VOID);
		free((void *)(uintptr_t)segment->filter);
		segment->filter = NULL;
	}
	segment_free(segment);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_former_run_is_cold_and_all_of_it_can_be_read),
		TEST(in_every_way_to_sync),
		TEST(whoever_asks_twice_is_served_once),
		TEST(the_ring_comes_when_it_can_be_read),
		TEST(a_damaged_byte_is_an_exact_gap),
		TEST(gaps_are_the_same_each_time),
		TEST(another_file_under_the_name_is_a_gap_of_all_its_ids),
		TEST(damage_in_many_places_is_an_exact_gap_in_each),
		TEST(gaps_are_what_was_found_the_last_time),
		TEST(a_file_that_is_gone_is_a_gap_of_all_its_ids),
		TEST(a_file_that_was_cut_is_a_gap_of_all_its_ids),
		TEST(a_file_that_is_cut_while_it_is_read_is_a_gap),
		TEST(a_file_that_is_cut_when_it_is_warm_becomes_a_gap),
		TEST(who_met_efault_says_so_and_all_know),
		TEST(want_of_memory_is_no_damage),
		TEST(no_more_are_mapped_than_may_be),
		TEST(what_is_used_stays),
		TEST(what_this_run_has_written_is_let_go_too),
		TEST(a_mapping_outlives_whoever_looks_at_it),
		TEST(retention_may_take_what_is_being_warmed),
		TEST(what_retention_has_taken_is_not_damaged),
		TEST(what_retention_has_taken_does_not_wait_in_the_queue),
		TEST(a_log_can_be_closed_while_it_is_warmed),
		TEST(a_search_by_time_waits_for_what_is_cold),
		TEST(a_search_by_time_in_what_is_damaged_finds_its_beginning),
		TEST(what_is_lost_may_have_matched_anything),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
