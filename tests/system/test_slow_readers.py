# SPDX-License-Identifier: MIT
"""A slow or stopped reader delays nobody, costs nothing, and is told exactly what it missed."""

import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from broker import MEASURES_MEMORY
from client import DEADLINE, SMALL, Gap, Line, Msg, matches, put, scaled, wait_until
from traffic import Job, check_tiles, publishing

KIB, MIB = 1 << 10, 1 << 20
QUICK_RETENTION = ("log.segment_size=64K", "log.retain_bytes=256K", "limits.max_payload=16K")


def stalled(broker, request, **options):
    """A subscriber that reads its OK and then nothing."""
    client = broker.client(rcvbuf=4096, **options)
    start = client.ok(f"SUB {request}")
    return client, start.id


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_reader_that_stops_delays_nobody_and_is_told_its_gap(broker, tmp_path, transport):
    b = broker(*QUICK_RETENTION, "server.workers=1", *([f"listen.unix={tmp_path}/s"] if transport == "unix" else []))
    address = b.addresses[-1]
    slow, _ = stalled(b, ">", address=address)
    quick = b.client(address=address)
    quick.ok("SUB >")
    publisher = b.client(address=address)
    resident = None
    rounds, batch = scaled(400), 50
    for n in range(rounds):
        ids = publisher.publish_all([(f"t{n % 7}", b"x" * 1000)] * batch)
        assert [m.id for m in quick.recv_msgs(batch)] == ids
        if n == rounds // 10:
            resident = b.rss()
    head = rounds * batch
    if MEASURES_MEMORY:
        grown = b.rss() - resident
        assert grown < MIB, f"{grown // KIB} KiB more while a reader was stopped"

    kept = 256 << 10  # QUICK_RETENTION; what goes is dropped behind the publisher's back
    b.wait_stats(lambda s: s["log_segments"] << 16 <= kept, "retention has done its work")
    items, bye = slow.quit()
    assert check_tiles(items, 0) == bye.id == head
    gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps and all(gap.reason == "retention" for gap in gaps)
    assert gaps[-1].last == b.info()["first"] - 1
    stats = b.wait_stats(lambda s: s["gaps_total"] == len(gaps), "the gaps are counted")
    assert stats["gap_messages_total"] == sum(gap.last - gap.first + 1 for gap in gaps)
    assert stats["cut_total"] == 0, "no message here is larger than what is kept for a reader"


def test_a_reader_that_stops_for_a_while_loses_nothing_that_is_kept(broker):
    b = broker("server.workers=2")
    slow, _ = stalled(b, "a")
    count = scaled(20000)
    b.control.publish_all(("ab"[n % 2], b"%d" % n + b"x" * 500) for n in range(count))
    items, _ = slow.quit()
    assert [(m.id, m.topic) for m in items] == [(n + 1, "a") for n in range(0, count, 2)]


def test_a_subscriber_process_stopped_with_sigstop_goes_on_with_exact_gaps(broker):
    b = broker(*QUICK_RETENTION, "server.workers=2")
    program = Path(__file__).with_name("client.py")
    child = subprocess.Popen([sys.executable, str(program), b.address, "SUB >"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline().startswith("OK 0@")
        reader = Job(lambda: child.stdout.read())
        other = b.client()
        other.ok("SUB >")
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", "the child is stopped")
        count = 0
        for _ in range(scaled(1000)):
            b.control.publish_all([("t", b"x" * 3000)] * 10)
            count += 10
            assert [m.id for m in other.recv_msgs(10)] == list(range(count - 9, count + 1))
        child.send_signal(signal.SIGCONT)
        b.publish("t", b"the end")
        text = reader.finish()
        assert child.wait(DEADLINE) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    items = []
    for words in map(str.split, text.splitlines()):
        items.append(Msg(int(words[1]), "t", b"") if words[0] == "MSG" else Gap(int(words[1]), int(words[2]), words[3]))
    assert any(isinstance(item, Gap) for item in items)
    check_tiles(items, 0, head=count + 1)


def test_a_reader_that_is_always_too_slow_gets_every_id_or_its_gap(broker):
    b = broker(*QUICK_RETENTION, "server.workers=2")
    slow, start = stalled(b, ">")
    randomly = random.Random(1)
    items = []
    with publishing(b, ["a", "b"], publishers=2, size=100) as messages:
        while not (len(items) > 2000 and any(isinstance(item, Gap) for item in items)):
            assert slow.fill(randomly.randrange(1, 3000))
            while (item := slow.take()) is not None:
                items.append(item)
    rest, bye = slow.quit()
    items += rest
    check_tiles(items, start, head=bye.id)
    assert all(messages[item.id] == item for item in items if isinstance(item, Msg))


def test_a_slow_reader_of_few_topics_never_gets_what_its_gap_names(broker):
    b = broker(*QUICK_RETENTION, "server.workers=2")
    slow, start = stalled(b, "a b.*")
    last = 0
    with publishing(b, ["a", "b.x", "c", "d"], publishers=2, size=100) as messages:
        wait_until(lambda: b.info()["first"] > start + 5000, "retention has passed the reader")
        slow.send("PING\n")
        items = slow.recv_until(lambda item: isinstance(item, Line))
        last = items.pop().id
    missing, at = set(), start
    for item in items:
        first, final = (item.first, item.last) if isinstance(item, Gap) else (item.id, item.id)
        assert at < first <= final <= last
        at = final
        missing |= set(range(first, final + 1)) if isinstance(item, Gap) else set()
    got = [item for item in items if isinstance(item, Msg)]
    assert got == [messages[i] for i in sorted(messages) if start < i <= last and i not in missing and messages[i].topic in ("a", "b.x")]


# --- in the middle of a large message --------------------------------------------------------------

LARGE = ("log.segment_size=4M", "log.retain_bytes=16M", "server.workers=1")
PAYLOAD = os.urandom(MIB)


def push_out(broker, last):
    """Publishes until retention has dropped everything up to this id."""
    filler = put("other", b"x" * 100000) * 10
    broker.control.ok("ACKS OFF")

    def dropped():
        broker.control.exchange(filler + b"PING\n", 1)
        return broker.info()["first"] > last
    wait_until(dropped, f"retention drops message {last}")
    broker.control.ok("ACKS ON")


@pytest.mark.parametrize("command", ["SUB big", "READ big", "TAIL big AFTER 0", "CAT big"])
def test_a_reader_stopped_within_a_large_message_that_retention_drops_is_cut_there(broker, command):
    b = broker(*LARGE)
    slow = b.client(rcvbuf=4096)
    if command.startswith("SUB"):
        slow.ok(command)
    assert b.publish("big", PAYLOAD) == 1
    if not command.startswith("SUB"):
        slow.send(command + "\n")
    assert slow.readable(DEADLINE)
    assert slow.fill(100)
    push_out(b, 1)
    received = slow.recv_raw(reset_ok=True)
    b.wait_stats(lambda s: s["cut_total"] == 1, "the reader that was cut is counted")
    whole = (b"" if command[0] in "TC" else b"MSG 1 big %d\n" % MIB) + PAYLOAD + b"\n"
    assert len(received) < len(whole) and whole.startswith(received), "it ends within the message, without another byte"

    again = b.client()
    first = b.info()["first"]
    again.ok(f"SUB big AFTER 0@{b.log}")
    assert again.recv_item() == Gap(1, first - 1, "retention")
    new = b.publish("big", b"new")
    assert again.recv_item() == (new, "big", b"new")
    b.wait_stats(lambda s: s["cut_total"] == 1, "nobody else was cut")


def test_a_reader_stopped_within_a_large_message_that_is_kept_gets_its_rest(broker):
    b = broker(*LARGE)
    slow, _ = stalled(b, "big")
    b.publish("big", PAYLOAD)
    assert slow.readable(DEADLINE)
    assert slow.fill(100)
    b.control.flood("other", b"x" * 10000, 500)
    b.publish("big", b"next")
    assert slow.recv_msg().payload == PAYLOAD
    assert slow.recv_msg().payload == b"next"
    assert b.stats()["cut_total"] == 0


def test_many_readers_stopped_within_large_messages_cost_no_memory(broker):
    b = broker(*LARGE)
    count = scaled(300)
    slow = [stalled(b, "big")[0] for _ in range(count)]
    b.control.flood("other", b"x" * 100000, 200)
    before = b.rss()
    b.publish("big", PAYLOAD)
    for client in slow:
        assert client.readable(DEADLINE)
    if MEASURES_MEMORY:
        grown = b.rss() - before
        assert grown < 4 * MIB + count * 6 * KIB, f"{grown // KIB} KiB for {count} readers stopped within 1 MiB"
    push_out(b, 201)
    for client in slow:
        assert client.drain(reset_ok=True) == []
    b.wait_stats(lambda s: s["cut_total"] == count, "all are cut")


def test_a_small_message_cut_by_a_full_socket_is_completed_before_the_gap(broker):
    """Up to 4 KiB of a message that was begun is kept for its reader, so that nobody is cut here."""
    b = broker(*QUICK_RETENTION, "server.workers=1")
    slow = [stalled(b, ">")[0] for _ in range(20)]
    randomly = random.Random(2)
    count = 2000
    b.control.publish_all([("t", b"x" * randomly.randrange(3900)) for _ in range(count)])
    for client in slow:
        items, bye = client.quit()
        assert check_tiles(items, 0) == bye.id == count
        assert any(isinstance(item, Gap) for item in items)
    assert b.stats()["cut_total"] == 0


# --- many ------------------------------------------------------------------------------------------

def test_half_of_a_thousand_subscribers_stopped_neither_delays_the_rest_nor_grows_memory(broker):
    b = broker("log.retain_bytes=64M", "server.workers=2")
    half = scaled(500)
    slow = [stalled(b, "data")[0] for _ in range(half)]
    quick = [b.client() for _ in range(half)]
    for client in quick:
        client.ok("SUB tick")
    rounds = scaled(25)
    for n in range(rounds):
        b.control.flood("data", b"x" * 3900, 800)
        b.publish("tick", b"%d" % n)
        for client in quick:
            assert client.recv_msg().payload == b"%d" % n
    if MEASURES_MEMORY:
        bound = 64 * MIB + 2 * 4 * MIB + 8 * MIB + (2 * half) * 2 * KIB + half * 4 * KIB
        assert b.peak_rss() < bound, f"{b.peak_rss() // KIB} KiB resident at most, {bound // KIB} are allowed"
    head = b.head()
    for client in slow[::50]:
        items, bye = client.quit()
        assert bye.id == head
        assert SMALL or any(isinstance(item, Gap) for item in items), "so much cannot have been kept"


def test_ten_thousand_subscribers_on_two_workers_each_get_every_message(broker):
    wanted = 500 if scaled(10) == 1 else 10000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(wanted, hard - 300)
    if count < wanted:
        warnings.warn(f"only {count} subscribers instead of {wanted}: the hard limit of open files is {hard}")
    b = broker("server.workers=2")
    requests = ["fan.a", "fan.*", ">", "fan.a fan.b", "fan.b"]
    clients = [b.client() for _ in range(count)]
    for n, client in enumerate(clients):
        client.send(f"SUB {requests[n % len(requests)]}\n")
    for client in clients:
        assert client.recv_line().startswith("OK 0@")
    b.wait_stats(lambda s: s["subscribers"] == count, "all are subscribed")
    messages = [Msg(n + 1, ("fan.a", "fan.b", "other")[n % 3], b"%d " % n + b"x" * 200) for n in range(20)]
    b.control.publish_all((m.topic, m.payload) for m in messages)
    expected = {r: [m for m in messages if any(matches(p, m.topic) for p in r.split())] for r in requests}
    for n, client in enumerate(clients):
        want = expected[requests[n % len(requests)]]
        assert client.recv_msgs(len(want)) == want
    b.wait_stats(lambda s: s["delivered_total"] == sum(len(expected[requests[n % len(requests)]]) for n in range(count)), "each delivery is counted, none twice")
