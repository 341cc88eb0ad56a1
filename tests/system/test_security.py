# SPDX-License-Identifier: MIT
"""The security of a listening program: whatever strangers do, memory is bounded, nobody else is harmed."""

import collections
import os
import socket
import subprocess
import threading

import pytest

from broker import PSAD, environment
from client import DEADLINE, Client, scaled, wait_until
from traffic import Job

KIB, MIB = 1 << 10, 1 << 20


def ask_each_worker(broker):
    """Returns when every worker has read what was sent to it before: connections go to them in turn."""
    for client in [broker.client() for _ in range(2 * broker.stats()["workers"])]:
        for _ in range(3):
            client.ask("PING")
        client.close()


# --- how it is started --------------------------------------------------------------------------------

@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_descriptors_closed_at_the_start_never_become_a_socket_or_a_file_of_the_log(tmp_path, closed):
    """Else what psad says to its operator is written into whatever has become descriptor 2."""
    def close():
        for fd in closed:
            os.close(int(fd))

    path = tmp_path / "socket"
    child = subprocess.Popen(
        [PSAD, "-o", "listen.tcp=", "-o", f"listen.unix={path}", "-o", f"log.dir={tmp_path}/log"],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=close)
    try:
        def connected():
            try:
                return Client(f"unix:{path}")
            except OSError:
                return None
        client = wait_until(connected, "psad listens")
        assert client.publish("t", b"x") == 1
        opened = {fd: os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in (0, 1, 2)}
        assert set(opened.values()) == {"/dev/null"}, opened
        client.close()
    finally:
        child.terminate()
        assert child.wait(60) == 0


# --- who is refused keeps nobody out ---------------------------------------------------------------------

def flood(broker, stop, source, hold):
    """Connects again and again from one address, and leaves open what was refused; returns how often."""
    held, count = collections.deque(), 0
    host, port = broker.address.rsplit(":", 1)
    while not stop.is_set():
        sock = socket.socket()
        sock.settimeout(DEADLINE)
        sock.bind((source, 0))
        sock.connect((host, int(port)))
        held.append(sock)
        count += 1
        if len(held) > hold:
            held.popleft().close()
    for sock in held:
        sock.close()
    return count


def test_a_flood_from_an_address_over_its_limit_keeps_no_other_address_out(broker):
    """Refused connections that are waited for must not use up the descriptors of those who may come in."""
    b = broker("server.workers=1", "limits.max_connections_per_ip=5", nofile=200)
    b.control.ask("PING")
    stop = threading.Event()
    attackers = [Job(lambda n=n: flood(b, stop, f"127.0.9.{n}", 2000)) for n in range(2)]
    try:
        b.wait_stats(lambda s: s["rejected_total"] > 500, "the flood is under way")
        subscriber = b.client(source="127.0.1.1")
        subscriber.ok("SUB t")
        for n in range(40):
            client = b.try_client(source=f"127.0.2.{n + 1}")
            assert isinstance(client, Client), f"the {n + 1}th address was refused: {client}"
            assert client.publish("t", b"%d" % n) == n + 1
        assert [m.payload for m in subscriber.recv_msgs(40)] == [b"%d" % n for n in range(40)]
    finally:
        stop.set()
        refused = sum(job.finish() for job in attackers) - 10
    assert "descriptors" not in b.stderr and "Too many open files" not in b.stderr
    assert b.stats()["rejected_total"] <= refused


# --- memory by announcement ------------------------------------------------------------------------------

@pytest.mark.parametrize("sent", [0, 1, 4 * KIB - 20], ids=["nothing", "one byte", "4 KiB"])
def test_cve_2021_32675_what_is_announced_denies_nothing_to_others(broker, sent):
    """A few bytes from each of some hundred connections must not use up limits.input_memory."""
    b = broker("limits.input_memory=8M", "server.workers=2")
    count = scaled(500)
    announcers = [b.client() for _ in range(count)]
    for client in announcers:
        client.send(b"PUT t 1048576\n" + b"x" * sent)
    ask_each_worker(b)
    assert b.stats()["input_memory_bytes"] == 0
    publisher = b.client()
    publisher.send(b"PUT t 1048576\n")
    b.control.ask("PING")
    publisher.send(b"y" * (1 << 20) + b"\n")
    assert publisher.recv_line() == "OK 1"
    assert not any(client.readable() for client in announcers), "an announcement was answered already"
