/* SPDX-License-Identifier: MIT */
/*
 * What is judged of single slots and files: what a slot is by its bytes, what becomes of one that
 * is not good, and what the file `log` says. By themselves, without a directory.
 */
#include "durable.h"

#include "log/charter.h"
#include "log/verdict.h"
#include "log/verify.h"

enum { KEY = 4711, ID = 10, AT = SEGMENT_HEADER_SIZE };

/* ---- a slot's bytes ---- */

static struct segment segment = {.size = SMALL, .key = KEY};
static _Alignas(4096) char map[SMALL];

/* Slot 0 holds message 10, "news hello", good in all. */
static struct entry *make_slot(void)
{
	struct entry *entry = map_entry(map, SMALL, 0);

	memset(map, 0, sizeof map);
	entry->offset = AT;
	entry->size = frame_size(ID, 4, 5);
	entry->stamp = 1000 << 8 | 4;
	frame_write(map + AT, ID, "news", 4, "hello", 5);
	entry->checksum = entry_checksum(entry, ID, map + AT, KEY);
	return entry;
}

/* As one who knows the key could write it. */
static void check_slot(enum slot expected)
{
	struct entry *entry = map_entry(map, SMALL, 0);
	entry->checksum = entry_checksum(entry, ID, entry->size == 0 ? NULL : map + AT, KEY);
	assert_int_equal(verify_slot_as(&segment, map, 0, ID), expected);
}

static void a_checksum_alone_makes_no_message_of_other_bytes(void **state)
{
	(void)state;
	(void)make_slot();
	check_slot(SLOT_GOOD);
	/* MSG 10 news 5\nhello\n: the word, the id, the size, both line ends. */
	static const unsigned wrong[] = {0, 4, 5, 6, 12, 13, 19};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		(void)make_slot();
		check_slot(SLOT_GOOD);
		map[AT + wrong[i]] ^= 1;
		check_slot(SLOT_BAD);
	}
}

static void sizes_that_do_not_agree_are_no_message(void **state)
{
	(void)state;
	struct entry *entry = make_slot();
	/* One byte more than 99 need: a size that no payload gives. */
	for (uint32_t size = entry->size; size < 2000; size++) {
		entry->size = size;
		check_slot(size == frame_size(ID, 4, 5) ? SLOT_GOOD : SLOT_BAD);
	}
	entry = make_slot();
	entry->stamp &= ~(uint64_t)0xff;
	check_slot(SLOT_BAD);
	entry = make_slot();
	entry->size = frame_size(ID, 4, 0) - 1;
	check_slot(SLOT_BAD);
	entry = make_slot();
	entry->offset = AT - 1;
	assert_int_equal(verify_slot_as(&segment, map, 0, ID), SLOT_BAD);
	entry->offset = SMALL - 40;
	assert_int_equal(verify_slot_as(&segment, map, 0, ID), SLOT_BAD);
}

static void a_marker_has_one_of_three_reasons(void **state)
{
	(void)state;
	struct entry *entry = make_slot();
	for (uint32_t loss = 0; loss < 6; loss++) {
		entry->size = 0;
		entry->offset = loss;
		check_slot(loss >= LOSS_VOID && loss <= LOSS_DAMAGED ? SLOT_MARKER : SLOT_BAD);
	}
	entry->offset = LOSS_VOID;
	check_slot(SLOT_MARKER);
	entry->checksum ^= 1;
	assert_int_equal(verify_slot_as(&segment, map, 0, ID), SLOT_BAD);
}

static void neighbours_that_are_missing_for_one_reason_are_one_gap(void **state)
{
	(void)state;
	struct gap_list list = {.gaps = NULL};
	assert_int_equal(gap_list_add(&list, 1, 3, LOSS_LOST), 0);
	assert_int_equal(gap_list_add(&list, 4, 4, LOSS_LOST), 0);
	assert_int_equal(gap_list_add(&list, 5, 5, LOSS_VOID), 0);
	assert_int_equal(gap_list_add(&list, 7, 7, LOSS_VOID), 0);
	assert_int_equal(list.gaps->count, 3);
	assert_true(list.gaps->at[0].from == 1 && list.gaps->at[0].to == 4);
	for (uint64_t id = 10; id < 100; id += 2)
		assert_int_equal(gap_list_add(&list, id, id, LOSS_VOID), 0);
	assert_int_equal(list.gaps->count, 48);
	free(list.gaps);
}

/* ---- what becomes of a slot ---- */

static void what_must_be_there_is_marked_or_mended_and_the_rest_is_recoverys(void **state)
{
	(void)state;
	static const enum mode modes[] = {MODE_CLEAN, MODE_PROCESS, MODE_MACHINE, MODE_RENEWED,
	                                  MODE_LIVE};
	static struct piece piece = {.synced = 5};

	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
		bool is_machine = modes[i] == MODE_MACHINE;
		for (unsigned marks = 0; marks < 2; marks++) {
			piece.verdict.marks_all = marks == 1;
			for (uint64_t id = 4; id < 7; id++) {
				bool must = marks == 1 || id <= 5;
				bool is_torn = is_machine && !must;
				assert_int_equal(slot_fate(modes[i], &piece, RUN_EMPTY, id),
				                 must ? FATE_MARK : FATE_LEAVE);
				assert_int_equal(slot_fate(modes[i], &piece, RUN_UNCOMMITTED, id),
				                 must ? FATE_MEND : FATE_LEAVE);
				assert_int_equal(slot_fate(modes[i], &piece, RUN_BAD, id),
				                 is_torn ? FATE_LEAVE : FATE_MARK);
				assert_int_equal(slot_fate(modes[i], &piece, RUN_MENDABLE, id),
				                 is_torn ? FATE_LEAVE : FATE_MEND);
			}
		}
		assert_int_equal(mode_loss(modes[i]), is_machine ? LOSS_LOST : LOSS_VOID);
	}
}

static void garbage_behind_the_end_is_wiped_where_it_could_be_taken_for_messages(void **state)
{
	(void)state;
	static const enum run_kind kinds[] = {RUN_EMPTY, RUN_UNCOMMITTED, RUN_BAD, RUN_MENDABLE};
	static const enum mode modes[] = {MODE_CLEAN, MODE_PROCESS, MODE_MACHINE, MODE_LIVE};

	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < 4; k++)
			for (unsigned seal = 0; seal < 3; seal++) {
				struct run runs[2] = {{.from = 1, .to = 1, .kind = RUN_MENDABLE},
				                      {.from = 3, .to = 4, .kind = kinds[k]}};
				struct piece piece = {
					.runs = runs, .run_count = 2, .is_sealed = seal == 1};
				piece.verdict.base = 100;
				piece.verdict.end = 103;
				piece.verdict.marks_all = true;
				piece.verdict.writes_seal = seal == 2;
				assert_int_equal(verdict_judge_slots(&piece, modes[i]), 0);
				assert_int_equal(piece.verdict.mended, 1);
				assert_int_equal(piece.verdict.wipes,
				                 seal == 0 && k >= 2 && modes[i] != MODE_MACHINE &&
				                         modes[i] != MODE_LIVE);
				assert_true(verdict_marked(&piece.verdict) == 0);
			}
}

static void each_difference_is_a_change_of_the_file(void **state)
{
	(void)state;
	static const unsigned faults[] = {FAULT_CONSTANT, FAULT_SIZE, FAULT_UNREAD};
	struct piece piece = {.faults = 0};

	assert_false(verdict_is_change(&piece));
	for (size_t i = 0; i < 3; i++) {
		piece = (struct piece){.faults = faults[i]};
		assert_true(verdict_is_change(&piece));
	}
	piece = (struct piece){.verdict = {.id_bound = 1}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.mended = 1}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.writes_gap = true}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.writes_seal = true}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.clears_seal = true}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.writes_synced = true}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.verdict = {.wipes = true}};
	assert_true(verdict_is_change(&piece));
	piece = (struct piece){.faults = 0};
	assert_int_equal(gap_list_add(&piece.verdict.marked, 5, 9, LOSS_DAMAGED), 0);
	assert_true(verdict_marked(&piece.verdict) == 5);
	assert_true(verdict_is_change(&piece));
	/* Judged again, nothing is left of what was marked before. */
	assert_int_equal(verdict_judge_slots(&piece, MODE_CLEAN), 0);
	assert_true(verdict_marked(&piece.verdict) == 0);
	free(piece.verdict.marked.gaps);
}

/* ---- the file `log` ---- */

static void a_file_of_another_psad_is_told_from_a_damaged_one(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool is_foreign;
		const char *fault;
	} cases[] = {
		{"", false, "is not what psad writes there"},
		{"psad log", false, "is not what psad writes there"},
		{"psad log x\norder 0102030405060708\n", false, "is not what psad writes there"},
		{"psad log 9999\norder 0102030405060708\n", true, "other byte order"},
		{"psad log 9999\norder 0807060504030201\n", true, "has format 9999"},
		{"psad log 1 \norder 0102030405060708\n", false, "other byte order"},
		{"psad log 1\norder 0102030405060708\n", true, "other byte order"},
		{"psad log 1\norder 0807060504030201\n", false, "is damaged"},
		{"psad log 1\norder 0102030405060709\n", false, "is damaged"},
		{"psad log 1\nordre 0102030405060708\n", false, "is damaged"},
		{"psad log 1", false, "is damaged"},
		{"psad log 99999999999999999999\n", false, "has format 999999999"},
	};
	char fault[CHARTER_FAULT_MAX];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct store_log log;
		const char *said = charter_fault(cases[i].text, fault);
		if (strstr(said, cases[i].fault) == NULL)
			fail_msg("%s: %s", cases[i].text, said);
		if (charter_is_foreign(cases[i].text) != cases[i].is_foreign)
			fail_msg("%s: %d", cases[i].text, !cases[i].is_foreign);
		assert_int_equal(charter_parse(cases[i].text, &log), -1);
	}
}

static void a_file_is_taken_only_as_it_was_written(void **state)
{
	(void)state;
	const struct store_log log = {
		.identity = 0xabcd, .key = KEY, .boot = "1-2", .end = STORE_CLEAN, .head = 77};
	struct store_log read;
	char text[CHARTER_MAX + 2] = "", *end;

	text[charter_print(&log, text)] = '\0';
	assert_int_equal(charter_parse(text, &read), 0);
	assert_true(read.identity == log.identity && read.key == KEY && read.head == 77);
	assert_int_equal(read.end, STORE_CLEAN);
	assert_string_equal(read.boot, "1-2");
	end = text + strlen(text);
	strcpy(end, "\n");
	assert_int_equal(charter_parse(text, &read), -1);
	*end = '\0';
	char *word = strstr(text, "end clean");
	assert_non_null(word);
	memcpy(word, "end clear", 9);
	assert_int_equal(charter_parse(text, &read), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_checksum_alone_makes_no_message_of_other_bytes),
		cmocka_unit_test(sizes_that_do_not_agree_are_no_message),
		cmocka_unit_test(a_marker_has_one_of_three_reasons),
		cmocka_unit_test(neighbours_that_are_missing_for_one_reason_are_one_gap),
		cmocka_unit_test(what_must_be_there_is_marked_or_mended_and_the_rest_is_recoverys),
		cmocka_unit_test(
			garbage_behind_the_end_is_wiped_where_it_could_be_taken_for_messages),
		cmocka_unit_test(each_difference_is_a_change_of_the_file),
		cmocka_unit_test(a_file_of_another_psad_is_told_from_a_damaged_one),
		cmocka_unit_test(a_file_is_taken_only_as_it_was_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
