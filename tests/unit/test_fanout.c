/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=clock_mono_us */
/*
 * The fan-out with followers that are made up: each checks every byte that it is offered, every gap
 * and every position against the list of all messages that were ever appended, so that no test has
 * to. The time of this thread stands still but for what a test lets pass, so that a pass is cut
 * into slices where a test wants it. PSAD_TEST_SEED repeats the random test.
 */
#include "net/fanout.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"
#include "deadline.h"
#include "own_time.h"
#include "base/buf.h"
#include "base/clock.h"
#include "log/frame.h"
#include "wire/pattern.h"

enum {
	SMALL = SEGMENT_SIZE_MIN,
	RETAINED = 4, /* segments kept, where retention plays a part */
	MIXED = 40,   /* followers of the random test */
	FRAME_MAX = 12 << 10,
	PAYLOAD_MAX = 8 << 10,
	FOLLOWERS_MAX = 64,
	LONG_US = 1000, /* what a write must take for a pass to be cut after 16 of them */
};

/* ---- the world ---- */

static char error[LOG_ERROR_MAX];
static const char *const topics[] = {"a", "b", "a.b", "a.c", "b.c", "a.b.c", "b.c.a", "x.y.z.w"};
static const char *const patterns[] = {"a", "b",      "a.b",     "a.*",   "b.*",
                                       ">", "a.>",    "*.c",     "*.*",   "b.>",
                                       "*", "no.one", "x.y.z.w", "a.b.c", "b.c"};
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct record {
	uint8_t topic;
	uint16_t size;
};

enum failure { FAIL_NONE, FAIL_WRITE, FAIL_OWE, FAIL_GAP };

struct fake {
	struct follower follower;
	struct fixture *f;
	bool wants[COUNT_OF(patterns)]; /* its patterns */
	bool is_bare;

	size_t accepts;      /* so many bytes more, then its socket is full */
	struct buf pending;  /* what its owner has to send first */
	struct buf got;      /* all that went */
	uint64_t done;       /* newest id that was begun, or given up in a gap */
	uint64_t scanned;    /* no id up to here, behind `done`, matches */
	bool has_got;        /* a message: from then on nothing is dropped in silence */
	uint64_t owe_id;     /* not 0: owe() has to come next, with these */
	unsigned last_begun; /* messages of the last write, and bytes that were taken */
	size_t last_taken;
	uint32_t owe_from, owe_size;
	enum failure failure;
	bool has_failed;

	uint64_t sought, seek_from;
	unsigned writes, gaps, found, arrived, lost, messages;
	uint64_t gap_from, gap_to; /* the last one */
};

struct fixture {
	struct epoch_thread me, worker;
	struct log *log;
	struct wake *wake;
	struct fanout *fanout;
	struct counters counters;
	struct record *records; /* by id */
	uint64_t appended, capacity;
	uint64_t write_us; /* what a write takes */
	uint64_t delivered, delivered_bytes;
	struct fake fakes[FOLLOWERS_MAX];
};

/* What has happened, over all followers. */
static struct {
	unsigned gaps, found, arrived, lost, owed;
} sums;

static char payload[PAYLOAD_MAX + 64];
static char flat[4 << 20]; /* a write, of whatever segment */

static struct slice slice_of(const char *text)
{
	return (struct slice){.at = text, .n = strlen(text)};
}

static uint64_t head(struct fixture *f)
{
	epoch_enter(&f->me);
	uint64_t id = log_head(f->log);
	epoch_leave(&f->me);
	return id;
}

static uint64_t first(struct fixture *f)
{
	epoch_enter(&f->me);
	uint64_t id = log_first(f->log);
	epoch_leave(&f->me);
	return id;
}

static uint32_t write_frame(const struct fixture *f, uint64_t id, char *at)
{
	const struct record *record = &f->records[id];
	const char *topic = topics[record->topic];
	frame_write(at, id, topic, (uint32_t)strlen(topic), payload + id % 64, record->size);
	return frame_size(id, (uint32_t)strlen(topic), record->size);
}

static bool topic_is_wanted(const struct fake *fake, unsigned topic)
{
	static int8_t known[COUNT_OF(patterns)][COUNT_OF(topics)]; /* 1: yes, -1: no */
	for (size_t i = 0; i < COUNT_OF(patterns); i++) {
		if (!fake->wants[i])
			continue;
		if (known[i][topic] == 0)
			known[i][topic] =
				pattern_matches(slice_of(patterns[i]), slice_of(topics[topic]))
					? 1
					: -1;
		if (known[i][topic] > 0)
			return true;
	}
	return false;
}

static bool is_wanted(const struct fake *fake, uint64_t id)
{
	return topic_is_wanted(fake, fake->f->records[id].topic);
}

/* It was taken by retention from who had got nothing yet and asked for what is kept. */
static bool may_be_silent(const struct fake *fake, uint64_t id)
{
	return !fake->has_got && id <= fake->follower.quiet_to && id < first(fake->f);
}

/*
 * What a position promises: of what matches, nothing up to here is still to come, and all that was
 * begun lies before it. Only a follower that has got nothing yet may have missed something, and
 * only what retention has taken.
 */
static void check_position(struct fake *fake)
{
	const struct follower *follower = &fake->follower;
	uint64_t position;

	if (follower->state == FOLLOWER_IDLE || follower->seek > 0)
		return;
	assert_true(fake->owe_id == 0);
	position = fanout_position(fake->f->fanout, follower);
	assert_true(position >= fake->done);
	assert_true(position <= fake->f->appended);
	if (fake->scanned < fake->done)
		fake->scanned = fake->done;
	while (fake->scanned < position) {
		uint64_t id = ++fake->scanned;
		if (!is_wanted(fake, id))
			continue;
		if (!may_be_silent(fake, id))
			fail_msg("position %" PRIu64 " promises %" PRIu64 ", which was not sent",
			         position, id);
		fake->done = id;
	}
}

static void check_all(struct fixture *f)
{
	for (size_t i = 0; i < FOLLOWERS_MAX; i++)
		check_position(&f->fakes[i]);
}

/* ---- what a fake follower's owner does ---- */

static void flush(struct fake *fake)
{
	size_t n = buf_size(&fake->pending);
	if (n > fake->accepts)
		n = fake->accepts;
	if (n == 0)
		return;
	if (fake->accepts != SIZE_MAX)
		fake->accepts -= n;
	assert_int_equal(buf_append(&fake->got, buf_begin(&fake->pending), n), 0);
	buf_consume(&fake->pending, n);
}

/* The offered run is, message for message, what matches behind the position. */
static void check_run(struct fake *fake, size_t size, size_t taken)
{
	static char frame[FRAME_MAX];
	struct fixture *f = fake->f;
	uint64_t id = fanout_position(f->fanout, &fake->follower);
	unsigned count = 0;

	fake->last_begun = 0;
	fake->last_taken = taken;
	for (size_t at = 0; at < size;) {
		do
			id++;
		while (id <= f->appended && !is_wanted(fake, id));
		assert_true(id <= f->appended && id <= fake->follower.end);
		assert_true(++count <= fake->follower.limit);
		uint32_t n = write_frame(f, id, frame), skip = 0;
		if (fake->is_bare)
			skip = n - f->records[id].size - 1;
		n -= skip;
		assert_true(at + n <= size);
		assert_memory_equal(flat + at, frame + skip, n);
		if (at < taken) {
			fake->done = id;
			fake->messages++;
			fake->has_got = true;
			fake->last_begun++;
			if (at + n > taken) {
				fake->owe_id = id;
				fake->owe_size = (uint32_t)(at + n - taken);
				fake->owe_from = skip + n - fake->owe_size;
				f->delivered_bytes += fake->owe_size;
			}
		}
		at += n;
	}
	f->delivered += fake->last_begun;
	f->delivered_bytes += taken;
}

static ssize_t fake_write(struct follower *follower, const struct iovec *iov, int count,
                          size_t size)
{
	struct fake *fake = (struct fake *)(void *)follower;
	size_t at = 0, taken;

	own_time_us += fake->f->write_us;
	fake->writes++;
	assert_int_equal(fake->lost, 0);
	assert_int_equal(fake->arrived, 0);
	if (fake->failure == FAIL_WRITE) {
		fake->has_failed = true;
		return -ECONNRESET;
	}
	assert_true(count > 0 && count <= BLOCK_ENTRIES);
	check_all(fake->f);
	for (int i = 0; i < count; i++) {
		assert_true(iov[i].iov_len <= sizeof flat - at);
		memcpy(flat + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_true(at == size && size > 0);
	flush(fake);
	taken = buf_size(&fake->pending) > 0 ? 0 : size < fake->accepts ? size : fake->accepts;
	check_run(fake, size, taken);
	if (fake->accepts != SIZE_MAX)
		fake->accepts -= taken;
	assert_int_equal(buf_append(&fake->got, flat, taken), 0);
	return (ssize_t)taken;
}

static int fake_owe(struct follower *follower, uint64_t id, uint32_t from, const char *rest,
                    uint32_t n)
{
	struct fake *fake = (struct fake *)(void *)follower;
	static char frame[FRAME_MAX];
	struct rest found;

	assert_true(id == fake->owe_id && id > 0);
	assert_int_equal(from, fake->owe_from);
	assert_int_equal(n, fake->owe_size);
	assert_int_equal(write_frame(fake->f, id, frame), from + n);
	assert_memory_equal(rest, frame + from, n);
	/* Where the rest is found again later on. */
	if (fanout_find_rest(fake->f->fanout, id, from, &found) == REST_HERE) {
		assert_ptr_equal(found.bytes.iov_base, rest);
		assert_int_equal(found.bytes.iov_len, n);
	} else {
		assert_true(id < first(fake->f));
	}
	fake->owe_id = 0;
	sums.owed++;
	if (fake->failure == FAIL_OWE) {
		fake->has_failed = true;
		/* Of who is lost in a write, that write is not counted. */
		fake->f->delivered -= fake->last_begun;
		fake->f->delivered_bytes -= fake->last_taken + n;
		return -ENOMEM;
	}
	return buf_append(&fake->pending, rest, n);
}

static int fake_gap(struct follower *follower, uint64_t from, uint64_t to, enum gap_reason reason)
{
	struct fake *fake = (struct fake *)(void *)follower;
	char text[64];

	assert_int_equal(reason, GAP_RETENTION);
	assert_int_equal(fake->lost + fake->arrived, 0);
	assert_true(fake->has_got || from > follower->quiet_to);
	assert_true(from > fake->done && from <= to && to <= follower->end);
	for (uint64_t id = fake->done + 1; id < from; id++)
		assert_true(!is_wanted(fake, id) || may_be_silent(fake, id));
	assert_true(to < first(fake->f)); /* what is kept is in no gap */
	fake->done = to;
	fake->gaps++;
	sums.gaps++;
	fake->gap_from = from;
	fake->gap_to = to;
	if (fake->failure == FAIL_GAP) {
		fake->has_failed = true;
		return -ENOMEM;
	}
	return buf_append(&fake->pending, text,
	                  (size_t)sprintf(text, "GAP %" PRIu64 " %" PRIu64 "\n", from, to));
}

static void fake_found(struct follower *follower)
{
	struct fake *fake = (struct fake *)(void *)follower;
	uint64_t count = 0;

	assert_int_equal(follower->state, FOLLOWER_BLOCKED);
	assert_true(fake->sought > 0 && follower->seek == 0 && fake->found == 0);
	assert_true(follower->position <= fake->seek_from || follower->position < first(fake->f));
	for (uint64_t id = follower->position + 1; id <= fake->seek_from; id++)
		count += is_wanted(fake, id);
	assert_true(count <= fake->sought);
	if (count < fake->sought) /* fewer only where fewer are kept */
		assert_true(follower->position + 1 <= first(fake->f));
	else
		assert_true(is_wanted(fake, follower->position + 1));
	fake->found++;
	sums.found++;
	fake->done = follower->position;
}

static void fake_arrived(struct follower *follower)
{
	struct fake *fake = (struct fake *)(void *)follower;

	assert_int_equal(follower->state, FOLLOWER_IDLE);
	assert_non_null(follower->set);
	assert_int_equal(fake->arrived + fake->lost, 0);
	fake->arrived++;
	sums.arrived++;
	if (follower->limit == 0) {
		assert_true(follower->position == fake->done);
		return;
	}
	assert_true(follower->position >= follower->end);
	for (uint64_t id = fake->done + 1; id <= follower->end; id++)
		assert_true(!is_wanted(fake, id) || may_be_silent(fake, id));
}

static void fake_lost(struct follower *follower)
{
	struct fake *fake = (struct fake *)(void *)follower;

	assert_int_equal(follower->state, FOLLOWER_IDLE);
	assert_non_null(follower->set);
	assert_true(fake->has_failed);
	assert_int_equal(fake->arrived + fake->lost, 0);
	fake->lost++;
	sums.lost++;
}

static const struct fanout_calls calls = {
	.write = fake_write,
	.owe = fake_owe,
	.gap = fake_gap,
	.found = fake_found,
	.arrived = fake_arrived,
	.lost = fake_lost,
};

/* ---- what every test needs ---- */

static struct fixture *begin(size_t segment_size, uint64_t retain_bytes)
{
	struct fixture *f =
		aligned_alloc(CACHE_LINE, (sizeof *f + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
	const struct log_options options = {.segment_size = segment_size,
	                                    .retain_bytes = retain_bytes};
	assert_non_null(f);
	memset(f, 0, sizeof *f);
	f->wake = wake_new(1);
	assert_non_null(f->wake);
	f->log = log_open(&options, f->wake, error, sizeof error);
	assert_non_null(f->log);
	epoch_register(log_epoch(f->log), &f->me);
	epoch_register(log_epoch(f->log), &f->worker);
	f->fanout = fanout_new(f->log, &f->worker, &f->counters, &calls);
	assert_non_null(f->fanout);
	own_time_us = 1;
	return f;
}

static void leave(struct fake *fake)
{
	fanout_leave(fake->f->fanout, &fake->follower);
	assert_null(fake->follower.set);
	assert_int_equal(fake->follower.state, FOLLOWER_IDLE);
	buf_clear(&fake->pending);
	buf_clear(&fake->got);
	memset(fake, 0, sizeof *fake);
}

static void end(struct fixture *f)
{
	for (size_t i = 0; i < FOLLOWERS_MAX; i++)
		if (f->fakes[i].f != NULL)
			leave(&f->fakes[i]);
	/* Nothing was counted twice, or not at all. */
	assert_true(atomic64_load_relaxed(&f->counters.delivered_total) == f->delivered);
	assert_true(atomic64_load_relaxed(&f->counters.delivered_bytes_total) ==
	            f->delivered_bytes);
	assert_false(fanout_step(f->fanout, false));
	assert_int_equal(atomic64_load_relaxed(&f->counters.lagging_subscribers), 0);
	fanout_free(f->fanout);
	log_close(f->log);
	wake_free(f->wake);
	free(f->records);
	free(f);
}

static uint64_t append(struct fixture *f, unsigned topic, uint32_t size)
{
	struct message message = {.topic = topics[topic],
	                          .topic_size = (uint32_t)strlen(topics[topic]),
	                          .payload_size = size,
	                          .payload = payload + (f->appended + 1) % 64};
	enum log_verdict verdict;
	size_t appended = 0;

	if (f->appended + 2 > f->capacity) {
		f->capacity = f->capacity * 2 + 1024;
		f->records = realloc(f->records, f->capacity * sizeof *f->records);
		assert_non_null(f->records);
	}
	message.topic_hash = topic_hash(log_hash_key(f->log), slice_of(topics[topic]));
	f->records[f->appended + 1] =
		(struct record){.topic = (uint8_t)topic, .size = (uint16_t)size};
	for (;;) {
		uint64_t seen = wake_value(f->wake);
		epoch_enter(&f->me);
		verdict = log_append(f->log, &message, 1, &appended);
		epoch_leave(&f->me);
		if (verdict == LOG_APPENDED)
			break;
		assert_int_equal(verdict, LOG_NO_SEGMENT);
		WAIT_FOR(wake_value(f->wake) != seen);
	}
	assert_true(message.id == ++f->appended);
	return f->appended;
}

static void append_many(struct fixture *f, unsigned count, unsigned topic, uint32_t size)
{
	while (count-- > 0)
		append(f, topic, size);
}

/* Messages of one topic until retention has taken `id`, and has come to rest. */
static void drop(struct fixture *f, uint64_t id, unsigned topic)
{
	struct log_figures figures;

	while (first(f) <= id)
		append_many(f, 50, topic, 1000);
	do {
		epoch_enter(&f->me);
		log_figures(f->log, &figures);
		epoch_leave(&f->me);
	} while (figures.segments > RETAINED);
}

static void want(struct fake *fake, const char *words, bool is_wanted_now)
{
	for (size_t i = 0; i < COUNT_OF(patterns); i++) {
		size_t n = strlen(patterns[i]);
		for (const char *at = words; (at = strstr(at, patterns[i])) != NULL; at += n)
			if ((at == words || at[-1] == ' ') && (at[n] == '\0' || at[n] == ' '))
				fake->wants[i] = is_wanted_now;
	}
}

static void add_patterns(struct fake *fake, const char *words)
{
	check_position(fake);
	if (fake->follower.state != FOLLOWER_IDLE && fake->follower.seek == 0)
		fake->done = fanout_position(fake->f->fanout, &fake->follower);
	assert_int_equal(fanout_add_patterns(fake->f->fanout, &fake->follower, slice_of(words),
	                                     fake->is_bare),
	                 0);
	want(fake, words, true);
}

static void remove_patterns(struct fake *fake, const char *words)
{
	check_position(fake);
	if (fake->follower.state != FOLLOWER_IDLE && fake->follower.seek == 0)
		fake->done = fanout_position(fake->f->fanout, &fake->follower);
	assert_int_equal(fanout_remove_patterns(fake->f->fanout, &fake->follower, slice_of(words)),
	                 0);
	want(fake, words, false);
}

/* A follower that begins behind `position`, for ever. */
static struct fake *prepare(struct fixture *f, unsigned i, const char *words, uint64_t position)
{
	struct fake *fake = &f->fakes[i];

	assert_null(fake->f);
	fake->f = f;
	fake->accepts = SIZE_MAX;
	fake->follower.position = position;
	fake->follower.end = FOLLOW_FOREVER;
	fake->follower.limit = FOLLOW_FOREVER;
	fake->done = position;
	if (words != NULL)
		add_patterns(fake, words);
	return fake;
}

static struct fake *join(struct fixture *f, unsigned i, const char *words, uint64_t position)
{
	struct fake *fake = prepare(f, i, words, position);
	fanout_start(f->fanout, &fake->follower);
	return fake;
}

/* Steps until there is nothing to do at once. */
static void step(struct fixture *f)
{
	bool is_busy;
	unsigned turns = 0;
	do {
		is_busy = fanout_step(f->fanout, false);
		check_all(f);
		assert_true(++turns < 100000);
	} while (is_busy);
}

/* The follower's socket takes everything again. */
static void resume(struct fake *fake)
{
	fake->accepts = SIZE_MAX;
	flush(fake);
	fanout_resume(fake->f->fanout, &fake->follower);
}

/* It has everything, and would get what comes. */
static void assert_is_at_head(struct fake *fake)
{
	assert_int_equal(fake->follower.state, FOLLOWER_LIVE);
	assert_true(fanout_position(fake->f->fanout, &fake->follower) == fake->f->appended);
	check_position(fake);
	assert_int_equal(buf_size(&fake->pending), 0);
}

/* All that it got, byte for byte, is what matches of from..to. */
static void assert_has_got(struct fake *fake, uint64_t from, uint64_t to)
{
	static char frame[FRAME_MAX];
	const char *at = buf_begin(&fake->got), *got_end = buf_end(&fake->got);

	for (uint64_t id = from; id <= to; id++) {
		if (!is_wanted(fake, id))
			continue;
		uint32_t n = write_frame(fake->f, id, frame);
		uint32_t skip = fake->is_bare ? n - fake->f->records[id].size - 1 : 0;
		assert_true((size_t)(got_end - at) >= n - skip);
		assert_memory_equal(at, frame + skip, n - skip);
		at += n - skip;
	}
	assert_ptr_equal(at, got_end);
}

/* ---- writes cut short ---- */

/* Some that match, some that don't, one of no payload, and one without a neighbour. */
static size_t append_run(struct fixture *f, bool is_bare)
{
	static const struct record run[] = {{0, 3}, {1, 5}, {0, 0}, {0, 12},
	                                    {5, 1}, {2, 1}, {3, 9}};
	static char frame[FRAME_MAX];
	size_t size = 0;

	for (size_t i = 0; i < COUNT_OF(run); i++) {
		uint64_t id = append(f, run[i].topic, run[i].size);
		if (run[i].topic != 1 && run[i].topic != 5) /* see the patterns below */
			size += is_bare ? run[i].size + 1U : write_frame(f, id, frame);
	}
	return size;
}

static void cut_everywhere(bool is_bare, bool is_live)
{
	struct fixture *f = begin(SMALL, 0);

	append(f, 1, 1);
	for (size_t cut = 0, size = 1; cut <= size; cut++) {
		uint64_t start = head(f);
		struct fake *fake = prepare(f, cut % 2, NULL, start);
		fake->is_bare = is_bare;
		add_patterns(fake, "a a.*");
		fanout_start(f->fanout, &fake->follower);
		if (is_live) {
			step(f);
			assert_is_at_head(fake);
		}
		size = append_run(f, is_bare);
		fake->accepts = cut;
		step(f);
		assert_int_equal(buf_size(&fake->got), cut);
		if (cut < size) {
			assert_int_equal(fake->follower.state, FOLLOWER_BLOCKED);
			step(f); /* it has to be told to go on */
			assert_int_equal(buf_size(&fake->got), cut);
			assert_int_equal(fake->writes, 1);
			resume(fake);
			step(f);
		}
		assert_has_got(fake, start + 1, head(f));
		assert_is_at_head(fake);
		leave(fake);
	}
	end(f);
}

static void no_byte_is_lost_wherever_a_write_is_cut(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		cut_everywhere(i % 2 != 0, i / 2 != 0);
}

/* One byte a time, all of the way. */
static void a_socket_that_takes_a_byte_at_a_time_gets_everything(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);
	struct fake *fake = join(f, 0, "a a.*", 0);
	size_t size = append_run(f, false);

	for (size_t sent = 0; sent < size; sent++) {
		fake->accepts = 1;
		flush(fake);
		fanout_resume(f->fanout, &fake->follower);
		step(f);
		assert_int_equal(buf_size(&fake->got), sent + 1);
	}
	resume(fake);
	step(f);
	assert_has_got(fake, 1, f->appended);
	assert_is_at_head(fake);
	end(f);
}

/* ---- passes ---- */

static void a_pass_cut_into_slices_gives_everything_to_everybody_once(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);

	append_many(f, 10, 0, 10);
	for (unsigned i = 0; i < 50; i++)
		join(f, i, i % 2 ? "a" : "a.*", 10);
	step(f);
	f->write_us = LONG_US;
	append_many(f, 100, 0, 10);
	append_many(f, 100, 2, 10);
	unsigned slices = 1;
	while (fanout_step(f->fanout, false)) {
		check_all(f);
		slices++;
	}
	assert_int_equal(slices, 50 / 16 + 1);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(f->fakes[i].writes, 1);
		assert_int_equal(f->fakes[i].messages, 100);
		assert_is_at_head(&f->fakes[i]);
	}
	end(f);
}

static void borders_of_blocks_within_a_segment_are_seen_by_nobody(void **state)
{
	(void)state;
	static const char *const words[] = {">", "a", "a.*", "b > a.b"};
	static const uint64_t starts[] = {0, BLOCK_ENTRIES - 3, BLOCK_ENTRIES, BLOCK_ENTRIES + 3};
	struct fixture *f = begin(16 << 20, 0);
	unsigned count = 0;

	struct fake *live = join(f, count++, ">", 0);
	for (unsigned i = 0; i < 2 * BLOCK_ENTRIES + 100; i++)
		append(f, i % 5, i % 7);
	step(f);
	assert_is_at_head(live);
	for (unsigned i = 0; i < COUNT_OF(starts); i++)
		for (unsigned n = 0; n < COUNT_OF(words); n++)
			join(f, count++, words[n], starts[i]);
	step(f);
	append_many(f, 100, 0, 10);
	step(f);
	for (unsigned i = 0; i < count; i++)
		assert_is_at_head(&f->fakes[i]);
	assert_int_equal(f->fakes[0].gaps, 0);
	end(f);
}

static void who_comes_or_goes_or_changes_within_a_pass_misses_and_repeats_nothing(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);

	for (unsigned i = 0; i < 50; i++)
		join(f, i, "a", 0);
	step(f);
	f->write_us = LONG_US;
	append_many(f, 100, 0, 10);
	append_many(f, 100, 2, 10);
	assert_true(fanout_step(f->fanout, false));
	check_all(f);
	unsigned served = 0;
	for (unsigned i = 0; i < 50; i++)
		served += f->fakes[i].writes;
	assert_int_equal(served, 16);
	/* Some of those served and some of the others, each with something else. */
	for (unsigned i = 0; i < 50; i++) {
		struct fake *fake = &f->fakes[i];
		uint64_t position = fanout_position(f->fanout, &fake->follower);
		assert_true(position == (fake->writes ? 200 : 0));
		switch (i % 8) {
		case 0:
			leave(fake);
			break;
		case 1:
			add_patterns(fake, "a.b"); /* from its position on */
			break;
		case 2:
			add_patterns(fake, "b");
			remove_patterns(fake, "a");
			break;
		case 3:
			remove_patterns(fake, "b"); /* which it hasn't */
			break;
		case 4:
			fanout_advance(f->fanout, &fake->follower);
			assert_int_equal(fake->messages, 100);
			break;
		case 5:
			fanout_set_end(f->fanout, &fake->follower, 50);
			break;
		default:
			break;
		}
		if (fake->f != NULL && fake->follower.state != FOLLOWER_IDLE)
			assert_true(fanout_position(f->fanout, &fake->follower) >= position);
	}
	for (unsigned i = 50; i < FOLLOWERS_MAX; i++)
		join(f, i, "a", i % 2 ? 200 : 150);
	step(f);
	append_many(f, 10, 0, 10);
	step(f);
	for (unsigned i = 0; i < 50; i++) {
		struct fake *fake = &f->fakes[i];
		if (fake->f == NULL)
			continue;
		if (i % 8 == 5) {
			assert_int_equal(fake->arrived, 1);
			assert_int_equal(fake->messages, fake->writes && i < 16 ? 100 : 50);
		} else {
			assert_is_at_head(fake);
		}
		if (i % 8 == 1)
			assert_int_equal(fake->messages, i < 16 ? 110 : 210);
		else if (i % 8 == 2)
			assert_int_equal(fake->messages, i < 16 ? 100 : 0);
		else if (i % 8 != 5)
			assert_int_equal(fake->messages, 110);
	}
	for (unsigned i = 50; i < FOLLOWERS_MAX; i++)
		assert_int_equal(f->fakes[i].messages, 10); /* and 151 on, which are a.b */
	end(f);
}

static void sets_that_end_while_they_are_due_are_forgotten(void **state)
{
	(void)state;
	static const char *const words[] = {"a", "a a.b", "> a", "a b", "*"};
	struct fixture *f = begin(SMALL, 0);

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 50; i++)
			if (f->fakes[i].f == NULL)
				join(f, i, words[i % COUNT_OF(words)], f->appended);
		f->write_us = 0;
		step(f);
		f->write_us = LONG_US;
		append_many(f, 20, 0, 10);
		assert_true(fanout_step(f->fanout, false));
		/* Whole sets leave, the one that is being served among them in some rounds. */
		for (unsigned i = 0; i < 50; i++)
			if (round >> (i % COUNT_OF(words)) & 1)
				leave(&f->fakes[i]);
		step(f);
		for (unsigned i = 0; i < 50; i++)
			if (f->fakes[i].f != NULL)
				assert_is_at_head(&f->fakes[i]);
	}
	end(f);
}

static void who_blocks_leaves_the_pass_and_comes_back(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);

	for (unsigned i = 0; i < 40; i++)
		join(f, i, "a", 0);
	step(f);
	assert_true(fanout_is_following(f->fanout));
	append_many(f, 100, 0, 100);
	for (unsigned i = 0; i < 40; i++)
		f->fakes[i].accepts = i * 400;
	step(f);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(f->fakes[i].follower.state,
		                 buf_size(&f->fakes[i].got) < buf_size(&f->fakes[39].got)
		                         ? FOLLOWER_BLOCKED
		                         : FOLLOWER_LIVE);
	append_many(f, 100, 0, 100);
	for (unsigned i = 0; i < 40; i++)
		f->fakes[i].accepts = 0;
	step(f);
	assert_false(fanout_is_following(f->fanout));
	append_many(f, 100, 0, 100);
	for (unsigned i = 0; i < 40; i++)
		resume(&f->fakes[i]);
	step(f);
	for (unsigned i = 0; i < 40; i++) {
		assert_is_at_head(&f->fakes[i]);
		assert_has_got(&f->fakes[i], 1, 300);
	}
	end(f);
}

static void a_command_can_have_the_head_before_the_walk_gets_there(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);
	struct fake *fake = join(f, 0, "a", 0), *other = join(f, 1, "a", 0);

	step(f);
	append_many(f, 100, 0, 100);
	fanout_advance(f->fanout, &fake->follower);
	assert_int_equal(fake->messages, 100);
	assert_int_equal(other->messages, 0);
	assert_true(fanout_position(f->fanout, &fake->follower) == 100);
	check_all(f);
	append_many(f, 10, 0, 100); /* the walk's block will have the position in its middle */
	step(f);
	assert_has_got(fake, 1, 110);
	assert_has_got(other, 1, 110);
	assert_is_at_head(fake);
	fake->accepts = 10;
	append_many(f, 10, 0, 100);
	fanout_advance(f->fanout, &fake->follower);
	assert_int_equal(fake->follower.state, FOLLOWER_BLOCKED);
	fanout_advance(f->fanout, &fake->follower); /* nothing to be done for it */
	assert_int_equal(fake->follower.state, FOLLOWER_BLOCKED);
	resume(fake);
	step(f);
	assert_has_got(fake, 1, 120);
	end(f);
}

/* ---- retention ---- */

static void retention_passing_a_blocked_follower_is_one_exact_gap(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);
	struct fake *fake = join(f, 0, "a", 0);

	step(f);
	append_many(f, 20, 0, 100);
	fake->accepts = 1000; /* ends in a message; its rest is the owner's */
	step(f);
	uint64_t position = fanout_position(f->fanout, &fake->follower);
	assert_true(position > 5 && position < 20);
	drop(f, 20, 0);
	resume(fake);
	step(f);
	assert_int_equal(fake->gaps, 1);
	assert_true(fake->gap_from == position + 1 && fake->gap_to >= 20);
	assert_true(fake->messages == position + f->appended - fake->gap_to);
	assert_is_at_head(fake);
	assert_int_equal(atomic64_load_relaxed(&f->counters.gaps_total), 1);
	assert_true(atomic64_load_relaxed(&f->counters.gap_messages_total) ==
	            fake->gap_to - position);
	end(f);
}

static void retention_passing_the_walk_is_one_gap_for_each_live_follower(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);

	append_many(f, 10, 0, 10);
	join(f, 0, "a", 10);
	join(f, 1, ">", 10);
	join(f, 2, "b", 10); /* nothing matches: who knows? */
	join(f, 3, "a", 10);
	step(f);
	drop(f, 10, 0);
	step(f);
	for (unsigned i = 0; i < 4; i++) {
		struct fake *fake = &f->fakes[i];
		assert_int_equal(fake->gaps, 1);
		assert_true(fake->gap_from == 11);
		assert_int_equal(fake->messages, i == 2 ? 0 : f->appended - fake->gap_to);
		buf_clear(&fake->pending);
		assert_is_at_head(fake);
	}
	append_many(f, 10, 0, 10);
	step(f);
	assert_int_equal(f->fakes[0].gaps, 1);
	end(f);
}

static void retention_in_the_middle_of_a_pass_is_a_gap_for_those_not_served(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);

	append_many(f, 10, 0, 10);
	for (unsigned i = 0; i < 40; i++)
		join(f, i, "a", 10);
	step(f);
	f->write_us = LONG_US;
	append_many(f, 10, 0, 10);
	assert_true(fanout_step(f->fanout, false));
	uint64_t walked = 20;
	drop(f, walked, 0);
	step(f);
	unsigned served = 0;
	for (unsigned i = 0; i < 40; i++) {
		struct fake *fake = &f->fakes[i];
		bool was_served = fake->gap_from == walked + 1;
		served += was_served;
		assert_int_equal(fake->gaps, 1);
		assert_true(was_served || fake->gap_from == 11);
		assert_true(fake->gap_to >= walked);
		assert_int_equal(fake->messages,
		                 (was_served ? 10 : 0) + f->appended - fake->gap_to);
		assert_is_at_head(fake);
	}
	assert_int_equal(served, 16);
	end(f);
}

static void
what_was_gone_before_the_first_message_is_no_gap_for_who_asked_for_what_is_kept(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);
	struct fake *quiet = prepare(f, 0, "a", 0), *other = prepare(f, 1, "a", 0);
	struct fake *waiting = prepare(f, 2, "a", 0);

	append_many(f, 10, 0, 10);
	waiting->follower.quiet_to = f->appended;
	drop(f, 10, 0);
	quiet->follower.quiet_to = f->appended;
	fanout_start(f->fanout, &quiet->follower);
	fanout_start(f->fanout, &other->follower);
	fanout_start(f->fanout, &waiting->follower);
	step(f);
	assert_int_equal(quiet->gaps, 0);
	assert_int_equal(other->gaps, 1);
	/* What came behind its start it would have got. */
	assert_int_equal(waiting->gaps, 1);
	assert_true(waiting->gap_from == 11);
	assert_true(waiting->gap_to == other->gap_to);
	assert_int_equal(quiet->messages, other->messages);
	assert_true(quiet->messages > 0);
	quiet->accepts = 0;
	drop(f, f->appended, 0); /* now it would miss something */
	step(f);
	resume(quiet);
	step(f);
	assert_int_equal(quiet->gaps, 1);
	end(f);
}

static void the_rest_of_a_message_is_there_until_retention_takes_it(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);
	static char frame[FRAME_MAX];
	struct rest rest;

	append(f, 1, 10);
	append(f, 0, 5000);
	uint32_t n = write_frame(f, 2, frame);
	epoch_enter(&f->worker);
	for (uint32_t from = 1; from < n; from += 7) {
		assert_int_equal(fanout_find_rest(f->fanout, 2, from, &rest), REST_HERE);
		assert_int_equal(rest.bytes.iov_len, n - from);
		assert_memory_equal(rest.bytes.iov_base, frame + from, n - from);
	}
	epoch_leave(&f->worker);
	drop(f, 2, 0);
	epoch_enter(&f->worker);
	assert_int_equal(fanout_find_rest(f->fanout, 2, 1, &rest), REST_GONE);
	epoch_leave(&f->worker);
	end(f);
}

/* ---- LAST, limit, end ---- */

static void last_n_begins_n_matches_back(void **state)
{
	(void)state;
	/* Of 20,000 messages over many blocks, every 1000th is an "a", the rest "b.c". */
	static const struct {
		const char *words;
		uint64_t n, begins_at;
	} rows[] = {
		{"a", 1, 20000}, {"a", 2, 19000},   {"a", 20, 1000},       {"a", 21, 1},
		{"b", 1, 1},     {"> a", 1, 20000}, {"> a", 777, 19224},   {">", 20000, 1},
		{">", 20001, 1}, {"b.c", 3, 19997}, {"a b.>", 512, 19489},
	};
	struct fixture *f = begin(SMALL, 0);

	for (unsigned i = 1; i <= 20000; i++)
		append(f, i % 1000 == 0 ? 0 : 4, 10);
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct fake *fake = prepare(f, 0, rows[i].words, 20000);
		fake->follower.seek = fake->sought = rows[i].n;
		fake->seek_from = 20000;
		fanout_start(f->fanout, &fake->follower);
		step(f);
		assert_int_equal(fake->found, 1);
		assert_int_equal(fake->writes, 0); /* its owner has something to say first */
		assert_true(fake->follower.position == rows[i].begins_at - 1);
		resume(fake);
		step(f);
		assert_has_got(fake, rows[i].begins_at, 20000);
		assert_is_at_head(fake);
		assert_int_equal(fake->found, 1);
		leave(fake);
	}
	end(f);
}

static void last_n_of_an_empty_log_begins_at_the_head(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);
	struct fake *fake = prepare(f, 0, "a", 0);

	fake->follower.seek = fake->sought = 3;
	fanout_start(f->fanout, &fake->follower);
	step(f);
	assert_int_equal(fake->found, 1);
	resume(fake);
	append_many(f, 3, 0, 1);
	step(f);
	assert_has_got(fake, 1, 3);
	end(f);
}

static void last_n_of_what_is_kept_begins_at_the_first_and_has_no_gap(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, RETAINED * SMALL);

	append(f, 1, 1);
	drop(f, 1, 0);
	struct fake *fake = prepare(f, 0, "b", f->appended);
	fake->follower.seek = fake->sought = 1;
	fake->seek_from = f->appended;
	fanout_start(f->fanout, &fake->follower);
	step(f);
	assert_int_equal(fake->found, 1);
	assert_true(fake->follower.position + 1 <= first(f));
	resume(fake);
	step(f);
	assert_int_equal(fake->writes, 0);
	end(f);
}

static void limit_and_end_are_kept_exactly_and_arrived_is_said_once(void **state)
{
	(void)state;
	/* Of 1 .. 3000 the odd ones are "a", the even ones "a.b". */
	static const struct {
		const char *words;
		uint64_t position, end, limit, messages, stands_at;
	} rows[] = {
		{"a", 0, 3000, FOLLOW_FOREVER, 1500, 3000},
		{"a", 0, 3000, 1, 1, 1},
		{"a.b", 0, 3000, 1, 1, 2},
		{"a", 0, 3000, 1500, 1500, 2999},
		{"a", 0, 3000, 1501, 1500, 3000},
		{"a a.b", 0, 3000, 512, 512, 512},
		{"a a.b", 0, 3000, 513, 513, 513},
		{"a.b", 0, 3000, 700, 700, 1400},
		{"a", 10, 10, FOLLOW_FOREVER, 0, 10},
		{"a", 10, 11, FOLLOW_FOREVER, 1, 11},
		{"a", 11, 12, FOLLOW_FOREVER, 0, 12},
		{"a", 3000, 3000, 5, 0, 3000},
		{"b", 0, 3000, 5, 0, 3000},
		{"a", 0, 0, 5, 0, 0},
	};
	struct fixture *f = begin(SMALL, 0);

	for (unsigned i = 1; i <= 3000; i++)
		append(f, i % 2 ? 0 : 2, 10);
	for (size_t i = 0; i < COUNT_OF(rows) * 2; i++) {
		struct fake *fake = prepare(f, 0, rows[i / 2].words, rows[i / 2].position);
		fake->follower.end = rows[i / 2].end;
		fake->follower.limit = rows[i / 2].limit;
		fanout_start(f->fanout, &fake->follower);
		while (i % 2 == 1 && fake->arrived == 0) { /* cut in the middle of messages */
			fake->accepts = 37;
			flush(fake);
			fanout_resume(f->fanout, &fake->follower);
			(void)fanout_step(f->fanout, false);
		}
		step(f);
		append(f, 0, 1);
		step(f);
		assert_int_equal(fake->arrived, 1);
		assert_int_equal(fake->follower.state, FOLLOWER_IDLE);
		assert_int_equal(fake->messages, rows[i / 2].messages);
		assert_true(fake->follower.position == rows[i / 2].stands_at);
		resume(fake);
		assert_has_got(fake, rows[i / 2].position + 1,
		               rows[i / 2].limit <= rows[i / 2].messages ? rows[i / 2].stands_at
		                                                         : rows[i / 2].end);
		leave(fake);
	}
	end(f);
}

static void an_end_set_later_is_the_last_that_is_sent(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);

	append_many(f, 100, 0, 100);
	struct fake *live = join(f, 0, "a", 0), *blocked = join(f, 1, "a", 0);
	blocked->accepts = 0;
	step(f);
	append_many(f, 100, 0, 100);
	struct fake *behind = join(f, 2, "a", 50);
	for (unsigned i = 0; i < 3; i++)
		fanout_set_end(f->fanout, &f->fakes[i].follower, 150);
	assert_int_equal(blocked->follower.state, FOLLOWER_BLOCKED); /* its owner says when */
	append_many(f, 100, 0, 100);
	step(f);
	assert_int_equal(live->arrived + behind->arrived, 2);
	assert_int_equal(blocked->arrived, 0);
	assert_int_equal(blocked->follower.state, FOLLOWER_BLOCKED);
	resume(blocked);
	step(f);
	assert_int_equal(blocked->arrived, 1);
	assert_has_got(live, 1, 150);
	assert_has_got(blocked, 1, 150);
	assert_has_got(behind, 51, 150);
	end(f);
}

static void an_end_before_what_was_sent_arrives_at_once(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);
	struct fake *fake = join(f, 0, "a", 0);

	append_many(f, 100, 0, 100);
	step(f);
	fanout_set_end(f->fanout, &fake->follower, 50);
	append_many(f, 100, 0, 100);
	step(f);
	assert_int_equal(fake->arrived, 1);
	assert_has_got(fake, 1, 100);
	end(f);
}

/* ---- lost ---- */

static void whoever_cannot_be_served_is_lost_once_and_alone(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		static const enum failure failures[] = {FAIL_WRITE, FAIL_OWE, FAIL_GAP};
		struct fixture *f = begin(SMALL, RETAINED * SMALL);
		struct fake *fake = join(f, 0, "a", 0), *friend = join(f, 1, "a", 0);
		fake->failure = failures[i / 2];
		if (i % 2)
			step(f); /* live */
		append_many(f, 10, 0, 100);
		fake->accepts = fake->failure == FAIL_OWE ? 150 : SIZE_MAX;
		if (fake->failure == FAIL_GAP)
			drop(f, 10, 0);
		step(f);
		assert_int_equal(fake->lost, 1);
		assert_int_equal(fake->follower.state, FOLLOWER_IDLE);
		unsigned writes = fake->writes;
		append_many(f, 10, 0, 100);
		step(f);
		assert_int_equal(fake->writes, writes);
		assert_is_at_head(friend);
		end(f);
	}
}

/* ---- patterns ---- */

static void without_its_last_pattern_a_follower_stands_still(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);
	struct fake *fake = join(f, 0, "a a.b a", 0);

	assert_int_equal(fanout_count_patterns(f->fanout, &fake->follower, slice_of("")), 2);
	assert_int_equal(fanout_count_patterns(f->fanout, &fake->follower, slice_of("a b c")), 4);
	append_many(f, 10, 0, 10);
	step(f);
	remove_patterns(fake, "a.b b");
	assert_int_equal(fanout_count_patterns(f->fanout, &fake->follower, slice_of("")), 1);
	append_many(f, 10, 0, 10);
	step(f);
	assert_has_got(fake, 1, 20);
	remove_patterns(fake, "a");
	assert_int_equal(fake->follower.state, FOLLOWER_IDLE);
	assert_null(fake->follower.set);
	assert_true(fake->follower.position == 20);
	assert_false(fanout_is_following(f->fanout));
	remove_patterns(fake, "a");
	append_many(f, 10, 0, 10);
	step(f);
	add_patterns(fake, "a"); /* and on it goes, where it stood */
	fanout_start(f->fanout, &fake->follower);
	step(f);
	assert_has_got(fake, 1, 30);
	assert_int_equal(fanout_remove_patterns(f->fanout, &fake->follower, slice_of("")), 0);
	assert_null(fake->follower.set);
	end(f);
}

/* ---- figures ---- */

static void those_that_lag_are_counted_and_the_lowest_position_is_known(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0);

	append_many(f, 100, 0, 100);
	struct fake *ahead = join(f, 0, "a", 70), *low = join(f, 1, "a", 30);
	struct fake *reader = join(f, 2, "a", 10);
	join(f, 3, "a", 100);
	fanout_set_end(f->fanout, &reader->follower, 100); /* no subscriber */
	ahead->accepts = low->accepts = reader->accepts = 0;
	step(f);
	own_time_us += 1000 * 1000;
	step(f);
	assert_int_equal(atomic64_load_relaxed(&f->counters.lagging_subscribers), 2);
	assert_int_equal(atomic64_load_relaxed(&f->counters.lowest_position), 30);
	resume(low);
	step(f);
	own_time_us += 1000 * 1000;
	step(f);
	assert_int_equal(atomic64_load_relaxed(&f->counters.lagging_subscribers), 1);
	assert_int_equal(atomic64_load_relaxed(&f->counters.lowest_position), 70);
	resume(ahead);
	step(f);
	step(f);
	assert_int_equal(atomic64_load_relaxed(&f->counters.lagging_subscribers), 0);
	assert_true(atomic64_load_relaxed(&f->counters.lowest_position) == UINT64_MAX);
	end(f);
}

/* ---- everything at once ---- */

static const char *random_words(void)
{
	static char words[256];
	words[0] = '\0';
	for (unsigned n = 1 + random_below(3); n > 0; n--) {
		strcat(words, patterns[random_below(COUNT_OF(patterns))]);
		if (n > 1)
			strcat(words, " ");
	}
	return words;
}

static void join_somewhere(struct fixture *f, unsigned i)
{
	uint64_t oldest = first(f), now = head(f);
	struct fake *fake = prepare(f, i, NULL, now);
	struct follower *follower = &fake->follower;

	fake->is_bare = random_below(4) == 0;
	add_patterns(fake, random_words());
	switch (random_below(4)) {
	case 0: /* now */
		break;
	case 1: /* somewhere in what is kept */
		follower->position = now - random_below((unsigned)(now - oldest) % 4000 + 2);
		break;
	case 2: /* anywhere */
		follower->position = random_below((unsigned)now + 1);
		break;
	case 3:
		follower->seek = fake->sought = 1 + random_below(random_below(2) ? 10 : 3000);
		fake->seek_from = now;
		break;
	}
	fake->done = follower->position;
	if (random_below(3) == 0) {
		follower->end = now;
		if (random_below(2) == 0)
			follower->limit = 1 + random_below(random_below(2) ? 10 : 2000);
	}
	if (random_below(3) == 0)
		follower->quiet_to = random_below((unsigned)now + 1);
	fanout_start(f->fanout, follower);
}

/* One thing that a follower, its peer or its network may do. */
static void disturb(struct fixture *f, unsigned i)
{
	struct fake *fake = &f->fakes[i];
	bool follows = fake->f != NULL && fake->follower.state != FOLLOWER_IDLE;

	if (fake->f == NULL) {
		join_somewhere(f, i);
		return;
	}
	if (!follows) {
		leave(fake);
		return;
	}
	switch (random_below(16)) {
	case 0:
		if (random_below(4) == 0)
			leave(fake);
		break;
	case 1:
		add_patterns(fake, random_words());
		break;
	case 2:
		remove_patterns(fake, random_words());
		if (fake->follower.set == NULL)
			leave(fake);
		break;
	case 3:
		fanout_advance(f->fanout, &fake->follower);
		break;
	case 4:
		if (random_below(4) == 0 && fake->follower.end == FOLLOW_FOREVER)
			fanout_set_end(f->fanout, &fake->follower, head(f));
		break;
	case 5:
	case 6:
		fake->accepts = random_below(random_below(2) ? 200 : 20000);
		break;
	case 7:
		if (random_below(16) == 0)
			fake->failure = (enum failure)(1 + random_below(3));
		break;
	case 8:
	case 9:
		fake->accepts = random_below(5000);
		/* fall through */
	case 10:
		flush(fake);
		fanout_resume(f->fanout, &fake->follower);
		break;
	default:
		resume(fake);
		break;
	}
}

static void append_some(struct fixture *f)
{
	unsigned count = random_below(8) == 0 ? random_below(400) : random_below(30);
	while (count-- > 0)
		append(f, random_below(COUNT_OF(topics)),
		       random_below(20) == 0 ? random_below(PAYLOAD_MAX) : random_below(200));
}

static void mix(size_t segment_size, uint64_t retain_bytes, unsigned operations)
{
	static const uint64_t times_us[] = {0, 0, 30, 100, LONG_US};
	struct fixture *f = begin(segment_size, retain_bytes);

	append(f, 0, 1);
	for (unsigned i = 0; i < operations; i++) {
		unsigned chosen = random_below(MIXED);
		switch (random_below(6)) {
		case 0:
			append_some(f);
			break;
		case 1:
		case 2:
			f->write_us = times_us[random_below(COUNT_OF(times_us))];
			(void)fanout_step(f->fanout, false);
			break;
		default:
			disturb(f, chosen);
			break;
		}
		check_all(f);
		for (unsigned k = 0; k < MIXED; k++) /* who is lost is not counted by anybody */
			if (f->fakes[k].has_failed && f->fakes[k].lost == 0)
				fail_msg("follower %u failed and is not lost", k);
		if (buf_size(&f->fakes[chosen].got) > 1 << 20)
			buf_clear(&f->fakes[chosen].got);
	}
	f->write_us = 0;
	/* Everybody gets all that there is: those that seek come to a halt twice. */
	for (unsigned i = 0; i < 2 * MIXED; i++) {
		struct fake *fake = &f->fakes[i % MIXED];
		if (fake->f != NULL) {
			fake->failure = FAIL_NONE;
			resume(fake);
		}
		if (i % MIXED == MIXED - 1)
			step(f);
	}
	for (unsigned i = 0; i < MIXED; i++) {
		struct fake *fake = &f->fakes[i];
		if (fake->f == NULL || fake->lost > 0)
			continue;
		resume(fake);
		if (fake->follower.end == FOLLOW_FOREVER)
			assert_is_at_head(fake);
		else
			assert_int_equal(fake->arrived, 1);
	}
	end(f);
}

static void whatever_happens_everybody_gets_everything_once_and_in_order(void **state)
{
	(void)state;
	memset(&sums, 0, sizeof sums);
	mix(SMALL, RETAINED * SMALL, 20000);
	mix(4 * SMALL, 16 * SMALL, 10000);
	mix(4 * SMALL, 0, 3000);
	/* It was worth something. */
	assert_true(sums.gaps > 0 && sums.found > 0 && sums.arrived > 0 && sums.lost > 0 &&
	            sums.owed > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_byte_is_lost_wherever_a_write_is_cut),
		cmocka_unit_test(a_socket_that_takes_a_byte_at_a_time_gets_everything),
		cmocka_unit_test(a_pass_cut_into_slices_gives_everything_to_everybody_once),
		cmocka_unit_test(
			who_comes_or_goes_or_changes_within_a_pass_misses_and_repeats_nothing),
		cmocka_unit_test(sets_that_end_while_they_are_due_are_forgotten),
		cmocka_unit_test(who_blocks_leaves_the_pass_and_comes_back),
		cmocka_unit_test(a_command_can_have_the_head_before_the_walk_gets_there),
		cmocka_unit_test(retention_passing_a_blocked_follower_is_one_exact_gap),
		cmocka_unit_test(borders_of_blocks_within_a_segment_are_seen_by_nobody),
		cmocka_unit_test(retention_passing_the_walk_is_one_gap_for_each_live_follower),
		cmocka_unit_test(retention_in_the_middle_of_a_pass_is_a_gap_for_those_not_served),
		cmocka_unit_test(
			what_was_gone_before_the_first_message_is_no_gap_for_who_asked_for_what_is_kept),
		cmocka_unit_test(the_rest_of_a_message_is_there_until_retention_takes_it),
		cmocka_unit_test(last_n_begins_n_matches_back),
		cmocka_unit_test(last_n_of_an_empty_log_begins_at_the_head),
		cmocka_unit_test(last_n_of_what_is_kept_begins_at_the_first_and_has_no_gap),
		cmocka_unit_test(limit_and_end_are_kept_exactly_and_arrived_is_said_once),
		cmocka_unit_test(an_end_set_later_is_the_last_that_is_sent),
		cmocka_unit_test(an_end_before_what_was_sent_arrives_at_once),
		cmocka_unit_test(whoever_cannot_be_served_is_lost_once_and_alone),
		cmocka_unit_test(without_its_last_pattern_a_follower_stands_still),
		cmocka_unit_test(those_that_lag_are_counted_and_the_lowest_position_is_known),
		cmocka_unit_test(whatever_happens_everybody_gets_everything_once_and_in_order),
	};

	draw_seed();
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (char)(i * 7 >> 2);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("fanout", tests, NULL, NULL);
}
