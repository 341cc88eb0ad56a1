/* SPDX-License-Identifier: MIT */
/*
 * Run lists against a model that puts message after message into one string. PSAD_TEST_SEED repeats
 * the test.
 */
#include "net/runs.h"

#include "filled.h"
#include "log/frame.h"

enum { FLAT_MAX = 8 << 20 };

static struct run_list list;
static char flat[FLAT_MAX], expected[FLAT_MAX];

/* What entry i is sent as. */
static struct iovec bytes_of(const struct block *block, uint32_t i, bool is_bare)
{
	const struct entry *entry = block_entry(block, i);
	struct iovec bytes = {.iov_base = block_frame(block, i), .iov_len = entry->size};

	if (is_bare) {
		const char *line_end = memchr(bytes.iov_base, '\n', bytes.iov_len);
		size_t header = (size_t)(line_end + 1 - (const char *)bytes.iov_base);
		bytes.iov_base = (char *)bytes.iov_base + header;
		bytes.iov_len -= header;
	}
	return bytes;
}

/* What has to be in the list. */
struct model {
	uint32_t messages, end;
	size_t bytes;
};

static struct model build(const struct selection *selection, size_t max_bytes,
                          uint64_t max_messages)
{
	struct model model = {.end = selection->to};

	for (uint32_t i = selection->from; i < selection->to; i++) {
		if (!bits_test(selection->bits, i))
			continue;
		if (model.bytes >= max_bytes || model.messages >= max_messages)
			return model; /* behind the last one */
		struct iovec bytes = bytes_of(selection->block, i, selection->is_bare);
		memcpy(expected + model.bytes, bytes.iov_base, bytes.iov_len);
		model.bytes += bytes.iov_len;
		model.messages++;
		model.end = i + 1;
	}
	/* Nothing more matches; who wanted only so many stands behind the last all the same. */
	if (model.messages < max_messages)
		model.end = selection->to;
	return model;
}

static size_t flatten(void)
{
	size_t at = 0;
	for (int i = 0; i < list.count; i++) {
		assert_true(list.iov[i].iov_len > 0);
		memcpy(flat + at, list.iov[i].iov_base, list.iov[i].iov_len);
		at += list.iov[i].iov_len;
	}
	return at;
}

/* Where a write of `size` bytes ends, message by message. */
static void check_border(const struct selection *selection, size_t size)
{
	const struct border border = run_list_border(&list, selection, size);
	uint32_t messages = 0;

	for (uint32_t i = selection->from; i < selection->to && messages < list.messages; i++) {
		if (!bits_test(selection->bits, i))
			continue;
		struct iovec bytes = bytes_of(selection->block, i, selection->is_bare);
		if (size < bytes.iov_len) {
			assert_int_equal(border.messages, messages);
			assert_int_equal(border.entry, i);
			assert_int_equal(border.sent, size);
			assert_ptr_equal(border.rest.iov_base, (char *)bytes.iov_base + size);
			assert_int_equal(border.rest.iov_len, bytes.iov_len - size);
			return;
		}
		size -= bytes.iov_len;
		messages++;
	}
	assert_int_equal(size, 0);
	assert_int_equal(border.messages, messages);
	assert_int_equal(border.entry, list.end);
	assert_int_equal(border.sent, 0);
}

static void draw_bits(struct bits *bits)
{
	unsigned mode = random_below(4);

	for (size_t i = 0; i < BLOCK_ENTRIES / 64; i++) {
		uint64_t word = next_random();
		bits->word[i] = mode == 0   ? word
		                : mode == 1 ? word & next_random() & next_random()
		                : mode == 2 ? word | next_random() | next_random()
		                            : (random_below(3) == 0 ? 0 : ~0ULL);
	}
}

static void try(const struct segment *segment)
{
	static struct bits bits;
	uint32_t entries = state_entries(atomic64_load_acquire(&segment->state));
	struct block block = block_of(segment, random_below(entries));
	struct selection selection = {.block = &block, .bits = &bits};
	static const size_t most_bytes[] = {SIZE_MAX, 1, 1000, 100000};
	static const uint64_t most_messages[] = {UINT64_MAX, 1, 2, 50};

	if (block.count > 300 && random_below(4) != 0)
		block.count = 1 + random_below(300);
	draw_bits(&bits);
	selection.is_bare = random_below(2) == 0;
	selection.from = random_below(block.count);
	selection.to = selection.from + 1 + random_below(block.count - selection.from);
	size_t max_bytes = most_bytes[random_below(4)];
	uint64_t max_messages = most_messages[random_below(4)];

	run_list_build(&list, &selection, max_bytes, max_messages);
	const struct model model = build(&selection, max_bytes, max_messages);
	assert_int_equal(list.messages, model.messages);
	assert_int_equal(list.bytes, model.bytes);
	assert_int_equal(list.end, model.end);
	assert_true(list.count <= (int)list.messages);
	assert_int_equal(flatten(), model.bytes);
	assert_memory_equal(flat, expected, model.bytes);
	for (int n = 0; n < 20 && model.bytes > 0; n++)
		check_border(&selection, random_below((unsigned)model.bytes + 1));
	check_border(&selection, 0);
	check_border(&selection, model.bytes);
}

static void a_list_is_its_messages_and_every_cut_of_it_is_found(void **state)
{
	(void)state;
	static const uint64_t bases[] = {1, 9990, 99999990, 1ULL << 40};
	static const uint32_t largest[] = {1, 60, 2000, 30000};

	for (int n = 0; n < 16; n++) {
		struct segment *segment = fill(4 << 20, bases[n % 4], 20000, largest[n / 4]);
		for (int i = 0; i < 150; i++)
			try(segment);
		segment_free(segment);
	}
}

static void neighbours_are_one_piece(void **state)
{
	(void)state;
	static struct bits bits;
	struct segment *segment = fill(1 << 20, 1, 200, 3000);
	struct block block = block_of(segment, 0);
	const struct selection selection = {.block = &block, .bits = &bits, .to = block.count};

	memset(&bits, 0xff, sizeof bits);
	run_list_build(&list, &selection, SIZE_MAX, UINT64_MAX);
	assert_int_equal(list.count, 1);
	assert_ptr_equal(list.iov[0].iov_base, block_frame(&block, 0));
	segment_free(segment);
}

static void nothing_selected_is_an_empty_list(void **state)
{
	(void)state;
	static struct bits bits;
	struct segment *segment = fill(SEGMENT_SIZE_MIN, 1, 100, 100);
	struct block block = block_of(segment, 0);
	const struct selection selection = {.block = &block, .bits = &bits, .to = block.count};

	memset(&bits, 0, sizeof bits);
	run_list_build(&list, &selection, SIZE_MAX, UINT64_MAX);
	assert_int_equal(list.count, 0);
	assert_int_equal(list.bytes, 0);
	assert_int_equal(list.end, block.count);
	segment_free(segment);
}

/* Its sizes may be zeros: whatever they are, they are not gone by. */
static void what_has_been_damaged_is_not_copied(void **state)
{
	(void)state;
	static struct bits bits;
	struct segment *segment = fill(SEGMENT_SIZE_MIN, 1, 100, 100);
	struct block block = block_of(segment, 0);
	const struct selection selection = {.block = &block, .bits = &bits, .to = block.count};

	memset(&bits, 0x55, sizeof bits);
	for (uint32_t i = 0; i < 60; i++)
		memset(segment_entry(segment, i), 0, sizeof(struct entry));
	segment->is_damaged = 1;
	run_list_build(&list, &selection, SIZE_MAX, UINT64_MAX);
	(void)run_list_border(&list, &selection, 1000);
	segment_free(segment);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_its_messages_and_every_cut_of_it_is_found),
		cmocka_unit_test(neighbours_are_one_piece),
		cmocka_unit_test(nothing_selected_is_an_empty_list),
		cmocka_unit_test(what_has_been_damaged_is_not_copied),
	};

	draw_seed();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
