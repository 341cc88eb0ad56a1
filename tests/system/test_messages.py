# SPDX-License-Identifier: MIT
"""What the operator reads: one line for each thing, with who it is about, never a flood, and
nothing in it that a client could forge."""

import os
import re
import signal
import subprocess

import pytest

from broker import PSAD, environment, run_psad
from client import DEADLINE, Gap, scaled, wait_until
from durable import SMALL_SEGMENTS, flip, messages_of, read_all

BURST = 10  # of one kind, at once


def peer(client):
    """A client as the operator is told of it."""
    host, port = client.sock.getsockname()
    return f"{host}:{port}"


def lines_with(broker, *words):
    return [line for line in broker.stderr.splitlines() if all(word in line for word in words)]


# --- whom it is about -----------------------------------------------------------------------------

def test_who_is_refused_closed_or_cut_is_named(broker, tmp_path):
    b = broker("limits.max_connections_per_ip=4", "limits.input_memory=64K",
               f"listen.unix={tmp_path}/socket")
    stranger = b.client()
    stranger.send("GARBAGE in\n")
    b.wait_stderr("closing", peer(stranger), "unknown-command")
    stranger.close()
    browser = b.client()
    browser.send("GET /secret HTTP/1.1\n")
    b.wait_stderr("closing", peer(browser), "an HTTP request")
    browser.close()
    hungry = b.client()
    hungry.send(b"PUT t 500000\n" + b"x" * 300000)
    b.wait_stderr("limits.input_memory", peer(hungry))
    hungry.close()
    local = b.client(f"unix:{tmp_path}/socket")
    local.send("GARBAGE\n")
    b.wait_stderr("closing a Unix socket", f"process {os.getpid()} of user {os.getuid()}")
    wait_until(lambda: b.stats()["connections"] <= 2, "the others have gone")
    crowd = [b.client() for _ in range(4)]
    b.wait_stderr("limits.max_connections_per_ip", peer(crowd[-1]), "has 4")


def test_the_limit_of_connections_names_whom_it_refuses(broker):
    b = broker("limits.max_connections=3")
    b.control.ask("PING")
    clients = [b.client() for _ in range(3)]
    b.wait_stderr("limits.max_connections: 3 are open", peer(clients[-1]))


def test_a_reader_that_was_overtaken_in_the_middle_of_a_message_is_named(broker):
    b = broker("log.segment_size=1M", "log.retain_bytes=4M", "limits.max_payload=256K",
               "limits.send_buffer=4K")
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB t")
    for _ in range(60):
        b.publish("t", b"x" * 250000)
    b.publish("u")
    slow.drain(reset_ok=True)
    b.wait_stderr("cutting", peer(slow))
    assert b.stats()["cut_total"] >= 1


# --- never a flood --------------------------------------------------------------------------------

def test_a_flood_of_one_kind_is_ten_lines_a_number_and_no_hindrance_to_others(broker):
    b = broker("limits.max_connections_per_ip=50")
    b.control.ask("PING")
    count = scaled(2000)
    for _ in range(count):
        client = b.client()
        client.send("GARBAGE\n")
        client.drain(reset_ok=True)
        client.close()
    keep = [b.client(source="127.0.0.9") for _ in range(51)]
    # Another kind is said at once.
    b.wait_stderr("limits.max_connections_per_ip", peer(keep[-1]))

    def told():
        """As many as there were."""
        closed = lines_with(b, "unknown-command")
        more = [int(found[1]) for line in closed
                if (found := re.search(r"\(and (\d+) more\)$|: (\d+) more of this kind", line))
                and found[1]]
        rest = [int(found[1]) for line in closed
                if (found := re.match(r"psad: (\d+) more of this kind were not shown: ", line))]
        shown = len(closed) - len(rest)
        return shown + sum(more) + sum(rest) >= count and (shown, more + rest)
    # The rest is told though none comes any more.
    shown, rest = wait_until(told, "all of them are accounted for")
    assert shown + sum(rest) == count
    assert len(rest) >= 1 and len(lines_with(b, "unknown-command")) < count / 4, b.stderr[-2000:]
    # Even where the machine is slow, those at once are ten.
    first = [n for n, line in enumerate(lines_with(b, "unknown-command")) if "more" in line]
    assert first[0] >= BURST


def test_what_a_client_sends_cannot_make_a_line_of_its_own(broker):
    b = broker()
    for data in (b"GET /\x1b[2J HTTP/1.1\n", b"\x00\r\n", b"A\rpsad: forged\n", b"\xff\xfe\n",
                 b"LINES a..b\npsad: forged\n", b"PUT a 1\npsad: forged\n"):
        client = b.client()
        client.send(data)
        client.drain(reset_ok=True)
        client.close()
    b.publish("t\x01"[:1])
    b.stop()
    assert all(line.startswith("psad: ") for line in b.stderr.splitlines())
    assert "forged" not in b.stderr and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", b.stderr)


# --- the journal ----------------------------------------------------------------------------------

def test_the_journal_gets_a_priority_with_each_line(tmp_path):
    """$JOURNAL_STREAM names the stream that standard error is: here a file."""
    path = tmp_path / "journal"
    config = tmp_path / "psad.conf"
    config.write_text("[listen]\ntcp = 127.0.0.1:0\n")
    with open(path, "wb") as stream:
        status = os.fstat(stream.fileno())
        child = subprocess.Popen(
            [PSAD, "-c", config], stdin=subprocess.DEVNULL, stderr=stream,
            env=environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"))
        try:
            def says(text):
                wait_until(lambda: text in path.read_text(), f"the journal reads {text}")
            says("is ready")
            config.write_text("nonsense")
            child.send_signal(signal.SIGHUP)
            says("nothing has changed")
            config.write_text("[listen]\ntcp = 127.0.0.1:0\n[server]\nworkers = 7\n")
            child.send_signal(signal.SIGHUP)
            says("reload: done")
            child.send_signal(signal.SIGTERM)
            assert child.wait(DEADLINE) == 0
        finally:
            child.kill()
            child.wait()
    lines = path.read_text().splitlines()
    assert all(re.match(r"<[3-7]>\S", line) for line in lines), lines
    levels = {words: line[1] for line in lines
              for words in ("is ready", "nothing has changed", "needs a restart", "stopped")
              if words in line}
    assert levels == {"is ready": "5", "nothing has changed": "3", "needs a restart": "4",
                      "stopped": "5"}


# --- damage ---------------------------------------------------------------------------------------

def filled(log, count=300):
    """A log of some segments, stopped; returns its messages."""
    b = log.start()
    b.control.publish_all(("t", b"<message %d>" % n + b"x" * 2000) for n in range(1, count + 1))
    messages = messages_of(read_all(b)[0])
    log.stop()
    return messages


def test_damage_is_said_once_however_often_it_is_read(durable):
    log = durable(*SMALL_SEGMENTS)
    messages = filled(log)
    path, offset = log.find(messages[5].payload[:20])
    flip(path, offset + 50)
    b = log.start("log.retain_bytes=0")
    for _ in range(5):
        items, _ = read_all(b)
        assert Gap(5, 5, "damaged") in items
    log.stop()  # then all that it said has been read
    said = lines_with(b, "is damaged", "messages 5 to 5")
    assert len(said) == 1 and path.name in said[0], b.stderr


def test_what_a_repair_has_marked_is_not_said_again_by_each_start(durable):
    log = durable(*SMALL_SEGMENTS)
    messages = filled(log)
    path, offset = log.find(messages[5].payload[:20])
    flip(path, offset + 50)
    result = run_psad("--repair", str(log.dir))
    assert result.returncode == 0 and path.name in result.stdout + result.stderr, result
    for _ in range(2):
        b = log.start()
        assert Gap(5, 5, "damaged") in read_all(b)[0]
        log.stop()
        assert not lines_with(b, "damaged"), b.stderr


@pytest.mark.parametrize("number", range(2))
def test_a_second_damage_beside_a_repaired_one_is_said(durable, number):
    log = durable(*SMALL_SEGMENTS)
    messages = filled(log)
    path, offset = log.find(messages[5].payload[:20])
    flip(path, offset + 50)
    assert run_psad("--repair", str(log.dir)).returncode == 0
    for copy in log.dir.glob("*.damaged"):
        copy.unlink()
    victim = (6, 20)[number]
    path, offset = log.find(messages[victim].payload[:20])
    flip(path, offset + 50)
    b = log.start()
    read_all(b)
    log.stop()
    assert len(lines_with(b, "is damaged", f"to {victim} ")) == 1, b.stderr
