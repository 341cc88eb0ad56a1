/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/answer.h"

/* Written out once more, because clients compare with these very words. */
static void every_code_and_reason_is_the_word_of_the_contract(void **state)
{
	static const struct {
		enum error_code code;
		const char *word;
	} errors[] = {
		{ERROR_UNKNOWN_COMMAND, "unknown-command"},
		{ERROR_BAD_ARGUMENT, "bad-argument"},
		{ERROR_BAD_TOPIC, "bad-topic"},
		{ERROR_BAD_PATTERN, "bad-pattern"},
		{ERROR_BAD_FRAMING, "bad-framing"},
		{ERROR_LINE_TOO_LONG, "line-too-long"},
		{ERROR_PAYLOAD_TOO_LARGE, "payload-too-large"},
		{ERROR_TRUNCATED, "truncated"},
		{ERROR_AHEAD_OF_LOG, "ahead-of-log"},
		{ERROR_LOG_FULL, "log-full"},
		{ERROR_LOG_FAILED, "log-failed"},
		{ERROR_TOO_MANY, "too-many"},
		{ERROR_SHUTTING_DOWN, "shutting-down"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		assert_string_equal(error_word(errors[i].code), errors[i].word);
	assert_string_equal(gap_word(GAP_RETENTION), "retention");
	assert_string_equal(gap_word(GAP_VOID), "void");
	assert_string_equal(gap_word(GAP_LOST), "lost");
	assert_string_equal(gap_word(GAP_DAMAGED), "damaged");
	assert_string_equal(gap_word(GAP_OTHER_LOG), "other-log");
	assert_string_equal(bye_word(BYE_QUIT), "quit");
	assert_string_equal(bye_word(BYE_SHUTTING_DOWN), "shutting-down");
	assert_string_equal(bye_word(BYE_IDLE), "idle");
}

static void a_position_is_an_id_and_the_eight_digits_of_its_log(void **state)
{
	(void)state;
	assert_string_equal(position_format(41, 0x3F9A12C4).at, "41@3f9a12c4");
	assert_string_equal(position_format(0, 0).at, "0@00000000");
	assert_string_equal(position_format(1, 0xFFFFFFFF).at, "1@ffffffff");
	assert_string_equal(position_format(UINT64_MAX, 10).at, "18446744073709551615@0000000a");
	assert_int_equal(strlen(position_format(UINT64_MAX, 10).at) + 1, POSITION_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_and_reason_is_the_word_of_the_contract),
		cmocka_unit_test(a_position_is_an_id_and_the_eight_digits_of_its_log),
	};

	return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
