/* SPDX-License-Identifier: MIT */
/*
 * The words of a configuration, good and bad.
 */
#include "ops/value.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

typedef bool read_value(const char *text, struct value_bounds bounds, uint64_t *out,
                        struct value_reason *reason);

struct row {
	const char *text;
	uint64_t value;
	const char *reason; /* NULL: it is good */
};

static void check_rows(read_value *read, struct value_bounds bounds, const struct row *rows,
                       size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct value_reason reason = {""};
		uint64_t value = 0;
		const bool is_good = read(rows[i].text, bounds, &value, &reason);
		assert_string_equal(reason.text, rows[i].reason != NULL ? rows[i].reason : "");
		assert_int_equal(is_good, rows[i].reason == NULL);
		if (is_good)
			assert_int_equal(value, rows[i].value);
	}
}

#define CHECK(read, least, most, rows)                                                             \
	check_rows(read, (struct value_bounds){least, most}, rows, sizeof rows / sizeof rows[0])

static void a_count_is_a_decimal_number_within_its_bounds(void **state)
{
	static const struct row rows[] = {
		{"7", 7, NULL},
		{"0010", 10, NULL},
		{"1000", 1000, NULL},
		{"6", 0, "6 is less than 7"},
		{"0", 0, "0 is less than 7"},
		{"1001", 0, "1001 is more than 1000"},
		{"18446744073709551616", 0, "18446744073709551616 is more than 1000"},
		{"18446744073709551623", 0, "18446744073709551623 is more than 1000"},
		{"99999999999999999999999999999999999999999999", 0,
	         "9999999999999999999999999999999999999999 is more than 1000"},
		{"", 0, "\"\" is not a number"},
		{"-8", 0, "\"-8\" is not a number"},
		{"+8", 0, "\"+8\" is not a number"},
		{"8K", 0, "\"8K\" is not a number"},
		{"0x10", 0, "\"0x10\" is not a number"},
		{"8 9", 0, "\"8 9\" is not a number"},
		{"many", 0, "\"many\" is not a number"},
	};
	(void)state;
	CHECK(value_count, 7, 1000, rows);
}

static void every_count_up_to_the_largest_is_read(void **state)
{
	static const struct row rows[] = {
		{"18446744073709551614", UINT64_MAX - 1, NULL},
		{"9223372036854775807", INT64_MAX, NULL},
	};
	(void)state;
	CHECK(value_count, 0, UINT64_MAX - 1, rows);
}

static void a_size_may_have_a_unit_of_1024(void **state)
{
	static const struct row rows[] = {
		{"512", 512, NULL},
		{"1K", 1024, NULL},
		{"3k", 3072, NULL},
		{"2M", 2097152, NULL},
		{"1g", 1073741824, NULL},
		{"4G", 4294967296, NULL},
		{"511", 0, "511 is less than 512"},
		{"0", 0, "0 is less than 512"},
		{"5G", 0, "5G is more than 4G"},
		{"4294967297", 0, "4294967297 is more than 4G"},
		{"17179869184G", 0, "17179869184G is more than 4G"}, /* 2^64 */
		{"17179869185G", 0, "17179869185G is more than 4G"}, /* 2^64 + 1G */
		{"1T", 0, "\"1T\" is not a size (a number of bytes, or one with K, M or G)"},
		{"1KB", 0, "\"1KB\" is not a size (a number of bytes, or one with K, M or G)"},
		{"1.5M", 0, "\"1.5M\" is not a size (a number of bytes, or one with K, M or G)"},
		{"1 K", 0, "\"1 K\" is not a size (a number of bytes, or one with K, M or G)"},
		{"K", 0, "\"K\" is not a size (a number of bytes, or one with K, M or G)"},
		{"", 0, "\"\" is not a size (a number of bytes, or one with K, M or G)"},
	};
	(void)state;
	CHECK(value_size, 512, 4294967296, rows);
}

static void a_time_needs_its_unit(void **state)
{
	static const struct row rows[] = {
		{"0", 0, NULL},
		{"00", 0, NULL},
		{"0s", 0, NULL},
		{"1ms", 1, NULL},
		{"200ms", 200, NULL},
		{"5s", 5000, NULL},
		{"10m", 600000, NULL},
		{"2h", 7200000, NULL},
		{"7d", 604800000, NULL},
		{"30", 0, "\"30\" has no unit (ms, s, m, h or d)"},
		{"8d", 0, "8d is more than 7d"},
		{"604800001ms", 0, "604800001ms is more than 7d"},
		{"213503982335d", 0, "213503982335d is more than 7d"}, /* over 2^64 ms */
		{"5S", 0, "\"5S\" is not a time (a number with ms, s, m, h or d)"},
		{"5M", 0, "\"5M\" is not a time (a number with ms, s, m, h or d)"},
		{"5 s", 0, "\"5 s\" is not a time (a number with ms, s, m, h or d)"},
		{"1w", 0, "\"1w\" is not a time (a number with ms, s, m, h or d)"},
		{"", 0, "\"\" is not a time (a number with ms, s, m, h or d)"},
		{"-1s", 0, "\"-1s\" is not a time (a number with ms, s, m, h or d)"},
	};
	static const struct row short_rows[] = {
		{"999ms", 0, "999ms is less than 1s"},
		{"91m", 0, "91m is more than 90m"},
	};
	(void)state;
	CHECK(value_time, 0, 604800000, rows);
	CHECK(value_time, 1000, 5400000, short_rows);
}

static void a_mode_is_octal(void **state)
{
	static const struct row rows[] = {
		{"0660", 0660, NULL},
		{"600", 0600, NULL},
		{"0", 0, NULL},
		{"0777", 0777, NULL},
		{"1777", 0, "1777 is not within 0000 and 0777"},
		{"0680", 0, "\"0680\" is not a mode (octal digits such as 0660)"},
		{"rw-rw----", 0, "\"rw-rw----\" is not a mode (octal digits such as 0660)"},
		{"", 0, "\"\" is not a mode (octal digits such as 0660)"},
		{"000000660", 0, "\"000000660\" is not a mode (octal digits such as 0660)"},
	};
	(void)state;
	CHECK(value_mode, 0, 0777, rows);
}

static void a_choice_is_one_of_its_words(void **state)
{
	static const char *const words[] = {"never", "sometimes", "always", NULL};
	struct value_reason reason;
	uint64_t index = 9;
	(void)state;
	assert_true(value_choice("never", words, &index, &reason));
	assert_int_equal(index, 0);
	assert_true(value_choice("always", words, &index, &reason));
	assert_int_equal(index, 2);
	assert_false(value_choice("Always", words, &index, &reason));
	assert_string_equal(reason.text, "\"Always\" is not never, sometimes or always");
	assert_false(value_choice("", words, &index, &reason));
	assert_string_equal(reason.text, "\"\" is not never, sometimes or always");
}

static int free_list(void **state)
{
	value_addresses_free(*state);
	return 0;
}

static void good_addresses_are_read(void **state)
{
	static struct value_addresses list;
	struct value_reason reason = {""};
	*state = &list;
	assert_true(value_addresses(" 127.0.0.1:9853 ,\t[0:0::1]:0,:80,", &list, &reason));
	assert_int_equal(list.count, 4);

	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&list.at[0].address;
	assert_int_equal(v4->sin_family, AF_INET);
	assert_int_equal(v4->sin_port, htons(9853));
	assert_int_equal(v4->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(list.at[0].length, sizeof *v4);
	assert_string_equal(list.at[0].text, "127.0.0.1:9853");
	assert_false(list.at[0].may_be_missing);

	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&list.at[1].address;
	assert_int_equal(v6->sin6_family, AF_INET6);
	assert_int_equal(v6->sin6_port, 0);
	assert_memory_equal(&v6->sin6_addr, &in6addr_loopback, sizeof in6addr_loopback);
	assert_int_equal(list.at[1].length, sizeof *v6);
	assert_string_equal(list.at[1].text, "[::1]:0");

	assert_string_equal(list.at[2].text, "0.0.0.0:80");
	assert_true(list.at[2].may_be_missing);
	assert_string_equal(list.at[3].text, "[::]:80");
	assert_true(list.at[3].may_be_missing);

	assert_true(value_addresses("", &list, &reason));
	assert_int_equal(list.count, 4);
	assert_true(value_addresses("127.0.0.2:65535", &list, &reason));
	assert_int_equal(list.count, 5);
}

static void bad_addresses_are_refused(void **state)
{
	static const char not_an_address[] = "\"%s\" is not an address such as 127.0.0.1:9853, "
					     "[::1]:9853 or :9853 (names are not looked up)";
	static const struct row rows[] = {
		{"127.0.0.1", 0, not_an_address},
		{"localhost:9853", 0, not_an_address},
		{"127.1:9853", 0, not_an_address},
		{"256.0.0.1:9853", 0, not_an_address},
		{"::1:9853", 0, not_an_address},
		{"[::1:9853", 0, not_an_address},
		{"[]:9853", 0, not_an_address},
		{"[127.0.0.1]:9853", 0, not_an_address},
		{"[fe80::1%lo]:9853", 0, not_an_address},
		{"127.0.0.1 :9853", 0, not_an_address},
		{"a-name-that-is-longer-than-any-address-could-be.example.org:9853", 0,
	         not_an_address},
		{"127.0.0.1:", 0, "\"%s\" does not end in a port number"},
		{"127.0.0.1:http", 0, "\"%s\" does not end in a port number"},
		{"[::1]", 0, "\"%s\" does not end in a port number"},
		{"127.0.0.1:-1", 0, "\"%s\" does not end in a port number"},
		{"127.0.0.1:1 2", 0, "\"%s\" does not end in a port number"},
		{"127.0.0.1:65536", 0, "\"%s\": a port is at most 65535"},
		{"127.0.0.1:18446744073709551617", 0, "\"%s\": a port is at most 65535"},
		{",127.0.0.1:1", 0, "there is nothing before a comma"},
		{"127.0.0.1:1,,127.0.0.1:2", 0, "there is nothing before a comma"},
		{"[::1]:1,[0::1]:1", 0, "[::1]:1 is there twice"},
		{":1, 0.0.0.0:1", 0, "0.0.0.0:1 is there twice"},
	};
	static struct value_addresses list;
	*state = &list;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct value_reason reason = {""};
		char expected[256];
		value_addresses_free(&list);
		assert_false(value_addresses(rows[i].text, &list, &reason));
		const char *mark = strstr(rows[i].reason, "%s");
		if (mark == NULL)
			snprintf(expected, sizeof expected, "%s", rows[i].reason);
		else
			snprintf(expected, sizeof expected, "%.*s%s%s",
			         (int)(mark - rows[i].reason), rows[i].reason, rows[i].text,
			         mark + 2);
		assert_string_equal(reason.text, expected);
	}
}

static void the_number_of_addresses_has_a_limit(void **state)
{
	static struct value_addresses list;
	struct value_reason reason = {""};
	*state = &list;
	for (int i = 1; i <= VALUE_ADDRESSES_MAX; i++) {
		char text[32];
		snprintf(text, sizeof text, "127.0.0.1:%d", i);
		assert_true(value_addresses(text, &list, &reason));
	}
	assert_false(value_addresses("127.0.0.1:9853", &list, &reason));
	assert_string_equal(reason.text, "more than 64 addresses");
	assert_int_equal(list.count, VALUE_ADDRESSES_MAX);
}

static void only_loopback_and_unix_sockets_are_local(void **state)
{
	static const char *const local[] = {"127.0.0.1:1", "127.255.255.255:1", "[::1]:1"};
	static const char *const remote[] = {
		"0.0.0.0:1", "126.0.0.1:1", "128.0.0.1:1",          "192.168.0.1:1",
		"[::]:1",    "[::2]:1",     "[::ffff:127.0.0.1]:1", "[fe80::1]:1",
	};
	static struct value_addresses list;
	struct value_reason reason;
	const struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
	const struct sockaddr unknown = {.sa_family = AF_UNSPEC};
	*state = &list;
	for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
		assert_true(value_addresses(local[i], &list, &reason));
	const size_t local_count = list.count;
	for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++)
		assert_true(value_addresses(remote[i], &list, &reason));
	for (size_t i = 0; i < list.count; i++)
		assert_int_equal(
			value_address_is_local((const struct sockaddr *)&list.at[i].address),
			i < local_count);
	assert_true(value_address_is_local((const struct sockaddr *)&unix_address));
	assert_false(value_address_is_local(&unknown));
}

static void a_size_is_shown_in_the_largest_unit_that_divides_it(void **state)
{
	static const struct row rows[] = {
		{"0", 0, NULL},          {"1", 1, NULL},           {"1023", 1023, NULL},
		{"1K", 1024, NULL},      {"1536", 1536, NULL},     {"64K", 65536, NULL},
		{"16M", 16 << 20, NULL}, {"4G", 4294967296, NULL}, {"1025M", 1074790400, NULL},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_string_equal(value_size_text(rows[i].value).text, rows[i].text);
}

static void a_time_is_shown_in_the_largest_unit_that_divides_it(void **state)
{
	static const struct {
		uint64_t value;
		const char *text;
	} rows[] = {
		{0, "0"},         {1, "1ms"},        {1500, "1500ms"}, {2000, "2s"},
		{61000, "61s"},   {60000, "1m"},     {5400000, "90m"}, {7200000, "2h"},
		{86400000, "1d"}, {90000000, "25h"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_string_equal(value_time_text(rows[i].value).text, rows[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_count_is_a_decimal_number_within_its_bounds),
		cmocka_unit_test(every_count_up_to_the_largest_is_read),
		cmocka_unit_test(a_size_may_have_a_unit_of_1024),
		cmocka_unit_test(a_time_needs_its_unit),
		cmocka_unit_test(a_mode_is_octal),
		cmocka_unit_test(a_choice_is_one_of_its_words),
		cmocka_unit_test_teardown(good_addresses_are_read, free_list),
		cmocka_unit_test_teardown(bad_addresses_are_refused, free_list),
		cmocka_unit_test_teardown(the_number_of_addresses_has_a_limit, free_list),
		cmocka_unit_test_teardown(only_loopback_and_unix_sockets_are_local, free_list),
		cmocka_unit_test(a_size_is_shown_in_the_largest_unit_that_divides_it),
		cmocka_unit_test(a_time_is_shown_in_the_largest_unit_that_divides_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
