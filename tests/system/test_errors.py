# SPDX-License-Identifier: MIT
"""Bad input: every malformed command gets its ERR, nothing of it is done, and data never turns into commands."""

import os
import random
import re
from pathlib import Path

import pytest

from client import Line, Msg, put, scaled

MAX = 4096
LINE_MAX = MAX + 512
EVIL = b"PUB evil x\n"  # what must never be executed
DIGITS_30 = b"1" * 30
UNREADABLE = {"bad-framing", "bad-argument"}
HUGE = {"bad-framing", "bad-argument", "payload-too-large"}


def case(code, data, name=None):
    codes = {code} if isinstance(code, str) else code
    return pytest.param(codes, data, id=name or re.sub(r"[^ -~]", "?", data[:40].decode("latin-1")))


def nothing_was_published(broker):
    return broker.head() == 0


def check_goes_on(broker, codes, data):
    client = broker.client()
    client.send(b"PING\n" + data + b"\nPING\n")
    pong, error, pong_again = (client.recv_line() for _ in range(3))
    assert error.words[0] == "ERR" and error.code in codes, error
    assert not error.closes, "the text says that the connection closes, but it does not"
    assert pong == pong_again
    client.half_close()
    client.expect_eof()
    assert nothing_was_published(broker)


def check_closes(broker, codes, data):
    client = broker.client()
    client.send(b"PING\n" + data + b"\n" + EVIL + b"PING\n")
    assert client.recv_line().startswith("PONG")
    error = client.recv_line()
    assert error.words[0] == "ERR" and error.code in codes, error
    assert error.closes, "the text does not say that the connection closes"
    client.expect_eof()
    assert nothing_was_published(broker)


# --- single commands, the connection goes on ------------------------------------------------------

UNKNOWN = [b"NOSUCH", b"P", b"PIN", b"PINGX", b"PUBX t x", b"\x00", b"\xff\xfe", b"PUB\tt x", b"PING\x00", b"PING\t", b"PI NG", b"PING\r\r", b"\x1b[A",
           b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"MSG 1 t 0", b"OK 1", b"*1", b"{}", b"\rPING"]

BAD_TOPICS = [b"a..b", b".a", b"a.", b".", b"..", b"*", b"a.*", b">", b"a.>", b"a*b", b"a>b", b"$x", b"$", b"$SYS.a", b"x" * 256, b"x." * 127 + b"xy",
              b"a\x01b", b"a\x7f", b"a\tb", b"a\x00b", b"\x00", b"a\rb", b"a\x1f", b"a\x0bb"]

BAD_PATTERNS = [b"a..b", b".a", b"a.", b".", b">.a", b"a.>.b", b"a*", b"*a", b"a.b*.c", b"a>", b"a.b>", b"**", b">>", b"*>", b"x" * 256,
                b"a\tb", b"a\x00", b"\x7f", b"a\rb"]

BAD_STARTS = [b"AFTER", b"AFTER x", b"AFTER -1", b"AFTER +0", b"AFTER 0x0", b"AFTER 0 0", b"AFTER 0.0", b"AFTER " + DIGITS_30, b"AFTER " + b"0" * 20,
              b"AFTER 9223372036854775808", b"AFTER 9999999999999999999", b"AFTER 18446744073709551616", b"AFTER 0@", b"AFTER @", b"AFTER 0@1234567",
              b"AFTER 0@123456789", b"AFTER 0@1234567g", b"AFTER @12345678", b"AFTER 0@12345678@12345678", b"AFTER -1@12345678", b"AFTER 0 @12345678",
              b"LAST", b"LAST x", b"LAST -1", b"LAST +1", b"LAST 1.5", b"LAST 0x1", b"LAST " + DIGITS_30, b"LAST 9223372036854775808", b"LAST 1 2",
              b"SINCE", b"SINCE x", b"SINCE 5", b"SINCE 999999999", b"SINCE 999999999.9", b"SINCE 0", b"SINCE -5s", b"SINCE 5y", b"SINCE h", b"SINCE 1h1",
              b"SINCE nan", b"SINCE inf", b"SINCE 1e9", b"SINCE 1000000000x", b"SINCE " + DIGITS_30, b"SINCE " + DIGITS_30 + b"s", b"SINCE 1h b",
              b"LAST 1 AFTER 0", b"AFTER 0 LAST 1", b"AFTER 0 AFTER 0", b"SINCE 1h LAST 1", b"AFTER 0 b", b"LAST 1 b"]

BAD_LIMITS = [b"LIMIT", b"LIMIT 0", b"LIMIT x", b"LIMIT -1", b"LIMIT +1", b"LIMIT " + DIGITS_30, b"LIMIT 1 LAST 1", b"LIMIT 1 LIMIT 1", b"LIMIT 1 b",
              b"LIMIT 1 AFTER 0", b"LAST 1 LIMIT", b"AFTER LIMIT 1"]

GOES_ON = [
    *(case("unknown-command", line) for line in UNKNOWN),
    case("bad-argument", b"PUB"), case("bad-argument", b"  pub  "),
    *(case("bad-topic", b"PUB " + topic + b" text") for topic in BAD_TOPICS),
    *(case("bad-topic", b"PUB " + topic, f"alone {topic[:20]!r}") for topic in BAD_TOPICS if not topic.endswith(b"\r")),
    *(case("bad-topic", put(topic, EVIL)[:-1]) for topic in BAD_TOPICS),
    case("bad-argument", b"SUB"), case("bad-argument", b"READ"),
    *(case("bad-pattern", b"SUB " + pattern) for pattern in BAD_PATTERNS),
    *(case("bad-pattern", b"SUB good " + pattern + b" good") for pattern in BAD_PATTERNS),
    *(case("bad-pattern", b"UNSUB " + pattern) for pattern in BAD_PATTERNS),
    *(case("bad-pattern", b"READ " + pattern + b" LAST 1") for pattern in BAD_PATTERNS),
    *(case("bad-argument", b"SUB t " + start) for start in BAD_STARTS),
    *(case("bad-argument", b"READ t " + start) for start in BAD_STARTS),
    *(case("bad-argument", b"READ t " + limit) for limit in BAD_LIMITS),
    case("bad-argument", b"SUB t LIMIT 1"), case("bad-argument", b"SUB t LAST 1 LIMIT 1"), case("bad-argument", b"SUB t AFTER 0 LIMIT 1"),
    *(case("ahead-of-log", verb + b" t AFTER " + number) for verb in (b"SUB", b"READ") for number in (b"1", b"01", b"9223372036854775807")),
    *(case("bad-argument", line) for line in (b"ACKS", b"ACKS MAYBE", b"ACKS ON OFF", b"ACKS O", b"ACKS 1", b"ACKS ON\x00")),
    *(case("bad-argument", verb + b" x") for verb in (b"PING", b"INFO", b"STATS", b"HELP", b"QUIT")),
    case("payload-too-large", put(b"t", b"x" * (MAX + 1))[:-1]), case("payload-too-large", b"PUB t " + b"x" * (MAX + 1)),
    case("line-too-long", b"PUB t " + b"x" * LINE_MAX, "PUB of LINE_MAX"), case("line-too-long", b"  pub t " + EVIL[:-1] * 10000, "PUB of evil"),
    case("line-too-long", b"PUB " + b"x" * 100000, "PUB with an endless topic"), case("line-too-long", b"PUB " + b" " * 100000, "PUB with endless spaces"),
]


@pytest.mark.parametrize("codes, data", GOES_ON)
def test_a_bad_command_is_answered_and_the_connection_goes_on(broker, codes, data):
    check_goes_on(broker(f"limits.max_payload={MAX}"), codes, data)


# --- single commands, the connection closes --------------------------------------------------------

BAD_LENGTHS = [b"x", b"-1", b"+1", b"-0", b"0x10", b"1.0", b"1e3", b"5K", b"1,000", b"\xb2", b"-9223372036854775808"]
HUGE_LENGTHS = [b"16777217", b"2147483647", b"2147483648", b"4294967295", b"4294967296", b"4294967301", b"9223372036854775807", b"9223372036854775808",
                b"9999999999999999999", b"18446744073709551615", b"18446744073709551616", b"18446744073709551621", DIGITS_30, b"0" * 29 + b"5"]

CLOSES = [
    *(case(UNREADABLE, line) for line in (b"PUT", b"PUT t", b"PUT 5", b"PUT t 5 5", b"PUT t 5 x", b"PUT a b 5", b"PUT t  ", b"PUT t 5\r\r")),
    *(case(UNREADABLE, b"PUT t " + length) for length in BAD_LENGTHS),
    *(case(HUGE, b"PUT t " + length) for length in HUGE_LENGTHS),
    *(case(HUGE | {"bad-topic"}, b"PUT a..b " + length) for length in HUGE_LENGTHS[:3]),
    case("bad-framing", b"PUT t 3\nabcd"), case("bad-framing", b"PUT t 3\nabc" + EVIL[:-1]), case("bad-framing", b"PUT t 0\nx"),
    case("bad-framing", b"PUT t 3\nabc\rx"), case("bad-framing", b"PUT t 3\nabc\r\r"), case("bad-framing", b"PUT t 3\nabc "),
    *(case("bad-argument", line) for line in (b"LINES", b"LINES a b", b"TAIL", b"TAIL t LIMIT 1", b"TAIL t LAST 1 LIMIT 1", b"CAT")),
    *(case("bad-topic", b"LINES " + topic) for topic in BAD_TOPICS),
    *(case("bad-pattern", verb + pattern) for verb in (b"TAIL ", b"CAT ") for pattern in BAD_PATTERNS),
    *(case("bad-argument", verb + b" t " + start) for verb in (b"TAIL", b"CAT") for start in BAD_STARTS),
    *(case("bad-argument", b"CAT t " + limit) for limit in BAD_LIMITS),
    *(case("ahead-of-log", verb + b" t AFTER 1") for verb in (b"TAIL", b"CAT")),
    *(case({"line-too-long", "unknown-command"}, verb + b" x" * LINE_MAX, f"endless {verb.decode()}")
      for verb in (b"PUT", b"SUB", b"UNSUB", b"READ", b"LINES", b"TAIL", b"CAT", b"ACKS", b"PING", b"QUIT", b"NOSUCH", b"x" * LINE_MAX, b"PUBLISH", b"\x00")),
]


@pytest.mark.parametrize("codes, data", CLOSES)
def test_after_a_bad_command_whose_end_is_uncertain_the_connection_closes(broker, codes, data):
    check_closes(broker(f"limits.max_payload={MAX}"), codes, data)


# --- strangers ---------------------------------------------------------------------------------------

STRANGERS = [b"NOSUCH", b"hello", b"\x00", b"\xff", b"PUBX t x", b"PI", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /", b"GET / HTTP/1.1 x",
             b"GET / HTTP/11", b"GET / HTTP/1.x", b"GET / FTP/1.1", b"HTTP/1.1", b"CONNECT", b"\x10\x10\x00\x04MQTT\x04\x02", b"*1\r\n$4\r\nPING\r", b"\n\n\nNOSUCH",
             b"OK", b"PING\x00", b"\xef\xbb\xbfPING", b"SSH-2.0-OpenSSH_9.2\r", b"x" * LINE_MAX, b"x" * 100000, b"\x00" * 100000]


@pytest.mark.parametrize("line", STRANGERS, ids=lambda line: re.sub(r"[^ -~]", "?", line[:40].decode("latin-1")))
def test_who_begins_with_anything_but_a_psad_verb_is_refused(broker, line):
    b = broker(f"limits.max_payload={MAX}")
    client = b.client()
    client.send(line + b"\n" + EVIL)
    error = client.recv_line()
    assert error.words[:2] == ["ERR", "unknown-command"] and error.closes
    client.expect_eof()
    assert nothing_was_published(b)


def test_an_endless_first_line_is_refused_before_it_ends(broker):
    b = broker(f"limits.max_payload={MAX}")
    client = b.client()
    client.send(b"x" * (LINE_MAX + 10))
    assert client.recv_line().code == "unknown-command"
    client.expect_eof()


def test_a_failed_psad_command_is_a_psad_command(broker):
    client = broker().client()
    client.send("PUB\nNOSUCH\nGET / HTTP/1.1\nPING\n")
    assert [client.recv_line().code for _ in range(4)] == ["bad-argument", "unknown-command", "unknown-command", "PONG"]


HTTP_REQUESTS = [
    b"POST / HTTP/1.1\r\nHost: localhost:9853\r\nContent-Length: %d\r\nContent-Type: text/plain\r\n\r\n" % (len(EVIL) * 10) + EVIL * 10,
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n" + EVIL + b"\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\nPUB evil x\n\n" + EVIL,
    b"GET /PUB%20evil%20x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n" + EVIL,
    b"OPTIONS * HTTP/1.1\r\n\r\n" + EVIL,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EVIL,
]


@pytest.mark.parametrize("request_bytes", HTTP_REQUESTS, ids=lambda r: r.split(b"\n")[0].decode().strip())
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
def test_a_browser_gets_http_400_and_publishes_nothing(broker, request_bytes, bytewise):
    b = broker()
    client = b.client()
    for piece in ([request_bytes[i:i + 1] for i in range(len(request_bytes))] if bytewise else [request_bytes]):
        try:
            client.send(piece)
        except ConnectionError:
            break  # it has answered and closed already
    answer = client.recv_raw(reset_ok=bytewise)
    assert re.match(rb"HTTP/1\.[01] 400 ", answer), answer[:100]
    assert nothing_was_published(b)


# --- bodies of refused PUTs ---------------------------------------------------------------------------

def evil_body(size):
    return (EVIL * (size // len(EVIL) + 1))[:size]


@pytest.mark.parametrize("topic, size", [("a..b", 1), ("a..b", 4000), ("$x", 4000), ("x" * 256, 4000), (">", 0), ("t", MAX + 1), ("t", 1 << 20), ("t", 16 << 20),
                                         ("a..b", 16 << 20)])
def test_cve_2010_2060_the_body_of_a_refused_put_is_dropped_and_the_connection_goes_on(broker, topic, size):
    b = broker(f"limits.max_payload={MAX}")
    client = b.client()
    answers = client.exchange(put(topic, evil_body(size)) + b"PING\n", 2)
    assert answers[0].code in ("bad-topic", "payload-too-large") and answers[1].startswith("PONG 0@")
    assert client.publish("t", b"good") == 1


def test_cve_2010_2060_dropped_bodies_may_be_as_large_as_max_payload(broker):
    b = broker("limits.max_payload=32M", "log.segment_size=128M", "log.retain_bytes=512M")
    client = b.client()
    answers = client.exchange(put("a..b", evil_body(32 << 20)) + b"PING\n", 2)
    assert answers[0].code == "bad-topic" and answers[1].startswith("PONG 0@")
    client.send(b"PUT a..b %d\n" % ((32 << 20) + 1) + EVIL * 10)
    assert client.recv_line().words[0] == "ERR"
    client.expect_eof()
    assert nothing_was_published(b)


def test_cve_2010_2060_a_body_that_is_too_large_to_drop_closes(broker):
    b = broker()
    for length in (b"16777217", b"4294967296", b"9223372036854775807"):
        client = b.client()
        client.send(b"PUT t " + length + b"\n" + EVIL * 100)
        assert client.recv_line().code in HUGE
        client.expect_eof()
    assert nothing_was_published(b)


@pytest.mark.parametrize("header", [b"PUT a..b 3\n", b"PUT t 5000\n"])
def test_cve_2010_2060_a_refused_body_without_its_lf_turns_into_no_command(broker, header):
    b = broker(f"limits.max_payload={MAX}")
    client = b.client()
    client.send(header + b"x" * int(header.split()[2]) + EVIL * 5)
    client.half_close()
    answers = client.drain()
    assert answers and all(answer.startswith("ERR ") for answer in answers), answers
    assert nothing_was_published(b)


def test_a_put_cut_off_in_its_body_is_not_executed(broker):
    b = broker()
    for data in (b"PUT t 3\nab", b"PUT t 3\nabc", b"PUT t 3\nabc\r", b"PUT t 3\n", b"PUT t 0\n"):
        client = b.client()
        client.send(data)
        client.half_close()
        error = client.recv_line()
        assert error.code == "truncated", (data, error)
        client.expect_eof()
    assert nothing_was_published(b)


@pytest.mark.parametrize("line", [b"PUB t x", b"PING", b"QUIT", b"PUT t 3", b"LINES t", b"SUB t", b"P"])
def test_an_unterminated_line_is_not_executed(broker, line):
    b = broker()
    client = b.client()
    client.send(b"PUB t good\n" + line)
    client.half_close()
    assert client.recv_line() == "OK 1"
    assert client.recv_line().code == "truncated"
    client.expect_eof()
    assert b.head() == 1


@pytest.mark.parametrize("data", [b"PUT a..b 100\n" + EVIL, b"PUT t 100000\n" + EVIL * 10, b"PUB t " + EVIL[:-1] * 1000, b"PUT a..b 3\nabc", b"PUT a..b 0\n"],
                         ids=["body with a bad topic", "body too large", "line too long", "body without its LF", "empty body without its LF"])
def test_input_that_ends_within_what_is_dropped_ends_the_connection(broker, data):
    b = broker(f"limits.max_payload={MAX}")
    client = b.client()
    client.send(b"PING\n" + data)
    client.half_close()
    pong, *errors = client.drain()
    assert pong.startswith("PONG") and errors and all(error.startswith("ERR ") for error in errors)
    assert nothing_was_published(b)


def test_a_refused_command_did_nothing_of_what_it_said(broker):
    b = broker()
    client = b.client()
    for command in ("SUB good a..b", "SUB good AFTER x", "SUB good LIMIT 1", "SUB good AFTER 1"):
        assert client.ask(command).words[0] == "ERR"
    b.publish("good")
    assert client.ask("SUB other").id == 1
    assert client.ask("UNSUB other a..b").code == "bad-pattern"
    b.publish("other")
    b.publish("good")
    items, _ = client.quit()
    assert items == [(2, "other", b"")]


# --- the same bytes, split anywhere --------------------------------------------------------------------

SCRIPTS = {
    "publishing": b"PUB t one\r\n\nput t 5\r\n\r\nPUB\r\nPUT u 0\n\nPUB t  two \nACKS OFF\nPUB t x\nPUB a..b x\nACKS ON\n  PING  \nNOSUCH\nPUB \xff \x00\x01\n",
    "refused bodies": b"PUT a..b 11\nPUB evil x\n\nPUT $x 22\nPUB evil x\nPUB evil x\n\r\nPING\nPUT t 2\nok\nQUIT\nPUB evil x\n",
    "bad framing": b"PING\nPUT t 3\nabc\nPUT t 3\nabcPUB evil x\nPUB evil x\n",
    "unreadable length": b"PING\nPUT t 3x\nPUB evil x\n",
    "lines": b"LINES log\none\r\n\ntwo \r\r\nPUB evil x\nQUIT\n\x00\nunterminated",
    "lines, complete": b"PING\r\nLINES log\r\na\nb\n",
    "stranger": b"HELO there\r\nPUB evil x\n",
    "browser": b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\nPUB evil x\n",
    "both": b"SUB a.> b\nPUB a.x one\nPUT b 3\ntwo\nPUB c no\nSUB c\nPUB c yes\nQUIT\n",
    "reading": b"PUB a 1\nPUB b 2\nPUT a 3\n3\n3\nREAD a AFTER {base}\nREAD > LAST 2 LIMIT 1\nread nosuch\nREAD a LIMIT 0\nCAT * AFTER {base} LIMIT 2\nPUB evil x\n",
    "truncated": b"PUB t x\nPUT t 10\n12345",
}


def relative(line, base):
    """The line with the ids that it names (in an OK or a position) counted from base."""
    return re.sub(r"^(OK (?:\d+ )?)(\d+)$|()(\d+)(?=@)", lambda m: (m[1] or "") + str(int(m[2] or m[4]) - base), line)


def outcome(broker, script, cuts=()):
    """What a client that sends the script in pieces is answered, with ids counted from the head before, and how far the head went."""
    base = broker.head()
    client = broker.client()
    script = script.replace(b"{base}", b"%d" % base)
    edges = [0, *(cut for cut in cuts if cut < len(script)), len(script)]
    for start, end in zip(edges, edges[1:]):
        try:
            client.send(script[start:end])
        except ConnectionError:
            break  # the answer says whether it was right to close
        broker.control.ask("PING")  # with one worker: what was sent is read by now, most of the time
    try:
        client.half_close()
    except OSError:
        pass
    items = client.drain(reset_ok=True)
    rest = client.unparsed
    client.close()
    answers = [relative(item, base) for item in items if isinstance(item, Line)]
    messages = [(item.id - base, item.topic, item.payload) for item in items if isinstance(item, Msg)]
    return answers, messages, rest, broker.head() - base


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_bytes_sent_one_by_one_give_the_same_answers(broker, name):
    b = broker("server.workers=1")
    script = SCRIPTS[name]
    assert outcome(b, script, range(1, 2 * len(script))) == outcome(b, script)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_bytes_cut_in_two_anywhere_give_the_same_answers(broker, name):
    b = broker("server.workers=1")
    script = SCRIPTS[name]
    whole = outcome(b, script)
    for cut in range(1, len(script)):
        assert outcome(b, script, [cut]) == whole, f"cut at {cut}: {script[:cut]!r}"


def test_long_lines_cut_anywhere_give_the_same_answers(broker):
    b = broker("server.workers=1", "limits.max_payload=1K")
    limit = 1024 + 512
    script = b"".join([b"PUB t " + b"f" * 1024 + b"\n", b"PUB t " + b"f" * 1025 + b"\n", b"PUB t " + EVIL[:-1] * 300 + b"\n", put("t", b"f" * 1025),
                       b"PING\n", b"LINES l\n", b"g" * 1024 + b"\r\n", b"g" * 1025 + b"\n", b"g" * (limit + 100) + b"\n", b"good\n"])
    whole = outcome(b, script)
    assert len(whole[0]) == 9 and whole[3] == 3
    randomly = random.Random(1)
    for cut in range(1, len(script), 41 if scaled(10) == 10 else 211):
        assert outcome(b, script, [cut]) == whole, f"cut at {cut}"
    for seed in range(20):
        cuts = sorted(randomly.sample(range(1, len(script)), 30))
        assert outcome(b, script, cuts) == whole, f"cut at {cuts}"


# --- the lessons of others (RELIABILITY.md §5.4) ---------------------------------------------------------

@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CR LF"])
def test_cve_2023_46853_each_command_works_with_either_line_end_and_doubled_spaces(broker, end):
    b = broker()
    client = b.client()
    log = b.log
    for command, answer in ((b"PUB t x", "OK 1"), (b"PUT t 1" + end + b"y", "OK 2"), (b"ACKS OFF", "OK"), (b"ACKS ON", "OK"),
                            (b"PING", f"PONG 2@{log}"), (b"SUB a b AFTER 0", f"OK 0@{log}"), (b"UNSUB a", None), (b"UNSUB", None), (b"QUIT", f"BYE quit 2@{log}")):
        spaced = b"  " + command.replace(b" ", b"  ") + end
        if command.startswith(b"PUT"):
            spaced = b" PUT  t   1 " + end + b"y" + end
        client.send(spaced)
        got = client.recv_line()
        assert got == answer if answer else got.startswith("OK "), (command, got)
    client.expect_eof()
    assert [item.payload for item in b.control.read("t")[0]] == [b" x", b"y"]


def test_cve_2023_46853_a_bare_cr_ends_no_line(broker):
    b = broker()
    client = b.client()
    client.send(b"PUB t a\rPUB evil x\r\nPING\n")
    assert client.recv_line() == "OK 1"
    assert b.control.read(">")[0] == [(1, "t", b"a\rPUB evil x")]


def test_cve_2016_8704_leading_zeros_are_digits_like_others(broker):
    b = broker()
    client = b.client()
    client.send(b"PUT t 0000000000000000003\nabc\nPING\n")
    assert client.recv_line() == "OK 1"
    assert client.recv_line().startswith("PONG 1@")


def random_command(randomly):
    """One command, of any kind, well-formed or not."""
    words = [b"PUB", b"PUT", b"SUB", b"UNSUB", b"READ", b"TAIL", b"CAT", b"ACKS", b"PING", b"INFO", b"STATS", b"HELP", b"QUIT", b"LINES", b"NOSUCH", b""]
    weights = [9, 9, 9, 5, 6, 1, 1, 2, 5, 2, 1, 1, 1, 1, 1, 1]
    verb = randomly.choices(words, weights)[0]
    atoms = [b"a", b"a.b", b"a.*", b">", b"*", b"a..b", b"$x", b"x" * 255, b"x" * 256, b"\xff", b"\x00", b"AFTER", b"LAST", b"SINCE", b"LIMIT", b"0", b"1", b"7",
             b"-1", DIGITS_30, b"1h", b"0@00000000", b"ON", b"OFF", b"", b"\r"]
    rest = b" ".join(randomly.choice(atoms) for _ in range(randomly.choice([0, 1, 1, 2, 3, 5])))
    line = verb + b" " + rest if rest else verb
    if verb == b"PUT":
        body = bytes(randomly.randrange(256) for _ in range(randomly.choice([0, 1, 5, 20, 5000])))
        line = b"PUT %s %d\n%s" % (randomly.choice(atoms[:9]), len(body) + randomly.choice([0, 0, 0, 0, 1]), body)
    return line + randomly.choice([b"\n", b"\n", b"\n", b"\r\n"])


@pytest.mark.parametrize("seed", range(8))
def test_cve_2021_28166_every_command_in_every_state_leaves_the_daemon_whole(broker, seed):
    b = broker("server.workers=2", f"limits.max_payload={MAX}", "log.segment_size=64K", "log.retain_bytes=256K")
    randomly = random.Random(seed)
    for _ in range(scaled(300)):
        client = b.client()
        script = b"PING\n" + b"".join(random_command(randomly) for _ in range(randomly.choice([1, 3, 10, 40])))
        if randomly.random() < .3:
            script = script[:randomly.randrange(len(script))]
        try:
            client.send(script)
            if randomly.random() < .5:
                client.half_close()
            if randomly.random() < .5 and len(script) > 4:
                client.recv_item()
        except (ConnectionError, AssertionError):
            pass  # how it is refused is for the other tests
        client.close()
    assert b.control.ask("PING").startswith("PONG")
    head = b.head()
    assert b.publish("t") == head + 1


def test_cve_2024_31228_patterns_are_matched_in_linear_time_at_any_depth(broker):
    b = broker("limits.max_patterns=10000")
    client = b.client()
    depth = 127
    for n in range(0, 100, 10):
        client.ok("SUB " + " ".join(".".join("*" if (i * (k + 2)) % 3 else "a" for i in range(depth - k)) + ".>" for k in range(n, n + 10)))
    client.ok("SUB " + ".".join(["*"] * depth) + " " + ".".join(["*"] * 126 + [">"]))
    topics = [".".join(["a"] * n) for n in (depth + 1, depth, depth - 1)] + [".".join(["b"] * depth), "a"]
    for topic in topics * 20:
        b.publish(topic)
    items, bye = client.quit()
    assert bye.id == 100
    assert [item.id for item in items if item.topic == topics[0]] == list(range(1, 101, 5))


def test_cve_2018_1000115_there_is_no_udp(broker):
    b = broker()
    proc = Path(f"/proc/{b.process.pid}")
    inodes = set()
    for name in os.listdir(proc / "fd"):
        try:
            found = re.match(r"socket:\[(\d+)\]", os.readlink(proc / "fd" / name))
        except FileNotFoundError:
            continue
        if found:
            inodes.add(found[1])
    assert inodes
    for table in ("udp", "udp6", "udplite", "raw"):
        path = proc / "net" / table
        if path.exists():
            assert not inodes & {line.split()[9] for line in path.read_text().splitlines()[1:]}


def test_an_endless_line_of_pub_needs_no_memory_and_the_next_command_works(broker):
    b = broker()
    client = b.client()
    answers = client.exchange(b"PUB t " + b"x" * scaled(50 << 20) + b"\nPING\n", 2)
    assert answers[0].code == "line-too-long" and answers[1].startswith("PONG 0@")


def test_errors_do_not_disturb_a_subscription(broker):
    b = broker()
    client = b.client()
    client.ok("SUB t")
    for n in range(1, 20):
        assert client.ask(["NOSUCH", "PUB a..b x", "SUB a..b", "UNSUB a..b", "ACKS", "SUB t LAST 1"][n % 6]).words[0] == "ERR"
        b.publish("t")
        assert client.recv_msg().id == n
