# SPDX-License-Identifier: MIT
"""Looking back and coming back: every start, in every interface, on a log that is kept whole or forgets."""

import random
import time

import pytest

from client import Client, Gap, Line, Msg, scaled, wait_until
from traffic import Job, check_sequence, check_tiles, expected, only_messages, publish_batches, publishing

QUICK_RETENTION = ("log.segment_size=64K", "log.retain_bytes=256K", "limits.max_payload=16K")
TOPICS = ["a", "b.x", "a", "c.x.y", "b.y", "a"]
REQUESTS = [">", "a", "b.*", "a b.x", "c.> b.y a", "nothing", "*"]
FOREIGN = "00000000"  # the identity of no log, but for one chance in four billion


def fill(broker, count, size=0):
    """Publishes a small log over several topics; returns {id: Msg}."""
    pairs = [(TOPICS[n % len(TOPICS)], b"m%d" % n + b"x" * size) for n in range(count)]
    return {i: Msg(i, *pair) for i, pair in zip(broker.control.publish_all(pairs), pairs)}


def as_lines(items):
    """What TAIL and CAT make of messages and gaps."""
    return [item.payload if isinstance(item, Msg) else b"GAP %d %d %s" % (item.first, item.last, item.reason.encode()) for item in items]


def ask_sub(broker, request):
    """SUB … and everything up to the head: its items, and the position that its OK named (None: it was refused)."""
    client = broker.client()
    answer = client.ask(f"SUB {request}")
    if answer.startswith("ERR"):
        return answer, None
    items, _ = client.quit()
    return items, answer


def ask_read(broker, request):
    items, end = broker.control.read(request)
    if end.startswith("ERR"):
        assert items == []
        return end, None
    return items, end


def ask_cat(broker, request):
    client = broker.client()
    client.send(f"CAT {request}\n")
    raw = client.recv_raw()
    if raw.startswith(b"ERR "):
        return Line(raw.decode().rstrip("\n")), None
    return raw.split(b"\n")[:-1], None


def check_everywhere(broker, request, want, limit=""):
    """SUB, READ, CAT and TAIL all give the same for the same patterns and start."""
    if not limit:
        items, answer = ask_sub(broker, request)
        assert items == want, f"SUB {request}"
    items, end = ask_read(broker, request + limit)
    assert items == want, f"READ {request}{limit}"
    lines, _ = ask_cat(broker, request + limit)
    assert lines == as_lines(want), f"CAT {request}{limit}"
    if not limit:
        tail = broker.client()
        tail.send(f"TAIL {request}\n")
        assert [tail.recv_raw_line() for _ in want] == as_lines(want), f"TAIL {request}"
        tail.close()


def check_refused_everywhere(broker, request, code):
    for ask in (ask_sub, ask_read, ask_cat):
        answer, _ = ask(broker, request)
        assert isinstance(answer, Line) and answer.code == code, f"{ask.__name__} {request}: {answer!r:.200}"


# --- AFTER, on a log that is kept whole ------------------------------------------------------------------

@pytest.mark.parametrize("patterns", REQUESTS)
def test_resuming_after_any_id_gives_exactly_what_follows(broker, patterns):
    b = broker()
    messages = fill(b, 20)
    log, head = b.log, 20
    for i in range(head + 1):
        want = expected(messages, patterns.split(), after=i)
        check_everywhere(b, f"{patterns} AFTER {i}", want)
        check_everywhere(b, f"{patterns} AFTER {i}@{log}", want)
        items, answer = ask_sub(b, f"{patterns} AFTER {i}@{log}")
        assert answer == f"OK {i}@{log}"
        items, end = ask_read(b, f"{patterns} AFTER {i}@{log}")
        assert end == f"END {head}@{log}"


def test_a_tail_goes_on_with_what_is_published_after_its_replay(broker):
    b = broker()
    messages = fill(b, 12)
    tails = []
    for i in range(13):
        for patterns in REQUESTS[:5]:
            client = b.client()
            client.send(f"TAIL {patterns} AFTER {i}\n")
            tails.append((client, i, patterns))
    for client, i, patterns in tails:
        assert [client.recv_raw_line() for _ in expected(messages, patterns.split(), i)] == as_lines(expected(messages, patterns.split(), i))
    more = fill(b, 6)
    for client, i, patterns in tails:
        assert [client.recv_raw_line() for _ in expected(more, patterns.split())] == as_lines(expected(more, patterns.split()))


def test_after_an_id_that_does_not_exist_yet_is_refused(broker):
    b = broker()
    check_refused_everywhere(b, "a AFTER 1", "ahead-of-log")
    fill(b, 10)
    log = b.log
    for i in (11, 12, 10**18, 2**63 - 1):
        check_refused_everywhere(b, f"> AFTER {i}", "ahead-of-log")
        check_refused_everywhere(b, f"nothing AFTER {i}@{log}", "ahead-of-log")


@pytest.mark.parametrize("patterns", REQUESTS)
def test_a_position_of_another_log_starts_from_the_beginning_and_says_so(broker, patterns):
    b = broker()
    log = b.log
    want = [Gap(1, 0, "other-log")]
    for count in (0, 20):
        messages = fill(b, count)
        for i in (0, 1, count, count + 1, 2**63 - 1):
            items, answer = ask_sub(b, f"{patterns} AFTER {i}@{FOREIGN}")
            assert answer == f"OK 0@{log}"
            assert items == want + expected(messages, patterns.split())
            check_everywhere(b, f"{patterns} AFTER {i}@{FOREIGN}", want + expected(messages, patterns.split()))


# --- AFTER, on a log that forgets ---------------------------------------------------------------------------

def forgetful(broker):
    """A broker that has dropped its oldest messages; returns it, and {id: Msg} of all that was ever published."""
    b = broker(*QUICK_RETENTION)
    messages = fill(b, 3000, size=300)
    wait_until(lambda: b.info()["first"] > 10, "retention drops messages")
    return b, messages


@pytest.mark.parametrize("patterns", REQUESTS)
@pytest.mark.parametrize("start", ["0", "1", "first-3", "first-2", "first-1", "first", "first+1", "head-1", "head"])
def test_resuming_around_the_first_kept_id_gives_the_exact_gap(broker, patterns, start):
    b, messages = forgetful(broker)

    def check(info):
        first = info["first"]
        after = eval(start, {}, info)  # a row of the table above
        want = expected(messages, patterns.split(), max(after, first - 1))
        if after < first - 1:
            want.insert(0, Gap(after + 1, first - 1, "retention"))
        check_everywhere(b, f"{patterns} AFTER {after}", want)
        check_everywhere(b, f"{patterns} AFTER {after}@{info['log']}", want)
        _, answer = ask_sub(b, f"{patterns} AFTER {after}")
        assert answer == f"OK {after}@{info['log']}"
    b.steadily(check)


@pytest.mark.parametrize("patterns", REQUESTS)
def test_a_position_of_another_log_names_what_is_missing_of_this_one(broker, patterns):
    b, messages = forgetful(broker)

    def check(info):
        first, head = info["first"], info["head"]
        want = [Gap(1, first - 1, "other-log")] + expected(messages, patterns.split(), first - 1)
        for after in (0, first - 1, first, head, head + 1):
            check_everywhere(b, f"{patterns} AFTER {after}@{FOREIGN}", want)
            _, answer = ask_sub(b, f"{patterns} AFTER {after}@{FOREIGN}")
            assert answer == f"OK 0@{info['log']}"
    b.steadily(check)


@pytest.mark.parametrize("patterns", REQUESTS)
def test_what_asks_for_the_kept_gets_no_gap(broker, patterns):
    b, messages = forgetful(broker)

    def check(info):
        want = expected(messages, patterns.split(), info["first"] - 1)
        check_everywhere(b, f"{patterns} LAST {len(messages)}", want)
        check_everywhere(b, f"{patterns} LAST {2**63 - 1}", want)
        check_everywhere(b, f"{patterns} SINCE 1h", want)
        check_everywhere(b, f"{patterns} SINCE 1000000000", want)
        for ask in (ask_read, ask_cat):
            items, _ = ask(b, patterns)
            assert items == (want if ask is ask_read else as_lines(want))
    b.steadily(check)


def test_a_gap_is_told_once_and_counted(broker):
    b, messages = forgetful(broker)

    def check(info):
        before = b.stats()
        client = b.client()
        client.ok("SUB a AFTER 5")
        assert client.recv_item() == Gap(6, info["first"] - 1, "retention")
        items, _ = client.quit()
        assert items == expected(messages, ["a"], info["first"] - 1)
        after = b.wait_stats(lambda s: s["gaps_total"] > before["gaps_total"], "the gap is counted")
        assert after["gaps_total"] == before["gaps_total"] + 1
        assert after["gap_messages_total"] == before["gap_messages_total"] + info["first"] - 6
    b.steadily(check)


def test_a_log_that_keeps_nothing_still_knows_its_ids(broker):
    b = broker("log.retain_age=500ms")
    head = 50
    fill(b, head)
    info = wait_until(lambda: i if (i := b.info())["first"] == head + 1 else None, "everything is too old")
    log = info["log"]
    assert info["head"] == head
    check_everywhere(b, "a AFTER 0", [Gap(1, head, "retention")])
    check_everywhere(b, f"a AFTER {head - 1}@{log}", [Gap(head, head, "retention")])
    check_everywhere(b, f"a AFTER {head}@{log}", [])
    check_everywhere(b, f"a AFTER {head}@{FOREIGN}", [Gap(1, head, "other-log")])
    check_everywhere(b, "a LAST 10", [])
    check_everywhere(b, "a SINCE 1h", [])
    check_refused_everywhere(b, f"a AFTER {head + 1}", "ahead-of-log")
    items, end = ask_read(b, ">")
    assert items == [] and end == f"END {head}@{log}"
    client = b.client()
    assert client.ok("SUB a") == f"OK {head}@{log}"
    assert b.publish("a", b"new") == head + 1
    assert client.recv_item() == (head + 1, "a", b"new")


# --- LAST, SINCE, LIMIT ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("patterns", REQUESTS)
def test_last_gives_the_newest_that_match_in_order(broker, patterns):
    b = broker()
    messages = fill(b, 30)
    everything = expected(messages, patterns.split())
    for count in (1, 2, 3, 5, 14, 15, 16, 29, 30, 31, 1000, 2**63 - 1):
        want = everything[-count:]
        check_everywhere(b, f"{patterns} LAST {count}", want)
        _, answer = ask_sub(b, f"{patterns} LAST {count}")
        assert expected(messages, patterns.split(), after=answer.id) == want, "delivery does not begin after the position in the OK"


def test_last_of_a_rare_topic_is_found_at_the_far_end_of_a_long_log(broker):
    b = broker("log.retain_bytes=256M")
    b.publish("rare", b"1")
    b.publish("rare.x", b"2")
    b.control.flood("common", b"x" * 10, scaled(300000))
    b.publish("rare", b"3")
    b.control.flood("common", b"x" * 10, 1000)
    last = 2 + scaled(300000) + 1
    want = [Msg(1, "rare", b"1"), Msg(last, "rare", b"3")]
    check_everywhere(b, "rare LAST 1", want[1:])
    check_everywhere(b, "rare LAST 2", want)
    check_everywhere(b, "rare LAST 10", want)
    check_everywhere(b, "rare rare.* LAST 2", [Msg(2, "rare.x", b"2"), want[1]])
    check_everywhere(b, "nothing LAST 10", [])
    items, _ = ask_read(b, "> LAST 3")
    assert [item.id for item in items] == [last + 998, last + 999, last + 1000]


def test_since_gives_what_was_published_from_that_time_on(broker):
    b = broker()
    marks, messages = [], {}
    for _ in range(3):
        messages.update(fill(b, 10))
        # The daemon's clock may be a little off ours: the mark stands well between.
        now = time.time()
        wait_until(lambda: time.time() > now + 0.3, "the clock moves")
        marks.append((time.time(), b.head()))
        wait_until(lambda: time.time() > now + 0.6, "the clock moves")
    messages.update(fill(b, 10))
    for mark, head in marks:
        for patterns in REQUESTS:
            check_everywhere(b, f"{patterns} SINCE {mark:.3f}", expected(messages, patterns.split(), after=head))


@pytest.mark.parametrize("age", ["90s", "10m", "2h", "7d", "1000000000", "1000000000.25"])
def test_since_takes_ages_and_unix_seconds(broker, age):
    b = broker()
    messages = fill(b, 10)
    check_everywhere(b, f"a SINCE {age}", expected(messages, ["a"]))


def test_since_a_time_to_come_begins_with_what_is_published_next(broker):
    b = broker()
    fill(b, 10)
    check_everywhere(b, f"> SINCE {int(time.time()) + 86400}", [])


@pytest.mark.parametrize("patterns", REQUESTS)
def test_limit_ends_a_read_early(broker, patterns):
    b = broker()
    messages = fill(b, 30)
    everything = expected(messages, patterns.split())
    for limit in (1, 2, 7, 14, 15, 30, 31, 2**63 - 1):
        check_everywhere(b, patterns, everything[:limit], f" LIMIT {limit}")
        check_everywhere(b, patterns, expected(messages, patterns.split(), after=11)[:limit], f" AFTER 11 LIMIT {limit}")
        check_everywhere(b, patterns, everything[-10:][:limit], f" LAST 10 LIMIT {limit}")
        check_everywhere(b, patterns, everything[:limit], f" SINCE 1h LIMIT {limit}")


@pytest.mark.parametrize("patterns", REQUESTS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_reading_on_after_the_position_of_end_misses_and_repeats_nothing(broker, patterns, limit):
    b = broker()
    messages = fill(b, 40)
    got, position = [], "0"
    while True:
        items, end = ask_read(b, f"{patterns} AFTER {position} LIMIT {limit}")
        position = end.position
        if not items:
            break
        got += items
    assert got == expected(messages, patterns.split())
    assert position == f"40@{b.log}"


def test_read_ends_at_the_head_as_it_was(broker):
    b = broker("server.workers=2")
    with publishing(b, ["a", "b"], publishers=2) as messages:
        reads = [(b.head(), *b.client().read("a AFTER 0"), b.head()) for _ in range(20)]
    for before, items, end, after in reads:
        assert before <= end.id <= after
        assert items == expected(messages, ["a"], up_to=end.id)


def test_reads_may_be_pipelined_among_other_commands(broker):
    b = broker()
    messages = fill(b, 12)
    client = b.client()
    client.send("READ a LIMIT 2\nPING\nREAD nothing\nPUB a more\nREAD a LAST 1\nQUIT\n")
    log = b.log
    items = client.drain()
    assert items == [*expected(messages, ["a"])[:2], items[2], f"PONG 12@{log}", f"END 12@{log}", "OK 13", (13, "a", b"more"), f"END 13@{log}", f"BYE quit 13@{log}"]
    assert items[2].startswith("END ") and items[2].id >= items[1].id


def test_keywords_may_be_topics_where_they_come_first(broker):
    b = broker()
    topics = ["AFTER", "LAST", "SINCE", "LIMIT", "after"]
    messages = {i: Msg(i, topic, b"") for topic in topics if (i := b.publish(topic))}
    for n, topic in enumerate(topics, 1):
        check_everywhere(b, f"{topic} AFTER 0", [messages[n]])
        check_everywhere(b, f"{topic} LAST 1", [messages[n]])
        check_everywhere(b, topic, [messages[n]], " LIMIT 1")
    for answer in (b.client().ask("SUB a AFTER"), b.client().ask("SUB a LAST SINCE 1h")):
        assert answer.code == "bad-argument"


def test_every_position_that_a_client_is_told_is_a_resume_point(broker):
    b = broker()
    messages = fill(b, 20)
    client = b.client()
    positions = [client.ok("SUB a LAST 2").position, client.ask("PING").position, client.ok("SUB b.x").position, client.ok("UNSUB b.x").position,
                 client.ok("UNSUB").position, client.read("a LIMIT 3")[1].position, client.read("a")[1].position]
    positions.append(client.quit()[1].position)
    for position in positions:
        check_everywhere(b, f"> AFTER {position}", expected(messages, [">"], after=int(position.split("@")[0])))


def test_a_subscription_may_start_anew_after_unsub(broker):
    b = broker()
    messages = fill(b, 20)
    client = b.client()
    for start, want in (("AFTER 0", expected(messages, ["a"])), ("LAST 3", expected(messages, ["a"])[-3:]), ("AFTER 20", []), ("SINCE 1h", expected(messages, ["a"]))):
        client.ok(f"SUB a {start}")
        assert client.recv_msgs(len(want)) == want
        client.ok("UNSUB")


def test_a_pattern_added_during_a_replay_counts_from_the_position_reached(broker):
    b = broker("server.workers=1")
    count = scaled(20000)
    messages = fill(b, count, size=50)
    client = b.client(rcvbuf=4096)
    client.ok("SUB a AFTER 0")
    client.send("SUB b.*\n")
    before = client.recv_until(lambda item: isinstance(item, Line))
    answer = before.pop()
    after, bye = client.quit()
    assert only_messages(before) == expected(messages, ["a"], up_to=answer.id)
    assert only_messages(after) == expected(messages, ["a", "b.*"], answer.id, bye.id)


# --- coming back, over and over ----------------------------------------------------------------------------------

def come_and_go(address, patterns, log, seed, is_over):
    """Disconnects at any byte and resumes with the last position, until is_over() and the head is reached."""
    randomly = random.Random(seed)
    position, got, visits = f"0@{log}", [], 0

    def note(item):
        nonlocal position
        assert not isinstance(item, Gap), item
        if isinstance(item, Msg):
            got.append(item)
            position = f"{item.id}@{log}"
        else:
            position = item.position

    while True:
        visits += 1
        client = Client(address, rcvbuf=randomly.choice([None, 4096]))
        over = is_over()
        client.send(f"SUB {patterns} AFTER {position}\n")
        if over and visits > 100:
            for item in client.drain_after("QUIT\n"):
                note(item)
            client.close()
            return got, visits
        budget = randomly.choice([randomly.randrange(1, 60), randomly.randrange(1, 3000), randomly.randrange(1, 30000)])
        while budget > 0:
            if randomly.random() < .2:
                client.send("PING\n")
            if not client.readable(timeout=0.05):
                break
            size = min(budget, randomly.choice([1, 100, 10000]))
            assert client.fill(size)
            budget -= size
            while (item := client.take()) is not None:
                note(item)
        client.close()


@pytest.mark.parametrize("patterns", ["a.0", "a.*", "*.1 b.2", ">", "a.0 a.1 c.>", "nothing"])
def test_a_subscriber_that_comes_and_goes_gets_exactly_what_one_that_stays_gets(broker, patterns):
    b = broker("server.workers=2", "log.segment_size=1M", "log.retain_bytes=256M", "limits.max_payload=64K")
    log = b.log
    stays = b.client()
    stays.ok(f"SUB {patterns}")
    staying = Job(stays.drain)
    batches, size = scaled(150), 20
    topics = [f"{letter}.{digit}" for letter in "abc" for digit in "012"]
    publishers = [Job(lambda n=n, c=b.client(): publish_batches(c, f"p{n}", topics, batches, size)) for n in range(4)]

    def is_over():
        return not any(p.is_alive() for p in publishers)
    goers = [Job(lambda seed=seed: come_and_go(b.address, patterns, log, seed, is_over)) for seed in range(2)]
    messages = {}
    for publisher in publishers:
        messages.update(publisher.finish())
    assert sorted(messages) == list(range(1, 4 * batches * size + 1))
    for goer in goers:
        got, visits = goer.finish()
        assert got == expected(messages, patterns.split()), f"after {visits} visits"
    stays.send("QUIT\n")
    items = staying.finish()
    assert items.pop().code == "quit" and items == expected(messages, patterns.split())


@pytest.mark.parametrize("patterns", [">", "a", "a b.*"])
def test_resuming_where_retention_is_just_passing_is_exact(broker, patterns):
    b = broker(*QUICK_RETENTION, "server.workers=2")
    randomly = random.Random(5)
    taken = []
    with publishing(b, TOPICS, publishers=2, size=200) as messages:
        wait_until(lambda: b.info()["first"] > 1, "retention is at work")
        for n in range(scaled(80)):
            after = b.info()["first"] + randomly.randrange(-5, 300)
            after = max(0, min(after, b.head()))
            if n % 2:
                client = b.client()
                start = client.ok(f"SUB {patterns} AFTER {after}")
                assert start.id == after
                items, end = client.quit()
                client.close()
            else:
                items, end = b.client().read(f"{patterns} AFTER {after}")
            taken.append((after, items, end.id))
    assert any(isinstance(item, Gap) for _, items, _ in taken for item in items), "retention never passed"
    for after, items, end in taken:
        check_sequence(items, patterns.split(), messages, after, end)
        if patterns == ">":
            check_tiles(items, after, head=end)


# --- retention ----------------------------------------------------------------------------------------------------

def test_retention_by_bytes_keeps_about_as_much_as_it_may(broker):
    limit, segment = 1 << 20, 64 << 10
    b = broker(f"log.segment_size={segment}", f"log.retain_bytes={limit}", "limits.max_payload=16K")
    size = 1000
    for _ in range(scaled(200)):
        b.control.publish_all([("t", b"x" * size)] * 50)
        assert b.stats()["log_bytes"] <= limit + 2 * segment
    b.wait_stats(lambda s: s["log_segments"] * segment <= limit, "the log is within its limit")
    info = b.info()
    assert info["first"] > 1
    kept = info["head"] - info["first"] + 1
    assert kept * size > limit / 2, f"only {kept} messages of {size} bytes are kept within {limit} bytes"


def test_retention_by_messages_keeps_at_least_so_many_and_at_most_an_eighth_more(broker):
    wanted = 4000
    b = broker(f"log.retain_messages={wanted}", "log.segment_size=64K", "log.retain_bytes=0", "limits.max_payload=16K")
    in_segment = (64 << 10) // (32 + len("MSG 12345 t 10\n") + 10 + 1)
    for n in range(scaled(300)):
        b.control.publish_all([("t", b"x" * 10)] * 100)
        info = b.info()
        assert info["head"] - info["first"] + 1 >= min(wanted, info["head"])
        if n % 10 == 9:
            wait_until(lambda: (i := b.info())["head"] - i["first"] + 1 <= wanted + wanted // 8 + in_segment, "the oldest are dropped")
    if b.head() > 2 * wanted:
        assert b.info()["first"] > 1


def test_retention_by_messages_counts_few_large_ones_too(broker):
    b = broker("log.retain_messages=16", "log.retain_bytes=1G", "log.segment_size=64M")
    for n in range(200):
        b.publish("t", b"x" * 1000)
        info = b.info()
        assert info["head"] - info["first"] + 1 >= min(16, info["head"])
    items, _ = b.control.read("> LAST 16")
    assert [item.id for item in items] == list(range(185, 201))


def test_retention_by_age_forgets_everything_when_nobody_publishes(broker):
    b = broker("log.retain_age=1s", "server.workers=2")
    fill(b, 1000)
    wait_until(lambda: (i := b.info())["first"] == i["head"] + 1, "everything is too old")
    assert b.head() == 1000
    fill(b, 10)
    wait_until(lambda: (i := b.info())["first"] == 1011, "everything is too old again")
    assert b.publish("t") == 1011


def test_retention_by_age_forgets_the_old_while_publishing_goes_on(broker):
    b = broker("log.retain_age=1s")
    old = b.publish("t", b"old")

    def forgotten():
        b.publish("t", b"new")
        return b.info()["first"] > old + 10
    wait_until(forgotten, "the old are forgotten")
    newest = b.publish("t", b"newest")
    items, _ = b.control.read("t LAST 1")
    assert items == [(newest, "t", b"newest")], "what is not old is kept"


def test_retention_rules_hold_together(broker):
    b = broker("log.retain_messages=100000", "log.retain_age=1s", *QUICK_RETENTION)
    for _ in range(scaled(100)):
        b.control.publish_all([("t", b"x" * 1000)] * 20)
        assert b.stats()["log_bytes"] <= (256 + 2 * 64) << 10
    wait_until(lambda: (i := b.info())["first"] == i["head"] + 1, "age counts although fewer are kept than retain_messages")


def test_a_log_without_any_limit_keeps_everything(broker):
    b = broker("log.retain_bytes=0", "log.segment_size=64K", "limits.max_payload=16K")
    count = scaled(3000)
    b.control.flood("t", b"x" * 1000, count)
    items, end = b.control.read("t")
    assert [item.id for item in items] == list(range(1, count + 1)) and end.id == count


def test_the_oldest_go_however_slow_a_reader_is(broker):
    b = broker(*QUICK_RETENTION)
    slow = b.client(rcvbuf=4096)
    slow.send("READ > AFTER 0\n" + "SUB > AFTER 0\n")
    reader = b.client(rcvbuf=4096)
    reader.ok("SUB > AFTER 0")
    fill(b, 5000, size=300)
    wait_until(lambda: b.info()["first"] > 2000, "retention goes on")
    assert b.stats()["log_bytes"] <= (256 + 2 * 64) << 10
    check_tiles(reader.quit()[0], 0, head=5000)
