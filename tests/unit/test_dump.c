/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=clock_wall_us */
/*
 * Dumps: every line of directories that are known to the byte, of damaged ones, and of one that is
 * being written to meanwhile.
 */
#include "durable.h"

#include <signal.h>

#include "log/dump.h"

enum { TEXT_MAX = 1 << 22 };

static struct world w;
static char text[TEXT_MAX];
static uint64_t now_us; /* 0: as it is */

uint64_t __real_clock_wall_us(void);
uint64_t __wrap_clock_wall_us(void);
uint64_t __wrap_clock_wall_us(void)
{
	return now_us != 0 ? now_us : __real_clock_wall_us();
}

static int begin(void **state)
{
	(void)state;
	now_us = 0;
	world_begin(&w, "/dev/shm");
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end(&w);
	return 0;
}

/* ---- dumping ---- */

static enum dump_verdict dump_some(bool (*selects)(const char *, size_t, void *), void *context)
{
	const struct dump_filter filter = {.selects = selects, .context = context};
	FILE *out = fmemopen(text, sizeof text, "w");
	memset(text, 0, sizeof text);
	w.error[0] = '\0';
	enum dump_verdict verdict = log_dump(w.dir, &filter, out, w.error, sizeof w.error);
	fclose(out);
	return verdict;
}

static void check_dump(enum dump_verdict expected, const char *lines)
{
	enum dump_verdict verdict = dump_some(NULL, NULL);
	if (verdict == DUMP_FAILED)
		fail_msg("%s", w.error);
	assert_string_equal(text, lines);
	assert_int_equal(verdict, expected);
}

static void check_line(const char *line)
{
	if (strstr(text, line) == NULL)
		fail_msg("\"%s\" is not in: %.2000s", line, text);
}

/* The identity is then 0000abcd. */
static void name_log(void)
{
	struct store_log log;
	struct store *store = store_open(w.dir, w.error, sizeof w.error);
	assert_int_equal(store_read_log(store, &log, w.error, sizeof w.error), 0);
	log.identity = 0xabcd;
	assert_int_equal(store_write_log(store, &log), 0);
	store_close(store);
}

static void append_topic(const char *topic, const char *payload, uint64_t time_us)
{
	struct message message = {.topic = topic,
	                          .topic_size = (uint32_t)strlen(topic),
	                          .payload = payload,
	                          .payload_size = (uint32_t)strlen(payload)};
	size_t appended = 0;
	now_us = time_us;
	epoch_enter(&w.me);
	assert_int_equal(log_append(w.log, &message, 1, &appended), LOG_APPENDED);
	epoch_leave(&w.me);
}

/* Three messages, one file of theirs and two ahead of need. */
static void make_known_log(void)
{
	open_log(&w);
	append_topic("news", "hello", 1700000000000001);
	append_topic("a.b\\c.\xc3\xa9.\xff\xc2\x9b", "", 1700000000000001);
	append_topic("x", "0123456789", 1709210096789012);
	WAIT_FOR(count_segments(&w) == 3);
	close_log(&w);
	name_log();
}

#define KNOWN_1 "1@0000abcd 2023-11-14T22:13:20.000001Z news 5\n"
#define KNOWN_2 "2@0000abcd 2023-11-14T22:13:20.000001Z a.b\\\\c.\xc3\xa9.\\xff\\xc2\\x9b 0\n"
#define KNOWN_3 "3@0000abcd 2024-02-29T12:34:56.789012Z x 10\n"
#define KNOWN_END(damaged) " bytes=196608 first=1 head=3 ended=clean damaged=" damaged "\n"

static void a_message_is_a_line(void **state)
{
	(void)state;
	make_known_log();
	check_dump(DUMP_WHOLE,
	           KNOWN_1 KNOWN_2 KNOWN_3 "LOG 0000abcd segments=3 messages=3" KNOWN_END("0"));
}

static void an_empty_log_is_its_summary(void **state)
{
	(void)state;
	open_log(&w);
	WAIT_FOR(count_segments(&w) == 3);
	close_log(&w);
	name_log();
	check_dump(DUMP_WHOLE, "LOG 0000abcd segments=3 messages=0 bytes=196608 first=1 head=0 "
	                       "ended=clean damaged=0\n");
}

static bool has_this_topic(const char *topic, size_t size, void *context)
{
	return size == strlen(context) && memcmp(topic, context, size) == 0;
}

/* Which no client can publish, but a line has to remain one. */
static void a_topic_with_a_blank_is_one_word(void **state)
{
	(void)state;
	open_log(&w);
	append_topic("a b", "1", 1700000000000001);
	WAIT_FOR(count_segments(&w) == 3);
	close_log(&w);
	name_log();
	check_dump(DUMP_WHOLE, "1@0000abcd 2023-11-14T22:13:20.000001Z a\\x20b 1\n"
	                       "LOG 0000abcd segments=3 messages=1 bytes=196608 first=1 head=1 "
	                       "ended=clean damaged=0\n");
}

static void a_selection_shows_its_messages_and_all_damage(void **state)
{
	(void)state;
	make_known_log();
	char topic[] = "x";
	assert_int_equal(dump_some(has_this_topic, topic), DUMP_WHOLE);
	assert_string_equal(text, KNOWN_3 "LOG 0000abcd segments=3 messages=3" KNOWN_END("0"));
	flip(&w, 1, SEGMENT_HEADER_SIZE + 14, 3);
	assert_int_equal(dump_some(has_this_topic, topic), DUMP_DAMAGED);
	assert_string_equal(text,
	                    "DAMAGED 00000000000000000001.seg 65504 1 1 the checksum is "
	                    "wrong\n" KNOWN_3 "LOG 0000abcd segments=3 messages=2" KNOWN_END("1"));
}

static void damage_is_told_by_file_byte_and_ids(void **state)
{
	(void)state;
	make_known_log();
	flip(&w, 1, offsetof(struct segment_header, gap) + 1, 3);
	flip(&w, 1, slot_at(1), 3); /* a commit word */
	wipe(&w, 1, slot_at(2), sizeof(struct entry));
	check_dump(
		DUMP_DAMAGED,
		"DAMAGED 00000000000000000001.seg 512 - - the header's gap part is damaged\n" KNOWN_1
		"DAMAGED 00000000000000000001.seg 65472 2 2 only the commit word is wrong: a "
		"repair mends it\n"
		"DAMAGED 00000000000000000001.seg 65440 3 3 nothing stands there, though it must\n"
		"LOG 0000abcd segments=3 messages=1" KNOWN_END("1"));
}

/* ---- gaps ---- */

static void leave_holes(struct world *world)
{
	char topic[32], message_text[1024];
	size_t appended;

	append_many(world, 2);
	claim_in_vain(world, 2);
	for (uint64_t id = 5; id <= 6; id++) {
		struct message message = message_of(id, topic, message_text);
		epoch_enter(&world->me);
		MUST(log_append(world->log, &message, 1, &appended) == LOG_APPENDED);
		epoch_leave(&world->me);
	}
}

static void check_holes(void)
{
	assert_int_equal(dump_some(NULL, NULL), DUMP_WHOLE);
	check_line("\nGAP 3 4 void\n5@");
	check_line(" messages=4 ");
	check_line(" first=1 head=6 ");
}

static void a_gap_is_told_before_and_after_a_start_has_seen_it(void **state)
{
	(void)state;
	crash(&w, leave_holes);
	check_holes();
	check_line(" ended=killed ");
	open_log(&w);
	close_log(&w);
	check_holes();
	check_line(" ended=clean ");
}

static void append_much(struct world *world)
{
	append_many(world, 1500);
	while (world_synced(world) < 1500)
		(void)poll(NULL, 0, 1);
}

static void what_is_missing_is_told(void **state)
{
	(void)state;
	char path[512];
	open_log(&w);
	append_much(&w);
	close_log(&w);
	segment_path(&w, 2, path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(dump_some(NULL, NULL), DUMP_DAMAGED);
	check_line("DAMAGED 00000000000000000002.seg 0 - - is missing\n"
	           "DAMAGED 00000000000000000003.seg 0 442 879 missing before this file's\n880@");
	check_line(" damaged=438\n");
	path_of(&w, "log", path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(dump_some(NULL, NULL), DUMP_DAMAGED);
	check_line("DAMAGED log 0 - - is missing\n");
	check_line("\n1@unknown ");
	check_line("LOG unknown ");
}

/* ---- directories ---- */

static void nothing_is_changed(void **state)
{
	(void)state;
	char path[512];
	make_known_log();
	path_of(&w, "lock", path);
	assert_int_equal(unlink(path), 0);
	path_of(&w, "00000000000000000009.seg.tmp", path);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	size_t files = count_files(&w, "", false);
	assert_int_equal(dump_some(NULL, NULL), DUMP_WHOLE);
	assert_int_equal(count_files(&w, "", false), files);
}

static void where_no_log_is_it_says_so(void **state)
{
	(void)state;
	const struct dump_filter filter = {.selects = NULL};
	char path[512];
	assert_int_equal(dump_some(NULL, NULL), DUMP_FAILED);
	assert_non_null(strstr(w.error, "holds no segments of a log"));
	path_of(&w, "nothing", path);
	assert_int_equal(log_dump(path, &filter, stdout, w.error, sizeof w.error), DUMP_FAILED);
	assert_non_null(strstr(w.error, path));
	assert_int_equal(count_files(&w, "", false), 0);
}

static void a_reader_that_goes_away_is_no_error(void **state)
{
	(void)state;
	const struct dump_filter filter = {.selects = NULL};
	int ends[2];
	open_log(&w);
	append_much(&w);
	close_log(&w);
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	FILE *out = fdopen(ends[1], "w");
	void (*before)(int) = signal(SIGPIPE, SIG_IGN);
	assert_int_equal(log_dump(w.dir, &filter, out, w.error, sizeof w.error), DUMP_CUT);
	fclose(out);
	(void)signal(SIGPIPE, before);
	out = fopen("/dev/full", "we");
	assert_int_equal(log_dump(w.dir, &filter, out, w.error, sizeof w.error), DUMP_FAILED);
	assert_non_null(strstr(w.error, "can't be written out"));
	fclose(out);
	/* Each line by itself: at the end nothing is left that could fail once more. */
	out = fopen("/dev/full", "we");
	setvbuf(out, NULL, _IONBF, 0);
	assert_int_equal(log_dump(w.dir, &filter, out, w.error, sizeof w.error), DUMP_CUT);
	fclose(out);
}

/* ---- beside a writer ---- */

static int stop[2];

static void append_for_ever(struct world *world)
{
	struct pollfd told = {.fd = stop[0], .events = POLLIN | POLLHUP};
	while (poll(&told, 1, 0) == 0)
		append_many(world, 50);
}

/* The messages are without a break, up to the head that is said. */
static uint64_t check_live(uint64_t *first)
{
	uint64_t next = 0, head = 0;

	enum dump_verdict verdict = dump_some(NULL, NULL);
	if (verdict != DUMP_WHOLE)
		fail_msg("%d %s %.500s", (int)verdict, w.error, text);
	check_line(" ended=running ");
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		uint64_t id = 0, to = 0;
		if (sscanf(line,
		           "LOG %*s segments=%*u messages=%*u bytes=%*u first=%" SCNu64
		           " head=%" SCNu64,
		           &id, &head) == 2) {
			*first = id;
			continue;
		}
		/* Retention was faster than we were. */
		if (sscanf(line, "GAP %" SCNu64 " %" SCNu64 " retention", &id, &to) == 2) {
			assert_true(next == 0 || id == next);
			next = to + 1;
			continue;
		}
		assert_int_equal(sscanf(line, "%" SCNu64 "@%*s", &id), 1);
		assert_true(next == 0 || id == next);
		next = id + 1;
	}
	assert_true(next == 0 || next == head + 1);
	return head;
}

static void a_log_can_be_dumped_while_it_grows(void **state)
{
	(void)state;
	uint64_t head = 0, first = 0, before;
	int status;

	w.options.retain_bytes = 4 * SMALL;
	assert_int_equal(pipe(stop), 0);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		close(stop[1]);
		MUST(try_open(&w));
		append_for_ever(&w);
		_exit(0);
	}
	close(stop[0]);
	WAIT_FOR(count_segments(&w) > 2);
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	for (int n = 0; n < 50 || first < 2000; n++) {
		before = head;
		head = check_live(&first);
		assert_true(head >= before);
		assert_true(clock_mono_ms() < deadline_ms);
	}
	close(stop[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(dump_some(NULL, NULL), DUMP_WHOLE);
	check_line(" ended=killed ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_is_a_line),
		TEST(an_empty_log_is_its_summary),
		TEST(a_topic_with_a_blank_is_one_word),
		TEST(a_selection_shows_its_messages_and_all_damage),
		TEST(damage_is_told_by_file_byte_and_ids),
		TEST(a_gap_is_told_before_and_after_a_start_has_seen_it),
		TEST(what_is_missing_is_told),
		TEST(nothing_is_changed),
		TEST(where_no_log_is_it_says_so),
		TEST(a_reader_that_goes_away_is_no_error),
		TEST(a_log_can_be_dumped_while_it_grows),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
