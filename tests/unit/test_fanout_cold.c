/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=log_block,--wrap=log_block_back,--wrap=log_want,--wrap=log_warmed,--wrap=clock_mono_us */
/*
 * The fan-out where the log is not all there: segments that are cold, ids that can't be read, and
 * what is found out to be damaged while it is sent. The log is a real one in memory, of which the
 * test says what is cold and what is missing. What a follower gets is compared, id by id, with what
 * it must get. PSAD_TEST_SEED repeats the random test.
 */
#include "net/fanout.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chance.h"
#include "deadline.h"
#include "own_time.h"
#include "base/buf.h"
#include "wire/pattern.h"

enum {
	IDS_MAX = 4000,
	SEGMENTS_MAX = 80,
	FOLLOWERS = 6,
	PAYLOAD = 1000,
};

static char error_text[LOG_ERROR_MAX];
static char payload[PAYLOAD];

/* ---- the log, and what of it is not there ---- */

static struct epoch_thread me;
static struct log *the_log;
static struct wake *wake;
static struct counters counters;
static struct fanout *fanout;
static uint64_t appended;

static char missing[IDS_MAX + 2];    /* by id: V, L, D, or 0 */
static uint64_t bases[SEGMENTS_MAX]; /* first ids of all segments */
static size_t segments;
static bool is_cold[SEGMENTS_MAX], is_wanted[SEGMENTS_MAX];
static uint64_t warmed;
static unsigned looks, wants;
static bool is_damaged_next; /* what is found next is found out to be damaged while it is read */

enum block_verdict __real_log_block(struct log *log, uint64_t id, uint64_t upto,
                                    struct block *block);
enum block_verdict __wrap_log_block(struct log *log, uint64_t id, uint64_t upto,
                                    struct block *block);
enum block_verdict __real_log_block_back(struct log *log, uint64_t id, struct block *block);
enum block_verdict __wrap_log_block_back(struct log *log, uint64_t id, struct block *block);
void __wrap_log_want(struct log *log, const struct block *block);
uint64_t __wrap_log_warmed(const struct log *log);

static size_t segment_of(uint64_t id)
{
	size_t n = segments;
	while (n > 1 && bases[n - 1] > id)
		n--;
	return n - 1;
}

static enum loss loss_of(char letter)
{
	return letter == 'V' ? LOSS_VOID : letter == 'L' ? LOSS_LOST : LOSS_DAMAGED;
}

static void damage_if_next(const struct block *block)
{
	if (is_damaged_next)
		((struct segment *)(uintptr_t)block->segment)->is_damaged = 1;
	is_damaged_next = false;
}

static enum block_verdict become_gap(struct block *block, uint64_t first, uint64_t last)
{
	*block = (struct block){.segment = block->segment,
	                        .first = first,
	                        .last = last,
	                        .loss = loss_of(missing[first])};
	return BLOCK_GAP;
}

enum block_verdict __wrap_log_block(struct log *log, uint64_t id, uint64_t upto,
                                    struct block *block)
{
	enum block_verdict verdict = __real_log_block(log, id, upto, block);

	looks++;
	if (verdict != BLOCK_HERE)
		return verdict;
	if (segments > 0 && is_cold[segment_of(id)]) {
		block->map = NULL;
		return BLOCK_COLD;
	}
	uint64_t last = id;
	if (missing[id] != 0) {
		while (last < upto && last < block_segment_last(block) &&
		       missing[last + 1] == missing[id])
			last++;
		return become_gap(block, id, last);
	}
	while (last < id + block->count - 1 && missing[last + 1] == 0)
		last++;
	block->count = (uint32_t)(last - id) + 1;
	damage_if_next(block);
	return BLOCK_HERE;
}

enum block_verdict __wrap_log_block_back(struct log *log, uint64_t id, struct block *block)
{
	enum block_verdict verdict = __real_log_block_back(log, id, block);

	looks++;
	if (verdict != BLOCK_HERE)
		return verdict;
	if (segments > 0 && is_cold[segment_of(id)]) {
		block->map = NULL;
		return BLOCK_COLD;
	}
	uint64_t first = id;
	if (missing[id] != 0) {
		while (first > block_segment_first(block) && missing[first - 1] == missing[id])
			first--;
		return become_gap(block, first, id);
	}
	while (first > block->first && missing[first - 1] == 0)
		first--;
	block->index += (uint32_t)(first - block->first);
	block->count -= (uint32_t)(first - block->first);
	block->first = first;
	damage_if_next(block);
	return BLOCK_HERE;
}

void __wrap_log_want(struct log *log, const struct block *block)
{
	(void)log;
	wants++;
	is_wanted[segment_of(block_segment_first(block))] = true;
}

uint64_t __wrap_log_warmed(const struct log *log)
{
	(void)log;
	return warmed;
}

static void warm(size_t segment)
{
	is_cold[segment] = is_wanted[segment] = false;
	warmed++;
}

static const char *topic_of(uint64_t id)
{
	return id % 3 == 0 ? "b" : "a";
}

static void append_many(unsigned count)
{
	while (count-- > 0) {
		const char *topic = topic_of(appended + 1);
		struct message message = {.topic = topic,
		                          .topic_size = 1,
		                          .payload = payload,
		                          .payload_size = (uint32_t)((appended + 1) * 7 % PAYLOAD)};
		size_t n = 0;
		message.topic_hash =
			topic_hash(log_hash_key(the_log), (struct slice){.at = topic, .n = 1});
		while (n == 0) {
			epoch_enter(&me);
			(void)log_append(the_log, &message, 1, &n);
			epoch_leave(&me);
			if (n == 0)
				(void)poll(NULL, 0, 1);
		}
		appended = message.id;
	}
}

/* Where segments begin; each has its summary from then on, but for the last. */
static void survey(void)
{
	struct block block;

	segments = 0;
	for (uint64_t id = 1; id <= appended;) {
		epoch_enter(&me);
		assert_int_equal(__real_log_block(the_log, id, appended, &block), BLOCK_HERE);
		bases[segments++] = id;
		id = block_segment_last(&block) + 1;
		epoch_leave(&me);
		if (id <= appended)
			WAIT_FOR(segment_has_summary(block.segment));
	}
}

/* ---- followers ---- */

struct fake {
	struct follower follower;
	struct buf stream; /* all that it was sent, gaps included */
	const char *patterns;
	size_t accepts;     /* so many bytes, then it is full */
	unsigned gap_limit; /* so many gap lines, then it is full */
	int failure;        /* of the next write */
	uint64_t start;
	unsigned found, arrived, lost;
};

static struct fake fakes[FOLLOWERS];

static ssize_t fake_write(struct follower *follower, const struct iovec *iov, int count,
                          size_t size)
{
	struct fake *fake = (struct fake *)(void *)follower;
	size_t left = size < fake->accepts ? size : fake->accepts, taken = left;

	if (fake->failure != 0) {
		int failure = fake->failure;
		fake->failure = 0;
		return failure;
	}
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
		assert_int_equal(buf_append(&fake->stream, iov[i].iov_base, n), 0);
		left -= n;
	}
	if (fake->accepts != SIZE_MAX)
		fake->accepts -= taken;
	return (ssize_t)taken;
}

static int fake_owe(struct follower *follower, uint64_t id, uint32_t from, const char *rest,
                    uint32_t n)
{
	struct fake *fake = (struct fake *)(void *)follower;
	(void)id;
	(void)from;
	return buf_append(&fake->stream, rest, n); /* as if it was sent at once */
}

static int fake_gap(struct follower *follower, uint64_t from, uint64_t to, enum gap_reason reason)
{
	struct fake *fake = (struct fake *)(void *)follower;
	char text[64];
	int n = sprintf(text, "GAP %" PRIu64 " %" PRIu64 " %s\n", from, to, gap_word(reason));

	/* PING is right at any time: it stands at the end of what has been said. */
	assert_true(from <= to && to <= follower->end && follower->position == to);
	if (buf_append(&fake->stream, text, (size_t)n) != 0)
		return -ENOMEM;
	if (fake->gap_limit == 0)
		return 0;
	return --fake->gap_limit == 0;
}

static void fake_found(struct follower *follower)
{
	struct fake *fake = (struct fake *)(void *)follower;
	assert_int_equal(follower->state, FOLLOWER_BLOCKED);
	fake->start = follower->position;
	fake->found++;
}

static void fake_arrived(struct follower *follower)
{
	((struct fake *)(void *)follower)->arrived++;
}

static void fake_lost(struct follower *follower)
{
	((struct fake *)(void *)follower)->lost++;
}

static const struct fanout_calls calls = {
	.write = fake_write,
	.owe = fake_owe,
	.gap = fake_gap,
	.found = fake_found,
	.arrived = fake_arrived,
	.lost = fake_lost,
};

static struct fake *prepare(unsigned i, const char *patterns, uint64_t start)
{
	struct fake *fake = &fakes[i];

	*fake = (struct fake){.patterns = patterns, .accepts = SIZE_MAX, .start = start};
	fake->follower.position = start;
	fake->follower.end = fake->follower.limit = FOLLOW_FOREVER;
	assert_int_equal(fanout_add_patterns(fanout, &fake->follower,
	                                     (struct slice){.at = patterns, .n = strlen(patterns)},
	                                     false),
	                 0);
	return fake;
}

static struct fake *join(unsigned i, const char *patterns, uint64_t start)
{
	struct fake *fake = prepare(i, patterns, start);
	fanout_start(fanout, &fake->follower);
	return fake;
}

static bool wants_id(const struct fake *fake, uint64_t id)
{
	return strchr(fake->patterns, '>') != NULL ||
	       strchr(fake->patterns, topic_of(id)[0]) != NULL;
}

/* Runs until nobody can go on. */
static void run(void)
{
	for (int i = 0; fanout_step(fanout, false); i++)
		assert_true(i < 100000);
}

/* What the stream says of each id: M, the letter of a gap, or a dot. Ids only grow. */
static void parse(const struct fake *fake, char *got)
{
	static char text[1 << 23];
	size_t n = buf_size(&fake->stream), at = 0;
	uint64_t last = 0;

	assert_true(n < sizeof text);
	if (n > 0)
		memcpy(text, buf_begin(&fake->stream), n);
	text[n] = '\0';
	memset(got, '.', IDS_MAX);
	got[IDS_MAX] = '\0';
	while (at < n) {
		uint64_t first, to;
		char word[260];
		unsigned size;
		int used = 0;
		if (sscanf(text + at, "GAP %" SCNu64 " %" SCNu64 " %255s\n%n", &first, &to, word,
		           &used) == 3) {
			assert_true(first > last && first <= to);
			char letter = word[0] == 'v'   ? 'V'
			              : word[0] == 'l' ? 'L'
			              : word[0] == 'd' ? 'D'
			                               : 'R';
			memset(got + first, letter, to - first + 1);
			last = to;
			at += (size_t)(strchr(text + at, '\n') + 1 - (text + at));
			continue;
		}
		if (sscanf(text + at, "MSG %" SCNu64 " %255s %u", &first, word, &size) != 3)
			fail_msg("what is \"%.60s\"?", text + at);
		assert_true(first > last && size == first * 7 % PAYLOAD);
		assert_string_equal(word, topic_of(first));
		const char *body = strchr(text + at, '\n') + 1;
		assert_memory_equal(body, payload, size);
		assert_int_equal(body[size], '\n');
		at = (size_t)(body + size + 1 - text);
		got[first] = 'M';
		last = first;
	}
}

/* It got what it had to, from its start to `end`, at most `limit` messages. */
static void check(const struct fake *fake, uint64_t end, uint64_t limit)
{
	static char got[IDS_MAX + 1], expected[IDS_MAX + 1];

	memset(expected, '.', IDS_MAX);
	expected[IDS_MAX] = '\0';
	for (uint64_t id = fake->start + 1; id <= end && limit > 0; id++) {
		if (missing[id] != 0)
			expected[id] = missing[id];
		else if (wants_id(fake, id))
			expected[id] = 'M';
		limit -= expected[id] == 'M';
	}
	parse(fake, got);
	for (uint64_t id = 1; id < IDS_MAX; id++)
		if (got[id] != expected[id])
			fail_msg("from %" PRIu64 ": at %" PRIu64 " it got %c and not %c",
			         fake->start, id, got[id], expected[id]);
}

static int begin_with(size_t segment_size)
{
	const struct log_options options = {.segment_size = segment_size};
	wake = wake_new(1);
	the_log = log_open(&options, wake, error_text, sizeof error_text);
	assert_non_null(the_log);
	memset(&me, 0, sizeof me);
	memset(&counters, 0, sizeof counters);
	memset(missing, 0, sizeof missing);
	memset(is_cold, 0, sizeof is_cold);
	memset(is_wanted, 0, sizeof is_wanted);
	memset(fakes, 0, sizeof fakes);
	epoch_register(log_epoch(the_log), &me);
	appended = segments = warmed = looks = wants = 0;
	is_damaged_next = false;
	fanout = fanout_new(the_log, &me, &counters, &calls);
	assert_non_null(fanout);
	return 0;
}

static int begin(void **state)
{
	(void)state;
	return begin_with(SEGMENT_SIZE_MIN);
}

static int begin_large(void **state)
{
	(void)state;
	return begin_with(1 << 20);
}

static int end(void **state)
{
	(void)state;
	while (epoch_is_inside(&me)) /* where an assertion was not met */
		epoch_leave(&me);
	for (size_t i = 0; i < FOLLOWERS; i++) {
		fanout_leave(fanout, &fakes[i].follower);
		buf_clear(&fakes[i].stream);
	}
	fanout_free(fanout);
	log_close(the_log);
	wake_free(wake);
	return 0;
}

static void lose_ids(uint64_t from, uint64_t to, char letter)
{
	memset(missing + from, letter, to - from + 1);
}

/* ---- cold ---- */

static void who_meets_what_is_cold_waits_and_costs_nothing(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	is_cold[0] = is_cold[3] = true;
	struct fake *fake = join(0, ">", 0);
	run();
	assert_int_equal(fake->follower.state, FOLLOWER_COLD);
	assert_true(is_wanted[0]);
	assert_int_equal(buf_size(&fake->stream), 0);
	/* The worker has nothing to do, and sleeps on the log. */
	assert_true(fanout_is_following(fanout));
	unsigned looked = looks, wanted = wants;
	for (int i = 0; i < 1000; i++)
		assert_false(fanout_step(fanout, false));
	/* One look a step is the walk's, for what is new. */
	assert_true(looks <= looked + 1000);
	assert_int_equal(wants, wanted);
	warm(0);
	run();
	assert_int_equal(fake->follower.state, FOLLOWER_COLD);
	assert_true(fanout_position(fanout, &fake->follower) == bases[3] - 1);
	warm(3);
	run();
	assert_int_equal(fake->follower.state, FOLLOWER_LIVE);
	check(fake, appended, UINT64_MAX);
}

static void what_was_warmed_may_be_cold_again(void **state)
{
	(void)state;
	append_many(200);
	survey();
	is_cold[0] = true;
	struct fake *fake = join(0, "a", 0);
	for (int i = 0; i < 5; i++) {
		run();
		is_wanted[0] = false;
		warmed++; /* something else */
		run();
		assert_true(is_wanted[0]);
		assert_int_equal(fake->follower.state, FOLLOWER_COLD);
	}
	warm(0);
	run();
	check(fake, appended, UINT64_MAX);
}

static void others_go_on_and_rounds_end_meanwhile(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	struct fake *live = join(0, ">", appended);
	run();
	assert_int_equal(live->follower.state, FOLLOWER_LIVE);
	is_cold[1] = true;
	struct fake *cold = join(1, ">", 0);
	run();
	assert_int_equal(cold->follower.state, FOLLOWER_COLD);
	(void)fanout_round(fanout);
	for (int i = 0; i < 10; i++) {
		append_many(20);
		run();
		assert_int_equal(fanout_round(fanout), ROUND_DONE);
		check(live, appended, UINT64_MAX); /* before the other one gets anything */
		assert_int_equal(cold->follower.state, FOLLOWER_COLD);
	}
	warm(1);
	run();
	check(cold, appended, UINT64_MAX);
}

static void who_waits_lags(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	is_cold[1] = true;
	struct fake *fake = join(0, ">", 0);
	run();
	assert_int_equal(counters.lagging_subscribers, 1);
	assert_true(counters.lowest_position == bases[1] - 1);
	warm(1);
	run();
	assert_int_equal(counters.lagging_subscribers, 0);
	check(fake, appended, UINT64_MAX);
}

static void what_can_hold_nothing_is_passed_by_cold(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	for (size_t i = 0; i + 1 < segments; i++)
		is_cold[i] = true;
	struct fake *fake = join(0, "nothing.like.it", 0);
	run();
	assert_int_equal(fake->follower.state, FOLLOWER_LIVE);
	struct fake *last = prepare(1, "nothing.like.it", appended);
	last->follower.seek = 5;
	fanout_start(fanout, &last->follower);
	run();
	assert_int_equal(last->found, 1);
	assert_int_equal(wants, 0);
}

static void who_leaves_or_is_given_an_end_need_not_wait(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	is_cold[1] = true;
	struct fake *gone = join(0, ">", 0), *ended = join(1, ">", 0);
	run();
	fanout_leave(fanout, &gone->follower);
	assert_int_equal(gone->follower.state, FOLLOWER_IDLE);
	fanout_set_end(fanout, &ended->follower, bases[1] - 1);
	run();
	assert_int_equal(ended->arrived, 1);
	check(ended, bases[1] - 1, UINT64_MAX);
	assert_false(fanout_is_following(fanout));
}

static void last_n_goes_back_over_what_is_cold(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	for (size_t i = 0; i < segments; i++)
		is_cold[i] = true;
	lose_ids(980, 990, 'D');
	struct fake *fake = prepare(0, "b", appended);
	fake->follower.seek = 100;
	fanout_start(fanout, &fake->follower);
	while (fake->found == 0) {
		run();
		assert_int_equal(fake->follower.state, FOLLOWER_COLD);
		for (size_t i = 0; i < segments; i++)
			if (is_wanted[i])
				warm(i);
		run();
	}
	fanout_resume(fanout, &fake->follower);
	run();
	/* 100 that can be read: the eleven that can't hold 4 that matched. */
	assert_true(fake->start == 999 - 3 * 103 - 1 || fake->start == 999 - 3 * 102 - 1);
	check(fake, appended, UINT64_MAX);
}

static void the_walk_does_not_wait_for_what_is_cold(void **state)
{
	(void)state;
	append_many(100);
	struct fake *one = join(0, ">", appended), *other = join(1, "b", appended);
	run();
	append_many(900);
	survey();
	is_cold[segment_of(101)] = is_cold[segment_of(101) + 1] = true;
	run(); /* and ends */
	assert_int_equal(one->follower.state, FOLLOWER_COLD);
	assert_int_equal(other->follower.state, FOLLOWER_COLD);
	warm(segment_of(101));
	run();
	warm(segment_of(101) + 1);
	run();
	assert_int_equal(one->follower.state, FOLLOWER_LIVE);
	check(one, appended, UINT64_MAX);
	check(other, appended, UINT64_MAX);
}

static void the_rest_of_a_message_can_be_cold(void **state)
{
	(void)state;
	struct rest rest;
	append_many(100);
	survey();
	is_cold[0] = true;
	epoch_enter(&me);
	assert_int_equal(fanout_find_rest(fanout, 5, 3, &rest), REST_COLD);
	assert_true(is_wanted[0]);
	warm(0);
	assert_int_equal(fanout_find_rest(fanout, 5, 3, &rest), REST_HERE);
	assert_memory_equal(rest.bytes.iov_base, " 5 a", 4);
	lose_ids(5, 5, 'D');
	assert_int_equal(fanout_find_rest(fanout, 5, 3, &rest), REST_GONE);
	epoch_leave(&me);
}

/* ---- gaps ---- */

static void gaps_have_their_reasons_and_exact_borders(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	lose_ids(1, 3, 'V');
	lose_ids(4, 4, 'L');
	lose_ids(10, 20, 'D');
	lose_ids(bases[2] - 5, bases[2] + 5, 'L'); /* over a border of segments */
	lose_ids(bases[3], bases[4] - 1, 'D');     /* a whole one */
	lose_ids(999, 1000, 'V');
	struct fake *all = join(0, ">", 0), *some = join(1, "b", 15);
	run();
	check(all, appended, UINT64_MAX);
	check(some, appended, UINT64_MAX);
	assert_int_equal(all->follower.state, FOLLOWER_LIVE);
	assert_true(fanout_position(fanout, &all->follower) == appended);
}

static void an_end_within_a_gap_is_where_it_ends(void **state)
{
	(void)state;
	append_many(200);
	survey();
	lose_ids(50, 70, 'D');
	for (uint64_t upto = 48; upto < 73; upto++) {
		struct fake *fake = prepare(0, ">", 40);
		fake->follower.end = upto;
		fanout_start(fanout, &fake->follower);
		run();
		assert_int_equal(fake->arrived, 1);
		check(fake, upto, UINT64_MAX);
		assert_true(fake->follower.position == upto);
		fanout_leave(fanout, &fake->follower);
		buf_clear(&fake->stream);
	}
}

static void behind_the_last_message_of_a_limit_nothing_is_said(void **state)
{
	(void)state;
	append_many(200);
	survey();
	lose_ids(50, 70, 'L');
	for (uint64_t limit = 1; limit < 40; limit++) {
		struct fake *fake = prepare(0, "a", 30);
		fake->follower.end = appended;
		fake->follower.limit = limit;
		fanout_start(fanout, &fake->follower);
		run();
		assert_int_equal(fake->arrived, 1);
		check(fake, appended, limit);
		fanout_leave(fanout, &fake->follower);
		buf_clear(&fake->stream);
	}
}

/* It asked for what is kept; what is kept and can't be read is not silent. */
static void quiet_is_only_what_retention_takes(void **state)
{
	(void)state;
	append_many(200);
	survey();
	lose_ids(1, 5, 'D');
	lose_ids(6, 7, 'V');
	struct fake *fake = prepare(0, ">", 0);
	fake->follower.quiet_to = appended;
	fanout_start(fanout, &fake->follower);
	run();
	check(fake, appended, UINT64_MAX);
}

static void a_gap_in_the_walk_is_said_to_each_once(void **state)
{
	(void)state;
	append_many(100);
	struct fake *one = join(0, ">", appended), *other = join(1, "b", appended);
	run();
	lose_ids(110, 120, 'V');
	append_many(100);
	run();
	assert_int_equal(one->follower.state, FOLLOWER_LIVE);
	check(one, appended, UINT64_MAX);
	check(other, appended, UINT64_MAX);
	assert_int_equal(counters.gaps_total, 2);
	assert_int_equal(counters.gap_messages_total, 22);
}

static void who_can_take_no_more_gaps_is_blocked_between_them(void **state)
{
	(void)state;
	append_many(400);
	survey();
	for (uint64_t id = 2; id < 400; id += 2)
		missing[id] = id % 4 == 0 ? 'V' : 'D';
	struct fake *fake = join(0, "c >", 0);
	fake->gap_limit = 1;
	for (int i = 0; fanout_position(fanout, &fake->follower) < appended; i++) {
		assert_true(i < 400);
		run();
		if (fake->follower.state == FOLLOWER_BLOCKED) {
			fake->gap_limit = 1;
			fanout_resume(fanout, &fake->follower);
		}
	}
	check(fake, appended, UINT64_MAX);
}

/* ---- what turns out to be damaged ---- */

/* From id on, to the end of its segment. */
static void expect_damage(uint64_t id)
{
	uint64_t to = segment_of(id) + 1 < segments ? bases[segment_of(id) + 1] - 1 : appended;
	lose_ids(id, to, 'D');
}

static void efault_is_not_the_peers_fault(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	struct fake *fake = prepare(0, ">", 0), *other = prepare(1, "a", bases[2] + 9);
	fake->follower.end = bases[2] + 9;
	fanout_start(fanout, &fake->follower);
	run();
	assert_int_equal(fake->arrived, 1);
	fake->arrived = 0;
	fake->follower.end = FOLLOW_FOREVER;
	fake->failure = -EFAULT;
	fanout_start(fanout, &fake->follower);
	run();
	fanout_start(fanout, &other->follower);
	run();
	assert_int_equal(fake->lost, 0);
	expect_damage(bases[2] + 10);
	check(fake, appended, UINT64_MAX);
	check(other, appended, UINT64_MAX); /* which never tried it */
	assert_int_equal(counters.cut_total, 0);
}

static void efault_in_the_walk_reaches_all_that_are_live(void **state)
{
	(void)state;
	append_many(10);
	struct fake *one = join(0, ">", appended), *other = join(1, ">", appended);
	run();
	append_many(50);
	survey();
	one->failure = -EFAULT;
	run();
	expect_damage(11);
	check(one, appended, UINT64_MAX);
	check(other, appended, UINT64_MAX);
}

static void damage_of(uint64_t id)
{
	struct block block;
	epoch_enter(&me);
	assert_int_equal(__real_log_block(the_log, id, id, &block), BLOCK_HERE);
	log_damage(the_log, &block);
	epoch_leave(&me);
}

/* The mark comes while bytes are being sent. */
static uint64_t damaged_in_write;
static ssize_t damaging_write(struct follower *follower, const struct iovec *iov, int count,
                              size_t size)
{
	ssize_t n = fake_write(follower, iov, count, size);
	if (damaged_in_write != 0)
		damage_of(damaged_in_write);
	damaged_in_write = 0;
	return n;
}

static void what_went_while_it_was_damaged_is_not_trusted(void **state)
{
	(void)state;
	struct fanout_calls others = calls;
	others.write = damaging_write;
	fanout_free(fanout);
	fanout = fanout_new(the_log, &me, &counters, &others);
	append_many(1000);
	survey();
	for (size_t accepts = 0; accepts < 3; accepts++) {
		static const size_t sizes[] = {SIZE_MAX, 700, 0};
		struct fake *fake = prepare((unsigned)accepts, "a", bases[accepts] - 1);
		fake->accepts = sizes[accepts];
		damaged_in_write = bases[accepts];
		fake->follower.end = bases[accepts + 1] - 1;
		fanout_start(fanout, &fake->follower);
		run();
		if (sizes[accepts] > 0) {
			assert_int_equal(fake->lost, 1);
			continue;
		}
		/* Nothing went: it is told. */
		assert_int_equal(fake->lost, 0);
		fake->accepts = SIZE_MAX;
		fanout_resume(fanout, &fake->follower);
		run();
		expect_damage(bases[accepts]);
		check(fake, bases[accepts + 1] - 1, UINT64_MAX);
	}
	assert_int_equal(counters.cut_total, 2);
}

static void damage_found_while_matching_is_told_to_all(void **state)
{
	(void)state;
	append_many(10);
	struct fake *one = join(0, ">", appended), *other = join(1, "b", appended);
	struct fake *third = join(2, "c", appended); /* nothing matched: it might have */
	run();
	append_many(50);
	survey();
	is_damaged_next = true;
	run();
	expect_damage(11);
	check(one, appended, UINT64_MAX);
	check(other, appended, UINT64_MAX);
	check(third, appended, UINT64_MAX);
}

static void damage_found_while_catching_up_is_told(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	is_damaged_next = true;
	struct fake *fake = join(0, "b", bases[1] + 4);
	run();
	expect_damage(bases[1]);
	check(fake, appended, UINT64_MAX);
}

/* Zeros match nothing, which is not to be believed. */
static void damage_is_told_to_whom_nothing_matched(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	is_damaged_next = true;
	struct fake *fake = join(0, "z.*", bases[1] + 4);
	run();
	expect_damage(bases[1]);
	check(fake, appended, UINT64_MAX);
}

static void damage_found_while_seeking_back_is_passed(void **state)
{
	(void)state;
	append_many(1000);
	survey();
	struct fake *fake = prepare(0, "b", bases[segments - 1] - 1);
	fake->follower.seek = 10;
	is_damaged_next = true;
	fanout_start(fanout, &fake->follower);
	run();
	assert_int_equal(fake->found, 1);
	expect_damage(bases[segments - 2]);
	uint64_t tenth = bases[segments - 2] - 1;
	for (int n = 0; n < 10; tenth--)
		n += tenth % 3 == 0;
	assert_true(fake->start == tenth);
	fanout_resume(fanout, &fake->follower);
	run();
	check(fake, appended, UINT64_MAX);
}

/* Writes that take so long that a pass is cut into slices; nothing else takes any time. */
static ssize_t slow_write(struct follower *follower, const struct iovec *iov, int count,
                          size_t size)
{
	own_time_us += 3000;
	return fake_write(follower, iov, count, size);
}

/* Between two slices its segment has gone and come back, and not all of it is good. */
static void a_pass_does_not_go_on_over_a_new_gap(void **state)
{
	(void)state;
	struct fanout_calls others = calls;
	others.write = slow_write;
	fanout_free(fanout);
	fanout = fanout_new(the_log, &me, &counters, &others);
	append_many(10);
	struct fake *first = join(0, ">", appended), *second = join(1, ">", appended);
	run();
	append_many(400);
	survey();
	own_time_us = 1;
	assert_true(fanout_step(fanout, false));
	own_time_us = 0;
	assert_true(buf_size(&first->stream) > 64 << 10);
	assert_int_equal(buf_size(&second->stream), 0);
	check(first, appended, UINT64_MAX);
	lose_ids(200, 210, 'D');
	run();
	check(second, appended, UINT64_MAX);
}

/* ---- everything at once ---- */

static void begin_somehow(unsigned i)
{
	static const char *const sets[] = {"a", "b", ">", "a b"};
	struct fake *fake = &fakes[i];
	uint64_t start = random_below((unsigned)appended);

	fanout_leave(fanout, &fake->follower);
	buf_clear(&fake->stream);
	fake = prepare(i, sets[random_below(4)], start);
	if (random_below(3) == 0)
		fake->follower.end = start + random_below((unsigned)(appended - start));
	if (fake->follower.end != FOLLOW_FOREVER && random_below(2) == 0)
		fake->follower.limit = 1 + random_below(100);
	else if (random_below(4) == 0)
		fake->follower.seek = 1 + random_below(300);
	if (random_below(2) == 0)
		fake->accepts = random_below(20000);
	fanout_start(fanout, &fake->follower);
}

/* Lets a follower come to its end and compares all that it got. */
static void finish(unsigned i)
{
	struct fake *fake = &fakes[i];
	bool is_forever = fake->follower.end == FOLLOW_FOREVER;
	uint64_t limit = fake->follower.limit;

	if (fake->patterns == NULL)
		return;
	if (is_forever && fake->follower.seek == 0 && fake->arrived == 0)
		fanout_set_end(fanout, &fake->follower, appended);
	for (int n = 0; fake->arrived == 0 && n < 10000; n++) {
		fake->accepts = SIZE_MAX;
		if (fake->found == 0 || fake->follower.state == FOLLOWER_BLOCKED)
			fanout_resume(fanout, &fake->follower);
		run();
		if (is_forever && fake->follower.seek == 0 && fake->arrived == 0)
			fanout_set_end(fanout, &fake->follower, appended);
		for (size_t s = 0; s < segments; s++)
			if (is_wanted[s])
				warm(s);
	}
	assert_int_equal(fake->arrived, 1);
	assert_int_equal(fake->lost, 0);
	if (limit == FOLLOW_FOREVER)
		check(fake, fake->follower.end, limit);
}

static void lose_something(void)
{
	uint64_t from = 1 + random_below((unsigned)appended - 100);
	uint64_t to = from + random_below(random_below(4) == 0 ? 100 : 4);
	/* Behind everybody's back nothing may change where they have been: before they begin. */
	lose_ids(from, to, "VLD"[random_below(3)]);
}

static void whatever_is_cold_or_missing_everybody_is_told_all(void **state)
{
	(void)state;
	append_many(3000);
	survey();
	for (int i = 0; i < 25; i++)
		lose_something();
	for (int round = 0; round < 150; round++) {
		for (size_t s = 0; s + 1 < segments; s++)
			if (random_below(3) == 0)
				is_cold[s] = true;
		for (unsigned i = 0; i < FOLLOWERS; i++)
			if (random_below(2) == 0)
				begin_somehow(i);
		for (int step = 0; step < 20; step++) {
			(void)fanout_step(fanout, random_below(2) == 0);
			size_t s = random_below((unsigned)segments);
			if (random_below(3) == 0 && s + 1 < segments)
				is_cold[s] = true;
			else if (is_wanted[s])
				warm(s);
			unsigned i = random_below(FOLLOWERS);
			if (fakes[i].patterns != NULL && fakes[i].accepts < 1000) {
				fakes[i].accepts = random_below(30000);
				fanout_resume(fanout, &fakes[i].follower);
			}
		}
		for (unsigned i = 0; i < FOLLOWERS; i++) {
			if (random_below(2) == 0)
				continue;
			finish(i);
			fanout_leave(fanout, &fakes[i].follower);
			buf_clear(&fakes[i].stream);
			fakes[i].patterns = NULL;
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(who_meets_what_is_cold_waits_and_costs_nothing),
		TEST(what_was_warmed_may_be_cold_again),
		TEST(others_go_on_and_rounds_end_meanwhile),
		TEST(who_waits_lags),
		TEST(what_can_hold_nothing_is_passed_by_cold),
		TEST(who_leaves_or_is_given_an_end_need_not_wait),
		TEST(last_n_goes_back_over_what_is_cold),
		TEST(the_walk_does_not_wait_for_what_is_cold),
		TEST(the_rest_of_a_message_can_be_cold),
		TEST(gaps_have_their_reasons_and_exact_borders),
		TEST(an_end_within_a_gap_is_where_it_ends),
		TEST(behind_the_last_message_of_a_limit_nothing_is_said),
		TEST(quiet_is_only_what_retention_takes),
		TEST(a_gap_in_the_walk_is_said_to_each_once),
		TEST(who_can_take_no_more_gaps_is_blocked_between_them),
		TEST(efault_is_not_the_peers_fault),
		TEST(efault_in_the_walk_reaches_all_that_are_live),
		TEST(what_went_while_it_was_damaged_is_not_trusted),
		TEST(damage_found_while_matching_is_told_to_all),
		TEST(damage_found_while_catching_up_is_told),
		TEST(damage_is_told_to_whom_nothing_matched),
		TEST(damage_found_while_seeking_back_is_passed),
		cmocka_unit_test_setup_teardown(a_pass_does_not_go_on_over_a_new_gap, begin_large,
	                                        end),
		TEST(whatever_is_cold_or_missing_everybody_is_told_all),
	};

	draw_seed();
	memset(payload, 'x', sizeof payload);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
