/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=store_sync_segment,--wrap=store_unlink */
/*
 * What the maintenance thread does with files when the system refuses. Its calls of the store are
 * watched, and made to fail, through link-time wrapping.
 */
#include "durable.h"

int __real_store_sync_segment(struct store *store, uint64_t number);
int __wrap_store_sync_segment(struct store *store, uint64_t number);
int __real_store_unlink(struct store *store, uint64_t number);
int __wrap_store_unlink(struct store *store, uint64_t number);

enum { REFUSALS = 2 };
static uint32_t refusals, most_refusals, synced, unlinked_unsynced, unlinked;

int __wrap_store_sync_segment(struct store *store, uint64_t number)
{
	if (atomic32_load_acquire(&refusals) < most_refusals) {
		atomic32_add(&refusals, 1);
		return -EMFILE;
	}
	atomic32_add(&synced, 1);
	return __real_store_sync_segment(store, number);
}

int __wrap_store_unlink(struct store *store, uint64_t number)
{
	atomic32_add(&unlinked, 1);
	if (atomic32_load_acquire(&synced) == 0)
		atomic32_add(&unlinked_unsynced, 1);
	return __real_store_unlink(store, number);
}

static struct world w;

static int begin(void **state)
{
	(void)state;
	world_begin(&w, "/tmp");
	w.options.retain_age_us = 50000;
	refusals = synced = unlinked_unsynced = unlinked = 0;
	most_refusals = REFUSALS;
	return 0;
}

static int end(void **state)
{
	(void)state;
	if (w.log != NULL)
		close_log(&w);
	world_end(&w);
	return 0;
}

static void a_file_stays_until_the_next_one_has_its_base_on_the_disk(void **state)
{
	(void)state;
	open_log(&w);
	append_many(&w, 3);
	WAIT_FOR(atomic32_load_acquire(&unlinked) > 0);
	assert_int_equal(atomic32_load_acquire(&refusals), REFUSALS);
	assert_int_equal(atomic32_load_acquire(&unlinked_unsynced), 0);
}

static void write_a_base_in_vain(struct world *child)
{
	most_refusals = UINT32_MAX;
	append_many(child, 3);
	WAIT_FOR(atomic32_load_acquire(&refusals) > 0);
}

static void a_base_that_a_former_run_wrote_and_could_not_sync_is_synced(void **state)
{
	(void)state;
	crash(&w, write_a_base_in_vain);
	most_refusals = 0;
	open_log(&w);
	WAIT_FOR(atomic32_load_acquire(&unlinked) > 0);
	assert_int_equal(atomic32_load_acquire(&unlinked_unsynced), 0);
}

static void fill_many_files(struct world *child)
{
	append_many(child, 5000);
}

/* All of a former run's files but the last go at once, and publishers wait for no sync of each. */
static void many_files_that_go_together_are_one_sync(void **state)
{
	(void)state;
	most_refusals = 0;
	w.options.retain_age_us = 0;
	crash(&w, fill_many_files);
	const size_t files = count_segments(&w);
	assert_true(files > 10);
	w.options.retain_age_us = 1000;
	open_log(&w);
	WAIT_FOR(atomic32_load_acquire(&unlinked) >= files - 5);
	assert_in_range(atomic32_load_acquire(&synced), 1, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_file_stays_until_the_next_one_has_its_base_on_the_disk, begin, end),
		cmocka_unit_test_setup_teardown(
			a_base_that_a_former_run_wrote_and_could_not_sync_is_synced, begin, end),
		cmocka_unit_test_setup_teardown(many_files_that_go_together_are_one_sync, begin,
	                                        end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
