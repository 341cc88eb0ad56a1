# SPDX-License-Identifier: MIT
"""psad from the shell: what README promises of every netcat, and of bash without one.

What each needs (tried on Debian 12). `PUB …` followed by `QUIT` returns at once everywhere, because psad closes.

    tool                 publish, return with the answers   go on receiving after `echo SUB news |`
    OpenBSD netcat       nc -N HOST PORT                    nc -N HOST PORT (or nc HOST PORT)
    traditional netcat   nc -q 60 HOST PORT  [1]            nc HOST PORT  [2]
    ncat                 ncat HOST PORT                     ncat HOST PORT
    socat                socat -t 60 - TCP:HOST:PORT  [3]   socat -t 1000000 - TCP:HOST:PORT  [3]
    BusyBox nc           busybox nc HOST PORT               busybox nc HOST PORT
    bash                 cannot close only its sending side: end with QUIT;  LINES see `BASH_LINES` below
    (subscribe in bash)  exec 3<>/dev/tcp/HOST/PORT; echo SUB news >&3; cat <&3

[1] -q N: at the end of the input close the sending side, and leave after at most N seconds, answer or not: -q 0 sees
    no answer, -q 60 leaves as soon as psad has answered and closed. Without -q the sending side stays open.
[2] Without -q, and so without closing its sending side. -q N would end it after N seconds.
[3] -t N: how long it waits for answers after the end of the input; the default is half a second.

A tool that is not installed is skipped and named.
"""

import os
import shutil
import signal
import subprocess
from typing import NamedTuple

import pytest

from client import DEADLINE, scaled, wait_until

# LINES from bash: the answer must be read before the close, or the close is a reset that takes lines with it.
BASH_LINES = 'exec 3<>/dev/tcp/$HOST/$PORT; echo LINES logs >&3; read -r answer <&3; echo "$answer"; cat >&3'


class Netcat(NamedTuple):
    plain: str  # shell words; $NC, $HOST and $PORT are set
    half_close: str  # closes its sending side at the end of the input and returns with the answers; "": cannot
    stay: str  # goes on receiving after the end of the input
    unix: str = ""  # connects to the Unix socket $SOCKET; "": cannot
    help: tuple = ()  # command, and what it must say, so that it is the right one


BASH = "exec 3<>/dev/tcp/$HOST/$PORT; cat <&3 & cat >&3; wait $!"
NETCATS = {
    "nc.openbsd": Netcat("$NC $HOST $PORT", "$NC -N $HOST $PORT", "$NC -N $HOST $PORT", "$NC -U $SOCKET",
                         (["-h"], "OpenBSD netcat")),
    "nc.traditional": Netcat("$NC $HOST $PORT", "$NC -q 60 $HOST $PORT", "$NC $HOST $PORT", "", (["-h"], "[v1.10")),
    "ncat": Netcat("$NC $HOST $PORT", "$NC $HOST $PORT", "$NC $HOST $PORT", "$NC -U $SOCKET", (["-h"], "Ncat")),
    "socat": Netcat("$NC -t 60 - TCP:$HOST:$PORT", "$NC -t 60 - TCP:$HOST:$PORT", "$NC -t 1000000 - TCP:$HOST:$PORT",
                    "$NC -t 60 - UNIX-CONNECT:$SOCKET", (["-h"], "socat")),
    "busybox": Netcat("$NC nc $HOST $PORT", "$NC nc $HOST $PORT", "$NC nc $HOST $PORT", "", (["--list"], "\nnc\n")),
    "bash": Netcat(BASH, "", BASH, "", (["--version"], "GNU bash")),
}
HALF_CLOSING = [name for name, netcat in NETCATS.items() if netcat.half_close]
WITH_UNIX_SOCKETS = [name for name, netcat in NETCATS.items() if netcat.unix]


def find(name):
    """The path of this very netcat; skips where it is not installed."""
    words, sign = NETCATS[name].help
    for path in filter(None, map(shutil.which, [name, "nc"] if name.startswith("nc.") else [name])):
        said = subprocess.run([path, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=DEADLINE).stdout.decode(errors="replace")
        if sign in said:
            return path
    pytest.skip(f"{name} is not installed")


class Shell:
    """Runs shell lines in which $NC, $HOST, $PORT (and $SOCKET) are set; kills what is left of them at the end."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory
        self.netcat = NETCATS[name]
        self.environment = {**os.environ, "NC": find(name)}
        self.running = []

    def connect_to(self, address, socket=""):
        host, port = address.rsplit(":", 1)
        self.environment |= {"HOST": host, "PORT": port, "SOCKET": str(socket)}

    def run(self, line, data=b""):
        """Runs it to its end with data as its input; what it printed."""
        result = subprocess.run(["bash", "-c", line], env=self.environment, input=data, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=DEADLINE)
        assert (result.returncode, result.stderr) == (0, b""), f"{line}: {result}"
        return result.stdout

    def start(self, line):
        """Starts it, with its input open."""
        self.running.append(Running(line, self.environment, self.directory / f"output{len(self.running)}"))
        return self.running[-1]

    def close(self):
        for one in self.running:
            one.kill()


class Running:
    def __init__(self, line, environment, path):
        self.path = path
        with open(path, "wb") as output:
            # A session of its own, so that all of a pipeline can be killed.
            self.process = subprocess.Popen(["bash", "-c", line], env=environment, stdin=subprocess.PIPE, stdout=output,
                                            stderr=subprocess.STDOUT, start_new_session=True)

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end_input(self):
        self.process.stdin.close()

    def wait_output(self, expected):
        """Waits until it has printed this, and nothing else."""
        def is_there():
            printed = self.path.read_bytes()
            assert expected.startswith(printed), f"printed {printed!r} instead of {expected!r}"
            return printed == expected
        try:
            wait_until(is_there, f"{expected!r} is printed")
        except AssertionError as failure:
            raise AssertionError(f"{failure}; printed {self.path.read_bytes()!r}") from None

    def wait_exit(self):
        self.process.wait(DEADLINE)
        assert self.process.returncode == 0

    def kill(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture
def shell(request, tmp_path):
    one = Shell(request.param, tmp_path)
    yield one
    one.close()


every_netcat = pytest.mark.parametrize("shell", NETCATS, indirect=True)
half_closing_netcats = pytest.mark.parametrize("shell", HALF_CLOSING, indirect=True)
netcats_with_unix_sockets = pytest.mark.parametrize("shell", WITH_UNIX_SOCKETS, indirect=True)


# --- publishing ------------------------------------------------------------------------------

@every_netcat
def test_pub_and_quit_print_the_id_and_return(broker, shell):
    b = broker()
    shell.connect_to(b.address)
    assert shell.run(shell.netcat.plain, b"PUB news hello\nQUIT\n") == f"OK 1\nBYE quit 1@{b.log}\n".encode()


@half_closing_netcats
def test_pub_alone_prints_the_id_and_returns(broker, shell):
    shell.connect_to(broker().address)
    assert shell.run(f"echo 'PUB news hello' | {shell.netcat.half_close}") == b"OK 1\n"


@netcats_with_unix_sockets
def test_quit_returns_through_a_unix_socket_too(broker, shell, tmp_path):
    b = broker(f"listen.unix={tmp_path}/psad.sock")
    shell.connect_to(b.address, tmp_path / "psad.sock")
    assert shell.run(shell.netcat.unix, b"PUB news hello\nQUIT\n") == f"OK 1\nBYE quit 1@{b.log}\n".encode()


def lines_of_a_file(path):
    """A file with every byte, empty lines and a line larger than any buffer of a netcat."""
    every_byte = bytes(byte for byte in range(256) if byte != 0x0A) * 2
    lines = [b"%d %s." % (n, every_byte[n % 255:][:n % 90]) for n in range(scaled(20_000))]
    lines += [b"", b"", b"x\xff\x00" * 100_000, b"", b"QUIT", b"the end"]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return lines


@every_netcat
def test_lines_publishes_each_line_of_a_file(broker, shell, tmp_path):
    lines = lines_of_a_file(tmp_path / "file")
    b = broker()
    shell.connect_to(b.address)
    subscriber = b.client()
    assert subscriber.ok("SUB logs").position == f"0@{b.log}"
    if shell.netcat.half_close:
        printed = shell.run(f"(echo LINES logs; cat {tmp_path}/file) | {shell.netcat.half_close}")
        assert printed == b"OK\nOK %d %d\n" % (len(lines), len(lines))
    else:
        assert shell.run(f"cat {tmp_path}/file | ({BASH_LINES})") == b"OK\n"
    for number, line in enumerate(lines, 1):
        message = subscriber.recv_msg()
        assert (message.id, message.topic, message.payload) == (number, "logs", line)
    assert b.head() == len(lines)


# --- subscribing -----------------------------------------------------------------------------

@every_netcat
def test_a_subscriber_at_the_keyboard_sees_the_messages_and_quits(broker, shell):
    b = broker()
    shell.connect_to(b.address)
    one = shell.start(shell.netcat.plain)
    one.type(b"SUB news\n")
    one.wait_output(f"OK 0@{b.log}\n".encode())
    b.publish("news", b"hello")
    b.publish("weather", b"not asked for")
    b.publish("news", b"world")
    seen = f"OK 0@{b.log}\nMSG 1 news 5\nhello\nMSG 3 news 5\nworld\n"
    one.wait_output(seen.encode())
    one.type(b"PUB news to all\n")
    # "MSG … may stand between answers (also before the OK of the publish that caused them)"
    either = [f"{seen}OK 4\nMSG 4 news 6\nto all\n".encode(), f"{seen}MSG 4 news 6\nto all\nOK 4\n".encode()]
    wait_until(lambda: one.path.read_bytes() in either, "both the OK and the message are printed")
    seen = one.path.read_bytes()
    one.type(b"QUIT\n")
    one.wait_output(seen + f"BYE quit 4@{b.log}\n".encode())
    one.end_input()
    one.wait_exit()


@every_netcat
def test_a_subscriber_goes_on_receiving_after_the_end_of_its_input(broker, shell):
    b = broker()
    shell.connect_to(b.address)
    one = shell.start(f"echo SUB news | ({shell.netcat.stay})")
    seen = f"OK 0@{b.log}\n"
    one.wait_output(seen.encode())
    for number in range(1, 4):
        b.publish("news", b"hello %d" % number)
        seen += f"MSG {number} news 7\nhello {number}\n"
        one.wait_output(seen.encode())
    assert b.stats()["subscribers"] == 1
    one.kill()

    def is_noticed():
        b.publish("news", b"is anybody there?")
        return b.stats()["subscribers"] == 0
    wait_until(is_noticed, "psad notices at a message that the subscriber is gone")


@every_netcat
def test_tail_gives_bare_payloads_to_a_pipe(broker, shell):
    b = broker()
    shell.connect_to(b.address)
    one = shell.start(f"echo 'TAIL logs.>' | ({shell.netcat.stay}) | grep --line-buffered -a -v debug")
    b.wait_stats(lambda stats: stats["subscribers"] == 1, "TAIL has begun")
    for payload in [b"an error", b"debug: not this", b"", b"\xffanother\x01"]:
        b.publish("logs.app", payload)
    one.wait_output(b"an error\n\n\xffanother\x01\n")
    b.publish("logs.app", b"and later")
    one.wait_output(b"an error\n\n\xffanother\x01\nand later\n")


@every_netcat
def test_cat_prints_what_is_kept_and_returns(broker, shell):
    b = broker()
    shell.connect_to(b.address)
    payloads = [b"%d" % n * (n % 50) for n in range(1000)]
    b.client().publish_all(("logs", payload) for payload in payloads)
    b.publish("other", b"not asked for")
    everything = b"".join(payload + b"\n" for payload in payloads)
    assert shell.run(f"echo CAT logs | ({shell.netcat.stay})") == everything
    assert shell.run(f"echo 'cat logs last 2' | ({shell.netcat.stay}) | tail -n 1") == payloads[-1] + b"\n"
    assert shell.run(f"echo 'CAT logs AFTER 10 LIMIT 1' | ({shell.netcat.stay})") == payloads[10] + b"\n"
