# SPDX-License-Identifier: MIT
"""Publishers that run beside a test, and the oracle of what subscribers must get from them."""

import contextlib
import threading

from client import DEADLINE, Gap, Line, Msg, matches_any


class Job(threading.Thread):
    """A thread whose failure becomes the test's failure."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self._work = work
        self._failure = None
        self.result = None
        self.start()

    def run(self):
        try:
            self.result = self._work()
        except BaseException as failure:  # handed to whoever waits
            self._failure = failure

    def finish(self):
        """Waits for the end; returns what the work returned."""
        self.join(4 * DEADLINE)
        assert not self.is_alive(), "a helper of the test did not come to its end"
        if self._failure:
            raise self._failure
        return self.result


def publish_batches(client, name, topics, batches, size, stop=None):
    """Publishes `<name> <n>` over the topics in turn, until the batches are done or stop is set.

    Returns what was acknowledged: {id: Msg}."""
    acknowledged = {}
    number = 0
    for _ in range(batches):
        if stop and stop.is_set():
            break
        batch = [(topics[(number + i) % len(topics)], b"%s %d" % (name.encode(), number + i)) for i in range(size)]
        number += size
        for identity, (topic, payload) in zip(client.publish_all(batch), batch):
            acknowledged[identity] = Msg(identity, topic, payload)
    return acknowledged


@contextlib.contextmanager
def publishing(broker, topics, publishers=1, size=20):
    """Publishers in the background while the block runs; at its end the yielded dict holds {id: Msg}."""
    stop = threading.Event()
    everything = {}
    jobs = [Job(lambda n=n, c=broker.client(): publish_batches(c, f"p{n}", topics, 1 << 30, size, stop)) for n in range(publishers)]
    try:
        yield everything
    finally:
        stop.set()
    for job in jobs:
        everything.update(job.finish())


def expected(messages, patterns, after=0, up_to=None):
    """The messages that a subscriber to the patterns must get, in order."""
    return [messages[i] for i in sorted(messages)
            if i > after and (up_to is None or i <= up_to) and matches_any(patterns, messages[i].topic)]


def only_messages(items):
    """The messages among items; a gap is a failure."""
    gaps = [item for item in items if isinstance(item, Gap)]
    assert not gaps, gaps
    return [item for item in items if isinstance(item, Msg)]


def check_tiles(items, after, head=None):
    """A subscriber to everything (`>`): each id after `after` came once, as a message or within one gap.

    Returns the last id; with `head`, it must be that."""
    at = after
    for item in items:
        if isinstance(item, Line):
            continue
        first, last = (item.id, item.id) if isinstance(item, Msg) else (item.first, item.last)
        assert first == at + 1 and last >= first, f"after {at} came {item!r:.200}"
        at = last
    assert head is None or at == head, f"it ended at {at} instead of {head}"
    return at


def check_sequence(items, patterns, messages, after, head):
    """A subscriber to any patterns: what matches in (after, head] came once and in order, or lies in exactly one gap."""
    at, gaps, got = after, [], []
    for item in items:
        if isinstance(item, Line):
            continue
        first, last = (item.id, item.id) if isinstance(item, Msg) else (item.first, item.last)
        assert first > at and last >= first, f"after {at} came {item!r:.200}"
        at = last
        if isinstance(item, Msg):
            got.append(item)
        else:
            gaps.append(item)
    missing = {i for gap in gaps for i in range(gap.first, gap.last + 1)}
    assert got == [m for m in expected(messages, patterns, after, head) if m.id not in missing]
