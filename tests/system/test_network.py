# SPDX-License-Identifier: MIT
"""Between two hosts: what a cut cable and a bad line cost, and whom. See network.py; the chaos over
such a line is in test_chaos.py."""

import socket

import pytest

from client import Client, Msg, wait_until
from durable import messages_of
from network import Network, why_not

TCP_REPAIR = 19

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def network():
    with Network(1) as network:
        yield network


@pytest.fixture
def far(network, broker, tmp_path):
    """A broker at the other end of the cable; its control connection needs no cable."""
    def start(*options):
        path = tmp_path / "s"
        one = broker("listen.insecure=yes", f"listen.unix={path}", "limits.keepalive=1s", *options,
                     tcp=network.server_address, launcher=network.prefix)
        one.control_address = f"unix:{path}"
        return one
    return start


def far_client(network, broker):
    return Client(network.server_address, new_socket=network.socket)


def vanish(client):
    """Its machine forgets the connection, and tells nobody."""
    client.sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    client.close()


def gone(broker):
    """Only those that came without the cable are left."""
    return lambda stats: stats["connections"] == len(broker._clients)


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "under way"])
def test_a_subscriber_whose_cable_is_cut_is_noticed_and_nobody_else_is_harmed(network, far, silent):
    """Neither is told anything; be it that nothing is sent, or that something is on its way that
    nobody takes."""
    b = far("server.workers=1")
    near, away = b.client(), far_client(network, b)
    near.ok("SUB >")
    away.ok("SUB >")
    assert b.publish("t", b"before") == 1
    assert away.recv_msg() == near.recv_msg() == Msg(1, "t", b"before")
    network.set("cut")
    sent = {}
    if not silent:
        for n in range(20):
            payload = b"%d " % n + b"x" * 20000
            sent[b.publish("t", payload)] = payload
        assert [near.recv_msg().payload for _ in sent] == list(sent.values())
    b.wait_stats(gone(b), "the one that is cut off is gone")
    assert b.publish("t", b"after") == len(sent) + 2
    assert near.recv_msg().payload == b"after"
    network.set("heal")
    again = far_client(network, b)
    again.ok(f"SUB > AFTER 1@{b.log}")
    assert [again.recv_msg().id for _ in range(len(sent) + 1)] == list(range(2, len(sent) + 3))
    again.close()
    away.close()


def test_a_reader_that_stands_is_not_taken_for_dead(network, far):
    """Its machine answers though it reads nothing: only who is cut off goes, in the same time."""
    b = far("server.workers=1", "limits.send_buffer=8K")
    standing = Client(network.server_address, new_socket=network.socket, rcvbuf=4096)
    standing.ok("SUB >")
    sent = {}
    for n in range(60):
        payload = b"%d " % n + b"x" * 20000
        sent[b.publish("t", payload)] = payload
    # Each of these takes as long as keepalive to be noticed: the time is kept by them.
    for _ in range(5):
        away = far_client(network, b)
        assert away.ask("PING").startswith("PONG ")
        vanish(away)
        b.wait_stats(lambda s: s["connections"] == len(b._clients) + 1, "one is gone")
    assert {m.id: m.payload for m in standing.recv_msgs(len(sent))} == sent
    standing.close()


def test_a_line_that_loses_delays_doubles_and_reorders_changes_nothing(network, far):
    b = far()
    network.set("weather 0.05 0.002 0.05 0.2")
    away, publisher = far_client(network, b), far_client(network, b)
    away.ok("SUB >")
    sent = [("t.%d" % (n % 3), b"%d " % n + b"x" * (n * 7 % 3000)) for n in range(300)]
    ids = publisher.publish_all(sent)
    assert ids == list(range(1, len(sent) + 1))
    assert messages_of(away.recv_msgs(len(sent))) == {
        n: Msg(n, *message) for n, message in zip(ids, sent)}
    counts = network.counts()
    assert all(counts[name] > 0 for name in ("carried", "lost", "late", "doubled")), counts
    for client in (away, publisher):
        client.close()


def test_an_interface_that_is_down_and_up_again_loses_no_connection(network, far):
    b = far("limits.keepalive=60s")
    away = far_client(network, b)
    away.ok("SUB >")
    network.set("unplug")
    b.publish("t", b"meanwhile")
    network.set("plug")
    assert away.recv_msg() == Msg(1, "t", b"meanwhile")
    away.close()
    wait_until(lambda: b.publish("t", b"x") and gone(b)(b.stats()), "it is gone")
