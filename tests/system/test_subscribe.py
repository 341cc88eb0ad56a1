# SPDX-License-Identifier: MIT
"""Live subscriptions: who gets what, in which order, and what stands between answers."""

import pytest

from client import Line, Msg, matches, scaled, wait_until
from traffic import check_sequence, expected, only_messages, publishing

WORKERS = [1, 2, 4]


def subscriber(broker, request):
    client = broker.client()
    client.ok(f"SUB {request}")
    return client


def publish_until(broker, topic, condition):
    """A subscriber that closed may have closed its sending side only: the next messages tell."""
    def holds():
        broker.publish(topic)
        return condition(broker.stats())
    wait_until(holds, "the subscribers are gone")


def test_a_subscriber_gets_each_message_of_its_topic_as_it_is_published(broker):
    b = broker()
    client = subscriber(b, "news")
    for n, payload in enumerate((b"hello", b"", b"\x00\n\r\n\xff", b"MSG 1 news 0"), 1):
        b.publish("news", payload)
        assert client.recv_msg() == (n, "news", payload)


def test_a_message_is_framed_exactly_as_the_protocol_says(broker):
    b = broker()
    client = b.client()
    client.send("SUB news.>\n")
    wait_until(lambda: b.stats()["subscribers"] == 1, "the subscription is there")
    b.publish("news.x", b"two\nlines")
    b.publish("other", b"-")
    b.publish("news.y", b"")
    client.send("QUIT\n")
    log = b.log
    assert client.recv_raw() == f"OK 0@{log}\nMSG 1 news.x 9\ntwo\nlines\nMSG 3 news.y 0\n\nBYE quit 3@{log}\n".encode()


def test_every_subscriber_of_a_topic_gets_every_message(broker):
    b = broker("server.workers=2")
    clients = [subscriber(b, "t") for _ in range(20)]
    for n in range(20):
        b.publish("t", b"%d" % n)
    for client in clients:
        assert [m.payload for m in client.recv_msgs(20)] == [b"%d" % n for n in range(20)]


def test_a_large_payload_arrives_as_it_was_sent(broker):
    b = broker()
    client = subscriber(b, "t")
    payload = bytes(range(256)) * 4096
    b.publish("t", payload)
    assert client.recv_msg().payload == payload


TOPICS = ["a", "b", "A", "a.b", "a.c", "b.a", "a.b.c", "a.b.d", "a.x.c", "a.b.c.d", "x.b.c", "aa", "aa.b", "a.bb", "a.b.c.d.e.f.g.h",
          "a.$b", "-", "a.\xe9", "AFTER", "x" * 255]
PATTERNS = ["a", "a.b", "a.b.c", "*", "*.*", "*.b", "a.*", "a.*.c", "*.*.*", "*.b.c", ">", "a.>", "a.b.>", "*.>", "*.*.>", "a.*.>", "a.b.c.d.>",
            "a.*.*.*.*.*.*.*", "nothing", "a.$b", "*.$b", "$SYS.>", "AFTER", "x" * 255, "*.\xe9", "a.b.c.d.e.f.g.h.>"]


def test_wildcards_match_what_the_rules_of_nats_say(broker):
    b = broker()
    clients = {pattern: subscriber(b, pattern) for pattern in PATTERNS}
    messages = [Msg(b.publish(topic, b"x"), topic, b"x") for topic in TOPICS]
    for pattern, client in clients.items():
        items, _ = client.quit()
        assert items == [m for m in messages if matches(pattern, m.topic)], pattern


def test_the_oracle_of_these_tests_knows_the_rules():
    """Written out by hand, as the other tests trust matches()."""
    yes = [("a.b", "a.b"), ("*", "a"), ("a.*", "a.b"), (">", "a"), (">", "a.b.c"), ("a.>", "a.b"), ("a.>", "a.b.c"), ("*.>", "a.b"),
           ("a.*.c", "a.b.c"), ("$x.>", "$x.y"), ("a.*", "a.$x")]
    no = [("a.b", "a"), ("a", "a.b"), ("*", "a.b"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a"), ("*.>", "a"), (">", "$x"), ("*", "$x"),
          ("*.>", "$x.y"), ("a.*.c", "a.b.d"), ("a", "A")]
    assert [case for case in yes if not matches(*case)] == [] and [case for case in no if matches(*case)] == []


def test_a_message_that_matches_several_patterns_comes_once(broker):
    b = broker()
    client = subscriber(b, "a.b a.* *.b > a.> a.b")
    for topic in ("a.b", "a.c", "c", "x.b"):
        b.publish(topic)
    items, _ = client.quit()
    assert [item.id for item in items] == [1, 2, 3, 4]


def test_several_patterns_make_one_sequence_in_id_order(broker):
    b = broker()
    client = subscriber(b, "a b.* c.>")
    for n in range(200):
        b.publish(["a", "b.x", "c.x.y", "d", "b", "c"][n % 6])
    items, _ = client.quit()
    assert [item.id for item in items] == [n + 1 for n in range(200) if n % 6 < 3]


def test_a_second_sub_of_the_same_pattern_changes_nothing(broker):
    b = broker()
    client = subscriber(b, "t")
    client.ok("SUB t")
    client.ok("SUB t u t")
    b.publish("t")
    b.publish("u")
    assert [m.id for m in client.recv_msgs(2)] == [1, 2]
    client.ok("UNSUB t")
    b.publish("t")
    b.publish("u")
    assert client.recv_msg().id == 4


@pytest.mark.parametrize("workers", WORKERS)
def test_sub_sees_nothing_that_was_acknowledged_before_it_and_everything_after(broker, workers):
    b = broker(f"server.workers={workers}")
    publisher, clients = b.client(), [b.client() for _ in range(2 * workers)]
    for n in range(scaled(300)):
        client = clients[n % len(clients)]
        before = publisher.publish("t", b"before")
        position = client.ok("SUB t")
        assert position.id >= before
        after = publisher.publish("t", b"after")
        assert client.recv_msg() == (after, "t", b"after")
        client.ok("UNSUB")


@pytest.mark.parametrize("workers", WORKERS)
def test_sub_during_publishing_gets_exactly_what_follows_its_position(broker, workers):
    b = broker(f"server.workers={workers}")
    got = []
    with publishing(b, ["a", "b", "c"], publishers=2) as messages:
        for n in range(30):
            client = b.client()
            start = client.ok("SUB a c" if n % 2 else "SUB >")
            wait_until(lambda: b.head() > start.id + 20, "more was published")
            got.append((start.id, ["a", "c"] if n % 2 else [">"], *client.quit()))
    for start, patterns, items, bye in got:
        assert items == expected(messages, patterns, start, bye.id)


# --- UNSUB -----------------------------------------------------------------------------------

def test_unsub_of_one_pattern_leaves_the_others(broker):
    b = broker()
    client = subscriber(b, "a b c")
    assert client.ok("UNSUB b").position == f"0@{b.log}"
    for topic in ("a", "b", "c"):
        b.publish(topic)
    items, _ = client.quit()
    assert [item.topic for item in items] == ["a", "c"]


def test_unsub_takes_several_patterns_and_does_not_mind_unknown_ones(broker):
    b = broker()
    client = subscriber(b, "a b c")
    client.ok("UNSUB nothing")
    client.ok("UNSUB a nothing c *")
    for topic in ("a", "b", "c"):
        b.publish(topic)
    items, _ = client.quit()
    assert [item.topic for item in items] == ["b"]


def test_unsub_compares_patterns_by_their_text(broker):
    b = broker()
    client = subscriber(b, "a.*")
    client.ok("UNSUB a.b a.> >")
    b.publish("a.b")
    assert client.recv_msg().id == 1


def test_unsub_without_a_pattern_ends_all_and_a_new_sub_starts_from_now(broker):
    b = broker()
    client = subscriber(b, "a b")
    client.ok("UNSUB")
    b.publish("a")
    assert client.ok("SUB a").id == 1
    b.publish("a")
    assert client.recv_msg().id == 2


def test_unsub_without_a_subscription_is_no_error(broker):
    b = broker()
    client = b.client()
    b.publish("t")
    assert client.ok("UNSUB") == f"OK 1@{b.log}"
    assert client.ok("UNSUB a b") == f"OK 1@{b.log}"


def test_nothing_of_a_pattern_comes_after_the_answer_to_its_unsub(broker):
    b = broker("server.workers=2")
    rounds = []
    with publishing(b, ["a", "b"], publishers=2) as messages:
        for _ in range(20):
            client = b.client()
            start = client.ok("SUB a b")
            before = client.recv_until(lambda item: isinstance(item, Msg) and item.id > start.id + 50)
            client.send("UNSUB a\n")
            before += client.recv_until(lambda item: isinstance(item, Line))
            answer = before.pop()
            wait_until(lambda: b.head() > answer.id + 50, "more was published")
            rounds.append((start, before, answer, *client.quit()))
    for start, before, answer, after, bye in rounds:
        assert only_messages(before) == expected(messages, ["a", "b"], start.id, answer.id)
        assert only_messages(after) == expected(messages, ["b"], answer.id, bye.id)


def test_a_pattern_added_to_a_live_subscription_counts_from_the_position_in_its_answer(broker):
    b = broker("server.workers=2")
    rounds = []
    with publishing(b, ["a", "b", "c"], publishers=2) as messages:
        for _ in range(20):
            client = b.client()
            start = client.ok("SUB a")
            before = client.recv_until(lambda item: isinstance(item, Msg) and item.id > start.id + 50)
            client.send("SUB b\n")
            before += client.recv_until(lambda item: isinstance(item, Line))
            answer = before.pop()
            wait_until(lambda: b.head() > answer.id + 50, "more was published")
            rounds.append((start, before, answer, *client.quit()))
    for start, before, answer, after, bye in rounds:
        assert answer.startswith("OK ")
        assert only_messages(before) == expected(messages, ["a"], start.id, answer.id)
        assert only_messages(after) == expected(messages, ["a", "b"], answer.id, bye.id)


# --- topics of the broker ----------------------------------------------------------------------

def test_topics_that_begin_with_a_dollar_can_be_subscribed_to_but_not_published_to(broker):
    b = broker()
    client = subscriber(b, "$SYS.> $x >")
    publisher = b.client()
    for command in ("PUB $SYS.a x", "PUB $x x", "PUB $ x", "PUT $x 1\ny"):
        assert publisher.ask(command).code == "bad-topic"
    publisher.publish("a.$x", b"fine")
    items, _ = client.quit()
    assert items == [(1, "a.$x", b"fine")]


# --- both on one connection --------------------------------------------------------------------

def test_one_connection_may_publish_and_subscribe(broker):
    b = broker()
    client = subscriber(b, "t")
    count = scaled(2000)
    answers = client.exchange(b"".join(b"PUB t %d\n" % n for n in range(count)), count)
    assert answers == [f"OK {n}" for n in range(1, count + 1)]
    items, bye = client.quit()
    assert items == [(n + 1, "t", b"%d" % n) for n in range(count)] and bye.id == count


def test_blocks_that_end_in_end_are_never_interrupted_by_messages(broker):
    b = broker("server.workers=2")
    with publishing(b, ["a", "b"], publishers=2) as messages:
        client = b.client()
        start = client.ok("SUB a")
        blocks, items = 60, []
        client.send("STATS\nHELP\n" * (blocks // 2))
        while blocks:
            items.append(client.recv_item())
            if isinstance(items[-1], Line):
                word = items.pop().words[0]
                while (line := client.recv_item()) != "END":
                    assert isinstance(line, Line) and line.words[0] == word, line
                blocks -= 1
        rest, bye = client.quit()
    assert items + rest == expected(messages, ["a"], start.id, bye.id)


def test_a_pong_is_a_resume_point_also_when_nothing_matches(broker):
    b = broker()
    client = subscriber(b, "quiet")
    for _ in range(100):
        b.publish("busy")
    wait_until(lambda: client.ask("PING").id == 100, "the position reaches the head")
    b.publish("quiet", b"now")
    assert client.recv_msg() == (101, "quiet", b"now")
    wait_until(lambda: client.ask("PING").id == 101, "the position reaches the head")


def test_everything_up_to_a_pong_came_before_it(broker):
    b = broker("server.workers=2")
    client = b.client()
    with publishing(b, ["a", "b", "c"], publishers=2) as messages:
        position = start = client.ok("SUB a c").id
        pieces = []
        # On a busy machine the publishers may begin late.
        while len(pieces) < 200 or position == start:
            client.send("PING\n")
            items = client.recv_until(lambda item: isinstance(item, Line))
            pong = items.pop()
            pieces.append((position, items, pong.id))
            position = pong.id
    for after, items, up_to in pieces:
        assert only_messages(items) == expected(messages, ["a", "c"], after, up_to)


# --- ends --------------------------------------------------------------------------------------

def test_quit_delivers_everything_up_to_the_head_then_says_bye(broker):
    b = broker()
    client = subscriber(b, "t")
    count = scaled(20000)
    b.control.publish_all([("t", b"%d" % n) for n in range(count)] + [("u", b"")])
    items, bye = client.quit()
    assert items == [(n + 1, "t", b"%d" % n) for n in range(count)]
    assert bye == f"BYE quit {count + 1}@{b.log}"


def test_commands_after_quit_are_not_executed(broker):
    b = broker()
    client = b.client()
    client.send("PUB t 1\nQUIT\nPUB t 2\nPING\n")
    assert client.drain() == ["OK 1", f"BYE quit 1@{b.log}"]
    assert b.head() == 1


def test_a_half_closed_subscriber_goes_on_receiving(broker):
    b = broker()
    client = b.client()
    client.send("SUB news\n")
    client.half_close()
    assert client.recv_line() == f"OK 0@{b.log}"
    for n in range(1, 4):
        b.publish("news", b"%d" % n)
        assert client.recv_msg() == (n, "news", b"%d" % n)


def test_a_half_closed_subscriber_that_goes_away_is_noticed_at_the_next_message(broker):
    b = broker()
    client = b.client()
    client.send("SUB news\n")
    client.half_close()
    client.recv_line()
    client.close()
    publish_until(b, "news", lambda s: s["subscribers"] == 0 and s["connections"] == 1)


def test_a_half_closed_client_without_patterns_gets_all_answers_and_then_the_end(broker):
    b = broker()
    count = scaled(5000)
    client = b.client()
    client.exchange(b"PUB t x\nPING\n" * count, 0)
    client.half_close()
    log = b.log
    assert client.drain() == [line for n in range(1, count + 1) for line in (f"OK {n}", f"PONG {n}@{log}")]


def test_a_half_closed_client_that_has_unsubscribed_gets_the_end(broker):
    b = broker()
    client = b.client()
    client.send("SUB t\nUNSUB\nPING\n")
    client.half_close()
    at = f"0@{b.log}"
    assert client.drain() == [f"OK {at}", f"OK {at}", f"PONG {at}"]


def test_a_half_closed_client_gets_the_whole_answer_to_its_read(broker):
    b = broker()
    count = scaled(20000)
    b.control.publish_all(("t", b"x" * 100) for _ in range(count))
    client = b.client()
    client.send("READ >\nREAD > LAST 1\n")
    client.half_close()
    items = client.drain()
    assert [item.id for item in items if isinstance(item, Msg)] == [*range(1, count + 1), count]
    assert [item for item in items if isinstance(item, Line)] == [f"END {count}@{b.log}"] * 2


def test_a_subscriber_that_is_killed_is_forgotten(broker):
    b = broker()
    clients = [subscriber(b, "t") for _ in range(10)]
    for client in clients[:9]:
        client.close()
    publish_until(b, "t", lambda s: s["subscribers"] == 1 and s["connections"] == 2)
    assert clients[9].recv_msg().id == 1


# --- what a subscription excludes ----------------------------------------------------------------

@pytest.mark.parametrize("command", ["READ t", "READ t LAST 1", "SUB u AFTER 0", "SUB u LAST 1", "SUB t SINCE 1h"])
def test_on_a_subscribed_connection_this_is_refused_and_it_goes_on(broker, command):
    b = broker()
    client = subscriber(b, "t")
    assert client.ask(command).code == "bad-argument"
    b.publish("u")
    b.publish("t")
    assert client.recv_msg() == (2, "t", b"")


@pytest.mark.parametrize("command", ["LINES t", "TAIL t", "CAT t"])
def test_on_a_subscribed_connection_this_is_refused_and_closes(broker, command):
    b = broker()
    client = subscriber(b, "t")
    client.send(command + "\nPUB t evil\n")
    assert client.recv_line().code == "bad-argument"
    client.expect_eof()
    assert b.head() == 0


def test_after_unsub_these_are_allowed_again(broker):
    b = broker()
    client = subscriber(b, "t")
    b.publish("t", b"1")
    client.recv_msg()
    client.ok("UNSUB t")
    items, end = client.read("t")
    assert [item.id for item in items] == [1] and end.id == 1
    client.ok("SUB t AFTER 0")
    assert client.recv_msg().id == 1
    client.ok("UNSUB")
    client.send("CAT t\n")
    assert client.recv_raw() == b"1\n"


def test_the_number_of_patterns_of_a_connection_is_limited(broker):
    b = broker("limits.max_patterns=10")
    client = subscriber(b, " ".join(f"t{n}" for n in range(9)))
    answer = client.ask("SUB a b")
    assert answer.code == "too-many" and "max_patterns" in answer
    client.ok("SUB a t0 t1")
    assert client.ask("SUB c").code == "too-many"
    client.ok("SUB a")
    b.publish("b")
    b.publish("c")
    b.publish("a")
    assert client.recv_msg().topic == "a"
    client.ok("UNSUB t0")
    client.ok("SUB c")


def test_a_thousand_patterns_on_one_connection_work(broker):
    b = broker()
    client = b.client()
    for n in range(0, 1024, 64):
        client.ok("SUB " + " ".join(f"t{i}.*" for i in range(n, n + 64)))
    assert client.ask("SUB one.more").code == "too-many"
    ids = b.control.publish_all((f"t{n}.x", b"") for n in range(0, 2048, 7))
    items, _ = client.quit()
    assert [item.id for item in items] == [i for i, n in zip(ids, range(0, 2048, 7)) if n < 1024]


# --- TAIL ----------------------------------------------------------------------------------------

def test_tail_sends_bare_payloads_from_now_on(broker):
    b = broker()
    b.publish("t", b"old")
    client = b.client()
    client.send("TAIL t\n")
    client.half_close()
    sent = []

    def arrives():
        sent.append(b"tick %d" % len(sent))
        b.publish("t", sent[-1])
        b.publish("u", b"other")
        return client.readable()
    wait_until(arrives, "the tail has begun")
    b.publish("t", b"two\nlines")
    b.publish("t", b"")
    first = client.recv_raw_line()
    assert first in sent
    rest = [client.recv_raw_line() for _ in range(len(sent) - sent.index(first) - 1 + 3)]
    assert rest == sent[sent.index(first) + 1:] + [b"two", b"lines", b""]


def test_what_a_tail_client_still_sends_is_dropped(broker):
    b = broker("server.workers=1")
    b.publish("t", b"1")
    client = b.client()
    client.send("TAIL t AFTER 0\nPUB t evil\nPING\nQUIT\n")
    assert client.recv_raw_line() == b"1"
    client.send(b"PUB t evil\n" * 1000)
    for n in range(2, 50):
        assert b.publish("t", b"%d" % n) == n
        assert client.recv_raw_line() == b"%d" % n


def test_delivered_messages_and_subscribers_are_counted(broker):
    b = broker("server.workers=2")
    before = b.stats()
    clients = [subscriber(b, "t") for _ in range(3)]
    b.wait_stats(lambda s: s["subscribers"] == 3, "three subscribers are counted")
    for _ in range(10):
        b.publish("t", b"12345")
    for client in clients:
        client.recv_msgs(10)
    after = b.wait_stats(lambda s: s["delivered_total"] - before["delivered_total"] == 30, "thirty deliveries are counted")
    assert after["delivered_bytes_total"] - before["delivered_bytes_total"] >= 150
    for client in clients:
        client.close()
    publish_until(b, "t", lambda s: s["subscribers"] == 0 and s["connections"] == 1)


def test_a_sequence_with_interleaved_commands_loses_nothing(broker):
    b = broker("server.workers=2")
    client = b.client()
    with publishing(b, ["a", "b"], publishers=2) as messages:
        start = client.ok("SUB a")
        items = []
        for n in range(100):
            client.send(["PING\n", "INFO\n", "nonsense\n", "PUB bad..topic x\n", "SUB a\n"][n % 5])
            items += client.recv_until(lambda item: isinstance(item, Line))
        rest, bye = client.quit()
    check_sequence(items + rest, ["a"], messages, start.id, bye.id)


def test_subscribers_of_a_quiet_topic_that_go_away_are_forgotten(broker, tmp_path):
    """Nothing is ever sent to them that could fail: they must be noticed all the same."""
    b = broker(f"listen.unix={tmp_path}/s")
    for n in range(5):
        client = b.client(address=b.addresses[-1])
        client.ok(f"SUB quiet.{n}")
        client.close()
    half_closed = b.client(address=b.addresses[-1])
    half_closed.ok("SUB news")
    half_closed.half_close()
    b.wait_stats(lambda s: s["connections"] == 2 and s["subscribers"] == 1, "only those that are there count")
    b.publish("news", b"still here")
    assert half_closed.recv_msg().payload == b"still here"
