# SPDX-License-Identifier: MIT
"""SIGTERM and publishers in the middle of a command: what has begun may be completed, and what was
not completed was not published. (What subscribers are owed is test_shutdown.py's.)"""

import signal

import pytest

from client import Line, Msg
from manager import Manager

PATIENT = "server.drain_timeout=10m"  # longer than any deadline: what ends, ends because it is done


def stop(broker):
    """From here on the signal has been seen."""
    broker.control.ask("PING")
    broker.signal(signal.SIGTERM)
    assert broker.control.recv_line().code == "shutting-down"
    broker.control.close()


def begun(broker, data):
    """A connection of which so much has come and been looked at."""
    client = broker.client()
    client.ask("PING")
    client.send(data)
    broker.control.ask("PING")
    return client


@pytest.mark.parametrize("workers", [1, 3])
def test_half_a_line_of_lines_may_be_completed_and_counts(broker, workers):
    b = broker(PATIENT, f"server.workers={workers}")
    client = b.client()
    client.ok("LINES log")
    client.send("one\ntwo\nthr")
    b.wait_stats(lambda s: s["published_total"] == 2, "two lines are published")
    stop(b)
    assert not client.readable(), "it was told that it was over in the middle of its line"
    client.send("ee\nfour\n")
    *errors, ok = client.drain(reset_ok=True)
    count = int(ok.words[1])
    assert count == 3 and ok.words[0] == "OK", (errors, ok)
    assert errors[0].words[:4] == ["ERR", "shutting-down", "line", "4"], errors
    b.expect_exit(0)


@pytest.mark.parametrize("data", ["LINES log\none\ntw", "PUT t 5\nab", "PUB t ha", "PU"])
def test_what_is_never_completed_is_cut_at_drain_timeout_and_not_published(broker, tmp_path, data):
    manager = Manager(tmp_path)
    b = broker("server.drain_timeout=2500ms", env=manager.environment())
    witness = b.client()
    witness.ok("SUB >")
    client = begun(b, data)
    stop(b)
    items = witness.drain()
    published = [item.payload for item in items if isinstance(item, Msg)]
    assert published == ([b"one"] if data.startswith("LINES") else [])
    witness.close()
    manager.wait_status("draining, 1 connections left")
    b.expect_exit(0)
    assert "server.drain_timeout is over: cutting 1 connections" in b.stderr
    lines = [item for item in client.drain(reset_ok=True) if isinstance(item, Line)]
    assert not any(line.startswith("OK 2") for line in lines), lines
    manager.close()


@pytest.mark.parametrize("begin, rest", [("PUB t ha", "lf\n"), ("PUT t 4\nha", "lf\n"),
                                         ("PUT t 4", "\nhalf\n")])
def test_a_publish_that_has_begun_may_be_completed(broker, begin, rest):
    b = broker(PATIENT)
    client = begun(b, begin)
    stop(b)
    client.send(rest)
    answer, bye = client.drain()
    assert answer == "OK 1" and bye.code == "shutting-down" and bye.id in (0, 1), (answer, bye)
    b.expect_exit(0)


def test_commands_that_had_come_are_executed_and_later_ones_are_not(broker):
    b = broker(PATIENT, "server.workers=1")
    client = begun(b, "PUB t 1\nPUB t 2\nPUB t 3\nPUT t 4\nfo")
    stop(b)
    client.send("ur\nPUB t evil\nPUT t 4\nevil\n")
    items = client.drain(reset_ok=True)
    assert [line.split(" ")[0] for line in items[:4]] == ["OK"] * 4, items
    assert all(line.code == "shutting-down" for line in items[4:]), items
    b.expect_exit(0)
