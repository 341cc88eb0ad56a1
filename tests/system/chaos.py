# SPDX-License-Identifier: MIT
"""Chaos: clients of all manners at work, while one misfortune after the other comes over their
broker; and what they saw is judged by history.py.

    tests/system/chaos.py SETTING [--seconds 60] [--seed N] [--report FILE] [--home DIRECTORY]

does it by itself; test_chaos.py has a short run of each setting, tests/soak long ones. A run is
made of parts of some seconds. At the end of each all is well again, everybody gets what is due, and
the history of the part is judged and forgotten. Everything that is decided comes from the seed,
which is printed: a run can be repeated as far as threads allow."""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import nemesis
import network
import power
from client import DEADLINE, FLAVOUR, SMALL, wait_until
from durable import Durable, SmallDisk, may_mount
from guests import Guest
from history import History
from nemesis import KIB, MIB, SEGMENT
from swarm import Swarm, look, read_everything
from traffic import Job

TOPICS = ["a", "b.x", "b.y", "c.x.y", "d"]
PART_SECONDS = 12
PART_MESSAGES = 20000 if SMALL else 60000  # of one history, for the sake of our own memory
DISK_SIZE = "24M"
LAST_WORDS = 40  # lines of standard error that a failure shows
# The broker that lives long is measured at the end of each part. Baseline is the most that is
# measured in the first part of its time; and what may be resident later beyond that are the log's
# two segments above retain_bytes (SPEC.md, promise 9), and half a megabyte for each thread's
# scratch memory and allocator, of which some is touched for the first time only late.
WARM_UP_SECONDS = 60
FLAT_BYTES, FLAT_BYTES_PER_THREAD = 2 * SEGMENT, 512 * KIB


class Setting(NamedTuple):
    name: str
    options: dict = {}
    nemeses: tuple = ()
    is_durable: bool = False
    has_power: bool = False  # its power can be cut
    has_small_disk: bool = False
    has_network: bool = False  # between it and its clients
    must_be_flat: bool = False  # it lives long, and is measured at the end
    patience: object = None  # of its clients

    @property
    def reasons(self):
        """Of gaps that may be told."""
        return ["retention"] + ["void"] * self.is_durable + ["lost"] * self.has_power


GENTLE = (nemesis.stop, nemesis.reload_storm, nemesis.retention_jump, nemesis.use_up_descriptors,
          nemesis.burst)
DEADLY = (nemesis.kill, nemesis.kill, nemesis.restart)
SYNC = {
    "no": {"log.fsync": "no"},
    "interval": {"log.fsync": "interval", "log.fsync_interval": "20ms"},
    "always": {"log.fsync": "always"},
}
SETTINGS = {setting.name: setting for setting in [
    # Each death ends its log, so there are fewer.
    Setting("memory", nemeses=GENTLE * 2 + (nemesis.kill, nemesis.restart)),
    Setting("long-lived", nemeses=GENTLE, must_be_flat=True),
    *(Setting(f"durable-{mode}", SYNC[mode], GENTLE + DEADLY + (nemesis.fill_disk,),
              is_durable=True, has_small_disk=True) for mode in SYNC),
    # What simulates the power needs descriptors of its own, so they are not used up here.
    *(Setting(f"power-{mode}", SYNC[mode],
              (*(n for n in GENTLE if n is not nemesis.use_up_descriptors), nemesis.kill,
               nemesis.power_cut, nemesis.power_cut, nemesis.restart),
              is_durable=True, has_power=True) for mode in SYNC),
    Setting("hosts", {"log.fsync": "no"}, (nemesis.cut_cable,) * 4 + (nemesis.change_weather,) * 3 +
            (nemesis.stop, nemesis.kill, nemesis.restart, nemesis.burst),
            is_durable=True, has_network=True, patience=3),
]}


def why_not(setting):
    """Why this machine cannot do it; None: it can."""
    if setting.has_network:
        return network.why_not()
    if setting.has_power and FLAVOUR:
        return "the library that cuts the power is not for sanitizers"
    if setting.has_power and shutil.which("cc") is None:
        return "no compiler to build power.c with"
    return None


class Machine(Durable):
    """The broker and its directories; memory or files, through all its lives."""

    def __init__(self, home, log_dir, config, env=None, prefix=()):
        super().__init__(home, env=env, config=config)
        if log_dir:
            self.dir = log_dir
        self._is_durable = log_dir is not None
        self.prefix = prefix

    def start(self, *options):
        """Of those before it nothing is kept, for there may be thousands."""
        super().start(*options)
        for broker in self.lives[:-1]:
            broker.forget()
        del self.lives[:-1]
        return self.broker

    def move_to(self, address):
        """Where nobody else can take the port."""
        self.address = address

    def arguments(self, *options):
        return (*([f"log.dir={self.dir}"] if self._is_durable else []), *self.options, *options)


class Life:
    """What was measured of one process."""

    def __init__(self, broker):
        self.pid = broker.process.pid
        self.begin = time.monotonic()
        self.samples = 0
        self.first = self.last = self.most = None

    def sample(self):
        """True while it lives."""
        now = measure(self.pid)
        if now is None:
            return False
        self.samples += 1
        self.first = self.first or now
        self.most = {k: max(v, self.most[k]) for k, v in now.items()} if self.most else now
        self.last = now
        self.seconds = time.monotonic() - self.begin
        return True


def measure(pid):
    """Resident bytes, descriptors, threads and mappings of a process; None: it is no more."""
    try:
        status = dict(line.split(":", 1) for line in
                      Path(f"/proc/{pid}/status").read_text().splitlines())
        return {"rss": int(status["VmRSS"].split()[0]) * 1024,
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "threads": int(status["Threads"]),
                "mappings": len(Path(f"/proc/{pid}/maps").read_text().splitlines())}
    except (OSError, KeyError):
        return None


def open_files(pid):
    """What the descriptors of a process stand for."""
    names = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(path))
    return sorted(names)


class Chaos:
    def __init__(self, setting, home, seed, seconds, report=None):
        self.setting, self.home, self.seed, self.seconds = setting, Path(home), seed, seconds
        self.random = random.Random(f"{seed} {setting.name}")
        self.report = report
        self.tally = collections.Counter()
        self.lives = []
        self.longest = None
        self.most = {}  # of each measure, in any life
        self.flat = {}  # what was measured: "baseline", "end", and "series" of resident bytes
        self.begin = time.monotonic()
        self.interrupted = threading.Event()
        self.kept = 4 * MIB  # bytes of log, normally
        self.keys = {}
        self.payload = 0  # makes each configuration another one
        self.parts = 0
        self.history = History()
        self.swarm = self.machine = self.network = self.supply = None
        self.positions = {}
        self.is_new_log = False

    # --- the broker --------------------------------------------------------------------------

    @property
    def broker(self):
        return self.machine.broker

    @property
    def addresses(self):
        """Clients come by TCP and by the Unix socket; between hosts by TCP only."""
        tcp = [self.machine.address]
        return tcp if self.setting.has_network else tcp + [f"unix:{self.socket}"]

    def client(self):
        """A connection of our own, that no cable is cut for."""
        return self.broker.client(self.control_address)

    @property
    def control_address(self):
        return f"unix:{self.socket}"

    @property
    def new_socket(self):
        return self.network.socket if self.network else socket.socket

    def info(self):
        return self.broker.info()

    def wait_stats(self, condition, what):
        def holds():
            self.swarm.look_after()
            return condition(self.broker.stats())
        wait_until(holds, what)

    def wait_served(self):
        """A new client is let in and answered, on each address that works now."""
        for address in [self.control_address] if self.setting.has_network else self.addresses:
            def served():
                try:
                    client = self.broker.try_client(address=address)
                except OSError:
                    return False
                if isinstance(client, str):
                    return False
                client.close()
                return True
            wait_until(served, f"a new client is let in at {address}")
        self.broker.forget_clients()

    def start(self):
        self.configure(**{"server__workers": self.random.randrange(1, 5)})
        broker = self.machine.start()
        broker.control_address = self.control_address
        if self.lives:
            self.retire()
        self.lives.append(Life(broker))

    def retire(self):
        """A life has ended: only the longest is remembered in full."""
        life = self.lives.pop()
        self.tally["lives"] += 1
        if life.samples and (self.longest is None or life.seconds > self.longest.seconds):
            self.longest = life

    def end_life(self, how):
        """The broker is to die: in memory its log dies with it."""
        if self.setting.must_be_flat:
            raise AssertionError("this one is to live: the nemesis is wrong")
        look(self.broker, self.history)
        self.lives[-1].sample()
        if self.swarm:
            self.swarm.life += 1
        how()
        if self.swarm:
            self.swarm.life += 1
        if not self.setting.is_durable:
            self.is_new_log = True
            self.leave()

    # --- its configuration -------------------------------------------------------------------

    def write(self, text):
        """At once, as an editor does it."""
        fresh = self.config.with_suffix(".new")
        fresh.write_bytes(text.encode() if isinstance(text, str) else text)
        fresh.rename(self.config)

    def configure(self, **changes):
        """section__key = value. Each configuration has a max_payload of its own."""
        self.payload = self.payload % 7000 + 1
        for name, value in changes.items():
            self.keys[name.replace("__", ".")] = str(value)
        self.keys["limits.max_payload"] = str(20 * KIB + self.payload)
        sections = collections.defaultdict(list)
        for name, value in self.keys.items():
            section, key = name.split(".")
            sections[section].append(f"{key} = {value}\n")
        self.write("".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items()))

    def reload(self, **changes):
        """Returns when the broker works by it: INFO tells its max_payload."""
        self.tally["reloads"] += 1
        self.configure(**changes)
        self.broker.signal(signal.SIGHUP)
        wanted = int(self.keys["limits.max_payload"])
        wait_until(lambda: self.info()["max_payload"] == wanted, "the configuration is taken over")

    # --- the clients -------------------------------------------------------------------------

    def people(self):
        """Publishers of all kinds; subscribers from the beginning and live, to all and to some,
        quick and lazy; guests. Subscribers go on where they were in the part before."""
        swarm = self.swarm = Swarm(self.addresses, self.history, self.setting.patience,
                                   self.new_socket)
        self.parts += 1
        seed = self.random.randrange(1 << 30)
        pause = self.random.choice([0, .02, .1])  # a full log moves on fast, an idle one sleeps
        for n in range(3):
            swarm.publisher(f"p{self.parts}.{n}", TOPICS, seed + n, pause=pause)
        for n, (patterns, live, lazy) in enumerate([
                ([">"], False, 0), ([">"], True, 0), (["b.*", "d.>"], False, 0), (["a"], True, 0),
                (["a.>", "c.>", "b.x"], False, .02), ([">"], False, .05)]):
            swarm.subscriber(f"s{n}", patterns, seed + 100 + n, live=live, lazy=lazy,
                             position=self.positions.get(f"s{n}"))
        for n in range(3):
            swarm.guest(Guest(swarm, f"g{self.parts}.{n}", seed + 200 + n))

    def remember(self):
        self.positions = {s.follower.name: s.position for s in self.swarm.subscribers}
        self.tally["guests"] += sum(guest.visits for guest in self.swarm.guests)
        self.tally["refusals"] += sum(p.refusals for p in self.swarm.publishers)

    def leave(self):
        """The log is gone: what was seen of it is judged as it stands."""
        self.swarm.leave()
        self.remember()
        self.judge(None)
        self.history = History()

    # --- a run -------------------------------------------------------------------------------

    def run(self):
        """Chaos for the time given. An AssertionError says what is wrong."""
        print(f"chaos: {self.setting.name}, seed {self.seed}, {self.seconds:.0f} s", flush=True)
        sampling = threading.Event()
        sampler = threading.Thread(target=self.sample, args=(sampling,), daemon=True)
        end = time.monotonic() + self.seconds
        with contextlib.ExitStack() as stack:
            try:
                self.prepare(stack)
                self.start()
                sampler.start()
                while self.parts == 0 or time.monotonic() < end and not self.interrupted.is_set():
                    self.part(end)
                    if self.setting.must_be_flat:
                        self.check_flat()
                self.machine.stop()
                self.retire()
            except BaseException as failure:
                self.tally["failures"] += 1
                raise AssertionError(self.describe(failure)) from failure
            finally:
                sampling.set()
                self.release()
                self.write_report()

    def prepare(self, stack):
        setting = self.setting
        self.config = self.home / "psad.conf"
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="psad-chaos-"))
        self.socket = Path(sockets) / "s"
        self.disk = None
        env, log_dir, prefix = None, None, ()
        if setting.has_small_disk and may_mount():
            self.disk = stack.enter_context(SmallDisk(self.home / "disk", DISK_SIZE))
            log_dir = self.disk / "log"
        elif setting.is_durable:
            log_dir = self.home / "log"
        self.nemeses = [n for n in setting.nemeses if n is not nemesis.fill_disk or self.disk]
        if setting.has_power:
            log_dir.mkdir(mode=0o700)
            self.supply = power.Power(power.build(self.home), log_dir, self.home / "power",
                                      self.random.choice([0, 0, 2000]))
            env = self.supply.environment
        if setting.has_network:
            self.network = stack.enter_context(network.Network(self.random.randrange(1 << 30)))
            prefix = self.network.prefix
        self.machine = Machine(self.home, log_dir, self.config, env, prefix)
        stack.callback(self.machine.abandon)
        if setting.has_network:
            self.machine.move_to(self.network.server_address)
        if self.supply:
            self.machine.before_start = self.supply.settle
        self.keys = {
            "server.drain_timeout": "1s", "listen.unix": self.socket,
            "log.segment_size": SEGMENT, "log.retain_bytes": self.kept,
            "limits.input_memory": "8M", "limits.send_buffer": "32K",
            # Where no cable is cut there are no timers soon to hide that a wake-up was lost.
            "limits.keepalive": "1s" if setting.has_network else "60s",
            "limits.max_patterns": "50", "limits.put_timeout": "5s", **setting.options}
        if setting.has_network:
            self.keys["listen.insecure"] = "yes"

    def part(self, end):
        """Some seconds of it, and the judgement."""
        self.people()
        seconds = PART_SECONDS
        if self.setting.must_be_flat:
            seconds = min(PART_SECONDS, self.seconds / 4)  # so that there is something to compare
        until = min(end, time.monotonic() + seconds)
        self.swarm.wait_acknowledged(20)
        self.is_new_log = False
        while not self.interrupted.is_set() and time.monotonic() < until and \
                self.history.acknowledged_count < PART_MESSAGES:
            look(self.broker, self.history)
            self.random.choice(self.nemeses)(self)
            if self.is_new_log:
                return  # judged already
            self.swarm.wait_acknowledged(self.random.choice([1, 20, 200]))
        self.settle()

    def settle(self):
        """All is well again: everybody gets what is due."""
        if self.network:
            self.network.set("clear")
        self.swarm.stop_publishing()
        self.broker.forget_clients()
        head = look(self.broker, self.history)["head"]
        if not self.network:  # else it may hang on a connection of which its peer knows nothing
            head = self.publish_in_the_quiet(head)
        self.swarm.finish(head)
        self.remember()
        read_everything(self.broker, self.history, f"reader of part {self.parts}")
        self.judge(head)
        head = max([head, *self.history.judged])
        self.history = self.history.successor(head, self.info()["first"])

    def publish_in_the_quiet(self, head):
        """All that was published comes to everybody by itself, and so do single messages now that
        nothing else would wake anybody. Returns the head."""
        link = self.history.link("in the quiet")
        self.swarm.wait_delivered(head)
        for n in range(6):
            payload = b"quiet %d of %d" % (n, self.parts)
            p = link.sent("a", payload)
            head = self.broker.publish("a", payload)
            link.acknowledged(p, head)
            self.swarm.wait_delivered(head)
        return head

    def judge(self, head):
        history = self.history
        always = self.keys.get("log.fsync") == "always"
        history.check(head, self.setting.reasons, synced="all" if always else "observed")
        self.tally.update(history.figures())

    # --- what it costs -----------------------------------------------------------------------

    def check_flat(self):
        """All clients are gone: memory and descriptors are what they were after the first part."""
        self.reload(log__retain_bytes=4 * SEGMENT)
        self.sweep()
        wait_until(lambda: self.broker.stats()["log_bytes"] <= 6 * SEGMENT, "the log is small")
        self.broker.hang_up()
        pid = self.broker.process.pid
        if not self.flat:
            listeners = 2  # TCP and Unix
            wait_until(lambda: sum(name.startswith("socket:") for name in open_files(pid)) ==
                       listeners, "no socket is open but those that listen")
            self.flat["baseline"] = measure(pid)
        before = self.flat["baseline"]
        if time.monotonic() < self.begin + min(WARM_UP_SECONDS, self.seconds / 3):
            before["rss"] = max(before["rss"], measure(pid)["rss"])
        most = before["rss"] + FLAT_BYTES + FLAT_BYTES_PER_THREAD * before["threads"]

        def is_flat():
            now = self.flat["end"] = measure(pid)
            return now["descriptors"] == before["descriptors"] and \
                now["threads"] == before["threads"] and (FLAVOUR or now["rss"] <= most)
        try:
            wait_until(is_flat, "it")
        except AssertionError:
            raise AssertionError(
                f"with all clients gone it does not come back to what it was after the first part: "
                f"{before} became {self.flat['end']}; open are {open_files(pid)}") from None
        self.flat.setdefault("series", []).append(self.flat["end"]["rss"])
        self.reload(log__retain_bytes=self.kept)

    def sweep(self):
        """Half-closed subscribers that have gone are noticed at the next message, so they get one
        now and then until all are gone."""
        link = self.history.link("sweeper")
        numbers = iter(range(1 << 30))

        def gone():
            if self.broker.stats()["connections"] == 1:
                return True
            for topic in TOPICS:
                payload = b"sweep %d of %d" % (next(numbers), self.parts)
                p = link.sent(topic, payload)
                link.acknowledged(p, self.broker.publish(topic, payload))
            self.wait(.1)
            return False
        wait_until(gone, "all connections are gone")

    def sample(self, over):
        """In a thread of its own."""
        written = 0
        while not over.wait(.5):
            with contextlib.suppress(IndexError):
                life = self.lives[-1]
                if life.sample():
                    self.most = {k: max(v, self.most.get(k, 0)) for k, v in life.most.items()}
            if time.monotonic() > written + 5:
                written = time.monotonic()
                self.write_report()

    def write_report(self):
        if not self.report:
            return
        lives = [life for life in [self.longest, *self.lives] if life and life.samples]
        longest = max(lives, key=lambda life: life.seconds, default=None)
        fresh = Path(f"{self.report}.new")
        fresh.write_text(json.dumps({
            "setting": self.setting.name, "seed": self.seed, "tally": dict(self.tally),
            "parts": self.parts, "flat": self.flat, "most": self.most,
            "acknowledged now": self.history.acknowledged_count,
            "longest life": longest and {
                "seconds": round(longest.seconds), "first": longest.first, "most": longest.most,
                "last": longest.last}}))
        fresh.rename(self.report)

    def wait(self, seconds):
        self.interrupted.wait(seconds)

    # --- the end -----------------------------------------------------------------------------

    def release(self):
        """No client is left behind, whatever has happened."""
        if self.swarm:
            self.swarm.is_over = True
            self.swarm.stop.set()

    def describe(self, failure):
        """Everything that one needs to look into it; and what is there to look at is kept."""
        words = []
        if self.machine and self.machine.lives:
            if self.disk:
                shutil.copytree(self.disk, self.home / "kept", dirs_exist_ok=True)
            words = self.broker.stderr.splitlines()[-LAST_WORDS:]
        said = str(failure) or repr(failure)
        for thread in threading.enumerate():
            if isinstance(thread, Job):
                frames = traceback.format_stack(sys._current_frames().get(thread.ident))
                said += f"\nstill at work:\n{''.join(frames[-3:])}"
        return (f"{self.setting.name} with seed {self.seed}, part {self.parts}, after "
                f"{dict(self.tally)}:\n{said}\nIt is kept in {self.home}. psad said at last:\n  " +
                "\n  ".join(words))


def main():
    parser = argparse.ArgumentParser(description="Chaos around one broker, and what became of it.")
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--report", help="a file that always holds the figures so far")
    parser.add_argument("--home", help="a directory for it, which is kept; without it one is made "
                        "that is kept where something was wrong")
    options = parser.parse_args()
    setting = SETTINGS[options.setting]
    if reason := why_not(setting):
        print(f"skipped: {reason}")
        return 77
    home = Path(options.home or tempfile.mkdtemp(prefix="chaos-"))
    home.mkdir(parents=True, exist_ok=True)
    chaos = Chaos(setting, home, options.seed, options.seconds, options.report)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: chaos.interrupted.set())
    try:
        chaos.run()
    except AssertionError as failure:
        print(failure, flush=True)
        return 1
    if not options.home:
        shutil.rmtree(home, ignore_errors=True)
    print(f"well: {dict(chaos.tally)} {chaos.flat or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
