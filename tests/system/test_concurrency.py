# SPDX-License-Identifier: MIT
"""Many at once: one total order, nothing lost, nothing twice, for everybody the same."""

import random

import pytest

from client import Gap, Msg, matches_any, put, scaled
from traffic import Job, expected

PUBLISHERS = 8
KINDS = "abc"
LOGS = {
    "few segments": (),
    "many segments": ("log.segment_size=64K", "log.retain_bytes=0", "limits.max_payload=16K"),
}
PATTERNS = [">", "p0.>", "*.a", "p1.a p2.b *.c", "p0.* p1.* *.a >", "nobody.>", "p7.c", "*.b p3.b"]


def messages_of(publisher, count):
    """What one publisher sends: its number and a counter, in payloads of all sizes."""
    randomly = random.Random(publisher)
    return [(f"p{publisher}.{KINDS[n % 3]}", b"%d %d " % (publisher, n) + b"x" * (randomly.randrange(5000) if n % 100 == 0 else n % 50)) for n in range(count)]


def publish_acknowledged(client, messages):
    ids = []
    for start in range(0, len(messages), 500):
        ids += client.publish_all(messages[start:start + 500])
    assert ids == sorted(ids)
    return dict(zip(ids, messages))


def publish_one_by_one(client, messages):
    return {client.publish(*message): message for message in messages[:len(messages) // 10]}


def publish_without_acknowledgement(client, messages):
    client.ok("ACKS OFF")
    client.exchange(b"".join(put(*message) for message in messages) + b"PING\n", 1)
    return {}


def publish_text(client, messages):
    answers = client.exchange(b"".join(b"PUB %s %s\n" % (topic.encode(), payload) for topic, payload in messages), len(messages))
    return {answer.id: message for answer, message in zip(answers, messages)}


WAYS = [publish_acknowledged, publish_one_by_one, publish_without_acknowledgement, publish_text]


def check_publishers(log, count):
    """Each publisher's messages are all there, once, in the order it sent them."""
    sent = [messages_of(p, count) for p in range(PUBLISHERS)]
    for p in range(PUBLISHERS):
        mine = [(m.topic, m.payload) for m in log if m.topic.startswith(f"p{p}.")]
        assert mine == sent[p][:len(mine)]
        assert len(mine) == (count // 10 if WAYS[p % len(WAYS)] is publish_one_by_one else count)


@pytest.mark.parametrize("log_kind", LOGS)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_eight_publishers_make_one_dense_log_that_every_subscriber_sees_alike(broker, workers, log_kind):
    b = broker(f"server.workers={workers}", *LOGS[log_kind])
    count = scaled(5000)
    live = []
    for request in PATTERNS * 2:
        client = b.client()
        client.ok(f"SUB {request}")
        live.append((request.split(), client, Job(client.drain)))
    late = b.client()
    late.ok("SUB >")
    jobs = [Job(lambda p=p, c=b.client(): WAYS[p % len(WAYS)](c, messages_of(p, count))) for p in range(PUBLISHERS)]
    acknowledged = {}
    for job in jobs:
        for i, message in job.finish().items():
            assert i not in acknowledged, f"id {i} was given twice"
            acknowledged[i] = message

    head = b.head()
    log, end = b.control.read(">")
    assert end.id == head
    assert [m.id for m in log] == list(range(1, head + 1))
    check_publishers(log, count)
    everything = {m.id: m for m in log}
    assert all((everything[i].topic, everything[i].payload) == message for i, message in acknowledged.items())
    items, bye = late.quit()
    assert items == log and bye.id == head
    for patterns, client, job in live:
        client.send("QUIT\n")
        items = job.finish()
        assert items.pop() == f"BYE quit {head}@{b.log}"
        assert items == expected(everything, patterns), patterns


def test_what_is_acknowledged_to_one_is_there_for_everybody(broker):
    b = broker("server.workers=4")
    clients = [b.client() for _ in range(8)]
    noise = [Job(lambda c=b.client(): c.flood("noise", b"x" * 10, scaled(20000))) for _ in range(2)]
    for n in range(scaled(1000)):
        i = clients[n % 8].publish("t", b"%d" % n)
        other = clients[(n * 5 + 1) % 8]
        assert other.ask("PING").id >= i
        items, _ = other.read(f"t AFTER {i - 1} LIMIT 1")
        assert items == [(i, "t", b"%d" % n)]
    for job in noise:
        job.finish()


def test_subscribers_that_come_and_go_do_not_disturb_those_that_stay(broker):
    b = broker("server.workers=2")
    count = scaled(3000)
    stays = b.client()
    stays.ok("SUB *.a p1.>")
    job = Job(stays.drain)
    jobs = [Job(lambda p=p, c=b.client(): publish_acknowledged(c, messages_of(p, count))) for p in range(PUBLISHERS)]
    randomly = random.Random(3)
    while any(j.is_alive() for j in jobs):
        client = b.client(rcvbuf=4096 if randomly.random() < .3 else None)
        start = client.ok("SUB " + randomly.choice(PATTERNS))
        if randomly.random() < .5:
            items, bye = client.quit()
            assert all(start.id < item.id <= bye.id for item in items)
        client.close()
    sent = {}
    for j in jobs:
        sent.update({i: Msg(i, *message) for i, message in j.finish().items()})
    stays.send("QUIT\n")
    items = job.finish()
    assert items.pop().code == "quit"
    assert items == expected(sent, ["*.a", "p1.>"])


def test_topics_beyond_number_are_told_apart(broker):
    """Hundreds of thousands of topics: nothing grows for each, and none is taken for another."""
    b = broker("server.workers=2", "log.retain_bytes=256M")
    count = scaled(200000)
    wanted = list(range(0, count, 997))
    clients = [b.client() for _ in range(10)]
    for n, client in enumerate(clients):
        client.ok("SUB " + " ".join(f"topic.{t}" for t in wanted[n::10]))
    publisher = b.client()
    for start in range(0, count, 20000):
        publisher.publish_all((f"topic.{t}", b"%d" % t) for t in range(start, min(count, start + 20000)))
    for n, client in enumerate(clients):
        items, _ = client.quit()
        assert not any(isinstance(item, Gap) for item in items)
        assert items == [(t + 1, f"topic.{t}", b"%d" % t) for t in wanted[n::10]]


def test_random_patterns_agree_with_the_oracle(broker):
    b = broker("server.workers=2")
    randomly = random.Random(4)
    atoms = ["a", "b", "c", "dd", "\xe9"]
    topics = [".".join(randomly.choice(atoms) for _ in range(randomly.randrange(1, 6))) for _ in range(scaled(3000))]

    def pattern():
        tokens = [randomly.choice(atoms + ["*"]) for _ in range(randomly.randrange(1, 6))]
        return ".".join(tokens + [">"] * (randomly.random() < .3))
    followers = []
    for _ in range(100):
        patterns = [pattern() for _ in range(randomly.choice([1, 1, 2, 5, 20]))]
        client = b.client()
        client.ok("SUB " + " ".join(patterns))
        followers.append((patterns, client))
    b.control.publish_all((topic, b"") for topic in topics)
    for patterns, client in followers:
        items, _ = client.quit()
        assert [item.id for item in items] == [n for n, topic in enumerate(topics, 1) if matches_any(patterns, topic)], patterns
