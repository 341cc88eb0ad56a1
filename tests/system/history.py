# SPDX-License-Identifier: MIT
"""What clients sent, were told and received; and whether a broker that keeps its word can have
done that.

The id of a message is the point at which it happened, so nothing has to be searched: the records
are sorted once by id and once by time, and one pass over each finds every broken promise of
SPEC.md ("What is promised"). That pass knows nothing of how psad works.

A test programme makes one History for one log, however often its broker is killed, restarted or
cut off from power, and lets each of its clients record as it goes:

    history = History()

    link = history.link("p1")                   a connection that publishes: one for each connect
    p = link.sent(topic, payload)               just BEFORE the bytes are sent
    link.acknowledged(p, id)                    OK <id> came
    link.accepted(p, id)                        p and all before it are accepted with ids up to
                                                this: PONG <id>@<log>, or LINES' OK <count> <id>
    link.refused(p)                             ERR came: it must not appear

    follower = history.follower("s1", [">"])    one for all the connections of a subscriber
    session = follower.session(after)           just BEFORE it connects; None: from now on
    session.started(position)                   the OK of SUB (or a READ that is sent: its after)
    session.message(id, topic, payload)
    session.gap(first, last, reason)
    session.reached(position)                   PONG, BYE, END, OK of UNSUB

    asked = history.now()                       before a look at the head
    history.head_was(asked, head)               after it: INFO's head, a publisher's PONG
    history.synced_was(id)                      INFO's synced
    history.power_cut()                         after the daemon is dead, before it starts again

    history.check(head=…, reasons=…)            raises an AssertionError that names ids

    later = history.successor(head, first)      for what comes next in the same log, so that what
                                                was judged can be forgotten

A run of hours is judged in parts: each part ends when all publishers have stopped and all
followers have reached the head. Its successor knows of it what is still kept, and what was sent and
may yet arrive.

Each message must be another one (topic and payload together), since that is how what was sent and
what was received are brought together. Recording is cheap and, for clients in threads of their
own, needs no lock. The times are those of CLOCK_MONOTONIC, which is the same for all processes of
a machine: a History can be pickled in one process and taken over with absorb() in another.

What check() finds:

    two messages under one id; one message under two ids; a message that nobody sent, that was
    refused, or that was received before it was sent; messages of one connection whose ids don't
    grow as they were sent; an id that isn't above all that was acknowledged, shown or passed
    before its message was sent; a head below such an id; for every follower and each of its
    sessions: ids that go back or come twice, ids left out without a gap, gaps that don't begin
    behind the last id, reach into what is received, or have a reason that can't be; a resumption
    that doesn't begin at the position given, or from a position of another log at the beginning of
    this one; an end before the head; messages under ids that a gap calls void, or that are read on
    a connection made after a gap had declared them gone; accepted messages that nobody got and no
    gap covers; messages lost with the power though they were known to be synced.
"""

import bisect
import hashlib
import time
from collections import defaultdict
from typing import NamedTuple

from client import matches_any

# Ids that a gap may cover although their messages were acknowledged or shown, where the caller of
# check() lists the reason. `void` is none of them: it says that there never was such a message.
FORGIVEN = ("retention", "lost", "damaged")
MOST_FAULTS = 20  # that one report names


def content(topic, payload):
    """What stands for one message; 64 bits are enough that no two are taken for each other."""
    topic = topic.encode("latin-1") if isinstance(topic, str) else topic
    digest = hashlib.blake2b(topic + b"\0" + payload, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def number_of(position):
    """The id of a position, which may be one already."""
    return int(position.split("@")[0]) if isinstance(position, str) else position


def ranges(ids):
    """Sorted ids as text: 3, 7..9, 12."""
    parts, ids = [], list(ids)
    start = 0
    for n in range(1, len(ids) + 1):
        if n == len(ids) or ids[n] != ids[n - 1] + 1:
            parts.append(f"{ids[start]}..{ids[n - 1]}" if n - start > 1 else f"{ids[start]}")
            start = n
    return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


class Publication:
    """One message as its publisher knows it."""
    __slots__ = ("link", "sequence", "topic", "key", "sent", "acked", "id", "bound", "refused")

    def __init__(self, link, sequence, topic, key, sent):
        self.link, self.sequence, self.topic, self.key, self.sent = link, sequence, topic, key, sent
        self.acked = None  # when it was known to be accepted
        self.id = None  # as it was acknowledged
        self.bound = None  # of its id, where only that is known
        self.refused = False

    def __str__(self):
        return f"message {self.sequence} of {self.link} on {self.topic}"


class Link:
    """A connection that publishes. What it records comes from one thread."""

    def __init__(self, history, name):
        self.name = name
        self._history = history
        self.publications = []
        self.acknowledged_count = 0
        self._accepted = 0  # so many of them, from the front, are known to be

    def sent(self, topic, payload):
        key = content(topic, payload)
        p = Publication(self.name, len(self.publications), topic, key, self._history.now())
        earlier = self._history.sent_keys.setdefault(key, p)
        if earlier is not p:
            raise ValueError(f"the same message was sent before, as {earlier}: this test is wrong")
        self.publications.append(p)
        return p

    def acknowledged(self, publication, identity):
        publication.id = number_of(identity)
        publication.acked = self._history.now()
        self.acknowledged_count += 1

    def accepted(self, publication, bound):
        now = self._history.now()
        for p in self.publications[self._accepted:publication.sequence + 1]:
            if p.acked is None and not p.refused:
                p.acked, p.bound = now, number_of(bound)
                self.acknowledged_count += 1
        self._accepted = publication.sequence + 1

    def refused(self, publication):
        publication.refused = True


class Item(NamedTuple):
    """What came in a session, in its order."""
    kind: str  # MSG, GAP or AT
    first: int
    last: int
    what: object  # the key of a message, the reason of a gap
    topic: object  # of a message
    time: int

    def __str__(self):
        return {"MSG": f"MSG {self.first}", "GAP": f"GAP {self.first} {self.last} {self.what}",
                "AT": f"the position {self.last}"}[self.kind]


class Session:
    """A connection that receives."""

    def __init__(self, follower, number, after):
        self.name = f"{follower.name}, session {number}"
        self.after = None if after is None else number_of(after)
        self.after_log = after.split("@")[1] if isinstance(after, str) and "@" in after else None
        self.start = None
        self.items = []
        self._history = follower.history
        self.opened = self._history.now()
        self.answered = None

    def started(self, position):
        self._history.is_ours(position, self.name)
        self.start = number_of(position)
        self.answered = self._history.now()

    def message(self, identity, topic, payload):
        self.items.append(Item("MSG", identity, identity, content(topic, payload), topic,
                               self._history.now()))

    def gap(self, first, last, reason):
        self.items.append(Item("GAP", first, last, reason, None, self._history.now()))

    def reached(self, position):
        self._history.is_ours(position, self.name)
        at = number_of(position)
        self.items.append(Item("AT", at + 1, at, None, None, self._history.now()))

    @property
    def is_foreign(self):
        """It came with a position of another log."""
        return self.after_log not in (None, self._history.identity)

    @property
    def position(self):
        """The place in the log up to which it has received; None before it started."""
        return self.items[-1].last if self.items else self.start


class Follower:
    """A subscriber over all its connections."""

    def __init__(self, history, name, patterns, resumes, to_head):
        self.history, self.name = history, name
        self.resumes, self.to_head = resumes, to_head
        self.patterns = tuple(patterns)
        self.sessions = []

    def session(self, after=None):
        self.sessions.append(Session(self, len(self.sessions) + 1, after))
        return self.sessions[-1]

    @property
    def position(self):
        """Where it should resume; None: nowhere yet."""
        for session in reversed(self.sessions):
            if session.position is not None:
                return session.position
        return None


class Reader:
    """What somebody has covered in one go, over any number of connections: for messages of which
    only the publisher knows."""
    __slots__ = ("patterns", "after", "upto", "gaps")

    def __init__(self, patterns, after):
        self.patterns, self.after, self.upto, self.gaps = patterns, after, after, []

    def has_covered(self, low, top, topic):
        """It must have got a message on that topic with an id in low + 1 … top."""
        return self.after <= low and self.upto >= top and matches_any(self.patterns, topic) and \
            not any(first <= top and last > low for first, last in self.gaps)


class History:
    def __init__(self, clock=time.monotonic_ns):
        self.now = clock
        self.sent_keys = {}
        self.links = []
        self.followers = []
        self.identity = None
        self.base = 0  # what is up to here was judged before
        self.past = {}  # id -> (key, topic), of what of it is still kept
        self.judged = {}  # id -> (key, topic), of all that the last look has found
        self.lost = {}  # id -> (when it was first called lost, to whom), in earlier parts
        self.judged_lost = {}  # the same, as the last look has found it
        self.foreign = []  # faults found while recording
        self._heads = []  # (asked, answered, head)
        self._synced = []  # (time, id)
        self._cuts = []  # times

    # --- recording ---------------------------------------------------------------------------

    def link(self, name):
        self.links.append(Link(self, f"{name}, connection {len(self.links) + 1}"))
        return self.links[-1]

    def follower(self, name, patterns, resumes=True, to_head=True):
        """`resumes`: each session of it goes on where the one before has ended. `to_head`: in the
        end it will have got all there is."""
        self.followers.append(Follower(self, name, patterns, resumes, to_head))
        return self.followers[-1]

    def head_was(self, asked, head):
        self.is_ours(head, "a look at the head")
        self._heads.append((asked, self.now(), number_of(head)))

    def synced_was(self, identity):
        self._synced.append((self.now(), identity))

    def power_cut(self):
        self._cuts.append(self.now())

    def is_ours(self, position, where):
        """All whole positions must be of one log."""
        if isinstance(position, str) and "@" in position:
            identity = position.split("@")[1]
            self.identity = self.identity or identity
            if identity != self.identity:
                self.foreign.append(f"{where}: {position} is of another log than {self.identity}")

    def absorb(self, other):
        """Takes over the records of another process."""
        for key in other.sent_keys.keys() & self.sent_keys.keys():
            raise ValueError(f"{other.sent_keys[key]} was sent twice: this test is wrong")
        if other.identity:
            self.is_ours(f"0@{other.identity}", "another process")
        self.sent_keys.update(other.sent_keys)
        for mine, theirs in [(self.links, other.links), (self.followers, other.followers),
                             (self.foreign, other.foreign), (self._heads, other._heads),
                             (self._synced, other._synced), (self._cuts, other._cuts)]:
            mine += theirs

    @property
    def acknowledged_count(self):
        """So many messages are known to be accepted."""
        return sum(link.acknowledged_count for link in list(self.links))

    def figures(self):
        """How much it is that was looked at, for the summary of a long run."""
        sessions = [s for f in self.followers for s in f.sessions]
        return {
            "histories": 1, "published": sum(len(link.publications) for link in self.links),
            "acknowledged": self.acknowledged_count,
            "delivered": sum(i.kind == "MSG" for s in sessions for i in s.items),
            "gaps": sum(i.kind == "GAP" for s in sessions for i in s.items),
            "resumes": sum(max(0, len(f.sessions) - 1) for f in self.followers if f.resumes)}

    def successor(self, head, first):
        """A History of the same log from `head` on, where `first` is the oldest that is kept. This
        one was checked; all of its followers have reached the head, at least one of them with all
        that is kept, and none of its connections publishes any more. (Bytes of those may still be
        on their way, so what was sent in vain is kept.)"""
        later = History(self.now)
        later.identity, later.base = self.identity, head
        later.past = {i: self.judged[i] for i in range(first, head + 1) if i in self.judged}
        arrived = {key for key, _ in self.judged.values()}
        for link in self.links:
            waiting = [p for p in link.publications
                       if p.acked is None and not p.refused and p.key not in arrived]
            if waiting:
                later.links.append(Link(later, link.name))
                later.links[-1].publications = waiting
                later.sent_keys.update((p.key, p) for p in waiting)
        later.head_was(later.now(), head)
        later.lost = {i: told for i, told in self.judged_lost.items() if i >= first}
        later._cuts = list(self._cuts)
        later._synced = [(self.now(), max((mark for _, mark in self._synced), default=0))]
        return later

    # --- judging -----------------------------------------------------------------------------

    def check(self, head=None, reasons=("retention",), synced="observed"):
        """Raises an AssertionError that lists the faults. See faults()."""
        found = self.faults(head, reasons, synced)
        if found:
            more = [f"… and {len(found) - MOST_FAULTS} more"] if len(found) > MOST_FAULTS else []
            raise AssertionError("the broker broke its word:\n  " +
                                 "\n  ".join(found[:MOST_FAULTS] + more))

    def faults(self, head=None, reasons=("retention",), synced="observed"):
        """A list of sentences.

        head     what all followers must have reached
        reasons  of gaps that may be told
        synced   what a power cut may not take: "observed", what INFO had called synced; "all",
                 whatever was acknowledged or shown, as with log.fsync = always"""
        judgement = _Judgement(self)
        found = list(self.foreign) + judgement.run(head, reasons, synced)
        self.judged = {i: (key, judgement.topic_of(key)) for i, key in judgement.key_of.items()}
        self.judged_lost = judgement.lost
        return found


class _Judgement:
    """One look at a history; see History.faults."""

    def __init__(self, history):
        self.history = history
        self.found = []
        # id -> key, of all that was acknowledged or shown
        self.key_of = {i: key for i, (key, _) in history.past.items()}
        self.seen = {}  # id -> when it was first shown
        self.id_of = {key: i for i, key in self.key_of.items()}
        self.past_topics = dict(history.past.values())  # key -> topic
        self.publications = [p for link in history.links for p in link.publications]
        self.readers = []
        self.floor_of = {}  # key -> what its id is above, of accepted messages that nobody got
        self.gaps = []  # (Item, name of the session)
        self.lost = {}  # id -> (when it was first called lost, to whom)

    def fault(self, text):
        self.found.append(text)

    def run(self, head, reasons, synced):
        self.bring_together()
        self.known = sorted(self.key_of)
        self.matching = {}
        for follower in self.history.followers:
            self.follow(follower, head, set(reasons))
        self.check_gaps()
        for link in self.history.links:
            self.check_order(link.publications)
        self.check_times()
        self.check_accepted()
        self.check_lost(synced)
        return self.found

    # One message an id, one id a message.

    def bring_together(self):
        for p in self.publications:
            if p.id is not None:
                self.place(p.id, p.key, f"the acknowledgement of {p}")
                if p.refused:
                    self.fault(f"{p} was refused and acknowledged with {p.id}")
        for follower in self.history.followers:
            for session in follower.sessions:
                for item in session.items:
                    if item.kind == "MSG":
                        self.receive(item, session.name)
                    elif item.kind == "GAP":
                        self.gaps.append((item, session.name))

    def place(self, identity, key, where):
        other = self.key_of.setdefault(identity, key)
        if other != key:
            self.fault(f"id {identity} is two messages: {self.describe(other)}, and by {where} "
                       f"{self.describe(key)}")
        elsewhere = self.id_of.setdefault(key, identity)
        if elsewhere != identity:
            self.fault(f"{self.describe(key)} has two ids: {elsewhere}, and by {where} {identity}")

    def describe(self, key):
        if key in self.past_topics:
            return f"message {self.id_of[key]} of an earlier part, on {self.past_topics[key]}"
        return str(self.history.sent_keys.get(key, "a message that nobody sent"))

    def topic_of(self, key):
        p = self.history.sent_keys.get(key)
        return p.topic if p else self.past_topics.get(key)

    def receive(self, item, where):
        self.place(item.first, item.what, where)
        self.seen[item.first] = min(item.time, self.seen.get(item.first, item.time))
        sent = self.history.sent_keys.get(item.what)
        if item.what in self.past_topics:
            return  # judged already; place() has compared it
        if sent is None:
            self.fault(f"{where}: MSG {item.first} on {item.topic} was sent by nobody")
        elif sent.refused:
            self.fault(f"{where}: MSG {item.first} is {sent}, which was refused")
        elif item.time < sent.sent:
            self.fault(f"{where}: MSG {item.first} is {sent}, which was sent only later")

    # What one subscriber got.

    def ids_for(self, patterns):
        """All known ids whose messages match, in order."""
        if patterns not in self.matching:
            verdicts = {}
            ids = []
            for identity in self.known:
                topic = self.topic_of(self.key_of[identity])
                if topic is not None and topic not in verdicts:
                    verdicts[topic] = matches_any(patterns, topic)
                if topic is not None and verdicts[topic]:
                    ids.append(identity)
            self.matching[patterns] = ids
        return self.matching[patterns]

    def follow(self, follower, head, reasons):
        position = None
        for session in follower.sessions:
            if session.start is None:
                if session.items:
                    self.fault(f"{session.name}: {session.items[0]} came before it had begun")
                continue
            if follower.resumes and position is not None and session.after != position:
                self.fault(f"{session.name} asked for what is after {session.after}, though "
                           f"{position} had been reached: this test is wrong")
            if session.is_foreign:
                self.follow_foreign(session)
            elif session.after is not None and session.start != session.after:
                self.fault(f"{session.name} asked for what is after {session.after} and began "
                           f"after {session.start}")
            if position is None or session.start != position:
                self.readers.append(Reader(follower.patterns, session.start))
            position = self.walk(follower, session, reasons)
            reader = self.readers[-1]
            reader.upto = position
            reader.gaps += [(i.first, i.last) for i in session.items
                            if i.what in reasons and i.what in FORGIVEN or i.what == "other-log"]
        if follower.to_head and head is not None and (position is None or position < head):
            self.fault(f"{follower.name} got up to {position}, but the head is {head}")

    def follow_foreign(self, session):
        """From a position of another log: from the beginning of this one, and told so."""
        if session.start != 0:
            self.fault(f"{session.name} came from log {session.after_log} and began after "
                       f"{session.start}")
        if session.items and session.items[0][:2] + session.items[0][3:4] != (
                "GAP", 1, "other-log"):
            self.fault(f"{session.name} came from log {session.after_log}, and the first it was "
                       f"told is {session.items[0]}")

    def walk(self, follower, session, reasons):
        """One session from its start; returns where it ended."""
        everything = ">" in follower.patterns
        due = self.ids_for(follower.patterns)
        at = session.start
        for n, item in enumerate(session.items):
            where = f"{session.name}: after {at} came {item}"
            is_change = item.what == "other-log" and session.is_foreign and n == 0
            empty = item.kind == "AT" or is_change
            if item.first <= at and not (empty and item.last >= at):
                self.fault(where)
            elif item.last < item.first and not empty:
                self.fault(f"{where}, which is empty")
            if everything and item.kind != "AT" and item.first > at + 1:
                self.fault(f"{where}: {ranges(range(at + 1, item.first))} are passed over")
            elif everything and item.kind == "AT" and item.last > at:
                self.fault(f"{where}: {ranges(range(at + 1, item.last + 1))} are passed over")
            elif item.first > at + 1:
                missing = due[bisect.bisect_right(due, at):bisect.bisect_left(due, item.first)]
                if missing:
                    self.fault(f"{where}: {ranges(missing)} of its patterns are missing")
            if item.kind == "GAP" and item.what not in reasons and not is_change:
                self.fault(f"{where}: that reason cannot be here")
            if item.kind == "MSG" and not matches_any(follower.patterns, item.topic):
                self.fault(f"{where} on {item.topic}, which it has not asked for")
            at = max(at, item.last)
        return at

    # Gaps.

    def check_gaps(self):
        """A gap holds for all: void ids never were, and what is gone does not come back."""
        for first, last in sorted({(g.first, g.last) for g, _ in self.gaps if g.what == "void"}):
            wrong = self.between(self.known, first, last)
            if wrong:
                self.fault(f"GAP {first} {last} void covers {ranges(wrong)}, which "
                           "were acknowledged or shown")
        told = {}
        for gap, _ in self.gaps:
            key = (gap.first, gap.last, gap.what)
            told[key] = min(gap.time, told.get(key, gap.time))
        shown = sorted((item.first, session.opened, session.name)
                       for follower in self.history.followers
                       for session in follower.sessions for item in session.items
                       if item.kind == "MSG")
        for (first, last, reason), when in sorted(told.items()):
            begin = bisect.bisect_left(shown, (first,))
            end = bisect.bisect_left(shown, (last + 1,))
            late = [(i, name) for i, opened, name in shown[begin:end] if opened > when]
            if late:
                self.fault(f"{late[0][1]}: MSG {late[0][0]} came although GAP {first} {last} "
                           f"{reason} had been told before it connected")

    @staticmethod
    def between(ids, first, last):
        return ids[bisect.bisect_left(ids, first):bisect.bisect_right(ids, last)]

    # Order.

    def check_order(self, publications):
        """Messages of one connection have growing ids."""
        last = None
        for p in publications:
            identity = self.id_of.get(p.key)
            if identity is None:
                continue
            if last and identity <= last[0]:
                self.fault(f"{p} has id {identity}, but {last[1]} before it has {last[0]}")
            if p.bound is not None and identity > p.bound:
                self.fault(f"{p} has id {identity}, but was acknowledged by {p.bound}")
            last = (identity, p)

    def check_times(self):
        """What is sent after an id was acknowledged, shown or passed has a larger one."""
        RAISES, JUDGED, LOOKED = 2, 0, 1  # at the same time nothing is before anything
        events = []
        for p in self.publications:
            identity = self.id_of.get(p.key)
            if identity is None and p.acked is not None:
                events.append((p.sent, JUDGED, None, p))
            elif identity is not None:
                events.append((p.sent, JUDGED, identity, p))
                if p.acked is not None:
                    events.append((p.acked, RAISES, identity, "was acknowledged"))
        events += [(when, RAISES, i, "was shown") for i, when in self.seen.items()]
        for asked, answered, head in self.history._heads:
            events.append((asked, LOOKED, head, None))
            events.append((answered, RAISES, head, "was the head"))
        for follower in self.history.followers:
            for s in follower.sessions:
                if s.start is not None and s.after is None:  # from now on: from the head
                    events.append((s.opened, LOOKED, s.start, None))
                    events.append((s.answered, RAISES, s.start, "was the head"))
                events += [(i.time, RAISES, i.last, "was passed") for i in s.items
                           if i.kind != "MSG"]
        floor, why = 0, None
        for _, kind, identity, what in sorted(events, key=lambda e: e[:2]):
            if identity is None:
                self.floor_of[what.key] = floor
            elif kind == RAISES and identity > floor:
                floor, why = identity, what
            elif kind == JUDGED and identity <= floor:
                self.fault(f"{what} has id {identity}, but {floor} {why} before it was sent")
            elif kind == LOOKED and identity < floor:
                self.fault(f"the head was {identity}, but {floor} {why} before")

    # Loss.

    def check_accepted(self):
        """What was accepted, its id untold: all who had no gap where it can be have got it."""
        for link in self.history.links:
            low, waiting = self.history.base, []
            for p in link.publications + [None]:
                identity = self.id_of.get(p.key) if p else None
                if p and identity is None:
                    if p.acked is not None:
                        waiting.append(p)
                    continue
                self.check_window(waiting, low, identity - 1 if p else None)
                low, waiting = identity, []

    def check_window(self, waiting, low, high):
        """Accepted, got by nobody, with an id in low + 1 … high (None: their bound)."""
        for p in waiting:
            low = max(low, self.floor_of.get(p.key, 0))
            top = min(p.bound, high) if high is not None else p.bound
            if any(reader.has_covered(low, top, p.topic) for reader in self.readers):
                self.fault(f"{p} was accepted with an id in {low + 1}..{top}, but nobody got it "
                           "and no gap covers it")

    def check_lost(self, synced):
        """A power cut takes only what nobody could rely on."""
        # What an earlier part was told stays lost, and was judged by what was synced then.
        self.lost = told = dict(self.history.lost)
        for gap, where in self.gaps:
            if gap.what == "lost":
                for identity in self.between(self.known, gap.first, gap.last):
                    told[identity] = min((gap.time, where), told.get(identity, (gap.time, where)))
        if synced == "all":
            if told:
                self.fault(f"{ranges(sorted(told))} were acknowledged or shown, and are lost")
            return
        marks = sorted(self.history._synced)
        cuts = sorted(self.history._cuts)
        wrong = defaultdict(list)
        for identity, (when, where) in told.items():
            n = bisect.bisect_left(cuts, when)
            # The cut that took it is the last before that; what was called synced until then?
            until = bisect.bisect_left(marks, (cuts[n - 1],)) if n else len(marks)
            mark = max((mark for _, mark in marks[:until]), default=0)
            if n == 0:
                wrong[f"are lost though the power was never cut (told to {where})"].append(identity)
            elif mark >= identity:
                wrong[f"were called synced (up to {mark}) before the power was cut the {n}. time, "
                      f"and are lost (told to {where})"].append(identity)
        for text, ids in wrong.items():
            self.fault(f"{ranges(sorted(ids))} {text}")
