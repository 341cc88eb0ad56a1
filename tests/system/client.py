# SPDX-License-Identifier: MIT
"""A psad client on one plain socket. Everything waits for a condition, with a deadline."""

import os
import re
import select
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

SMALL = os.environ.get("PSAD_TEST_SCALE") == "small"
FLAVOUR = os.environ.get("PSAD_FLAVOUR", "")
DEADLINE = int(os.environ.get("PSAD_TEST_DEADLINE", 90 if SMALL or FLAVOUR in ("asan", "tsan") else 30))


def scaled(count):
    """The full size of a test, or a tenth of it where the daemon is slowed by a sanitizer."""
    return max(1, count // 10) if SMALL else count


def wait_until(condition, what):
    """Polls until condition() is true and returns what it returned."""
    end = time.monotonic() + DEADLINE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"waited {DEADLINE} s in vain until {what}"
        time.sleep(0.005)


def matches(pattern, topic):
    """SPEC §1, as a regular expression: the oracle for what a subscriber must get."""
    if pattern[0] in "*>" and topic[0] == "$":
        return False
    tokens = [{"*": r"[^.]+", ">": r".+"}.get(t) or re.escape(t) for t in pattern.split(".")]
    return re.fullmatch(r"\.".join(tokens), topic, re.DOTALL) is not None


def matches_any(patterns, topic):
    return any(matches(pattern, topic) for pattern in patterns)


class Msg(NamedTuple):
    id: int
    topic: str
    payload: bytes


class Gap(NamedTuple):
    first: int
    last: int
    reason: str


class Line(str):
    """One line that is neither MSG nor GAP."""

    @property
    def words(self):
        return self.split(" ")

    @property
    def code(self):
        """The code of an ERR, the reason of a BYE; else the first word."""
        return self.words[1] if self.words[0] in ("ERR", "BYE") else self.words[0]

    @property
    def closes(self):
        """True when the text of an ERR says that the connection closes."""
        return bool(re.search(r"\bclos(es|ed|ing)\b", self))

    @property
    def position(self):
        """The whole `<id>@<log>` that the line carries."""
        found = re.search(r"(?<= )\d+@[0-9a-f]{8}(?= |$)", self)
        assert found, f"no position in {self!r}"
        return found[0]

    @property
    def id(self):
        """The id of `OK <id>`, or of the position that the line carries."""
        found = re.search(r"(?<= )\d+(?=@| |$)", self)
        assert found, f"no id in {self!r}"
        return int(found[0])


def to_bytes(data):
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def put(topic, payload):
    """The bytes of a PUT."""
    topic, payload = to_bytes(topic), to_bytes(payload)
    return b"PUT %s %d\n%s\n" % (topic, len(payload), payload)


class Client:
    """`address` is `<host>:<port>` or `unix:<path>`, as the daemon prints it."""

    def __init__(self, address, rcvbuf=None, source=None, timeout=DEADLINE,
                 new_socket=socket.socket):
        if address.startswith("unix:"):
            self.sock = new_socket(socket.AF_UNIX)
            target = address[5:]
        else:
            host, port = address.rsplit(":", 1)
            host = host.strip("[]")
            self.sock = new_socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            target = (host, int(port))
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(target)
        except OSError:
            self.sock.close()
            raise
        if not address.startswith("unix:"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._at = 0
        self._early = deque()  # messages that came before an answer somebody asked for
        self.recent = deque(maxlen=8)  # for the text of a failure

    # --- sending -----------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(to_bytes(data))

    def send_until_stuck(self, data):
        """Sends without reading until nothing more is taken for half a second; returns what was not sent."""
        rest = memoryview(data)
        poller = select.poll()
        poller.register(self.sock, select.POLLOUT)
        self.sock.setblocking(False)
        try:
            while rest and poller.poll(500):
                try:
                    rest = rest[self.sock.send(rest[:1 << 18]):]
                except BlockingIOError:
                    pass
        finally:
            self.sock.settimeout(DEADLINE)
        return bytes(rest)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    # --- receiving ---------------------------------------------------------------------------

    def fill(self, size=1 << 18):
        """Reads once; False at the end of the stream."""
        try:
            chunk = self.sock.recv(size)
        except TimeoutError:
            raise AssertionError(f"nothing came for {DEADLINE} s after {list(self.recent)}, "
                                 f"unparsed {bytes(self._buffer[self._at:][:200])!r}") from None
        if self._at:
            del self._buffer[:self._at]
            self._at = 0
        self._buffer += chunk
        return bool(chunk)

    @property
    def unparsed(self):
        """What has come and is no complete line or message yet."""
        return bytes(self._buffer[self._at:])

    def take(self):
        """The next complete item in the buffer, or None."""
        end = self._buffer.find(b"\n", self._at)
        if end < 0:
            return None
        line = self._buffer[self._at:end].decode("latin-1")
        if line.startswith("MSG "):
            _, number, topic, size = line.split(" ")[:4]
            last = end + 1 + int(size)
            if len(self._buffer) <= last:
                return None
            assert self._buffer[last] == 0x0A, f"no LF after the payload of {line!r}"
            item = Msg(int(number), topic, bytes(self._buffer[end + 1:last]))
            self._at = last + 1
        else:
            self._at = end + 1
            if line.startswith("GAP "):
                _, first, final, reason = line.split(" ")[:4]
                item = Gap(int(first), int(final), reason)
            else:
                item = Line(line)
        self.recent.append(line[:100])
        return item

    def recv_item(self):
        """The next Msg, Gap or Line."""
        if self._early:
            return self._early.popleft()
        return self._next_item()

    def _next_item(self):
        while (item := self.take()) is None:
            assert self.fill(), f"the stream ended after {list(self.recent)} + {self.unparsed[:200]!r}"
        return item

    def recv_line(self):
        """The next answer; what messages come before it stay to be received."""
        while not isinstance(item := self._next_item(), Line):
            self._early.append(item)
        return item

    def recv_msg(self):
        item = self.recv_item()
        assert isinstance(item, Msg), f"expected a message, got {item!r}"
        return item

    def recv_msgs(self, count):
        return [self.recv_msg() for _ in range(count)]

    def recv_until(self, condition):
        """All items up to and with the first for which condition(item) holds."""
        items = [self.recv_item()]
        while not condition(items[-1]):
            items.append(self.recv_item())
        return items

    def drain(self, reset_ok=False):
        """All items up to the end of the stream; an incomplete one stays in `unparsed`."""
        items = list(self._early)
        self._early.clear()
        while True:
            while (item := self.take()) is not None:
                items.append(item)
            try:
                if not self.fill():
                    return items
            except ConnectionError:
                assert reset_ok, f"reset after {list(self.recent)}"
                return items

    def drain_after(self, command):
        """Sends a last command, QUIT or the like, and returns all items up to the end of the stream."""
        self.send(command)
        return self.drain()

    def expect_eof(self, reset_ok=False):
        rest = self.drain(reset_ok)
        assert rest == [] and self.unparsed == b"", f"expected the end, got {rest[:5]} {self.unparsed[:200]!r}"

    def readable(self, timeout=0):
        """True when something came within the timeout (seconds): bytes or the end."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(self._early or self.unparsed or poller.poll(timeout * 1000))

    def recv_raw_line(self):
        """One line of TAIL or CAT, without its LF."""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            assert self.fill(), f"the stream ended after {self.unparsed[:200]!r}"
        line = bytes(self._buffer[self._at:end])
        self._at = end + 1
        return line

    def recv_raw(self, reset_ok=False):
        """All bytes up to the end of the stream."""
        try:
            while self.fill():
                pass
        except ConnectionError:
            assert reset_ok, f"reset after {self.unparsed[-200:]!r}"
        return self.unparsed

    # --- asking ------------------------------------------------------------------------------

    def ask(self, command):
        """Sends one command line and returns its one line of answer."""
        self.send(to_bytes(command) + b"\n")
        return self.recv_line()

    def ok(self, command):
        answer = self.ask(command)
        assert answer.split(" ")[0] == "OK", f"{command!r} was answered {answer!r}"
        return answer

    def publish(self, topic, payload=b""):
        """Publishes with PUT; returns the id."""
        self.send(put(topic, payload))
        answer = self.recv_line()
        assert answer.startswith("OK "), answer
        return answer.id

    def publish_all(self, messages):
        """Publishes (topic, payload) pairs as a pipeline; returns their ids."""
        messages = list(messages)
        answers = self.exchange(b"".join(put(t, p) for t, p in messages), len(messages))
        assert all(a.startswith("OK ") for a in answers), [a for a in answers if not a.startswith("OK ")][:3]
        return [a.id for a in answers]

    def flood(self, topic, payload, count, batch=None):
        """Publishes the same message `count` times with ACKS OFF; returns the id of the closing PONG."""
        self.ok("ACKS OFF")
        one = put(topic, payload)
        batch = batch or max(1, (4 << 20) // len(one))
        answer = None
        while count > 0:
            answer = self.exchange(one * min(batch, count) + b"PING\n", 1)[0]
            assert answer.startswith("PONG "), answer
            count -= batch
        self.ok("ACKS ON")
        return answer.id

    def block(self, command):
        """The lines of an answer that ends in END, without that."""
        self.send(command + "\n")
        lines = []
        while (line := self.recv_line()) != "END":
            lines.append(line)
        return lines

    def read(self, request):
        """READ …: its items, and the line that ended them (END, or an ERR)."""
        self.send(f"READ {request}\n")
        items = self.recv_until(lambda item: isinstance(item, Line))
        return items[:-1], items[-1]

    def quit(self):
        """QUIT: all items that were still owed, up to the BYE; then nothing more may come."""
        self.send("QUIT\n")
        items = self.recv_until(lambda item: isinstance(item, Line) and item.startswith("BYE"))
        assert items[-1].code == "quit", items[-1]
        self.expect_eof()
        return items[:-1], items[-1]

    def exchange(self, data, answers):
        """Sends data while it takes that many answers, so that neither side waits for the other."""
        got = []
        rest = memoryview(data)
        poller = select.poll()
        self.sock.setblocking(False)
        try:
            while rest or len(got) < answers:
                poller.register(self.sock, select.POLLIN | (select.POLLOUT if rest else 0))
                events = poller.poll(DEADLINE * 1000)
                assert events, f"stuck: {len(rest)} bytes unsent, {len(got)} of {answers} answers"
                if events[0][1] & select.POLLOUT and rest:
                    try:
                        rest = rest[self.sock.send(rest[:1 << 18]):]
                    except BlockingIOError:
                        pass
                if events[0][1] & ~select.POLLOUT:
                    try:
                        assert self.fill(), f"the stream ended after {list(self.recent)}"
                    except BlockingIOError:
                        pass
                    while len(got) < answers and (item := self.take()) is not None:
                        (got if isinstance(item, Line) else self._early).append(item)
        finally:
            self.sock.settimeout(DEADLINE)
        return got


def follow(address, request):
    """A subscriber as a program: prints what it gets, an id or a gap a line (see test_slow_readers)."""
    client = Client(address)
    print(client.ok(request), flush=True)
    while True:
        item = client.recv_item()
        if isinstance(item, Msg):
            print("MSG", item.id, flush=True)
        elif isinstance(item, Gap):
            print("GAP", item.first, item.last, item.reason, flush=True)
        if isinstance(item, Msg) and item.payload == b"the end":
            return


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2])
