# SPDX-License-Identifier: MIT
"""A psad daemon under test: a process of its own, on port 0, in a directory of its own."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from client import DEADLINE, FLAVOUR, Client, wait_until

ROOT = Path(__file__).resolve().parents[2]
PSAD = os.path.abspath(os.environ.get("PSAD", ROOT / "build" / "psad"))
# Sanitizers multiply memory; so does the model that the tests were first proven with.
MEASURES_MEMORY = FLAVOUR == ""
SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "WARNING: ThreadSanitizer", "runtime error:", "LeakSanitizer")
VALGRIND_REPORT = re.compile(r"^==\d+== ", re.MULTILINE)  # it is told to say nothing else
LISTENING = re.compile(r"psad: listening on (\S+?)(?:, handed over as .*)?$")
HAND_OVER = Path(__file__).with_name("hand_over.py")


def environment(**more):
    """Ours without what a service manager may have put in, and with what a test wants."""
    unwanted = ("JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS",
                "LISTEN_PID", "LISTEN_FDNAMES")
    return {k: v for k, v in os.environ.items() if k not in unwanted} | more


def run_psad(*arguments, cwd=None):
    """Runs psad to its end (for -h, -t and refused starts)."""
    return subprocess.run([PSAD, *arguments], cwd=cwd, env=environment(), timeout=DEADLINE, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Broker:
    """`tcp`: None leaves listen.tcp to the configuration. `sockets`: (name, socket) pairs to be
    handed over as a service manager does it. `launcher`: what stands before the command. `waits`:
    for "ready", else the test does."""

    def __init__(self, directory, *options, tcp="127.0.0.1:0", config=None, nofile=None, env=None,
                 sockets=(), launcher=(), waits=True):
        assert os.path.exists(PSAD), f"{PSAD} is missing: build it first"
        arguments = ["-c", str(config)] if config else []
        for option in ([f"listen.tcp={tcp}"] if tcp is not None else []) + list(options):
            arguments += ["-o", option]
        if sockets:
            launcher = (*launcher, sys.executable, str(HAND_OVER),
                        *(f"{name}={sock.fileno()}" for name, sock in sockets), "--")

        def limit_descriptors():
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

        self.process = subprocess.Popen([*launcher, PSAD, *arguments], cwd=directory, env=environment(**(env or {})), stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, preexec_fn=limit_descriptors if nofile else None,
                                        pass_fds=[sock.fileno() for _, sock in sockets])
        self.addresses = []
        self._clients = []
        self._control = None
        self.control_address = None  # of the test's own connection; None: the first
        self._stderr = []
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self.ended = False  # an expected end was seen and checked
        if waits:
            self.wait_ready()

    def wait_ready(self):
        try:
            self.wait_stderr("ready")
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise
        self.addresses = [m[1] for m in map(LISTENING.search, self.stderr.splitlines()) if m]

    def _read_stderr(self):
        for line in self.process.stderr:
            self._stderr.append(line.decode("utf-8", "replace").rstrip("\n"))

    # --- the process -------------------------------------------------------------------------

    @property
    def stderr(self):
        return "\n".join(list(self._stderr))

    def wait_stderr(self, *words, after=0):
        """Waits until one line of standard error holds all the words; returns that line."""
        def found():
            for line in list(self._stderr)[after:]:
                if all(word in line for word in words):
                    return line
            assert self.process.poll() is None or self._reader.is_alive(), f"psad ended:\n{self.stderr}"
            return None
        return wait_until(found, f"psad says {words}; it said:\n{self.stderr}")

    @property
    def stderr_lines(self):
        return len(self._stderr)

    def signal(self, number):
        self.process.send_signal(number)

    def expect_exit(self, status=0):
        """Waits for the end of the process; it must have this status and no sanitizer report."""
        self.ended = True
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._reader.join(DEADLINE)
            raise AssertionError(f"psad did not end within {DEADLINE} s:\n{self.stderr}") from None
        self._reader.join(DEADLINE)
        for report in SANITIZER_REPORTS:
            assert report not in self.stderr, self.stderr
        assert not VALGRIND_REPORT.search(self.stderr), self.stderr
        assert self.process.returncode == status, f"exit status {self.process.returncode}:\n{self.stderr}"

    def stop(self):
        """Closes all clients, asks psad to end, and requires that it does so in good order."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        self.expect_exit()

    def kill(self):
        """Ends psad as a power switch ends a process: SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        self.expect_exit(-signal.SIGKILL)

    def _status(self, field):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)[1])

    def rss(self):
        """Resident bytes now."""
        return self._status("VmRSS") * 1024

    def peak_rss(self):
        return self._status("VmHWM") * 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- talking to it -----------------------------------------------------------------------

    @property
    def address(self):
        return self.addresses[0]

    def client(self, address=None, **options):
        client = Client(address or self.control_address or self.address, **options)
        self._clients.append(client)
        return client

    def try_client(self, **options):
        """A client that was let in, or the line by which it was refused."""
        client = self.client(**options)
        answer = client.ask("PING")
        if answer.startswith("PONG "):
            return client
        client.expect_eof()
        client.close()
        return answer

    def wait_admitted(self, **options):
        """Connects again and again until a client is let in."""
        return wait_until(lambda: c if isinstance(c := self.try_client(**options), Client) else None, "a client is let in")

    @property
    def control(self):
        """A connection of the test's own to look, and to publish, with."""
        if self._control and self.control_address and self._control.readable():
            self.hang_up()  # it was idle for too long, and closed
        if self._control is None:
            self._control = self.client(self.control_address)
        return self._control

    def forget_clients(self):
        """Closes what was made by client(), but for the test's own connection."""
        for client in self._clients:
            if client is not self._control:
                client.close()
        self._clients = [c for c in self._clients if c is self._control]

    def forget(self):
        """It has ended, and nobody will ask what it said."""
        self.forget_clients()
        self.hang_up()
        self.process.stderr.close()

    def hang_up(self):
        """Closes the test's own connection; it is made again when it is wanted."""
        if self._control:
            self._control.close()
            self._clients.remove(self._control)
            self._control = None

    def info(self):
        line = self.control.ask("INFO")
        assert line.startswith("INFO psad "), line
        return {k: int(v) if v.isdigit() and k != "log" else v for k, v in (w.split("=", 1) for w in line.words[3:])}

    @property
    def log(self):
        """The identity of the log."""
        return self.info()["log"]

    def head(self):
        return self.info()["head"]

    def stats(self):
        """name -> number, or text where it is none."""
        result = {}
        for line in self.control.block("STATS"):
            word, name, value = line.words[:3]
            assert word == "STAT", line
            result[name] = int(value) if value.isdigit() and name != "log_identity" else value
        return result

    def wait_stats(self, condition, what):
        """Waits until condition(stats) holds; returns these stats."""
        def holds():
            stats = self.stats()
            return stats if condition(stats) else None
        return wait_until(holds, what)

    def publish(self, topic, payload=b""):
        return self.control.publish(topic, payload)

    def steadily(self, check):
        """Runs check(info), again where retention moved `first` meanwhile, so that it may rely on it."""
        end = time.monotonic() + DEADLINE
        while True:
            before = self.info()
            try:
                result = check(before)
            except AssertionError:
                if self.info()["first"] == before["first"] or time.monotonic() > end:
                    raise
            else:
                if self.info()["first"] == before["first"]:
                    return result
                assert time.monotonic() < end, "retention never stood still"
