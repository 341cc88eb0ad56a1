# SPDX-License-Identifier: MIT
"""The mistakes of others, each as a test under the number of its CVE.

Brokers and caches before psad had these faults; each test asks whether psad has learned the one
lesson. The first column of a failure, the test's name, says which. (Announced memory and unread
answers, CVE-2021-32675 and CVE-2025-21605, are in test_security.py.)"""

import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from broker import FLAVOUR, PSAD, ROOT, environment, run_psad
from client import DEADLINE, Client, Line, Msg, put, scaled, wait_until
from durable import SmallDisk, may_mount
from strangers import ask_each_worker

KIB, MIB = 1 << 10, 1 << 20
MAX = 4096
EVIL = b"PUB evil x\n"


def nothing_evil(broker):
    """No message was published to the topic that stands in refused bodies alone."""
    items, end = broker.control.read("evil")
    assert items == [] and end.startswith("END "), items


def half_close(client):
    try:
        client.half_close()
    except OSError:
        pass  # it is closed altogether


# --- CVE-2010-2060 (beanstalkd): the body of a rejected command was executed ----------------------

BODY = EVIL * 300  # 3300 bytes


def bad_topic(broker, tmp_path):
    return broker(f"limits.max_payload={MAX}").client(), b"PUT a..b %d\n" % len(BODY), True


def brokers_topic(broker, tmp_path):
    return broker(f"limits.max_payload={MAX}").client(), b"PUT $x %d\n" % len(BODY), True


def payload_too_large(broker, tmp_path):
    return broker("limits.max_payload=1K").client(), b"PUT t %d\n" % len(BODY), True


def too_large_to_drop(broker, tmp_path):
    return broker().client(), b"PUT t 99999999\n", False


def unreadable_length(broker, tmp_path):
    return broker().client(), b"PUT t 3300x\n", False


def too_many_words(broker, tmp_path):
    return broker().client(), b"PUT t 3300 3300\n", False


def refused_lines(broker, tmp_path):
    return broker().client(), b"LINES a..b\n", False


def lines_in_a_subscription(broker, tmp_path):
    client = broker().client()
    client.ok("SUB t")
    return client, b"LINES t\n", False


def refused_tail(broker, tmp_path):
    return broker().client(), b"TAIL a..b\n", False


def unknown_command_of_a_stranger(broker, tmp_path):
    return broker().client(), b"SET t 0 0 3300\n", False


def no_memory_for_it(broker, tmp_path):
    b = broker("limits.input_memory=64K", "limits.put_timeout=10m")
    holders = [b.client() for _ in range(3)]
    for holder in holders:
        holder.send(b"PUT t 200000\n" + b"x" * 60 * KIB)
    b.wait_stats(lambda s: s["input_memory_bytes"] > 40 * KIB, "the input memory is used up")
    return b.client(), b"PUT t 900000\n" + EVIL * 20 * KIB, False


def out_of_time(broker, tmp_path):
    client = broker("limits.put_timeout=200ms").client()
    client.send(b"PUT t 100000\n" + BODY)
    assert client.recv_line().code == "truncated"
    return client, b"", False


def full_log(broker, tmp_path):
    b = broker(f"log.dir={tmp_path}/disk/log", "log.retain_bytes=0", "log.segment_size=64K",
               "limits.max_payload=16K")
    client = b.client()
    wait_until(lambda: client.ask(b"PUB t " + b"x" * 8000).words[1] == "log-full", "it is full")
    return client, put("t", BODY)[:-len(BODY) - 1], True


def failed_log(broker, tmp_path):
    b = broker(f"log.dir={tmp_path}/log", "log.retain_bytes=0", "log.segment_size=64K",
               "limits.max_payload=16K")
    client = b.client()
    for path in (tmp_path / "log").glob("*.seg"):
        os.truncate(path, 0)
    wait_until(lambda: client.ask(b"PUB t " + b"x" * 8000).words[1] == "log-failed", "it failed")
    return client, put("t", BODY)[:-len(BODY) - 1], True


REFUSALS = [bad_topic, brokers_topic, payload_too_large, too_large_to_drop, unreadable_length,
            too_many_words, refused_lines, lines_in_a_subscription, refused_tail,
            unknown_command_of_a_stranger, no_memory_for_it, out_of_time, full_log, failed_log]


@pytest.mark.parametrize("how", [1, 100, 100000], ids=["bytewise", "in pieces", "at once"])
@pytest.mark.parametrize("reason", REFUSALS, ids=lambda f: f.__name__.replace("_", " "))
def test_cve_2010_2060_a_refused_body_is_never_executed(broker, tmp_path, reason, how):
    """For every reason of refusal: what was announced is dropped or the connection ends."""
    disk = None
    if reason is full_log:
        if not may_mount():
            pytest.skip("only root may mount a small tmpfs")
        disk = SmallDisk(tmp_path / "disk", "1M")
        disk.__enter__()
    try:
        client, header, goes_on = reason(broker, tmp_path)
        b_control = Client("%s:%d" % client.sock.getpeername()[:2])
        head = b_control.ask("INFO").words
        data = header + BODY + b"\n"
        try:
            for at in range(0, len(data), how):
                client.send(data[at:at + how])
            if goes_on:
                client.send(b"PING\n")
        except ConnectionError:
            assert not goes_on
        if goes_on:
            error, pong = client.recv_line(), client.recv_line()
            assert error.words[0] == "ERR" and not error.closes and pong.startswith("PONG")
        else:
            half_close(client)
            items = client.drain(reset_ok=True)
            assert all(item.startswith("ERR ") for item in items), items
        items, end = b_control.read("evil")
        assert not [item for item in items if isinstance(item, Msg)] and end.startswith("END ")
        after = b_control.ask("INFO").words
        assert [w for w in after if w.startswith("head=")] == [w for w in head if w[:5] == "head="]
        client.close()
        b_control.close()
    finally:
        if disk:
            disk.__exit__(None, None, None)


def test_cve_2010_2060_a_body_refused_at_the_shutdown_is_never_executed(broker):
    """The stop comes between a PUT's line and its body. That may be completed, and the next is
    refused, or carried out where it came in time; in no case are the lines in it."""
    b = broker()
    kept = b.client()
    clients = [b.client() for _ in range(10)]
    for client in clients:
        client.send(b"PUT begun %d\n" % len(BODY) + BODY[:100])
    kept.ask("PING")
    b.signal(signal.SIGTERM)
    b.wait_stderr("stopping")
    for client in clients:
        # (The PING lies between, so that they are not carried out in one go.)
        client.send(BODY[100:] + b"\nPING\n" + put("late", BODY) + put("later", BODY))
        answers = [client.recv_line() for _ in range(3)]
        try:
            client.send(EVIL)  # what waits is looked at again when something comes
        except ConnectionError:
            pass
        answers += client.drain(reset_ok=True)
        assert not [a for a in answers if a.code not in ("OK", "PONG", "shutting-down")], answers
        assert sum(not a.startswith("BYE") for a in answers) <= 5, answers
    b.expect_exit()


# --- CVE-2023-46853, CVE-2023-46852 (memcached): line ends, spaces --------------------------------

COMMANDS = {  # command: how its answer begins; topic "kept" holds one message, "k"
    b"PUB t x": b"OK 2\n",
    b"PUT t 1\nx": b"OK 2\n",
    b"LINES t": b"OK\n",
    b"SUB kept": b"OK 1@",
    b"SUB kept AFTER 0": b"OK 0@",
    b"SUB kept LAST 1": b"OK 0@",
    b"UNSUB": b"OK 1@",
    b"UNSUB kept": b"OK 1@",
    b"READ kept": b"MSG 1 kept 1\nk\nEND 1@",
    b"READ kept SINCE 1h LIMIT 1": b"MSG 1 kept 1\nk\nEND 1@",
    b"TAIL kept AFTER 0": b"k\n",
    b"CAT kept": b"k\n",
    b"ACKS OFF": b"OK\n",
    b"ACKS ON": b"OK\n",
    b"PING": b"PONG 1@",
    b"INFO": b"INFO psad ",
    b"STATS": b"STAT version ",
    b"HELP": b"HELP ",
    b"QUIT": b"BYE quit 1@",
}


def with_line_end(command, end):
    return command.replace(b"\n", end) + end


def doubled(command):
    """All spaces doubled, but the one that ends a PUB's topic."""
    head, body = (command.split(b"\n", 1) + [b""])[:2]
    if head.startswith(b"PUB"):
        return b"  PUB   t x"
    return b"  " + head.replace(b" ", b"   ") + b"  " + (b"\n" + body if body else b"")


WRITTEN = {  # how a command may be written, and still be the same
    "LF": lambda c: with_line_end(c, b"\n"),
    "CR LF": lambda c: with_line_end(c, b"\r\n"),
    "spaces": lambda c: with_line_end(doubled(c), b"\n"),
    "spaces, CR LF": lambda c: with_line_end(doubled(c), b"\r\n"),
    "lower case": lambda c: re.sub(rb"^[A-Z]+| (AFTER|LAST|SINCE|LIMIT|ON|OFF)\b",
                                   lambda m: m[0].lower(), c) + b"\n",
    "empty lines before": lambda c: b"\n\r\n  \n" + with_line_end(c, b"\n"),
}


def answer_of(client, size):
    """At least `size` bytes of what comes, or all there is until the end."""
    while len(client.unparsed) < size and client.fill():
        pass
    return client.unparsed


@pytest.fixture
def keeper(broker):
    """A broker that has one message, "k" on topic "kept"."""
    def start(*options, **keywords):
        b = broker(*options, **keywords)
        assert b.publish("kept", b"k") == 1
        return b
    return start


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.decode().split("\n")[0])
def test_cve_2023_46853_each_command_is_the_same_however_its_lines_end(keeper, command):
    """CVE-2023-46853 and 46852: an off by one between "\\n" and "\\r\\n", and doubled spaces."""
    for name, write in WRITTEN.items():
        b = keeper()
        client = b.client()
        client.send(write(command))
        assert answer_of(client, len(COMMANDS[command])).startswith(COMMANDS[command]), name
        if command.startswith(b"PU"):
            assert b.control.read("t")[0] == [Msg(2, "t", b"x")], name
        b.stop()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.decode().split("\n")[0])
def test_cve_2023_46853_what_ends_no_line_executes_nothing(keeper, command):
    """A bare CR, a form feed, a NUL, the end of the input: none of them is a line end."""
    b = keeper()
    line = command.split(b"\n")[0]
    for end in (b"", b"\r", b"\r\r", b"\x00", b"\x0b", b"\x0c", b"\xc2\x85", b"\xe2\x80\xa8"):
        client = b.client()
        client.send(b"PING\n" + line + end)
        client.half_close()
        items = client.drain()
        assert [item.code for item in items] == ["PONG", "truncated"], (end, items)
        client.close()
    assert b.head() == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.decode().split("\n")[0])
def test_cve_2023_46853_only_the_space_separates(keeper, command):
    """A tab, a NUL or the like in a space's place is an error, and one that is told."""
    b = keeper()
    for byte in (b"\t", b"\x00", b"\x0b", b"\xa0", b"\r"):
        line = command.replace(b" ", byte) if b" " in command else command + byte + b"x"
        client = b.client()
        client.send(b"PING\n" + line + b"\n")
        assert client.recv_line().startswith("PONG ")
        assert client.recv_line().words[0] == "ERR", (byte, line)
        client.close()
    assert b.head() == 1


# --- CVE-2016-8704, 8705, 8706, CVE-2011-4971 (memcached): signed and overflowing lengths ---------

NUMBERS = ["-1", "0", "1", "3", "003", "0000000000000000003", "00000000000000000003",
           "0" * 29 + "3",
           "+3", "-3", "-0", "0x3", "3.0", "3e0", "3 ", "", "\xb3", "\uff13", "3a", "a3", "'3'",
           "2147483647", "2147483648", "4294967295", "4294967296", "4294967299",
           "-2147483648", "-4294967293", "9223372036854775807", "9223372036854775808",
           "9223372036854775811", "-9223372036854775808", "18446744073709551615",
           "18446744073709551616", "18446744073709551619", "-18446744073709551613",
           "9" * 19, "1" * 30, "9" * 255]


def number(text):
    """What SPEC calls a number, or None: 1-19 decimal digits, at most 2^63-1."""
    text = text.strip(" ")
    if re.fullmatch("[0-9]{1,19}", text) and int(text) < 1 << 63:
        return int(text)
    return None


def expect_put(n, head):
    if n is None:
        return "bad-framing"
    return "OK" if n <= MAX else "payload-too-large"


def expect_since(n, head):
    good = n is not None and n >= 1000000000 and n * 1000000 < 1 << 63
    return "END" if good else "bad-argument"


PLACES = {  # where a number stands: the command, and what it must come to (None: no number)
    "PUT": ("PUT t {}", expect_put),
    "PUT a bad topic": ("PUT a..b {}", lambda n, head: "bad-framing" if n is None else "bad-topic"),
    "AFTER": ("SUB t AFTER {}", lambda n, head: "bad-argument" if n is None
              else "OK" if n <= head else "ahead-of-log"),
    "LAST": ("READ t LAST {}", lambda n, head: "bad-argument" if n is None else "END"),
    "LIMIT": ("READ t LIMIT {}", lambda n, head: "END" if n else "bad-argument"),
    "SINCE": ("READ t SINCE {}", expect_since),
    "an age": ("READ t SINCE {}s", lambda n, head: "bad-argument" if n is None else "END"),
    "AFTER with a log": ("SUB t AFTER {}@00000000",
                         lambda n, head: "bad-argument" if n is None else "OK"),
}


@pytest.mark.parametrize("place", PLACES)
def test_cve_2016_8704_no_length_wraps_or_changes_its_sign(broker, place):
    """CVE-2016-8704/5/6, CVE-2011-4971: 2^31, 2^32, 2^63, 2^64, each with 3 more, signs, zeros."""
    b = broker(f"limits.max_payload={MAX}")
    form, expected = PLACES[place]
    for text in NUMBERS:
        if text.endswith(" ") and not form.endswith("{}"):
            continue  # there it ends the word before its unit
        n, head = number(text), b.head()
        client = b.client()
        body = b"abc" if n is None or n > MAX else b"y" * n
        client.send("PING\n" + form.format(text).encode("utf-8").decode("latin-1") + "\n")
        if place.startswith("PUT"):
            try:
                client.send(body + b"\n" + EVIL)
            except ConnectionError:
                pass
        assert client.recv_line().startswith("PONG")
        answer = client.recv_line()
        assert answer.code == expected(n, head), (text, answer)
        client.close()
        if place == "PUT" and answer.code == "OK":
            assert b.control.read("t LAST 1")[0][0].payload == body
    if place == "PUT a bad topic":
        return  # some of the bodies ended before EVIL, which was a command then
    published = {m.topic for m in b.control.read(">")[0]}
    assert published <= {"t", "evil"}


# --- CVE-2021-21309, CVE-2021-41099 (Redis): overflow where a configured limit is huge ------------

def numeric_keys():
    """section.key -> default, of all keys that are numbers."""
    section, keys = "", {}
    for line in (ROOT / "psad.conf.example").read_text().splitlines():
        if found := re.match(r"\[(\w+)\]", line):
            section = found[1]
        elif found := re.match(r"#(\w+) = (\d\S*)$", line):
            keys[f"{section}.{found[1]}"] = found[2]
    return keys


HUGE = [str(1 << 63), str((1 << 64) - 1), str(1 << 64), str((1 << 64) + 100), "9" * 30]


@pytest.mark.parametrize("key", numeric_keys())
def test_cve_2021_21309_every_number_in_the_configuration_has_an_upper_bound(key):
    """CVE-2021-21309, CVE-2021-41099. Nothing wraps to a small number that looks good."""
    default = numeric_keys()[key]
    units = {"": ["", "K", "G"], "s": ["s", "d"], "M": ["", "G"], "K": ["", "G"], "ms": ["ms", "d"]}
    unit = re.sub(r"^\d+", "", default)
    if key in ("log.retain_age", "limits.idle_timeout"):
        unit = "s"
    for text in HUGE[:5 if FLAVOUR == "" else 2]:
        for suffix in units[unit]:
            result = run_psad("-t", "-o", f"{key}={text}{suffix}")
            assert result.returncode == 1 and key in result.stderr, (text + suffix, result.stderr)


LARGEST = ["limits.input_memory=1048576G", "limits.max_patterns=65536", "limits.put_timeout=1d",
           "limits.idle_timeout=365d", "limits.send_buffer=1G", "limits.keepalive=32767s",
           "limits.max_connections=16777216", "limits.max_connections_per_ip=16777216",
           "listen.backlog=65535", "log.retain_messages=1000000000000000",
           "log.retain_age=36500d", "log.retain_bytes=1048576G", "server.drain_timeout=1d",
           "limits.max_payload=64M", "log.segment_size=1G"]


def test_cve_2021_21309_psad_works_with_the_largest_of_everything(broker):
    for option in LARGEST:
        key, value = option.split("=")
        more = re.sub(r"^\d+", lambda m: str(int(m[0]) + 1), value)
        result = run_psad("-t", "-o", f"{key}={more}")
        assert result.returncode == 1 and key in result.stderr, f"{key}: {more} is taken"
    b = broker(*LARGEST, "server.workers=2")
    client = b.client()
    client.ok("SUB " + " ".join(f"p{n}" for n in range(65536)))
    assert client.ask("SUB one.more").code == "too-many"
    assert b.publish("p65535", b"x" * (8 * MIB)) == 1
    assert len(client.recv_msg().payload) == 8 * MIB
    assert [m.id for m in b.control.read("> SINCE 36500d LIMIT 9223372036854775807")[0]] == [1]


# --- CVE-2018-12543 (mosquitto): an odd topic met an assertion ------------------------------------

ODD = [form.replace(b"?", bytes([byte])) for byte in range(256) if byte != 0x0A
       for form in (b"?", b"a?", b"?a", b"a.?", b"?.a")]
ODD += [b"$SYS/broker/publish/drop", b"$share/a/b", b"#", b"+/a", b"a/#", b"\xff" * 255, b"." * 255]


def is_name(name, pattern):
    """Whether it is a topic (that may be published to), or a pattern."""
    tokens = name.split(b".")
    if not 1 <= len(name) <= 255 or b"" in tokens or re.search(rb"[\x00-\x20\x7f]", name):
        return False
    for at, token in enumerate(tokens):
        if b"*" in token or b">" in token:
            if not pattern or len(token) > 1 or (token == b">" and at < len(tokens) - 1):
                return False
    return pattern or not name.startswith(b"$")


@pytest.mark.parametrize("verb", [b"PUB", b"PUT", b"SUB", b"UNSUB", b"READ"])
def test_cve_2018_12543_no_name_however_odd_stops_psad(broker, verb):
    """Each byte in each place: taken or refused, as the contract says; assertions are for us."""
    b = broker("limits.max_patterns=10000")
    client = b.client()
    # A space, and a CR at the end, belong to the line; these are other tests'.
    names = [name for name in ODD if b" " not in name and not name.endswith(b"\r")]
    for name in names:
        if verb == b"PUT":
            client.send(b"PUT " + name + b" 1\nx\n")
        else:
            client.send(verb + b" " + name + b"\n")
    client.send(b"PING\n")
    answers = client.recv_until(lambda item: isinstance(item, Line) and item.startswith("PONG"))
    answers = [item for item in answers[:-1] if isinstance(item, Line)]
    assert len(answers) == len(names)
    for name, answer in zip(names, answers):
        good = is_name(name, pattern=verb not in (b"PUB", b"PUT"))
        assert (answer.words[0] != "ERR") == good, (name, answer)


@pytest.mark.parametrize("verb", [b"LINES", b"TAIL", b"CAT"])
def test_cve_2018_12543_no_odd_name_stops_psad_where_a_refusal_closes(broker, verb):
    b = broker("server.workers=1")
    names = [name for name in ODD if b" " not in name and not name.endswith(b"\r")]
    names = names if FLAVOUR == "" else names[::7]
    clients = [b.client() for _ in names]
    for name, client in zip(names, clients):
        client.send(verb + b" " + name + b"\nPUB evil x\n")
        if verb != b"TAIL":
            client.half_close()
    for _ in range(3):  # what was sent before is read before the last of them
        b.control.ask("PING")
    for name, client in zip(names, clients):
        good = is_name(name, pattern=verb != b"LINES")
        if verb != b"TAIL" or not good:
            assert client.recv_raw(reset_ok=True).startswith(b"ERR ") != good, name
        else:
            assert not client.readable(), name
        client.close()
    nothing_evil(b)


# --- CVE-2021-28166, CVE-2023-3592, CVE-2023-28366 (mosquitto): a command in an unexpected state --

def fresh(client):
    pass


def spoken(client):
    client.ask("PING")


def subscribed(client):
    client.ok("SUB a.* b")


def subscribed_with_acks_off(client):
    client.ok("ACKS OFF")
    client.ok("SUB >")


def replaying(client):
    client.send("SUB > AFTER 0\n")


def seeking(client):
    client.send("SUB a LAST 5\n")


def reading(client):
    client.send("READ >\n")


def tailing(client):
    client.send("TAIL > AFTER 0\n")


def catting(client):
    client.send("CAT >\n")


def in_lines(client):
    client.ok("LINES state.lines")


def in_a_body(client):
    client.send("PUT state.body 20000\nabc")


def in_a_dropped_body(client):
    client.send("PUT a..b 20000\nabc")


def in_a_dropped_line(client):
    client.send(b"PUB t " + b"x" * (2 * MAX))


def in_a_line(client):
    client.send("PING\nPUB state.line ")


def with_unread_answers(client):
    client.send("HELP\n" * 400)


def half_closing(client):
    client.ok("SUB a")


def refused(client):
    client.send("CAT a..b\n")


STATES = [fresh, spoken, subscribed, subscribed_with_acks_off, replaying, seeking, reading, tailing,
          catting, in_lines, in_a_body, in_a_dropped_body, in_a_dropped_line, in_a_line,
          with_unread_answers, half_closing, refused]

TRIED = [*COMMANDS, b"PUT t 100000\nabc", b"PUT a..b 5\nhello", b"PUT t 5\nhello!", b"PUT",
         b"PUT t", b"PUT t 0\n", b"PUB", b"PUB a..b", b"PUB t", b"SUB", b"SUB a..b",
         b"SUB > LAST 3", b"SUB > SINCE 1h", b"SUB a AFTER 0@00000000", b"SUB a AFTER 999999",
         b"UNSUB > a b", b"UNSUB a..b", b"READ > LIMIT 2", b"READ", b"READ a LIMIT 0", b"TAIL",
         b"CAT", b"CAT > LIMIT 1", b"LINES", b"LINES a..b", b"ACKS", b"PING x", b"QUIT x",
         b"NOSUCH", b"GET / HTTP/1.1", b"", b"\x00", b"\xff" * 100, b"MSG 1 t 1\nx",
         b"PUB t " + b"y" * 2 * MAX, b"SUB" + b" x" * 2000]


@pytest.mark.parametrize("state", STATES, ids=lambda f: f.__name__.replace("_", " "))
def test_cve_2021_28166_every_command_in_every_state_is_survived(broker, state):
    """CVE-2021-28166, CVE-2023-3592, CVE-2023-28366. Under a sanitizer also: nothing leaks."""
    b = broker("server.workers=2", f"limits.max_payload={MAX}", "log.segment_size=64K",
               "log.retain_bytes=256K", "limits.max_patterns=1000")
    for n in range(30):
        b.publish("a" if n % 2 else "a.b", b"x" * 3000)
    for command in TRIED:
        for ending in ("half-closed", "closed", "asked"):
            client = b.client(rcvbuf=8192)
            try:
                state(client)
                if state is half_closing:
                    client.send(command + b"\n" + command)
                    client.half_close()
                client.send(command + b"\n")
                if ending == "half-closed":
                    client.half_close()
                elif ending == "asked":
                    client.send("PING\n")
                    b.control.ask("PING")  # some of it is carried out by now
            except (ConnectionError, BrokenPipeError):
                pass  # refused and closed while we were sending
            # With a reset: of a peer that just closes, a subscription hears by the next message.
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    assert b.control.ask("PING").startswith("PONG")

    def all_have_left():
        for topic in ("a", "a.b", "kept", "t", "x"):  # by a message, subscriptions hear of it
            b.publish(topic)
        return b.stats()["connections"] == 1
    wait_until(all_have_left, "what has gone is noticed")
    head = b.head()
    assert b.publish("t") == head + 1


@pytest.mark.parametrize("command", TRIED, ids=lambda c: c[:20].decode("latin-1").split("\n")[0])
def test_cve_2021_28166_in_lines_each_line_is_data_and_in_tail_it_is_dropped(broker, command):
    """No line of data is taken for a command, whatever it looks like."""
    b = broker(f"limits.max_payload={MAX}")
    lines, tail = b.client(), b.client()
    tail.send("TAIL nothing\n")
    b.wait_stats(lambda s: s["subscribers"] == 1, "TAIL has begun")
    tail.send(command + b"\n" + EVIL)
    lines.ok("LINES data")
    lines.send(command + b"\n" + EVIL)
    lines.half_close()
    tail.half_close()
    items = lines.drain()
    sent = [line for line in (command + b"\n" + EVIL).split(b"\n")[:-1] if len(line) <= MAX]
    assert items[-1].words[:2] == ["OK", str(len(sent))], items
    assert [m.payload for m in b.control.read("data")[0]] == sent
    ask_each_worker(b)
    assert b.head() == len(sent)
    b.wait_stats(lambda s: s["connections"] <= 3, "LINES has ended")
    assert not tail.readable(), "TAIL has answered a command"
    tail.close()


ANSWERS = {"OK", "ERR", "BYE", "PONG", "INFO", "STAT", "HELP", "END"}


def test_cve_2021_28166_every_command_while_psad_stops_is_survived(broker):
    """What comes during a shutdown is answered with its code, or the connection has ended."""
    b = broker("server.workers=2", f"limits.max_payload={MAX}", "server.drain_timeout=1m",
               "log.retain_bytes=16M", "limits.max_patterns=1000")
    for n in range(1500):
        b.publish("a", b"x" * 4000)
    slow = b.client(rcvbuf=4096)
    slow.ok("SUB > AFTER 0")
    begun = [b.client() for _ in TRIED]
    idle = [b.client() for _ in TRIED]
    for client in begun:
        client.send(b"PING\nPUT t 3\nab")
        assert client.recv_line().startswith("PONG")
    b.signal(signal.SIGTERM)
    b.wait_stderr("stopping")
    for command, client, other in zip(TRIED, begun, idle):
        for one, data in ((client, b"c\n" + command + b"\n"), (other, command + b"\n" + EVIL)):
            try:
                one.send(data)
                one.half_close()
            except OSError:
                pass
    for command, *clients in zip(TRIED, begun, idle):
        for client in clients:
            is_bare = command.startswith((b"CAT", b"TAIL"))
            items = [] if is_bare else client.drain(reset_ok=True)
            answers = [item for item in items if isinstance(item, Line)]
            if command.startswith(b"GET ") and answers and answers[0].startswith("HTTP/1.1 400 "):
                answers = []  # it was its first line, and came before the end
            assert {answer.words[0] for answer in answers} <= ANSWERS, answers
            client.close()
    assert b.process.poll() is None, b.stderr
    b.signal(signal.SIGTERM)
    b.expect_exit()


# --- CVE-2024-31228, CVE-2022-36021 (Redis): patterns that take for ever --------------------------

def cpu_ns(broker):
    """What all threads have computed, in nanoseconds: finer than the ticks of /proc/<pid>/stat."""
    total = 0
    for path in Path(f"/proc/{broker.process.pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total


def adversaries(depth):
    """Patterns that a matcher that goes back tries in 2^depth ways; none of them matches."""
    stars = ["*"] * depth
    places = range(0, depth, max(1, depth // 8))
    return [".".join(stars[:n] + ["b"] + stars[n + 1:]) for n in places] \
        + [".".join(stars + ["b", ">"]), ".".join(stars[:-1] + ["b"]),
           ".".join(["a", "*"] * (depth // 2 - 1) + ["b", ">"]), ".".join(stars + [">"])]


@pytest.mark.parametrize("how", ["live", "replay"])
def test_cve_2024_31228_a_pattern_costs_as_much_as_it_is_long(broker, how):
    """CVE-2024-31228, CVE-2022-36021. A matcher that is exponential never ends here; four times
    the tokens may cost four times as much, and a good deal of noise, but no square of it."""
    costs = {}
    for depth in (30, 120):
        b = broker("server.workers=1", "log.retain_bytes=64M")
        client = b.client()
        patterns = " ".join(adversaries(depth))
        messages = [(".".join(["a"] * depth), b"")] * scaled(10000)
        if how == "live":
            client.ok("SUB nothing " + patterns)
        b.control.publish_all(messages)
        begin = cpu_ns(b)
        if how == "live":
            b.control.publish_all(messages)
            wait_until(lambda: client.ask("PING").id == 2 * len(messages), "all was looked at")
        else:
            items, end = client.read(patterns)
            assert items == [] and end.id == len(messages)
        costs[depth] = cpu_ns(b) - begin
        b.stop()
    assert costs[120] < 10 * costs[30], costs


def test_cve_2024_31228_deep_patterns_match_exactly_what_they_say(broker):
    """As deep as 255 bytes allow, with all kinds of wildcards; no depth is refused or crashes."""
    b = broker()
    deepest = 128
    topic = ".".join(["a"] * deepest)
    wanted = [topic, ".".join(["*"] * deepest), ".".join(["*"] * (deepest - 1)) + ".>", "*.>", ">",
              ".".join(["a"] * (deepest - 1)) + ".*", "*." + ".".join(["a"] * (deepest - 1))]
    unwanted = [".".join(["*"] * (deepest - 1)), ".".join(["*"] * (deepest - 1)) + ".b",
                "b" + ".*" * (deepest - 1), topic[:-1] + "b"]
    subscribers = {pattern: b.client() for pattern in wanted + unwanted}
    for pattern, client in subscribers.items():
        client.ok("SUB " + pattern)
    assert b.publish(topic, b"deep") == 1
    for pattern, client in subscribers.items():
        items, _ = client.quit()
        assert len(items) == (pattern in wanted), pattern
        assert len(b.control.read(pattern)[0]) == (pattern in wanted), pattern


# --- CVE-2023-45145 (Redis), CVE-2017-9868 (mosquitto): a window in which permissions are wide ----

needs_strace = pytest.mark.skipif(shutil.which("strace") is None or FLAVOUR != "",
                                  reason="needs strace, and no sanitizer beside it")


def traced(tmp_path, *options):
    """Starts and stops psad with a umask of 0 under strace; returns the calls that matter."""
    trace = tmp_path / "trace"
    calls = "umask,bind,listen,chmod,fchmod,fchmodat,mkdir,mkdirat,open,openat,creat,rename,mknod"
    child = subprocess.Popen(
        ["strace", "-f", "-qq", "-y", "-s", "200", "-e", f"trace={calls}", "-o", str(trace), PSAD,
         *(word for option in options for word in ("-o", option))], cwd=tmp_path, umask=0,
        env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = []
    for line in child.stderr:
        said.append(line.decode("utf-8", "replace"))
        if "ready" in said[-1]:
            break
    assert "ready" in said[-1], said
    psad = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    yield child
    for pid in psad:
        os.kill(int(pid), signal.SIGTERM)
    child.stderr.read()
    assert child.wait(DEADLINE) == 0
    yield trace.read_text().splitlines()


@needs_strace
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_cve_2023_45145_the_unix_socket_is_never_open_wider_than_configured(tmp_path, mode):
    """From bind on: no chmod behind it, before which somebody else may connect."""
    run = traced(tmp_path, "listen.tcp=", f"listen.unix={tmp_path}/s", f"listen.unix_mode={mode:o}")
    next(run)
    assert (tmp_path / "s").stat().st_mode & 0o777 == mode
    umask, bound = 0, False
    for call in next(run):
        if found := re.search(r"umask\(0?([0-7]*)(?:\)| <unfinished)", call):
            umask = int(found[1] or "0", 8)
        elif "bind(" in call and "AF_UNIX" in call:
            assert 0o777 & ~umask == mode, f"bound with a umask of {umask:o}: {call}"
            bound = True
        assert not re.search(r"ch?mod(at)?\(", call) or "mknod" in call, call
    assert bound and umask == 0, "the umask was not put back"


@needs_strace
def test_cve_2017_9868_the_log_is_never_readable_by_others_not_even_while_it_is_made(tmp_path):
    """CVE-2017-9868: the store was world-readable. Every file is created as narrow as it stays."""
    run = traced(tmp_path, "listen.tcp=127.0.0.1:0", f"log.dir={tmp_path}/deep/log")
    next(run)
    assert (tmp_path / "deep" / "log").stat().st_mode & 0o077 == 0
    made = {"mkdir": 0, "O_CREAT": 0}
    for call in next(run):
        if found := re.search(r"mkdir(?:at)?\(.*?\"([^\"]*)\", 0?([0-7]+)(?:\)| <unfinished)", call):
            assert int(found[2], 8) & 0o077 == 0, call
            made["mkdir"] += 1
        elif "O_CREAT" in call:
            found = re.search(r"O_CREAT[A-Z_|]*, 0?([0-7]+)(?:\)| <unfinished)", call)
            assert found and int(found[1], 8) & 0o177 == 0, call
            made["O_CREAT"] += 1
        assert "chmod" not in call, call
    assert made["mkdir"] >= 1 and made["O_CREAT"] >= 2, made


# --- CVE-2017-7652 (mosquitto): a reload without descriptors dropped all security -----------------

CONF = """[server]
workers = 1
[limits]
max_payload = 8K
max_connections = 7
max_connections_per_ip = 5
max_patterns = 3
"""


def limits_hold(broker):
    """Each of the file's limits is in force."""
    assert broker.info()["max_payload"] == 8192
    assert broker.control.ask("SUB a b c d").code == "too-many"
    assert broker.control.ask(b"PUT t 8193\n" + b"x" * 8193).code == "payload-too-large"
    others = [broker.try_client(source="127.0.0.7") for _ in range(6)]
    assert all(isinstance(client, Client) for client in others[:5])
    assert isinstance(others[5], Line) and "max_connections_per_ip" in others[5]
    last, more = broker.try_client(source="127.0.0.8"), broker.try_client(source="127.0.0.8")
    assert isinstance(last, Client) and isinstance(more, Line) and "max_connections" in more
    for client in others[:5] + [last]:
        client.close()
    broker.wait_stats(lambda s: s["connections"] == 1, "all have left")


def no_descriptors(path, broker):
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (3, 20000))


def missing(path, broker):
    path.unlink()


def a_directory(path, broker):
    path.unlink()
    path.mkdir()


def a_dangling_link(path, broker):
    path.unlink()
    path.symlink_to("/nonexistent/psad.conf")


def a_loop(path, broker):
    path.unlink()
    path.symlink_to(path)


def cut_by_a_full_disk(path, broker):
    path.write_text(CONF.replace("= 8K", "= 16K").replace("= 7", "= 70")[:-5])


def no_text(path, broker):
    path.write_bytes(os.urandom(5000))


def bad_at_its_end(path, broker):
    path.write_text(CONF.replace("= 8K", "= 16K").replace("= 5", "= 50") + "nonsense = 1\n")


def unfit_for_what_runs(path, broker):
    """Good in itself: a larger payload, that the segments of the running log can't hold."""
    path.write_text(CONF.replace("= 8K", "= 64M").replace("= 7", "= 70").replace("= 5", "= 50")
                    .replace("= 3", "= 30") + "[log]\nsegment_size = 256M\nretain_bytes = 1G\n")


@pytest.mark.parametrize("spoil", [no_descriptors, missing, a_directory, a_dangling_link, a_loop,
                                   cut_by_a_full_disk, no_text, bad_at_its_end,
                                   unfit_for_what_runs], ids=lambda f: f.__name__.replace("_", " "))
def test_cve_2017_7652_a_reload_that_fails_keeps_the_old_configuration_wholly(
        broker, tmp_path, spoil):
    """Every limit of the old file is in force, none of the new; a good file is taken afterwards."""
    path = tmp_path / "psad.conf"
    path.write_text(CONF)
    b = broker(config=path)
    limits_hold(b)
    spoil(path, b)
    seen = b.stderr_lines
    b.signal(signal.SIGHUP)
    b.wait_stderr("nothing has changed", after=seen)
    if spoil is no_descriptors:
        assert "oo many open files" in b.stderr
        resource.prlimit(b.process.pid, resource.RLIMIT_NOFILE, (20000, 20000))
        b.wait_admitted().close()
    b.wait_stats(lambda s: s["connections"] == 1, "it has left")
    limits_hold(b)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(CONF.replace("max_payload = 8K", "max_payload = 16K"))
    seen = b.stderr_lines
    b.signal(signal.SIGHUP)
    b.wait_stderr("reload: done", after=seen)
    assert b.info()["max_payload"] == 16384


# --- CVE-2018-1000115 (memcached): UDP, and listening to everybody --------------------------------

LONELY = """
import fcntl, os, socket, struct, sys
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh14s", b"lo", 0x49, b""))  # SIOCSIFFLAGS: up
s.close()
os.execv(sys.argv[1], sys.argv[1:])
"""
NAMESPACE = ["unshare", "-n", "--", sys.executable, "-c", LONELY]


def may_unshare():
    return os.getuid() == 0 and subprocess.run(["unshare", "-n", "true"], check=False,
                                               stderr=subprocess.DEVNULL).returncode == 0


def sockets_of(pid, table):
    """The words about each socket of a kind in the process's network namespace."""
    path = Path(f"/proc/{pid}/net/{table}")
    return [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []


def check_kinds(pid):
    """Each socket of the process, bound or not, is one of TCP or a Unix socket."""
    known = {words[9] for table in ("tcp", "tcp6") for words in sockets_of(pid, table)}
    known |= {words[6] for words in sockets_of(pid, "unix")}
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    assert inodes and inodes <= known, (links, known)


@pytest.mark.parametrize("options", [[], ["-o", "listen.insecure=yes", "-o", "listen.tcp=:9853"]],
                         ids=["by default", "to everybody"])
def test_cve_2018_1000115_psad_listens_on_loopback_by_default_and_never_on_udp(tmp_path, options):
    """In a network of its own, where all sockets that there are must be psad's."""
    if not may_unshare():
        pytest.skip("only root may make a network of its own")
    path = tmp_path / "s"
    child = subprocess.Popen([*NAMESPACE, PSAD, *options, "-o", f"listen.unix={path}"],
                             env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for line in child.stderr:
            if b"ready" in line:
                break
        client = Client(f"unix:{path}")
        client.publish("t", b"x")
        client.close()
        for table in ("udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6",
                      "packet"):
            assert sockets_of(child.pid, table) == [], table
        check_kinds(child.pid)
        listening = {words[1] for table in ("tcp", "tcp6")
                     for words in sockets_of(child.pid, table) if words[3] == "0A"}
        if not options:
            assert "0100007F:267D" in listening, listening
            assert listening <= {"0100007F:267D", "00000000000000000000000001000000:267D"}
        else:
            assert "00000000:267D" in listening, listening
    finally:
        child.terminate()
        child.stderr.read()
        assert child.wait(DEADLINE) == 0


FOREIGN = ["0.0.0.0:0", ":0", "[::]:0", "[::ffff:0.0.0.0]:0", "[::ffff:127.0.0.1]:0", "10.0.0.1:0",
           "[::ffff:10.0.0.1]:0", "[::127.0.0.1]:0", "[::2]:0", "[fe80::1]:0", "128.0.0.1:0",
           "126.255.255.255:0", "224.0.0.1:0", "255.255.255.255:0", "[ff02::1]:0", "[0:0::0]:0",
           "[64:ff9b::7f00:1]:0", "127.0.0.1:0, 0.0.0.0:0", "[::1]:0,[::]:0", ":0,127.0.0.1:0"]
NAMES = ["localhost:0", "localhost.:0", "127.1:0", "0:0", "*:0", "0x7f000001:0", "2130706433:0",
         "0177.0.0.1:0", "127.0.0.01:0", "127.0.0.1.example.com:0", "127.0.0.1 0.0.0.0:0",
         "[::1]0.0.0.0:0", "[::1%lo]:0", "[::1]", "::1:0", "127.0.0.1@0.0.0.0:0", "127.0.0.1/0:0",
         "0.0.0.0", "127.0.0.1:0;0.0.0.0:0", "127.0.0.1:0\n0.0.0.0:0", "127.0.0.1:0\t0.0.0.0:0",
         "\uff10.0.0.0:0", "any:0", "[localhost]:0", "[]:0", " :", "127.0.0.1:65536",
         "127.0.0.1:-1", "127.0.0.1:4295034149", "127.0.0.1:0x0", "127.0.0.1:"]


@pytest.mark.parametrize("tcp", FOREIGN)
def test_cve_2018_1000115_other_machines_are_let_in_by_that_word_alone(tcp):
    """Also as IPv4 in IPv6, behind a loopback address in the list, and as every address."""
    result = run_psad("-o", f"listen.tcp={tcp}")
    assert result.returncode == 1 and "listen.insecure" in result.stderr, result.stderr


@pytest.mark.parametrize("tcp", NAMES, ids=repr)
def test_cve_2018_1000115_what_is_no_plain_address_is_never_guessed(tcp):
    """No name is looked up, no short or octal form is read, nothing is used up to its fault."""
    result = run_psad("-o", f"listen.tcp={tcp}", "-o", "listen.insecure=yes")
    assert result.returncode == 1 and "listen.tcp" in result.stderr, result.stderr


@pytest.mark.parametrize("text", [
    "[listen]\ntcp = 127.0.0.1:0\n  0.0.0.0:0\n", "[listen]\ntcp = 127.0.0.1:0,\n\t[::]:0\n",
    "[listen]\ntcp = 127.0.0.1:0\ninsecure = no\ntcp = 0.0.0.0:0\n",
    "[listen]\ninsecure = yes\ninsecure = no\ntcp = 0.0.0.0:0\n",
    "[listen]\n;insecure = yes\ntcp = 0.0.0.0:0\n", "[listen]\ninsecure =\ntcp = 0.0.0.0:0\n",
    "[listen]\ninsecure = YES\ntcp = 0.0.0.0:0\n", "[listen] insecure = yes\ntcp = 0.0.0.0:0\n",
    "insecure = yes\n[listen]\ntcp = 0.0.0.0:0\n", "[Listen]\ninsecure = yes\ntcp = 0.0.0.0:0\n",
])
def test_cve_2018_1000115_no_way_of_writing_the_file_lets_others_in_by_mistake(tmp_path, text):
    path = tmp_path / "psad.conf"
    path.write_text(text)
    result = run_psad("-c", str(path))
    assert result.returncode == 1 and str(path) in result.stderr, result.stderr


# --- others who speak: browsers, and programs that took the wrong port ----------------------------

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + EVIL + b"\r\n0\r\n\r\n"
SPEAKERS = {
    "POST": b"POST / HTTP/1.1\r\nContent-Length: 22\r\n\r\n" + EVIL * 2,
    "POST, chunked": b"POST / HTTP/1.1\r\nHost: localhost:9853\r\n" + CHUNKED,
    "POST in lower case": b"post / HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + EVIL,
    "POST with a bare LF": b"POST / HTTP/1.1\nContent-Length: 11\n\n" + EVIL,
    "POST with two lengths": b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 11\r\n\r\n"
                             + EVIL,
    "PUT": b"PUT /x HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + EVIL,
    "PUT with a number": b"PUT / 11\r\n" + EVIL[:-1] + b" and more\r\n" + EVIL,
    "GET": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + EVIL,
    "GET with lines in it": b"GET /\nPUB evil x\n HTTP/1.1\r\n\r\n",
    "GET of HTTP/0.9": b"GET /\r\n" + EVIL,
    "OPTIONS": b"OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: PUB\r\n\r\n" + EVIL,
    "CONNECT": b"CONNECT localhost:9853 HTTP/1.1\r\n\r\n" + EVIL,
    "pipelined requests": b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n"
                          + EVIL,
    "WebSocket": b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x0b" + EVIL,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x0b\x00\x01\x00\x00\x00\x01" + EVIL,
    "TLS": b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + b"\n" + EVIL * 3,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\n" + EVIL,
    "PROXY 1": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + EVIL,
    "PROXY 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\x7f\x00\x00\x01" * 3 + EVIL,
    "SMTP": b"EHLO localhost\r\nMAIL FROM:<a@b>\r\nDATA\r\n" + EVIL + b".\r\n",
    "FTP": b"USER anonymous\r\nPASV\r\n" + EVIL,
    "IRC": b"NICK a\r\nUSER a 0 * :a\r\n" + EVIL,
    "RESP": b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nevil\r\n$11\r\n" + EVIL + b"\r\n",
    "RESP of our words": b"*3\r\n$3\r\nPUB\r\n$4\r\nevil\r\n$1\r\nx\r\n" + EVIL,
    "memcached": b"set evil 0 0 11\r\n" + EVIL + b"\r\n",
    "memcached, binary": b"\x80\x01\x00\x04\x08\x00\x00\x00\x00\x00\x00\x17" + b"\x00" * 12 + EVIL,
    "MQTT": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\n" + EVIL,
    "AMQP": b"AMQP\x00\x00\x09\x01\n" + EVIL,
    "Kafka": b"\x00\x00\x00\x20\x00\x12\x00\x00\n" + EVIL,
    "beanstalkd": b"put 0 0 60 11\r\n" + EVIL + b"\r\n",
    "STOMP": b"CONNECT\naccept-version:1.2\n\n\x00" + EVIL,
    "NATS": b'CONNECT {"verbose":false}\r\n' + EVIL,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n" + EVIL,
    "a byte order mark": b"\xef\xbb\xbf" + EVIL * 2,
    "UTF-16": EVIL.decode().encode("utf-16-le") * 2,
}
HTTP = {"POST", "POST, chunked", "POST with a bare LF", "POST with two lengths", "GET", "OPTIONS",
        "CONNECT", "pipelined requests", "WebSocket", "HTTP/2"}


@pytest.mark.parametrize("how", ["at once", "bytewise"])
@pytest.mark.parametrize("speaker", SPEAKERS)
def test_what_speaks_another_protocol_publishes_nothing_and_is_told(broker, speaker, how):
    """Its data may hold lines that look like commands; its first line says that it errs."""
    b = broker()
    data = SPEAKERS[speaker]
    client = b.client()
    try:
        for at in range(0, len(data), len(data) if how == "at once" else 1):
            client.send(data[at:at + (len(data) if how == "at once" else 1)])
    except ConnectionError:
        pass
    half_close(client)
    answer = client.recv_raw(reset_ok=how == "bytewise")
    if speaker in HTTP:
        assert re.match(rb"HTTP/1\.1 400 ", answer), answer
        assert b"access-control" not in answer.lower() and b"evil" not in answer
    else:
        assert answer.startswith(b"ERR ") or speaker in ("PUT with a number",), answer
        assert answer.count(b"\n") == 1 or speaker in ("PUT with a number",), answer
    nothing_evil(b)
    assert b.head() <= (1 if speaker == "PUT with a number" else 0)


# --- the table ------------------------------------------------------------------------------------

def test_no_lesson_of_the_table_is_without_its_test():
    """Each number that the table of lessons names stands in the name or words of a test."""
    numbers = ["2010-2060", "2023-46853", "46852", "2016-8704", "2011-4971", "2021-21309",
               "2021-41099", "2021-32675", "2017-7651", "2023-0809", "2025-21605", "2018-12543",
               "2021-28166", "2023-3592", "2023-28366", "2024-31228", "2022-36021", "2023-45145",
               "2017-9868", "2017-7652", "2018-1000115"]
    text = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py"))
                   if path.name != Path(__file__).name)
    own = Path(__file__).read_text().split("def test_no_lesson_of_the_table")[0]
    found = text + own
    missing = [n for n in numbers if n not in found and n.replace("-", "_") not in found]
    assert not missing, missing
