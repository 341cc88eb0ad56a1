# SPDX-License-Identifier: MIT
"""Loss of power: what may go is only what nobody could rely on, it is said exactly, and no id ever
means two messages.

The cuts are simulated (power.py). PSAD_POWER_CUTS=1000 is the long form, for each mode;
PSAD_POWER_SEED repeats a run as far as threads allow."""

import os
import random
import shutil

import pytest

import power
from client import FLAVOUR, Gap, Msg, put, wait_until
from durable import flip, messages_of, read_all
from history import History
from swarm import Swarm, look, read_everything, report
from traffic import check_tiles

pytestmark = [
    pytest.mark.skipif(bool(FLAVOUR), reason="the library is not for sanitizers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler to build power.c with"),
]
CUTS = int(os.environ.get("PSAD_POWER_CUTS", 24))
CUTS_OF_ONE_LOG = 6
SEED = int(os.environ.get("PSAD_POWER_SEED", random.SystemRandom().randrange(1 << 32)))
SMALL = ("log.segment_size=64K", "log.retain_bytes=0", "limits.max_payload=16K")
MODES = {
    "no": ("log.fsync=no",),
    "interval": ("log.fsync=interval", "log.fsync_interval=10ms"),
    "always": ("log.fsync=always",),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return power.build(tmp_path_factory.mktemp("power"))


@pytest.fixture
def powered(durable, tmp_path, library):
    """A factory: a log directory and its power supply."""
    made = []

    def make(*options, delay_us=0):
        home = tmp_path / f"machine{len(made)}"
        home.mkdir()
        log = durable(*options, home=home)
        log.dir.mkdir(mode=0o700)
        supply = power.Power(library, log.dir, home / "disk", delay_us)
        log.env = supply.environment
        log.before_start = supply.settle
        made.append(log)
        return log, supply

    return make


def people(swarm, seed):
    for n in range(3):
        swarm.publisher(f"p{n}", ["a", "b.x", "c.y"], seed + n, largest=10000)
    for n, (patterns, live) in enumerate([([">"], False), ([">"], True), (["a", "c.*"], False),
                                          (["b.>"], True)]):
        swarm.subscriber(f"s{n}", patterns, seed + 100 + n, live=live)


def live_through(log, supply, history, cuts, randomly):
    """Cuts the power so many times, under load; between them, kills with the power on."""
    broker = log.start(f"server.workers={randomly.randrange(1, 4)}")
    swarm = Swarm(log.address, history)
    people(swarm, randomly.randrange(1 << 30))
    while cuts > 0:
        for _ in range(randomly.randrange(1, 4)):
            swarm.wait_acknowledged(randomly.choice([1, 20, 200, 1000]))
            look(broker, history)
        swarm.wait_acknowledged(randomly.choice([1, 5, 50, 500]))
        log.kill()
        if randomly.random() < .75:
            cuts -= 1
            history.power_cut()
            supply.cut(randomly.randrange(1 << 32))
        while randomly.random() < .3:
            log.start_and_kill(randomly.random() * .04)
            if randomly.random() < .5:
                history.power_cut()
                supply.cut(randomly.randrange(1 << 32))
        broker = log.start(f"server.workers={randomly.randrange(1, 4)}")
        look(broker, history)
        # The gaps that this life tells, before the next one adds to them.
        read_everything(broker, history, f"reader after {cuts} more cuts", to_head=False)
    swarm.stop_publishing()
    return broker, swarm


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", range(max(1, CUTS // CUTS_OF_ONE_LOG)))
def test_a_loss_of_power_takes_only_what_nobody_could_rely_on(powered, mode, part):
    print(f"PSAD_POWER_SEED={SEED}, part {part}")
    randomly = random.Random(f"{SEED} {mode} {part}")
    log, supply = powered(*SMALL, *MODES[mode], delay_us=randomly.choice([0, 0, 2000, 20000]))
    history = History()
    broker, swarm = live_through(log, supply, history, CUTS_OF_ONE_LOG, randomly)
    head = look(broker, history)["head"]
    swarm.finish(head)
    read_everything(broker, history, "at the end")
    history.check(head, ["void", "lost"], synced="all" if mode == "always" else "observed")
    report(history, **{"power cuts": len(history._cuts)})


def test_what_is_synced_survives_every_cut_whole(powered):
    """In a quiet time nothing is lost at all, and no id either."""
    log, supply = powered(*SMALL, *MODES["interval"])
    b = log.start()
    sent = {}
    for seed in range(10):
        batch = [("t", b"%d %d" % (seed, n) + b"x" * 700) for n in range(90)]
        for identity, message in zip(b.control.publish_all(batch), batch):
            sent[identity] = Msg(identity, *message)
        wait_until(lambda: (i := b.info())["synced"] == i["head"], "all is synced")
        log.kill()
        supply.cut(seed)
        b = log.start()
        items, end = read_all(b)
        assert messages_of(items) == sent
        assert {item.reason for item in items if isinstance(item, Gap)} <= {"lost", "void"}
        check_tiles(items, 0, end.id)


def test_after_a_clean_stop_the_power_may_go(powered):
    """The machine is shut down: not even syncing was configured, and nothing is lost."""
    for mode in MODES:
        log, supply = powered(*SMALL, *MODES[mode])
        b = log.start()
        for seed in range(4):
            b.control.publish_all(("t", b"%d %d" % (seed, n) + b"x" * 700) for n in range(90))
            log.stop()
            supply.cut(seed)
            b = log.start()
            items, _ = read_all(b)
            assert [item.id for item in items] == list(range(1, 90 * seed + 91))


def test_with_always_an_ok_and_every_delivery_wait_for_the_sync(powered):
    """Nobody is told of a message that a cut at this moment would take."""
    log, supply = powered(*SMALL, *MODES["always"])
    b = log.start("server.workers=2")
    assert b.publish("t", b"before") == 1
    live, publisher, quiet = b.client(), b.client(), b.client()
    live.ok("SUB >")
    quiet.ok("ACKS OFF")
    supply.set("hold")
    publisher.send(put("t", b"waits"))
    quiet.send(put("t", b"waits too") + b"PING\n")
    wait_until(lambda: supply.is_held, "a sync has begun")
    for _ in range(20):  # anything may happen now, but this
        assert b.head() == 1 and b.info()["synced"] == 1
        assert read_all(b)[0] == [Msg(1, "t", b"before")]
        assert b.client().ask("PING").id == 1
        assert not publisher.readable() and not live.readable() and not quiet.readable()
    supply.set("hold", False)
    identity = publisher.recv_line().id
    assert quiet.recv_line().id >= 5 - identity
    assert {m.payload for m in live.recv_msgs(2)} == {b"waits", b"waits too"}


def test_with_always_what_waits_for_its_sync_may_be_lost_and_was_never_told(powered):
    log, supply = powered(*SMALL, *MODES["always"])
    b = log.start()
    assert b.publish("t", b"before") == 1
    supply.set("hold")
    publisher = b.client()
    publisher.send(put("t", b"waits"))
    wait_until(lambda: supply.is_held, "a sync has begun")
    log.kill()
    assert not publisher.drain(reset_ok=True)
    supply.cut(0)
    b = log.start()
    items, _ = read_all(b)
    assert items[0] == Msg(1, "t", b"before")
    assert b.publish("t", b"after") > 1


@pytest.mark.parametrize("mode", ["no", "interval"])
def test_without_always_a_slow_disk_delays_nobody(powered, mode):
    log, supply = powered(*SMALL, *MODES[mode])
    b = log.start()
    live = b.client()
    live.ok("SUB >")
    supply.set("hold")
    b.publish("t", b"0")
    if mode == "interval":
        wait_until(lambda: supply.is_held, "a sync has begun")
    for n in range(1, 20):
        assert b.publish("t", b"%d" % n) == n + 1
        assert b.info()["synced"] == 0
    assert [m.id for m in live.recv_msgs(20)] == list(range(1, 21))
    supply.set("hold", False)
    if mode == "interval":
        wait_until(lambda: b.info()["synced"] == 20, "all is synced")


# --- a disk that fails ----------------------------------------------------------------------------

def publisher_to(log, sent):
    """publish(payload) on a connection of its own; what is acknowledged is noted in `sent`."""
    def publish(payload):
        client = log.broker.client()
        client.send(put("t", payload))
        answer = client.recv_line()
        client.close()
        if answer.startswith("OK "):
            sent[answer.id] = Msg(answer.id, "t", payload)
        return answer
    return publish


def publish_until_failing(log, publish, first):
    """The first ERR."""
    numbers, answers = iter(range(first, 1 << 30)), []
    wait_until(lambda: answers.append(publish(b"<%d>" % next(numbers) + b"x" * 500)) or
               answers[-1].startswith("ERR "), "publishing is refused")
    return answers[-1]


@pytest.mark.parametrize("mode", ["interval", "always"])
def test_a_failed_sync_ends_publishing_and_reading_goes_on(powered, mode):
    """No later sync can be trusted, so nothing is acknowledged after it until a restart; and what
    that restart finds is written anew, so that the next loss of power doesn't take it."""
    log, supply = powered(*SMALL, *MODES[mode])
    b = log.start()
    sent = {}
    publish = publisher_to(log, sent)
    for n in range(30):
        publish(b"<%d>" % n + b"x" * 500)
    wait_until(lambda: b.info()["synced"] == 30, "all is synced")
    supply.set("fail")
    answer = publish_until_failing(log, publish, 30)
    assert answer.code == "log-failed", answer
    said = b.wait_stderr(".seg")
    assert "nput/output" in said or "EIO" in said, said
    supply.set("fail", False)
    for n in range(10):
        assert publish(b"<never %d>" % n).code == "log-failed"
    shown = messages_of(read_all(b)[0])
    assert shown.items() >= sent.items()
    if mode == "always":
        assert shown == sent
    log.kill()
    b = log.start()
    assert messages_of(read_all(b)[0]).items() >= sent.items()
    assert publish(b"<again>").startswith("OK ")
    wait_until(lambda: (i := b.info())["synced"] == i["head"], "all is synced")
    log.kill()
    supply.cut(1)
    b = log.start()
    assert messages_of(read_all(b)[0]).items() >= sent.items()


def test_a_failed_sync_is_told_where_nothing_is_synced_but_full_segments(powered):
    log, supply = powered(*SMALL, *MODES["no"])
    log.start()
    sent = {}
    publish = publisher_to(log, sent)
    publish(b"<0>")
    supply.set("fail")
    assert publish_until_failing(log, publish, 1).code in ("log-failed", "log-full")
    supply.set("fail", False)
    log.kill()
    b = log.start()
    assert messages_of(read_all(b)[0]).items() >= sent.items()
    wait_until(lambda: publish(b"<again>").startswith("OK "), "publishing goes on")


def test_a_failed_sync_under_load_and_a_cut_lose_nothing_that_was_promised(powered):
    log, supply = powered(*SMALL, *MODES["always"])
    history = History()
    b = log.start("server.workers=2")
    swarm = Swarm(log.address, history)
    people(swarm, 1)
    for seed in range(3):
        swarm.wait_acknowledged(300)
        refusals = sum(p.refusals for p in swarm.publishers)
        supply.set("fail")
        wait_until(lambda: sum(p.refusals for p in swarm.publishers) > refusals, "it has failed")
        supply.set("fail", False)
        look(b, history)
        log.kill()
        history.power_cut()
        supply.cut(seed)
        b = log.start("server.workers=2")
        look(b, history)
        read_everything(b, history, f"reader {seed}", to_head=False)
    swarm.wait_acknowledged(300)
    swarm.stop_publishing()
    head = look(b, history)["head"]
    swarm.finish(head)
    history.check(head, ["void", "lost"], synced="all")


# --- what is damage, and what is a loss of power --------------------------------------------------

def test_damage_below_the_synced_mark_is_no_loss_of_power(powered):
    """A flipped bit in what was safely on the disk is refused, not taken for a torn end."""
    log, supply = powered("log.fsync=interval", "log.fsync_interval=10ms")
    b = log.start()
    for n in range(1, 50):
        b.publish("t", b"<message %d>" % n)
    wait_until(lambda: b.info()["synced"] == 49, "all is synced")
    b.publish("t", b"one more")  # so that the mark of the 49 is on the disk, too
    wait_until(lambda: b.info()["synced"] == 50, "all is synced")
    log.kill()
    supply.cut(2)
    path, offset = log.find(b"<message 20>")
    flip(path, offset + 4)
    said = log.refused()
    assert path.name in said and "20" in said


def test_a_resuming_subscriber_is_told_of_the_loss_with_exact_bounds(powered):
    log, supply = powered("log.fsync=no")
    b = log.start()
    identity = b.log
    b.control.publish_all(("t", b"%d" % n) for n in range(50))
    log.stop()
    b = log.start()
    ids = b.control.publish_all(("t", b"%d" % n) for n in range(50, 100))
    assert ids == list(range(51, 101))
    client = b.client()
    client.ok("SUB > AFTER 90")
    assert [m.id for m in client.recv_msgs(10)] == list(range(91, 101))
    log.kill()
    supply.cut(0, share=0)
    b = log.start()
    assert b.log == identity
    assert b.head() >= 100
    client = b.client()
    client.ok(f"SUB > AFTER 100@{identity}")
    new = b.publish("t", b"new")
    items, _ = client.quit()
    assert items[-1] == Msg(new, "t", b"new") and new > 100
    check_tiles(items, 100, new)
    items, _ = read_all(b, "AFTER 45")
    assert [item.id for item in items[:5]] == [46, 47, 48, 49, 50]
    assert items[5].first == 51 and items[5].reason == "lost"
    check_tiles(items, 45, new)
