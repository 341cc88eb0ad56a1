# SPDX-License-Identifier: MIT
"""kill -9, again and again, under load: nobody loses a message that was acknowledged, nobody gets
one twice, and every subscriber resumes exactly where it was.

PSAD_KILL_CYCLES=200 is the long form; PSAD_KILL_SEED repeats a run as far as threads allow."""

import os
import random

import pytest

from client import FLAVOUR, SMALL
from durable import SMALL_SEGMENTS
from history import History
from swarm import Swarm, look, read_everything, report

CYCLES = int(os.environ.get("PSAD_KILL_CYCLES", 4 if SMALL or FLAVOUR else 20))
SEED = int(os.environ.get("PSAD_KILL_SEED", random.SystemRandom().randrange(1 << 32)))
TOPICS = ["a", "b.x", "b.y", "c.x.y", "d"]
MODES = {
    "no": ("log.fsync=no",),
    "interval": ("log.fsync=interval", "log.fsync_interval=20ms"),
    "always": ("log.fsync=always",),
}


def people(swarm, seed):
    """Publishers of all kinds; subscribers from the beginning and live, to all and to some."""
    for n in range(4):
        swarm.publisher(f"p{n}", TOPICS, seed + n)
    for n, (patterns, live) in enumerate([([">"], False), ([">"], True), (["b.*", "d.>"], False),
                                          (["a"], True), (["a.>", "c.>", "b.x"], False)]):
        swarm.subscriber(f"s{n}", patterns, seed + 100 + n, live=live)


def run_cycles(log, history, cycles, randomly, is_enough):
    """Kills it so many times: under load, and now and then in the middle of its recovery. Goes on
    publishing until is_enough(broker)."""
    broker = log.start(f"server.workers={randomly.randrange(1, 5)}")
    swarm = Swarm(log.address, history)
    log.kills = 0
    people(swarm, randomly.randrange(1 << 30))
    for _ in range(cycles):
        swarm.wait_acknowledged(randomly.randrange(1, 3000))
        look(broker, history)
        swarm.wait_acknowledged(randomly.randrange(1, 500))
        log.kill()
        log.kills += 1
        while randomly.random() < .3:
            log.kills += 1
            log.start_and_kill(randomly.random() * .03)
        broker = log.start(f"server.workers={randomly.randrange(1, 5)}")
        look(broker, history)
    while not is_enough(broker):
        swarm.wait_acknowledged(100)
    swarm.stop_publishing()
    return broker, swarm


def finish(log, broker, swarm, history, reasons):
    """Everybody gets the rest; a fresh reader and one after a clean restart see the same."""
    head = look(broker, history)["head"]
    swarm.finish(head)
    read_everything(broker, history, "after the last kill")
    broker = log.restart()
    assert look(broker, history)["head"] == head
    read_everything(broker, history, "after a clean restart")
    history.check(head, reasons)
    report(history, kills=log.kills)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_acknowledged_is_lost_and_all_resume_exactly_over_kills(durable, mode):
    print(f"PSAD_KILL_SEED={SEED}")
    log, history, randomly = durable(*SMALL_SEGMENTS, *MODES[mode]), History(), random.Random(SEED)
    broker, swarm = run_cycles(log, history, CYCLES, randomly,
                               lambda broker: len(log.segments) > CYCLES // 2)
    finish(log, broker, swarm, history, ["void"])


def test_retention_and_kills_together_leave_gaps_that_are_exact(durable):
    """Killed while files are unlinked: what is dropped is told, what is kept is whole."""
    print(f"PSAD_KILL_SEED={SEED}")
    log = durable("log.segment_size=128K", "log.retain_bytes=1M", "limits.max_payload=20K",
                  "log.fsync=no")
    history, randomly = History(), random.Random(SEED)
    broker, swarm = run_cycles(log, history, max(2, CYCLES // 2), randomly,
                               lambda broker: broker.info()["first"] > 1)
    finish(log, broker, swarm, history, ["void", "retention"])
