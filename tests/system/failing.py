# SPDX-License-Identifier: MIT
"""Making the n-th call of a function fail, and living through it.

Faults is the switchboard of the library of failing.c; Daemon a psad that runs with it; round_of() a
short life of publishers and subscribers, any of whom may be cut off, which ends in an exact
comparison of what they were told and received with what is in the log."""

import errno
import mmap
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from broker import PSAD, SANITIZER_REPORTS, environment
from client import DEADLINE, FLAVOUR, Client, Gap, Line, Msg, matches_any, put, wait_until

SOURCE = Path(__file__).with_name("failing.c")
SHORT = -1  # instead of an errno: one byte is transferred

# What can last, until somebody frees something. The rest happens to one call, or a few.
# (No ENOBUFS: a socket for which the kernel lacks memory does not say that it can be written to.)
LASTING = {"ENOMEM", "EMFILE", "ENFILE", "ENOSPC", "EIO", "EACCES", "EADDRINUSE", "EOPNOTSUPP",
           "EINVAL", "ENOSYS", "ENOLCK", "ENOPROTOOPT"}

# group of failing.c -> the ways in which its calls fail.
WAYS = {
    "alloc": ["ENOMEM"],
    "mmap": ["ENOMEM", "EAGAIN"],
    "munmap": ["ENOMEM"],
    "mprotect": ["ENOMEM"],
    "madvise": ["ENOMEM", "EINVAL", "EAGAIN"],
    "open": ["EMFILE", "ENFILE", "EIO", "ENOMEM", "ENOSPC"],
    "directory": ["ENOMEM", "EIO"],
    "mkdir": ["ENOSPC", "EACCES"],
    "fallocate": ["ENOSPC", "EIO", "EOPNOTSUPP", "EINTR"],
    "ftruncate": ["EIO", "EINTR"],
    "sync": ["EIO", "ENOSPC", "EINTR"],
    "rename": ["EIO", "ENOSPC"],
    "link": ["EPERM", "ENOSPC"],
    "unlink": ["EIO", "EACCES"],
    "stat": ["EIO", "ENOMEM"],
    "fcntl": ["ENOLCK", "EINTR"],
    "pread": ["EIO"],
    "pwrite": ["EIO", "ENOSPC", "EINTR", "SHORT"],
    "read": ["EIO", "ECONNRESET", "EINTR", "EAGAIN", "SHORT"],
    "write": ["EIO", "ENOSPC", "EINTR", "EAGAIN", "SHORT"],
    "send": ["ECONNRESET", "EPIPE", "EINTR", "EAGAIN", "ENOBUFS", "SHORT"],
    "accept": ["EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED", "EINTR", "EAGAIN", "EPERM"],
    "epoll_create": ["EMFILE", "ENOMEM"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "epoll_wait": ["EINTR"],
    "eventfd": ["EMFILE", "ENOMEM"],
    "pipe": ["EMFILE", "ENFILE"],
    "socket": ["EMFILE", "ENOBUFS"],
    "bind": ["EADDRINUSE", "EACCES"],
    "listen": ["EADDRINUSE"],
    "setsockopt": ["ENOMEM", "ENOPROTOOPT"],
    "getsockname": ["ENOBUFS"],
    "connect": ["EAGAIN", "EINTR"],
    "shutdown": ["ENOTCONN"],
    "ioctl": ["EINVAL"],
    "poll": ["EINTR"],
    "pthread_create": ["EAGAIN"],
    "getrandom": ["ENOSYS", "EINTR"],
    "rlimit": ["EPERM"],
}


def number_of(way):
    return SHORT if way == "SHORT" else getattr(errno, way)


def build(directory):
    """Compiles the library; returns its path."""
    library = Path(directory) / "failing.so"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-w",
                    "-o", library, SOURCE, "-ldl", "-pthread"], check=True)
    return library


class Faults:
    """What fails, for the processes that run in self.environment."""

    NAME, GROUPS_MAX = 24, 64
    FIELDS = {"group": 24, "from": 32, "times": 40, "error": 48, "fired": 56}  # struct control
    PATH, TABLE = 64, 64 + 512
    SIZE = TABLE + GROUPS_MAX * 32

    def __init__(self, library, directory):
        path = Path(directory) / "faults"
        path.write_bytes(bytes(self.SIZE))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)
        self.environment = {"LD_PRELOAD": str(library), "FAILING_FILE": str(path)}
        if FLAVOUR == "asan":  # it wants to be the first, but calls ours well if it is not
            for name in ("ASAN_OPTIONS",):
                self.environment[name] = "verify_asan_link_order=0:" + os.environ.get(name, "")

    @property
    def synced(self):
        """What the sync that failed last was to sync."""
        return self._map[self.PATH:self.TABLE].split(b"\0")[0].decode()

    def _set(self, field, value):
        struct.pack_into("=q", self._map, self.FIELDS[field], value)

    def _get(self, field):
        return struct.unpack_from("=q", self._map, self.FIELDS[field])[0]

    def reset(self):
        """For a new process: nothing was called yet."""
        self._map[:] = bytes(self.SIZE)

    def _groups(self):
        for n in range(self.GROUPS_MAX):
            at = self.TABLE + n * 32
            name = self._map[at:at + self.NAME].rstrip(b"\0").decode()
            if name:
                yield n, name, struct.unpack_from("=Q", self._map, at + self.NAME)[0]

    def calls(self):
        """group -> how often it was called."""
        return {name: calls for _, name, calls in self._groups()}

    def arm(self, group, way, n, times=1):
        """The n-th call from now on fails, and the times - 1 after it."""
        self.disarm()
        self._map[:self.NAME] = group.encode().ljust(self.NAME, b"\0")
        calls = 0
        for number, name, count in self._groups():
            if name == group:
                self._set("group", number)
                calls = count
        self._set("times", times)
        self._set("error", number_of(way))
        self._set("fired", 0)
        self._map[self.PATH:self.TABLE] = bytes(self.TABLE - self.PATH)
        self._set("from", calls + n)

    def disarm(self):
        self._set("from", 0)

    @property
    def fired(self):
        return self._get("fired")


class Daemon:
    """A psad with the library. Its standard error goes to a file, which no reader can block."""

    def __init__(self, home, faults, *options, arguments=None, address=None):
        self.home, self.faults, self.address = Path(home), faults, address
        self._said = open(self.home / "stderr", "w+b")  # pylint: disable=consider-using-with
        command = [PSAD, *(arguments or [])]
        if address:
            command += ["-o", f"listen.tcp={address}"]
        for option in options:
            command += ["-o", option]
        more = faults.environment if faults else {}
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            command, cwd=home, env=environment(**more), stdin=subprocess.DEVNULL,
            stdout=open(self.home / "stdout", "wb"), stderr=self._said)

    @property
    def stderr(self):
        return (self.home / "stderr").read_text("utf-8", "replace")

    def wait_start(self, speaks=True):
        """True when it is ready, False when it has ended instead. One that can't speak is ready
        when it answers."""
        def is_ready():
            if speaks:
                return "is ready: log" in self.stderr
            try:
                client = Client(self.address)
            except OSError:
                return False
            try:
                return client.ask("PING").startswith("PONG")
            except (AssertionError, OSError):
                return False
            finally:
                client.close()
        return wait_until(lambda: self.process.poll() is not None and "ended"
                          or is_ready() and "ready",
                          "psad is ready or ends") == "ready"

    def end(self):
        """Waits for its end; returns the status. It must not have crashed."""
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            stacks = self.stacks()
            self.kill()
            raise AssertionError(f"psad hangs:\n{self.stderr}\n{stacks}") from None
        finally:
            self._said.close()
        for report in SANITIZER_REPORTS:
            assert report not in self.stderr, self.stderr
        assert self.process.returncode >= 0, f"signal {-self.process.returncode}:\n{self.stderr}"
        return self.process.returncode

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._said.close()

    # --- what it uses ------------------------------------------------------------------------

    def _tasks(self):
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                yield (task / "comm").read_text().strip(), task
            except FileNotFoundError:
                pass

    def stacks(self):
        """Where its threads are, for the text of a failure."""
        return "\n".join(f"{name}: {(task / 'wchan').read_text()}" for name, task in self._tasks())

    def descriptors(self):
        found = []
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(os.readlink(path))
            except FileNotFoundError:
                pass
        return sorted(re.sub(r":\[\d+\]", "", name) for name in found)

    def _busy_ns(self):
        """name of each thread -> for how long it has run, or could have."""
        busy = {}
        for name, task in self._tasks():
            ran, waited, _ = (task / "schedstat").read_text().split()
            busy[name, task.name] = int(ran) + int(waited)
        return busy

    def _awake(self):
        """The threads that run, or wait for a processor."""
        return {name for name, task in self._tasks()
                if (task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "R"}

    def wait_idle(self):
        """Waits until no thread is found awake twice, or has run more than half of the time in
        between. One that spins never sleeps, however much else the machine has to do."""
        def is_idle():
            before, begin = self._busy_ns(), time.monotonic_ns()
            spinning.clear()
            spinning.update(self._awake())
            time.sleep(.01)
            after, taken = self._busy_ns(), time.monotonic_ns() - begin
            busy = {thread: ns - before.get(thread, 0) for thread, ns in after.items()}
            spinning.intersection_update(self._awake())
            spinning.update({name for (name, _), ns in busy.items() if ns > taken / 2})
            return not spinning
        spinning = set()
        try:
            wait_until(is_idle, "no thread spins")
        except AssertionError:
            raise AssertionError(f"{spinning} spins:\n{self.stderr}") from None


# --- a round of traffic --------------------------------------------------------------------------

class Cut(Exception):
    """The daemon ended this connection, or refused what it was asked."""


class Peer:
    """A client that takes being cut off for an answer. While nothing comes and a lasting fault is
    on, the fault is ended: then all must go on."""

    def __init__(self, play, name, **options):
        self.play, self.name = play, name
        try:
            self.client = Client(play.address, **options)
        except OSError as error:
            raise Cut(f"connect: {error}") from None
        self.client.sock.settimeout(DEADLINE)
        play.peers.append(self)

    def send(self, data):
        try:
            self.client.send(data)
        except OSError as error:
            raise Cut(str(error)) from None

    def fill(self):
        """Reads once; Cut when the stream ends."""
        if not select.select([self.client.sock], [], [], .2)[0]:
            self.play.stalled()
        try:
            if not self.client.fill():
                raise Cut("end of stream")
        except ConnectionError as error:
            raise Cut(str(error)) from None
        except AssertionError as failure:
            raise AssertionError(f"{self.name}: {failure}") from None

    def item(self):
        """The next item."""
        while (item := self.client.take()) is None:
            self.fill()
        return item

    def line(self, follower=None):
        """The next answer; messages before it go to the follower."""
        while not isinstance(item := self.item(), Line):
            assert follower is not None, f"{self.name} got {item}"
            follower.take(item)
        return item

    def ask(self, command, follower=None):
        self.send(command + "\n")
        answer = self.line(follower)
        if answer.words[0] in ("ERR", "BYE"):
            raise Cut(answer)
        return answer

    def close(self):
        """At once: a subscriber that has only closed its side is kept for a while."""
        self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()


class Follower:
    """What one subscription has received."""

    def __init__(self, patterns, after):
        self.patterns, self.at, self.start = patterns, after, after
        self.items = []

    def take(self, item):
        if isinstance(item, Msg):
            assert item.id > self.at, f"{item.id} after {self.at}"
            self.at = item.id
        else:
            assert item.first == self.at + 1 and item.last >= item.first, \
                f"{item} after {self.at}"
            self.at = item.last
        self.items.append(item)

    def check(self, truth):
        """All that matches in `truth` (id -> message) from its start to where it is."""
        got = {i.id: i for i in self.items if isinstance(i, Msg)}
        gone = [i for i in self.items if isinstance(i, Gap)]
        for item in got.values():
            assert truth.get(item.id, item) == item, f"{item} is not {truth[item.id]}"
        for gap in gone:
            assert gap.reason == "retention", gap
        owed = {n for n, m in truth.items() if self.start < n <= self.at and
                matches_any(self.patterns, m.topic) and
                not any(g.first <= n <= g.last for g in gone)}
        assert set(got) >= owed, f"not delivered: {sorted(owed - set(got))[:9]}"
        extra = set(got) - owed
        assert all(n not in truth for n in extra), f"delivered in vain: {sorted(extra)[:9]}"


class Play:
    """The traffic of one round, and what it says of itself."""

    def __init__(self, daemon, name, reload):
        self.daemon, self.address, self.name, self.reload = daemon, daemon.address, name, reload
        self.peers, self.followers = [], []
        self.acknowledged, self.sent, self.refused = {}, set(), set()
        self.cuts = []
        self.serial = 0

    def message(self, topic, size=20):
        self.serial += 1
        payload = f"{self.name}.{self.serial}.".encode().ljust(size, b"x")
        self.sent.add((topic, payload))
        return topic, payload

    def run(self):
        """Every part on connections of its own: what happens to one must not touch the next."""
        try:
            with_patterns = self.part(self.subscribe)
            for part in (self.publish, self.pipeline, self.lines, self.look, self.slow,
                         self.resume):
                self.part(part)
            if with_patterns:
                self.part(self.finish, *with_patterns)
        finally:
            for peer in self.peers:
                peer.close()

    def stalled(self):
        """Nothing comes. With a shortage that may be, but nothing may spin; then it ends."""
        self.daemon.wait_idle()
        self.daemon.faults.disarm()

    def part(self, what, *arguments):
        try:
            return what(*arguments)
        except Cut as cut:
            self.cuts.append(f"{what.__name__}: {cut}")
            return None

    def subscribe(self):
        peer = Peer(self, "subscriber")
        patterns = ["t.*.a", "u.>", "t.one"]
        answer = peer.ask("SUB " + " ".join(patterns))
        follower = Follower(patterns, answer.id)
        self.followers.append(follower)
        return peer, follower

    def finish(self, peer, follower):
        """All that was published is there before the answer."""
        follower.at = max(follower.at, peer.ask("PING", follower).id)
        follower.at = max(follower.at, peer.ask("UNSUB t.one", follower).id)
        peer.send("QUIT\n")
        peer.line(follower)

    def publish(self):
        peer = Peer(self, "publisher")
        for topic, size in (("t.one", 20), ("u.x.y", 6000), ("t.b.a", 300)):
            message = self.message(topic, size)
            peer.send(put(*message))
            self.answered(peer.line(), message)
        message = self.message("t.c.a")
        self.answered(peer.ask(f"PUB {message[0]} {message[1].decode()}"), message)

    def answered(self, answer, message):
        if answer.words[0] == "OK":
            self.acknowledged[answer.id] = message
            return
        assert answer.words[0] == "ERR", answer
        self.refused.add(message)
        raise Cut(answer)

    def pipeline(self):
        """Without acknowledgements, larger than a segment, cut in the middle of a command."""
        peer = Peer(self, "pipeline")
        peer.ask("ACKS OFF")
        messages = [self.message("t.two", 3000) for _ in range(24)]
        data = b"".join(put(*m) for m in messages) + b"PING\n"
        peer.send(data[:31000])
        peer.send(data[31000:])
        answer = peer.line()
        if answer.words[0] != "PONG":
            raise Cut(answer)
        self.accepted(messages)

    def accepted(self, messages):
        for message in messages:
            self.acknowledged[-len(self.acknowledged) - 1] = message  # under whatever id

    def lines(self):
        peer = Peer(self, "lines")
        peer.ask("LINES u.lines")
        messages = [self.message("u.lines") for _ in range(5)]
        peer.send(b"".join(payload + b"\n" for _, payload in messages))
        try:
            peer.client.half_close()
        except OSError as error:
            raise Cut(str(error)) from None
        answer = peer.line()
        if answer.words[0] != "OK":
            raise Cut(answer)
        count, last = int(answer.words[1]), int(answer.words[2])
        assert count == len(messages), answer
        self.accepted(messages[:-1])
        self.acknowledged[last] = messages[-1]

    def look(self):
        peer = Peer(self, "look")
        assert peer.ask("INFO").startswith("INFO psad")
        peer.send("STATS\n")
        while (line := peer.line()) != "END":
            if line.words[0] != "STAT":
                raise Cut(line)
        self.reload()
        peer.ask("PING")
        cat = Peer(self, "cat")
        cat.send("CAT u.> LAST 3\n")
        try:
            while True:
                cat.fill()
        except Cut:
            pass  # as it is meant to end, too

    def slow(self):
        """A reader that has fallen behind what its socket takes."""
        peer = Peer(self, "slow", rcvbuf=4096)
        answer = peer.ask("SUB t.two")
        follower = Follower(["t.two"], answer.id)
        publisher = Peer(self, "flood")
        messages = [self.message("t.two", 4000) for _ in range(30)]
        publisher.ask("ACKS OFF")
        publisher.send(b"".join(put(*m) for m in messages) + b"PING\n")
        reached = publisher.line()
        if reached.words[0] != "PONG":
            raise Cut(reached)
        self.accepted(messages)
        self.followers.append(follower)
        while follower.at < reached.id:
            item = peer.item()
            if isinstance(item, Line):
                raise Cut(item)
            follower.take(item)
            if isinstance(item, Msg) and item.payload == messages[-1][1]:
                break

    def resume(self):
        first = self.followers[0] if self.followers else None
        after = first.start if first else 0
        peer = Peer(self, "resume")
        log = peer.ask("PING").position.split("@")[1]
        answer = peer.ask(f"SUB > AFTER {after}@{log}")
        follower = Follower([">"], after)
        assert answer.id == after, answer
        self.followers.append(follower)
        head = int(dict(w.split("=") for w in peer.ask("INFO", follower).words[3:])["head"])
        while follower.at < head:
            item = peer.item()
            if isinstance(item, Line):
                raise Cut(item)
            follower.take(item)

    # --- afterwards --------------------------------------------------------------------------

    def check(self, truth):
        """`truth`: id -> message, of all that the log took since the round began."""
        where = {(m.topic, m.payload): n for n, m in truth.items()}
        assert len(where) == len(truth), "one message has two ids"
        for message in where:
            assert message in self.sent, f"nobody sent {message[0]} {message[1][:40]}"
        for message in self.refused:
            assert message not in where, f"was refused, and is there: {message[1][:40]}"
        for number, message in self.acknowledged.items():
            at = where.get(message)
            assert at is not None, f"acknowledged, and gone: {message[0]} {message[1][:40]}"
            assert number < 0 or at == number, f"acknowledged as {number}, is {at}"
        for follower in self.followers:
            follower.check(truth)


def read_all(address, after=0):
    """id -> message, and the gaps, of what is kept; and the head."""
    client = Client(address)
    try:
        items, end = client.read(f"> AFTER {after}")
        assert end.startswith("END "), end
        messages = {i.id: i for i in items if isinstance(i, Msg)}
        gaps = [i for i in items if isinstance(i, Gap)]
        head = end.id
        covered = len(messages) + sum(g.last - g.first + 1 for g in gaps)
        assert covered == head - after, f"{covered} of {head - after} ids"
        return messages, gaps, head
    finally:
        client.close()


class Port:
    """An address of our own. Bound and never listening, so that nobody else is given the port."""

    def __init__(self):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self):
        self._socket.close()


def publish_when_possible(address, topic, payload):
    """Publishes one message, again and again while the shortage is not over for psad. Returns what
    was published; None: a sync had failed, nothing is taken any more."""
    last = []

    def goes():
        try:
            client = Client(address)
        except OSError as error:
            last[:] = [str(error)]
            return None
        try:
            client.send(put(topic, payload))
            answer = client.recv_line()
        except (AssertionError, OSError) as failure:
            last[:] = [str(failure)]
            return None
        finally:
            client.close()
        if answer.startswith("ERR log-failed"):
            return "failed"
        last[:] = [answer]
        return Msg(answer.id, topic, payload) if answer.startswith("OK ") else None
    try:
        got = wait_until(goes, "a message can be published again")
    except AssertionError as failure:
        raise AssertionError(f"{failure}: {last}") from None
    return None if got == "failed" else got
