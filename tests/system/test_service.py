# SPDX-License-Identifier: MIT
"""What the service manager is told: each message of sd_notify, when it is due and not before; and a
watchdog that is fed as long as every thread comes round, and no longer."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from broker import ROOT, Broker, environment
from client import DEADLINE, FLAVOUR, Client, put, wait_until
from durable import SMALL_SEGMENTS
from manager import WATCHDOG_US, Manager
from traffic import publishing

PATIENT = "server.drain_timeout=10m"
TWO = "server.workers=2"
SERVES = re.compile(r"\d+ connections, \d+ subscribers( \(\d+ behind, by up to \d+ messages\))?; "
                    r"\d+ messages/s published, \d+ delivered")


@pytest.fixture
def manager(tmp_path):
    one = Manager(tmp_path)
    yield one
    one.close()


# --- the life of a service ------------------------------------------------------------------------

@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_a_manager_is_told_ready_then_stopping_then_nothing_more(broker, tmp_path, is_abstract):
    manager = Manager(tmp_path, is_abstract)
    b = broker(env=manager.environment())
    ready = manager.wait_key("READY", "1")
    assert SERVES.fullmatch(ready.status), ready
    b.stop()
    stopping = manager.wait_key("STOPPING", "1")
    assert stopping.status == "draining, 0 connections left", stopping
    manager.wait_status("closing the log")
    kinds = [next(iter(message)) for message in manager.messages]
    assert kinds.count("READY") == 1 and kinds.count("STOPPING") == 1, kinds
    assert kinds.index("READY") < kinds.index("STOPPING")
    assert "NOTIFY_SOCKET" not in b.stderr
    manager.close()


def test_ready_comes_when_every_listener_is_open_and_not_before(tmp_path, manager, hang):
    # The second of three listeners can't be had for a while.
    hang.begin("psad", "listen")
    b = Broker(tmp_path, f"listen.unix={tmp_path}/socket", tcp="127.0.0.1:0, 127.0.0.2:0",
               env=manager.environment() | hang.environment, waits=False)
    try:
        hang.wait("psad", "listen")
        assert manager.index(lambda m: "READY" in m) < 0, "it said READY before it listened"
        hang.end("psad", "listen")
        manager.wait_key("READY")
        b.wait_ready()
        assert len(b.addresses) == 3
        for address in b.addresses:
            assert b.client(address).ask("PING").startswith("PONG ")
        b.stop()
    finally:
        b.process.kill()


def test_ready_means_that_a_client_can_connect_at_once(broker, tmp_path, manager):
    path = tmp_path / "socket"
    b = Broker(tmp_path, f"listen.unix={path}", env=manager.environment(), waits=False)
    try:
        manager.wait_key("READY")
        assert Client(f"unix:{path}").ask("PING").startswith("PONG ")
        b.wait_ready()
        b.stop()
    finally:
        b.process.kill()


def test_recovery_asks_for_time_says_how_far_it_is_and_comes_before_ready(durable, manager):
    log = durable(*SMALL_SEGMENTS, env=manager.environment())
    b = log.start("log.fsync=no")
    b.control.flood("t", b"x" * 10000, 200)
    log.kill()
    segments = len(log.segments)
    seen = len(manager.messages)
    log.start()
    manager.wait_key("READY", after=seen)
    told = [message for message in manager.messages[seen:] if "READY" not in message]
    life = told[:manager.index(lambda m: "READY" in m, seen) - seen]
    assert life[0].status == "opening the log", life
    steps = [re.fullmatch(r"recovering the log: (\d+) of (\d+) segments", message.status)
             for message in life[1:]]
    assert all(steps) and len(steps) >= 2, life
    done = [int(step[1]) for step in steps]
    assert done == sorted(done) and done[0] == 1 and done[-1] == segments, (done, segments)
    assert all(int(step[2]) == segments for step in steps)
    assert all(int(message["EXTEND_TIMEOUT_USEC"]) > 1_000_000 for message in life), life


def test_a_reload_is_told_with_its_time_and_ended_by_ready(broker, tmp_path, manager):
    config = tmp_path / "psad.conf"
    config.write_text("")
    b = broker(config=config, env=manager.environment())
    manager.wait_key("READY")
    for text in ("[limits]\nmax_patterns = 7\n", "nonsense\n", "[listen]\nunix = /nonexistent/x\n"):
        config.write_text(text)
        seen = len(manager.messages)
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        b.signal(signal.SIGHUP)
        reloading = manager.wait_key("RELOADING", "1", after=seen)
        manager.wait_key("READY", "1", after=manager.messages.index(reloading))
        after = time.clock_gettime(time.CLOCK_MONOTONIC)
        assert before <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= after, reloading


def test_the_status_tells_what_the_broker_does(broker, manager):
    b = broker(TWO, env=manager.environment())
    subscriber = b.client()
    subscriber.ok("SUB >")
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB >")
    b.control.flood("t", b"x" * 10000, 2000)
    subscriber.recv_msgs(2000)
    manager.wait_status("3 connections, 2 subscribers (1 behind, by up to ")
    with publishing(b, ["t"]):
        def busy(message):
            found = re.search(r"(\d+) messages/s published, (\d+) delivered", message.status)
            return found and int(found[1]) > 0
        manager.wait(busy, "how many messages are published", after=len(manager.messages))
    assert all("\n" not in message.status for message in manager.messages)


def test_draining_asks_for_time_and_counts_the_connections_left(broker, manager):
    b = broker(PATIENT, env=manager.environment())
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB >")
    b.control.flood("t", b"x" * 10000, 2000)
    others = [b.client() for _ in range(3)]
    for other in others:
        other.ask("PING")
    b.signal(signal.SIGTERM)
    assert manager.wait_key("STOPPING").status == "draining, 5 connections left"
    left = manager.wait_status("draining, 1 connections left")
    assert int(left["EXTEND_TIMEOUT_USEC"]) > 1_000_000
    # As long as it drains, there is always another word before the time asked for is over.
    again = manager.wait_status("draining, 1 connections left",
                                after=manager.messages.index(left) + 1)
    assert again.time - left.time < int(left["EXTEND_TIMEOUT_USEC"]) / 1e6
    assert slow.drain()[-1].code == "shutting-down"
    b.expect_exit(0)
    manager.wait_status("closing the log")


def test_a_manager_that_is_not_there_is_told_of_once_and_is_no_obstacle(broker, tmp_path):
    b = broker(env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"})
    for n in range(3):
        b.signal(signal.SIGHUP)
        b.wait_stderr("reload: done")
        assert b.publish("t") == n + 1
    b.stop()
    lines = [line for line in b.stderr.splitlines() if "NOTIFY_SOCKET" in line]
    assert len(lines) == 1 and "nobody" in lines[0], b.stderr


def test_without_a_manager_there_is_no_word_of_it(broker):
    b = broker()
    b.publish("t")
    b.stop()
    assert "manager" not in b.stderr and "NOTIFY" not in b.stderr


# --- the watchdog ---------------------------------------------------------------------------------

def test_an_idle_broker_feeds_its_watchdog(broker, manager):
    b = broker(TWO, env=manager.environment(WATCHDOG_US))
    manager.wait_fed(8)
    assert b.publish("t") == 1


def test_a_broker_without_descriptors_is_full_and_not_dead(broker, manager):
    b = broker("limits.max_connections=100000", nofile=200, env=manager.environment(WATCHDOG_US))
    clients = []
    while "Too many open files" not in b.stderr:
        clients.append(Client(b.address))
    manager.wait_fed(4)
    assert "NOTIFY_SOCKET" not in b.stderr
    for client in clients:
        client.close()


def test_a_broker_that_was_not_asked_to_does_not_feed(broker, manager):
    b = broker(env=manager.environment())
    b.publish("t")
    manager.wait_status("1 connections")
    assert manager.feeds == 0


def test_a_watchdog_of_another_process_is_not_fed(broker, manager):
    b = broker(env=manager.environment(WATCHDOG_US) | {"WATCHDOG_PID": "1"})
    b.publish("t")
    manager.wait_status("1 connections")
    assert manager.feeds == 0


@pytest.mark.parametrize("fsync", ["memory", "no", "interval", "always"])
def test_a_fully_loaded_broker_feeds_its_watchdog(broker, tmp_path, manager, fsync):
    options = [] if fsync == "memory" else [f"log.dir={tmp_path}/log", f"log.fsync={fsync}"]
    b = broker(TWO, *options, env=manager.environment(2 * WATCHDOG_US))
    subscribers = [b.client() for _ in range(4)]
    for client in subscribers:
        client.ok("SUB >")
    stuck = b.client(rcvbuf=4096)
    stuck.ok("SUB >")
    with publishing(b, ["t"], publishers=3, size=200):
        manager.wait_fed(6)
    assert b.head() > 0


def test_a_long_sync_interval_is_kept_and_the_watchdog_fed(broker, tmp_path, manager):
    b = broker(f"log.dir={tmp_path}/log", "log.fsync_interval=1h",
               env=manager.environment(WATCHDOG_US))
    b.publish("t")
    wait_until(lambda: b.info()["synced"] == 1, "the first message is synced")
    b.publish("t")
    manager.wait_fed(6)
    assert b.info()["synced"] == 1, "being watched made it sync before its time"


STUCK = [
    ("worker", "psad-worker-1", "epoll_wait", "worker 1"),
    ("worker while it delivers", "psad-worker-0", "send", "worker 0"),
    ("keeper", "psad-keeper", "poll", "the keeper"),
    ("keeper that makes a file", "psad-keeper", "posix_fallocate", "the keeper"),
    ("syncer", "psad-syncer", "poll", "the syncer"),
    ("syncer that syncs", "psad-syncer", "fdatasync", "the syncer"),
    ("main loop", "psad", "epoll_wait", None),
]


@pytest.mark.parametrize("what, thread, call, name", STUCK, ids=[row[0] for row in STUCK])
def test_a_stuck_thread_stops_the_feed_and_one_that_goes_on_lets_it_begin_again(
        broker, tmp_path, manager, hang, what, thread, call, name):
    b = broker(TWO, f"log.dir={tmp_path}/log", *SMALL_SEGMENTS[:1], "log.retain_bytes=512K",
               "limits.max_payload=20K", env=manager.environment(WATCHDOG_US) | hang.environment)
    subscribers = [b.client() for _ in range(2)]  # one for each worker
    for client in subscribers:
        client.ok("SUB t")
    manager.wait_fed()
    hang.begin(thread, call)
    noisy = b.client()
    noisy.send(put("t", b"x" * 15000) * 20)  # enough for some segments
    hang.wait(thread, call)
    if name:
        b.wait_stderr(name, "watchdog is not fed")
    manager.settle()
    fed = manager.feeds
    # Nothing tells that nothing comes. A slow machine can't make this fail, and a feed that goes on
    # would come eight times.
    time.sleep(2 * WATCHDOG_US / 1e6)
    manager.settle()
    assert manager.feeds == fed, f"the watchdog is fed though a {what} is stuck"
    hang.end(thread, call)
    manager.wait_fed(3)
    if name:
        b.wait_stderr("the watchdog is fed")


# --- built without libsystemd ---------------------------------------------------------------------

@pytest.mark.skipif(bool(FLAVOUR), reason="one build of it is enough")
def test_built_without_libsystemd_it_has_no_warning_serves_and_needs_no_manager(
        broker, tmp_path, manager, monkeypatch):
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("nothing to build with")
    out = tmp_path / "build"
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    made = subprocess.run(
        ["make", "-j2", f"OUT={out}", f"CC={compiler}", "WITH_SYSTEMD=no",
         "CFLAGS=-Werror -O0 -U_FORTIFY_SOURCE", str(out / "psad")], cwd=ROOT, env={k: v for k, v in environment().items()
                                            if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=20 * DEADLINE, check=False)
    assert made.returncode == 0, made.stdout
    libraries = subprocess.run(["ldd", out / "psad"], stdout=subprocess.PIPE, text=True,
                               check=True).stdout
    assert "libsystemd" not in libraries and "libevent" in libraries
    monkeypatch.setattr("broker.PSAD", str(out / "psad"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        b = broker(env=manager.environment(WATCHDOG_US), sockets=[("psad", listener)])
    b.wait_stderr("LISTEN_FDS", "without libsystemd")
    subscriber = b.client()
    subscriber.ok("SUB >")
    assert b.publish("t", b"hello") == 1
    assert subscriber.recv_msg().payload == b"hello"
    b.stop()
    assert manager.messages == []


def test_versions_name_libsystemd_where_it_is_there():
    psad = os.environ.get("PSAD", str(ROOT / "build" / "psad"))
    said = subprocess.run([psad, "-V"], stdout=subprocess.PIPE, text=True, check=True).stdout
    linked = subprocess.run(["ldd", psad], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert ("libsystemd" in said) == ("libsystemd" in linked)
