# SPDX-License-Identifier: MIT
"""SIGTERM: what was acknowledged is delivered, everybody gets a position, and the daemon ends."""

import signal
import threading

import pytest

from client import DEADLINE, Client, Line, Msg, put, scaled, wait_until
from traffic import Job, check_tiles, only_messages

PATIENT = "server.drain_timeout=10m"  # longer than any deadline: what ends, ends because it is done


def wait_shutting_down(witness):
    """An idle client is told at once: from its BYE on, the signal has been seen."""
    line = witness.recv_line()
    assert line.words[:2] == ["BYE", "shutting-down"], line
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_client_gets_bye_with_the_head_and_the_daemon_exits_0(broker, number):
    b = broker(PATIENT)
    log = b.log
    b.publish("t")
    client, subscriber = b.client(), b.client()
    client.ask("PING")
    subscriber.ok("SUB t")
    b.signal(number)
    for one in (client, subscriber, b.control):
        assert one.recv_line() == f"BYE shutting-down 1@{log}"
        one.expect_eof()
    b.expect_exit(0)


def test_a_daemon_without_a_client_ends_at_once(broker):
    b = broker(PATIENT)
    b.signal(signal.SIGTERM)
    b.expect_exit(0)


def test_clients_that_close_just_before_the_signal_do_not_hold_it_up(broker):
    brokers = [broker(PATIENT, "server.workers=2") for _ in range(10)]
    for n, b in enumerate(brokers):
        clients = [b.client() for _ in range(n + 1)]
        for client in clients:
            client.ok("SUB t") if n % 3 == 2 else client.ask("PING")
        for client in clients:
            client.close()
        b.signal(signal.SIGTERM)
    for b in brokers:
        b.expect_exit(0)


def test_clients_that_never_read_nor_write_do_not_hold_it_up(broker):
    b = broker(PATIENT)
    clients = [b.client() for _ in range(100)]
    b.wait_stats(lambda s: s["connections"] == 101, "all are connected")
    b.signal(signal.SIGTERM)
    b.expect_exit(0)
    assert all(client.recv_line().code == "shutting-down" for client in clients)


def test_a_subscriber_that_lags_gets_everything_up_to_the_head_before_its_bye(broker):
    b = broker(PATIENT, "server.workers=2")
    lagging = [b.client(rcvbuf=4096) for _ in range(5)]
    for client in lagging:
        client.ok("SUB >")
    lagging[0].half_close()
    count = scaled(10000)
    b.control.publish_all(("t", b"%d " % n + b"x" * 1000) for n in range(count))
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    for client in lagging:
        items = client.drain()
        bye = items.pop()
        assert bye.words[:2] == ["BYE", "shutting-down"] and bye.id == count
        assert [int(m.payload.split()[0]) for m in only_messages(items)] == list(range(count))
    b.expect_exit(0)


def publish_until_told(client, name):
    """Publishes until told to stop; returns what was acknowledged, and the other answers."""
    acknowledged, others, number = {}, [], 0
    try:
        while True:
            batch = [b"%s %d" % (name, number + n) for n in range(50)]
            number += 50
            client.send(b"".join(put("t", payload) for payload in batch))
            for payload in batch:
                answer = client.recv_line()
                if answer.startswith("OK "):
                    assert not others, "an OK after an ERR shutting-down"
                    acknowledged[answer.id] = payload
                else:
                    others.append(answer)
                    if answer.startswith("BYE"):
                        return acknowledged, others
    except ConnectionError:
        return acknowledged, others + [item for item in client.drain(reset_ok=True) if isinstance(item, Line)]


def test_everything_acknowledged_to_active_publishers_is_delivered_before_the_end(broker):
    b = broker(PATIENT, "server.workers=2")
    subscribers = [b.client() for _ in range(4)]
    for client in subscribers:
        client.ok("SUB >")
    readers = [Job(client.drain) for client in subscribers]
    publishers = [Job(lambda n=n, c=b.client(): publish_until_told(c, b"p%d" % n)) for n in range(4)]
    wait_until(lambda: b.head() > scaled(5000), "publishing is under way")
    b.signal(signal.SIGTERM)
    sent = [job.finish() for job in publishers]
    b.expect_exit(0)
    byes = set()
    for reader in readers:
        items = reader.finish()
        bye = items.pop()
        assert bye.words[:2] == ["BYE", "shutting-down"]
        check_tiles(items, 0, head=bye.id)
        byes.add(bye)
        delivered = {m.id: m.payload for m in only_messages(items)}
        for acknowledged, others in sent:
            assert all(delivered[i] == payload for i, payload in acknowledged.items())
            assert all(line.code == "shutting-down" for line in others), others[:3]
    assert len(byes) == 1, "they name different positions"


def test_publishing_after_the_signal_is_refused(broker):
    b = broker(PATIENT)
    b.publish("t")
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB >")
    b.control.flood("t", b"x" * 1000, 10000)
    late = b.client()
    late.ask("PING")
    begun = b.client()
    begun.ask("PING")
    begun.send("PUT t 3\nab")
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    for data in (b"PUB t evil\n", put("t", b"evil")):
        try:
            late.send(data)
        except ConnectionError:
            break
    answers = late.drain(reset_ok=True)
    assert answers and all(answer.code == "shutting-down" for answer in answers)
    begun.close()
    items = slow.drain()
    assert items[-1].words[:2] == ["BYE", "shutting-down"] and items[-1].id == 10001
    assert not any(isinstance(item, Msg) and item.payload == b"evil" for item in items)
    b.expect_exit(0)


def test_a_put_that_has_begun_may_be_completed_and_is_answered(broker):
    b = broker(PATIENT)
    client, subscriber = b.client(), b.client()
    client.ask("PING")
    subscriber.ok("SUB t")
    client.send("PUT t 5\nab")
    b.control.ask("PING")
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    client.send("cde\n")
    answer, *rest = client.drain()
    assert answer == "OK 1" or answer.words[:2] == ["ERR", "shutting-down"], answer
    assert [line.words[:2] for line in rest] == [["BYE", "shutting-down"]]
    items = subscriber.drain()
    assert items.pop().code == "shutting-down"
    # What is owed is the log as it was when the signal came; later messages may or may not come.
    assert items in ([], [(1, "t", b"abcde")] if answer == "OK 1" else [])
    b.expect_exit(0)


def test_a_put_that_is_never_completed_is_cut_at_drain_timeout(broker):
    b = broker("server.drain_timeout=300ms")
    client = b.client()
    client.send("PUT t 5\nab")
    b.control.ask("PING")
    b.signal(signal.SIGTERM)
    b.expect_exit(0)
    assert all(line.code != "OK" for line in client.drain(reset_ok=True))


@pytest.mark.parametrize("data", ["", "PUT t 10\nab", "PUT a..b 10\nab", "PUT a..b 10\n0123456789", "PUB t ha", "NOSUCH\nP"])
def test_a_half_closed_subscriber_gets_its_bye_whatever_its_input_ended_in(broker, data):
    b = broker(PATIENT)
    client = b.client()
    client.send("SUB t\n" + data)
    client.half_close()
    log = client.recv_line().position
    if data:
        assert client.recv_line().startswith("ERR ")
    assert b.publish("t", b"1") == 1
    b.signal(signal.SIGTERM)
    items = [item for item in client.drain() if not (isinstance(item, Line) and item.startswith("ERR "))]
    assert items == [(1, "t", b"1"), f"BYE shutting-down {log.replace('0@', '1@')}"]
    b.expect_exit(0)


def stalled_subscriber(broker):
    """One that is owed far more than the kernel holds, and does not read."""
    client = broker.client(rcvbuf=4096)
    client.ok("SUB >")
    broker.control.flood("t", b"x" * 10000, 2000)
    return client


def test_a_reader_that_does_not_read_is_cut_at_drain_timeout(broker):
    b = broker("server.drain_timeout=300ms")
    slow = stalled_subscriber(b)
    b.signal(signal.SIGTERM)
    b.expect_exit(0)
    items = slow.drain(reset_ok=True)
    assert not any(isinstance(item, Line) for item in items), "it was told BYE without having got what it is owed"


@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_at_once(broker, first, second):
    b = broker(PATIENT)
    stalled_subscriber(b)
    b.signal(first)
    wait_shutting_down(b.control)
    b.signal(second)
    b.expect_exit(0)


def test_who_connects_during_the_shutdown_is_not_served(broker):
    b = broker(PATIENT)
    slow = stalled_subscriber(b)
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    try:
        late = Client(b.address)
        late.send("PUB t evil\n")
        assert all(line.code == "shutting-down" for line in late.drain(reset_ok=True))
        late.close()
    except ConnectionError:
        pass
    items = slow.drain()
    assert items[-1].id == 2000 and items[-1].code == "shutting-down"
    b.expect_exit(0)


def test_a_read_under_way_is_completed(broker):
    b = broker(PATIENT)
    count = scaled(10000)
    b.control.flood("t", b"x" * 1000, count)
    client = b.client(rcvbuf=4096)
    client.ask("PING")
    client.send("READ >\n")
    assert client.readable(DEADLINE)
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    items = client.drain()
    assert [item.code for item in items[-2:]] == ["END", "shutting-down"] and items[-2].id == count
    assert [m.id for m in only_messages(items)] == list(range(1, count + 1))
    b.expect_exit(0)


@pytest.mark.parametrize("command", ["TAIL t AFTER 0", "CAT t"])
def test_tail_and_cat_get_everything_and_then_just_the_end(broker, command):
    b = broker(PATIENT)
    count = scaled(10000)
    b.control.publish_all(("t", b"%d " % n + b"x" * 1000) for n in range(count))
    client = b.client(rcvbuf=4096)
    client.send(command + "\n")
    assert client.readable(DEADLINE)
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    assert client.recv_raw() == b"".join(b"%d " % n + b"x" * 1000 + b"\n" for n in range(count))
    b.expect_exit(0)


def test_lines_under_way_end_with_the_number_of_the_first_line_that_was_not_published(broker):
    b = broker(PATIENT)
    subscriber = b.client()
    subscriber.ok("SUB log")
    reader = Job(subscriber.drain)
    client = b.client()
    client.ok("LINES log")
    stop = threading.Event()

    def feed():
        number = 0
        while not client.readable():
            assert client.send_until_stuck(b"".join(b"line %d\n" % n for n in range(number + 1, number + 101))) == b""
            number += 100
            stop.wait(0.0005)
        return number
    feeder = Job(feed)
    wait_until(lambda: b.head() > 500, "lines are published")
    b.signal(signal.SIGTERM)
    feeder.finish()
    error, ok = client.drain()
    assert error.words[:3] == ["ERR", "shutting-down", "line"]
    count = int(ok.words[1])
    assert ok == f"OK {count} {count}" and int(error.words[3]) == count + 1
    items = reader.finish()
    assert items.pop().id == count
    assert [m.payload for m in items] == [b"line %d" % n for n in range(1, count + 1)]
    b.expect_exit(0)


def test_idle_lines_end_with_what_they_published(broker):
    b = broker(PATIENT)
    client = b.client()
    client.ok("LINES log")
    client.send("one\ntwo\n")
    wait_until(lambda: b.head() == 2, "both lines are published")
    b.signal(signal.SIGTERM)
    error, ok = client.drain()
    assert error.words[:4] == ["ERR", "shutting-down", "line", "3"] and ok == "OK 2 2"
    b.expect_exit(0)


def test_answers_nobody_has_read_yet_are_still_given(broker):
    b = broker(PATIENT, "server.workers=1")
    client = b.client(rcvbuf=4096)
    rest = client.send_until_stuck(b"PUB t x\n" * scaled(100000))
    answered_at_least = 1000
    wait_until(lambda: b.head() >= answered_at_least, "some are executed")
    b.signal(signal.SIGTERM)
    wait_shutting_down(b.control)
    items = client.drain(reset_ok=bool(rest))
    oks = [item for item in items if item.startswith("OK ")]
    assert oks == [f"OK {n}" for n in range(1, len(oks) + 1)] and len(oks) >= answered_at_least
    if not rest:
        assert items[-1] == f"BYE shutting-down {items[-1].position}"
        assert items[-1].id == len(oks), "what was published was answered"
    client.close()
    b.expect_exit(0)
