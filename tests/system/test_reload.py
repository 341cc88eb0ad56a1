# SPDX-License-Identifier: MIT
"""SIGHUP: what can change does, all of it or nothing, and each change is told in a line with what
it was before."""

import contextlib
import os
import signal
import socket
import stat

import pytest

from broker import Broker
from client import Client, Line, put, wait_until
from test_activation import address_of, tcp_listener


class Reloading:
    """A broker that reads its configuration from a file only."""

    def __init__(self, directory, text, **options):
        self.path = directory / "psad.conf"
        self.path.write_text(text)
        self.broker = Broker(directory, tcp=None, config=self.path, **options)

    def reload(self, text):
        """Returns the lines that it says, without the marks of their beginning."""
        self.path.write_text(text)
        seen = self.broker.stderr_lines
        self.broker.signal(signal.SIGHUP)

        def done():
            lines = self.broker.stderr.splitlines()[seen:]
            ends = [n for n, line in enumerate(lines) if line == "psad: reload: done" or
                    line.endswith("nothing has changed")]
            # What happens beside it is no part of it.
            return [line.removeprefix("psad: ") for line in lines[:ends[0] + 1]
                    if "accepting connections" not in line] if ends else None
        return wait_until(done, "the reload is over")

    def applied(self, text):
        lines = self.reload(text)
        assert lines[-1] == "reload: done", lines
        return lines[:-1]

    def refused(self, text):
        lines = self.reload(text)
        assert len(lines) == 1 and lines[0].startswith("reload: "), lines
        return lines[0]


@pytest.fixture
def reloading(tmp_path):
    made = []

    def make(text, **options):
        made.append(Reloading(tmp_path, text, **options))
        return made[-1]
    yield make
    for one in made:
        if not one.broker.ended:
            one.broker.stop()


def free_address(host="127.0.0.1"):
    with tcp_listener(host) as sock:
        return address_of(sock)


def can_connect(address):
    try:
        with socket.socket(socket.AF_UNIX if address.startswith("unix:") else
                           socket.AF_INET) as sock:
            host, _, port = address.rpartition(":")
            sock.connect(address[5:] if address.startswith("unix:") else (host, int(port)))
    except OSError:
        return False
    return True


LISTEN = "[listen]\ntcp = 127.0.0.1:0\n"


# --- what is said ---------------------------------------------------------------------------------

def test_each_change_is_one_line_with_what_it_was_before(reloading, tmp_path):
    r = reloading(LISTEN)
    assert r.applied(LISTEN) == []
    lines = r.applied("""[server]
workers = 3
drain_timeout = 90s
log_level = notice
[listen]
tcp = 127.0.0.1:0
unix_mode = 0600
backlog = 100
[log]
segment_size = 2M
retain_bytes = 128M
retain_messages = 1000
retain_age = 2h
dir = elsewhere
[limits]
max_payload = 512K
max_connections = 50
max_connections_per_ip = 40
max_patterns = 9
input_memory = 1M
put_timeout = 5s
idle_timeout = 1d
send_buffer = 0
keepalive = 2m
""")
    assert lines == [
        "reload: server.workers = 3 needs a restart (stays 0)",
        "reload: server.drain_timeout = 90s (was 5s)",
        "reload: server.log_level = notice (was info)",
        "reload: listen.unix_mode = 0600 (was 0660)",
        "reload: listen.backlog = 100 (was 4096)",
        "reload: log.segment_size = 2M needs a restart (stays 16M)",
        "reload: log.retain_bytes = 128M (was 256M)",
        "reload: log.retain_messages = 1000 (was 0)",
        "reload: log.retain_age = 2h (was 0)",
        "reload: log.dir = elsewhere needs a restart (stays (none))",
        "reload: limits.max_payload = 512K (was 1M)",
        "reload: limits.max_connections = 50 (was 0)",
        "reload: limits.max_connections_per_ip = 40 (was 0)",
        "reload: limits.max_patterns = 9 (was 1024)",
        "reload: limits.input_memory = 1M (was 64M)",
        "reload: limits.put_timeout = 5s (was 30s)",
        "reload: limits.idle_timeout = 1d (was 0)",
        "reload: limits.send_buffer = 0 (was 256K)",
        "reload: limits.keepalive = 2m (was 1m)",
    ]


def test_what_needs_a_restart_is_said_again_each_time_and_what_is_in_force_is_not(reloading):
    r = reloading(LISTEN)
    text = LISTEN + "[server]\nworkers = 7\ndrain_timeout = 1s\n"
    assert len(r.applied(text)) == 2
    assert r.applied(text) == ["reload: server.workers = 7 needs a restart (stays 0)"]


# --- what takes effect ----------------------------------------------------------------------------

def test_limits_are_in_force_for_connections_that_there_are(reloading):
    r = reloading(LISTEN)
    client = r.broker.client()
    client.ok("SUB a b c")
    r.applied(LISTEN + "[limits]\nmax_patterns = 3\nmax_payload = 10\n")
    assert client.ask("SUB d").words[:2] == ["ERR", "too-many"]
    client.send(put("t", b"x" * 11))
    assert client.recv_line().words[:2] == ["ERR", "payload-too-large"]
    r.applied(LISTEN)
    client.ok("SUB d")


def test_retention_takes_effect_without_a_message_more(reloading):
    options = "[log]\nsegment_size = 64K\nretain_bytes = {}\n[limits]\nmax_payload = 16K\n"
    r = reloading(LISTEN + options.format("64M"))
    r.broker.control.flood("t", b"x" * 1000, 5000)
    assert r.broker.info()["first"] == 1
    r.applied(LISTEN + options.format("256K"))
    wait_until(lambda: r.broker.info()["first"] > 4000, "all but the newest are dropped")


def test_the_level_of_messages_changes(reloading, tmp_path):
    r = reloading(LISTEN)
    assert r.applied(LISTEN + "[server]\nlog_level = notice\n")
    r.path.write_text(LISTEN + "[server]\nlog_level = error\n")
    seen = r.broker.stderr_lines
    r.broker.signal(signal.SIGHUP)
    r.broker.wait_stderr("log_level = error (was notice)", after=seen)
    r.path.write_text("nonsense")
    r.broker.signal(signal.SIGHUP)
    r.broker.wait_stderr("nothing has changed", after=seen)
    assert "reload: done" not in r.broker.stderr.splitlines()[seen:], "a notice was shown"
    r.broker.stop()
    assert "stopped" not in r.broker.stderr


def test_a_shorter_sync_interval_is_in_force_for_what_waits(reloading, tmp_path):
    text = LISTEN + f"[log]\ndir = {tmp_path}/log\nfsync_interval = "
    r = reloading(text + "1h\n")
    r.broker.publish("t")
    wait_until(lambda: r.broker.info()["synced"] == 1, "the first message is synced")
    r.broker.publish("t")
    assert r.applied(text + "10ms\n") == ["reload: log.fsync_interval = 10ms (was 1h)"]
    wait_until(lambda: r.broker.info()["synced"] == 2, "the second one too, within the hour")
    assert r.applied(text + "1d\n") == ["reload: log.fsync_interval = 1d (was 10ms)"]
    r.broker.publish("t")
    assert r.broker.info()["synced"] == 2


# --- listeners ------------------------------------------------------------------------------------

def test_listeners_come_and_go_and_connections_of_those_that_went_live_on(reloading, tmp_path):
    one, two = free_address(), free_address()
    path = tmp_path / "socket"
    r = reloading(f"[listen]\ntcp = {one}\n")
    old = r.broker.client(one)
    old.ok("SUB t")
    lines = r.applied(f"[listen]\ntcp = {two}\nunix = {path}\n")
    assert lines == [f"listening on {two}", f"listening on unix:{path}",
                     f"no longer listening on {one}",
                     f"reload: listen.tcp = {two} (was {one})",
                     f"reload: listen.unix = {path} (was (none))"]
    assert not can_connect(one)
    local = r.broker.client(f"unix:{path}")
    assert r.broker.client(two).publish("t", b"1") == 1
    assert old.recv_msg().payload == b"1", "a connection went with its listener"
    r.applied(f"[listen]\ntcp = {one}, {two}\n")
    assert not path.exists(), "its path stays though nobody listens"
    assert local.publish("t", b"2") == 2 and old.recv_msg().payload == b"2"
    for address in (one, two):
        r.broker.client(address).ask("PING")


def test_a_listener_that_stays_is_never_closed(reloading):
    one, two = free_address(), free_address()
    r = reloading(f"[listen]\ntcp = {one}\n")
    before = listening(r.broker)
    waiting = [Client(one) for _ in range(20)]
    r.applied(f"[listen]\ntcp = {two}, {one}\nbacklog = 7\n")
    assert before.items() < listening(r.broker).items()
    for client in waiting:
        assert client.ask("PING").startswith("PONG ")
        client.close()


def listening(broker):
    """The TCP sockets at which the process listens: inode -> port."""
    with open(f"/proc/{broker.process.pid}/net/tcp", encoding="ascii") as table:
        ports = {line.split()[9]: int(line.split()[1].split(":")[1], 16) for line in table
                 if line.split()[3] == "0A"}
    folder = f"/proc/{broker.process.pid}/fd"
    links = []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(f"{folder}/{fd}"))
    return {inode: port for inode, port in ports.items() if f"socket:[{inode}]" in links}


def test_the_mode_of_a_unix_socket_changes_with_or_without_its_path(reloading, tmp_path):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)
    one, two = tmp_path / "one", tmp_path / "two"
    r = reloading(LISTEN + f"unix = {one}\n")
    client = r.broker.client(f"unix:{one}")
    assert mode(one) == 0o660
    r.applied(LISTEN + f"unix = {one}\nunix_mode = 0606\n")
    assert mode(one) == 0o606
    r.applied(LISTEN + f"unix = {two}\nunix_mode = 0622\n")
    assert mode(two) == 0o622 and not one.exists()
    assert client.publish("t") == 1


def test_the_last_listener_can_not_go(reloading):
    r = reloading(LISTEN)
    assert "nothing to listen on" in r.refused("[listen]\ntcp =\n")
    assert r.broker.client().publish("t") == 1


# --- all or nothing -------------------------------------------------------------------------------

def occupied(listeners, tmp_path, kind):
    """A line of [listen] that can't be had, and what is said of it."""
    if kind == "tcp":
        sock = tcp_listener()
        listeners.append(sock)
        return f"tcp = 127.0.0.1:0, {{new}}, {address_of(sock)}", address_of(sock)
    if kind == "machine":
        return "tcp = 127.0.0.1:0, {new}, 192.0.2.1:9853\ninsecure = yes", "192.0.2.1:9853"
    if kind == "folder":
        return f"tcp = 127.0.0.1:0, {{new}}\nunix = {tmp_path}/nowhere/x", "nowhere/x"
    if kind == "file":
        (tmp_path / "file").write_text("kept")
        return f"tcp = 127.0.0.1:0, {{new}}\nunix = {tmp_path}/file", "file"
    assert kind == "wide"
    return "tcp = 127.0.0.1:0, {new}, 0.0.0.0:9853", "listen.insecure = yes"


@pytest.mark.parametrize("kind", ["tcp", "machine", "folder", "file", "wide"])
def test_a_listener_that_can_not_be_had_refuses_the_whole_reload(reloading, tmp_path, kind):
    taken = []
    gone, new = free_address(), free_address()
    r = reloading(f"[listen]\ntcp = 127.0.0.1:0, {gone}\n")
    line, words = occupied(taken, tmp_path, kind)
    limits = "[limits]\nmax_payload = 10\nmax_patterns = 1\n[log]\nretain_messages = 1\n"
    said = r.refused("[listen]\n" + line.format(new=new) + "\n" + limits)
    assert words in said and said.endswith("nothing has changed"), said
    assert not can_connect(new), "a listener of a refused reload is open"
    client = r.broker.client(gone)
    client.ok("SUB a b")
    assert client.publish("t", b"x" * 11) == 1
    if kind == "file":
        assert (tmp_path / "file").read_text() == "kept"
    # What was refused has left nothing behind: the good half of it is applied as if it was new.
    assert f"listening on {new}" in r.applied(f"[listen]\ntcp = 127.0.0.1:0, {gone}, {new}\n")
    for sock in taken:
        sock.close()


def test_the_mode_of_a_socket_is_as_it_was_when_the_reload_is_refused(reloading, tmp_path):
    path = tmp_path / "socket"
    r = reloading(LISTEN + f"unix = {path}\n")
    path.unlink()
    path.write_text("somebody else's")
    said = r.refused(LISTEN + f"unix = {path}\nunix_mode = 0600\n[limits]\nmax_payload = 10\n")
    assert str(path) in said
    assert stat.S_IMODE(path.stat().st_mode) != 0o600
    assert r.broker.publish("t", b"x" * 11) == 1


@pytest.mark.parametrize("some_left", [False, True])
def test_cve_2017_7652_with_few_descriptors_left_a_reload_changes_nothing(reloading, some_left):
    """None for the file; or enough for it and for some of the new listeners."""
    gone = free_address()
    r = reloading(f"[listen]\ntcp = {gone}\n[limits]\nmax_connections = 100000\n", nofile=200)
    b = r.broker
    clients = []
    # All descriptors are used up, the one in reserve too.
    b.control.ask("PING")
    while "Too many open files" not in b.stderr:
        clients.append(Client(gone))
    fresh = "[listen]\ntcp = " + ",\n ".join(f"127.0.0.{n}:0" for n in range(1, 61)) + \
        "\n[limits]\nmax_payload = 10\n"

    def refused():
        # The newest first, one at a time: those not accepted yet take the place of others.
        if some_left:
            clients.pop().close()
        said = r.refused(fresh)
        return said if ("listen.tcp: 127.0.0." in said) == some_left else None
    said = wait_until(refused, "descriptors last for the file" if some_left else "it is refused")
    assert "Too many open files" in said, said
    assert b.publish("t", b"x" * 11) == 1, "a limit of a refused reload is in force"
    assert len(listening(b)) == 1, "a listener of a refused reload is open"
    for client in clients:
        client.close()
    wait_until(lambda: b.stats()["connections"] < 50, "descriptors are free again")
    assert b.wait_admitted().publish("t", b"x" * 11) == 2
    assert any("listening on" in line for line in r.applied(
        f"[listen]\ntcp = {gone}, 127.0.0.3:0\n[limits]\nmax_connections = 100000\n"))


# --- sockets handed over --------------------------------------------------------------------------

def test_sockets_handed_over_stay_whatever_is_configured(reloading):
    with tcp_listener() as sock:
        own = free_address()
        r = reloading("[server]\nworkers = 1\n", sockets=[("psad", sock)])
        assert r.broker.addresses == [address_of(sock)], "the default is not listened on"
        r.applied(f"[server]\nworkers = 1\n[listen]\ntcp = {own}\n")
        for address in (own, address_of(sock)):
            r.broker.client(address).ask("PING")
        assert f"no longer listening on {own}" in r.applied("[server]\nworkers = 1\n")
        assert r.applied("[server]\nworkers = 1\n[listen]\ntcp =\n")
        r.broker.client(address_of(sock)).ask("PING")
        assert not can_connect(own)


def test_a_wide_socket_handed_over_keeps_its_permission(reloading):
    with tcp_listener("0.0.0.0") as sock:
        r = reloading("[listen]\ninsecure = yes\n", sockets=[("wide", sock)])
        said = r.refused("[listen]\ninsecure = no\n")
        assert "listen.insecure = yes" in said and "wide" in said
        assert isinstance(r.broker.try_client(), Client)


def test_a_reload_while_it_stops_is_not_done(reloading):
    r = reloading(LISTEN + "[server]\ndrain_timeout = 10m\n")
    slow = r.broker.client(rcvbuf=4096)
    slow.ok("SUB >")
    r.broker.control.flood("t", b"x" * 10000, 2000)
    r.broker.signal(signal.SIGTERM)
    assert isinstance(r.broker.control.recv_line(), Line)
    seen = r.broker.stderr_lines
    r.broker.signal(signal.SIGHUP)
    r.broker.wait_stderr("SIGHUP", "stopping already", after=seen)
    assert slow.drain()[-1].code == "shutting-down"
    r.broker.expect_exit(0)
