/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * The log and its keeper, as one user of them sees them: ids, blocks, searches, retention, the
 * bound on memory, and what happens when there is no room. Mappings are counted, and refused where
 * a test wants it, through link-time wrapping.
 */
#include "log/keeper.h"
#include "log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "deadline.h"
#include "base/clock.h"
#include "log/chain.h"
#include "log/frame.h"
#include "log/pages.h"

enum {
	SMALL = SEGMENT_SIZE_MIN,
	LARGE = 1 << 20,
	PAYLOAD_MAX = 16 << 10,
	BATCH = 64,
	TAIL_AND_SPARES = 3, /* segments that are linked however little is kept */
};

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static uint32_t is_out_of_memory;
static uint64_t mappings;

/* The keeper's thread comes here too. */
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (atomic32_load_relaxed(&is_out_of_memory)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	atomic64_add(&mappings, 1);
	return __real_mmap(address, size, protection, flags, fd, offset);
}

struct fixture {
	struct epoch_thread me, other; /* what makes a thread for the epoch */
	struct log *log;
	struct wake *wake;
	struct log_options options;
	uint64_t appended; /* so many, which is also the id of the last */
};

static char payload[PAYLOAD_MAX];
static char error[LOG_ERROR_MAX];

/* ---- what every test needs ---- */

static struct fixture *begin(size_t segment_size, uint64_t bytes, uint64_t messages,
                             uint64_t age_us)
{
	struct fixture *f =
		aligned_alloc(CACHE_LINE, (sizeof *f + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
	assert_non_null(f);
	memset(f, 0, sizeof *f);
	f->options = (struct log_options){.segment_size = segment_size,
	                                  .retain_bytes = bytes,
	                                  .retain_messages = messages,
	                                  .retain_age_us = age_us};
	atomic64_store_release(&mappings, 0);
	f->wake = wake_new(1);
	assert_non_null(f->wake);
	f->log = log_open(&f->options, f->wake, error, sizeof error);
	assert_non_null(f->log);
	epoch_register(log_epoch(f->log), &f->me);
	epoch_register(log_epoch(f->log), &f->other);
	return f;
}

static void end(struct fixture *f)
{
	log_close(f->log);
	wake_free(f->wake);
	free(f);
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

static struct log_figures figures(struct fixture *f)
{
	struct log_figures figures;
	epoch_enter(&f->me);
	log_figures(f->log, &figures);
	epoch_leave(&f->me);
	return figures;
}

static uint64_t kept(struct fixture *f)
{
	struct log_figures now = figures(f);
	return now.head + 1 - now.first;
}

/* The message that a test appends under this id: its topic names it. */
static struct message message_of(uint64_t id, char topic[32], uint32_t payload_size)
{
	int size = sprintf(topic, "t.%" PRIu64, id);
	return (struct message){.topic = topic,
	                        .topic_size = (uint32_t)size,
	                        .payload = payload,
	                        .payload_size = payload_size,
	                        .topic_hash = (uint32_t)(id * 2654435761U)};
}

/* Appends one message, waiting for room where there is none. */
static void append(struct fixture *f, uint32_t payload_size)
{
	char topic[32];
	struct message message = message_of(f->appended + 1, topic, payload_size);
	enum log_verdict verdict;
	size_t appended = 0;

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
	assert_int_equal(appended, 1);
	f->appended++;
	assert_true(message.id == f->appended);
}

static void append_many(struct fixture *f, uint64_t count, uint32_t payload_size)
{
	while (count-- > 0)
		append(f, payload_size);
}

/* The payload size that tests of varied sizes give to an id. */
static uint32_t varied_size(uint64_t id)
{
	return id % 50 == 0 ? (uint32_t)(id * 37 % PAYLOAD_MAX) / 2 : (uint32_t)(id * 13 % 300);
}

static void check_entry(const struct block *block, uint32_t i, uint32_t payload_size)
{
	char topic[32], header[64];
	uint64_t id = block->first + i;
	const struct message message = message_of(id, topic, payload_size);
	const struct entry *entry = block_entry(block, i);
	const char *frame = block_frame(block, i);
	int header_size =
		sprintf(header, "MSG %" PRIu64 " %s %" PRIu32 "\n", id, topic, payload_size);

	assert_int_equal(entry->size, header_size + (int)payload_size + 1);
	assert_int_equal(entry->topic_hash, message.topic_hash);
	assert_int_equal(entry_topic_size(entry), message.topic_size);
	assert_memory_equal(block_topic(block, i), topic, message.topic_size);
	assert_memory_equal(frame, header, (size_t)header_size);
	assert_memory_equal(frame + header_size, payload, payload_size);
	assert_int_equal(frame[entry->size - 1], '\n');
}

/* Where retention has come to rest: the keeper's last pass changed nothing. */
static void set_retention(struct fixture *f, uint64_t bytes, uint64_t messages, uint64_t age_us)
{
	f->options.retain_bytes = bytes;
	f->options.retain_messages = messages;
	f->options.retain_age_us = age_us;
	log_set_retention(f->log, &f->options);
}

/* ---- ids and blocks ---- */

static void an_empty_log_has_head_0_and_first_1(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	struct block block;

	epoch_enter(&f->me);
	assert_int_equal(log_head(f->log), 0);
	assert_int_equal(log_first(f->log), 1);
	assert_int_equal(log_block(f->log, 1, log_head(f->log), &block), BLOCK_END);
	assert_int_equal(log_block(f->log, 0, log_head(f->log), &block), BLOCK_DROPPED);
	assert_int_equal(log_find_time(f->log, 0, NULL), 1);
	assert_int_equal(log_find_time(f->log, UINT64_MAX, NULL), 1);
	epoch_leave(&f->me);
	end(f);
}

static void every_log_has_an_identity_and_a_hash_key_of_its_own(void **state)
{
	(void)state;
	struct fixture *a = begin(SMALL, 0, 0, 0), *b = begin(SMALL, 0, 0, 0);
	/* One chance in 2^32 each to be wrong by accident: not both. */
	assert_false(log_identity(a->log) == log_identity(b->log) &&
	             log_hash_key(a->log) == log_hash_key(b->log));
	end(a);
	end(b);
}

static void ids_are_dense_over_segments_and_every_byte_is_there(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	const struct segment *last = NULL;
	uint64_t last_time = 0, id = 1;
	unsigned segments = 0;

	for (int i = 0; i < 5000; i++)
		append(f, varied_size(f->appended + 1));
	assert_int_equal(head(f), 5000);
	epoch_enter(&f->me);
	for (struct block block; log_block(f->log, id, 5000, &block) == BLOCK_HERE;) {
		assert_int_equal(block.first, id);
		assert_true(block.count >= 1 && block.count <= BLOCK_ENTRIES);
		if (block.segment != last) {
			assert_int_equal(block.index, 0);
			segments++;
		}
		last = block.segment;
		for (uint32_t i = 0; i < block.count; i++, id++) {
			check_entry(&block, i, varied_size(id));
			assert_true(entry_time_us(block_entry(&block, i)) >= last_time);
			last_time = entry_time_us(block_entry(&block, i));
		}
	}
	epoch_leave(&f->me);
	assert_int_equal(id, 5001);
	assert_true(segments > 10);
	assert_int_equal(figures(f).segments, segments);
	end(f);
}

static void a_batch_goes_on_in_the_next_segment(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	struct message messages[BATCH];
	char topics[BATCH][32];

	while (f->appended < 64 * BATCH) {
		size_t done = 0, n;
		for (uint64_t i = 0; i < BATCH; i++)
			messages[i] = message_of(f->appended + i + 1, topics[i], 700);
		while (done < BATCH) {
			uint64_t seen = wake_value(f->wake);
			epoch_enter(&f->me);
			enum log_verdict verdict =
				log_append(f->log, messages + done, BATCH - done, &n);
			epoch_leave(&f->me);
			assert_int_not_equal(verdict, LOG_FULL);
			assert_true(verdict == LOG_NO_SEGMENT || n == BATCH - done);
			done += n;
			if (verdict == LOG_NO_SEGMENT)
				WAIT_FOR(wake_value(f->wake) != seen);
		}
		for (uint64_t i = 0; i < BATCH; i++)
			assert_int_equal(messages[i].id, ++f->appended);
	}
	assert_int_equal(head(f), f->appended);
	assert_true(figures(f).segments > 10);
	end(f);
}

static void blocks_end_where_the_index_is_a_multiple_of_their_size(void **state)
{
	(void)state;
	struct fixture *f = begin(32 * LARGE, 0, 0, 0);
	struct block block;

	append_many(f, 3 * BLOCK_ENTRIES + 100, 0); /* all in one segment */
	epoch_enter(&f->me);
	const uint64_t upto = log_head(f->log);
	static const struct {
		uint64_t id, upto, count;
	} cases[] = {
		{1, UINT64_MAX, BLOCK_ENTRIES},
		{2, UINT64_MAX, BLOCK_ENTRIES - 1},
		{BLOCK_ENTRIES, UINT64_MAX, 1},
		{BLOCK_ENTRIES + 1, UINT64_MAX, BLOCK_ENTRIES},
		{1, 1, 1},
		{1, BLOCK_ENTRIES, BLOCK_ENTRIES},
		{1, BLOCK_ENTRIES - 1, BLOCK_ENTRIES - 1},
		{3, 7, 5},
		{BLOCK_ENTRIES, BLOCK_ENTRIES + 1, 1},
		{3 * BLOCK_ENTRIES + 1, UINT64_MAX, 100},
		{3 * BLOCK_ENTRIES + 100, UINT64_MAX, 1},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint64_t limit = cases[i].upto > upto ? upto : cases[i].upto;
		assert_int_equal(log_block(f->log, cases[i].id, limit, &block), BLOCK_HERE);
		assert_int_equal(block.first, cases[i].id);
		assert_int_equal(block.index, cases[i].id - 1);
		assert_int_equal(block.count, cases[i].count);
		check_entry(&block, 0, 0);
		check_entry(&block, block.count - 1, 0);
	}
	assert_int_equal(log_block(f->log, upto + 1, upto, &block), BLOCK_END);
	assert_int_equal(log_block(f->log, 6, 5, &block), BLOCK_END);
	epoch_leave(&f->me);
	end(f);
}

static void looking_back_begins_where_the_block_begins(void **state)
{
	(void)state;
	struct fixture *f = begin(32 * LARGE, 0, 0, 0);
	struct block block;

	append_many(f, 2 * BLOCK_ENTRIES + 10, 0);
	epoch_enter(&f->me);
	uint64_t id = log_head(f->log);
	static const uint64_t counts[] = {10, BLOCK_ENTRIES, BLOCK_ENTRIES};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(log_block_back(f->log, id, &block), BLOCK_HERE);
		assert_int_equal(block.count, counts[i]);
		assert_int_equal(block.first + block.count - 1, id);
		check_entry(&block, 0, 0);
		check_entry(&block, block.count - 1, 0);
		id -= block.count;
	}
	assert_int_equal(id, 0);
	assert_int_equal(log_block_back(f->log, 0, &block), BLOCK_DROPPED);
	assert_int_equal(log_block_back(f->log, 1, &block), BLOCK_HERE);
	assert_int_equal(block.count, 1);
	epoch_leave(&f->me);
	end(f);
}

/* From the newest to the oldest over many segments: each id once, as looking forward sees them. */
static void looking_back_sees_the_same_as_looking_forward(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	struct block back, forward;

	for (int i = 0; i < 3000; i++)
		append(f, varied_size(f->appended + 1));
	epoch_enter(&f->me);
	uint64_t id = log_head(f->log);
	assert_int_equal(id, 3000);
	while (id > 0) {
		assert_int_equal(log_block_back(f->log, id, &back), BLOCK_HERE);
		assert_int_equal(back.first + back.count - 1, id);
		assert_int_equal(back.index % BLOCK_ENTRIES, 0);
		assert_int_equal(log_block(f->log, back.first, id, &forward), BLOCK_HERE);
		assert_ptr_equal(back.segment, forward.segment);
		assert_int_equal(back.index, forward.index);
		assert_int_equal(back.count, forward.count);
		check_entry(&back, back.count - 1, varied_size(id));
		id = back.first - 1;
	}
	epoch_leave(&f->me);
	end(f);
}

/* ---- the head ---- */

static struct segment *tail_of(struct fixture *f)
{
	return atomic_load_pointer_acquire(&f->log->tail);
}

/* How many of the pages from `at` on, n bytes, are in memory. */
static size_t count_pages(const struct segment *segment, size_t at, size_t n)
{
	static unsigned char is_there[(16 << 20) / PAGE];
	size_t count = 0;

	at -= at % PAGE;
	assert_int_equal(mincore(segment_map(segment) + at, n, is_there), 0);
	for (size_t i = 0; i < (n + PAGE - 1) / PAGE; i++)
		count += is_there[i] & 1;
	return count;
}

/* Whether the next appends find their pages there. */
static bool is_ready(const struct segment *segment)
{
	uint64_t state = atomic64_load_acquire(&segment->state);
	size_t used = SEGMENT_HEADER_SIZE + state_bytes(state);
	size_t index = state_entries(state) * sizeof(struct entry);

	return count_pages(segment, used, 4 * PAGE) == 4 &&
	       count_pages(segment, segment->size - index - 1, 1) == 1;
}

static void publishers_find_their_pages_ready_and_an_empty_log_is_small(void **state)
{
	(void)state;
	struct fixture *f = begin(16 * LARGE, 0, 0, 0);
	const struct segment *tail = tail_of(f);

	if (pages_populate(segment_map(tail), PAGE, true) != 0) {
		end(f);
		skip(); /* the kernel is too old for that */
	}
	WAIT_FOR(is_ready(tail));
	assert_true(count_pages(tail, 0, tail->size) * PAGE <= 128 << 10);
	while (f->appended < 8000) {
		append_many(f, 50, 500);
		WAIT_FOR(is_ready(tail));
	}
	assert_ptr_equal(tail_of(f), tail);
	size_t used =
		state_bytes(atomic64_load_acquire(&tail->state)) + 8000 * sizeof(struct entry);
	assert_true(count_pages(tail, 0, tail->size) * PAGE <= used + LARGE);
	end(f);
}

static void the_head_stops_at_a_claim_that_is_not_committed(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	char topic[32];
	struct claim claim;

	append_many(f, 3, 10);
	struct message late = message_of(4, topic, 100);
	epoch_enter(&f->other);
	struct segment *segment = tail_of(f);
	assert_int_equal(segment_claim(segment, &late, 1, &claim), CLAIM_DONE);
	assert_int_equal(head(f), 3);
	f->appended++;
	append_many(f, 2, 10);
	assert_int_equal(head(f), 3);
	segment_commit(segment, &late, &claim);
	epoch_leave(&f->other);
	assert_int_equal(late.id, 4);
	assert_int_equal(head(f), 6);
	end(f);
}

/* The hole stays behind in a sealed segment: neither the head nor retention passes it. */
static void neither_head_nor_retention_passes_a_hole(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	char topics[2][32];
	struct claim claim;
	size_t appended;
	enum log_verdict verdict;

	append_many(f, 10, 10);
	struct message late = message_of(11, topics[0], 100);
	epoch_enter(&f->other);
	struct segment *segment = tail_of(f);
	assert_int_equal(segment_claim(segment, &late, 1, &claim), CLAIM_DONE);
	f->appended++;
	do { /* as much as goes: nothing can be retired, so that room must end */
		struct message more = message_of(f->appended + 1, topics[1], 1000);
		uint64_t seen = wake_value(f->wake);
		verdict = log_append(f->log, &more, 1, &appended);
		f->appended += appended;
		if (verdict == LOG_NO_SEGMENT && figures(f).bytes < 6 * SMALL) {
			WAIT_FOR(wake_value(f->wake) != seen);
			verdict = LOG_APPENDED;
		}
	} while (verdict == LOG_APPENDED);
	assert_int_equal(verdict, LOG_NO_SEGMENT);
	assert_int_equal(head(f), 10);
	assert_int_equal(first(f), 1);
	assert_true(f->appended > 100);
	segment_commit(segment, &late, &claim);
	epoch_leave(&f->other);
	assert_int_equal(head(f), f->appended);
	append_many(f, 1000, 1000); /* and on it goes */
	assert_int_equal(head(f), f->appended);
	assert_true(first(f) > 11);
	end(f);
}

/* A slot that looks committed but was never claimed is none. */
static void the_head_trusts_no_slot_beyond_what_was_claimed(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);

	append_many(f, 3, 10);
	epoch_enter(&f->me);
	struct segment *tail = tail_of(f);
	for (uint32_t i = 3; i < 6; i++)
		atomic64_store_release(&segment_entry(tail, i)->commit, (1 + i) ^ tail->secret);
	assert_int_equal(log_head(f->log), 3);
	for (uint32_t i = 3; i < 6; i++)
		atomic64_store_release(&segment_entry(tail, i)->commit, 0);
	epoch_leave(&f->me);
	append_many(f, 3, 10);
	assert_int_equal(head(f), 6);
	end(f);
}

/* ---- times ---- */

static void a_time_is_found_whatever_it_is(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	struct block block;
	uint64_t *times = calloc(2001, sizeof *times);

	assert_non_null(times);
	for (int i = 0; i < 2000; i++) {
		uint64_t before = clock_wall_us();
		while (i % 3 == 0 && clock_wall_us() == before)
			; /* so that some neighbours share a time and some don't */
		append(f, varied_size(f->appended + 1));
	}
	epoch_enter(&f->me);
	for (uint64_t id = 1; log_block(f->log, id, 2000, &block) == BLOCK_HERE;)
		for (uint32_t i = 0; i < block.count; i++)
			times[id++] = entry_time_us(block_entry(&block, i));
	for (uint64_t id = 1; id <= 2000; id++) {
		for (uint64_t time = times[id] - 1; time <= times[id] + 1; time++) {
			uint64_t found = log_find_time(f->log, time, NULL);
			assert_true(found >= 1 && found <= 2001);
			if (found <= 2000)
				assert_true(times[found] >= time);
			if (found > 1)
				assert_true(times[found - 1] < time);
		}
	}
	assert_int_equal(log_find_time(f->log, 0, NULL), 1);
	assert_int_equal(log_find_time(f->log, UINT64_MAX >> 8, NULL), 2001);
	epoch_leave(&f->me);
	free(times);
	end(f);
}

static void a_time_older_than_what_is_kept_finds_the_first(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	uint64_t start = clock_wall_us();

	append_many(f, 1000, 1000);
	WAIT_FOR(first(f) > 1);
	epoch_enter(&f->me);
	uint64_t found = log_find_time(f->log, start, NULL), kept_from = log_first(f->log);
	epoch_leave(&f->me);
	/* Retention may have gone on between the two looks. */
	assert_true(found > 1 && found <= kept_from);
	end(f);
}

/* ---- retention ---- */

static void a_reader_that_retention_has_passed_is_told(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	struct block block;

	append_many(f, 1000, 1000);
	WAIT_FOR(first(f) > 1);
	epoch_enter(&f->me);
	uint64_t upto = log_head(f->log);
	assert_int_equal(log_block(f->log, 1, upto, &block), BLOCK_DROPPED);
	assert_int_equal(log_block_back(f->log, 1, &block), BLOCK_DROPPED);
	uint64_t id = log_first(f->log);
	assert_int_equal(log_block(f->log, id - 1, upto, &block), BLOCK_DROPPED);
	assert_int_equal(log_block(f->log, id, upto, &block), BLOCK_HERE);
	assert_int_equal(block.index, 0);
	check_entry(&block, 0, 1000);
	epoch_leave(&f->me);
	end(f);
}

static void retention_by_bytes_keeps_what_fits_and_stays_within_the_bound(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 5 * SMALL, 0, 0);
	uint64_t bound = 7 * SMALL;

	for (int i = 0; i < 20000; i++) {
		append(f, varied_size(f->appended + 1));
		if (i % 8 == 0)
			assert_true(figures(f).bytes <= bound);
	}
	WAIT_FOR(figures(f).segments <= 5);
	/* No more was dropped than had to be: what is kept and one more would not fit. */
	assert_int_equal(figures(f).segments, 5);
	assert_int_equal(figures(f).head, f->appended);
	/* And all this in seven mappings, where the machine never held us up for seconds. */
	assert_true(atomic64_load_acquire(&mappings) <= 2 * 7);
	end(f);
}

static void retention_by_messages_keeps_them_and_an_eighth_more_at_most(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 400, 0);

	for (int i = 0; i < 200; i++) {
		append_many(f, 37, 20);
		if (f->appended >= 400)
			assert_true(kept(f) >= 400);
		/* The oldest's eighth, and the segment being written: an eighth too. */
		WAIT_FOR(kept(f) <= 400 + 50 + 50);
	}
	end(f);
}

static void few_messages_may_be_kept_too(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 1, 0);

	for (int i = 0; i < 100; i++) {
		append(f, 20);
		assert_true(kept(f) >= 1);
		WAIT_FOR(kept(f) <= 1 + 1);
	}
	end(f);
}

static void retention_by_age_drops_all_though_nobody_appends(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 200 * 1000);

	append_many(f, 500, 1000);
	append(f, 10);
	uint64_t newest_us = clock_wall_us();
	WAIT_FOR(kept(f) == 0);
	assert_true(clock_wall_us() >= newest_us + 200 * 1000); /* not sooner than allowed */
	assert_int_equal(first(f), f->appended + 1);
	assert_int_equal(head(f), f->appended);
	/* Idle: what waits for reuse goes back. */
	WAIT_FOR(figures(f).bytes <= TAIL_AND_SPARES * SMALL);
	append(f, 10);
	assert_int_equal(head(f), f->appended);
	assert_int_equal(first(f), f->appended);
	end(f);
}

static void what_is_young_is_kept(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 3600ULL * 1000000);
	append_many(f, 1000, 1000);
	uint64_t value = figures(f).segments;
	append_many(f, 1000, 1000);
	assert_true(figures(f).segments > value);
	assert_int_equal(first(f), 1);
	end(f);
}

static void no_limit_keeps_everything(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	append_many(f, 5000, 1000);
	assert_int_equal(first(f), 1);
	assert_int_equal(kept(f), 5000);
	end(f);
}

static void other_limits_apply_at_once(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);

	append_many(f, 5000, 1000);
	set_retention(f, 0, 100, 0);
	WAIT_FOR(kept(f) < 5000);
	assert_true(kept(f) >= 100);
	set_retention(f, 0, 0, 1000);
	WAIT_FOR(kept(f) == 0);
	set_retention(f, 0, 0, 0);
	append_many(f, 5000, 1000);
	assert_int_equal(kept(f), 5000);
	end(f);
}

/* ---- the bound on memory ---- */

static void lowered_limits_bring_the_memory_down_under_traffic(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 40 * SMALL, 0, 0);

	append_many(f, 5000, 1000);
	assert_true(figures(f).bytes > 6 * SMALL);
	set_retention(f, 4 * SMALL, 0, 0);
	/* Never idle: what is out of use must not wait for a quiet moment. */
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	while (figures(f).bytes > 6 * SMALL) {
		append_many(f, 100, 1000);
		if (clock_mono_ms() > deadline_ms)
			fail_msg("%" PRIu64 " bytes under a bound of %d", figures(f).bytes,
			         6 * SMALL);
	}
	end(f);
}

/*
 * Segments sealed early count for what they hold; when they are out of use they would count whole,
 * and there may be more of them than the bound has room for.
 */
static void segments_that_were_sealed_early_stay_within_the_bound(void **state)
{
	(void)state;
	struct fixture *f = begin(LARGE, 4 * LARGE, 160, 0);
	const uint64_t bound = 6 * (uint64_t)LARGE;

	append_many(f, 500, 1000);
	assert_true(figures(f).segments > 6);
	set_retention(f, 4 * LARGE, 1, 0);
	append_many(f, 40, 1000);
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	while (kept(f) > 25 && clock_mono_ms() < deadline_ms)
		assert_true(figures(f).bytes <= bound);
	assert_true(figures(f).bytes <= bound);
	for (int i = 0; i < 200; i++) {
		append(f, 1000);
		assert_true(figures(f).bytes <= bound);
	}
	end(f);
}

static void what_is_sealed_early_gives_its_middle_back(void **state)
{
	(void)state;
	struct fixture *f = begin(LARGE, 0, 80, 0);

	append_many(f, 200, 100);
	assert_true(figures(f).segments >= 8);
	WAIT_FOR(figures(f).bytes <= (TAIL_AND_SPARES + 2) * (uint64_t)LARGE);
	/* And what it holds is still there. */
	struct block block;
	epoch_enter(&f->me);
	uint64_t upto = log_head(f->log);
	for (uint64_t id = log_first(f->log); log_block(f->log, id, upto, &block) == BLOCK_HERE;) {
		for (uint32_t i = 0; i < block.count; i++)
			check_entry(&block, i, 100);
		id += block.count;
	}
	epoch_leave(&f->me);
	end(f);
}

static void freed_segments_are_used_again(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);

	append_many(f, 20000, 1000); /* some 340 segments */
	/* Six, were it not for machines that hold us up long enough to look idle. */
	assert_true(atomic64_load_acquire(&mappings) <= 2 * 6);
	assert_int_equal(head(f), f->appended);
	end(f);
}

/* ---- no room ---- */

/* A section that stays open holds up reclamation: at the bound, appends must wait for it. */
static void without_a_segment_appending_waits_for_a_ring(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);
	char topic[32];
	size_t appended;
	uint64_t seen;

	append_many(f, 1000, 1000);
	epoch_enter(&f->other);
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	unsigned failures = 0;
	while (failures < 20) { /* the bound is reached: no ring helps any more */
		struct message message = message_of(f->appended + 1, topic, 1000);
		seen = wake_value(f->wake);
		epoch_enter(&f->me);
		enum log_verdict verdict = log_append(f->log, &message, 1, &appended);
		epoch_leave(&f->me);
		assert_true(clock_mono_ms() < deadline_ms);
		assert_int_not_equal(verdict, LOG_FULL);
		assert_int_equal(appended, verdict == LOG_APPENDED);
		f->appended += appended;
		failures = verdict == LOG_APPENDED ? 0 : failures + 1;
		assert_true(figures(f).bytes <= 6 * SMALL);
		if (verdict == LOG_NO_SEGMENT)
			(void)poll(NULL, 0, 1);
	}
	epoch_leave(&f->other);
	WAIT_FOR(wake_value(f->wake) != seen);
	append_many(f, 1000, 1000);
	assert_int_equal(head(f), f->appended);
	end(f);
}

static void without_memory_appending_is_refused_until_there_is_some(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 0, 0, 0);
	char topic[32];
	enum log_verdict verdict;
	size_t appended;

	append_many(f, 100, 1000);
	atomic32_store_relaxed(&is_out_of_memory, 1);
	uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	do {
		struct message message = message_of(f->appended + 1, topic, 1000);
		uint64_t seen = wake_value(f->wake);
		epoch_enter(&f->me);
		verdict = log_append(f->log, &message, 1, &appended);
		epoch_leave(&f->me);
		f->appended += appended;
		assert_true(clock_mono_ms() < deadline_ms);
		if (verdict == LOG_NO_SEGMENT) /* who waits is rung though there is none */
			WAIT_FOR(wake_value(f->wake) != seen);
	} while (verdict != LOG_FULL);
	assert_int_equal(appended, 0);
	/* All that was accepted can be read. */
	assert_int_equal(head(f), f->appended);
	assert_int_equal(first(f), 1);
	atomic32_store_relaxed(&is_out_of_memory, 0);
	do {
		struct message message = message_of(f->appended + 1, topic, 1000);
		epoch_enter(&f->me);
		verdict = log_append(f->log, &message, 1, &appended);
		epoch_leave(&f->me);
		assert_true(clock_mono_ms() < deadline_ms);
		(void)poll(NULL, 0, 1);
	} while (verdict != LOG_APPENDED);
	f->appended++;
	append_many(f, 1000, 1000);
	assert_int_equal(head(f), f->appended);
	end(f);
}

/* At the bound no new memory is needed: that there is none goes unnoticed. */
static void without_memory_a_bounded_log_goes_on(void **state)
{
	(void)state;
	struct fixture *f = begin(SMALL, 4 * SMALL, 0, 0);

	append_many(f, 2000, 1000);
	WAIT_FOR(atomic64_load_acquire(&mappings) == 6);
	atomic32_store_relaxed(&is_out_of_memory, 1);
	append_many(f, 5000, 1000);
	assert_int_equal(head(f), f->appended);
	atomic32_store_relaxed(&is_out_of_memory, 0);
	end(f);
}

static void without_memory_no_log_is_opened(void **state)
{
	(void)state;
	const struct log_options options = {.segment_size = SMALL};
	struct wake *wake = wake_new(1);

	assert_non_null(wake);
	atomic32_store_relaxed(&is_out_of_memory, 1);
	struct log *log = log_open(&options, wake, error, sizeof error);
	atomic32_store_relaxed(&is_out_of_memory, 0);
	assert_null(log);
	log_close(NULL);
	wake_free(wake);
}

/* ---- without files ---- */

static void a_log_in_memory_has_nothing_to_sync_and_says_so(void **state)
{
	(void)state;
	const struct log_options options = {.segment_size = SMALL, .dir = ""};
	struct wake *wake = wake_new(1);
	struct log *log = log_open(&options, wake, error, sizeof error);

	assert_non_null(log);
	assert_string_equal(log_sync_word(log), "memory");
	assert_null(log_syncer_beat(log));
	log_set_sync_interval(log, 1);
	log_stir(log);
	assert_false(log_has_failed(log));
	assert_false(log_is_final(log));
	log_close(log);
	wake_free(wake);
}

static void however_few_messages_are_to_be_kept_a_segment_holds_one(void **state)
{
	(void)state;
	assert_int_equal(keeper_max_entries(0), INT32_MAX);
	assert_int_equal(keeper_max_entries(1), 1);
	assert_int_equal(keeper_max_entries(7), 1);
	assert_int_equal(keeper_max_entries(80), 10);
	assert_int_equal(keeper_max_entries(UINT64_MAX), INT32_MAX);
}

/* An argument is a pattern: only tests whose names match it are run. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_log_has_head_0_and_first_1),
		cmocka_unit_test(every_log_has_an_identity_and_a_hash_key_of_its_own),
		cmocka_unit_test(ids_are_dense_over_segments_and_every_byte_is_there),
		cmocka_unit_test(a_batch_goes_on_in_the_next_segment),
		cmocka_unit_test(blocks_end_where_the_index_is_a_multiple_of_their_size),
		cmocka_unit_test(looking_back_begins_where_the_block_begins),
		cmocka_unit_test(looking_back_sees_the_same_as_looking_forward),
		cmocka_unit_test(publishers_find_their_pages_ready_and_an_empty_log_is_small),
		cmocka_unit_test(the_head_stops_at_a_claim_that_is_not_committed),
		cmocka_unit_test(neither_head_nor_retention_passes_a_hole),
		cmocka_unit_test(the_head_trusts_no_slot_beyond_what_was_claimed),
		cmocka_unit_test(a_time_is_found_whatever_it_is),
		cmocka_unit_test(a_time_older_than_what_is_kept_finds_the_first),
		cmocka_unit_test(a_reader_that_retention_has_passed_is_told),
		cmocka_unit_test(retention_by_bytes_keeps_what_fits_and_stays_within_the_bound),
		cmocka_unit_test(retention_by_messages_keeps_them_and_an_eighth_more_at_most),
		cmocka_unit_test(few_messages_may_be_kept_too),
		cmocka_unit_test(retention_by_age_drops_all_though_nobody_appends),
		cmocka_unit_test(what_is_young_is_kept),
		cmocka_unit_test(no_limit_keeps_everything),
		cmocka_unit_test(other_limits_apply_at_once),
		cmocka_unit_test(lowered_limits_bring_the_memory_down_under_traffic),
		cmocka_unit_test(segments_that_were_sealed_early_stay_within_the_bound),
		cmocka_unit_test(what_is_sealed_early_gives_its_middle_back),
		cmocka_unit_test(freed_segments_are_used_again),
		cmocka_unit_test(without_a_segment_appending_waits_for_a_ring),
		cmocka_unit_test(without_memory_appending_is_refused_until_there_is_some),
		cmocka_unit_test(without_memory_a_bounded_log_goes_on),
		cmocka_unit_test(without_memory_no_log_is_opened),
		cmocka_unit_test(a_log_in_memory_has_nothing_to_sync_and_says_so),
		cmocka_unit_test(however_few_messages_are_to_be_kept_a_segment_holds_one),
	};
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (char)(i * 7 >> 2);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
