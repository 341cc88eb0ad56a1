# SPDX-License-Identifier: MIT
"""Publishing: what is accepted, how it is answered, and that it is stored to the byte."""

import os
import re

import pytest

from client import put, scaled

MAX = 4096  # limits.max_payload in the tests of sizes
SMALL_PAYLOADS = f"limits.max_payload={MAX}"


def stored(broker, pattern=">"):
    """(topic, payload) of everything kept, in order."""
    items, _ = broker.control.read(pattern)
    return [(item.topic, item.payload) for item in items]


def test_the_first_message_gets_id_1_and_the_next_ones_are_dense(broker):
    client = broker().client()
    assert [client.ask(f"PUB news hello {n}") for n in range(1, 6)] == [f"OK {n}" for n in range(1, 6)]


def test_ids_are_dense_over_all_topics_and_connections(broker):
    b = broker()
    clients = [b.client() for _ in range(3)]
    ids = [clients[n % 3].publish(f"topic{n % 7}", b"x") for n in range(50)]
    assert ids == list(range(1, 51))


def test_pub_keeps_its_text_to_the_byte(broker):
    b = broker()
    client = b.client()
    lines = [b"PUB t one  two ", b"PUB t  leading space", b"PUB t ", b"PUB t", b"PUB t  ", b"  PUB   t x", b"PUB t a\tb\x00c\xff",
             b"PUB t ends in CR\r", b"PUB t two CRs\r\r", b"PUB t a\rb", b"PUB t \r", b"PUB t\r", b"PUB t PUB t x"]
    for number, line in enumerate(lines, 1):
        assert client.ask(line) == f"OK {number}", line
    assert [payload for _, payload in stored(b)] == [
        b"one  two ", b" leading space", b"", b"", b" ", b"x", b"a\tb\x00c\xff",
        b"ends in CR", b"two CRs\r", b"a\rb", b"", b"", b"PUB t x"]


def test_put_keeps_every_byte(broker):
    b = broker()
    payloads = [b"", b"\n", b"\r\n", b"\x00" * 100, bytes(range(256)), b"PUB x y\nQUIT\n", b"MSG 1 t 0\n\n", os.urandom(5000)]
    for payload in payloads:
        b.publish("binary.data", payload)
    assert stored(b) == [("binary.data", payload) for payload in payloads]


def test_put_may_end_its_body_with_cr_lf_and_its_line_too(broker):
    b = broker()
    client = b.client()
    client.send(b"PUT t 3\r\nabc\r\nPUT t 3\nab\r\r\nPUT t 0\r\n\r\nPUT t 0\n\nPING\r\n")
    assert [client.recv_line() for _ in range(5)] == ["OK 1", "OK 2", "OK 3", "OK 4", f"PONG 4@{b.log}"]
    assert [payload for _, payload in stored(b)] == [b"abc", b"ab\r", b"", b""]


def test_verbs_and_keywords_may_be_typed_in_any_case(broker):
    b = broker()
    client = b.client()
    assert client.ask("pub t one") == "OK 1"
    assert client.ask("pUb t two") == "OK 2"
    client.send("Put t 5\nthree\n")
    assert client.recv_line() == "OK 3"
    assert client.ask("acks off") == "OK"
    assert client.ask("Acks On") == "OK"
    assert client.ask("ping").startswith("PONG 3@")
    assert client.ask("info").startswith("INFO psad ")
    items, end = client.read("t after 1 limit 1")
    assert [item.payload for item in items] == [b"two"] and end.startswith("END 2@")
    assert client.ask("Sub t Last 1") == f"OK 2@{b.log}"
    assert client.recv_msg().payload == b"three"
    client.send("quit\n")
    assert client.recv_line().startswith("BYE quit 3@")


def test_topics_are_told_apart_by_case(broker):
    b = broker()
    b.publish("News", b"1")
    b.publish("news", b"2")
    assert stored(b, "News") == [("News", b"1")]


def test_several_spaces_separate_words_and_empty_lines_are_ignored(broker):
    b = broker()
    client = b.client()
    client.send(b"\n\r\n   \n  \r\n  PUT    t   3  \nabc\n   PING  \n    ACKS    OFF\n\nPUB   t   x\nPING\n")
    log = b.log
    assert [client.recv_line() for _ in range(4)] == ["OK 1", f"PONG 1@{log}", "OK", f"PONG 2@{log}"]
    assert [payload for _, payload in stored(b)] == [b"abc", b"  x"]


@pytest.mark.parametrize("topic", ["a", "a.b.c", "x" * 255, "-", "1.2", "a@b:c/d", "caf\xc3\xa9.\xff", "LAST", "a.$b", "PUB", "!~"])
def test_every_allowed_topic_can_be_published_to_and_read(broker, topic):
    b = broker()
    assert b.control.publish(topic, b"put") == 1
    assert b.control.ask(f"PUB {topic} pub") == "OK 2"
    assert stored(b, topic) == [(topic, b"put"), (topic, b"pub")]


def test_a_payload_of_exactly_max_payload_is_accepted_and_one_more_byte_is_not(broker):
    b = broker(SMALL_PAYLOADS)
    client = b.client()
    full = os.urandom(MAX).replace(b"\n", b"n").replace(b"\r", b"r").replace(b" ", b"s")
    assert client.publish("t", full) == 1
    assert client.ask(b"PUB t " + full) == "OK 2"
    assert client.ask(b"PUB t " + full + b"\r") == "OK 3"
    assert client.ask(b"PUB " + b"t" * 255 + b" " + full) == "OK 4"
    assert client.ask(b"PUB t " + full + b"x").code == "payload-too-large"
    client.send(put("t", full + b"x"))
    assert client.recv_line().code == "payload-too-large"
    assert client.publish("t", b"after") == 5
    assert [payload for _, payload in stored(b)] == [full] * 4 + [b"after"]


def test_max_payload_of_the_default_configuration_is_one_mebibyte(broker):
    b = broker()
    assert b.info()["max_payload"] == 1 << 20
    payload = os.urandom(1 << 20)
    assert b.publish("big", payload) == 1
    assert stored(b) == [("big", payload)]


def test_thousands_of_publishes_may_be_pipelined(broker):
    b = broker()
    count = scaled(50000)
    client = b.client()
    answers = client.exchange(b"".join(b"PUB t%d message %d\n" % (n % 10, n) for n in range(count)), count)
    assert answers == [f"OK {n}" for n in range(1, count + 1)]
    assert stored(b) == [(f"t{n % 10}", b"message %d" % n) for n in range(count)]


def test_pipelined_commands_of_all_kinds_are_answered_in_order(broker):
    b = broker()
    client = b.client()
    client.send(b"PUB t 1\nPUT t 1\n2\nPING\nPUB bad..topic x\nPUB t 3\nACKS OFF\nPUB t 4\nPING\nQUIT\n")
    log = b.log
    answers = [client.recv_line() for _ in range(8)]
    assert [a for a in answers if not a.startswith("ERR")] == \
        ["OK 1", "OK 2", f"PONG 2@{log}", "OK 3", "OK", f"PONG 4@{log}", f"BYE quit 4@{log}"]
    assert answers[3].code == "bad-topic"
    client.expect_eof()


def test_acks_off_answers_only_what_fails(broker):
    b = broker()
    client = b.client()
    assert client.ok("ACKS OFF") == "OK"
    client.send(b"PUB t 1\nPUB $t 2\nPUT t 1\n3\nPUT a..b 1\n4\nPING\n")
    answers = [client.recv_line() for _ in range(3)]
    assert [a.code for a in answers[:2]] == ["bad-topic", "bad-topic"] and answers[2] == f"PONG 2@{b.log}"
    assert client.ok("ACKS ON") == "OK"
    assert client.ask("PUB t 5") == "OK 3"


def test_ping_after_acks_off_waits_until_everything_before_it_is_accepted(broker):
    b = broker("server.workers=2")
    publishers = [b.client() for _ in range(3)]
    for publisher in publishers:
        publisher.ok("ACKS OFF")
    count, rounds = scaled(2000), 5
    for done in range(1, rounds + 1):
        for publisher in publishers:
            answer = publisher.exchange(b"PUB t x\n" * count + b"PING\n", 1)[0]
            assert answer.id >= done * count
    assert b.head() == count * rounds * len(publishers)


def test_ping_names_the_head_in_the_position_that_everything_else_uses(broker):
    b = broker()
    client = b.client()
    log = b.log
    assert re.fullmatch("[0-9a-f]{8}", log)
    assert client.ask("PING") == f"PONG 0@{log}"
    client.publish("t")
    assert client.ask("PING") == f"PONG 1@{log}"
    assert client.ask("SUB x") == f"OK 1@{log}"
    assert client.ask("UNSUB") == f"OK 1@{log}"


def test_every_log_has_an_identity_of_its_own(broker):
    logs = {broker().log for _ in range(3)}
    assert len(logs) == 3


def test_info_tells_the_state_of_the_log_on_one_line(broker):
    b = broker()
    empty = b.info()
    assert (empty["first"], empty["head"], empty["proto"], empty["fsync"]) == (1, 0, 1, "memory")
    for _ in range(3):
        b.publish("t")
    full = b.info()
    assert (full["first"], full["head"], full["synced"], full["log"]) == (1, 3, 3, empty["log"])


def test_help_lists_every_command(broker):
    lines = broker().control.block("HELP")
    assert all(line.startswith("HELP ") for line in lines)
    for verb in "PUB PUT LINES SUB UNSUB READ TAIL CAT ACKS PING INFO STATS HELP QUIT".split():
        assert any(verb in line.words for line in lines), verb


# --- LINES -----------------------------------------------------------------------------------

def lines(broker, data, topic="log"):
    """Publishes with LINES; returns the answers up to the end of the stream."""
    client = broker.client()
    client.send(f"LINES {topic}\n")
    assert client.recv_line() == "OK"
    client.exchange(data, 0)
    client.half_close()
    return client.drain()


def test_lines_publishes_each_line_and_answers_once_at_the_end(broker):
    b = broker()
    b.publish("before")
    assert lines(b, b"one\ntwo words\n\n  spaces kept \nPUB x y\nQUIT\nCR goes\r\nbut one\r\r\n\x00\xff\n") == ["OK 9 10"]
    assert stored(b, "log") == [("log", payload) for payload in
                                (b"one", b"two words", b"", b"  spaces kept ", b"PUB x y", b"QUIT", b"CR goes", b"but one\r", b"\x00\xff")]


def test_lines_without_a_line_answers_ok_0_0(broker):
    b = broker()
    assert lines(b, b"") == ["OK 0 0"]
    b.publish("t")
    assert lines(b, b"") == ["OK 0 0"]


def test_lines_of_a_large_file_arrive_complete_and_in_order(broker):
    b = broker()
    count = scaled(100000)
    assert lines(b, b"".join(b"line %d of the file\n" % n for n in range(count))) == [f"OK {count} {count}"]
    assert [payload for _, payload in stored(b)] == [b"line %d of the file" % n for n in range(count)]


def test_lines_may_follow_other_commands(broker):
    b = broker()
    client = b.client()
    client.send(b"PUB t 0\nPING\nLINES log\na\nb\n")
    client.half_close()
    assert client.drain() == ["OK 1", f"PONG 1@{b.log}", "OK", "OK 2 3"]


def test_lines_skips_a_line_that_is_too_long_or_too_large_and_names_its_number(broker):
    b = broker(SMALL_PAYLOADS)
    full = b"f" * MAX
    answers = lines(b, b"".join(line + b"\n" for line in (b"1", full, full + b"x", b"4", b"x" * (MAX + 2000), b"6", b"x" * 100000, full + b"\r")))
    assert [answer.words[:4] for answer in answers[:-1]] == [
        ["ERR", "payload-too-large", "line", "3"], ["ERR", "line-too-long", "line", "5"], ["ERR", "line-too-long", "line", "7"]]
    assert answers[-1] == "OK 5 5"
    assert [payload for _, payload in stored(b)] == [b"1", full, b"4", b"6", full]


def test_lines_does_not_publish_an_unterminated_last_line(broker):
    b = broker()
    answers = lines(b, b"one\ntwo\nthr")
    assert answers[0].words[:4] == ["ERR", "truncated", "line", "3"]
    assert answers[1:] == ["OK 2 2"]
    assert [payload for _, payload in stored(b)] == [b"one", b"two"]


def test_lines_with_only_an_unterminated_line_publishes_nothing(broker):
    b = broker()
    answers = lines(b, b"x")
    assert answers[0].words[:4] == ["ERR", "truncated", "line", "1"] and answers[1:] == ["OK 0 0"]
    assert b.head() == 0


def test_what_comes_by_lines_is_seen_while_it_comes(broker):
    b = broker()
    subscriber = b.client()
    subscriber.ok("SUB log")
    publisher = b.client()
    publisher.send("LINES log\none\n")
    assert subscriber.recv_msg() == (1, "log", b"one")
    publisher.send("two\nthr")
    assert subscriber.recv_msg() == (2, "log", b"two")
    publisher.send("ee\n")
    assert subscriber.recv_msg() == (3, "log", b"three")


# --- statistics ------------------------------------------------------------------------------

def test_stats_count_what_was_published_and_what_failed(broker):
    b = broker()
    client = b.client()
    before = b.stats()
    for payload in (b"", b"12345", b"1234567"):
        client.publish("t", payload)
    client.ask("PUB $t x")
    after = b.wait_stats(lambda s: s["published_total"] == before["published_total"] + 3, "three publishes are counted")
    assert after["published_bytes_total"] - before["published_bytes_total"] >= 12
    b.wait_stats(lambda s: s["publish_errors_total"] == before["publish_errors_total"] + 1, "the refused publish is counted")
    assert (after["log_first"], after["log_head"], after["log_messages"], after["log_identity"]) == (1, 3, 3, b.log)


def test_stats_have_every_name_that_the_protocol_promises(broker):
    names = """version uptime_s workers connections subscribers lagging_subscribers max_lag_messages connections_total rejected_total
        cut_total published_total published_bytes_total publish_errors_total delivered_total delivered_bytes_total gaps_total
        gap_messages_total log_identity log_first log_head log_synced log_messages log_bytes log_segments input_memory_bytes""".split()
    stats = broker("server.workers=2").stats()
    assert [name for name in names if name not in stats] == []
    assert stats["workers"] == 2 and stats["connections"] == 1 and stats["log_head"] == 0
