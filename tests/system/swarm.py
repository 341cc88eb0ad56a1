# SPDX-License-Identifier: MIT
"""Clients that live through the deaths of their broker and record all of it in a History.

They connect anew whenever the connection ends, publishers in another way of publishing each time,
subscribers from their whole position on."""

import random
import select
import threading
import time
from collections import deque

from client import DEADLINE, Client, Gap, Line, Msg, put, wait_until
from history import number_of
from traffic import Job

NOISE = random.Random(0).randbytes(40 << 10)
TEXT = bytes(byte % 90 + 33 for byte in NOISE)  # printable: no line end, no space
REFUSALS = ("log-full", "log-failed", "shutting-down")
# After log-failed nobody knows: the message was not synced, but a restart may find it.
CERTAIN = ("log-full", "shutting-down")
REFUSED_PAUSE = .05  # so that a full log isn't stormed


class Gone(Exception):
    """The connection has ended."""


class Wire(Client):
    """A client whose broker may die at any moment; all that had arrived by then is still read."""

    def __init__(self, address):
        try:
            super().__init__(address)
        except OSError as fault:
            raise Gone from fault

    def send(self, data):
        """A send that fails is no news: what had come before is still to be read, then the end."""
        try:
            super().send(data)
        except OSError:
            pass

    def pump(self, data, is_done, on_item):
        """Sends data and hands over what comes, until is_done() and all is sent."""
        def hand_over(item):
            if isinstance(item, Line) and item.startswith("BYE "):
                raise Gone  # the broker stops: what it has not answered it has not taken
            on_item(item)
        rest = memoryview(data)
        poller = select.poll()
        self.sock.setblocking(False)
        end = time.monotonic() + DEADLINE
        while rest or not is_done():
            poller.register(self.sock, select.POLLIN | (select.POLLOUT if rest else 0))
            events = poller.poll(1000)
            assert events or time.monotonic() < end, \
                f"stuck: {len(rest)} bytes unsent, last came {list(self.recent)}"
            if not events:
                continue
            end = time.monotonic() + DEADLINE
            if rest and events[0][1] & select.POLLOUT:
                try:
                    rest = rest[self.sock.send(rest[:1 << 16]):]
                except BlockingIOError:
                    pass
                except OSError:
                    rest = rest[:0]  # what it has answered is still to be read
                    is_done = bool
            if events[0][1] & ~select.POLLOUT:
                self.more(hand_over)
        self.sock.settimeout(DEADLINE)

    def more(self, on_item):
        """Reads once, and hands over what is complete."""
        try:
            alive = self.fill()
        except BlockingIOError:
            return
        except OSError:
            alive = False
        while (item := self.take()) is not None:
            on_item(item)
        if not alive:
            raise Gone

    def answer(self, command):
        """One line for a command, on a connection without a subscription."""
        lines = []
        self.pump(command, lambda: lines, lines.append)
        return lines[0]


class Publisher:
    """Publishes in batches of all kinds and sizes until stop is set."""

    def __init__(self, swarm, name, topics, seed, largest=20000):
        self.swarm, self.name, self.topics, self.largest = swarm, name, topics, largest
        self.random = random.Random(seed)
        self.number = 0
        self.refusals = 0

    def run(self):
        while not self.swarm.stop.is_set():
            try:
                wire = Wire(self.swarm.address)
            except Gone:
                time.sleep(.005)  # nobody listens: it is being started again
                continue
            link = self.swarm.history.link(self.name)
            way = self.random.choice([self.puts, self.pubs, self.quietly, self.lines])
            try:
                for _ in range(self.random.randrange(1, 60)):
                    if self.swarm.stop.is_set():
                        break
                    refusals = self.refusals
                    way(wire, link)
                    if self.refusals > refusals:
                        self.swarm.stop.wait(REFUSED_PAUSE)
            except Gone:
                pass
            finally:
                wire.close()

    def batch(self, most, text=False, topic=None):
        """New messages, each another: (topic, payload) pairs."""
        pairs = []
        for _ in range(1 if self.random.random() < .3 else self.random.randrange(1, most)):
            self.number += 1
            at = topic or self.random.choice(self.topics)
            size = self.random.choice([0, 10, 10, 100, 100, 500, self.random.randrange(2000)])
            if self.random.random() < .01:
                size = self.random.randrange(self.largest)
            if size == 0 and not topic:
                pairs.append((f"{at}.empty.{self.name}{self.number}", b""))
                continue
            name = f"{self.name}-{self.number}-".encode()
            begin = self.random.randrange(len(NOISE) - size)
            pairs.append((at, name + (TEXT if text else NOISE)[begin:begin + max(0, size - 30)]))
        return pairs

    def acknowledged(self, wire, link, pairs, data):
        """Sends, and takes an answer for each."""
        waiting = deque(link.sent(*pair) for pair in pairs)

        def on_item(line):
            p = waiting.popleft()
            if line.startswith("OK "):
                link.acknowledged(p, line.id)
            else:
                assert line.code in REFUSALS, line
                if line.code in CERTAIN:
                    link.refused(p)
                self.refusals += 1
        wire.pump(data, lambda: not waiting, on_item)

    def puts(self, wire, link):
        pairs = self.batch(50)
        self.acknowledged(wire, link, pairs, b"".join(put(*pair) for pair in pairs))

    def pubs(self, wire, link):
        pairs = self.batch(50, text=True)
        self.acknowledged(wire, link, pairs, b"".join(
            b"PUB %s %s\n" % (topic.encode(), payload) for topic, payload in pairs))

    def quietly(self, wire, link):
        """ACKS OFF and a PING: everything is accepted, or the refusals are told."""
        if not link.publications:
            assert wire.answer(b"ACKS OFF\n") == "OK"
        pairs = self.batch(80)
        sent = [link.sent(*pair) for pair in pairs]
        lines = []
        wire.pump(b"".join(put(*pair) for pair in pairs) + b"PING\n",
                  lambda: lines and lines[-1].startswith("PONG "), lines.append)
        assert all(line.code in REFUSALS for line in lines[:-1]), lines
        if len(lines) == len(sent) + 1 and all(line.code in CERTAIN for line in lines[:-1]):
            for p in sent:
                link.refused(p)
        self.refusals += len(lines) - 1
        if len(lines) == 1:
            link.accepted(sent[-1], lines[0].position)
        else:
            raise Gone  # which of them were refused isn't told: nothing more on this connection

    def lines(self, wire, link):
        """LINES: its connection ends with it."""
        topic = self.random.choice(self.topics)
        pairs = self.batch(400, text=True, topic=topic)
        answer = wire.answer(f"LINES {topic}\n".encode())
        if answer != "OK":
            assert answer.code in REFUSALS, answer
            raise Gone
        sent = [link.sent(*pair) for pair in pairs]
        lines = []
        wire.pump(b"".join(payload + b"\n" for _, payload in pairs), lambda: True, lines.append)
        try:
            wire.half_close()
        except OSError:
            pass  # its answers, if any came, are read below
        try:
            while True:
                wire.more(lines.append)
        except Gone:
            pass
        self.refusals += sum(line.code in REFUSALS for line in lines)
        failed = any(line.code == "log-failed" for line in lines)
        for line in lines:
            if line.startswith("OK "):
                count, last = map(int, line.words[1:3])
                if count:
                    link.accepted(sent[count - 1], last)
                for p in sent[count:] if not failed else []:
                    link.refused(p)
        raise Gone


class Subscriber:
    """Follows its patterns over any number of connections."""

    def __init__(self, swarm, name, patterns, seed, live=False):
        self.swarm, self.patterns, self.live = swarm, patterns, live
        self.follower = swarm.history.follower(name, patterns)
        self.random = random.Random(seed)
        self.position = None  # the whole token
        self.reasons = set()  # of gaps that it was told
        self.goal = None  # the head that it must reach before it ends

    def run(self):
        while not self.is_done():
            session = self.follower.session(
                self.position or (None if self.live else 0))
            try:
                wire = Wire(self.swarm.address)
            except Gone:
                time.sleep(.005)  # nobody listens: it is being started again
                continue
            try:
                self.receive(wire, session)
            except Gone:
                pass
            finally:
                wire.close()

    def is_done(self):
        return self.goal is not None and self.position is not None and \
            number_of(self.position) >= self.goal

    def receive(self, wire, session):
        start = "" if session.after is None else f" AFTER {self.position or 0}"
        # Sometimes it leaves by itself, at any point.
        left = self.random.randrange(50, 3000) if self.random.random() < .5 else 1 << 30
        wire.send(f"SUB {' '.join(self.patterns)}{start}\n")
        pinged = False

        def on_item(item):
            nonlocal left, pinged
            left -= 1
            log = self.position.split("@")[1] if self.position else None
            if isinstance(item, Msg):
                session.message(*item)
                self.position = f"{item.id}@{log}"
            elif isinstance(item, Gap):
                session.gap(*item)
                self.reasons.add(item.reason)
                self.position = f"{item.last}@{log}"
            elif session.start is None and item.startswith("BYE "):
                raise Gone  # the broker stops, and had not read our SUB: we are where we were
            elif session.start is None:
                assert isinstance(item, Line) and item.startswith("OK "), \
                    f"it was not let resume after {self.position}: {item}"
                session.started(item.position)
                self.position = item.position
            else:
                assert item.split(" ")[0] in ("PONG", "BYE"), item
                session.reached(item.position)
                self.position = item.position
                pinged = False
        while left > 0 and not self.is_done():
            if session.start is not None and not pinged and \
                    (self.goal is not None or self.random.random() < .02):
                wire.send("PING\n")
                pinged = True
            if wire.readable(.05):
                wire.more(on_item)


class Swarm:
    """All of them; `history` is what they saw."""

    def __init__(self, address, history):
        self.address, self.history = address, history
        self.stop = threading.Event()
        self.publishers, self.subscribers = [], []
        self._publishing, self._receiving = [], []

    def publisher(self, *arguments, **keywords):
        self.publishers.append(Publisher(self, *arguments, **keywords))
        self._publishing.append(Job(self.publishers[-1].run))

    def subscriber(self, *arguments, **keywords):
        self.subscribers.append(Subscriber(self, *arguments, **keywords))
        self._receiving.append(Job(self.subscribers[-1].run))

    def wait_acknowledged(self, count):
        """Until so many messages more are acknowledged; a client's failure ends the wait."""
        goal = self.history.acknowledged_count + count

        def reached():
            for job in self._publishing + self._receiving:
                if not job.is_alive():
                    job.finish()
            return self.history.acknowledged_count >= goal
        wait_until(reached, f"{count} more messages are acknowledged")

    def stop_publishing(self):
        self.stop.set()
        for job in self._publishing:
            job.finish()

    def finish(self, head):
        """Everybody gets all there is, and ends."""
        self.stop_publishing()
        for subscriber in self.subscribers:
            subscriber.goal = head
        for job in self._receiving:
            job.finish()


def look(broker, history):
    """A look at the head, as a client would; returns INFO."""
    asked = history.now()
    info = broker.info()
    history.head_was(asked, f"{info['head']}@{info['log']}")
    history.synced_was(info["synced"])
    return info


def read_everything(broker, history, name, after=0, to_head=True):
    """A fresh reader of all that is kept, recorded as one more follower. Returns its gaps."""
    session = history.follower(name, [">"], to_head=to_head).session(after)
    client = broker.client()
    items, end = client.read(f"> AFTER {after}")
    client.close()
    session.started(after)
    gaps = []
    for item in items:
        if isinstance(item, Msg):
            session.message(*item)
        else:
            session.gap(*item)
            gaps.append(item)
    session.reached(end.position)
    return gaps
