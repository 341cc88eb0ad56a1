# SPDX-License-Identifier: MIT
"""The last bytes of a connection: whoever takes nothing of them for 30 seconds is cut, and whoever waits
for something else is not."""

from client import wait_until
from durable import SMALL_SEGMENTS


def test_who_takes_nothing_is_cut_and_who_waits_for_the_disk_is_not(broker, tmp_path, hang):
    options = (*SMALL_SEGMENTS, f"log.dir={tmp_path}/log", "server.workers=1",
               "limits.send_buffer=16K")
    first = broker(*options)
    first.client().publish_all(("old", bytes(10_000)) for _ in range(100))
    first.stop()
    b = broker(*options, env=hang.environment)
    b.client().publish_all(("new", bytes(10_000)) for _ in range(100))
    hang.begin("psad-warmer", "madvise")
    waiting = b.client()
    waiting.send("SUB old AFTER 0\nQUIT\n")
    assert waiting.recv_line().startswith("OK ")
    hang.wait("psad-warmer", "madvise")
    # With another one, that asks for a megabyte and takes none, nothing but it stands in the way.
    stuck = b.client(rcvbuf=4096)
    stuck.send("SUB new AFTER 100\nQUIT\n")
    wait_until(lambda: b.stats()["delivered_total"] > 0, "it is being sent what it asked for")

    def is_cut():
        hang.let_pass(31)
        return b.stats()["cut_total"] > 0
    wait_until(is_cut, "it is cut")
    b.wait_stderr("cutting", "does not take what it is sent")
    hang.end("psad-warmer", "madvise")
    assert [message.id for message in waiting.recv_msgs(100)] == list(range(1, 101))
    assert waiting.recv_line().startswith("BYE quit ")
    waiting.expect_eof()
    assert b.stats()["cut_total"] == 1


def test_who_takes_little_is_not_cut(broker, hang):
    b = broker("server.workers=1", "limits.send_buffer=0", "limits.idle_timeout=20s", env=hang.environment)
    b.client().publish_all(("x", bytes(60_000)) for _ in range(200))
    slow = b.client(rcvbuf=32768)
    slow.send("SUB x AFTER 0\nQUIT\n")
    assert slow.recv_line().startswith("OK ")
    got = [slow.recv_msg()]
    for _ in range(5):
        got += slow.recv_msgs(4)
        idle = b.client()
        idle.ask("PING")
        hang.let_pass(31)
        # By then the same thread has looked at both.
        assert idle.recv_line().startswith("BYE idle ")
    got += slow.recv_msgs(200 - len(got))
    assert [message.id for message in got] == list(range(1, 201))
    assert slow.recv_line().startswith("BYE quit ")
    slow.expect_eof()
    assert b.stats()["cut_total"] == 0
