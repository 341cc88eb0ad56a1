# SPDX-License-Identifier: MIT
"""The subscribers of tests/clients: six languages, each with nothing but its plain sockets, get what was published
byte for byte, through lost connections too, and understand every line that a server may send.

A language that is not installed is skipped and named; what skips is every test of that language.
"""

import contextlib
import glob
import hashlib
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from client import DEADLINE, scaled, wait_until

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
SEED = int(os.environ.get("PSAD_TEST_SEED", random.SystemRandom().randrange(1 << 32)))


class Language(NamedTuple):
    source: str
    tools: list  # one command must be there from each
    build: list  # {source}, {out}: a directory
    run: list


LANGUAGES = {
    "Python": Language("subscribe.py", ["/usr/bin/python3"], [], ["/usr/bin/python3", "{source}"]),
    "Node.js": Language("subscribe.js", ["node"], [], ["node", "{source}"]),
    "Perl": Language("subscribe.pl", ["perl"], [], ["perl", "{source}"]),
    "Go": Language("subscribe.go", ["go"], ["go", "build", "-o", "{out}/subscribe-go", "{source}"],
                   ["{out}/subscribe-go"]),
    "Java": Language("Subscribe.java", ["javac", "java"], ["javac", "-d", "{out}", "{source}"],
                     ["java", "-cp", "{out}", "Subscribe"]),
    "C": Language("subscribe.c", ["cc"], ["cc", "-O2", "-o", "{out}/subscribe-c", "{source}"], ["{out}/subscribe-c"]),
}


# --- the programs ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """language -> the command that runs it, or a text that says what is missing."""
    out = tmp_path_factory.mktemp("clients")
    environment = {**os.environ, "GOFLAGS": "", "GO111MODULE": "off", "GOTOOLCHAIN": "local"}
    if "HOME" not in environment:  # `go` refuses to build where it finds no place for its cache
        environment.setdefault("GOCACHE", str(out / "go-cache"))
    result = {}
    for name, language in LANGUAGES.items():
        missing = [tool for tool in language.tools if not shutil.which(tool)]
        if missing:
            result[name] = f"{name} is not installed ({', '.join(missing)} not found)"
            continue

        def expand(words, source=CLIENTS / language.source):
            return [word.format(source=source, out=out) for word in words]

        if language.build:
            built = subprocess.run(expand(language.build), env=environment, text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert built.returncode == 0, f"{language.source} does not build:\n{built.stdout}"
        result[name] = expand(language.run)
    return result


@pytest.fixture(params=LANGUAGES)
def program(request, programs):
    command = programs[request.param]
    if isinstance(command, str):
        pytest.skip(command)
    return command


@pytest.fixture
def subscriber(tmp_path):
    """A factory of running subscribers; what still runs at the end of the test is killed."""
    started = []

    def start(*arguments):
        started.append(Subscriber(tmp_path / f"subscriber{len(started)}", *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


class Subscriber:
    def __init__(self, path, program, *arguments):
        self.out_path, self.err_path = path.with_suffix(".out"), path.with_suffix(".err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen([*program, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=err)

    @property
    def output(self):
        return self.out_path.read_bytes()

    @property
    def errors(self):
        return self.err_path.read_text("utf-8", "replace")

    def wait_subscribed(self):
        def subscribed():
            assert self.process.poll() is None, f"the subscriber ended:\n{self.errors}"
            return "subscribed " in self.errors
        wait_until(subscribed, "the subscriber says `subscribed`")

    def wait_output(self, size):
        def is_there():
            assert self.process.poll() in (None, 0), f"the subscriber ended:\n{self.errors}"
            return self.out_path.stat().st_size >= size
        try:
            wait_until(is_there, f"the subscriber has written {size} bytes")
        except AssertionError as failure:
            raise AssertionError(f"{failure}; has {self.out_path.stat().st_size}; "
                                 f"it said:\n{self.errors[-2000:]}") from None

    def wait_exit(self, status=0):
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the subscriber does not end; {len(self.output)} bytes written; "
                                 f"it said:\n{self.errors[-2000:]}") from None
        assert self.process.returncode == status, f"exit status {self.process.returncode}:\n{self.errors[-2000:]}"


def assert_same(got, want, who):
    """Equal by SHA-256, or a failure that shows the first line that differs."""
    if hashlib.sha256(got).digest() == hashlib.sha256(want).digest():
        return
    got_lines, want_lines = got.split(b"\n"), want.split(b"\n")
    pairs = enumerate(zip(got_lines, want_lines), 1)
    number, (has, wants) = next(((n, pair) for n, pair in pairs if pair[0] != pair[1]),
                                (min(len(got_lines), len(want_lines)) + 1, (b"", b"")))
    byte = len(os.path.commonprefix([has, wants]))
    around = slice(max(0, byte - 60), byte + 60)
    pytest.fail(f"{who}: {len(got)} bytes and {len(got_lines) - 1} lines instead of {len(want)} and "
                f"{len(want_lines) - 1}; first difference in line {number} at byte {byte}:\n"
                f"  got  {has[around]!r}\n  want {wants[around]!r}")


# --- the data --------------------------------------------------------------------------------

REAL_TEXTS = ("/usr/share/common-licenses/*", "/usr/share/perl/**/*.pm", "/usr/share/perl/**/*.p[lo]*",
              "/usr/share/perl5/**/*.pm", "/usr/lib/python3*/**/*.py", "/usr/share/doc/**/copyright")
MADE_LINES = [
    b"", b"", b" ", b"\t", b"\xe4\xf6\xfc is Latin-1, \xc3\xa4\xc3\xb6\xc3\xbc is UTF-8, \xff\xfe\xc3 is neither",
    bytes(byte for byte in range(256) if byte != 0x0A), b"a CR \r in the middle", b"\r\x00", b"\x00",
    b"MSG 1 logs 5", b"GAP 1 2 lost", b"BYE quit 1@00000000", b"QUIT", b"PUT logs 10", b".", b"ERR bad-topic x",
]


def real_lines(at_least, longest):
    """More than at_least lines: files that every Debian has, and what they may not have is put in the middle.

    Files with CR LF are left out: LINES takes the CR for a part of the line's end, as it should.
    """
    paths = sorted({path for texts in REAL_TEXTS for path in glob.glob(texts, recursive=True)})
    lines = []
    while len(lines) <= at_least:  # a machine with little text publishes it more than once
        before = len(lines)
        for path in paths:
            if len(lines) > at_least or not os.path.isfile(path):
                continue
            with open(path, "rb") as text:
                data = text.read()
            if b"\r\n" not in data and not data.endswith(b"\r"):
                lines += data.removesuffix(b"\n").split(b"\n")
        assert len(lines) > before, f"no text in {REAL_TEXTS}"
    middle = len(lines) // 2
    return [*lines[:middle], *MADE_LINES, b"long " + b"x\xa0" * (longest // 2 - 5), *lines[middle:]]


def test_the_file_that_is_published_is_a_hard_one():
    lines = real_lines(100_000, 1 << 20)
    assert len(lines) > 100_000
    assert max(map(len, lines)) > 1_000_000 and max(map(len, lines)) <= 1 << 20
    assert b"" in lines and any(max(line, default=0) >= 0x80 for line in lines)
    assert not any(line.endswith(b"\r") for line in lines)


# --- the tests -------------------------------------------------------------------------------

def publish_file(address, path):
    """(echo LINES logs; cat FILE) | nc -N host port: the two lines that it prints."""
    host, port = address.rsplit(":", 1)
    netcat = shutil.which("nc.openbsd")
    if netcat:
        result = subprocess.run(["sh", "-c", '(echo LINES logs; cat "$1") | "$2" -N "$3" "$4"', "sh",
                                 path, netcat, host, port], stdout=subprocess.PIPE, timeout=DEADLINE, check=True)
        return result.stdout.decode().splitlines()
    print("OpenBSD netcat is not installed: this publishes with a socket")
    with socket.create_connection((host, int(port)), DEADLINE) as sock, open(path, "rb") as file:
        sock.sendall(b"LINES logs\n" + file.read())
        sock.shutdown(socket.SHUT_WR)
        return sock.makefile("r").read().splitlines()


def test_a_file_of_over_100000_lines_reaches_subscribers_in_every_language(broker, programs, subscriber, tmp_path):
    lines = real_lines(scaled(100_000), 1 << 20)
    file = tmp_path / "file"
    file.write_bytes(b"\n".join(lines) + b"\n")
    b = broker()
    host, port = b.address.rsplit(":", 1)
    running = {}
    for name, program in programs.items():
        if isinstance(program, str):
            print(f"left out: {program}")
        else:
            running[name] = subscriber(program, "--count", len(lines), host, port, "logs")
    for one in running.values():
        one.wait_subscribed()
    assert publish_file(b.address, file) == ["OK", f"OK {len(lines)} {len(lines)}"]
    for name, one in running.items():
        one.wait_output(file.stat().st_size)
        one.wait_exit()
        assert_same(one.output, file.read_bytes(), name)
        assert one.errors.splitlines() == [f"subscribed 0@{b.log}"], name


def test_a_client_survives_lost_connections_without_losing_or_repeating_a_byte(broker, program, subscriber):
    """Its connection is cut at random bytes, again and again, while messages are published."""
    lines = real_lines(10_000, 100_000)
    size = sum(map(len, lines)) + len(lines)
    b = broker()
    proxy = CuttingProxy(b.address, random.Random(SEED), size)
    print(f"PSAD_TEST_SEED={SEED}")
    try:
        one = subscriber(program, "--count", len(lines), *proxy.address, "logs")
        one.wait_subscribed()
        published = 0
        for first in range(0, len(lines), len(lines) // 20):
            piece = lines[first:first + len(lines) // 20]
            already = published
            published += len(b.client().publish_all(("logs", line) for line in piece))
            # At most two pieces ahead of what has been written: so there is always something to be cut.
            one.wait_output(sum(len(line) + 1 for line in lines[:already]))
        one.wait_output(size)
        one.wait_exit()
    finally:
        proxy.close()
        print(b.stderr)
    assert_same(one.output, b"\n".join(lines) + b"\n", program[0])
    assert "GAP" not in one.errors
    assert proxy.cuts >= proxy.SHORT, f"only {proxy.cuts} cuts"


def test_a_client_goes_over_to_the_new_log_of_a_restarted_broker(broker, program, subscriber):
    first = broker()
    one = subscriber(program, "--count", 5, *first.address.rsplit(":", 1), "logs")
    one.wait_subscribed()
    old_log = first.log
    for payload in [b"one", b"two"]:
        first.publish("logs", payload)
    one.wait_output(len(b"one\ntwo\n"))
    first.stop()
    second = broker(tcp=first.address)
    assert second.log != old_log
    for payload in [b"three", b"four", b"five"]:  # whether it is there already or not
        second.publish("logs", payload)
    one.wait_exit()
    assert one.output == b"one\ntwo\nthree\nfour\nfive\n"
    said = one.errors.splitlines()
    assert [line for line in said if line.startswith(("subscribed", "GAP", "BYE"))] == [
        f"subscribed 0@{old_log}", f"BYE shutting-down 2@{old_log}", f"subscribed 0@{second.log}", "GAP 1 0 other-log"]


class CuttingProxy:
    """A TCP proxy for one client at a time. It cuts each connection after a random number of bytes."""

    SHORT = 12  # so many connections are short for certain

    def __init__(self, target, rng, size):
        self.target, self.rng, self.size = target.rsplit(":", 1), rng, size
        self.cuts = 0
        self.is_closed = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self):
        self.is_closed = True
        self.listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self.thread.join(DEADLINE)
        self.listener.close()

    def _serve(self):
        while not self.is_closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.settimeout(DEADLINE)
            with client, contextlib.suppress(OSError), socket.create_connection(self.target, DEADLINE) as server:
                self._pump(client, server)

    def _pump(self, client, server):
        """One connection: the client sends one line, and then only the server speaks."""
        budget = self._budget()
        command = b""
        while not command.endswith(b"\n"):
            received = client.recv(4096)
            if not received:
                return
            command += received
        if budget < 0:  # cut inside the command: it must not be executed, as AFTER 12 for AFTER 123
            server.sendall(command[:self.rng.randrange(len(command))])
            budget = 0
        else:
            server.sendall(command)
        while budget > 0:
            # The client may be gone with all that it wanted: then nothing comes from either side.
            data = self._recv_any(server, client, min(budget, 1 << 16))
            if not data:
                return
            client.sendall(data)
            budget -= len(data)
        self.cuts += 1
        if self.rng.random() < 0.5:  # a reset instead of an end; it may overtake what was sent
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _recv_any(self, server, client, size):
        """Bytes from the server; b"" when either side has closed."""
        def ready():
            if self.is_closed:
                return [client]
            return select.select([server, client], [], [], 0.1)[0]
        sides = ready()
        while not sides:
            sides = ready()
        return b"" if client in sides else server.recv(size)

    def _budget(self):
        """Bytes from the server until the cut; -1: cut the client's command instead."""
        kind = self.rng.random()
        if kind < 0.1:
            return -1
        if kind < 0.3:
            return self.rng.randrange(1, 60)  # inside the OK or the head of the first message
        if self.cuts < self.SHORT:
            return self.rng.randrange(1, self.size // (2 * self.SHORT))
        return int(self.size * self.rng.random() ** 6) + 1


class ScriptedServer:
    """Plays the server's part: each connection must bring this command, and gets these bytes in small pieces."""

    def __init__(self, rng):
        self.rng = rng
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE)
        self.address = self.listener.getsockname()

    def close(self):
        self.listener.close()

    def play(self, command, answer):
        """One connection, closed at the end."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(DEADLINE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert connection.makefile("rb").readline() == command
            with contextlib.suppress(ConnectionError):  # a client that has its count may go at any time
                while answer:
                    size = self.rng.randrange(1, 8)
                    connection.sendall(answer[:size])
                    answer = answer[size:]


@pytest.fixture
def server():
    print(f"PSAD_TEST_SEED={SEED}")
    one = ScriptedServer(random.Random(SEED))
    yield one
    one.close()


def message(number, topic, payload, more=b""):
    return b"MSG %d %s %d%s\n%s\n" % (number, topic, len(payload), more, payload)


def test_a_client_understands_every_line_and_resumes_from_the_right_position(program, subscriber, server):
    host, port = server.address
    one = subscriber(program, host, port, "news.>", "*.b")
    payloads = [b"hello", b"", b"MSG 1 x 3\nabc\n\x00\xff\r\n", bytes(range(256)), b"after the gap", b"resumed",
                b"2^63-1"]
    server.play(
        b"SUB news.> *.b\n",
        b"OK 7@0123abcd and=more words\n"
        + b"A kind of line from the future\nFUTURE\nSTAT log_head 1\n"
        + message(8, b"news.x", payloads[0])
        # These bytes are white space to some libraries, to the protocol they are not.
        + message(9, b"news.\xc2\xa0.\x85\xa0.\xe2\x80\x83", payloads[1])
        + message(10, b"news." + b"x" * 250, payloads[2], b" more words=2")
        + message(11, b"a.b", payloads[3])
        + b"GAP 12 19 a-new-reason and=more words\n"
        + message(20, b"news.x", payloads[4])
        + b"PONG 30@0123abcd more\n"
        + message(31, b"news.x", b"this one is cut off")[:-1])
    server.play(b"SUB news.> *.b AFTER 30@0123abcd\n",
                b"OK 30@0123abcd\n" + message(31, b"news.x", payloads[5]) + b"GAP 32 33 retention\nGAP 40 4")
    server.play(b"SUB news.> *.b AFTER 33@0123abcd\n",
                b"OK 33@0123abcd\nBYE shutting-down 35@0123abcd more\n")
    # Refused before the OK: a position here would be the server's, what we have not seen may lie before it.
    server.play(b"SUB news.> *.b AFTER 35@0123abcd\n", b"BYE shutting-down 50@0123abcd\n")
    server.play(b"SUB news.> *.b AFTER 35@0123abcd\n", b"ERR too-many limits.max_connections\n")
    server.play(b"SUB news.> *.b AFTER 35@0123abcd\n", b"ERR shutting-down bye\n")
    server.play(b"SUB news.> *.b AFTER 35@0123abcd\n", b"OK 35@01")
    server.play(b"SUB news.> *.b AFTER 35@0123abcd\n", b"OK 0@ffff0000\nGAP 1 0 other-log\n")
    server.play(b"SUB news.> *.b AFTER 0@ffff0000\n",
                b"OK 0@ffff0000\n" + message(9223372036854775807, b"news.x", payloads[6]) + b"MSG 1")
    server.play(b"SUB news.> *.b AFTER 9223372036854775807@ffff0000\n", b"ERR ahead-of-log the head is 5\n")
    one.wait_exit(status=1)
    assert_same(one.output, b"".join(payload + b"\n" for payload in payloads), program[0])
    said = one.errors.splitlines()
    for line in ["subscribed 7@0123abcd", "GAP 12 19 a-new-reason and=more words", "GAP 32 33 retention",
                 "BYE shutting-down 35@0123abcd more", "ERR too-many limits.max_connections", "subscribed 0@ffff0000",
                 "GAP 1 0 other-log", "ERR ahead-of-log the head is 5"]:
        assert line in said


def test_a_client_begins_after_the_position_it_is_given_and_ends_after_the_count(program, subscriber, server):
    one = subscriber(program, "--after", "41@0123abcd", "--count", 2, *server.address, "news")
    server.play(b"SUB news AFTER 41@0123abcd\n",
                b"OK 41@0123abcd\n" + b"".join(message(42 + n, b"news", b"message %d" % n) for n in range(5)))
    one.wait_exit()
    assert one.output == b"message 0\nmessage 1\n"


def test_a_client_waits_for_a_server_that_is_not_there_yet(program, subscriber):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and no listen(): connections are refused
        one = subscriber(program, "--count", 1, *reserved.getsockname(), "news")
        wait_until(lambda: one.errors.count("connecting again in") >= 2, "the client tries again")
        reserved.listen()
        reserved.settimeout(DEADLINE)
        connection, _ = reserved.accept()
        with connection:
            assert connection.makefile("rb").readline() == b"SUB news\n"
            connection.sendall(b"OK 0@0123abcd\n" + message(1, b"news", b"at last"))
            one.wait_exit()
    assert one.output == b"at last\n"


def test_a_client_that_is_called_wrongly_says_how_to_call_it(program):
    result = subprocess.run([*program, "localhost", "9853"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=DEADLINE, text=True)
    assert result.returncode != 0
    assert result.stderr.startswith("usage:") and "HOST PORT PATTERN" in " ".join(result.stderr.split())
