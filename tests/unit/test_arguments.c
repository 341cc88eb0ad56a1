/* SPDX-License-Identifier: MIT */
#include "rows.h"

static void a_start_is_understood(void **state)
{
	static const struct row rows[] = {
		ROW("SUB a AFTER 0\n", "SUB 1[a] AFTER 0\n"),
		ROW("SUB a AFTER 007\n", "SUB 1[a] AFTER 7\n"),
		ROW("SUB a AFTER 41@3f9a12c4\n", "SUB 1[a] AFTER 41@3f9a12c4\n"),
		ROW("SUB a AFTER 0@00000000\n", "SUB 1[a] AFTER 0@00000000\n"),
		ROW("SUB a AFTER 9223372036854775807@ffffffff\n",
	            "SUB 1[a] AFTER 9223372036854775807@ffffffff\n"),
		ROW("SUB a LAST 0\n", "SUB 1[a] LAST 0\n"),
		ROW("SUB a LAST 9223372036854775807\n", "SUB 1[a] LAST 9223372036854775807\n"),
		ROW("SUB a SINCE 1000000000\n", "SUB 1[a] SINCE 1000000000000000\n"),
		ROW("SUB a SINCE 1700000000.25\n", "SUB 1[a] SINCE 1700000000250000\n"),
		ROW("SUB a SINCE 1700000000.0000019\n", "SUB 1[a] SINCE 1700000000000001\n"),
		ROW("SUB a SINCE 1700000000.9999999999999999999\n",
	            "SUB 1[a] SINCE 1700000000999999\n"),
		ROW("SUB a SINCE 9223372036854.775807\n", "SUB 1[a] SINCE 9223372036854775807\n"),
		ROW("SUB a SINCE 90s\n", "SUB 1[a] AGE 90000000\n"),
		ROW("SUB a SINCE 10m\n", "SUB 1[a] AGE 600000000\n"),
		ROW("SUB a SINCE 2h\n", "SUB 1[a] AGE 7200000000\n"),
		ROW("SUB a SINCE 7d\n", "SUB 1[a] AGE 604800000000\n"),
		ROW("SUB a SINCE 0s\n", "SUB 1[a] AGE 0\n"),
		ROW("SUB a SINCE 106751991d\n", "SUB 1[a] AGE 9223372022400000000\n"),
		ROW("SUB a SINCE 106751992d\n", "SUB 1[a] AGE 9223372036854775807\n"),
		ROW("SUB a SINCE 213503983d\n", "SUB 1[a] AGE 9223372036854775807\n"),
		ROW("SUB a SINCE 9223372036854775807d\n", "SUB 1[a] AGE 9223372036854775807\n"),
		ROW("TAIL a b AFTER 5\n", "TAIL 2[a b] AFTER 5\n"),
		ROW("READ a AFTER 5 LIMIT 1\n", "READ 1[a] AFTER 5 LIMIT 1\n"),
		ROW("CAT a LAST 5 LIMIT 9223372036854775807\n",
	            "CAT 1[a] LAST 5 LIMIT 9223372036854775807\n"),
		/* A topic that is called like a keyword can only be the first. */
		ROW("SUB AFTER AFTER 5\n", "SUB 1[AFTER] AFTER 5\n"),
		ROW("SUB LIMIT b\n", "SUB 2[LIMIT b]\n"),
		ROW("UNSUB a AFTER LIMIT\n", "UNSUB 3[a AFTER LIMIT]\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void bad_arguments_are_refused_and_the_connection_goes_on(void **state)
{
	static const char *const lines[] = {
		"SUB",
		"SUB ",
		"READ",
		"SUB a AFTER",
		"SUB a AFTER x",
		"SUB a AFTER -1",
		"SUB a AFTER 9223372036854775808",
		"SUB a AFTER 00000000000000000001",
		"SUB a AFTER 1@",
		"SUB a AFTER @3f9a12c4",
		"SUB a AFTER 1@3F9A12C4",
		"SUB a AFTER 1@3f9a12c",
		"SUB a AFTER 1@3f9a12c4a",
		"SUB a AFTER 1@3f9a12g4",
		"SUB a AFTER 1@@3f9a12c4",
		"SUB a AFTER 1 @3f9a12c4",
		"SUB a AFTER 5 b",
		"SUB a AFTER 5 AFTER 6",
		"SUB a AFTER 5 LAST 6",
		"SUB a LAST",
		"SUB a LAST x",
		"SUB a LAST 9223372036854775808",
		"SUB a LAST 1@3f9a12c4",
		"SUB a SINCE",
		"SUB a SINCE x",
		"SUB a SINCE s",
		"SUB a SINCE 5",
		"SUB a SINCE 999999999",
		"SUB a SINCE 999999999.9",
		"SUB a SINCE 1700000000.",
		"SUB a SINCE .5",
		"SUB a SINCE 1700000000.x",
		"SUB a SINCE 1700000000.5.5",
		"SUB a SINCE -5s",
		"SUB a SINCE 1.5h",
		"SUB a SINCE 5w",
		"SUB a SINCE 5S",
		"SUB a SINCE 5ss",
		"SUB a SINCE 9223372036855",
		"SUB a SINCE 9223372036854.775808",
		"SUB a SINCE 9223372036854775807",
		"SUB a SINCE 9223372036854775808s",
		"SUB a SINCE 1700000000.12345678901234567890",
		"SUB a SINCE 2023-11-14",
		"SUB a LIMIT 5",
		"READ a LIMIT",
		"READ a LIMIT 0",
		"READ a LIMIT x",
		"READ a LIMIT -1",
		"READ a LIMIT 9223372036854775808",
		"READ a LIMIT 5 LIMIT 5",
		"READ a LIMIT 5 AFTER 3",
		"READ a LIMIT 5 b",
		"ACKS",
		"ACKS x",
		"ACKS ON OFF",
		"ACKS ON x",
		"ACKS O",
		"ACKS ONN",
		"PING x",
		"INFO x",
		"STATS x",
		"HELP x",
		"QUIT x",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char input[128];
		int n = snprintf(input, sizeof(input), "%s\nPING\n", lines[i]);
		check((struct slice){input, (size_t)n}, "ERR bad-argument\nPING\n");
	}
}

static void a_keyword_with_a_zero_byte_is_none(void **state)
{
	static const struct row rows[] = {
		ROW("ACKS ON\0\nPING\n", "ERR bad-argument\nPING\n"),
		ROW("ACKS \0\nPING\n", "ERR bad-argument\nPING\n"),
		ROW("SUB a AFTER\0 5\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("SUB a AFTER 5\0\nPING\n", "ERR bad-argument\nPING\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void bad_patterns_are_refused_and_the_connection_goes_on(void **state)
{
	static const struct row rows[] = {
		ROW("SUB a..b\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("SUB a b*\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("SUB >.a\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("SUB a\tb\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("UNSUB a .\nPING\n", "ERR bad-pattern\nPING\n"),
		ROW("READ a .b LIMIT 0\nPING\n", "ERR bad-pattern\nPING\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void a_refused_tail_or_cat_closes(void **state)
{
	static const struct row rows[] = {
		ROW("TAIL\nPING\n", "ERR bad-argument closes\n"),
		ROW("TAIL a..b\nPING\n", "ERR bad-pattern closes\n"),
		ROW("TAIL a LIMIT 5\nPING\n", "ERR bad-argument closes\n"),
		ROW("CAT\nPING\n", "ERR bad-argument closes\n"),
		ROW("CAT a*\nPING\n", "ERR bad-pattern closes\n"),
		ROW("CAT a LIMIT 0\nPING\n", "ERR bad-argument closes\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_start_is_understood),
		cmocka_unit_test(bad_arguments_are_refused_and_the_connection_goes_on),
		cmocka_unit_test(a_keyword_with_a_zero_byte_is_none),
		cmocka_unit_test(bad_patterns_are_refused_and_the_connection_goes_on),
		cmocka_unit_test(a_refused_tail_or_cat_closes),
	};

	return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
