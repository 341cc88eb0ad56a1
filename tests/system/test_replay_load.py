# SPDX-License-Identifier: MIT
"""Looking back at a long log keeps nobody else waiting. The order of answers is the evidence, no time is measured."""

import contextlib
import socket

import pytest

from client import DEADLINE, Line, Msg, scaled, wait_until
from traffic import Job

FULL = scaled(1_000_000)
KEEP_ALL = "log.retain_bytes=512M"
PAYLOAD = b"x" * 64
TRIES = 20


def fill(b, count=FULL):
    """A log of `count` messages; returns the last ten, which differ."""
    assert b.control.flood("old", PAYLOAD, count - 10) == count - 10
    last = [(f"last.{n % 3}", b"%d" % n) for n in range(10)]
    return [Msg(identity, *message) for identity, message in zip(b.control.publish_all(last), last)]


@contextlib.contextmanager
def replaying(b, count):
    """While the block runs, `count` connections are sent the whole log again and again. Yields the bytes that each got."""
    clients = [b.client() for _ in range(count)]
    taken = [0] * count

    def take(n):
        with contextlib.suppress(ConnectionError):
            while chunk := clients[n].sock.recv(1 << 20):
                taken[n] += len(chunk)

    for client in clients:
        client.send("READ > AFTER 0\n" * 2000)
    jobs = [Job(lambda n=n: take(n)) for n in range(count)]
    wait_until(lambda: all(taken), "each is being replayed to")
    try:
        yield taken
    finally:
        for client in clients:
            client.sock.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
    for job in jobs:
        job.finish()


def take_what_has_come(client):
    """The items that are there, without waiting for more."""
    client.sock.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError):
            while client.fill():
                pass
    finally:
        client.sock.settimeout(DEADLINE)
    return list(iter(client.take, None))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_newest_ten_of_a_million_are_read_while_eight_others_are_replayed_to(broker, workers):
    b = broker(KEEP_ALL, f"server.workers={workers}")
    newest = fill(b)
    ones = [m for m in newest if m.topic == "last.1"]
    reader, live = b.client(), b.client()
    live.ok("SUB live")
    with replaying(b, 8) as taken:
        for n in range(20):
            items, end = reader.read("> LAST 10")
            assert items == newest and end.id == newest[-1].id
            items, end = reader.read("last.1 LAST 2")
            assert items == ones[-2:]
            newest = [*newest[1:], Msg(b.publish("live", b"%d" % n), "live", b"%d" % n)]
            assert live.recv_msg() == newest[-1]
        before = list(taken)
        # All of them get on, and a replay of 2000 times the log can't have come to its end.
        wait_until(lambda: all(now > then for now, then in zip(taken, before)), "each replay goes on")
        assert b.stats()["connections"] == 8 + 3


@pytest.mark.parametrize("patterns, messages", [("nosuch", 200_000), ("no.* nosuch", 20_000)])
def test_thousands_of_reads_in_vain_stand_in_nobodys_way(broker, patterns, messages):
    """With one worker. What others ask later is answered before the last of them."""
    b = broker(KEEP_ALL, "server.workers=1")
    fill(b, scaled(messages))
    searcher, other, live = b.client(), b.client(), b.client()
    live.ok("SUB t")
    count = 2000
    for _ in range(TRIES):  # the daemon may be through before we have asked
        searcher.send(f"READ {patterns} LAST 1\n" * count)
        for n in range(5):
            assert other.ask("PING").startswith("PONG ")
            identity = other.publish("t", b"%d" % n)
            assert live.recv_msg() == Msg(identity, "t", b"%d" % n)
        ends = take_what_has_come(searcher)
        is_overtaken = len(ends) < count
        while len(ends) < count:
            ends.append(searcher.recv_item())
        assert all(isinstance(end, Line) and end.startswith("END ") for end in ends)
        positions = [end.id for end in ends]
        assert positions == sorted(positions) and positions[-1] <= b.head()
        assert searcher.ask("PING").startswith("PONG "), "one answer each, no more"
        if is_overtaken:
            return
    pytest.fail(f"{TRIES} times {count} answers came before those to others")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_replay_that_nobody_takes_keeps_no_message_from_live_subscribers(broker, workers):
    b = broker(KEEP_ALL, f"server.workers={workers}")
    fill(b)
    live = [b.client() for _ in range(4)]
    for client in live:
        client.ok("SUB live")
    stuck = [b.client(rcvbuf=4096) for _ in range(4)]
    for client in stuck:
        client.send("READ > AFTER 0\nSUB >\n")
        assert client.recv_msg().id == 1
    publisher = b.client()
    for n in range(scaled(200)):
        messages = [("live", b"%d %d" % (n, i)) for i in range(10)]
        ids = publisher.publish_all(messages)
        for client in live:
            assert client.recv_msgs(10) == [Msg(i, *message) for i, message in zip(ids, messages)]
    # What was not taken is still owed, in full and in order, and ends where the log ended when it was asked for.
    items = stuck[0].recv_until(lambda item: isinstance(item, Line))
    assert [m.id for m in items[:-1]] == list(range(2, FULL + 1)) and items[-1].startswith(f"END {FULL}@")
    assert stuck[0].recv_line().id == b.head()


def test_a_full_replay_and_live_publishing_are_mixed_without_loss(broker):
    """A subscriber that begins at the beginning, beside one that follows, while others publish."""
    b = broker(KEEP_ALL, "server.workers=2")
    fill(b, scaled(300_000))
    live, late = b.client(), b.client()
    start = live.ok("SUB live").id
    late.send("SUB live old AFTER 0\n")
    assert late.recv_line().id == 0
    count = scaled(20_000)
    got = Job(lambda: live.recv_msgs(count))
    replayed = Job(lambda: late.recv_until(lambda item: isinstance(item, Msg) and item.payload == b"the end"))
    ids = []
    while len(ids) < count - 1:
        ids += b.control.publish_all([("live", b"%d" % (len(ids) + i)) for i in range(min(100, count - 1 - len(ids)))])
    ids.append(b.publish("live", b"the end"))
    assert [m.id for m in got.finish()] == ids and ids[0] == start + 1
    everything = replayed.finish()
    assert [m.id for m in everything if m.topic == "live"] == ids
    assert sum(m.topic == "old" for m in everything) == start - 10
    assert [m.id for m in everything] == sorted({m.id for m in everything})
