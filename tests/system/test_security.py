# SPDX-License-Identifier: MIT
"""The security of a listening program: strangers cost bounded memory and harm nobody else.

What bystanders are owed is shown by exact receipt: a publisher's messages, each of them, in order,
at subscribers that were there before, and answers to everybody who asks. test_security_lessons.py
has the mistakes of others, by the number of their CVE."""

import collections
import contextlib
import itertools
import os
import random
import resource
import socket
import struct
import subprocess
import threading
import time

import pytest

from broker import MEASURES_MEMORY, PSAD, environment
from client import DEADLINE, FLAVOUR, Client, Line, scaled, wait_until
from strangers import ask_each_worker, close_all, connect_many, push, said
from traffic import Job

KIB, MIB = 1 << 10, 1 << 20
CONN = 3 * KIB  # "a fixed amount per connection", without input and answers
INPUT = 8 * KIB  # 4 KiB of unfinished input, in a buffer that has grown by doubling
ANSWERS = (64 + 64 + 64) * KIB  # held answers, the last block of them, and what was read with them


# --- tools ----------------------------------------------------------------------------------------

class Bystanders:
    """A publisher, two subscribers and a passer-by who have nothing to do with what goes on."""

    def __init__(self, broker):
        self.broker = broker
        self.publisher = broker.client(source="127.0.3.1")
        self.all, self.one = broker.client(source="127.0.3.2"), broker.client(source="127.0.3.3")
        self.all.ok("SUB side.>")
        self.one.ok("SUB side.b")
        self.count = 0

    def check(self, messages=60):
        """Publishes, and requires that everything is acknowledged and received in order."""
        sent = []
        for _ in range(messages):
            self.count += 1
            topic = "side.b" if self.count % 3 == 0 else "side.a"
            payload = b"%d " % self.count + b"x" * (10000 if self.count % 10 == 0 else 10)
            sent.append((self.publisher.publish(topic, payload), topic, payload))
        assert sent == sorted(sent)
        assert self.all.recv_msgs(messages) == sent
        of_b = [message for message in sent if message[1] == "side.b"]
        assert self.one.recv_msgs(len(of_b)) == of_b
        # It never waits for the head (promise 5), so only what was received is behind it for sure.
        for client, received in ((self.all, sent), (self.one, of_b)):
            assert client.ask("PING").id >= max((message[0] for message in received), default=0)

    def check_passer_by(self):
        client = self.broker.client(source="127.0.3.4")
        assert client.ask("PING").startswith("PONG ")
        client.close()


@contextlib.contextmanager
def unharmed(broker):
    """Bystanders are served all through the block, and at its end, with everything in place."""
    bystanders = Bystanders(broker)
    bystanders.check()
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            bystanders.check(10)

    job = Job(go_on)
    try:
        yield bystanders
    finally:
        stop.set()
    job.finish()
    bystanders.check()


def resident(broker):
    """Bytes, without the log, to a segment: bystanders publish as long as a test takes."""
    return broker.rss() - broker.stats()["log_bytes"]


def check_growth(broker, before, bound, what):
    if MEASURES_MEMORY:
        grown = resident(broker) - before
        assert grown < bound, f"{grown // KIB} KiB for {what}, {bound // KIB} are allowed"


# --- how it is started ----------------------------------------------------------------------------

@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_descriptors_closed_at_the_start_never_become_a_socket_or_a_file(tmp_path, closed):
    """Else what psad says to its operator is written into whatever has become descriptor 2."""
    def close():
        for fd in closed:
            os.close(int(fd))

    path = tmp_path / "socket"
    options = ("listen.tcp=", f"listen.unix={path}", f"log.dir={tmp_path}/log")
    child = subprocess.Popen(
        [PSAD, *(word for option in options for word in ("-o", option))], env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=close)
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
        assert child.wait(DEADLINE) == 0


def test_an_operator_who_cannot_be_told_anything_stops_nothing(tmp_path):
    """Standard error on a full disk: every diagnostic fails, and psad serves and reloads."""
    path = tmp_path / "socket"
    (tmp_path / "conf").write_text("[listen]\ntcp =\n" f"unix = {path}\n")
    with open("/dev/full", "wb") as full:
        child = subprocess.Popen([PSAD, "-c", str(tmp_path / "conf")], env=environment(),
                                 stdin=subprocess.DEVNULL, stderr=full)
    try:
        wait_until(path.exists, "psad listens")
        client = wait_until(lambda: connected_to(path), "psad accepts")
        for n in range(20):
            child.send_signal(1)
            assert client.publish("t", b"x") == n + 1
        client.close()
    finally:
        child.terminate()
        assert child.wait(DEADLINE) == 0


def connected_to(path):
    try:
        return Client(f"unix:{path}")
    except OSError:
        return None


# --- memory by announcement -----------------------------------------------------------------------

ANNOUNCED = {"nothing": (0, CONN), "one byte": (1, CONN), "4 KiB": (4 * KIB - 20, CONN + INPUT)}


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_cve_2021_32675_ten_thousand_announcements_cost_no_memory_and_harm_nobody(broker, kind):
    """CVE-2021-32675, CVE-2017-7651, CVE-2023-0809: allocate what has come, not what will."""
    sent, fixed = ANNOUNCED[kind]
    b = broker("server.workers=2", "log.retain_bytes=64M", "limits.put_timeout=10m")
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000
    count = min(scaled(10000), room)
    with unharmed(b):
        before = resident(b)
        socks = connect_many(b, count)
        for sock in socks:
            sock.send(b"PUT t 1048576\n" + b"x" * sent)
        b.wait_stats(lambda s: s["connections"] >= count, "all are connected")
        ask_each_worker(b)
        assert b.stats()["input_memory_bytes"] <= MIB  # the bystanders' own
    check_growth(b, before, count * fixed + 4 * MIB, f"{count} connections that sent {kind}")
    assert all(said(sock) is None for sock in socks), "an announcement was answered already"
    close_all(socks)
    b.wait_stats(lambda s: s["connections"] <= 10, "all have left")


@pytest.mark.parametrize("sent", [0, 1, 4 * KIB - 20], ids=["nothing", "one byte", "4 KiB"])
def test_cve_2021_32675_what_is_announced_denies_nothing_to_others(broker, sent):
    """A few bytes from each of some hundred connections must not use up limits.input_memory."""
    b = broker("limits.input_memory=8M", "server.workers=2")
    announcers = [b.client() for _ in range(scaled(500))]
    for client in announcers:
        client.send(b"PUT t 1048576\n" + b"x" * sent)
    ask_each_worker(b)
    assert b.stats()["input_memory_bytes"] == 0
    publisher = b.client()
    publisher.send(b"PUT t 1048576\n")
    b.control.ask("PING")
    publisher.send(b"y" * MIB + b"\n")
    assert publisher.recv_line() == "OK 1"
    assert not any(client.readable() for client in announcers), "an announcement was answered"


def test_bodies_just_short_of_their_end_stay_within_input_memory(broker):
    """Real bytes, not announced ones: what fits is held, all others are told and closed."""
    limit = 16 * MIB
    b = broker("server.workers=2", "log.retain_bytes=64M", f"limits.input_memory={limit}",
               "limits.put_timeout=10m")
    body = b"PUT t 1048576\n" + b"x" * (MIB - 1)
    bystanders = Bystanders(b)
    bystanders.check()
    before = resident(b)
    socks = connect_many(b, scaled(200))
    push(b, socks, body, len(body))
    answers = [said(sock) for sock in socks]
    held = answers.count(None)
    assert 8 <= held <= 17, f"{held} bodies are held in {limit // MIB} MiB"
    assert all(a is None or a.startswith(b"ERR too-many limits.input_memory") or a == b""
               for a in answers), set(answers)
    assert b.stats()["input_memory_bytes"] <= limit
    # A large publish is refused now, by the contract; small ones and all readers are not concerned.
    subscriber = b.client()
    subscriber.ok("SUB small")
    for n in range(200):
        assert b.control.publish("small", b"%d" % n) > 0
    assert [m.payload for m in subscriber.recv_msgs(200)] == [b"%d" % n for n in range(200)]
    # What the allocator keeps beside the bodies differs with the pieces in which they came.
    check_growth(b, before, limit * 3 // 2 + len(socks) * CONN, "bodies just short of their end")
    close_all(socks)
    b.wait_stats(lambda s: s["input_memory_bytes"] == 0, "the input memory is given back")
    bystanders.check()


# --- answers that nobody reads --------------------------------------------------------------------

UNREAD = {
    "PING": b"PING\n",
    "INFO": b"INFO\n",
    "STATS": b"STATS\n",
    "HELP": b"HELP\n",
    "an unknown command": b"NOSUCH\n",
    "a bad topic": b"PUB a..b x\n",
    "a bad body": b"PUT a..b 3\nabc\n",
    "a bad pattern": b"SUB a..b\n",
    "READ": b"READ >\n",
    "READ of one": b"READ > LAST 1\n",
    "SUB and UNSUB": b"SUB > AFTER 0\nUNSUB\n",
    "ACKS": b"ACKS ON\n",
}


@pytest.mark.parametrize("kind", UNREAD)
def test_cve_2025_21605_many_who_never_read_cost_bounded_memory_and_harm_nobody(broker, kind):
    """CVE-2025-21605: also answers to errors are held up to a bound, and then nothing is read."""
    b = broker("server.workers=2", "log.retain_bytes=16M")
    for n in range(20):
        b.publish("kept", b"x" * 1000)
    command = UNREAD[kind]
    count = scaled(24)
    with unharmed(b):
        b.control.ask("PING")
        before = resident(b)
        socks = connect_many(b, count)
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.send(b"PING\n")
        data = command * (64 * KIB // len(command))
        taken = push(b, socks, data, 16 * MIB if FLAVOUR == "" else 2 * MIB)
    check_growth(b, before, count * (CONN + ANSWERS) + 4 * MIB, f"{count} unread streams of {kind}")
    if FLAVOUR == "" and kind != "ACKS":
        assert max(taken) < 16 * MIB, "it was read on though nobody took the answers"
    # One of them begins to read: nothing that was answered is lost.
    socks[0].setblocking(True)
    socks[0].settimeout(DEADLINE)
    assert socks[0].recv(5) == b"PONG "
    close_all(socks)
    b.wait_stats(lambda s: s["connections"] <= 10, "all have left")


def test_a_million_commands_without_reading_are_answered_to_the_last_one(broker):
    """Nothing is lost where a client reads late: all answers are there, in order."""
    b = broker("server.workers=2")
    count = scaled(1000000)
    with unharmed(b):
        client = b.client()
        rest = client.send_until_stuck(b"PUB a..b\n" * (count // 2) + b"PING\n" * (count // 2))
        answers = client.exchange(rest, count // 2 * 2)
    codes = [answer.code for answer in answers]
    assert codes == ["bad-topic"] * (count // 2) + ["PONG"] * (count // 2)


# --- slow senders ---------------------------------------------------------------------------------

def trickle(socks, data, done):
    """One byte on each socket in turn while there are any, until done(); returns what was said."""
    words = [b""] * len(socks)
    end = time.monotonic() + DEADLINE
    for at in itertools.count():
        for n, sock in enumerate(socks):
            if at < len(data):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    sock.send(data[at:at + 1])
            words[n] += said(sock) or b""
        if done(words):
            return words
        if at >= len(data):
            time.sleep(0.005)
        assert time.monotonic() < end, f"they were told {set(words)}"


def test_many_bodies_that_come_byte_by_byte_are_given_up_and_harm_nobody(broker):
    b = broker("server.workers=2", "limits.put_timeout=2s")
    with unharmed(b):
        socks = connect_many(b, scaled(200))
        for sock in socks:
            sock.send(b"PUT t 1000000\n")
        words = trickle(socks, b"x" * 100000, lambda words: all(b"\n" in word for word in words))
        assert {word.split(b" ")[1] for word in words} == {b"truncated"}
        close_all(socks)
    b.wait_stats(lambda s: s["connections"] <= 10 and s["input_memory_bytes"] == 0,
                 "all that they held is given back")


def test_many_lines_that_come_byte_by_byte_harm_nobody_and_are_executed_once(broker):
    """The loris: as slow as can be. Each costs a connection and 4 KiB, and a limit bounds these."""
    b = broker("server.workers=2", "log.retain_bytes=16M")
    count = scaled(500)
    line = b"PUB slow " + b"y" * 100 + b"\n"
    subscriber = b.client()
    subscriber.ok("SUB slow")
    with unharmed(b):
        before = resident(b)
        socks = connect_many(b, count)
        words = trickle(socks, line, lambda words: all(word.endswith(b"\n") for word in words))
        assert all(word.startswith(b"OK ") for word in words)
    assert len(set(words)) == count
    assert {m.payload for m in subscriber.recv_msgs(count)} == {b"y" * 100}
    check_growth(b, before, count * (CONN + INPUT) + 4 * MIB, f"{count} slow lines")
    close_all(socks)


# --- floods ---------------------------------------------------------------------------------------

def flood(broker, stop, source, hold):
    """Connects again and again from one address, and leaves open what was refused."""
    held = collections.deque()
    host, port = broker.address.rsplit(":", 1)
    while not stop.is_set():
        sock = socket.socket()
        sock.settimeout(1)
        sock.bind((source, 0))
        with contextlib.suppress(TimeoutError):
            sock.connect((host, int(port)))
        held.append(sock)
        if len(held) > hold:
            held.popleft().close()
    close_all(held)


def test_a_flood_from_an_address_over_its_limit_keeps_no_other_address_out(broker):
    """Refused connections that are waited for must not use up what those need who may come in."""
    b = broker("server.workers=1", "limits.max_connections_per_ip=5", nofile=200)
    b.control.ask("PING")
    stop = threading.Event()
    attackers = [Job(lambda n=n: flood(b, stop, f"127.0.9.{n}", 2000)) for n in range(1, 3)]
    try:
        b.wait_stats(lambda s: s["rejected_total"] > 300, "the flood is under way")
        subscriber = b.client(source="127.0.1.1")
        subscriber.ok("SUB t")
        for n in range(40):
            client = b.try_client(source=f"127.0.2.{n + 1}")
            assert isinstance(client, Client), f"the {n + 1}th address was refused: {client}"
            assert client.publish("t", b"%d" % n) == n + 1
        assert [m.payload for m in subscriber.recv_msgs(40)] == [b"%d" % n for n in range(40)]
    finally:
        stop.set()
    for job in attackers:
        job.finish()
    assert "oo many open files" not in b.stderr


def test_a_flood_over_max_connections_harms_nobody_who_is_in(broker):
    b = broker("server.workers=2", "limits.max_connections=50", nofile=200)
    bystanders = Bystanders(b)
    b.control.ask("PING")
    others = [b.try_client() for _ in range(46)]
    assert all(isinstance(client, Client) for client in others)
    stop = threading.Event()
    attackers = [Job(lambda n=n: flood(b, stop, f"127.0.9.{n}", 2000)) for n in range(1, 3)]
    try:
        b.wait_stats(lambda s: s["rejected_total"] > 300, "the flood is under way")
        bystanders.check()
        answers = [client.ask("PING") for client in others]
        assert all(answer.startswith("PONG") for answer in answers)
    finally:
        stop.set()
    for job in attackers:
        job.finish()
    assert "oo many open files" not in b.stderr
    bystanders.check()
    others[0].close()
    b.wait_admitted()


def test_everybody_who_is_refused_is_told_why_also_in_a_burst(broker):
    """The last of them as the first: in a burst they are not all waited for, but told."""
    b = broker("server.workers=1", "limits.max_connections_per_ip=3")
    allowed = [b.try_client(source="127.0.9.1") for _ in range(3)]
    assert all(isinstance(client, Client) for client in allowed)
    clients = [b.client(source="127.0.9.1") for _ in range(300)]
    for client in clients:
        line = client.recv_line()
        assert line.words[:2] == ["ERR", "too-many"] and "max_connections_per_ip" in line
        client.expect_eof()
    assert b.stats()["rejected_total"] == 300
    assert all(client.ask("PING").startswith("PONG") for client in allowed)


STAGES = {
    "before anything": b"",
    "in a line": b"PUB t x",
    "in a body": b"PUT t 100000\nabc",
    "with answers unread": b"PING\nINFO\nSTATS\n" * 20,
    "as a subscriber": b"SUB >\nPING\n",
    "in a replay": b"READ >\n",
    "in LINES": b"LINES gone\nabc",
    "in TAIL": b"TAIL >\n",
}


def abort(sock):
    """Closes with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("ending", ["reset", "half-closed", "closed"])
@pytest.mark.parametrize("stage", STAGES)
def test_floods_that_end_in_any_stage_leave_nothing_behind_and_harm_nobody(broker, stage, ending):
    """Counts of connections, of addresses and of memory return to what they were."""
    b = broker("server.workers=2", "limits.max_connections_per_ip=20", "log.retain_bytes=16M")
    for _ in range(50):
        b.publish("kept", b"x" * 5000)
    kept = []
    with unharmed(b) as bystanders:
        before = resident(b)
        for n in range(scaled(1500)):
            sock = connect_many(b, 1, f"127.1.{n % 250}.1")[0]
            sock.setblocking(True)
            sock.settimeout(DEADLINE)
            sock.sendall(STAGES[stage])
            if ending == "reset":
                abort(sock)
            elif ending == "closed":
                sock.close()
            else:
                sock.shutdown(socket.SHUT_WR)
                kept.append(sock)
                if len(kept) > 200:
                    kept.pop(0).close()
        bystanders.check_passer_by()
    close_all(kept)
    # A message for whoever is half-closed and listens, so that psad finds out who has gone.
    def all_have_left():
        b.publish("kept", b"is anybody there?")
        return b.stats()["connections"] <= 4
    wait_until(all_have_left, "all have left")
    assert b.stats()["input_memory_bytes"] == 0
    assert b.stats()["subscribers"] == 2
    full = [b.try_client(source="127.1.7.1") for _ in range(21)]
    assert all(isinstance(client, Client) for client in full[:20]), "an address is still counted"
    assert isinstance(full[20], Line), "an address may have one more than its limit"
    check_growth(b, before, 20 * MIB, "connections that have gone")


# --- oversized everything, and rubbish ------------------------------------------------------------

OVERSIZED = {
    "line": (b"PUB t " + b"x" * 20 * MIB + b"\n", {"line-too-long"}),
    "line that is no command": (b"x" * 20 * MIB + b"\n", {"line-too-long", "unknown-command"}),
    "line of spaces": (b" " * 20 * MIB + b"PING\n", {"line-too-long", "unknown-command"}),
    "topic": (b"PUB " + b"t" * MIB + b" x\n", {"bad-topic"}),
    "topic of a body": (b"PUT " + b"t" * 500 * KIB + b" 5\nhello\n", {"bad-topic"}),
    "pattern": (b"SUB " + b"t" * MIB + b"\n", {"bad-pattern"}),
    "pattern of tokens": (b"SUB " + b"a." * (MIB // 2 - 10) + b"a\n", {"bad-pattern"}),
    "number of patterns": (b"SUB" + b" a" * (MIB // 2 - 10) + b"\n", {"too-many"}),
    "number of patterns to read": (b"READ" + b" a" * (MIB // 2 - 10) + b"\n", {"too-many"}),
    "number of patterns to drop": (b"UNSUB" + b" a" * (MIB // 2 - 10) + b"\n", {"OK"}),
    "number of words": (b"PING" + b" a" * (MIB // 2 - 10) + b"\n", {"bad-argument"}),
    "payload": (b"PUT t %d\n" % (16 * MIB) + b"x" * 16 * MIB + b"\n", {"payload-too-large"}),
    "digits of a start": (b"SUB a AFTER " + b"9" * MIB + b"\n", {"bad-argument"}),
    "digits of a fraction": (b"SUB a SINCE 1600000000." + b"9" * MIB + b"\n", {"bad-argument"}),
    "digits of a limit": (b"READ a LIMIT " + b"9" * MIB + b"\n", {"bad-argument"}),
    "digits of a length": (b"PUT t " + b"1" * 500 * KIB + b"\n", {"bad-framing"}),
    "zeros of a length": (b"PUT t " + b"0" * 500 * KIB + b"3\nabc\n", {"bad-framing"}),
    "identity of a log": (b"SUB a AFTER 0@" + b"0" * MIB + b"\n", {"bad-argument"}),
}


@pytest.mark.parametrize("kind", OVERSIZED)
def test_whatever_is_oversized_is_refused_within_bounded_memory(broker, kind):
    data, codes = OVERSIZED[kind]
    b = broker("server.workers=1")
    client = b.client()
    client.ask("PING")
    b.control.ask("PING")
    bystanders = Bystanders(b)
    bystanders.check()
    before = resident(b)
    try:
        client.send(data)
    except ConnectionError:
        pass  # it has been answered, and closed
    answer = client.recv_line()
    assert answer.code in codes, answer
    if not answer.closes:
        assert client.ask("PING").startswith("PONG")
    check_growth(b, before, 6 * MIB, f"an oversized {kind}")
    bystanders.check()
    assert b.control.read("t")[0] == [], "something of it was published"


@pytest.mark.parametrize("seed", range(4))
def test_rubbish_of_64_kib_harms_nobody(broker, seed):
    """Random bytes, alone and behind a command, after which a connection has more rights."""
    randomly = random.Random(seed)
    b = broker("server.workers=2", "log.retain_bytes=16M")
    head = b.head()
    with unharmed(b) as bystanders:
        for _ in range(scaled(60)):
            rubbish = randomly.randbytes(64 * KIB)
            if randomly.random() < .3:  # so that there are many short lines
                rubbish = rubbish.replace(b"e", b"\n").replace(b"\x00", b"\n")
            sock = connect_many(b, 1)[0]
            sock.setblocking(True)
            sock.settimeout(DEADLINE)
            with contextlib.suppress(ConnectionError):
                sock.sendall(randomly.choice([b"", b"PING\n", b"SUB >\n", b"TAIL >\n"]) + rubbish)
                sock.shutdown(socket.SHUT_WR)
            sock.close()
    assert b.stats()["published_total"] == b.head() - head == bystanders.count
    b.wait_stats(lambda s: s["connections"] <= 4, "all have left")


# --- what the operator is told --------------------------------------------------------------------

def test_no_client_writes_into_the_diagnostics_or_floods_them(broker):
    """No byte of a client appears, and of one kind of trouble ten lines and then one a second."""
    b = broker("server.workers=2", "limits.max_connections=150", "limits.put_timeout=300ms")
    b.control.ask("PING")
    evil = b"evil\x1b[2J\x9b31m\xc2\x9b\xc0\x8a\r\x00psad: forged"
    kinds = 2  # a connection that is closed, one that is refused
    seen, begin = b.stderr_lines, time.monotonic()
    for command in (b"PUB " + evil, b"PUT " + evil + b" 1", b"SUB " + evil, b"LINES " + evil,
                    b"READ " + evil, b"TAIL " + evil, b"ACKS " + evil, evil, b"GET " + evil,
                    b"PUT t " + evil, b"SUB a AFTER " + evil, b"SUB a SINCE " + evil) * 4:
        for spoken in (b"", b"PING\n"):
            client = b.client()
            client.send(spoken + command + b"\npsad: forged\n")
            client.half_close()
            client.drain()
            client.close()
    for _ in range(5):
        for sock in connect_many(b, 20):
            abort(sock)
        b.wait_stats(lambda s: s["connections"] == 1, "all have left")
    held = connect_many(b, 400)  # 251 of them too many
    b.wait_stats(lambda s: s["rejected_total"] >= 200, "many are refused")
    lines = b.stderr_lines - seen
    assert lines <= kinds * (11 + 2 * (time.monotonic() - begin)), \
        f"{lines} lines for 96 bad and 251 refused connections:\n{b.stderr}"
    assert "evil" not in b.stderr and "forged" not in b.stderr
    close_all(held)


def test_what_the_operator_wrote_himself_is_escaped_too(broker, tmp_path):
    """A path is shown in one line and without what a terminal obeys."""
    path = tmp_path / "so\ncket\x1b[31m\u202e\x9b"
    b = broker(f"listen.unix={path}")
    line = b.wait_stderr("listening on unix:")
    assert "so\\ncket\\x1b[31m" in line and "\x1b" not in b.stderr and "\x9b" not in b.stderr
    assert b.client(f"unix:{path}").publish("t") == 1


# --- what it costs --------------------------------------------------------------------------------

def test_clients_that_wait_cost_nothing_while_nothing_happens(broker):
    """Half-closed, stuck and silent ones must not make a worker spin."""
    b = broker("server.workers=1", "limits.put_timeout=10m")
    b.publish("t", b"x")
    socks = connect_many(b, 40)
    for n, sock in enumerate(socks):
        sock.send(list(STAGES.values())[n % len(STAGES)])
        if n % 2:
            sock.shutdown(socket.SHUT_WR)
    ask_each_worker(b)
    cpu, start = b.cpu_seconds(), time.monotonic()
    silent = b.client()
    assert not silent.readable(timeout=2)
    used, elapsed = b.cpu_seconds() - cpu, time.monotonic() - start
    assert used < elapsed / 4, f"{used:.2f} s of CPU time within {elapsed:.2f} s"
    close_all(socks)
