# SPDX-License-Identifier: MIT
"""Sockets that are handed over: psad listens on them as on its own, and a restart refuses nobody.

By systemd's own systemd-socket-activate where it is installed, and by a plain launcher that does
what a service manager does (hand_over.py)."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from broker import PSAD, Broker, environment
from client import DEADLINE, Client, Line, wait_until
from durable import Durable
from history import History
from swarm import Swarm, look, read_everything
from test_durable_kill import people

RESTARTS = int(os.environ.get("PSAD_RESTARTS", 12 if not os.environ.get("PSAD_FLAVOUR") else 4))
NO_TCP = "listen.tcp="


def unix_listener(path, backlog=128):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(backlog)
    return sock


def tcp_listener(host="127.0.0.1", family=socket.AF_INET, **options):
    return socket.create_server((host, 0), family=family, backlog=4096, **options)


def address_of(sock):
    name = sock.getsockname()
    if isinstance(name, (str, bytes)):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


@pytest.fixture
def listeners():
    """Sockets that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


# --- what is listened on --------------------------------------------------------------------------

def test_several_sockets_of_all_kinds_are_listened_on_and_named(broker, tmp_path, listeners):
    sockets = [("psad.socket", listeners(tcp_listener())),
               ("v6", listeners(tcp_listener("::1", socket.AF_INET6))),
               ("local", listeners(unix_listener(tmp_path / "local"))),
               ("other", listeners(tcp_listener("127.0.0.2"))),
               ("", listeners(unix_listener(tmp_path / "nameless")))]
    b = broker(tcp=None, sockets=sockets)
    for number, (name, sock) in enumerate(sockets):
        line = b.wait_stderr(f"listening on {address_of(sock)}, handed over as")
        assert line.endswith(f"handed over as {name}"), line
        assert b.client(address_of(sock)).publish("t") == number + 1
    assert len(b.addresses) == len(sockets), "the default addresses are listened on too"


def test_an_abstract_socket_handed_over_is_served(broker, listeners, tmp_path):
    sock = listeners(socket.socket(socket.AF_UNIX))
    sock.bind(f"\0psad-test-{tmp_path}")
    sock.listen()
    b = broker(tcp=None, sockets=[("abstract", sock)])
    b.wait_stderr(f"listening on unix:@psad-test-{tmp_path}, handed over as abstract")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        client.settimeout(DEADLINE)
        client.sendall(b"PING\n")
        assert client.recv(100).startswith(b"PONG ")


def test_what_is_configured_is_listened_on_as_well(broker, tmp_path, listeners):
    sock = listeners(tcp_listener())
    b = broker(f"listen.unix={tmp_path}/own", sockets=[("a", sock)])
    assert len(b.addresses) == 3
    for address in b.addresses:
        assert b.client(address).ask("PING").startswith("PONG ")


def test_an_address_configured_and_handed_over_is_the_one_handed_over(broker, tmp_path, listeners):
    sock = listeners(tcp_listener())
    local = listeners(unix_listener(tmp_path / "local"))
    b = broker(f"listen.unix={tmp_path}/local", tcp=f"127.0.0.1:0, {address_of(sock)}",
               sockets=[("a", sock), ("b", local)])
    assert sorted(b.addresses[:2]) == sorted([address_of(sock), address_of(local)])
    assert len(b.addresses) == 3
    assert b.client(address_of(sock)).ask("PING").startswith("PONG ")


def test_one_socket_for_both_families_stands_for_every_address(broker, listeners):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no socket for both families here")
    sock = listeners(tcp_listener("::", socket.AF_INET6, dualstack_ipv6=True))
    port = sock.getsockname()[1]
    b = broker("listen.insecure=yes", tcp=f":{port}", sockets=[("both", sock)])
    assert b.addresses == [f"[::]:{port}"]
    for address in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert b.client(address).ask("PING").startswith("PONG ")


def test_nothing_to_listen_on_is_no_error_where_sockets_are_handed_over(broker, listeners):
    sock = listeners(tcp_listener())
    b = broker(tcp="", sockets=[("a", sock)])
    assert b.addresses == [address_of(sock)]
    b.client().ask("PING")


def test_a_configuration_for_sockets_handed_over_is_good_and_said_to_need_them():
    done = subprocess.run([PSAD, "-t", "-o", NO_TCP], env=environment(), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0 and "handed over" in done.stderr
    done = subprocess.run([PSAD, "-o", NO_TCP], env=environment(), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1 and "nothing to listen on" in done.stderr


def test_what_was_handed_to_another_process_is_not_touched(broker):
    b = broker(env={"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b"})
    assert len(b.addresses) == 1 and b.publish("t") == 1


# --- what is refused ------------------------------------------------------------------------------

def refused(tmp_path, sockets, *options):
    b = Broker(tmp_path, *options, tcp=None, sockets=sockets, waits=False)
    b.expect_exit(2)
    assert len(b.stderr.splitlines()) >= 1 and "ready" not in b.stderr
    return b.stderr


@pytest.mark.parametrize("kind, words", [
    ("udp", "no stream socket"), ("unix-datagram", "no stream socket"),
    ("not-listening", "does not listen"), ("connected", "does not listen"), ("pipe", "no socket"),
    ("file", "no socket"), ("netlink", "neither a TCP nor a Unix socket")])
def test_a_descriptor_of_the_wrong_kind_is_refused_with_its_name(tmp_path, listeners, kind, words):
    good = listeners(tcp_listener())
    bad = {
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix-datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "not-listening": lambda: socket.socket(socket.AF_INET),
        "connected": lambda: socket.create_connection(good.getsockname()),
        "pipe": lambda: os.fdopen(os.pipe()[0]),
        "file": lambda: open("/dev/null"),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    }[kind]()
    listeners(bad)
    said = refused(tmp_path, [("good", good), ("bad-one", bad)])
    assert "descriptor 4 (bad-one)" in said and words in said, said


@pytest.mark.parametrize("host, family", [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)])
def test_a_socket_that_lets_other_machines_in_needs_to_be_allowed(broker, tmp_path, listeners, host,
                                                                  family):
    sock = listeners(tcp_listener(host, family))
    said = refused(tmp_path, [("wide", sock)])
    assert address_of(sock) in said and "wide" in said and "listen.insecure = yes" in said, said
    b = broker("listen.insecure=yes", tcp=None, sockets=[("wide", sock)])
    assert b.addresses == [address_of(sock)]


# --- stopping and starting again ------------------------------------------------------------------

def test_a_stop_leaves_the_sockets_to_who_handed_them_over(broker, tmp_path, listeners):
    path = tmp_path / "local"
    sockets = [("tcp", listeners(tcp_listener())), ("local", listeners(unix_listener(path)))]
    b = broker(tcp=None, sockets=sockets)
    b.client(address_of(sockets[0][1])).ask("PING")
    b.stop()
    assert stat.S_ISSOCK(path.stat().st_mode), "a path that is not psad's was removed"
    # Between two lives nobody answers, and nobody is refused.
    waiting = [Client(address_of(sock)) for _, sock in sockets for _ in range(20)]
    for client in waiting:
        client.send("PING\n")
    again = broker(tcp=None, sockets=sockets)
    for client in waiting:
        assert client.recv_line().startswith("PONG ")
        client.close()
    again.stop()
    assert path.exists()


def test_who_connects_while_it_drains_waits_for_the_next_life(broker, listeners):
    sock = listeners(tcp_listener())
    first = broker("server.drain_timeout=10m", tcp=None, sockets=[("tcp", sock)])
    slow = first.client(rcvbuf=4096)
    slow.ok("SUB >")
    first.control.flood("t", b"x" * 10000, 2000)
    first.signal(signal.SIGTERM)
    assert first.control.recv_line().code == "shutting-down"
    late = Client(first.address)
    late.send("PING\n")
    slow.drain()
    first.expect_exit(0)
    second = broker(tcp=None, sockets=[("tcp", sock)])
    line = late.recv_line()
    assert line == f"PONG 0@{second.log}", "it was served by the one that was stopping"
    late.close()


class Activated(Durable):
    """A log directory whose daemons are handed one listening socket, as by a socket unit."""

    def __init__(self, home, *options):
        super().__init__(home, *options)
        self._port.close()
        self.socket = tcp_listener()
        self.address = address_of(self.socket)

    def start(self, *options):
        self.lives.append(Broker(self.home, *self.arguments(*options), tcp=None,
                                 sockets=[("psad", self.socket)]))
        return self.broker

    def end(self):
        super().end()
        self.socket.close()


def homes():
    yield "disk"
    if os.access("/dev/shm", os.W_OK):
        yield "tmpfs"


@pytest.mark.parametrize("where", homes())
def test_restarts_under_load_refuse_nobody_and_everybody_resumes_exactly(tmp_path, where,
                                                                         monkeypatch):
    """PSAD_RESTARTS=100 is the long form."""
    home = tmp_path
    with contextlib.ExitStack() as stack:
        if where == "tmpfs":
            home = Path(stack.enter_context(
                tempfile.TemporaryDirectory(prefix="psad-test-", dir="/dev/shm")))
        log = Activated(home, "server.drain_timeout=10m", "log.fsync=no" if where == "tmpfs" else
                        "log.fsync=interval", "log.segment_size=1M", "log.retain_bytes=0",
                        "limits.max_payload=20K")
        stack.callback(log.end)
        refusals = []
        connect = socket.socket.connect

        def watched(sock, address):
            try:
                return connect(sock, address)
            except OSError as fault:
                refusals.append(f"{address}: {fault}")
                raise
        monkeypatch.setattr(socket.socket, "connect", watched)
        history = History()
        broker = log.start()
        swarm = Swarm(log.address, history)
        people(swarm, 7)
        for _ in range(RESTARTS):
            swarm.wait_acknowledged(300)
            log.stop()
            assert not refusals, refusals[:3]
            broker = log.start()
            look(broker, history)
        swarm.wait_acknowledged(300)
        swarm.stop_publishing()
        head = look(broker, history)["head"]
        swarm.finish(head)
        read_everything(broker, history, "the last reader")
        assert not refusals, refusals[:3]
        # No gap of any kind may be told: nothing was lost and nothing was dropped.
        history.check(head=head, reasons=())
        print(f"{where}: {RESTARTS} restarts, {head} messages, "
              f"{sum(len(f.sessions) for f in history.followers)} sessions, "
              f"{len(history.links)} connections of publishers")


# --- systemd's own --------------------------------------------------------------------------------

needs_systemd = pytest.mark.skipif(shutil.which("systemd-socket-activate") is None,
                                   reason="systemd-socket-activate is not installed")


@needs_systemd
def test_systemd_socket_activate_starts_it_with_the_first_client(tmp_path):
    with tcp_listener() as reserved:
        port = reserved.getsockname()[1]
    path = tmp_path / "activated"
    # It waits for a client, then becomes psad with the sockets.
    b = Broker(tmp_path, tcp=None, waits=False, launcher=(
        "systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-l", str(path),
        "--fdname=first:second"))
    try:
        def connected():
            with contextlib.suppress(OSError):
                return Client(f"unix:{path}")
        client = wait_until(connected, "systemd-socket-activate listens")
        assert client.ask("PING").startswith("PONG ")
        b.wait_ready()
        assert b.addresses == [f"127.0.0.1:{port}", f"unix:{path}"]
        b.wait_stderr("handed over as first")
        b.wait_stderr("handed over as second")
        assert b.client(f"127.0.0.1:{port}").publish("t") == 1
        b.signal(signal.SIGTERM)
        assert isinstance(client.recv_line(), Line)
        client.close()
        b.stop()
        assert path.exists()
    finally:
        b.process.kill()
