# SPDX-License-Identifier: MIT
"""Clients that do not behave: each visit is another bad habit, or an unusual wish.

What they see is recorded in the History too, wherever it can be judged; what they publish is never
complete, so that none of it may ever appear."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from client import DEADLINE, Gap, Line, Msg, put
from swarm import ENDED, NOISE, UNWANTED, Gone

CLIENT = Path(__file__).with_name("client.py")
PATTERNS = [[">"], ["a"], ["b.*", "d.>"], ["c.>"], ["*.x", "a.>"]]
FOREIGN = "00000000"
# Command and the code of its refusal; the connection goes on.
WRONG = [
    (b"PUB bad..topic x\n", "bad-topic"), (b"PUB $sys x\n", "bad-topic"),
    (b"PUB a.* x\n", "bad-topic"), (put("b..x", b"payload\n\n"), "bad-topic"),
    (b"SUB a.>.b\n", "bad-pattern"), (b"READ > LIMIT 0\n", "bad-argument"),
    (b"SUB > AFTER 9223372036854775807\n", "ahead-of-log"), (b"READ > SINCE 5\n", "bad-argument"),
    (b"SUB\n", "bad-argument"), (b"ACKS MAYBE\n", "bad-argument"),
    (b"FOO bar\n", "unknown-command"),
    (b"PUB a " + b"x" * 29000 + b"\n", "line-too-long"),
]
# What is refused and closes.
CLOSING = [
    b"GET / HTTP/1.1\r\nHost: psad\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"EHLO there\r\n", b"PUT a many\n", b"PUT a 99999999999\nx", b"PUT a 3\nabcdef\n",
    b"TAIL a..b\n", b"LINES $x\nPUB a no\n", b"\x00" * 3000, b"A" * 100000, b"\xff\xfe\n",
]


class Guest:
    """One that comes again and again, each time as another; in a thread of its own."""

    def __init__(self, swarm, name, seed):
        self.swarm, self.name = swarm, name
        self.random = random.Random(seed)
        self.visits = 0
        self.habits = [self.replays, self.replays, self.pipes, self.never_reads, self.half_closes,
                       self.breaks_off, self.is_wrong, self.talks_garbage, self.subscribes_much,
                       self.idles, self.is_stopped]

    def run(self):
        while not self.swarm.stop.is_set():
            self.life = self.swarm.life
            try:
                wire = self.swarm.connect(self.random)
            except Gone:
                time.sleep(.005)
                continue
            self.visits += 1
            habit = self.random.choice(self.habits)
            try:
                habit(wire)
            except (Gone, OSError):
                pass
            finally:
                if self.random.random() < .5:
                    wire.abort()
                else:
                    wire.close()
            self.swarm.stop.wait(self.random.random() * .05)

    @property
    def is_same_life(self):
        """The broker has not died, nor been asked to end, during this visit."""
        return self.life == self.swarm.life and self.life % 2 == 0

    # --- helpers -----------------------------------------------------------------------------

    def ask(self, wire, data, is_last=lambda item: isinstance(item, Line)):
        """Sends, and returns all items up to and with the last."""
        items = []

        def on_item(item):
            if isinstance(item, Line) and item.startswith(ENDED):
                raise Gone
            items.append(item)
        wire.pump(data, lambda: items and is_last(items[-1]), on_item)
        return items

    def info(self, wire):
        line = self.ask(wire, b"INFO\n")[-1]
        assert line.startswith("INFO psad "), line
        return dict(word.split("=", 1) for word in line.words[3:])

    def to_the_end(self, wire, most=1 << 24):
        """Everything up to the end of the stream, as bytes."""
        got = bytearray(wire.unparsed)
        while len(got) < most:
            try:
                chunk = wire.sock.recv(1 << 16)
            except TimeoutError:
                assert wire.patience, f"nothing came for {DEADLINE} s, and no end"
                raise Gone from None
            except OSError:
                raise Gone from None
            if not chunk:
                break
            got += chunk
        return bytes(got)

    def session(self, patterns, after):
        follower = self.swarm.history.follower(
            f"{self.name}, visit {self.visits}", patterns, resumes=False, to_head=False)
        return follower.session(after)

    @staticmethod
    def record(session, item):
        if isinstance(item, Msg):
            session.message(*item)
        elif isinstance(item, Gap):
            session.gap(*item)
        elif item.startswith(("END ", "PONG ", "BYE ")):
            session.reached(item.position)

    # --- habits ------------------------------------------------------------------------------

    def replays(self, wire):
        """READ with every kind of start."""
        info = self.info(wire)
        log, first, head = info["log"], int(info["first"]), int(info["head"])
        patterns = self.random.choice(PATTERNS)
        n = self.random.randrange(max(0, first - 20), head + 1)
        last = self.random.choice([1, 10, 300])
        start, after = self.random.choice([
            ("", None), (f"AFTER {n}", n), (f"AFTER {n}@{log}", n),
            (f"AFTER {first - 1}", first - 1),
            (f"AFTER {n}@{FOREIGN}", f"{n}@{FOREIGN}"), (f"LAST {last}", None), ("SINCE 3s", None),
            (f"SINCE {time.time() - 2:.3f}", None)])
        limit = self.random.choice(["", "", " LIMIT 1", " LIMIT 50"])
        session = self.session(patterns, after)
        items = self.ask(wire, f"READ {' '.join(patterns)} {start}{limit}\n".encode())
        assert items[-1].startswith("END "), f"READ … {start}{limit} was answered {items[-1]}"
        messages = [item for item in items if isinstance(item, Msg)]
        if session.is_foreign:
            session.started(f"0@{log}")
        elif after is not None:
            session.started(after)
        else:
            # Where it begins is known by what it begins with.
            head = items[0]
            session.after = head.id - 1 if isinstance(head, Msg) else \
                head.first - 1 if isinstance(head, Gap) else head.id
            session.started(session.after)
        for item in items:
            self.record(session, item)
        if start.startswith("LAST"):
            assert len(messages) <= last, f"{start}: {len(messages)} messages came"
        if limit:
            most = int(limit.split()[1])
            assert len(messages) <= most, f"{limit}: {len(messages)} messages came"
            if len(messages) == most:
                assert items[-1].id >= messages[-1].id

    def pipes(self, wire):
        """CAT and TAIL must give what READ gives."""
        info = self.info(wire)
        first, head = int(info["first"]), int(info["head"])
        after = self.random.randrange(max(0, first - 1), head + 1)
        patterns = self.random.choice(PATTERNS)
        request = f"{' '.join(patterns)} AFTER {after}@{info['log']}"
        items = self.ask(wire, f"READ {request} LIMIT 100\n".encode())[:-1]
        while items and isinstance(items[-1], Gap):
            items.pop()
        expected = b"".join(
            item.payload + b"\n" if isinstance(item, Msg) else
            b"GAP %d %d %s\n" % (item.first, item.last, item.reason.encode()) for item in items)
        got = b""
        other = self.swarm.connect(self.random)
        try:
            if self.random.random() < .5:
                other.send(f"CAT {request} LIMIT 100\n")
                got = self.to_the_end(other)
            else:
                other.send(f"TAIL {request}\n")
                while len(got) < len(expected) and other.readable(DEADLINE):
                    try:
                        chunk = other.sock.recv(1 << 16)
                    except OSError:
                        break
                    if not chunk:
                        break
                    got += chunk
        finally:
            other.abort()
        if got.startswith(b"ERR ") or other.patience:
            return
        if int(self.info(wire)["first"]) > after + 1 or not self.is_same_life:
            return  # what was read may have been dropped meanwhile
        same = len(os.path.commonprefix([got, expected]))
        assert same == len(expected), \
            f"READ, and CAT or TAIL of {request} differ after {same} bytes"

    def never_reads(self, wire):
        """Asks much and takes no answer."""
        command = self.random.choice(
            [b"STATS\n", b"HELP\n", b"READ >\n", b"INFO\nPING\n", b"SUB >\n"])
        wire.sock.setblocking(False)
        end = time.monotonic() + self.random.random()
        while time.monotonic() < end and not self.swarm.stop.is_set():
            try:
                wire.sock.send(command * 100)
            except BlockingIOError:
                self.swarm.stop.wait(.1)
        self.swarm.stop.wait(self.random.random())

    def half_closes(self, wire):
        """A subscriber that has closed its sending side goes on receiving."""
        patterns = self.random.choice(PATTERNS)
        session = self.session(patterns, None)
        wire.send(f"SUB {' '.join(patterns)}\n")
        wire.half_close()
        end = time.monotonic() + self.random.random() * 2

        def on_item(item):
            if isinstance(item, Line) and item.startswith("OK "):
                session.started(item.position)
            elif session.start is None:
                raise Gone  # refused, or stopped before it had read anything of us
            else:
                self.record(session, item)
        while time.monotonic() < end and not self.swarm.stop.is_set():
            if wire.readable(.05):
                wire.more(on_item)

    def breaks_off(self, wire):
        """Ends within a command: nothing of it is executed."""
        topic = self.random.choice(["a", "b.x", "d"])
        begun = self.random.choice([
            b"PUT %s 5000\n" % topic.encode() + NOISE[:self.random.randrange(5000)],
            b"PUB %s never complete" % topic.encode(),
            b"LINES %s\nnever complete" % topic.encode()])
        wire.send(begun)
        self.swarm.stop.wait(self.random.random() * .3)
        if self.random.random() < .5:
            wire.half_close()
            said = self.to_the_end(wire)
            # Where cables are cut psad may have given us up meanwhile.
            if said and self.is_same_life and not wire.patience:
                assert b"ERR truncated " in said or said.startswith(
                    tuple(word.encode() for word in UNWANTED)) or b"BYE " in said, said

    def is_wrong(self, wire):
        """Commands that are refused, one by one or all at once."""
        assert self.ask(wire, b"PING\n")[-1].startswith("PONG ")
        some = self.random.sample(WRONG, 5)
        answers = []
        wire.pump(b"".join(command for command, _ in some) + b"PING\n",
                  lambda: len(answers) > len(some), answers.append)
        for (command, code), answer in zip(some, answers):
            if answer.startswith(ENDED):
                raise Gone
            assert answer.startswith(f"ERR {code} "), f"{command[:40]!r} was answered {answer}"
        assert answers[-1].startswith("PONG "), answers[-1]

    def talks_garbage(self, wire):
        """It is told so, and the connection closes."""
        wire.send(self.random.choice(CLOSING))
        wire.half_close()
        self.to_the_end(wire, 1 << 20)

    def subscribes_much(self, wire):
        """Patterns come and go."""
        for _ in range(self.random.randrange(1, 20)):
            count = self.random.randrange(1, 16)
            words = " ".join(f"none.{self.random.randrange(1000)}.*" for _ in range(count))
            answers = []
            wire.pump(f"SUB {words}\nPING\nUNSUB\n".encode() * 8, lambda: len(answers) >= 24,
                      answers.append)
            for n, answer in enumerate(answers):
                if answer.startswith(ENDED):
                    raise Gone
                # The configuration may allow fewer patterns just now.
                assert answer.startswith(("OK ", "PONG ")), answer
            if self.swarm.stop.is_set():
                return

    def idles(self, _):
        self.swarm.stop.wait(self.random.random() * 2)

    def is_stopped(self, wire):
        """A process that subscribes to everything, is stopped, and goes on; then it is killed."""
        if self.swarm.patience or self.random.random() < .7:
            return
        wire.close()
        child = subprocess.Popen(
            [sys.executable, str(CLIENT), self.random.choice(self.swarm.addresses), "SUB >"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            lines = []
            reader = threading.Thread(target=lambda: lines.extend(child.stdout), daemon=True)
            reader.start()
            self.swarm.stop.wait(.3)
            child.send_signal(signal.SIGSTOP)
            self.swarm.stop.wait(self.random.random() * 2)
            child.send_signal(signal.SIGCONT)
            self.swarm.stop.wait(self.random.random() * .5)
        finally:
            child.kill()
            child.wait()
        reader.join(DEADLINE)
        self.check_child([line.decode() for line in lines if line.endswith(b"\n")])

    @staticmethod
    def check_child(lines):
        """Each id once, as a message or in a gap."""
        at = None
        for line in lines:
            words = line.split()
            if words[0] == "OK":
                at = int(words[1].split("@")[0])
            elif words[0] in ("MSG", "GAP"):
                first, last = int(words[1]), int(words[2] if words[0] == "GAP" else words[1])
                assert first == at + 1 and last >= first, \
                    f"a stopped reader: after {at} came {line}"
                at = last
