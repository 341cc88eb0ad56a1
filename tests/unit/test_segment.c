/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * A segment's borders: where data and index meet, what one claim takes, what counts as committed.
 */
#include "log/segment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "log/frame.h"

enum {
	SMALL = SEGMENT_SIZE_MIN,
	LARGE = 256 << 10,
	ROOM = SMALL - SEGMENT_HEADER_SIZE, /* for frames and entries of a small segment */
	NO_LIMIT = INT32_MAX,
	CLAIM_BYTES = 64 << 10, /* what one claim takes at most, of several messages */
	MANY = 3000,
};

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static bool is_out_of_memory;
static char payload[LARGE];

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (is_out_of_memory) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(address, size, protection, flags, fd, offset);
}

static struct segment *begin(size_t size, uint64_t base, uint32_t max_entries)
{
	struct segment *segment = segment_new(size);
	assert_non_null(segment);
	segment_reset(segment, max_entries);
	assert_true(atomic64_load_acquire(&segment->base) == SEGMENT_NO_BASE);
	atomic64_store_release(&segment->base, base);
	return segment;
}

static struct message message_of(uint32_t payload_size)
{
	return (struct message){.topic = "topic",
	                        .topic_size = 5,
	                        .payload = payload,
	                        .payload_size = payload_size,
	                        .topic_hash = 0xfeed0000U + (payload_size & 0xffff)};
}

/* The payload size with which a frame under this id has exactly `size` bytes. */
static uint32_t payload_for(uint64_t id, uint32_t size)
{
	uint32_t n = frame_payload_size(id, 5, size);
	assert_int_equal(frame_size(id, 5, n), size);
	return n;
}

static uint64_t state_of(struct segment *segment)
{
	return atomic64_load_acquire(&segment->state);
}

/* Entry i is committed and describes exactly this message; returns the end of its frame. */
static uint32_t check_entry(struct segment *segment, uint32_t i, uint32_t offset,
                            const struct message *message)
{
	const struct entry *entry = segment_entry(segment, i);
	uint64_t base = atomic64_load_acquire(&segment->base);
	uint32_t size = frame_size(base + i, message->topic_size, message->payload_size);
	char *frame = malloc(size);

	assert_non_null(frame);
	assert_true(segment_is_committed(segment, base, i));
	assert_int_equal(message->id, base + i);
	assert_int_equal(entry->offset, offset);
	assert_int_equal(entry->size, size);
	assert_int_equal(entry->topic_hash, message->topic_hash);
	assert_int_equal(entry_topic_size(entry), message->topic_size);
	frame_write(frame, base + i, message->topic, message->topic_size, message->payload,
	            message->payload_size);
	assert_memory_equal(segment->map + offset, frame, size);
	free(frame);
	return offset + size;
}

static void an_entry_is_committed_only_by_its_commit(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message message = message_of(100);
	struct claim claim;

	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_DONE);
	assert_int_equal(claim.first, 0);
	assert_int_equal(claim.count, 1);
	assert_int_equal(claim.offset, SEGMENT_HEADER_SIZE);
	assert_int_equal(state_entries(state_of(segment)), 1);
	assert_false(segment_is_committed(segment, 1, 0));
	segment_commit(segment, &message, &claim);
	assert_int_equal(check_entry(segment, 0, SEGMENT_HEADER_SIZE, &message),
	                 SEGMENT_HEADER_SIZE + state_bytes(state_of(segment)));
	assert_true(entry_time_us(segment_entry(segment, 0)) == claim.time_us);
	segment_free(segment);
}

static void commits_may_come_in_any_order(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 999, NO_LIMIT);
	struct message messages[3] = {message_of(0), message_of(10), message_of(1000)};
	struct claim claims[3];

	for (int i = 0; i < 3; i++)
		assert_int_equal(segment_claim(segment, &messages[i], 1, &claims[i]), CLAIM_DONE);
	for (int i = 2; i >= 0; i--) {
		assert_false(segment_is_committed(segment, 999, (uint32_t)i));
		segment_commit(segment, &messages[i], &claims[i]);
		assert_true(segment_is_committed(segment, 999, (uint32_t)i));
	}
	uint32_t end = check_entry(segment, 0, SEGMENT_HEADER_SIZE, &messages[0]);
	end = check_entry(segment, 1, end, &messages[1]);
	check_entry(segment, 2, end, &messages[2]);
	assert_true(claims[0].time_us <= claims[1].time_us);
	assert_true(claims[1].time_us <= claims[2].time_us);
	segment_free(segment);
}

/* Ids grow by a digit inside the claim: the frames must still be neighbours. */
static void one_claim_takes_several_messages_as_neighbours(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 8, NO_LIMIT);
	struct message messages[5];
	struct claim claim;

	for (uint32_t i = 0; i < 5; i++)
		messages[i] = message_of(8 + i);
	assert_int_equal(segment_claim(segment, messages, 5, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 5);
	segment_commit(segment, messages, &claim);
	uint32_t end = SEGMENT_HEADER_SIZE;
	for (uint32_t i = 0; i < 5; i++)
		end = check_entry(segment, i, end, &messages[i]);
	assert_int_equal(end, SEGMENT_HEADER_SIZE + state_bytes(state_of(segment)));
	segment_free(segment);
}

static void a_segment_is_full_when_data_and_index_meet_exactly(void **state)
{
	(void)state;
	const uint32_t entry = sizeof(struct entry);
	struct claim claim;

	/* One message that takes all: fits to the byte, and one byte more doesn't. */
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message message = message_of(payload_for(1, ROOM - entry) + 1);
	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_FULL);
	assert_true(state_of(segment) == 0);
	message.payload_size--;
	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_DONE);
	segment_commit(segment, &message, &claim);
	assert_int_equal(check_entry(segment, 0, SEGMENT_HEADER_SIZE, &message) + entry, SMALL);
	message = message_of(0);
	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_FULL);
	segment_free(segment);

	/* The second one meets the index: both are whole, neither touches the other. */
	segment = begin(SMALL, 1, NO_LIMIT);
	struct message two[2] = {message_of(30000)};
	uint32_t first = frame_size(1, 5, 30000);
	two[1] = message_of(payload_for(2, ROOM - first - 2 * entry));
	assert_int_equal(segment_claim(segment, two, 2, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 2);
	segment_commit(segment, two, &claim);
	uint32_t end = check_entry(segment, 0, SEGMENT_HEADER_SIZE, &two[0]);
	assert_int_equal(check_entry(segment, 1, end, &two[1]) + 2 * entry, SMALL);
	check_entry(segment, 0, SEGMENT_HEADER_SIZE, &two[0]);
	segment_free(segment);
}

static void a_segment_of_small_messages_is_filled_to_the_last_entry(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message message = message_of(1);
	uint32_t count = 0, end = SEGMENT_HEADER_SIZE;
	struct claim claim;

	while (segment_claim(segment, &message, 1, &claim) == CLAIM_DONE) {
		segment_commit(segment, &message, &claim);
		end = check_entry(segment, count++, end, &message);
	}
	size_t left = SMALL - end - (size_t)count * sizeof(struct entry);
	assert_int_equal(state_entries(state_of(segment)), count);
	assert_true(left < frame_size(count + 1, 5, 1) + sizeof(struct entry));
	segment_free(segment);
}

static void a_claim_takes_only_the_beginning_that_has_room(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message messages[4] = {message_of(20000), message_of(20000), message_of(30000),
	                              message_of(1)};
	struct claim claim;

	assert_int_equal(segment_claim(segment, messages, 4, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 2); /* in order: the small fourth doesn't overtake */
	segment_commit(segment, messages, &claim);
	assert_int_equal(segment_claim(segment, messages + 2, 2, &claim), CLAIM_FULL);
	/* Full for the one is not full for all, as long as it is not sealed. */
	assert_int_equal(segment_claim(segment, messages + 3, 1, &claim), CLAIM_DONE);
	assert_int_equal(claim.first, 2);
	segment_free(segment);
}

static void a_claim_of_several_messages_stays_short(void **state)
{
	(void)state;
	struct segment *segment = begin(LARGE, 1, NO_LIMIT);
	struct message messages[8];
	struct claim claim;
	size_t bytes = 0;

	for (uint32_t i = 0; i < 8; i++)
		messages[i] = message_of(20000);
	assert_int_equal(segment_claim(segment, messages, 8, &claim), CLAIM_DONE);
	for (uint32_t i = 0; i < claim.count; i++)
		bytes += frame_size(1 + i, 5, 20000);
	assert_int_equal(claim.count, 3);
	assert_true(bytes <= CLAIM_BYTES);
	assert_true(bytes + frame_size(1 + claim.count, 5, 20000) > CLAIM_BYTES);
	segment_free(segment);
}

static void a_message_larger_than_a_claim_is_claimed_alone(void **state)
{
	(void)state;
	struct segment *segment = begin(LARGE, 1, NO_LIMIT);
	struct message messages[2] = {message_of(CLAIM_BYTES + 1000), message_of(1)};
	struct claim claim;

	assert_int_equal(segment_claim(segment, messages, 2, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 1);
	segment_commit(segment, messages, &claim);
	check_entry(segment, 0, SEGMENT_HEADER_SIZE, &messages[0]);
	segment_free(segment);
}

static void a_segment_takes_no_more_than_max_entries(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, 5);
	struct message messages[4] = {message_of(1), message_of(2), message_of(3), message_of(4)};
	struct claim claim;

	assert_int_equal(segment_claim(segment, messages, 4, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 4);
	assert_int_equal(segment_claim(segment, messages, 4, &claim), CLAIM_DONE);
	assert_int_equal(claim.count, 1);
	assert_int_equal(segment_claim(segment, messages, 4, &claim), CLAIM_FULL);
	assert_int_equal(state_entries(state_of(segment)), 5);
	segment_free(segment);
}

static void a_sealed_segment_takes_no_more_and_keeps_its_count(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message message = message_of(10);
	struct claim claim;

	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_DONE);
	segment_seal(segment);
	uint64_t sealed = state_of(segment);
	assert_true(state_is_sealed(sealed));
	assert_int_equal(state_entries(sealed), 1);
	assert_int_equal(state_bytes(sealed), frame_size(1, 5, 10));
	struct claim later;
	assert_int_equal(segment_claim(segment, &message, 1, &later), CLAIM_SEALED);
	segment_seal(segment);
	assert_true(state_of(segment) == sealed);
	/* What was claimed before the seal is committed behind it. */
	segment_commit(segment, &message, &claim);
	check_entry(segment, 0, SEGMENT_HEADER_SIZE, &message);
	segment_free(segment);
}

static void a_new_life_begins_empty_with_a_secret_of_its_own(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	struct message message = message_of(10);
	struct claim claim;

	assert_int_equal(segment_claim(segment, &message, 1, &claim), CLAIM_DONE);
	segment_commit(segment, &message, &claim);
	segment_seal(segment);
	uint64_t before = segment->secret;
	segment_reset(segment, 7);
	assert_true(segment->secret != before);
	assert_true(state_of(segment) == 0);
	assert_true(atomic64_load_acquire(&segment->base) == SEGMENT_NO_BASE);
	assert_null(segment->next);
	assert_int_equal(segment->max_entries, 7);
	/* Even under the same ids nothing of the former life counts. */
	assert_false(segment_is_committed(segment, 1, 0));
	segment_free(segment);
}

/*
 * A client fills the memory with the ids that its index will hold in its next life: as they are,
 * and as a commit word of the present life would look (which it can't know, but might guess).
 */
static void bytes_that_a_client_left_never_read_as_committed(void **state)
{
	(void)state;
	struct segment *segment = begin(SMALL, 1, NO_LIMIT);
	const uint64_t base = 1000;

	for (int forge_secret = 0; forge_secret < 2; forge_secret++) {
		const uint64_t secret = forge_secret ? segment->secret : 0;
		/* As one large message does, whose payload reaches almost to the segment's end. */
		for (uint32_t i = 1; i < MANY / 2; i++) {
			uint64_t word = (base + i) ^ secret;
			memcpy(segment_entry(segment, i), &word, sizeof word);
		}
		segment_reset(segment, NO_LIMIT);
		atomic64_store_release(&segment->base, base);
		for (uint32_t i = 0; i < MANY / 2; i++)
			assert_false(segment_is_committed(segment, base, i));
	}
	segment_free(segment);
}

static void fresh_memory_never_reads_as_committed(void **state)
{
	(void)state;
	for (int life = 0; life < 1000; life++) {
		struct segment *segment = begin(SMALL, INT64_MAX - 2000, NO_LIMIT);
		for (uint32_t i = 0; i < 1900; i++)
			assert_false(segment_is_committed(segment, INT64_MAX - 2000, i));
		segment_free(segment);
	}
}

static void without_memory_there_is_no_segment(void **state)
{
	(void)state;
	is_out_of_memory = true;
	struct segment *segment = segment_new(SMALL);
	is_out_of_memory = false;
	assert_null(segment);
}

/* An argument is a pattern: only tests whose names match it are run. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_is_committed_only_by_its_commit),
		cmocka_unit_test(commits_may_come_in_any_order),
		cmocka_unit_test(one_claim_takes_several_messages_as_neighbours),
		cmocka_unit_test(a_segment_is_full_when_data_and_index_meet_exactly),
		cmocka_unit_test(a_segment_of_small_messages_is_filled_to_the_last_entry),
		cmocka_unit_test(a_claim_takes_only_the_beginning_that_has_room),
		cmocka_unit_test(a_claim_of_several_messages_stays_short),
		cmocka_unit_test(a_message_larger_than_a_claim_is_claimed_alone),
		cmocka_unit_test(a_segment_takes_no_more_than_max_entries),
		cmocka_unit_test(a_sealed_segment_takes_no_more_and_keeps_its_count),
		cmocka_unit_test(a_new_life_begins_empty_with_a_secret_of_its_own),
		cmocka_unit_test(bytes_that_a_client_left_never_read_as_committed),
		cmocka_unit_test(fresh_memory_never_reads_as_committed),
		cmocka_unit_test(without_memory_there_is_no_segment),
	};
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (char)(i * 7 >> 2);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
