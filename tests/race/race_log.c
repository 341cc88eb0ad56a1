/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * race_log [SECONDS [SEED]]: the log under torture, with every read checked.
 *
 * Producers append single messages and batches as fast as they get room; readers follow, go back,
 * search by time, and let themselves be passed by retention; the limits change all the time.
 * Segments are as small as can be, so that their memory is used again thousands of times a second.
 *
 * What a message holds follows from (seed, producer, sequence), which its topic names: a reader
 * makes the frame again with the C library and compares every byte. It checks besides: ids dense
 * and in blocks as promised, times never falling, each producer's sequence in order and without a
 * hole, the head never falling for anybody, the memory within its bound.
 *
 * Ends with 0 and the counts, or says what was wrong and ends with 1.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "log/log.h"
#include "race_shake.h"

#ifndef DEADLINE_MS
#define DEADLINE_MS 30000 /* for what must happen at last */
#endif

#ifndef RACE_SEGMENTS_MAX
#define RACE_SEGMENTS_MAX 6
#define RACE_MAPPED_MAX 0
#endif

enum {
	SEGMENT_SIZE = SEGMENT_SIZE_MIN,
	SEGMENTS_MIN = 4, /* to be kept; the limit moves between these two */
	SEGMENTS_MAX = RACE_SEGMENTS_MAX,
	BATCH_MAX = 64,
	PAYLOAD_MAX = 12000,
	BATCH_BYTES = 128 << 10,
	TOPIC_MAX = 255,
	FRAME_MAX = PAYLOAD_MAX + TOPIC_MAX + 64,
	PRODUCERS_MAX = 64,
	READERS_MAX = 64,
	SLICE_MAX = 96, /* entries looked at in one section */
	SESSION_MAX = 4000,
};

#ifndef RACE_IN_FILES
#define RACE_IN_FILES false /* race_files.c: the same with a durable log */
#endif

static char error[LOG_ERROR_MAX];
static char dir[] = "/dev/shm/psad-race-XXXXXX";
static uint64_t seed;
static struct log *the_log;
static struct wake *wake;
static uint32_t is_over;      /* producers stop */
static uint32_t is_read_out;  /* readers stop */
static uint64_t highest_head; /* that anybody has seen */
static uint64_t followed_to;  /* where the first reader is: ids below have been checked */

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list arguments;
	char text[512];

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	fprintf(stderr, "race_log: WRONG (seed %" PRIu64 "): %s\n", seed, text);
	_exit(1);
}

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail(__VA_ARGS__);                                                         \
	} while (0)

/* ---- randomness ---- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t draw(uint64_t *random)
{
	*random += 0x9e3779b97f4a7c15ULL;
	return mix(*random);
}

/* ---- mappings, counted ---- */

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static uint64_t mappings;

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	atomic64_add(&mappings, 1);
	return __real_mmap(address, size, protection, flags, fd, offset);
}

/* ---- what a message holds ---- */

static uint64_t content_key(unsigned producer, uint64_t sequence)
{
	return mix(seed ^ mix((uint64_t)producer << 48 ^ sequence));
}

/* "<producer>.<sequence>", and for some a filler of their own. */
static uint32_t make_topic(char topic[TOPIC_MAX + 1], unsigned producer, uint64_t sequence)
{
	uint64_t key = content_key(producer, sequence);
	int size = sprintf(topic, "%u.%" PRIu64, producer, sequence);

	if (key % 8 == 0) {
		int whole = size + 1 + (int)(key >> 8) % (TOPIC_MAX - size);
		if (whole < size + 2)
			whole = size + 2;
		if (whole > TOPIC_MAX)
			whole = TOPIC_MAX;
		topic[size] = '.';
		memset(topic + size + 1, 'a' + (int)(key >> 16) % 26, (size_t)(whole - size - 1));
		size = whole;
	}
	return (uint32_t)size;
}

static uint32_t make_payload_size(unsigned producer, uint64_t sequence)
{
	uint64_t key = mix(content_key(producer, sequence));
	switch (key % 16) {
	case 0:
		return (uint32_t)(key >> 8) % PAYLOAD_MAX;
	case 1:
	case 2:
		return (uint32_t)(key >> 8) % 2000;
	case 3:
	case 4:
	case 5:
		return (uint32_t)(key >> 8) % 12;
	default:
		return (uint32_t)(key >> 8) % 250;
	}
}

static void make_payload(char *at, uint32_t size, unsigned producer, uint64_t sequence)
{
	uint64_t key = content_key(producer, sequence);
	uint32_t i = 0;

	for (; i + 8 <= size; i += 8) {
		key = key * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(at + i, &key, 8);
	}
	key = mix(key);
	memcpy(at + i, &key, size - i);
}

static uint32_t make_hash(unsigned producer, uint64_t sequence)
{
	return (uint32_t)(content_key(producer, sequence) >> 32);
}

/* ---- the head, seen by everybody ---- */

/* Reads the head and checks it against what this thread and all others have seen before. */
static uint64_t look_at_head(uint64_t *seen)
{
	uint64_t before = atomic64_load_acquire(&highest_head);
	uint64_t head = log_head(the_log);

	CHECK(head >= *seen, "the head fell from %" PRIu64 " to %" PRIu64, *seen, head);
	CHECK(head >= before,
	      "the head is %" PRIu64 ", though another thread had seen %" PRIu64 " before", head,
	      before);
	*seen = head;
	while (before < head && !atomic64_cas(&highest_head, &before, head))
		;
	return head;
}

/* ---- sleeping ---- */

static void wait_for_eventfd(void *context)
{
	struct sleeper *sleeper = context;
	struct pollfd ready = {.fd = sleeper->eventfd, .events = POLLIN};
	eventfd_t count;

	if (poll(&ready, 1, DEADLINE_MS) == 0 && atomic32_load_relaxed(&is_over) == 0)
		fail("a sleeper was not rung for %d ms", DEADLINE_MS);
	wake_stir(sleeper);
	(void)eventfd_read(sleeper->eventfd, &count);
}

static void sleeper_init(struct sleeper *sleeper)
{
	sleeper->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	CHECK(sleeper->eventfd >= 0, "no eventfd");
	sleeper->turn = wait_for_eventfd;
	sleeper->context = sleeper;
	wake_add(wake, sleeper);
}

/* ---- producers ---- */

struct producer {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct sleeper sleeper;
	pthread_t thread;
	unsigned index;
	uint64_t random;
	uint64_t sequence; /* of the next message */
	uint64_t last_id;
	uint64_t seen_head;
	uint64_t waits;
	char *payloads;
	char topics[BATCH_MAX][TOPIC_MAX + 1];
	struct message messages[BATCH_MAX];
};

static size_t make_batch(struct producer *producer)
{
	size_t wanted = draw(&producer->random) % 2 ? 1 : 1 + draw(&producer->random) % BATCH_MAX;
	size_t count = 0, used = 0;

	for (; count < wanted; count++) {
		uint64_t sequence = producer->sequence + count;
		uint32_t size = make_payload_size(producer->index, sequence);
		if (used + size > BATCH_BYTES)
			break;
		make_payload(producer->payloads + used, size, producer->index, sequence);
		producer->messages[count] = (struct message){
			.topic = producer->topics[count],
			.topic_size =
				make_topic(producer->topics[count], producer->index, sequence),
			.topic_hash = make_hash(producer->index, sequence),
			.payload = producer->payloads + used,
			.payload_size = size,
		};
		used += size;
	}
	return count;
}

static void append_batch(struct producer *producer, size_t count)
{
	size_t done = 0, appended;

	while (done < count) {
		uint64_t seen = wake_value(wake);
		epoch_enter(&producer->epoch);
		enum log_verdict verdict =
			log_append(the_log, producer->messages + done, count - done, &appended);
		(void)look_at_head(&producer->seen_head);
		epoch_leave(&producer->epoch);
		CHECK(appended <= count - done, "%zu of %zu were appended", appended, count - done);
		for (size_t end = done + appended; done < end; done++) {
			uint64_t id = producer->messages[done].id;
			CHECK(id > producer->last_id,
			      "producer %u got id %" PRIu64 " after %" PRIu64, producer->index, id,
			      producer->last_id);
			producer->last_id = id;
		}
		producer->sequence += appended;
		if (appended > 0)
			log_announce(the_log);
		switch (verdict) {
		case LOG_APPENDED:
			CHECK(done == count, "appended, but only %zu of %zu", done, count);
			return;
		case LOG_NO_SEGMENT:
			producer->waits++;
			(void)wake_wait(wake, &producer->sleeper, seen);
			continue;
		case LOG_FULL:
			fail("the log is full");
		case LOG_FAILED:
			fail("the log has failed");
		}
	}
}

static void *produce(void *context)
{
	struct producer *producer = context;
	while (atomic32_load_relaxed(&is_over) == 0)
		append_batch(producer, make_batch(producer));
	return NULL;
}

/* ---- readers ---- */

enum { UNKNOWN = 0 };

struct reader {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct sleeper sleeper;
	pthread_t thread;
	unsigned index;
	uint64_t random;
	uint64_t seen_head;
	uint64_t read, dropped, lives, cold; /* counts */
	uint64_t last_time_us;
	/* What comes next from each producer + 1, or UNKNOWN; exact while nothing is missed. */
	uint64_t expected[PRODUCERS_MAX];
	bool is_gapless;
	uint64_t last_base;
	char frame[FRAME_MAX];
};

static struct producer *producers;
static struct reader *readers;
static unsigned producer_count, reader_count;

/* Begins at another place: what was known of the order before is void. */
static void jump(struct reader *reader)
{
	memset(reader->expected, 0, sizeof reader->expected);
	reader->last_time_us = 0;
	reader->is_gapless = true;
}

/* Reads "<producer>.<sequence>" from a topic that ends with a space. */
static void parse_topic(uint64_t id, const char *topic, uint32_t size, unsigned *producer,
                        uint64_t *sequence)
{
	char text[64] = {0};
	memcpy(text, topic, size < sizeof text - 1 ? size : sizeof text - 1);
	if (sscanf(text, "%u.%" SCNu64, producer, sequence) != 2 || *producer >= producer_count)
		fail("message %" PRIu64 " has a strange topic: \"%s\"", id, text);
}

/* The frame of entry i holds exactly what its producer meant; whose it is, is returned. */
static void check_bytes(struct reader *reader, const struct block *block, uint32_t i,
                        unsigned *producer, uint64_t *sequence)
{
	const struct entry *entry = block_entry(block, i);
	const uint64_t id = block->first + i;
	const uint32_t topic_size = entry_topic_size(entry);
	char topic[TOPIC_MAX + 1];

	CHECK(entry->offset >= SEGMENT_HEADER_SIZE && entry->size <= FRAME_MAX &&
	              entry->offset + entry->size <=
	                      SEGMENT_SIZE - (block->index + i + 1) * sizeof(struct entry),
	      "message %" PRIu64 " lies at %u, %u bytes: not within its segment", id, entry->offset,
	      entry->size);
	parse_topic(id, block_topic(block, i), topic_size, producer, sequence);
	uint32_t expected = make_topic(topic, *producer, *sequence);
	CHECK(topic_size == expected, "message %" PRIu64 ": topic of %u bytes, not %u", id,
	      topic_size, expected);
	CHECK(entry->topic_hash == make_hash(*producer, *sequence), "message %" PRIu64 ": hash",
	      id);
	uint32_t payload_size = make_payload_size(*producer, *sequence);
	int header = sprintf(reader->frame, "MSG %" PRIu64 " %.*s %u\n", id, (int)topic_size, topic,
	                     payload_size);
	make_payload(reader->frame + header, payload_size, *producer, *sequence);
	reader->frame[(uint32_t)header + payload_size] = '\n';
	CHECK(entry->size == (uint32_t)header + payload_size + 1,
	      "message %" PRIu64 " has %u bytes, not %u", id, entry->size,
	      (uint32_t)header + payload_size + 1);
	if (memcmp(block_frame(block, i), reader->frame, entry->size) != 0)
		fail("message %" PRIu64 " (producer %u, sequence %" PRIu64
		     ", %u bytes) was altered",
		     id, *producer, *sequence, entry->size);
}

static void check_message(struct reader *reader, const struct block *block, uint32_t i)
{
	unsigned producer;
	uint64_t sequence;
	const uint64_t id = block->first + i, time = entry_time_us(block_entry(block, i));

	check_bytes(reader, block, i, &producer, &sequence);
	CHECK(time >= reader->last_time_us,
	      "the time of message %" PRIu64 " fell from %" PRIu64 " to %" PRIu64, id,
	      reader->last_time_us, time);
	reader->last_time_us = time;
	uint64_t expected = reader->expected[producer];
	if (expected != UNKNOWN) {
		CHECK(sequence + 1 >= expected,
		      "message %" PRIu64 ": producer %u's %" PRIu64 " comes after its %" PRIu64, id,
		      producer, sequence, expected - 2);
		CHECK(!reader->is_gapless || sequence + 1 == expected,
		      "message %" PRIu64 ": producer %u's %" PRIu64 " comes, %" PRIu64
		      " is missing",
		      id, producer, sequence, expected - 1);
	}
	reader->expected[producer] = sequence + 2;
	reader->read++;
}

static void check_block(const struct block *block, uint64_t id, uint64_t upto)
{
	CHECK(block->first == id, "a block from %" PRIu64 " begins at %" PRIu64, id, block->first);
	CHECK(block->count >= 1 && block->count <= BLOCK_ENTRIES, "a block of %u entries",
	      block->count);
	CHECK(block->index / BLOCK_ENTRIES == (block->index + block->count - 1) / BLOCK_ENTRIES,
	      "a block over a border: index %u, %u entries", block->index, block->count);
	CHECK(id + block->count - 1 <= upto, "a block up to %" PRIu64 ", asked up to %" PRIu64,
	      id + block->count - 1, upto);
}

/* Lets others run while a section is open and a segment in view: what must be safe. */
static void dawdle(struct reader *reader)
{
	if (draw(&reader->random) % 8 != 0)
		return;
	for (uint64_t n = draw(&reader->random) % 4; n > 0; n--)
		sched_yield();
}

/* Counts the lives of segments, as the reader that follows from the beginning sees them. */
static void count_life(struct reader *reader, const struct block *block)
{
	const uint64_t base = block->first - block->index;
	if (reader->index == 0 && base != reader->last_base)
		reader->lives++;
	reader->last_base = base;
}

static void want(struct reader *reader, const struct block *block)
{
	reader->cold++;
	log_want(the_log, block);
}

/*
 * Reads on from `id`, one section's worth; returns where to go on. `at_end` says that the head was
 * reached, or what is not in memory: there is a ring to wait for.
 */
static uint64_t read_slice(struct reader *reader, uint64_t id, bool *at_end)
{
	struct block block;

	*at_end = false;
	epoch_enter(&reader->epoch);
	uint64_t upto = look_at_head(&reader->seen_head);
	switch (log_block(the_log, id, upto, &block)) {
	case BLOCK_GAP:
		fail("message %" PRIu64 " can't be read", id);
	case BLOCK_COLD:
		want(reader, &block);
		*at_end = true;
		break;
	case BLOCK_END:
		CHECK(id <= upto + 1, "id %" PRIu64 " is beyond the head %" PRIu64, id, upto);
		*at_end = true;
		break;
	case BLOCK_DROPPED: {
		uint64_t first = log_first(the_log);
		CHECK(first > id, "%" PRIu64 " was dropped, yet %" PRIu64 " is the first", id,
		      first);
		reader->dropped++;
		reader->is_gapless = false;
		id = first;
		break;
	}
	case BLOCK_HERE: {
		check_block(&block, id, upto);
		count_life(reader, &block);
		dawdle(reader);
		uint32_t slice = 1 + (uint32_t)(draw(&reader->random) % SLICE_MAX);
		for (uint32_t i = 0; i < block.count && i < slice; i++, id++)
			check_message(reader, &block, i);
		break;
	}
	}
	epoch_leave(&reader->epoch);
	return id;
}

static uint64_t first_of(struct reader *reader)
{
	epoch_enter(&reader->epoch);
	uint64_t first = log_first(the_log);
	epoch_leave(&reader->epoch);
	return first;
}

/* Follows from somewhere for a while; the first reader follows from 1 and for ever. */
static void follow(struct reader *reader)
{
	bool at_end, is_first = reader->index == 0;
	uint64_t first = first_of(reader), head = reader->seen_head;
	uint64_t id = is_first                         ? 1
	              : draw(&reader->random) % 4 == 0 ? head + 1
	              : head <= first                  ? first
	                              : first + draw(&reader->random) % (head - first);
	uint64_t end = reader->read + SESSION_MAX;

	jump(reader);
	while (atomic32_load_relaxed(&is_read_out) == 0 && (is_first || reader->read < end)) {
		uint64_t seen = wake_value(wake);
		id = read_slice(reader, id, &at_end);
		if (is_first)
			atomic64_store_release(&followed_to, id);
		if (at_end)
			(void)wake_wait(wake, &reader->sleeper, seen);
	}
}

/* Stands still at the oldest message until it is gone, then must be told so. */
static void be_passed(struct reader *reader)
{
	uint64_t id = first_of(reader), first;
	struct block block;

	while ((first = first_of(reader)) <= id)
		if (atomic32_load_relaxed(&is_over) != 0)
			return;
		else
			sched_yield();
	epoch_enter(&reader->epoch);
	uint64_t upto = look_at_head(&reader->seen_head);
	CHECK(log_block(the_log, id, upto, &block) == BLOCK_DROPPED,
	      "%" PRIu64 " is still there, though the first was %" PRIu64, id, first);
	CHECK(log_block_back(the_log, id, &block) == BLOCK_DROPPED,
	      "%" PRIu64 " is still there looking back", id);
	reader->dropped++;
	jump(reader);
	id = log_first(the_log);
	CHECK(id >= first, "the first fell from %" PRIu64 " to %" PRIu64, first, id);
	if (log_block(the_log, id, upto, &block) == BLOCK_HERE) {
		check_block(&block, id, upto);
		CHECK(block.index == 0, "the first message has index %u", block.index);
		dawdle(reader);
		for (uint32_t i = 0; i < block.count && i < SLICE_MAX; i++)
			check_message(reader, &block, i);
	}
	epoch_leave(&reader->epoch);
}

/* From the newest towards the oldest, a block in a section. */
static void look_back(struct reader *reader)
{
	uint64_t end = reader->read + SESSION_MAX, id = UINT64_MAX;
	struct block block;

	while (atomic32_load_relaxed(&is_read_out) == 0 && reader->read < end) {
		epoch_enter(&reader->epoch);
		uint64_t upto = look_at_head(&reader->seen_head);
		if (id == UINT64_MAX)
			id = upto;
		enum block_verdict verdict = log_block_back(the_log, id, &block);
		if (verdict == BLOCK_HERE) {
			CHECK(block.first + block.count - 1 == id, "not back from %" PRIu64, id);
			check_block(&block, block.first, upto);
			dawdle(reader);
			jump(reader);
			for (uint32_t i = 0; i < block.count; i++)
				check_message(reader, &block, i);
		} else if (verdict == BLOCK_COLD) {
			want(reader, &block);
		} else {
			CHECK(id == 0 || log_first(the_log) > id, "%" PRIu64 " is not gone", id);
		}
		epoch_leave(&reader->epoch);
		if (verdict != BLOCK_HERE)
			return;
		id = block.first - 1;
	}
}

/* A message whose time is looked for is found, or an older one of the same time. */
static void search_time(struct reader *reader)
{
	struct block block, cold;

	epoch_enter(&reader->epoch);
	uint64_t upto = look_at_head(&reader->seen_head), first = log_first(the_log);
	if (first <= upto) {
		uint64_t id = first + draw(&reader->random) % (upto - first + 1);
		if (log_block(the_log, id, upto, &block) == BLOCK_HERE) {
			uint64_t time = entry_time_us(block_entry(&block, 0));
			uint64_t found = log_find_time(the_log, time, &cold);
			if (cold.segment != NULL)
				want(reader, &cold);
			/* Unless it was dropped meanwhile, it is neither behind nor younger. */
			CHECK(found <= id || log_first(the_log) > id,
			      "the time of %" PRIu64 " was found at %" PRIu64, id, found);
			if (cold.segment == NULL &&
			    log_block(the_log, found, upto, &block) == BLOCK_HERE)
				CHECK(entry_time_us(block_entry(&block, 0)) >= time,
				      "%" PRIu64 " is older than what was sought", found);
		}
	}
	epoch_leave(&reader->epoch);
}

static void *read_on(void *context)
{
	struct reader *reader = context;
	while (atomic32_load_relaxed(&is_read_out) == 0) {
		if (reader->index == 0) {
			follow(reader);
		} else if (reader->index == 1 && atomic32_load_relaxed(&is_over) == 0) {
			be_passed(reader);
		} else {
			switch (draw(&reader->random) % 4) {
			case 0:
				look_back(reader);
				break;
			case 1:
				for (int i = 0; i < 50; i++)
					search_time(reader);
				break;
			default:
				follow(reader);
				break;
			}
		}
	}
	return NULL;
}

/* ---- limits, and the whole ---- */

static struct epoch_thread own_epoch;

static struct log_figures look_at_figures(void)
{
	struct log_figures figures;
	epoch_enter(&own_epoch);
	log_figures(the_log, &figures);
	epoch_leave(&own_epoch);
	CHECK(figures.first <= figures.head + 1, "the first is %" PRIu64 ", the head %" PRIu64,
	      figures.first, figures.head);
	CHECK(figures.bytes <= (SEGMENTS_MAX + 2) * (uint64_t)SEGMENT_SIZE,
	      "%" PRIu64 " bytes in use", figures.bytes);
	return figures;
}

/* Sets other limits, and waits until the memory is within their bound. */
static void change_limits(uint64_t *random)
{
	static const uint64_t messages[] = {0, 0, 0, 1, 100, 3000};
	static const uint64_t ages_us[] = {0, 0, 1000, 100000};
	const uint64_t segments = SEGMENTS_MIN + draw(random) % (SEGMENTS_MAX - SEGMENTS_MIN + 1);
	const struct log_options options = {
		.segment_size = SEGMENT_SIZE,
		.retain_bytes = segments * SEGMENT_SIZE,
		.retain_messages = messages[draw(random) % 6],
		.retain_age_us = ages_us[draw(random) % 4],
	};
	const uint64_t bound = (segments + 2) * SEGMENT_SIZE;
	const uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	const uint64_t head = look_at_figures().head;

	log_set_retention(the_log, &options);
	for (int looks = 0;; looks++) {
		struct log_figures figures = look_at_figures();
		if (looks >= 20 && figures.bytes <= bound && figures.head > head)
			return;
		CHECK(clock_mono_ms() < deadline_ms,
		      "for %d ms %" PRIu64 " bytes in use, bound %" PRIu64 ", head at %" PRIu64
		      " after %" PRIu64,
		      DEADLINE_MS, figures.bytes, bound, figures.head, head);
		(void)poll(NULL, 0, 1);
	}
}

static void *allocate(size_t count, size_t size)
{
	void *at = aligned_alloc(CACHE_LINE, count * size);
	CHECK(at != NULL, "no memory");
	memset(at, 0, count * size);
	return at;
}

static struct log_options options_of_log(void)
{
	return (struct log_options){.segment_size = SEGMENT_SIZE,
	                            .retain_bytes = SEGMENTS_MAX * SEGMENT_SIZE,
	                            .dir = RACE_IN_FILES ? dir : NULL,
	                            .sync = (enum log_sync)(seed % 3),
	                            .sync_interval_us = 5000,
	                            .mapped_max = RACE_MAPPED_MAX};
}

static void start(uint64_t *random)
{
	if (RACE_IN_FILES)
		CHECK(mkdtemp(dir) != NULL, "no directory");
	const struct log_options options = options_of_log();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = cpus < 4 ? 4 : cpus > PRODUCERS_MAX ? PRODUCERS_MAX : (unsigned)cpus;

	producer_count = threads / 2;
	reader_count = threads - producer_count + 2; /* and the two with a role of their own */
	wake = wake_new(producer_count + reader_count);
	CHECK(wake != NULL, "no memory");
	producers = allocate(producer_count, sizeof *producers);
	readers = allocate(reader_count, sizeof *readers);
	the_log = log_open(&options, wake, error, sizeof error);
	CHECK(the_log != NULL, "the log can't be opened: %s", error);
	epoch_register(log_epoch(the_log), &own_epoch);
	for (unsigned i = 0; i < producer_count; i++) {
		producers[i].index = i;
		producers[i].random = draw(random);
		producers[i].payloads = allocate(1, BATCH_BYTES);
		epoch_register(log_epoch(the_log), &producers[i].epoch);
		sleeper_init(&producers[i].sleeper);
	}
	for (unsigned i = 0; i < reader_count; i++) {
		readers[i].index = i;
		readers[i].random = draw(random);
		epoch_register(log_epoch(the_log), &readers[i].epoch);
		sleeper_init(&readers[i].sleeper);
	}
	for (unsigned i = 0; i < reader_count; i++)
		CHECK(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) == 0,
		      "no thread");
	for (unsigned i = 0; i < producer_count; i++)
		CHECK(pthread_create(&producers[i].thread, NULL, produce, &producers[i]) == 0,
		      "no thread");
}

/* The head, which is there at once; unless what is not synced is not shown. */
static uint64_t wait_for_head(uint64_t appended)
{
	const uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	uint64_t head;
	while ((head = look_at_figures().head) < appended && RACE_IN_FILES &&
	       clock_mono_ms() < deadline_ms)
		(void)poll(NULL, 0, 1);
	return head;
}

/* What was kept is there after a restart, and is right; then the directory goes. */
static void look_again(uint64_t first, uint64_t head)
{
	const struct log_options options = options_of_log();
	struct reader *reader = &readers[0];

	the_log = log_open(&options, wake, error, sizeof error);
	CHECK(the_log != NULL, "the log can't be opened again: %s", error);
	memset(&reader->epoch, 0, sizeof reader->epoch);
	memset(&own_epoch, 0, sizeof own_epoch);
	epoch_register(log_epoch(the_log), &reader->epoch);
	epoch_register(log_epoch(the_log), &own_epoch);
	struct log_figures figures = look_at_figures();
	CHECK(figures.first >= first && figures.head == head,
	      "it was %" PRIu64 " to %" PRIu64 ", now it is %" PRIu64 " to %" PRIu64, first, head,
	      figures.first, figures.head);
	epoch_enter(&reader->epoch);
	for (uint64_t id = log_first(the_log); id <= head;) {
		struct block block;
		enum block_verdict verdict = log_block(the_log, id, head, &block);
		CHECK(verdict == BLOCK_HERE || verdict == BLOCK_COLD,
		      "%" PRIu64 " can't be read after a restart", id);
		if (verdict == BLOCK_COLD) {
			want(reader, &block);
			epoch_leave(&reader->epoch);
			(void)poll(NULL, 0, 1);
			epoch_enter(&reader->epoch);
		}
		for (uint32_t i = 0; verdict == BLOCK_HERE && i < block.count; i++, id++) {
			unsigned producer;
			uint64_t sequence;
			check_bytes(reader, &block, i, &producer, &sequence);
		}
	}
	epoch_leave(&reader->epoch);
	log_close(the_log);
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	CHECK(system(command) == 0, "the directory can't be removed");
}

static void stop(void)
{
	uint64_t appended = 0, read = 0, dropped = 0, cold = 0, waits = 0;

	atomic32_store_relaxed(&is_over, 1);
	for (unsigned i = 0; i < producer_count; i++) {
		pthread_join(producers[i].thread, NULL);
		appended += producers[i].sequence;
		waits += producers[i].waits;
	}
	/* All is committed: the head is the last id, and as many as were appended. */
	uint64_t head = wait_for_head(appended);
	CHECK(head == appended, "%" PRIu64 " messages were appended, the head is %" PRIu64,
	      appended, head);
	/* The last ring was behind the last commit: who follows gets there without another. */
	const uint64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
	while (atomic64_load_acquire(&followed_to) != head + 1) {
		CHECK(clock_mono_ms() < deadline_ms,
		      "the head is %" PRIu64 ", a follower is still before %" PRIu64, head,
		      atomic64_load_acquire(&followed_to));
		(void)poll(NULL, 0, 1);
	}
	atomic32_store_relaxed(&is_read_out, 1);
	wake_ring(wake);
	for (unsigned i = 0; i < reader_count; i++) {
		pthread_join(readers[i].thread, NULL);
		read += readers[i].read;
		dropped += readers[i].dropped;
		cold += readers[i].cold;
	}
	printf("race_log: appended %" PRIu64 ", read %" PRIu64 ", dropped %" PRIu64
	       " times, cold %" PRIu64 " times; at least %" PRIu64 " segments in %" PRIu64
	       " mappings; waits for room %" PRIu64 ", rings %" PRIu64 "\n",
	       appended, read, dropped, cold, readers[0].lives, atomic64_load_relaxed(&mappings),
	       waits, wake_rings(wake));
	CHECK(read > 0 && appended > 0 && (cold > 0 || RACE_MAPPED_MAX == 0), "nothing happened");
	uint64_t first = look_at_figures().first;
	log_close(the_log);
	if (RACE_IN_FILES)
		look_again(first, head);
	for (unsigned i = 0; i < producer_count; i++) {
		close(producers[i].sleeper.eventfd);
		free(producers[i].payloads);
	}
	for (unsigned i = 0; i < reader_count; i++)
		close(readers[i].sleeper.eventfd);
	free(producers);
	free(readers);
	wake_free(wake);
}

/* The one deadline that is no condition's: for threads that never come back. */
static void give_up(int signal)
{
	static const char text[] = "race_log: WRONG: it does not come to an end\n";
	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	_exit(1);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;

	signal(SIGALRM, give_up);
	alarm((unsigned)seconds + 2 * DEADLINE_MS / 1000);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : mix(clock_mono_us() ^ (uint64_t)getpid());
	uint64_t random = seed;
	start(&random);
	printf("race_log: %u producers, %u readers, %g s, seed %" PRIu64 "\n", producer_count,
	       reader_count, seconds, seed);
	fflush(stdout);
	const uint64_t end_us = clock_mono_us() + (uint64_t)(seconds * 1e6);
	while (clock_mono_us() < end_us)
		change_limits(&random);
	stop();
	return 0;
}
