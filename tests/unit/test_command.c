/* SPDX-License-Identifier: MIT */
#include "chance.h"
#include "rows.h"
#include "wire/command.h"

/* Each row behind a PING: what a connection that has spoken gets. */
static void check_spoken(const struct row *rows, size_t n)
{
	char input[2048], transcript[2048];

	for (size_t i = 0; i < n; i++) {
		int input_n = snprintf(input, sizeof(input), "PING\n");
		memcpy(input + input_n, rows[i].input.at, rows[i].input.n);
		snprintf(transcript, sizeof(transcript), "PING\n%s", rows[i].transcript);
		check((struct slice){input, (size_t)input_n + rows[i].input.n}, transcript);
	}
}

static void every_command_is_understood(void **state)
{
	static const struct row rows[] = {
		ROW("PUB a.b hello\n", "PUB a.b|hello\n"),
		ROW("PUT a.b 5\nhello\n", "PUT a.b|hello\n"),
		ROW("LINES a.b\nx\n", "LINES a.b\nLINE x\n"),
		ROW("SUB a\n", "SUB 1[a]\n"),
		ROW("UNSUB a\n", "UNSUB 1[a]\n"),
		ROW("UNSUB\n", "UNSUB 0[]\n"),
		ROW("READ a\n", "READ 1[a]\n"),
		ROW("TAIL a\n", "TAIL 1[a]\n"),
		ROW("CAT a\n", "CAT 1[a]\n"),
		ROW("ACKS ON\n", "ACKS ON\n"),
		ROW("ACKS OFF\n", "ACKS OFF\n"),
		ROW("PING\n", "PING\n"),
		ROW("INFO\n", "INFO\n"),
		ROW("STATS\n", "STATS\n"),
		ROW("HELP\n", "HELP\n"),
		ROW("QUIT\n", "QUIT\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void words_may_be_typed_in_any_case(void **state)
{
	static const struct row rows[] = {
		ROW("pub a hello\n", "PUB a|hello\n"),
		ROW("Put a 1\nx\n", "PUT a|x\n"),
		ROW("lInEs a\n", "LINES a\n"),
		ROW("sub A after 5\n", "SUB 1[A] AFTER 5\n"),
		ROW("unSub a\n", "UNSUB 1[a]\n"),
		ROW("read a Last 5 limit 6\n", "READ 1[a] LAST 5 LIMIT 6\n"),
		ROW("tail a since 5s\n", "TAIL 1[a] AGE 5000000\n"),
		ROW("cat a lImIt 1\n", "CAT 1[a] LIMIT 1\n"),
		ROW("acks on\n", "ACKS ON\n"),
		ROW("acks oFf\n", "ACKS OFF\n"),
		ROW("ping\ninfo\nstats\nhelp\nquit\n", "PING\nINFO\nSTATS\nHELP\nQUIT\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void every_verb_has_a_name_and_a_line_of_help(void **state)
{
	size_t n = 0;

	(void)state;
	for (; verb_help(n) != NULL; n++) {
		const char *name = verb_name((enum verb)n);
		assert_memory_equal(verb_help(n), name, strlen(name));
		assert_int_equal(verb_help(n)[strlen(name)], ' ');
	}
	assert_int_equal(n, VERB_LINE);
	assert_string_equal(verb_name(VERB_LINE), "LINE");
}

static void a_text_is_published_to_the_byte(void **state)
{
	static const struct row rows[] = {
		ROW("PUB a  two  spaces \n", "PUB a| two  spaces \n"),
		ROW("  PUB   a x\n", "PUB a|x\n"),
		ROW("PUB a\n", "PUB a|\n"),
		ROW("PUB a \n", "PUB a|\n"),
		ROW("PUB a  \n", "PUB a| \n"),
		ROW("PUB a\r\n", "PUB a|\n"),
		ROW("PUB a x\r\n", "PUB a|x\n"),
		ROW("PUB a x\r\r\n", "PUB a|x\r\n"),
		ROW("PUB a x\ry\n", "PUB a|x\ry\n"),
		ROW("PUB a \tx\xFF\n", "PUB a|\tx\xFF\n"),
		ROW("PUB AFTER LIMIT\n", "PUB AFTER|LIMIT\n"),
		ROW("PUB a 12345678901234567890\n", "PUB a|12345678901234567890\n"),
		ROW("PUB a 12345678901234567890\r\n", "PUB a|12345678901234567890\n"),
		ROW("PUB a 123456789012345678901\nPING\n", "ERR payload-too-large\nPING\n"),
		ROW("PUB\nPING\n", "ERR bad-argument\nPING\n"),
		ROW("PUB  \nPING\n", "ERR bad-argument\nPING\n"),
		ROW("PUB a..b x\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUB * x\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUB $SYS x\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUB a\tb x\nPING\n", "ERR bad-topic\nPING\n"),
		/* The topic is looked at before the size. */
		ROW("PUB a.> 123456789012345678901\nPING\n", "ERR bad-topic\nPING\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void a_zero_byte_is_data_like_any_other(void **state)
{
	static const char input[] = "PUB a x\0y\nPUT a 2\n\0\n\nSUB a\0\n";
	static const char expected[] = "PUB a|x\0y\nPUT a|\0\n\nERR bad-pattern\n";
	size_t n;
	char *transcript =
		feed_all(MAX_PAYLOAD, false, input, sizeof(input) - 1, 0, sizeof(input), &n);

	(void)state;
	assert_int_equal(n, sizeof(expected) - 1);
	assert_memory_equal(transcript, expected, n);
	free(transcript);
}

static void line_ends_and_spaces_are_forgiven(void **state)
{
	static const struct row rows[] = {
		ROW("\n\r\n   \n  \r\nPING\n", "PING\n"),
		ROW("PING\r\n  PING  \r\nPING \n", "PING\nPING\nPING\n"),
		ROW("SUB   a   b.*    AFTER   5  \r\n", "SUB 2[a   b.*] AFTER 5\n"),
		ROW("READ a  LIMIT  5 \n", "READ 1[a] LIMIT 5\n"),
		ROW(" UNSUB  a  b \n", "UNSUB 2[a  b]\n"),
		ROW("ACKS  ON  \n", "ACKS ON\n"),
		ROW("LINES  a  \r\nx\r\n", "LINES a\nLINE x\n"),
		ROW(" PUT  a   1  \r\nx\r\n", "PUT a|x\n"),
		ROW("PING\nPING\t\nPING\r\r\nPING\rPING\n",
	            "PING\nERR unknown-command\nERR unknown-command\nERR unknown-command\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void an_unfinished_command_is_not_executed(void **state)
{
	static const struct row rows[] = {
		ROW("PING", "LEFT 4\n"),
		ROW("PUB a x", "LEFT 7\n"),
		ROW("PUB a x\r", "LEFT 8\n"),
		ROW("PING\nPI", "PING\nLEFT 2\n"),
		ROW("PUT a 3\n", "LEFT 8\n"),
		ROW("PUT a 3\nab", "LEFT 10\n"),
		ROW("PUT a 3\nabc", "LEFT 11\n"),
		ROW("PUT a 3\nabc\r", "LEFT 12\n"),
		ROW("PUT a 0\n", "LEFT 8\n"),
		ROW("LINES a\nx\ny", "LINES a\nLINE x\nLEFT 1\n"),
		ROW("LINES a\n\r", "LINES a\nLEFT 1\n"),
		ROW(" ", "LEFT 1\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void a_body_of_any_bytes_is_published(void **state)
{
	static const struct row rows[] = {
		ROW("PUT a 0\n\nPING\n", "PUT a|\nPING\n"),
		ROW("PUT a 0\n\r\nPING\n", "PUT a|\nPING\n"),
		ROW("PUT a 1\n\n\nPING\n", "PUT a|\n\nPING\n"),
		ROW("PUT a 2\n\r\n\r\nPING\n", "PUT a|\r\n\nPING\n"),
		ROW("PUT a 1\n\r\r\nPING\n", "PUT a|\r\nPING\n"),
		ROW("PUT a 5\nPING\n\nPING\n", "PUT a|PING\n\nPING\n"),
		ROW("PUT a 0000000000000000001\nx\nPING\n", "PUT a|x\nPING\n"),
		ROW("PUT a 20\n12345678901234567890\n", "PUT a|12345678901234567890\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

/* beanstalkd's CVE-2010-2060: a refused body must not be executed. */
static void a_refused_body_is_never_taken_for_commands(void **state)
{
	static const struct row rows[] = {
		ROW("PUT * 5\nQUIT\n\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUT * 5\nQUIT\n\r\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUT $a 0\n\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUT $a 0\n\r\nPING\n", "ERR bad-topic\nPING\n"),
		ROW("PUT a 21\nQUIT\nQUIT\nQUIT\nQUIT\nQ\nPING\n", "ERR payload-too-large\nPING\n"),
		ROW("PUT a..b 21\nQUIT\nQUIT\nQUIT\nQUIT\nQ\nPING\n", "ERR bad-topic\nPING\n"),
		/* The refusal does not wait for the body. */
		ROW("PUT * 5\n", "ERR bad-topic\n"),
		ROW("PUT * 5\nQUIT\n", "ERR bad-topic\n"),
		ROW("PUT * 5\nQUIT\n\r", "ERR bad-topic\n"),
		/* Up to 16 MiB are dropped; what is more closes. */
		ROW("PUT a 16777216\nQUIT\n", "ERR payload-too-large\n"),
		ROW("PUT a 16777217\nQUIT\n", "ERR payload-too-large closes\n"),
		ROW("PUT * 16777216\nQUIT\n", "ERR bad-topic\n"),
		ROW("PUT * 16777217\nQUIT\n", "ERR bad-topic closes\n"),
		ROW("PUT a 2147483647\nQUIT\n", "ERR payload-too-large closes\n"),
		ROW("PUT a 4294967296\nQUIT\n", "ERR payload-too-large closes\n"),
		ROW("PUT a 4294967297\nQUIT\n", "ERR payload-too-large closes\n"),
		ROW("PUT a 9223372036854775807\nQUIT\n", "ERR payload-too-large closes\n"),
		/* Not followed by a line end. */
		ROW("PUT * 4\nQUIT\n", "ERR bad-topic\n"),
		ROW("PUT * 3\nQUIT\nPING\n", "ERR bad-topic\nERR bad-framing closes\n"),
		ROW("PUT * 3\nabc\r\r\nPING\n", "ERR bad-topic\nERR bad-framing closes\n"),
		ROW("PUT * 3\nabc\r\rPING\n", "ERR bad-topic\nERR bad-framing closes\n"),
		ROW("PUT * 3\nabc\rPING\n", "ERR bad-topic\nERR bad-framing closes\n"),
		ROW("PUT * 0\nPING\n", "ERR bad-topic\nERR bad-framing closes\n"),
		/* One refused body behind another, so that nothing is left of the first. */
		ROW("PUT * 1\nx\r\nPUT * 1\nx\r\nPING\n", "ERR bad-topic\nERR bad-topic\nPING\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void where_larger_payloads_are_allowed_larger_bodies_are_dropped(void **state)
{
	static const char input[] = "PUT a 33554433\nQUIT\nPUT * 33554432\nQUIT\n";
	char *transcript = feed_all(32 << 20, false, input, 20, 0, 20, NULL);

	(void)state;
	assert_string_equal(transcript, "ERR payload-too-large closes\n");
	free(transcript);
	transcript = feed_all(32 << 20, false, input + 20, 20, 0, 20, NULL);
	assert_string_equal(transcript, "ERR bad-topic\n");
	free(transcript);
}

static void a_dropped_body_of_16_mib_ends_where_it_said(void **state)
{
	static const char head[] = "PUT a 16777216\n", tail[] = "\nPING\n";
	size_t body_n = 16 << 20, n = sizeof(head) - 1 + body_n + sizeof(tail) - 1;
	char *input = malloc(n);

	(void)state;
	assert_non_null(input);
	memset(input, '\n', n);
	memcpy(input, head, sizeof(head) - 1);
	memcpy(input + n - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
	char *transcript = feed_all(MAX_PAYLOAD, true, input, n, 0, 1 << 20, NULL);
	assert_string_equal(transcript, "ERR payload-too-large @15\nPING @16777237\n");
	free(transcript);
	free(input);
}

static void a_put_line_that_is_not_exactly_one_closes(void **state)
{
	static const char *const lines[] = {
		"PUT",
		"PUT ",
		"PUT a",
		"PUT a ",
		"PUT 5",
		"PUT a -1",
		"PUT a +1",
		"PUT a 1x",
		"PUT a 0x1",
		"PUT a 1.0",
		"PUT a 1e1",
		"PUT a x",
		"PUT a 1 2",
		"PUT a 1 x",
		"PUT a b 1",
		"PUT a 9223372036854775808",
		"PUT a 9999999999999999999",
		"PUT a 18446744073709551615",
		"PUT a 18446744073709551617",
		"PUT a 00000000000000000001",
		"PUT a 100000000000000000000000000000",
		"PUT a 1\t",
		"PUT a\t1",
		"PUT * x",
		"PUT a 1\r",
		"PUT a \xD9\xA1",
		"PUT / HTTP/1.1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char input[128];
		/* What follows would be the body, if a 1 were found in the line. */
		int n = snprintf(input, sizeof(input), "%s\r\nx\nPING\n", lines[i]);
		check((struct slice){input, (size_t)n}, "ERR bad-framing closes\n");
	}
}

static void a_body_that_does_not_end_with_a_line_end_closes(void **state)
{
	static const struct row rows[] = {
		ROW("PUT a 2\nabc\nPING\n", "ERR bad-framing closes\n"),
		ROW("PUT a 2\nab PING\n", "ERR bad-framing closes\n"),
		ROW("PUT a 2\nab\rPING\n", "ERR bad-framing closes\n"),
		ROW("PUT a 2\nab\r\r\nPING\n", "ERR bad-framing closes\n"),
		ROW("PUT a 0\nPING\n", "ERR bad-framing closes\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void after_lines_each_line_is_one_message(void **state)
{
	static const struct row rows[] = {
		ROW("LINES a\nPING\n\n\r\n  x \r\nQUIT\n",
	            "LINES a\nLINE PING\nLINE \nLINE \nLINE   x \nLINE QUIT\n"),
		ROW("LINES a\n12345678901234567890\r\n123456789012345678901\nx\n",
	            "LINES a\nLINE 12345678901234567890\nERR payload-too-large\nLINE x\n"),
		ROW("LINES a\nPUT a 1\n\xFF\n", "LINES a\nLINE PUT a 1\nLINE \xFF\n"),
		ROW("LINES\nPING\n", "ERR bad-argument closes\n"),
		ROW("LINES a b\nPING\n", "ERR bad-argument closes\n"),
		ROW("LINES a.\nPING\n", "ERR bad-topic closes\n"),
		ROW("LINES >\nPING\n", "ERR bad-topic closes\n"),
		ROW("LINES $x\nPING\n", "ERR bad-topic closes\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void whoever_does_not_begin_with_a_verb_is_sent_away(void **state)
{
	static const struct row rows[] = {
		ROW("hello\nPING\n", "ERR unknown-command closes\n"),
		ROW("\n \nhello\nPING\n", "ERR unknown-command closes\n"),
		ROW("PINGX\nPING\n", "ERR unknown-command closes\n"),
		ROW("PIN\nPING\n", "ERR unknown-command closes\n"),
		ROW("\0PUB a\nPING\n", "ERR unknown-command closes\n"),
		ROW("PUB\0 a\nPING\n", "ERR unknown-command closes\n"),
		ROW("\x16\x03\x01\n", "ERR unknown-command closes\n"),
		ROW("\tPING\nPING\n", "ERR unknown-command closes\n"),
		ROW("LINE x\nPING\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1.1\r\nHost: x\r\n\r\nPUB a b\n", "HTTP closes\n"),
		ROW("POST /x?y HTTP/1.0\nPUB a b\n", "HTTP closes\n"),
		ROW(" OPTIONS  *  HTTP/2.0 \r\n", "HTTP closes\n"),
		ROW("get / HTTP/1.1\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1.1 x\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1.11\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/x.1\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1.x\n", "ERR unknown-command closes\n"),
		ROW("GET / HTTP/1,1\n", "ERR unknown-command closes\n"),
		ROW("GET / http/1.1\n", "ERR unknown-command closes\n"),
		ROW("GET HTTP/1.1\n", "ERR unknown-command closes\n"),
		ROW("GET /\n", "ERR unknown-command closes\n"),
		/* A verb is a verb, whoever means it. */
		ROW("PUB x\nGET / HTTP/1.1\nPING\n", "PUB x|\nERR unknown-command\nPING\n"),
	};

	(void)state;
	check_rows(rows, ARRAY_SIZE(rows));
}

static void whoever_has_spoken_may_mistype(void **state)
{
	static const struct row rows[] = {
		ROW("hello\nPING\n", "ERR unknown-command\nPING\n"),
		ROW("PINGX\nPUBB a b\nPI NG\n", "ERR unknown-command\nERR unknown-command\n"
	                                        "ERR unknown-command\n"),
		ROW("GET / HTTP/1.1\nPING\n", "ERR unknown-command\nPING\n"),
	};
	static const struct row refused[] = {
		/* Also a verb that was refused is a word of ours. */
		ROW("SUB\nhello\nPING\n", "ERR bad-argument\nERR unknown-command\nPING\n"),
		ROW("PUB . x\nhello\nPING\n", "ERR bad-topic\nERR unknown-command\nPING\n"),
	};

	(void)state;
	check_spoken(rows, ARRAY_SIZE(rows));
	check_rows(refused, ARRAY_SIZE(refused));
}

/*
 * `head`, filled up with `fill` to a line of n bytes without its end, and then `tail`.
 */
static void check_long(const char *head, char fill, size_t n, const char *tail,
                       const char *transcript)
{
	char input[2 * MAX_LINE + 100];
	size_t head_n = strlen(head), tail_n = strlen(tail);
	const char *line = strrchr(head, '\n'); /* the line in question is the last of `head` */
	size_t line_n = line != NULL ? strlen(line + 1) : head_n;
	size_t total = head_n - line_n + n;

	assert_true(total + tail_n <= sizeof(input));
	memset(input, fill, total);
	memcpy(input, head, head_n);
	memcpy(input + total, tail, tail_n);
	check((struct slice){input, total + tail_n}, transcript);
}

static void a_line_that_is_too_long_is_dropped_where_its_end_is_certain(void **state)
{
	static const struct {
		const char *head, *transcript, *transcript_of_longest;
	} rows[] = {
		{"PUB a ", "ERR line-too-long\nPING\n", "ERR payload-too-large\nPING\n"},
		{"  pub a ", "ERR line-too-long\nPING\n", "ERR payload-too-large\nPING\n"},
		{"PUB  ", "ERR line-too-long\nPING\n", "ERR bad-topic\nPING\n"},
		{"LINES a\nx", "LINES a\nERR line-too-long\nLINE PING\n",
	         "LINES a\nERR payload-too-large\nLINE PING\n"},
		{"SUB a ", "ERR line-too-long closes\n", "ERR bad-pattern\nPING\n"},
		{"PUT a ", "ERR line-too-long closes\n", "ERR bad-framing closes\n"},
		{"LINES ", "ERR line-too-long closes\n", "ERR bad-topic closes\n"},
		{"PUBX ", "ERR unknown-command closes\n", "ERR unknown-command closes\n"},
		{"PUB", "ERR unknown-command closes\n", "ERR unknown-command closes\n"},
		{"PING\nPUB", "PING\nERR line-too-long closes\n",
	         "PING\nERR unknown-command\nPING\n"},
		{"PING\nx y", "PING\nERR line-too-long closes\n",
	         "PING\nERR unknown-command\nPING\n"},
		{"GET / HTTP/1.1 ", "ERR unknown-command closes\n", "ERR unknown-command closes\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		check_long(rows[i].head, 'x', MAX_LINE + 1, "\nPING\n", rows[i].transcript);
		check_long(rows[i].head, 'x', MAX_LINE + 200, "\nPING\n", rows[i].transcript);
		/* A CR counts. */
		check_long(rows[i].head, 'x', MAX_LINE, "\r\nPING\n", rows[i].transcript);
		check_long(rows[i].head, 'x', MAX_LINE, "\nPING\n", rows[i].transcript_of_longest);
	}
}

static void a_line_of_many_spaces_has_the_limit_of_all_lines(void **state)
{
	(void)state;
	check_long("", ' ', MAX_LINE, "\nPING\n", "PING\n");
	check_long("", ' ', MAX_LINE + 1, "\nPING\n", "ERR unknown-command closes\n");
	check_long("PING", ' ', MAX_LINE, "\nPING\n", "PING\nPING\n");
	check_long("PING", ' ', MAX_LINE + 1, "\nPING\n", "ERR line-too-long closes\n");
	check_long("PUB a", ' ', MAX_LINE + 1, "\nPING\n", "ERR line-too-long\nPING\n");
	check_long("PUT a 1", ' ', MAX_LINE, "\nx\nPING\n", "PUT a|x\nPING\n");
	/* "PUB" are the last bytes that are looked at: it might be the beginning of a word. */
	check_long("", ' ', MAX_LINE + 1 - 3, "PUB a\nPING\n", "ERR unknown-command closes\n");
	check_long("", ' ', MAX_LINE + 1 - 4, "PUB a\nPING\n", "ERR line-too-long\nPING\n");
}

static void a_line_that_is_too_long_is_refused_before_it_ends(void **state)
{
	(void)state;
	check_long("PUB a ", 'x', MAX_LINE, "", "LEFT 532\n");
	check_long("PUB a ", 'x', MAX_LINE + 1, "", "ERR line-too-long\n");
	check_long("PUB a ", 'x', MAX_LINE + 300, "", "ERR line-too-long\n");
	check_long("hello", 'x', MAX_LINE, "", "LEFT 532\n");
	check_long("hello", 'x', MAX_LINE + 1, "", "ERR unknown-command closes\n");
	check_long("LINES a\n", 'x', MAX_LINE + 1, "", "LINES a\nERR line-too-long\n");
}

static void whoever_began_with_a_line_too_long_has_spoken(void **state)
{
	(void)state;
	check_long("PUB a ", 'x', MAX_LINE + 1, "\nhello\nPING\n",
	           "ERR line-too-long\nERR unknown-command\nPING\n");
}

static void a_command_ends_where_its_bytes_end(void **state)
{
	static const char input[] = "\n  \r\nPUB a x\r\nPUT a 3\r\nabc\r\nSUB a\nPUT * 2\nxy\r\n"
				    "bad\nLINES a\n\nx\r\n";
	char *transcript =
		feed_all(MAX_PAYLOAD, true, input, sizeof(input) - 1, 0, sizeof(input), NULL);

	(void)state;
	assert_string_equal(transcript, "PUB a|x @14\nPUT a|abc @28\nSUB 1[a] @34\n"
	                                "ERR bad-topic @42\nERR unknown-command @50\n"
	                                "LINES a @58\nLINE  @59\nLINE x @62\n");
	free(transcript);
}

static void what_is_missing_is_said_so_that_a_body_can_be_waited_for(void **state)
{
	static const char input[] = "PUT a.b 10\n1234567890\r\n";
	static const struct {
		size_t n, need;
	} rows[] = {{1, 2}, {10, 11}, {11, 22}, {15, 22}, {21, 22}, {22, 23}};
	struct parser_limits limits = {.max_payload = MAX_PAYLOAD};
	struct parser parser;
	struct command command;
	struct refusal refusal;
	size_t need;

	(void)state;
	parser_init(&parser);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(
			parser_next(&parser, &limits, input, rows[i].n, &command, &need, &refusal),
			PARSER_PARTIAL);
		assert_int_equal(need, rows[i].need);
	}
	assert_int_equal(parser_next(&parser, &limits, input, 23, &command, &need, &refusal),
	                 PARSER_COMMAND);
	assert_int_equal(command.size, 23);
}

/*
 * What programs write is read by a quick way of its own, which only knows capitals: it must come to
 * the same as the way for everybody else.
 */
static void publishing_is_understood_the_same_in_any_case(void **state)
{
	static const char *const pieces[] = {
		" ",  " ",   " ",    "a",  "a.b", ".",  "*",  "$a", "5",         "0",          "05",
		"21", "x y", "\r\n", "\r", "\n",  "\n", "\t", "1x", "123456789", "1234567890", "",
	};
	enum { ROUNDS = 30000, PIECES_MAX = 7 };

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		char upper[256], lower[256];
		size_t n = 0;
		for (unsigned lines = 1 + random_below(2); lines > 0; lines--) {
			bool is_put = random_below(2) == 0;
			memcpy(upper + n, is_put ? "PUT" : "PUB", 3);
			memcpy(lower + n, is_put ? "put" : "Pub", 3);
			size_t begin = n += 3;
			if (random_below(4) > 0)
				n += (size_t)sprintf(upper + n, " a.b %s", is_put ? "5\n" : "");
			for (unsigned i = random_below(PIECES_MAX); i > 0; i--) {
				const char *piece = pieces[random_below(ARRAY_SIZE(pieces))];
				n += (size_t)sprintf(upper + n, "%s", piece);
			}
			n += (size_t)sprintf(upper + n, "%s", random_below(2) ? "12345\n" : "\n");
			memcpy(lower + begin, upper + begin, n - begin);
		}
		char *quick = feed_all(MAX_PAYLOAD, false, upper, n, 0, n, NULL);
		char *other = feed_all(MAX_PAYLOAD, false, lower, n, 0, n, NULL);
		if (strcasecmp(quick, other) != 0) {
			print_input((struct slice){upper, n});
			assert_string_equal(quick, other);
		}
		free(quick);
		free(other);
	}
}

/* A reload may lower max_payload while a command is half there. */
static void a_limit_that_is_lowered_meets_what_has_come_already(void **state)
{
	static const char body[] = "PUT a 15\n123456789012345\n";
	struct parser_limits limits = {.max_payload = 2 * MAX_LINE};
	struct parser parser;
	struct command command;
	struct refusal refusal;
	char line[2 * MAX_LINE];
	size_t need;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "PUB a ", 6);
	parser_init(&parser);
	assert_int_equal(
		parser_next(&parser, &limits, line, sizeof(line) - 2, &command, &need, &refusal),
		PARSER_PARTIAL);
	limits.max_payload = 10;
	assert_int_equal(
		parser_next(&parser, &limits, line, sizeof(line) - 1, &command, &need, &refusal),
		PARSER_REFUSED);
	assert_int_equal(refusal.code, ERROR_LINE_TOO_LONG);

	/* A body that was let in is let in. */
	parser_init(&parser);
	limits.max_payload = MAX_PAYLOAD;
	assert_int_equal(parser_next(&parser, &limits, body, 10, &command, &need, &refusal),
	                 PARSER_PARTIAL);
	limits.max_payload = 10;
	assert_int_equal(
		parser_next(&parser, &limits, body, sizeof(body) - 1, &command, &need, &refusal),
		PARSER_COMMAND);
	assert_int_equal(command.payload.n, 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_command_is_understood),
		cmocka_unit_test(words_may_be_typed_in_any_case),
		cmocka_unit_test(every_verb_has_a_name_and_a_line_of_help),
		cmocka_unit_test(a_text_is_published_to_the_byte),
		cmocka_unit_test(a_zero_byte_is_data_like_any_other),
		cmocka_unit_test(line_ends_and_spaces_are_forgiven),
		cmocka_unit_test(an_unfinished_command_is_not_executed),
		cmocka_unit_test(a_body_of_any_bytes_is_published),
		cmocka_unit_test(a_refused_body_is_never_taken_for_commands),
		cmocka_unit_test(where_larger_payloads_are_allowed_larger_bodies_are_dropped),
		cmocka_unit_test(a_dropped_body_of_16_mib_ends_where_it_said),
		cmocka_unit_test(a_put_line_that_is_not_exactly_one_closes),
		cmocka_unit_test(a_body_that_does_not_end_with_a_line_end_closes),
		cmocka_unit_test(after_lines_each_line_is_one_message),
		cmocka_unit_test(whoever_does_not_begin_with_a_verb_is_sent_away),
		cmocka_unit_test(whoever_has_spoken_may_mistype),
		cmocka_unit_test(a_line_that_is_too_long_is_dropped_where_its_end_is_certain),
		cmocka_unit_test(a_line_of_many_spaces_has_the_limit_of_all_lines),
		cmocka_unit_test(a_line_that_is_too_long_is_refused_before_it_ends),
		cmocka_unit_test(whoever_began_with_a_line_too_long_has_spoken),
		cmocka_unit_test(a_command_ends_where_its_bytes_end),
		cmocka_unit_test(what_is_missing_is_said_so_that_a_body_can_be_waited_for),
		cmocka_unit_test(publishing_is_understood_the_same_in_any_case),
		cmocka_unit_test(a_limit_that_is_lowered_meets_what_has_come_already),
	};

	return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
