# SPDX-License-Identifier: MIT
"""Clients that live through the deaths of their broker and record all of it in a History.

They connect anew whenever the connection ends, publishers in another way of publishing each time,
subscribers from their whole position on."""

import json
import os
import random
import select
import socket
import struct
import threading
import time
import uuid
from collections import deque
from pathlib import Path

from client import DEADLINE, Client, Gap, Line, Msg, put, wait_until
from history import number_of
from traffic import Job

NOISE = random.Random(0).randbytes(40 << 10)
TEXT = bytes(byte % 90 + 33 for byte in NOISE)  # printable: no line end, no space
REFUSALS = ("log-full", "log-failed", "shutting-down")
# After log-failed nobody knows: the message was not synced, but a restart may find it.
CERTAIN = ("log-full", "shutting-down")
REFUSED_PAUSE = .05  # so that a full log isn't stormed
# A connection that isn't let in, or is closed because others hold all there is: nothing of what was
# not answered is done.
UNWANTED = ("ERR too-many ", "ERR shutting-down ")
# What may come instead of an answer; the connection has ended.
ENDED = UNWANTED + ("BYE idle ", "BYE shutting-down ")


class Gone(Exception):
    """The connection has ended."""


class Wire(Client):
    """A client whose broker may die at any moment; all that had arrived by then is still read."""

    def __init__(self, address, patience=None, **options):
        """`patience`: so many seconds without an answer, and it gives the connection up, as one
        must where a cable can be cut; None: that is a failure of the test."""
        self.patience = patience
        try:
            super().__init__(address, timeout=patience or DEADLINE, **options)
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
            if isinstance(item, Line) and item.startswith(("BYE ", "ERR too-many ")):
                raise Gone  # the broker stops: what it has not answered it has not taken
            on_item(item)
        rest = memoryview(data)
        poller = select.poll()
        self.sock.setblocking(False)
        wait = self.patience or DEADLINE
        end = time.monotonic() + wait
        while rest or not is_done():
            poller.register(self.sock, select.POLLIN | (select.POLLOUT if rest else 0))
            events = poller.poll(min(wait, 1) * 1000)
            if not events and time.monotonic() > end:
                assert self.patience, \
                    f"stuck: {len(rest)} bytes unsent, last came {list(self.recent)}"
                raise Gone
            if not events:
                continue
            end = time.monotonic() + wait
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
        self.sock.settimeout(self.patience or DEADLINE)

    def more(self, on_item):
        """Reads once, and hands over what is complete."""
        try:
            alive = self.fill()
        except BlockingIOError:
            return
        except OSError:
            alive = False
        except AssertionError:
            if not self.patience:
                raise
            alive = False
        while (item := self.take()) is not None:
            on_item(item)
        if not alive:
            raise Gone

    def abort(self):
        """Ends the connection with a reset, and throws away what is on its way."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()

    def answer(self, command):
        """One line for a command, on a connection without a subscription."""
        lines = []
        self.pump(command, lambda: lines, lines.append)
        return lines[0]


class Publisher:
    """Publishes in batches of all kinds and sizes until stop is set."""

    def __init__(self, swarm, name, topics, seed, largest=20000, pause=0):
        """`pause`: seconds between two batches, at most."""
        self.swarm, self.name, self.topics, self.largest = swarm, name, topics, largest
        self.pause = pause
        self.random = random.Random(seed)
        self.number = 0
        self.refusals = 0

    def run(self):
        while not self.swarm.stop.is_set():
            try:
                wire = self.swarm.connect(self.random)
            except Gone:
                time.sleep(.005)  # nobody listens: it is being started again
                continue
            # Only now: what is sent on it belongs to no earlier log than the history's.
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
                    elif self.pause:
                        self.swarm.stop.wait(self.random.random() * self.pause)
                else:
                    # Everything was answered, so a reset takes nothing with it.
                    if self.random.random() < .3:
                        wire.abort()
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
            if line.startswith("BYE "):
                raise Gone
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
            answer = wire.answer(b"ACKS OFF\n")
            if answer.startswith(ENDED):
                raise Gone
            assert answer == "OK", answer
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
        if answer.startswith(ENDED):
            raise Gone
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

    def __init__(self, swarm, name, patterns, seed, live=False, lazy=0, position=None):
        """`lazy`: the chance to stop reading for a while, at each read. `position`: where it goes
        on, the whole token."""
        self.swarm, self.patterns, self.live, self.lazy = swarm, patterns, live, lazy
        self.follower = swarm.history.follower(name, patterns)
        self.random = random.Random(seed)
        self.position = position  # the whole token
        self.reasons = set()  # of gaps that it was told
        self.goal = None  # the head that it must reach before it ends

    def run(self):
        while not self.is_done():
            session = self.follower.session(
                self.position or (None if self.live else 0))
            try:
                # One that reads little is to be felt by the broker soon.
                wire = self.swarm.connect(
                    self.random, **({"rcvbuf": 8192} if self.lazy else {}))
            except Gone:
                time.sleep(.005)  # nobody listens: it is being started again
                continue
            try:
                self.receive(wire, session)
                if self.random.random() < .3:
                    wire.abort()
            except Gone:
                pass
            finally:
                wire.close()

    def is_done(self):
        return self.swarm.is_over or self.goal is not None and self.position is not None and \
            number_of(self.position) >= self.goal

    def receive(self, wire, session):
        start = "" if session.after is None else f" AFTER {self.position or 0}"
        # Sometimes it leaves by itself, at any point.
        left = self.random.randrange(50, 3000) if self.random.random() < .5 else 1 << 30
        wire.send(f"SUB {' '.join(self.patterns)}{start}\n")
        pinged = False
        heard = time.monotonic()

        def on_item(item):
            nonlocal left, pinged
            left -= 1
            if isinstance(item, Line) and item.startswith(UNWANTED):
                raise Gone
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
        while (left > 0 or self.swarm.is_quiet) and not self.is_done():
            if self.lazy and self.goal is None and self.random.random() < self.lazy:
                self.swarm.stop.wait(self.random.random() * 2)
            if session.start is not None and not pinged and not self.swarm.is_quiet and \
                    (self.goal is not None or self.random.random() < .02):
                wire.send("PING\n")
                pinged = True
            if wire.readable(.05):
                wire.more(on_item)
                heard = time.monotonic()
            elif wire.patience and (pinged or session.start is None) and \
                    time.monotonic() > heard + wire.patience:
                raise Gone
            else:
                assert wire.patience or not (pinged or session.start is None) or \
                    time.monotonic() < heard + 2 * DEADLINE, \
                    f"no answer for long; last came {list(wire.recent)}"


class Swarm:
    """All of them; `history` is what they saw."""

    def __init__(self, address, history, patience=None, new_socket=socket.socket):
        """`address`: one, or several of which each connection takes one."""
        self.new_socket = new_socket
        self.addresses = [address] if isinstance(address, str) else list(address)
        self.history, self.patience = history, patience
        self.stop = threading.Event()
        self.is_quiet = False  # subscribers ask for nothing and stay: what is due comes by itself
        self.is_over = False  # they end where they are
        self.life = 0  # of the broker; odd while it dies
        self.publishers, self.subscribers, self.guests = [], [], []
        self._publishing, self._receiving = [], []

    def connect(self, randomly, **options):
        address = randomly.choice(self.addresses) if len(self.addresses) > 1 else self.addresses[0]
        return Wire(address, self.patience, new_socket=self.new_socket, **options)

    def publisher(self, *arguments, **keywords):
        self.publishers.append(Publisher(self, *arguments, **keywords))
        self._publishing.append(Job(self.publishers[-1].run))

    def subscriber(self, *arguments, **keywords):
        self.subscribers.append(Subscriber(self, *arguments, **keywords))
        self._receiving.append(Job(self.subscribers[-1].run))

    def guest(self, guest):
        """Whoever has a run() that ends with stop."""
        self.guests.append(guest)
        self._publishing.append(Job(guest.run))

    def look_after(self):
        """A client's failure is raised here."""
        for job in self._publishing + self._receiving:
            if not job.is_alive():
                job.finish()

    def wait_acknowledged(self, count):
        """Until so many messages more are acknowledged; a client's failure ends the wait."""
        goal = self.history.acknowledged_count + count

        def reached():
            self.look_after()
            return self.history.acknowledged_count >= goal
        wait_until(reached, f"{count} more messages are acknowledged")

    def stop_publishing(self):
        self.stop.set()
        for job in self._publishing:
            job.finish()

    def wait_delivered(self, head):
        """Nobody publishes any more: all that is due comes to all, and nobody has to ask for it."""
        self.is_quiet = True

        def behind():
            self.look_after()
            return [f"{s.follower.name} at {s.position}" for s in self.subscribers
                    if ">" in s.patterns and (number_of(s.position) if s.position else 0) < head]
        end = time.monotonic() + DEADLINE
        while missing := behind():
            assert time.monotonic() < end, \
                f"the head is {head}, and for {DEADLINE} s nothing came that brought them there: " \
                f"{', '.join(missing)}"
            time.sleep(.01)

    def leave(self):
        """Everybody ends where they are."""
        self.is_over = True
        self.stop_publishing()
        for job in self._receiving:
            job.finish()

    def finish(self, head):
        """Everybody gets all there is, and ends."""
        self.stop_publishing()
        self.is_quiet = False
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
    """A fresh reader of all that is kept, recorded as one more follower. Returns its gaps.

    It is cut only where retention has taken the message that it was receiving; then it goes on."""
    follower = history.follower(name, [">"], to_head=to_head)
    gaps, ends = [], []
    while not ends:
        session = follower.session(after)
        session.started(after)

        def on_item(item):
            if isinstance(item, Msg):
                session.message(*item)
            elif isinstance(item, Gap):
                session.gap(*item)
                gaps.append(item)
            else:
                session.reached(item.position)
                ends.append(item)
        wire = Wire(broker.control_address or broker.address)
        try:
            wire.pump(f"READ > AFTER {after}\n".encode(), lambda: ends, on_item)
        except Gone:
            after = session.position
            assert broker.info()["first"] > after + 1, \
                f"a reader was cut behind {after}, where nothing was dropped: {list(wire.recent)}"
        finally:
            wire.close()
    return gaps


def report(history, **figures):
    """For the summary of a long run, whose directory PSAD_REPORTS names."""
    directory = os.environ.get("PSAD_REPORTS")
    if directory:
        file = Path(directory) / f"{uuid.uuid4()}.json"
        file.write_text(json.dumps({"tally": {**history.figures(), **figures}}))
