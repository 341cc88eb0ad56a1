/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of a frame, held against a frame written by the C library: at every border where
 * the number of digits of the id or of the payload's size changes.
 */
#include "log/frame.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAYLOAD_MAX = 1000001, TOPIC_MAX = 255, HEADER_MAX = 4 + 19 + 1 + TOPIC_MAX + 1 + 8 + 1 };

static char topic[TOPIC_MAX];
static char *payload, *expected, *got;

static int make_buffers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof topic; i++)
		topic[i] = (char)('a' + i % 26);
	payload = malloc(PAYLOAD_MAX);
	expected = malloc(HEADER_MAX + PAYLOAD_MAX + 2);
	got = malloc(HEADER_MAX + PAYLOAD_MAX + 2);
	if (payload == NULL || expected == NULL || got == NULL)
		return -1;
	for (size_t i = 0; i < PAYLOAD_MAX; i++)
		payload[i] = (char)(i * 131 >> 3);
	return 0;
}

static int free_buffers(void **state)
{
	(void)state;
	free(payload);
	free(expected);
	free(got);
	return 0;
}

static void check(uint64_t id, uint32_t topic_size, uint32_t payload_size)
{
	int header = sprintf(expected, "MSG %" PRIu64 " %.*s %" PRIu32 "\n", id, (int)topic_size,
	                     topic, payload_size);
	size_t size = (size_t)header + payload_size + 1;
	memcpy(expected + header, payload, payload_size);
	expected[size - 1] = '\n';
	expected[size] = '#';

	assert_int_equal(frame_size(id, topic_size, payload_size), size);
	assert_int_equal(frame_payload_offset(id, topic_size, payload_size), header);
	assert_int_equal(frame_payload_size(id, topic_size, (uint32_t)size), payload_size);
	assert_memory_equal(expected + frame_topic_offset(id), topic, topic_size);
	got[size] = '#';
	frame_write(got, id, topic, topic_size, payload, payload_size);
	/* The byte behind the frame is still ours. */
	assert_memory_equal(got, expected, size + 1);
}

static const uint32_t topic_sizes[] = {1, 2, 9, 10, 99, 100, 254, 255};
static const uint32_t payload_sizes[] = {0,     1,     8,     9,      10,     11,     98,   99,
                                         100,   101,   998,   999,    1000,   1001,   9998, 9999,
                                         10000, 10001, 99999, 100000, 999999, 1000000};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void frames_are_right_at_every_border_of_the_id(void **state)
{
	(void)state;
	uint64_t power = 1;
	for (int digits = 1; digits <= 19; digits++, power *= 10) {
		const uint64_t ids[] = {power, power + 1, power * 10 - 1};
		for (size_t i = 0; i < COUNT(ids); i++)
			for (size_t t = 0; t < COUNT(topic_sizes); t++)
				for (size_t p = 0; p < 12; p++)
					if (ids[i] <= INT64_MAX)
						check(ids[i], topic_sizes[t], payload_sizes[p]);
	}
	check(INT64_MAX, 255, 0);
	check(INT64_MAX - 1, 1, 10);
}

static void frames_are_right_at_every_border_of_the_payload_size(void **state)
{
	(void)state;
	for (size_t p = 0; p < COUNT(payload_sizes); p++) {
		check(1, 1, payload_sizes[p]);
		check(99, 255, payload_sizes[p]);
		check(INT64_MAX, 10, payload_sizes[p]);
	}
}

static void the_payload_size_is_found_again_whatever_it_is(void **state)
{
	(void)state;
	for (uint32_t size = 0; size < 1100000; size++)
		assert_int_equal(frame_payload_size(10, 3, frame_size(10, 3, size)), size);
	/* The largest that can be configured: 64 MiB. */
	for (uint32_t size = (64U << 20) - 100; size <= 64U << 20; size++)
		assert_int_equal(frame_payload_size(10, 3, frame_size(10, 3, size)), size);
	for (uint32_t size = 9999900; size < 10000100; size++)
		assert_int_equal(frame_payload_size(10, 3, frame_size(10, 3, size)), size);
}

static void an_empty_payload_needs_no_pointer(void **state)
{
	(void)state;
	static const char whole[] = "MSG 7 a.b 0\n\n";
	frame_write(got, 7, "a.b", 3, NULL, 0);
	assert_memory_equal(got, whole, sizeof whole - 1);
	assert_int_equal(frame_size(7, 3, 0), sizeof whole - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_right_at_every_border_of_the_id),
		cmocka_unit_test(frames_are_right_at_every_border_of_the_payload_size),
		cmocka_unit_test(the_payload_size_is_found_again_whatever_it_is),
		cmocka_unit_test(an_empty_payload_needs_no_pointer),
	};
	return cmocka_run_group_tests_name("frame", tests, make_buffers, free_buffers);
}
