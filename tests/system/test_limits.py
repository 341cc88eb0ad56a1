# SPDX-License-Identifier: MIT
"""Limits: who goes over one is told its key, and nobody else is harmed."""

import signal
import time

import pytest

from broker import MEASURES_MEMORY
from client import Client, put, scaled, wait_until

KIB, MIB = 1 << 10, 1 << 20


def check_refused(answer, key):
    assert not isinstance(answer, Client), "it was let in"
    assert answer.words[:2] == ["ERR", "too-many"] and key in answer and answer.closes, answer


# --- connections -----------------------------------------------------------------------------------

def test_a_connection_over_max_connections_is_refused_until_one_leaves(broker):
    b = broker("limits.max_connections=5", "server.workers=2")
    b.control.ask("PING")
    clients = [b.try_client() for _ in range(4)]
    assert all(isinstance(client, Client) for client in clients)
    for _ in range(3):
        check_refused(b.try_client(), "max_connections")
    b.wait_stats(lambda s: s["rejected_total"] == 3, "three refusals are counted")
    clients[2].close()
    b.wait_admitted()
    check_refused(b.try_client(), "max_connections")
    assert all(clients[n].ask("PING").startswith("PONG") for n in (0, 1, 3))


def test_who_is_refused_is_told_without_having_asked(broker):
    b = broker("limits.max_connections=1")
    b.control.ask("PING")
    client = b.client()
    check_refused(client.recv_line(), "max_connections")
    client.expect_eof()


def test_commands_of_a_refused_connection_are_not_executed(broker):
    b = broker("limits.max_connections=1")
    b.control.ask("PING")
    for _ in range(20):
        client = b.client()
        client.send("PUB t evil\n")
        check_refused(client.recv_line(), "max_connections")
        client.expect_eof()
    assert b.head() == 0


def test_max_connections_per_ip_counts_each_address_by_itself(broker):
    b = broker("limits.max_connections_per_ip=3")
    first = [b.wait_admitted(source="127.0.0.1") for _ in range(3)]
    check_refused(b.try_client(source="127.0.0.1"), "max_connections_per_ip")
    second = [b.try_client(source="127.0.0.2") for _ in range(3)]
    assert all(isinstance(client, Client) for client in second)
    check_refused(b.try_client(source="127.0.0.2"), "max_connections_per_ip")
    first[0].close()
    b.wait_admitted(source="127.0.0.1")
    check_refused(b.try_client(source="127.0.0.2"), "max_connections_per_ip")


def test_used_up_descriptors_neither_stop_the_daemon_nor_make_it_spin(broker):
    b = broker("server.workers=1", nofile=100)
    b.control.ask("PING")
    clients = [b.client() for _ in range(200)]
    for client in clients:
        client.send("PING\n")

    def answered(clients):
        return [client for client in clients if client.readable()]
    refused, admitted = [], []

    def some_are_refused():
        for client in answered([c for c in clients if c not in refused and c not in admitted]):
            line = client.recv_line()
            if line.startswith("PONG "):
                admitted.append(client)
            else:
                assert line.words[:2] == ["ERR", "too-many"], line
                refused.append(client)
        return refused and len(admitted) >= 20
    wait_until(some_are_refused, "some clients are let in and some are refused")

    # Those who wait in the queue must not make it spin: while nobody asks for anything, it computes nothing to speak of.
    cpu, start = b.cpu_seconds(), time.monotonic()
    assert not admitted[0].readable(timeout=2)
    used, elapsed = b.cpu_seconds() - cpu, time.monotonic() - start
    assert used < elapsed / 2, f"{used:.2f} s of CPU time within {elapsed:.2f} s while descriptors were used up"

    assert b.publish("t") == 1
    for client in clients:
        client.close()
    admitted_again = [b.wait_admitted() for _ in range(10)]
    assert all(client.ask("PUB t x").startswith("OK ") for client in admitted_again)


def test_a_burst_of_connections_is_served_to_the_last_one(broker):
    b = broker("server.workers=1")
    busy = [b.client() for _ in range(4)]
    for client in busy:
        client.ok("ACKS OFF")
    b.signal(signal.SIGSTOP)
    for client in busy:
        client.send_until_stuck(b"PUB t x\n" * 400000)  # so that the worker has something else to do
    clients = [b.client() for _ in range(3500)]  # less than listen.backlog
    for client in clients:
        client.send("PING\n")
    b.signal(signal.SIGCONT)
    assert all(client.recv_line().startswith("PONG ") for client in clients)


# --- input memory ------------------------------------------------------------------------------------

SLOW = {  # how a slow client comes to hold 200 KiB of input: a command, what it sends of the next, and what completes that
    "body": ("PING", b"PUT t %d\n" % (230 * KIB) + b"x" * (200 * KIB), b"x" * (30 * KIB) + b"\n"),
    "line": ("PING", b"PUB t " + b"x" * (200 * KIB), b"x" * (30 * KIB) + b"\n"),
    "line of LINES": ("LINES t", b"x" * (200 * KIB), b"x" * (30 * KIB) + b"\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_unfinished_commands_over_input_memory_are_refused_and_others_go_on(broker, kind):
    b = broker("limits.input_memory=1M", "limits.max_payload=512K", "server.workers=2")
    command, begun, rest = SLOW[kind]
    held = [b.client() for _ in range(10)]
    for client in held:
        client.ask(command)
        client.send_until_stuck(begun)

    def what_fits_is_held():
        for client in [client for client in held if client.readable()]:
            check_refused(client.recv_line(), "input_memory")
            assert client.drain(reset_ok=True) in ([], ["OK 0 0"] if kind == "line of LINES" else [])
            held.remove(client)
        return len(held) <= 5 and b.stats()["input_memory_bytes"] >= len(held) * 190 * KIB
    wait_until(what_fits_is_held, "all are refused but what fits into input_memory")
    assert len(held) >= 3, "input_memory is far from used"
    assert b.publish("small", b"unharmed") == 1
    completed = 0
    for client in held:
        client.send(rest)
        client.half_close()
        answer = client.recv_line()
        if answer.startswith("OK "):
            completed += 1
            client.expect_eof()
        else:  # what is announced is not reserved: to grow, it may need what there is no more
            check_refused(answer, "input_memory")
    assert completed >= len(held) / 2
    b.wait_stats(lambda s: s["input_memory_bytes"] == 0 and s["log_head"] == 1 + completed, "the input memory is given back")
    assert b.publish("t", b"x" * (512 * KIB)) == 2 + completed


def test_input_memory_is_given_back_when_slow_clients_go_away(broker):
    b = broker("limits.input_memory=1M", "limits.max_payload=512K")
    for _ in range(10):
        slow = [b.client() for _ in range(3)]
        for client in slow:
            client.send(b"PUT t %d\n" % (256 * KIB) + b"x" * (200 * KIB))
        b.wait_stats(lambda s: s["input_memory_bytes"] >= 3 * 190 * KIB, "three bodies are held")
        for client in slow:
            client.close()
        b.wait_stats(lambda s: s["input_memory_bytes"] == 0, "the memory of clients that left is given back")
    assert b.head() == 0


def test_many_small_unfinished_commands_do_not_count(broker):
    b = broker("limits.input_memory=64K", "limits.max_payload=16K")
    clients = [b.client() for _ in range(100)]
    for client in clients:
        client.send(b"PUT t 3000\n" + b"x" * 2000)
    for client in clients:
        client.send(b"x" * 1000 + b"\n")
    assert all(client.recv_line().startswith("OK ") for client in clients)


def test_cve_2021_32675_announcing_needs_no_memory(broker):
    b = broker("limits.input_memory=2G", "server.workers=2")
    count = scaled(5000)
    for _ in range(50):
        b.client().ask("PING")
    before = b.rss()
    clients = [b.client() for _ in range(count)]
    for client in clients:
        client.send("PUT t 1048576\n")
    b.wait_stats(lambda s: s["connections"] >= count, "all are connected")
    for client in clients[::50]:
        client.send("x")
    assert b.publish("t") == 1
    if MEASURES_MEMORY:
        grown = b.rss() - before
        assert grown < count * 8 * KIB, f"{grown // KIB} KiB for {count} connections that announced 1 MiB each"


# --- timeouts ----------------------------------------------------------------------------------------

def test_a_put_body_that_does_not_come_in_time_closes(broker):
    b = broker("limits.put_timeout=300ms")
    client = b.client()
    client.send("PUT t 10\nabc")
    error = client.recv_line()
    assert error.code == "truncated" and error.closes
    client.expect_eof()
    assert b.head() == 0


def test_a_trickling_body_does_not_extend_its_time(broker):
    b = broker("limits.put_timeout=300ms")
    client = b.client()
    client.send("PUT t 1000000\n")

    def trickle():
        try:
            client.send("x")
        except ConnectionError:
            pass
        return client.readable()
    wait_until(trickle, "the trickling body is given up")
    assert client.recv_line().code == "truncated"
    assert b.head() == 0


def test_a_body_that_is_dropped_has_the_same_time(broker):
    b = broker("limits.put_timeout=300ms")
    client = b.client()
    client.send("PUT a..b 10\nabc")
    answers = client.drain()
    assert answers[0].code == "bad-topic" and len(answers) <= 2


def test_put_timeout_leaves_all_others_alone(broker):
    b = broker("limits.put_timeout=300ms")
    quick, subscriber = b.client(), b.client()
    quick.publish("t", b"1")
    subscriber.ok("SUB t")
    half_line = b.client()
    half_line.send("PUB t hal")
    for _ in range(3):
        slow = b.client()
        slow.send("PUT t 10\n")
        assert slow.recv_line().code == "truncated"
    half_line.send("f\n")
    assert half_line.recv_line() == "OK 2"
    assert quick.publish("t", b"2") == 3
    assert [m.payload for m in subscriber.recv_msgs(2)] == [b"half", b"2"]


def test_an_idle_connection_is_closed_with_a_position(broker):
    b = broker("limits.idle_timeout=500ms")
    client = b.client()
    assert client.publish("t") == 1
    log = client.ask("PING").position
    assert client.recv_line() == f"BYE idle {log}"
    client.expect_eof()


def test_a_connection_that_never_says_anything_is_idle_too(broker):
    client = broker("limits.idle_timeout=300ms").client()
    assert client.recv_line().words[:2] == ["BYE", "idle"]
    client.expect_eof()


def test_a_subscriber_is_never_idle(broker):
    b = broker("limits.idle_timeout=300ms")
    subscriber, tail = b.client(), b.client()
    subscriber.ok("SUB t")
    tail.send("TAIL t AFTER 0\n")
    for _ in range(3):
        assert b.client().recv_line().words[:2] == ["BYE", "idle"]
    b.client().publish("t", b"still here")
    assert subscriber.recv_msg() == (1, "t", b"still here")
    assert tail.recv_raw_line() == b"still here"


def test_traffic_keeps_a_connection_open(broker):
    b = broker("limits.idle_timeout=2s")
    busy = b.client()
    for _ in range(2):
        idle = b.client()
        while not idle.readable(timeout=0.05):
            assert busy.ask("PING").startswith("PONG")
        assert idle.recv_line().words[:2] == ["BYE", "idle"]
    assert busy.ask("PING").startswith("PONG")


def test_a_subscriber_that_unsubscribes_becomes_idle(broker):
    b = broker("limits.idle_timeout=300ms")
    client = b.client()
    client.ok("SUB t")
    client.ok("UNSUB")
    assert client.recv_line().words[:2] == ["BYE", "idle"]


# --- answers nobody reads ------------------------------------------------------------------------------

UNREAD = {
    "PING": (b"PING\n", lambda line, n: line.startswith("PONG ")),
    "errors": (b"NOSUCH\n", lambda line, n: line.startswith("ERR unknown-command")),
    "PUB": (b"PUB t x\n", lambda line, n: line == f"OK {n}"),
    "INFO": (b"INFO\n", lambda line, n: line.startswith("INFO psad ")),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_cve_2025_21605_answers_nobody_reads_cost_no_memory_and_none_is_lost(broker, kind):
    b = broker("server.workers=1")
    command, is_right = UNREAD[kind]
    count = scaled(200000)
    client = b.client(rcvbuf=4096)
    client.ask("PING")
    b.control.ask("PING")
    before = b.rss()
    rest = client.send_until_stuck(command * count)
    for _ in range(100):
        b.control.ask("PING")
    if MEASURES_MEMORY:
        grown = b.rss() - before
        # What PUB publishes is kept in the log, of course: a segment's worth here.
        assert grown < (17 if kind == "PUB" else 1) * MIB, f"{grown // KIB} KiB for answers that nobody reads"
    answers = client.exchange(rest, count)
    wrong = [(n, line) for n, line in enumerate(answers, 1) if not is_right(line, n)]
    assert wrong == []
    assert client.ask("PING").startswith("PONG ")


def test_unread_blocks_are_complete_when_they_are_read_at_last(broker):
    b = broker("server.workers=1")
    client = b.client(rcvbuf=4096)
    count = scaled(3000)
    rest = client.send_until_stuck(b"HELP\nSTATS\n" * count)
    b.control.ask("PING")
    client.send(rest)
    for _ in range(count):
        for word in ("HELP", "STAT"):
            lines = client.recv_until(lambda line: line == "END")
            assert len(lines) > 10 and all(line.words[0] == word for line in lines[:-1])
    assert client.ask("PING").startswith("PONG ")


def test_messages_nobody_reads_do_not_stop_the_commands(broker):
    b = broker("server.workers=1")
    client = b.client(rcvbuf=4096)
    client.ok("SUB >")
    client.ok("ACKS OFF")
    count = scaled(20000)
    client.send(put("t", b"x" * 1000) * count)
    wait_until(lambda: b.head() == count, "all that the client published is there")


def test_a_client_with_unread_answers_may_go_away(broker):
    b = broker("server.workers=1")
    for _ in range(5):
        client = b.client(rcvbuf=4096)
        client.send_until_stuck(b"INFO\n" * scaled(100000))
        client.close()
    b.wait_stats(lambda s: s["connections"] == 1, "only the test's own connection is left")


def test_refused_input_is_given_back_at_once_though_its_peer_never_reads(broker):
    b = broker("limits.input_memory=2M", "limits.max_payload=1M")
    refused = []
    for _ in range(8):
        client = b.client()
        client.send(b"PUT t 1000000\nxyz")
        refused.append(client)
    b.wait_stats(lambda s: s["input_memory_bytes"] <= 2 * MIB, "no more than the limit is reserved")
    for client in refused:
        client.close()
    b.wait_stats(lambda s: s["input_memory_bytes"] == 0, "all is given back")
    client = b.client()
    client.send(b"PUT t 10000\n" + b"x" * 5000)
    b.control.ask("PING")
    client.send(b"x" * 5000 + b"\n")
    assert client.recv_line().startswith("OK ")
