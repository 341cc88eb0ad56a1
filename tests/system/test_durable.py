# SPDX-License-Identifier: MIT
"""A log in files: what it keeps over restarts, kills, damage and full disks, and how it says what
it could not keep."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from broker import PSAD, Broker, environment, run_psad
from client import DEADLINE, Gap, Msg, put, scaled, wait_until
from durable import SmallDisk, flip, may_mount, messages_of, read_all
from history import History
from swarm import Swarm, look, read_everything
from traffic import Job, check_tiles

TINY = ("log.segment_size=64K", "limits.max_payload=16K")  # and any number of them
MODES = ["no", "interval", "always"]
ENDS = ["stop", "kill"]
FOREIGN = "00000000"


def end(log, how):
    """A clean stop, or kill -9."""
    {"stop": log.stop, "kill": log.kill}[how]()


def fill(log, segments, size=1000, topics=("a", "b.x", "c")):
    """Unlike messages, until so many segments more are there; returns {id: Msg}."""
    goal = len(log.segments) + segments
    return publish_numbered(log, lambda: len(log.segments) >= goal, size, topics)


def publish_numbered(log, condition, size=1000, topics=("a", "b.x", "c")):
    broker, sent = log.broker, {}
    number, late = broker.head(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < late, f"{len(sent)} messages were published in vain"
        batch = []
        for _ in range(20):
            number += 1
            batch.append((topics[number % len(topics)], b"<message %d>" % number + b"x" * size))
        for identity, message in zip(broker.control.publish_all(batch), batch):
            sent[identity] = Msg(identity, *message)
    return sent


def check_kept(broker, messages, patterns=">"):
    """All of them are there and nothing else, in every interface."""
    items, _ = read_all(broker, patterns=patterns)
    assert items == [messages[i] for i in sorted(messages)]


def check_except(items, messages, damaged):
    """Everything is there but these ids, which lie in gaps that say so, and nothing else does."""
    check_tiles(items, 0, max(messages))
    gone = [i for item in items if isinstance(item, Gap)
            for i in range(item.first, item.last + 1)]
    assert gone == sorted(damaged)
    assert all(item.reason == "damaged" for item in items if isinstance(item, Gap)), items
    assert messages_of(items) == {i: m for i, m in messages.items() if i not in damaged}


def wait_synced(broker):
    return wait_until(lambda: (i := broker.info())["synced"] == i["head"] and i,
                      "everything is synced")


# --- what a restart keeps -------------------------------------------------------------------------

@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_restart_keeps_identity_messages_and_positions(durable, mode, how):
    """Else each restart would cost all subscribers their place and everybody the messages."""
    log = durable(f"log.fsync={mode}")
    b = log.start()
    identity = b.log
    ids = b.control.publish_all(("t", b"%d" % n) for n in range(100))
    assert b.publish("empty") == 101
    end(log, how)
    b = log.start()
    info = b.info()
    assert (info["log"], info["first"], info["head"]) == (identity, 1, 101)
    for after in (0, 1, 50, 99, 100, 101):
        client = b.client()
        assert client.ok(f"SUB > AFTER {after}@{identity}") == f"OK {after}@{identity}"
        items, bye = client.quit()
        assert [item.id for item in items] == [*ids, 101][after:]
        assert bye.position == f"101@{identity}"
    assert b.publish("t", b"more") == 102  # nothing was in flight: no id is wasted


@pytest.mark.parametrize("how", ENDS)
def test_looking_back_is_the_same_after_a_restart(durable, how):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    early = fill(log, 4)
    before = time.time()
    wait_until(lambda: time.time() > before + .02, "the clock goes on")
    since = time.time() - .01
    late = fill(log, 4)
    messages = {**early, **late}
    requests = ["a LAST 1", "a LAST 50", "> LAST 1000000", "> SINCE 1h", f"> SINCE {since:.6f}",
                f"b.x a SINCE {since:.6f} LIMIT 7", "nothing LAST 5", "c AFTER 3 LIMIT 9", "*",
                f"> AFTER {max(early)}", "b.* SINCE 7d LIMIT 1"]
    b = log.broker
    answers = [b.control.read(request) for request in requests]
    assert messages_of(answers[4][0]) == late
    for _ in range(3):
        end(log, how)
        b = log.start()
        assert [b.control.read(request) for request in requests] == answers
        check_kept(b, messages)


def test_what_is_new_comes_after_what_was(durable):
    """A subscriber that resumes in the second life gets the first one's rest, then the new."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 3)
    b = log.revive()
    client = b.client()
    client.ok(f"SUB > AFTER 10@{b.log}")
    messages.update(fill(log, 3))
    items, _ = client.quit()
    assert items == [messages[i] for i in sorted(messages) if i > 10]


@pytest.mark.parametrize("how", ENDS)
def test_many_restarts_do_not_flush_the_log(durable, how):
    """A broker that crashes at every start must not push the kept messages out by that."""
    log = durable("log.retain_bytes=512K", *TINY)
    b = log.start()
    for n in range(1, 22):
        assert b.publish("t", b"%d" % n) == n
        end(log, how)
        b = log.start()
        assert len(log.segments) <= 8 + 2
    items, _ = read_all(b)
    assert [(item.id, item.payload) for item in items] == [(n, b"%d" % n) for n in range(1, 22)]


def test_a_log_that_nobody_wrote_to_is_kept_too(durable):
    log = durable()
    b = log.start()
    identity = b.log
    for how in ENDS * 2:
        end(log, how)
        b = log.start()
        assert (b.log, b.info()["first"], b.head()) == (identity, 1, 0)
        assert b.client().ask(f"SUB > AFTER 0@{identity}") == f"OK 0@{identity}"
        assert len(log.segments) <= 4, "each start leaves files behind"


def test_two_logs_are_two_logs(durable, tmp_path):
    """A position of one must never be taken for one of the other."""
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    one, two = [durable(home=home).start() for home in homes]
    assert one.log != two.log
    one.publish("t")
    items, _ = two.control.read(f"> AFTER 1@{one.log}")
    assert items == [Gap(1, 0, "other-log")]


@pytest.mark.parametrize("sizes", [("64K", "256K"), ("256K", "64K")])
def test_another_segment_size_holds_for_new_segments_only(durable, sizes):
    log = durable("log.retain_bytes=0", "limits.max_payload=16K")
    log.start(f"log.segment_size={sizes[0]}")
    messages = fill(log, 3)
    for n, how in enumerate(ENDS):
        end(log, how)
        log.start(f"log.segment_size={sizes[1 - n]}")
        messages.update(fill(log, 3))
    check_kept(log.broker, messages)


def test_a_log_of_many_segments_is_read_from_everywhere_at_once(durable):
    """More segments than are mapped at a time, most of them cold after a restart."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, scaled(150), size=2000)
    b = log.restart("server.workers=2")
    head, randomly = b.head(), random.Random(1)

    def reader(after, request):
        client = b.client()
        client.ok(f"SUB {request} AFTER {after}")
        client.send("QUIT\n")
        return client.drain()[:-1]
    wanted = [(randomly.randrange(head), randomly.choice([">", "a", "b.* c"])) for _ in range(12)]
    jobs = [Job(lambda w=w: reader(*w)) for w in wanted]
    new = fill(log, 3)
    for job, (after, request) in zip(jobs, wanted):
        items = job.finish()
        assert items[0].id > after
        topics = {">": ("a", "b.x", "c"), "a": ("a",), "b.* c": ("b.x", "c")}[request]
        assert [i for i in items if i.id <= head] == [
            messages[i] for i in range(after + 1, head + 1) if messages[i].topic in topics]
    check_kept(b, {**messages, **new})


def test_a_slow_reader_of_old_messages_gets_them_all(durable):
    """What is sent by reference may have gone cold by the time the peer takes it."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, scaled(100), size=12000)
    b = log.restart()
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB > AFTER 0")
    items = []
    for _ in range(5):  # others make other segments the ones that were used last
        items += slow.recv_msgs(3)
        check_kept(b, messages)
    slow.send("QUIT\n")
    assert items + slow.drain()[:-1] == [messages[i] for i in sorted(messages)]


# --- retention ------------------------------------------------------------------------------------

def test_retention_removes_files_and_the_directory_stays_small(durable):
    """Else the disk fills up, whatever retain_bytes says."""
    log = durable("log.retain_bytes=512K", *TINY)
    b = log.start()
    most = (8 + 2) * (64 << 10)
    files = {path.name for path in log.segments}
    for _ in range(40):
        b.control.publish_all(("t", b"x" * 3000) for _ in range(40))
        blocks, sizes = log.used_bytes()
        assert sizes <= most and blocks <= most + (64 << 10)  # the log's own small files
        files |= {path.name for path in log.segments}
    assert len(files) > len(log.segments) + 5
    for how in ENDS:
        first = b.info()["first"]
        assert first > 1
        end(log, how)
        b = log.start()
        now = b.info()["first"]
        assert now >= first
        items, _ = read_all(b)
        assert items[0] == Gap(1, now - 1, "retention") or b.info()["first"] > now
        check_tiles(items, 0, b.head())


def test_a_smaller_limit_holds_from_the_next_start_on(durable):
    log = durable(*TINY)
    log.start("log.retain_bytes=0")
    fill(log, 20)
    log.restart("log.retain_bytes=256K")
    wait_until(lambda: len(log.segments) <= 4 + 2, "old files are removed")
    items, _ = read_all(log.broker)
    check_tiles(items, 0, log.broker.head())
    assert items[0].reason == "retention"


def test_what_is_too_old_goes_also_when_it_was_written_in_an_earlier_life(durable):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    fill(log, 5)
    head = log.broker.head()
    b = log.restart("log.retain_age=1s")
    wait_until(lambda: b.info()["first"] == head + 1, "everything is too old")
    wait_until(lambda: not any(b"<message " in data for data in log.files.values()),
               "their files are removed")
    b = log.restart()
    assert (b.info()["first"], b.head()) == (head + 1, head)
    assert b.publish("t") == head + 1


# --- syncing, as it is told -----------------------------------------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_info_says_how_it_is_synced_and_up_to_where(durable, mode):
    """An operator must be able to see what a loss of power would cost."""
    log = durable(f"log.fsync={mode}")
    b = log.start()
    assert b.info()["fsync"] == mode
    for n in range(1, 20):
        b.publish("t", b"%d" % n)
        info = b.info()
        assert info["synced"] <= info["head"] == n
        if mode == "always":
            assert info["synced"] == n
    if mode != "no":
        assert wait_synced(b)["synced"] == 19
    assert b.stats()["log_synced"] == b.info()["synced"]
    b = log.restart()
    assert b.info()["synced"] == b.info()["head"] == 19  # a clean stop syncs


def test_a_log_in_memory_says_so(broker):
    b = broker()
    b.publish("t")
    info = b.info()
    assert (info["fsync"], info["synced"]) == ("memory", 1)


def test_sealed_segments_are_synced_without_an_interval_too(durable):
    log = durable("log.fsync=no", "log.retain_bytes=0", *TINY)
    b = log.start()
    fill(log, 5)
    wait_until(lambda: b.info()["synced"] > 0, "a full segment is synced")


def test_with_always_many_publishers_share_a_sync_and_all_get_their_answers(durable):
    log = durable("log.fsync=always", "server.workers=2", *TINY, "log.retain_bytes=0")
    b = log.start()
    live = b.client()
    live.ok("SUB >")
    count = scaled(300)

    def publisher(n, client):
        return [client.publish(f"t{n}", b"%d" % i) for i in range(count)]
    jobs = [Job(lambda n=n, c=b.client(): publisher(n, c)) for n in range(8)]
    ids = sorted(i for job in jobs for i in job.finish())
    assert ids == list(range(1, 8 * count + 1))
    items, _ = live.quit()
    assert [item.id for item in items] == ids
    log.kill()
    log.start()
    assert log.broker.head() == 8 * count


# --- who may have the directory -------------------------------------------------------------------

def test_a_second_daemon_on_the_same_directory_is_refused(durable, tmp_path):
    """Two writers would destroy the log. The first one must not even notice."""
    log = durable()
    b = log.start()
    b.publish("t", b"kept")
    result = run_psad("-o", "listen.tcp=127.0.0.1:0", "-o", f"log.dir={log.dir}")
    assert result.returncode == 2
    assert str(log.dir) in result.stderr and "ready" not in result.stderr
    for tool in ("--repair", "--new-log-id"):
        assert run_psad(tool, str(log.dir)).returncode == 2
    assert b.publish("t", b"kept as well") == 2
    log.revive()
    check_kept(log.broker, {1: Msg(1, "t", b"kept"), 2: Msg(2, "t", b"kept as well")})


def test_the_lock_does_not_outlive_the_process(durable):
    log = durable()
    log.start()
    for _ in range(5):
        log.revive()


def test_checking_the_configuration_does_not_touch_the_directory(durable):
    log = durable()
    assert run_psad("-t", "-o", f"log.dir={log.dir}").returncode == 0
    assert not log.dir.exists() or not list(log.dir.iterdir())
    b = log.start()
    assert run_psad("-t", "-o", f"log.dir={log.dir}").returncode == 0
    b.publish("t")
    log.stop()
    before = log.files
    assert run_psad("-t", "-o", f"log.dir={log.dir}").returncode == 0
    assert log.files == before


def test_others_cannot_read_the_messages(durable):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    fill(log, 3)
    assert log.dir.stat().st_mode & 0o077 == 0
    for path in log.dir.iterdir():
        assert path.stat().st_mode & 0o177 == 0, path


def test_a_path_that_is_a_file_is_refused(durable):
    log = durable()
    log.dir.write_text("my diary")
    assert str(log.dir) in log.refused()
    assert log.dir.read_text() == "my diary"


def test_a_directory_that_cannot_be_made_is_refused(durable):
    log = durable()
    (log.home / "file").write_text("")
    log.dir = log.home / "file" / "log"
    assert str(log.dir) in log.refused()


def test_a_directory_without_permission_is_refused():
    home = Path(tempfile.mkdtemp(prefix="psad-test-"))
    try:
        (home / "log").mkdir(mode=0o555)
        home.chmod(0o755)
        nobody = {"user": 65534} if os.getuid() == 0 else {}
        if not os.access(PSAD, os.X_OK) or any(
                not parent.stat().st_mode & 1 for parent in Path(PSAD).resolve().parents):
            pytest.skip("another user may not run this psad where it lies")
        result = subprocess.run(
            [PSAD, "-o", "listen.tcp=127.0.0.1:0", "-o", f"log.dir={home}/log"], timeout=DEADLINE,
            env=environment(), cwd="/", text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **nobody)
        assert result.returncode == 2, result.stderr
        assert f"{home}/log" in result.stderr and "ermission" in result.stderr
    finally:
        shutil.rmtree(home)


def test_a_mount_point_of_its_own_is_fine(durable):
    """A fresh ext4 has a lost+found in it."""
    log = durable()
    log.dir.mkdir()
    (log.dir / "lost+found").mkdir()
    log.start().publish("t")
    assert log.revive().head() == 1


def test_foreign_files_are_left_alone(durable):
    log = durable("log.retain_bytes=256K", *TINY)
    log.start()
    fill(log, 3)
    log.stop()
    foreign = {"README": b"mine", "notes.seg": b"not a segment", ".hidden": b"", "7.seg": b"short",
               "00000000000000000001.seg.damaged": b"a copy", "00000000000000000099.segment": b"x"}
    for name, data in foreign.items():
        (log.dir / name).write_bytes(data)
    (log.dir / "folder").mkdir()
    for how in ENDS:
        b = log.start()
        head = b.head()
        publish_numbered(log, lambda: b.head() > head + 1000)
        end(log, how)
    for name, data in foreign.items():
        assert (log.dir / name).read_bytes() == data
    assert (log.dir / "folder").is_dir()


def test_half_made_files_are_cleared_away(durable):
    log = durable()
    log.start().publish("t")
    log.kill()
    (log.dir / "00000000000000000099.seg.tmp").write_bytes(b"x" * 5000)
    (log.dir / "log.tmp").write_bytes(b"psad log 1\n")
    assert log.start().head() == 1
    assert not list(log.dir.glob("*.tmp"))


# --- refusals -------------------------------------------------------------------------------------

def check_refused(log, *words):
    """It does not start, says so in these words, and changes nothing."""
    before = log.files
    said = log.refused()
    for word in words:
        assert str(word) in said, f"{word!r} is not in:\n{said}"
    assert log.files == before
    return said


def test_another_format_version_is_refused(durable):
    """A newer psad's log must not be taken for damage by an older one."""
    log = durable()
    log.start().publish("t")
    log.stop()
    path = log.dir / "log"
    lines = path.read_text().splitlines(keepends=True)
    assert re.fullmatch(r"psad log 1\n", lines[0])
    path.write_text("psad log 2\n" + "".join(lines[1:]))
    assert re.search(r"(format|version)\D*2", check_refused(log, log.dir))


@pytest.mark.parametrize("content", [b"", b"psad log 1\n", b"\0" * 300, b"psad log 1\nx\n" * 9],
                         ids=["empty", "one line", "zeros", "nonsense"])
def test_a_log_file_that_is_no_log_file_is_refused(durable, content):
    log = durable()
    log.start().publish("t")
    log.stop()
    (log.dir / "log").write_bytes(content)
    check_refused(log, log.dir / "log")


def test_a_flipped_bit_in_the_log_file_is_refused(durable):
    log = durable()
    log.start().publish("t")
    log.stop()
    path = log.dir / "log"
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(whole)
        flip(path, offset, offset % 8)
        check_refused(log, path)
    path.write_bytes(whole)
    assert log.start().head() == 1


def test_segments_without_a_log_file_are_refused(durable):
    log = durable("log.retain_bytes=0", *TINY)
    identity = log.start().log
    messages = fill(log, 4)
    log.stop()
    (log.dir / "log").unlink()
    check_refused(log, log.dir)
    assert repair(log).returncode == 0
    b = log.start()
    assert b.log != identity  # nobody knows which log it was
    check_kept(b, messages)


def names_ids(said, first, last):
    """Whether both ends of a range are named as numbers of their own."""
    numbers = re.findall(r"(?<![0-9a-f])\d+(?![0-9a-f])", said)
    return str(first) in numbers and str(last) in numbers


def test_a_segment_file_missing_in_the_middle_is_refused_and_repaired_to_a_gap(durable):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 8)
    log.stop()
    missing = log.segments[3]
    data = missing.read_bytes()
    gone = {i for i, m in messages.items() if m.payload in data}
    assert len(gone) > 10
    missing.unlink()
    check_refused(log, missing.name)
    assert repair(log).returncode == 0
    b = log.start()
    items, _ = read_all(b)
    check_except(items, messages, gone)
    check_kept_after_repair(log, items)


def test_the_newest_segments_missing_after_a_clean_stop_are_refused(durable):
    """A backup that was copied too early, and lacks the newest messages."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    fill(log, 5)
    log.stop()
    newest = [path for path in log.segments if b"<message " in path.read_bytes()][-1]
    for path in log.segments:
        if path >= newest:
            path.unlink()
    check_refused(log, log.dir)


def test_a_segment_of_another_log_is_refused(durable, tmp_path):
    """Files of two logs thrown together by a clumsy restore."""
    logs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        logs.append(durable("log.retain_bytes=0", *TINY, home=tmp_path / name))
        logs[-1].start()
        fill(logs[-1], 5)
        logs[-1].stop()
    shutil.copy(logs[1].segments[2], logs[0].segments[2])
    check_refused(logs[0], logs[0].segments[2].name)


# --- damage ---------------------------------------------------------------------------------------

def repair(log):
    result = run_psad("--repair", str(log.dir))
    assert result.returncode in (0, 1, 2)
    return result


def check_kept_after_repair(log, items):
    """What was repaired stays so: the same after a restart, and new messages are added."""
    b = log.revive()
    assert read_all(b)[0] == items
    identity = b.publish("t", b"goes on")
    assert read_all(b)[0] == items + [Msg(identity, "t", b"goes on")]


@pytest.mark.parametrize("how", ENDS)
def test_flipped_bits_in_old_messages_are_gaps_with_exact_ids(durable, how):
    """Never a wrong payload, never silence, and no other message lost."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 12)
    wait_synced(log.broker)
    end(log, how)
    damaged = [5, 6, 7, 150, 301]
    for bit, identity in enumerate(damaged):
        path, offset = log.find(b"<message %d>" % identity)
        assert path in log.segments[:-3], "this test means sealed segments"
        flip(path, offset + 20 + bit, bit)
    b = log.start()
    items, _ = read_all(b)
    check_except(items, messages, damaged)
    # The same for a subscriber, for one from the middle, and counted.
    client = b.client()
    client.ok("SUB > AFTER 0")
    assert client.quit()[0] == items
    assert read_all(b, "AFTER 6")[0][0] == Gap(7, 7, "damaged")
    assert b.stats()["gaps_total"] > 0
    raw = b.client()
    raw.send("CAT > AFTER 149 LIMIT 1\n")
    assert raw.recv_raw() == b"GAP 150 150 damaged\n" + messages[151].payload + b"\n"
    # And again after another restart; publishing is not disturbed.
    check_kept_after_repair(log, items)


def test_a_flipped_bit_is_told_to_the_operator_by_file_and_ids(durable):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    fill(log, 8)
    log.stop()
    path, offset = log.find(b"<message 30>")
    flip(path, offset)
    b = log.start()
    read_all(b)
    assert "30" in b.wait_stderr(path.name)


def test_one_flipped_bit_anywhere_in_old_segments_never_gives_a_wrong_message(durable):
    """In the data, the index and the free space between: what is served is what was sent."""
    print(seed := random.SystemRandom().randrange(1 << 32))
    log, randomly = durable("log.retain_bytes=0", *TINY), random.Random(seed)
    log.start()
    messages = fill(log, 30)
    log.stop()
    whole = {path: path.read_bytes() for path in log.segments}
    owners = {path: {int(i) for i in re.findall(rb"<message (\d+)>", whole[path])}
              for path in log.segments[:-3]}
    for _ in range(scaled(10)):
        for path in owners:
            flip(path, randomly.randrange(4096, len(whole[path])), randomly.randrange(8))
        log.start()
        items, _ = read_all(log.broker)
        log.stop()
        check_tiles(items, 0, max(messages))
        got = messages_of(items)
        assert got.items() <= messages.items()
        for path, ids in owners.items():
            assert len(ids - got.keys()) <= 2, f"one bit of {path.name} took {ids - got.keys()}"
        for path, data in whole.items():
            if path.exists():
                path.write_bytes(data)


def test_one_flipped_bit_in_a_header_is_refused_or_harmless(durable):
    """Never served wrongly, never a crash; what is refused can be repaired."""
    print(seed := random.SystemRandom().randrange(1 << 32))
    log, randomly = durable("log.retain_bytes=0", *TINY), random.Random(seed)
    log.start()
    messages = fill(log, 6)
    log.stop()
    whole = log.files
    offsets = list(range(0, 256, 7)) + [randomly.randrange(4096) for _ in range(20)]
    for offset in offsets[:scaled(len(offsets))]:
        path = log.segments[randomly.randrange(4)]
        flip(path, offset, randomly.randrange(8))
        result = subprocess.run([PSAD, "--dump", str(log.dir)], timeout=DEADLINE, check=False,
                                env=environment(), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        assert result.returncode in (0, 1, 2)
        if not try_start(log, path.name):
            assert repair(log).returncode == 0
            log.start()
        items, _ = read_all(log.broker)
        log.stop()
        check_tiles(items, 0, max(messages))
        assert messages_of(items).items() <= messages.items()
        restore(log, whole)


def try_start(log, *words):
    """Starts it, or sees it refused in these words."""
    try:
        log.start()
        return True
    except AssertionError:
        said = log.refused()
        assert all(word in said for word in words), said
        return False


def restore(log, files):
    for path in log.dir.iterdir():
        path.unlink()
    for name, data in files.items():
        (log.dir / name).write_bytes(data)


@pytest.mark.parametrize("how", ENDS)
def test_damage_of_the_tail_is_refused_and_repaired_to_a_gap(durable, how):
    """Nobody cuts off acknowledged messages as a "torn end": the operator decides."""
    log = durable()
    log.start()
    messages = publish_numbered(log, lambda: log.broker.head() >= 60, size=100)
    end(log, how)
    path, offset = log.find(b"<message 40>")
    flip(path, offset + 3)
    said = check_refused(log, path.name, "--repair")
    assert names_ids(said, 40, 40), said
    assert re.search(r"(offset|byte) \D*\d+", said), said
    before = path.read_bytes()
    result = repair(log)
    assert result.returncode == 0, result.stderr
    assert path.name in result.stdout + result.stderr
    copies = list(log.dir.glob("*.damaged"))
    assert [copy.name for copy in copies] == [path.name + ".damaged"]
    assert copies[0].read_bytes() == before
    b = log.start()
    items, _ = read_all(b)
    check_except(items, messages, [40])
    check_kept_after_repair(log, items)


def test_the_last_message_damaged_after_a_kill_is_refused_too(durable):
    log = durable()
    log.start()
    messages = publish_numbered(log, lambda: log.broker.head() >= 20, size=100)
    log.kill()
    path, offset = log.find(b"<message %d>" % max(messages))
    flip(path, offset + 2)
    assert names_ids(check_refused(log, path.name), max(messages), max(messages))


def test_a_repair_where_nothing_is_broken_changes_nothing(durable):
    log = durable("log.retain_bytes=0", *TINY)
    identity = log.start().log
    messages = fill(log, 5)
    log.stop()
    before = log.files
    assert repair(log).returncode == 0
    assert log.files == before
    b = log.start()
    assert b.log == identity
    check_kept(b, messages)


def test_a_repair_says_what_it_cannot_do(durable, tmp_path):
    for target in (tmp_path / "nothing here", tmp_path):
        result = run_psad("--repair", str(target))
        assert result.returncode == 2
        assert str(target) in result.stderr
    assert not (tmp_path / "nothing here").exists() and not list(tmp_path.iterdir())
    assert run_psad("--repair").returncode == 1


def test_a_truncated_old_segment_is_refused_or_a_gap_and_can_be_repaired(durable):
    """Cut off at any place: nothing wrong is served, and a repair saves the rest."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 6)
    log.stop()
    whole = log.files
    for size in (0, 1, 4095, 4096, 30000, 65535):
        path = log.segments[2]
        gone = {i for i, m in messages.items() if m.payload in whole[path.name]}
        os.truncate(path, size)
        if not try_start(log, path.name):
            assert repair(log).returncode == 0
            log.start()
        items, _ = read_all(log.broker)
        log.stop()
        check_tiles(items, 0, max(messages))
        got = messages_of(items)
        assert got.items() <= messages.items()
        assert messages.keys() - got.keys() <= gone
        restore(log, whole)


# --- the tools ------------------------------------------------------------------------------------

def test_a_new_log_id_makes_old_positions_foreign(durable):
    """For a restored backup: ids given since then mean other messages."""
    log = durable("log.retain_bytes=0", *TINY)
    old = log.start().log
    messages = fill(log, 4)
    log.stop()
    result = run_psad("--new-log-id", str(log.dir))
    assert result.returncode == 0, result.stderr
    b = log.start()
    new = b.log
    assert new != old and new in result.stdout + result.stderr
    check_kept(b, messages)
    client = b.client()
    assert client.ok(f"SUB a AFTER 20@{old}") == f"OK 0@{b.log}"
    items, _ = client.quit()
    assert items == [Gap(1, 0, "other-log")] + [messages[i] for i in sorted(messages)
                                                if messages[i].topic == "a"]
    assert read_all(b, f"AFTER 20@{b.log}")[0][0] == messages[21]
    assert log.revive().log == new


def dump(log, *patterns):
    result = run_psad("--dump", str(log.dir), *patterns)
    return result.returncode, result.stdout.splitlines(), result.stderr


LINE = re.compile(r"(\d+)@([0-9a-f]{8}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) (\d+)")


def dumped(lines):
    """id -> (topic, size)"""
    return {int(m[1]): (m[4], int(m[5])) for m in map(LINE.match, lines) if m}


@pytest.mark.parametrize("running", [False, True])
def test_a_dump_lists_every_message(durable, running):
    """The way to look into a log whose daemon does not start, and beside one that does."""
    log = durable("log.retain_bytes=0", *TINY)
    identity = log.start().log
    messages = fill(log, 4)
    before = None
    if not running:
        log.stop()
        before = log.files
    status, lines, said = dump(log)
    assert status == 0, said
    assert dumped(lines) == {i: (m.topic, len(m.payload)) for i, m in messages.items()}
    assert all(LINE.match(line)[2] == identity for line in lines if LINE.match(line))
    for patterns in (["a"], ["b.*", "c"], [">"], ["nothing"]):
        topics = {"a": {"a"}, "b.*": {"b.x", "c"}, ">": {"a", "b.x", "c"}}.get(patterns[0], set())
        assert dumped(dump(log, *patterns)[1]) == {
            i: (m.topic, len(m.payload)) for i, m in messages.items() if m.topic in topics}
    if not running:
        assert log.files == before


def test_a_dump_shows_damage_and_says_so_by_its_status(durable):
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 5)
    log.stop()
    path, offset = log.find(b"<message 33>")
    flip(path, offset + 4)
    status, lines, said = dump(log)
    assert status == 1
    assert dumped(lines).keys() == messages.keys() - {33}
    assert any(path.name in line and "33" in line for line in lines + said.splitlines())


def test_a_dump_of_what_is_no_log_says_so(tmp_path):
    for target in (tmp_path, tmp_path / "nothing"):
        result = run_psad("--dump", str(target))
        assert result.returncode == 2
        assert str(target) in result.stderr
    assert run_psad("--dump").returncode == 1


# --- files that change under the daemon -----------------------------------------------------------

def still_serves(broker):
    """It is alive, and answers."""
    assert broker.process.poll() is None, broker.stderr
    return broker.client().ask("PING").startswith("PONG ")


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("how", ["truncate", "remove"])
def test_an_old_segment_spoiled_while_running_is_a_gap_at_most(durable, how, cold):
    """Somebody "frees space" with rm or a truncating log rotation: psad must not die of it."""
    log = durable("log.retain_bytes=0", *TINY)
    log.start()
    messages = fill(log, 8)
    wait_synced(log.broker)
    if cold:
        log.restart()
    path = log.segments[2]
    data = path.read_bytes()
    gone = {i for i, m in messages.items() if m.payload in data}
    if how == "truncate":
        os.truncate(path, 0)
    else:
        path.unlink()
    b = log.broker
    for start in ("AFTER 0", f"AFTER {min(gone)}"):
        items, _ = read_all(b, start)
        check_tiles(items, int(start.split()[1]), max(messages))
        got = messages_of(items)
        assert got.items() <= messages.items()
        assert {i for item in items if isinstance(item, Gap)
                for i in range(item.first, item.last + 1)} <= gone
        assert {item.reason for item in items if isinstance(item, Gap)} <= {"damaged"}
        client = b.client()
        client.ok(f"SUB > {start}")
        check_tiles(client.quit()[0], int(start.split()[1]), max(messages))
    assert still_serves(b)


def publish_until_refused(broker):
    """Publishes until an ERR comes; returns {id: Msg} of what was acknowledged, and that line."""
    client, sent, number = broker.client(), {}, 0
    late = time.monotonic() + DEADLINE
    while True:
        assert time.monotonic() < late, "publishing is never refused"
        number += 1
        message = ("t", b"<late %d>" % number + b"y" * 900)
        client.send(put(*message))
        answer = client.recv_line()
        if answer.startswith("ERR "):
            return sent, answer
        sent[answer.id] = Msg(answer.id, *message)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["truncate", "remove"])
def test_the_tail_spoiled_while_running_fails_publishing_with_a_clear_word(durable, how, mode):
    """No OK for what is going to be lost, no crash, and what can be read still is."""
    log = durable(f"log.fsync={mode}", "log.retain_bytes=0", *TINY)
    b = log.start()
    publish_numbered(log, lambda: b.head() >= 40)
    for path in [path for path in log.segments if b"<message 40>" in path.read_bytes()]:
        os.truncate(path, 0) if how == "truncate" else path.unlink()
    _, answer = publish_until_refused(b)
    assert answer.code == "log-failed", answer
    assert still_serves(b)
    items, _ = read_all(b)
    check_tiles(items, 0)
    assert log.dir.name in b.wait_stderr(".seg")


def test_the_whole_directory_removed_while_running_fails_publishing(durable):
    log = durable("log.retain_bytes=0", *TINY)
    b = log.start()
    fill(log, 3)
    while log.dir.exists():  # psad may be making a file meanwhile
        shutil.rmtree(log.dir, ignore_errors=True)
    _, answer = publish_until_refused(b)
    assert answer.code in ("log-failed", "log-full"), answer
    assert still_serves(b)
    check_tiles(read_all(b)[0], 0)
    log.kill()


# --- a full disk ----------------------------------------------------------------------------------

needs_mount = pytest.mark.skipif(not may_mount(), reason="only root may mount a small tmpfs")


@needs_mount
def test_a_full_disk_refuses_publishers_and_room_lets_them_go_on(durable, tmp_path):
    """No message that was acknowledged is lost by it, readers go on, and nobody restarts psad."""
    with SmallDisk(tmp_path / "disk", "2M") as disk:
        log = durable("log.retain_bytes=0", "log.fsync=interval", *TINY, home=disk)
        (disk / "ballast").write_bytes(b"x" * (1 << 20))
        b = log.start("server.workers=2")
        history = History()
        swarm = Swarm(log.address, history)
        for n in range(3):
            swarm.publisher(f"p{n}", ["a", "b"], n, largest=10000)
        swarm.subscriber("all", [">"], 10)
        swarm.subscriber("live", ["a", "a.>"], 11, live=True)
        wait_until(lambda: sum(p.refusals for p in swarm.publishers) > 5, "publishing is refused")
        assert "space" in b.wait_stderr(str(log.dir)).lower() or "full" in b.stderr
        full = look(b, history)["head"]
        read_everything(b, history, "while it is full", to_head=False)
        (disk / "ballast").unlink()
        wait_until(lambda: b.head() > full + 100, "publishing goes on by itself")
        so_far = sum(p.refusals for p in swarm.publishers)
        wait_until(lambda: sum(p.refusals for p in swarm.publishers) > so_far + 5,
                   "it is full again")
        log.kill()  # also while it is full
        b = log.start()
        swarm.stop_publishing()
        head = look(b, history)["head"]
        swarm.finish(head)
        read_everything(b, history, "at the end")
        history.check(head, ["void"])
        log.stop()
        assert not list(log.dir.glob("*.tmp")), "something half-made was left"


@needs_mount
def test_retention_makes_room_on_a_full_disk(durable, tmp_path):
    """The limit is above what the disk has: the disk's end is told, then the age makes room."""
    with SmallDisk(tmp_path / "disk", "1M") as disk:
        log = durable("log.retain_bytes=0", "log.retain_age=2s", *TINY, home=disk)
        b = log.start()
        _, answer = publish_until_refused(b)
        assert answer.code == "log-full"
        full = b.head()
        wait_until(lambda: b.client().ask("PUB t again").startswith("OK "), "there is room again")
        assert b.head() > full
        log.revive()
        check_tiles(read_all(log.broker)[0], 0, log.broker.head())
        log.stop()


@needs_mount
def test_a_start_on_a_full_disk_serves_what_is_there(durable, tmp_path):
    with SmallDisk(tmp_path / "disk", "1M") as disk:
        log = durable("log.retain_bytes=0", *TINY, home=disk)
        log.start()
        sent, _ = publish_until_refused(log.broker)
        for how in ENDS:
            end(log, how)
            with open(disk / "ballast", "ab", buffering=0) as ballast:
                try:
                    while ballast.write(b"x" * 4096):
                        pass
                except OSError:
                    pass  # not a page is left
            check_kept(log.start(), sent)
        log.stop()


@needs_mount
def test_a_disk_too_small_for_the_first_segment_is_a_clear_refusal(durable, tmp_path):
    with SmallDisk(tmp_path / "disk", "128K") as disk:
        log = durable(home=disk)
        log.dir.mkdir()
        assert str(log.dir) in log.refused()
        assert not list(log.dir.glob("*.tmp")) and not log.segments


def test_a_log_on_tmpfs_without_syncs_survives_a_kill(durable):
    """The cheap way to outlive a crash: memory that belongs to the system, not to the process."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("no /dev/shm here")
    home = Path(tempfile.mkdtemp(prefix="psad-test-", dir=memory))
    try:
        log = durable("log.fsync=no", "log.retain_bytes=0", *TINY, home=home)
        log.start()
        messages = {}
        for _ in range(4):
            messages.update(fill(log, 3))
            log.revive()
        check_kept(log.broker, messages)
        log.stop()
    finally:
        shutil.rmtree(home)


# --- configuration --------------------------------------------------------------------------------

@pytest.mark.parametrize("options, key", [
    (["log.fsync=always"], "log.fsync"),
    (["log.fsync=no"], "log.fsync"),
    (["log.fsync_interval=1s"], "log.fsync_interval"),
    (["log.dir=LOG", "log.fsync=sometimes"], "log.fsync"),
    (["log.dir=LOG", "log.fsync=memory"], "log.fsync"),
    (["log.dir=LOG", "log.fsync_interval=soon"], "log.fsync_interval"),
    (["log.dir=LOG", "log.fsync_interval=-1s"], "log.fsync_interval"),
])
def test_unusable_settings_are_errors_that_name_the_key(tmp_path, options, key):
    """A typing error must not turn into less safety than was asked for."""
    for flags in (["-t"], []):
        arguments = [part for option in options
                     for part in ("-o", option.replace("LOG", str(tmp_path / "log")))]
        result = run_psad(*flags, *arguments)
        assert result.returncode == 1, result.stderr
        assert key in result.stderr
    assert not (tmp_path / "log").exists()


def test_a_directory_given_in_the_file_works_and_can_not_be_changed_at_run_time(durable):
    log = durable()
    config = log.home / "psad.conf"
    config.write_text(f"[log]\ndir = {log.dir}\nfsync = always\n")
    log.arguments = lambda *options: options
    log.lives.append(Broker(log.home, tcp=log.address, config=config))
    b = log.broker
    b.publish("t", b"kept")
    config.write_text(f"[log]\ndir = {log.dir}2\nfsync = always\n")
    lines = b.stderr_lines
    b.signal(signal.SIGHUP)
    b.wait_stderr("log.dir", after=lines)
    assert b.publish("t", b"kept") == 2
    assert not Path(f"{log.dir}2").exists()


# --- under way ------------------------------------------------------------------------------------

def test_clean_stops_under_load_lose_nothing_and_leave_no_hole(durable):
    """Every publisher knows what was taken, and there is not even a void id."""
    log = durable("log.retain_bytes=0", *TINY, "log.fsync=interval")
    history = History()
    b = log.start()
    swarm = Swarm(log.address, history)
    for n in range(3):
        swarm.publisher(f"p{n}", ["a", "b"], n, largest=10000)
    swarm.subscriber("all", [">"], 10)
    swarm.subscriber("some", ["a", "b.>"], 11, live=True)
    for _ in range(scaled(6)):
        swarm.wait_acknowledged(300)
        b = log.restart()
        look(b, history)
    swarm.stop_publishing()
    head = look(b, history)["head"]
    swarm.finish(head)
    read_everything(b, history, "at the end")
    history.check(head, [])


def test_two_hundred_restarts_while_a_subscriber_resumes(durable):
    """It never sees a thing twice nor misses one, however short the lives are."""
    log = durable()
    b = log.start()
    position, got, count = f"0@{b.log}", [], scaled(40)
    for n in range(count):
        b.publish("t", b"%d" % n)
        client = b.client()
        client.ok(f"SUB t AFTER {position}")
        items, bye = client.quit()
        got += [item.payload for item in items]
        position = bye.position
        b = log.revive() if n % 2 else log.restart()
    assert got == [b"%d" % n for n in range(count)]
