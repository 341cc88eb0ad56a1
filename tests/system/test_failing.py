# SPDX-License-Identifier: MIT
"""Whatever call fails, at whatever moment: psad does not crash, hang, spin or leak, and no message
that was acknowledged is lost.

The n-th call of one group (failing.c) is made to fail: n = 1, 2 and so on until a run needs fewer.
All of them are tried with PSAD_FAIL_ALL=1, some groups alone with PSAD_FAIL_GROUPS="alloc open";
else the first of each group and a few of the rest, by a seed that a failure names (PSAD_FAIL_SEED).
PSAD_FAIL_REPORT names a file that gets a line for each trial."""

import contextlib
import os
import random
import shutil
import signal
from collections import Counter

import pytest

from client import FLAVOUR, SMALL, Client, wait_until
from durable import flip
from failing import (LASTING, WAYS, Daemon, Faults, Play, Port, build, publish_when_possible,
                     read_all)

pytestmark = [
    pytest.mark.skipif(FLAVOUR == "tsan", reason="the library is not for ThreadSanitizer"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler to build failing.c with"),
]

ONLY = os.environ.get("PSAD_FAIL_GROUPS", "").split()
ALL = os.environ.get("PSAD_FAIL_ALL") == "1"
SEED = int(os.environ.get("PSAD_FAIL_SEED", random.randrange(1 << 32)))
SHARES = 3
FOR_EVER = 1 << 40
COMMON = ("log.segment_size=64K", "log.retain_bytes=1M", "limits.max_payload=16K",
          "limits.send_buffer=16K", "server.workers=2", "server.drain_timeout=500ms")
CONFIGURATION = "[limits]\nmax_patterns = {}\n[log]\nretain_messages = {}\n"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("failing"))


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    """A log that was killed in the middle of its fourth segment, and the same one after a stop;
    and all their messages."""
    home = tmp_path_factory.mktemp("logs")
    port = Port()
    daemon = Daemon(home, None, *COMMON, "log.dir=killed", address=port.address)
    assert daemon.wait_start()
    client = Client(port.address)
    client.publish_all((f"old.{n % 7}", b"%d." % n + bytes(n * 97 % 5000)) for n in range(80))
    client.close()
    messages, _, _ = read_all(port.address)
    daemon.kill()
    shutil.copytree(home / "killed", home / "stopped")
    daemon = Daemon(home, None, *COMMON, "log.dir=stopped", address=port.address)
    assert daemon.wait_start()
    assert daemon.stop() == 0
    port.close()
    shutil.copytree(home / "stopped", home / "damaged")
    last = max(path for path in (home / "damaged").glob("*.seg") if b"MSG 80 " in path.read_bytes())
    flip(last, last.read_bytes().find(b"MSG 80 ") + 20)
    return home, messages


class Stage:
    """A directory, an address, and the daemons that run there with their faults."""

    def __init__(self, home, library):
        self.home, self.port = home, Port()
        self.faults = Faults(library, home)
        self.daemon = None
        self.configure(100)

    def configure(self, number):
        (self.home / "psad.conf").write_text(CONFIGURATION.format(number, number * 1000))

    def start(self, *options):
        self.daemon = Daemon(self.home, self.faults, *COMMON, *options,
                             arguments=["-c", "psad.conf"], address=self.port.address)
        return self.daemon

    def tell(self, case, trial, outcome, calls):
        """With PSAD_FAIL_REPORT, a file: one line for each trial."""
        report = os.environ.get("PSAD_FAIL_REPORT")
        if report:
            group, way, n, times = trial
            with open(report, "a", encoding="ascii") as file:
                file.write(f"{self.kind} {case} {group} {calls[group]} {way} {n} {times} "
                           f"{outcome}\n")

    def end(self):
        if self.daemon and self.daemon.process.poll() is None:
            self.daemon.kill()
        self.port.close()


@pytest.fixture
def stage(request, tmp_path, library):
    stage = Stage(tmp_path, library)
    stage.kind = request.function.__name__
    yield stage
    stage.end()


def trials(calls, lengths, count, what):
    """(group, way, n, times) of all that can fail in a run that makes so many calls; or `count` of
    each group, with its first call among them."""
    count = 1 if SMALL else count
    for group, ways in WAYS.items():
        if ONLY and group not in ONLY:
            continue
        possible = [(group, way, n, times) for times in lengths for way in ways
                    if times != FOR_EVER or way in LASTING
                    for n in range(1, calls.get(group, 0) + 1)]
        if ALL or len(possible) <= count:
            yield from possible
        else:
            randomly = random.Random(f"{SEED} {what} {group}")
            yield possible[0]
            yield from sorted(randomly.sample(possible[1:], count - 1))


def share_of(everything, share):
    """Tests run in parallel: each takes the groups that are its own."""
    groups = sorted(WAYS)
    return (trial for trial in everything if groups.index(trial[0]) % SHARES == share)


@contextlib.contextmanager
def naming(case, trial, daemon=lambda: None):
    """Says which call it was."""
    group, way, n, times = trial
    try:
        yield
    except AssertionError as failure:
        said = daemon().stderr[-2000:] if daemon() else ""
        raise AssertionError(f"{case}: call {n} of {group} fails with {way}, {times} times "
                             f"(PSAD_FAIL_SEED={SEED}): {failure}\n{said}") from failure


# ---- starting ------------------------------------------------------------------------------------

STARTS = {
    "memory": (),
    "unix": ("listen.unix=psad.sock",),
    "new": ("log.dir=log/of/psad", "log.fsync=always"),
    "killed": ("log.dir=log", "log.fsync=always"),
    "stopped": ("log.dir=log", "log.fsync=interval"),
}


def prepare(stage, logs, case):
    """The directory as the daemon finds it; returns the messages there."""
    home, messages = logs
    shutil.rmtree(stage.home / "log", ignore_errors=True)
    (stage.home / "psad.sock").unlink(missing_ok=True)
    if case in ("killed", "stopped", "damaged"):
        shutil.copytree(home / case, stage.home / "log")
        return dict(messages)
    return {}


def serves(stage, messages, what):
    """Everything is there, and more is taken."""
    found, _, _ = read_all(stage.port.address)
    assert found == messages, f"{set(messages) ^ set(found)}"
    message = publish_when_possible(stage.port.address, "new", what.encode())
    if message is not None:
        messages[message.id] = message
    found, _, _ = read_all(stage.port.address)
    assert found == messages


def start_with(stage, logs, case, group, way, n, times):
    """One start in which the n-th call fails, and times - 1 after it; returns the outcome."""
    messages = prepare(stage, logs, case)
    durable = "log" in " ".join(STARTS[case])
    stage.faults.reset()
    stage.faults.arm(group, way, n, times)
    daemon = stage.start(*STARTS[case])
    speaks = group != "write"
    is_ready = daemon.wait_start(speaks)
    fired = stage.faults.fired > 0
    stage.faults.disarm()
    if is_ready:
        serves(stage, messages, "first")
        daemon.wait_idle()
        status = daemon.stop()
        assert status == 0, f"status {status} at the end:\n{daemon.stderr}"
    else:
        status = daemon.end()
        assert status in (1, 2), f"status {status}:\n{daemon.stderr}"
        said = daemon.stderr.splitlines()
        if speaks:
            assert said and said[-1].startswith("psad: "), f"does not say why: {said}"
        if group not in ("stat", "unlink"):  # by which it sees that it is its own, and removes it
            assert not (stage.home / "psad.sock").exists(), "its Unix socket was left behind"
    if durable and fired:
        daemon = stage.start(*STARTS[case])
        assert daemon.wait_start(), f"does not start again:\n{daemon.stderr}"
        serves(stage, messages, "second")
        assert daemon.stop() == 0, daemon.stderr
    return "not reached" if not fired else "starts" if is_ready else f"exits with {status}"


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("case", STARTS)
def test_a_start_fails_as_a_whole_or_not_at_all(stage, logs, case, share):
    prepare(stage, logs, case)
    daemon = stage.start(*STARTS[case])
    assert daemon.wait_start()
    calls = stage.faults.calls()
    assert daemon.stop() == 0
    for trial in share_of(trials(calls, (1, FOR_EVER), 3, case), share):
        with naming(case, trial, lambda: stage.daemon):
            stage.tell(case, trial, start_with(stage, logs, case, *trial), calls)


# ---- serving -------------------------------------------------------------------------------------

SERVING = {
    "memory": (),
    "interval": ("log.dir=log", "log.fsync=interval", "log.fsync_interval=10ms"),
    "always": ("log.dir=log", "log.fsync=always"),
}
SOME = 12  # calls: about as many as one connection makes in its life


class Service:
    """One daemon after the other on the same log, each for as many rounds as it survives."""

    def __init__(self, stage, case):
        self.stage, self.options = stage, SERVING[case]
        self.is_durable = bool(self.options)
        self.kept, self.head, self.rounds, self.cuts, self.lives = {}, 0, 0, 0, 0
        self.baseline = None
        self.start()

    @property
    def address(self):
        return self.stage.port.address

    def start(self):
        self.stage.faults.reset()
        self.daemon = self.stage.start(*self.options)
        assert self.daemon.wait_start(), self.daemon.stderr
        if self.is_durable:
            found, _, self.head = read_all(self.address)
            for number, message in self.kept.items():
                assert found.get(number) == message, f"{message} is gone after a restart"
        else:
            self.kept, self.head = {}, 0
        self.lives += 1
        self.round()  # what is made once is made, and the descriptors are as they stay
        self.baseline = self.settled_descriptors()

    def settled_descriptors(self):
        """Without those of segments, which come and go; none of them may be there twice."""
        seen = []

        def settled():
            names = self.daemon.descriptors()
            files = [n for n in names if ".seg" in n or "(deleted)" in n]
            rest = [n for n in names if n not in files]
            seen[:] = names
            if len(files) != len(set(files)) or any("(deleted)" in n for n in files):
                return None
            is_alone = rest.count("socket") == 1  # that listens
            return rest if self.baseline == rest or not self.baseline and is_alone else None
        try:
            return wait_until(settled, "descriptors are closed")
        except AssertionError as failure:
            more, less = (Counter(a) - Counter(b) for a, b in (
                (seen, self.baseline or []), (self.baseline or [], seen)))
            raise AssertionError(f"{failure}: more {dict(more)}, less {dict(less)}") from None

    def reload(self):
        self.stage.configure(100 + self.rounds % 7)
        self.daemon.process.send_signal(signal.SIGHUP)

    def round(self, group=None, way=None, n=0, times=1):
        """One round, in which the n-th call fails; returns whether it did."""
        faults = self.stage.faults
        play = Play(self.daemon, f"{self.lives}.{self.rounds}", self.reload)
        self.rounds += 1
        if group:
            faults.arm(group, way, n, times)
        play.run()
        if times == FOR_EVER and self.daemon.process.poll() is None:
            self.daemon.wait_idle()
        fired = faults.fired > 0
        faults.disarm()
        assert self.daemon.process.poll() is None, f"psad has ended: {self.daemon.end()}"
        assert group or not play.cuts, play.cuts
        self.cuts += len(play.cuts)
        message = publish_when_possible(self.address, "after", play.name.encode())
        if group == "sync" and faults.synced.endswith(".seg"):  # not one that is being made
            while message is not None:  # it may be about to find out
                play.sent.add((message.topic, message.payload))
                message = publish_when_possible(self.address, "after", b"%d" % message.id)
                assert len(play.sent) < 1000, "a sync failed, and more is taken"
        found, gaps, head = read_all(self.address, self.head)
        assert not gaps, f"more was published than is kept: {gaps}"
        if message is not None:
            assert found.get(message.id) == message, message
            play.sent.add((message.topic, message.payload))
        play.check(found)
        self.daemon.wait_idle()
        if self.baseline is not None:
            self.settled_descriptors()
        self.kept = {m.id: m for m in found.values()}
        self.head = head
        if message is None:
            self.restart()
        return fired

    def restart(self):
        status = self.daemon.stop()
        assert status == 0, f"status {status}:\n{self.daemon.stderr}"
        self.start()


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("case", SERVING)
def test_a_failure_while_serving_costs_one_connection_at_most(stage, case, share):
    service = Service(stage, case)
    before = stage.faults.calls()
    service.round()
    calls = {group: n - before[group] for group, n in stage.faults.calls().items()}
    for trial in share_of(trials(calls, (1, SOME, FOR_EVER), 3, case), share):
        with naming(case, trial, lambda: stage.daemon):
            cuts, lives = service.cuts, service.lives
            fired = service.round(*trial)
            stage.tell(case, trial, "not reached" if not fired else
                       "log failed, restarted" if service.lives > lives else
                       "connections cut" if service.cuts > cuts else "nothing lost", calls)
    service.restart()
    assert service.daemon.stop() == 0, service.daemon.stderr


def test_a_listener_that_can_not_be_watched_again_is_tried_again(stage):
    daemon = stage.start()
    assert daemon.wait_start()
    for _ in range(3):
        stage.faults.arm("accept", "EMFILE", 1, FOR_EVER)
        waiting = Client(daemon.address)
        wait_until(lambda: stage.faults.fired, "accepting pauses")
        stage.faults.arm("epoll_ctl", "ENOMEM", 1)  # while it does
        wait_until(lambda: stage.faults.fired, "the listener is added again")
        waiting.close()
        client = Client(daemon.address)
        assert client.ask("PING").startswith("PONG")
        client.close()
    assert daemon.stop() == 0


# ---- stopping ------------------------------------------------------------------------------------

def stop_with(stage, case, group, way, n, times):
    """The n-th call after SIGTERM fails; returns the outcome."""
    shutil.rmtree(stage.home / "log", ignore_errors=True)
    stage.faults.reset()
    daemon = stage.start(*SERVING[case])
    assert daemon.wait_start()
    client = Client(daemon.address)
    client.ok("SUB > AFTER 0")
    publisher = Client(daemon.address)
    ids = publisher.publish_all(("t", b"%d" % k + bytes(1000)) for k in range(40))
    if group:
        stage.faults.arm(group, way, n, times)
    daemon.process.send_signal(signal.SIGTERM)
    for one in (client, publisher):
        one.drain(reset_ok=True)
        one.close()
    status = daemon.end()
    fired = stage.faults.fired > 0
    stage.faults.disarm()
    assert status == 0, f"status {status}"
    if SERVING[case] and fired:
        daemon = stage.start(*SERVING[case])
        assert daemon.wait_start(), "does not start again"
        found, _, _ = read_all(daemon.address)
        assert [found[n].payload[:-1000] for n in ids] == [b"%d" % k for k in range(40)]
        assert daemon.stop() == 0
    return "in good order" if fired else "not reached"


@pytest.mark.parametrize("case", SERVING)
def test_a_failure_while_stopping_neither_hangs_it_nor_loses_a_message(stage, case):
    stop_with(stage, case, None, None, 0, 0)
    stage.faults.reset()
    daemon = stage.start(*SERVING[case])
    assert daemon.wait_start()
    before = stage.faults.calls()
    assert daemon.stop() == 0
    calls = {group: n - before[group] for group, n in stage.faults.calls().items()}
    for trial in trials(calls, (1, FOR_EVER), 2, case):
        with naming(case, trial, lambda: stage.daemon):
            stage.tell(case, trial, stop_with(stage, case, *trial), calls)


# ---- the tools -----------------------------------------------------------------------------------

TOOLS = {"dump": "killed", "new-log-id": "stopped", "repair": "damaged"}


def use_tool(stage, tool):
    daemon = stage.daemon = Daemon(stage.home, stage.faults, arguments=[f"--{tool}", "log"])
    status = daemon.end()
    return status, (stage.home / "stdout").read_bytes(), daemon.stderr


def tool_with(stage, logs, tool, expected, group, way, n, times):
    """The n-th call of a tool fails: it says so, and can be used again."""
    messages = prepare(stage, logs, TOOLS[tool])
    stage.faults.reset()
    stage.faults.arm(group, way, n, times)
    status, output, said = use_tool(stage, tool)
    fired = stage.faults.fired > 0
    stage.faults.disarm()
    if tool == "dump" and status == 1:
        assert b"DAMAGED" in output, "it does not say what it could not read"
    elif status != expected[0]:
        assert status == 2 and (said.startswith("psad: ") or group == "write"), (status, said)
    elif tool == "dump":  # the last line guesses how the run ended, by what can be known of it
        assert output.splitlines()[:-1] == expected[1].splitlines()[:-1]
    again, output, said = use_tool(stage, tool)
    assert again == expected[0], said
    if tool == "dump":
        assert output == expected[1]
    stage.faults.reset()
    daemon = stage.start("log.dir=log")
    assert daemon.wait_start(), "does not start afterwards"
    found, _, _ = read_all(daemon.address)
    assert all(messages[n] == message for n, message in found.items())
    if tool != "repair" or way != "EIO":  # it cuts out what can't be read
        assert len(found) >= len(messages) - (tool == "repair"), sorted(set(messages) - set(found))
    assert daemon.stop() == 0
    return "not reached" if not fired else f"status {status}"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_fails_says_so_and_can_be_used_again(stage, logs, tool):
    prepare(stage, logs, TOOLS[tool])
    stage.faults.reset()
    expected = use_tool(stage, tool)
    assert expected[0] == 0, expected[2]
    calls = stage.faults.calls()
    for trial in trials(calls, (1, FOR_EVER), 2, tool):
        with naming(tool, trial, lambda: stage.daemon):
            stage.tell(tool, trial, tool_with(stage, logs, tool, expected, *trial), calls)
