# SPDX-License-Identifier: MIT
"""Logs of former runs: segments that are on the disk and come into memory when somebody reads them."""

import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from client import Gap, Line, Msg, put, scaled, wait_until
from traffic import Job, check_tiles

SEGMENT = 64 << 10
MAPPED_MAX = 64  # log/warmer.h


@pytest.fixture
def directory():
    """Where files are made and synced fast; a disk where there is no such place."""
    path = tempfile.mkdtemp(prefix="psad-cold-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield Path(path)
    shutil.rmtree(path)


def options(directory, *more):
    return (f"log.dir={directory}/log", "log.segment_size=64K", "limits.max_payload=16K", "log.retain_bytes=0",
            "log.fsync=interval", "log.fsync_interval=1ms", *more)


def segment_files(directory):
    return sorted((directory / "log").glob("*.seg"))


def mapped_files(broker):
    """The names of the segment files that the daemon has mapped."""
    text = Path(f"/proc/{broker.process.pid}/maps").read_text()
    return set(re.findall(r"/(\d{20}\.seg)", text))


def descriptors(broker):
    return len(os.listdir(f"/proc/{broker.process.pid}/fd"))


def open_segments(broker):
    """The names of the segment files that the daemon has open."""
    names = set()
    for entry in os.scandir(f"/proc/{broker.process.pid}/fd"):
        try:
            path = os.readlink(entry.path)
        except FileNotFoundError:
            continue  # closed between the two looks
        if path.endswith(".seg"):
            names.add(os.path.basename(path))
    return names


def stop_when_stored(broker):
    """
    Stops it when all segments but the last are as they will be for good, and their files closed. Returns
    the name of the first that was not: whatever comes before it is cold from now on.
    """
    still_open = wait_until(lambda: len(names := open_segments(broker)) <= 3 and names,
                            "no more are open than the tail and its spares")
    broker.stop()
    return min(still_open)


def restart(start, before, directory, *more):
    stop_when_stored(before)
    return start(*options(directory, *more))


def fill(broker, count, payload=b"x" * 1000, topic="old"):
    """Publishes and returns the last id."""
    return broker.client().flood(topic, payload, count)


def read_all(client, request="READ >"):
    items = []
    client.send(request + "\n")
    while not isinstance(item := client.recv_item(), Line):
        items.append(item)
    assert item.startswith("END "), item
    return items


def test_a_log_of_thousands_of_segments_opens_at_once_and_can_be_read_to_its_end(broker, directory):
    first = broker(*options(directory))
    head = fill(first, scaled(2000) * 60)
    warm = stop_when_stored(first)
    second = broker(*options(directory))
    files = len(segment_files(directory))
    assert files > scaled(1900)
    # Nothing is opened or mapped but where it goes on.
    assert descriptors(second) < 60
    assert min(mapped_files(second)) >= warm
    client = second.client()
    client.ok("SUB > AFTER 0")
    assert check_tiles((client.recv_msg() for _ in range(head)), 0) == head
    assert second.stats()["cut_total"] == 0
    assert descriptors(second) < 60
    # A few more are on their way out, and a few have not been sealed.
    wait_until(lambda: len(mapped_files(second)) <= MAPPED_MAX + 3, "no more are mapped than may be")
    assert head == client.ask("PING").id


def test_live_messages_flow_while_somebody_reads_what_is_cold(broker, directory):
    first = broker(*options(directory))
    head = fill(first, scaled(600) * 60)
    second = restart(broker, first, directory, "server.workers=1")
    live = second.client()
    live.ok("SUB live")
    publisher = second.client()
    second.info()
    reader = second.client()
    replay = Job(lambda: read_all(reader, "READ old"))
    under_way = 0
    while replay.is_alive():
        identity = publisher.publish("live", b"now")
        assert live.recv_msg() == Msg(identity, "live", b"now")
        # The one worker that there is had not sent all of the old ones by then.
        under_way += second.stats()["delivered_total"] < head
    items = replay.finish()
    assert [item.id for item in items] == list(range(1, head + 1))
    assert under_way >= 3


def test_many_readers_at_many_cold_places_all_get_on(broker, directory):
    first = broker(*options(directory))
    head = fill(first, scaled(400) * 60)
    second = restart(broker, first, directory)
    readers = [second.client() for _ in range(100)]
    starts = [head * n // len(readers) for n in range(len(readers))]
    for client, start in zip(readers, starts):
        client.send(f"READ > AFTER {start} LIMIT 200\n")
    for client, start in zip(readers, starts):
        items = client.recv_until(lambda item: isinstance(item, Line))
        assert items[-1].startswith("END "), items[-1]
        wanted = list(range(start + 1, min(start + 200, head) + 1))
        assert [item.id for item in items[:-1]] == wanted


def test_last_and_since_look_where_it_is_cold(broker, directory):
    first = broker(*options(directory))
    client = first.client()
    client.publish_all(("early", b"x" * 900) for _ in range(600))
    between = time.time()
    wait_until(lambda: time.time() > between + 0.002, "the clock goes on")
    client.publish_all(("late", b"x" * 900) for _ in range(600))
    between += 0.001
    fill(first, 3000)
    warm = stop_when_stored(first)
    second = broker(*options(directory))
    assert min(mapped_files(second)) >= warm
    reader = second.client()
    # What is sent behind the command waits for it.
    reader.send(f"READ early late SINCE {between:.6f}\nPING\n")
    items = reader.recv_until(lambda item: isinstance(item, Line) and item.startswith("PONG"))
    assert [item.id for item in items[:-2]] == list(range(601, 1201))
    assert items[-2].startswith("END ") and items[-1].startswith("PONG ")
    items, end = reader.read("early LAST 5")
    assert [item.id for item in items] == list(range(596, 601)) and end.startswith("END ")
    assert reader.ask("SUB early late LAST 700").id == 500
    assert [item.id for item in reader.recv_msgs(700)] == list(range(501, 1201))


def test_a_topic_that_is_not_there_brings_nothing_into_memory(broker, directory):
    first = broker(*options(directory))
    fill(first, 3000)
    warm = stop_when_stored(first)
    second = broker(*options(directory))
    items, end = second.client().read("never.heard AFTER 0")
    assert items == [] and end.startswith("END ")
    assert min(mapped_files(second)) >= warm


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_damage_is_an_exact_gap_for_each_reader(broker, directory):
    first = broker(*options(directory))
    head = fill(first, 3000)
    stop_when_stored(first)
    flip(segment_files(directory)[0], 4096 + 10 * 1030)  # somewhere in the tenth message
    second = broker(*options(directory))
    for _ in range(2):
        items = read_all(second.client())
        gaps = [item for item in items if isinstance(item, Gap)]
        assert len(gaps) == 1 and gaps[0].first == gaps[0].last and gaps[0].reason == "damaged"
        assert 8 <= gaps[0].first <= 12
        check_tiles(items, 0, head)
    # Nothing before the first message that was asked for is a gap.
    items, _ = second.client().read(f"> LAST {head - gaps[0].last}")
    assert not any(isinstance(item, Gap) for item in items)
    # One that was to be among them is.
    items, _ = second.client().read("> LAST 1000000")
    assert gaps[0] in items
    second.wait_stderr("damaged", "messages", str(gaps[0].first))


@pytest.mark.parametrize("what", ["removed", "cut", "cut while it is in memory"])
def test_a_file_that_somebody_takes_away_is_a_gap_and_nobodys_end(broker, directory, what):
    first = broker(*options(directory))
    head = fill(first, 2000)
    second = restart(broker, first, directory)
    victim = segment_files(directory)[4]
    if what == "removed":
        victim.unlink()
    elif what == "cut":
        os.truncate(victim, 8192)
    else:
        assert check_tiles(read_all(second.client()), 0, head) == head
        assert victim.name in mapped_files(second)
        os.truncate(victim, 4096)
    subscriber = second.client()
    subscriber.ok("SUB > AFTER 0")
    items = []
    while not items or (items[-1].id if isinstance(items[-1], Msg) else items[-1].last) < head:
        items.append(subscriber.recv_item())
    check_tiles(items, 0, head)
    gaps = [item for item in items if isinstance(item, Gap)]
    assert {gap.reason for gap in gaps} == {"damaged"}
    assert 20 < sum(gap.last - gap.first + 1 for gap in gaps) < 100
    # It is said once, and the broker goes on.
    second.wait_stderr(victim.name)
    assert second.publish("new", b"x") == head + 1
    assert subscriber.recv_msg().id == head + 1
    check_tiles(read_all(second.client()), 0, head + 1)
    assert sum(victim.name in line for line in second.stderr.splitlines()) == 1
    second.signal(signal.SIGTERM)
    second.expect_exit()


def test_the_rest_of_a_message_waits_until_it_is_in_memory_again(broker, directory):
    first = broker(*options(directory))
    payload = bytes(range(256)) * 60
    head = fill(first, 600, payload)
    second = restart(broker, first, directory, "limits.send_buffer=4K")
    slow = second.client(rcvbuf=4096)
    slow.send("SUB > AFTER 0\n")
    # It takes what the kernel takes, and stands in the middle of a message then.
    seen = []
    def is_full():
        seen.append(second.stats()["delivered_total"])
        return seen[-1] > 0 and len(seen) > 20 and seen[-20] == seen[-1]
    wait_until(is_full, "it takes no more")
    files = [path.name for path in segment_files(directory)]
    # Others read all the rest: where it stands is not in memory any more.
    def is_cold():
        items, _ = second.client().read("> AFTER 200")
        assert [item.id for item in items] == list(range(201, head + 1))
        return not mapped_files(second) & set(files[:40])
    wait_until(is_cold, "what it was being sent is cold")
    assert slow.recv_line().startswith("OK ")
    assert check_tiles((slow.recv_msg() for _ in range(head)), 0, head) == head
    assert second.stats()["cut_total"] == 0


def test_a_broker_that_stops_in_the_middle_of_a_cold_replay_stops(broker, directory):
    first = broker(*options(directory))
    fill(first, scaled(600) * 60)
    second = restart(broker, first, directory)
    readers = [second.client() for _ in range(5)]
    for client in readers:
        client.send("READ >\n")
    for client in readers:
        client.recv_msg()
    for client in readers:
        client.close()
    second.signal(signal.SIGTERM)
    second.expect_exit()
