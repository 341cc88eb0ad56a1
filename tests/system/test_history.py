# SPDX-License-Identifier: MIT
"""The history checker itself: it believes a broker that keeps its word, and catches each lie.

A checker that lets a lost or doubled message pass would let a user lose it."""

import itertools
import pickle
import re

import pytest

from history import History


def message(n):
    return f"t.{n % 3}", b"message %d" % n


def told(session, n, identity=None):
    session.message(identity or n, *message(n))


class Story:
    """A history that is true: ten messages of two connections, three subscribers, one restart.

    ids 1 … 6 by PUT (link a), 7 and 8 unanswered (link b, then its connection died), 9 and 10
    accepted by a PONG. Message n has id n, but 7 was never committed: its id is void."""

    def __init__(self):
        self.history = h = History(clock=itertools.count(1).__next__)
        h.is_ours("0@3f9a12c4", "the start")
        self.a, self.b, self.c = h.link("a"), h.link("b"), h.link("c")
        self.all = h.follower("all", [">"])
        self.some = h.follower("some", ["t.1", "t.2"])
        self.live = h.follower("live", [">"])
        self.sent = {}
        self.first = self.all.session(0)
        self.first.started("0@3f9a12c4")
        self.one = self.some.session(0)
        self.one.started("0@3f9a12c4")
        for n in range(1, 7):
            self.put(n)
            if n == 3:
                self.watch = self.live.session(None)
                self.watch.started("3@3f9a12c4")
        for n in range(1, 6):
            told(self.first, n)
        for n in (1, 2, 4):
            told(self.one, n)
        for n in (4, 5, 6):
            told(self.watch, n)
        for n in (7, 8):
            self.sent[n] = self.b.sent(*message(n))
        h.synced_was(4)
        h.head_was(h.now(), 8)

    def put(self, n):
        self.sent[n] = self.a.sent(*message(n))
        self.a.acknowledged(self.sent[n], n)

    def restart(self, reason="void"):
        """The second life, in which everybody comes back and gets the rest."""
        self.second = self.all.session(5)
        self.second.started("5@3f9a12c4")
        self.two = self.some.session(4)
        self.two.started("4@3f9a12c4")
        self.again = self.live.session(6)
        self.again.started("6@3f9a12c4")
        for n in (9, 10):
            self.sent[n] = self.c.sent(*message(n))
        self.c.accepted(self.sent[10], "10@3f9a12c4")
        self.rest(self.second, (6, 8, 9, 10), reason)
        self.rest(self.two, (5, 8, 10), reason)
        self.rest(self.again, (8, 9, 10), reason)
        return self

    @staticmethod
    def rest(session, ids, reason="void"):
        for n in ids:
            if n == 8:
                session.gap(7, 7, reason)
            told(session, n)
        session.reached("10@3f9a12c4")

    def faults(self, **options):
        options.setdefault("reasons", ("void",))
        return self.history.faults(10, **options)


def test_a_true_history_is_believed():
    assert Story().restart().faults() == []


def test_a_history_of_several_processes_is_one():
    whole = Story().restart()
    taken = History()
    taken.absorb(pickle.loads(pickle.dumps(whole.history)))
    assert taken.faults(10, ("void",)) == []
    with pytest.raises(ValueError, match="sent twice"):
        taken.absorb(whole.history)


def test_a_test_that_sends_the_same_message_twice_is_told_so():
    story = Story()
    with pytest.raises(ValueError, match="message 0 of a"):
        story.c.sent(*message(1))


def two_messages_under_one_id(s):
    s.restart()
    s.sent[11] = s.c.sent(*message(11))
    s.c.acknowledged(s.sent[11], 5)
    return "id 5 is two messages"


def one_message_under_two_ids(s):
    s.restart()
    for session in (s.second, s.again):
        told(session, 8, 11)
    return "has two ids: 8, .* 11"


def an_unacknowledged_message_shown_twice(s):
    s.restart()
    told(s.history.follower("x", [">"]).session(10), 8, 12)
    s.history.followers[-1].sessions[-1].started(11)
    return "has two ids: 8, .* 12"


def a_message_that_nobody_sent(s):
    s.restart()
    told(s.second, 99, 11)
    return "MSG 11 on t.0 was sent by nobody"


def a_message_that_was_refused(s):
    s.restart()
    s.b.refused(s.sent[8])
    return "MSG 8 is message 1 of b, .*refused"


def a_message_shown_before_it_was_sent(s):
    s.restart()
    told(s.second, 11)
    s.c.sent(*message(11))
    return "MSG 11 is .* sent only later"


def two_messages_of_a_connection_exchanged(s):
    s.restart()
    for n, identity in ((11, 12), (12, 11)):
        s.sent[n] = s.c.sent(*message(n))
    for n, identity in ((12, 11), (11, 12)):
        told(s.second, n, identity)
    return "has id 11, but message 2 of c, connection 3 on t.2 before it has 12"


def an_id_below_one_acknowledged_before(s):
    s.restart()
    late = s.history.link("d")
    p = late.sent(*message(11))
    late.acknowledged(p, 7)
    return "has id 7, but 10 .* before it was sent"


def an_id_above_the_pong_that_acknowledged_it(s):
    s.restart()
    p = s.c.sent(*message(11))
    s.c.accepted(p, 10)
    told(s.second, 11)
    return "has id 11, but was acknowledged by 10"


def a_head_that_went_back(s):
    s.restart()
    s.history.head_was(s.history.now(), 9)
    return "the head was 9, but 10 .* before"


def a_live_start_behind_the_head(s):
    s.restart()
    s.history.follower("late", ["t.1"]).session(None).started(8)
    return "the head was 8, but 10 .* before"


def an_acknowledged_message_missing_for_all(s):
    s.second = s.all.session(5)
    s.second.started(5)
    s.second.message(8, *message(8))
    return "after 5 came MSG 8: 6..7 are passed over"


def an_acknowledged_message_missing_for_a_pattern(s):
    two = s.some.session(4)
    two.started(4)
    told(two, 8)
    return "some, session 2: after 4 came MSG 8: 5 of its patterns are missing"


def an_acknowledged_message_missing_at_the_end(s):
    two = s.some.session(4)
    two.started(4)
    two.reached(6)
    return "some, session 2: after 4 came the position 6: 5 of its patterns are missing"


def an_acknowledged_message_called_void(s):
    s.second = s.all.session(5)
    s.second.started(5)
    s.second.gap(6, 7, "void")
    return "GAP 6 7 void covers 6,"


def a_message_shown_and_later_called_void(s):
    s.restart()
    s.again.gap(10, 10, "void")
    return "GAP 10 10 void covers 10,"


def a_message_accepted_by_pong_and_never_there(s):
    p = s.history.link("d").sent(*message(11))
    s.history.links[-1].accepted(p, 11)
    s.restart()
    for session in (s.second, s.again, s.two):
        session.gap(11, 11, "void")
    return "message 0 of d.* accepted with an id in 9..11, but nobody got it"


def a_gap_that_does_not_begin_behind_the_last(s):
    s.second = s.all.session(5)
    s.second.started(5)
    told(s.second, 6)
    s.second.gap(8, 8, "void")
    return "after 6 came GAP 8 8 void: 7 are passed over"


def a_gap_that_reaches_back(s):
    second = s.all.session(5)
    second.started(5)
    second.gap(5, 7, "retention")
    return "after 5 came GAP 5 7 retention"


def a_gap_that_reaches_into_what_follows(s):
    s.restart()
    s.second.gap(11, 12, "void")
    p = s.c.sent(*message(12))
    s.c.acknowledged(p, 12)
    told(s.second, 12)
    return "after 12 came MSG 12"


def a_gap_told_twice(s):
    second = s.all.session(5)
    second.started(5)
    told(second, 6)
    second.gap(7, 7, "void")
    second.gap(7, 7, "void")
    return "after 7 came GAP 7 7 void"


def a_gap_that_is_empty(s):
    s.second = s.all.session(5)
    s.second.started(5)
    s.second.gap(6, 5, "void")
    return "GAP 6 5 void, which is empty"


def a_gap_for_a_reason_that_cannot_be(s):
    s.restart("damaged")
    return "GAP 7 7 damaged: that reason cannot be here"


def a_gap_over_what_is_still_there(s):
    s.restart()
    s.again.gap(11, 12, "retention")
    p = s.c.sent(*message(12))
    s.c.acknowledged(p, 12)
    late = s.history.follower("late", [">"]).session(11)
    late.started(11)
    told(late, 12)
    return "late, session 1: MSG 12 came although GAP 11 12 retention had been told"


def an_id_received_twice(s):
    s.restart()
    told(s.second, 10)
    return "after 10 came MSG 10"


def ids_that_go_back(s):
    s.restart()
    told(s.two, 8)
    return "some, session 2: after 10 came MSG 8"


def a_position_that_goes_back(s):
    s.restart()
    s.two.reached(9)
    return "after 10 came the position 9"


def a_message_that_was_not_asked_for(s):
    s.restart()
    p = s.c.sent(*message(12))
    s.c.acknowledged(p, 11)
    told(s.two, 12, 11)
    return "MSG 11 on t.0, which it has not asked for"


def a_resumption_that_begins_elsewhere(s):
    s.second = s.all.session(5)
    s.second.started(6)
    return "all, session 2 asked for what is after 5 and began after 6"


def a_position_of_another_log(s):
    s.restart()
    s.second.reached("10@00000000")
    return "10@00000000 is of another log"


def a_position_of_another_log_taken_for_one_of_this(s):
    s.restart()
    session = s.history.follower("late", [">"]).session("7@00000000")
    session.started(7)
    return "late, session 1 came from log 00000000 and began after 7"


def another_log_that_is_not_told(s):
    s.restart()
    session = s.history.follower("late", [">"]).session("7@00000000")
    session.started(0)
    told(session, 1)
    return "late, session 1 came from log 00000000, and the first it was told is MSG 1"


def another_log_told_to_one_of_ours(s):
    s.restart()
    s.again.gap(11, 11, "other-log")
    return "GAP 11 11 other-log: that reason cannot be here"


def another_log_whose_gap_covers_what_is_kept(s):
    s.restart()
    session = s.history.follower("late", [">"]).session("7@00000000")
    session.started(0)
    session.gap(1, 2, "other-log")
    told(session, 3)
    fresh = s.history.follower("fresh", [">"]).session(0)
    fresh.started(0)
    told(fresh, 1)
    return "fresh, session 1: MSG 1 came although GAP 1 2 other-log had been told"


def an_accepted_message_missing_where_another_had_a_gap(s):
    """One reader's gap does not excuse what another, who had none, did not get."""
    p = s.history.link("d").sent(*message(11))
    s.history.links[-1].accepted(p, 9)
    s.restart()
    late = s.history.follower("late", [">"]).session(0)
    late.started(0)
    late.gap(1, 10, "retention")
    return "message 0 of d.* accepted with an id in 9..9, but nobody got it"


def an_end_before_the_head(s):
    s.restart()
    s.history.follower("late", ["t.1"]).session(3).started(3)
    return "late got up to 3, but the head is 10"


PLANTED = [
    two_messages_under_one_id, one_message_under_two_ids, an_unacknowledged_message_shown_twice,
    a_message_that_nobody_sent, a_message_that_was_refused, a_message_shown_before_it_was_sent,
    two_messages_of_a_connection_exchanged, an_id_below_one_acknowledged_before,
    an_id_above_the_pong_that_acknowledged_it, a_head_that_went_back, a_live_start_behind_the_head,
    an_acknowledged_message_missing_for_all, an_acknowledged_message_missing_for_a_pattern,
    an_acknowledged_message_missing_at_the_end, an_acknowledged_message_called_void,
    a_message_shown_and_later_called_void, a_message_accepted_by_pong_and_never_there,
    a_gap_that_does_not_begin_behind_the_last, a_gap_that_reaches_back,
    a_gap_that_reaches_into_what_follows, a_gap_told_twice, a_gap_that_is_empty,
    a_gap_for_a_reason_that_cannot_be, a_gap_over_what_is_still_there, an_id_received_twice,
    ids_that_go_back, a_position_that_goes_back, a_message_that_was_not_asked_for,
    a_resumption_that_begins_elsewhere, a_position_of_another_log,
    a_position_of_another_log_taken_for_one_of_this, another_log_that_is_not_told,
    another_log_told_to_one_of_ours, another_log_whose_gap_covers_what_is_kept,
    an_accepted_message_missing_where_another_had_a_gap, an_end_before_the_head,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_history_is_not_believed_in_which_there_is(plant):
    story = Story()
    expected = plant(story)
    found = story.faults(reasons=("void", "retention"))
    assert any(re.search(expected, fault) for fault in found), "\n".join(found)
    with pytest.raises(AssertionError, match=expected.replace("^", "")):
        story.history.check(10, ("void", "retention"))


# --- another log, and a long run in parts --------------------------------------------------------

def test_who_comes_from_another_log_and_is_told_so_is_believed():
    for gaps in (((1, 0),), ((1, 3),), ()):
        story = Story()
        story.restart()
        session = story.history.follower("late", [">"], to_head=False).session("41@00000000")
        session.started("0@3f9a12c4")
        for first, last in gaps:
            session.gap(first, last, "other-log")
            for n in range(last + 1, 7):
                told(session, n)
        assert story.faults() == []


class Sequel:
    """What comes after a story that was judged: ids from 11 on; 7 of it may still arrive, and 1 and
    2 were dropped."""

    def __init__(self):
        story = Story().restart()
        whole = story.history.follower("whole", [">"]).session(0)
        whole.started(0)
        story.rest(whole, list(range(1, 7)) + [8, 9, 10])
        story.history.check(10, ("void",))
        self.before = story.sent
        self.history = h = story.history.successor(10, 3)
        self.link = h.link("d")
        self.all = h.follower("all", [">"]).session("10@3f9a12c4")
        self.all.started("10@3f9a12c4")
        for n in (11, 12):
            self.link.acknowledged(self.link.sent(*message(n)), n)
            told(self.all, n)

    def faults(self):
        return self.history.faults(12, ("void", "retention"))


def test_a_sequel_is_believed():
    sequel = Sequel()
    assert sequel.faults() == []
    told(sequel.all, 7, 13)  # it was on its way all the time
    late = sequel.history.follower("late", ["t.1"]).session(0)
    late.started(0)
    late.gap(1, 2, "retention")
    for n in (4, 10):
        told(late, n)
    told(late, 7, 13)
    assert sequel.faults() == []
    assert len(sequel.history.past) == 7  # so that it does not grow with the time


def test_what_an_earlier_part_lost_is_not_held_against_a_later_cut():
    """A loss that was judged is told again to whoever reads there, after other cuts and syncs."""
    history = History(itertools.count().__next__)
    link, reader = history.link("p"), history.follower("r", [">"])
    session = reader.session(0)
    session.started(0)
    for n in range(1, 5):
        link.acknowledged(link.sent(*message(n)), n)
    history.power_cut()
    session.gap(1, 3, "lost")
    told(session, 4)
    assert history.faults(4, ("lost",)) == []
    later = history.successor(4, 1)
    follower = later.follower("r", [">"], to_head=False)
    later.synced_was(4)
    later.power_cut()
    session = follower.session(0)
    session.started(0)
    session.gap(1, 3, "lost")
    told(session, 4)
    assert later.faults(4, ("lost",)) == []
    again = follower.session(0)
    again.started(0)
    again.gap(1, 4, "lost")
    assert re.search(r"\b4 were called synced \(up to 4\)", "\n".join(later.faults(4, ("lost",))))


def an_old_message_under_a_new_id(s):
    told(s.all, 5, 13)
    return "message 5 of an earlier part, on t.2 has two ids: 5, .* 13"


def an_old_id_with_another_message(s):
    late = s.history.follower("late", [">"]).session(4)
    late.started(4)
    late.message(5, "t.2", b"another")
    return "id 5 is two messages: message 5 of an earlier part, on t.2, .* that nobody sent"


def a_new_message_with_an_old_id(s):
    s.link.acknowledged(s.link.sent(*message(13)), 7)
    return "has id 7, but .* before it was sent"


def an_old_message_missing_for_a_pattern(s):
    late = s.history.follower("late", ["t.2"]).session(4)
    late.started(4)
    told(late, 8)
    return "after 4 came MSG 8: 5 of its patterns are missing"


def an_old_message_called_void(s):
    late = s.history.follower("late", [">"]).session(5)
    late.started(5)
    late.gap(6, 7, "void")
    return "GAP 6 7 void covers 6,"


def a_head_below_what_was_judged(s):
    s.history.head_was(0, 10)
    s.history.head_was(s.history.now(), 9)
    return "the head was 9, but"


def what_was_dropped_read_again(s):
    late = s.history.follower("late", [">"]).session(1)
    late.started(1)
    told(late, 2)
    return "MSG 2 on t.2 was sent by nobody"


@pytest.mark.parametrize("plant", [
    an_old_message_under_a_new_id, an_old_id_with_another_message, a_new_message_with_an_old_id,
    an_old_message_missing_for_a_pattern, an_old_message_called_void,
    a_head_below_what_was_judged, what_was_dropped_read_again], ids=lambda plant: plant.__name__)
def test_a_sequel_is_not_believed_in_which_there_is(plant):
    sequel = Sequel()
    expected = plant(sequel)
    found = sequel.faults()
    assert any(re.search(expected, fault) for fault in found), "\n".join(found)


# --- the power ------------------------------------------------------------------------------------

def after_a_cut(synced_before):
    """ids 5 and 6, acknowledged and shown, are lost with the power."""
    s = Story()
    s.history.synced_was(synced_before)
    s.history.power_cut()
    s.history.synced_was(20)
    for follower in (s.all, s.live):
        session = follower.session(follower.position)
        session.started(follower.sessions[0].position)
    s.all.sessions[1].gap(6, 10, "lost")
    s.live.sessions[1].gap(7, 10, "lost")
    s.fresh = s.history.follower("fresh", [">"])
    session = s.fresh.session(4)
    session.started(4)
    session.gap(5, 10, "lost")
    session = s.some.session(4)
    session.started(4)
    session.gap(5, 10, "lost")
    return s


def test_what_was_never_called_synced_may_be_lost_with_the_power():
    assert after_a_cut(4).faults(reasons=("void", "lost")) == []


def test_what_was_called_synced_may_not_be_lost():
    assert any(fault.startswith("5 were called synced") for fault in
               after_a_cut(5).faults(reasons=("void", "lost")))


def test_with_always_nothing_that_was_shown_may_be_lost():
    assert any(fault.startswith("5..6 were acknowledged or shown") for fault in
               after_a_cut(4).faults(reasons=("void", "lost"), synced="all"))


def test_nothing_may_be_lost_while_the_power_is_on():
    story = Story().restart()
    story.again.gap(11, 11, "lost")
    p = story.c.sent(*message(11))
    story.c.acknowledged(p, 11)
    assert any(fault.startswith("11 are lost though the power was never cut") for fault in
               story.faults(reasons=("void", "lost")))


def test_an_id_that_was_lost_is_not_given_again():
    story = after_a_cut(4)
    p = story.c.sent(*message(11))
    story.c.acknowledged(p, 9)
    assert any("has id 9, but 10 was passed before it was sent" in fault for fault in
               story.faults(reasons=("void", "lost")))
