# SPDX-License-Identifier: MIT
"""Memory is bounded by the configuration, whatever clients do. Not measured under sanitizers."""

import pytest

from broker import MEASURES_MEMORY
from client import wait_until
from traffic import Job

KIB, MIB = 1 << 10, 1 << 20
pytestmark = pytest.mark.skipif(not MEASURES_MEMORY, reason="a sanitizer's memory is not the daemon's")


def test_an_empty_broker_stays_under_8_mib(broker):
    b = broker(tcp="127.0.0.1:0, [::1]:0")
    assert b.info()["head"] == 0
    assert b.peak_rss() < 8 * MIB, f"{b.peak_rss() // KIB} KiB"


@pytest.mark.parametrize("size, total", [(65536, 1024 * MIB), (1000, 256 * MIB), (20, 20 * MIB)])
def test_resident_memory_is_bounded_under_a_publisher_at_full_speed(broker, size, total):
    b = broker("log.retain_bytes=64M", "server.workers=2")
    reader = b.client()
    reader.ok("SUB nothing t.x")
    b.control.flood("t", b"x" * size, total // size)
    bound = (64 + 2 * 4 + 8) * MIB
    assert b.peak_rss() < bound, f"{b.peak_rss() // KIB} KiB resident at most, {bound // KIB} are allowed"
    assert b.stats()["log_bytes"] <= (64 + 2 * 4) * MIB


def test_resident_memory_is_bounded_with_several_publishers_and_readers(broker):
    b = broker("log.retain_bytes=64M", "server.workers=2")
    stalled = [b.client(rcvbuf=4096) for _ in range(20)]
    for client in stalled:
        client.ok("SUB > AFTER 0")
    jobs = [Job(lambda c=b.client(): c.flood("t", b"x" * 3000, 30000)) for _ in range(4)]
    for job in jobs:
        job.finish()
    bound = (64 + 2 * 4 + 8) * MIB + len(stalled) * 6 * KIB
    assert b.peak_rss() < bound, f"{b.peak_rss() // KIB} KiB resident at most, {bound // KIB} are allowed"


def test_idle_connections_cost_little(broker):
    b = broker()
    b.client().ask("PING")
    count = 2000
    before = b.rss()
    for _ in range(count):
        b.client().ok("SUB t")
    grown = b.rss() - before
    assert grown < MIB + count * 2 * KIB, f"{grown // KIB} KiB for {count} subscribers"


def test_freed_segments_are_given_back_when_the_broker_is_idle(broker):
    b = broker("log.retain_bytes=64M", "log.retain_age=1s")
    b.control.flood("t", b"x" * 60000, 1000)
    assert b.peak_rss() > 40 * MIB
    wait_until(lambda: (i := b.info())["first"] == i["head"] + 1, "everything is too old")
    wait_until(lambda: b.rss() < (2 * 4 + 8) * MIB, "the memory is given back")
