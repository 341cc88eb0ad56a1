# SPDX-License-Identifier: MIT
"""The servers that bench/run compares: how each is started, on which CPU, and with what settings.

Settings are as fair as we know: no persistence, no logging, nobody cut off for being slow, as many
connections as the limit of open files allows, and everything else as it comes from its makers.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

OPEN_FILES = 20000
START_SECONDS = 20
STOP_SECONDS = 30
# What a service manager may have put in is not for a server that we start.
NOT_PASSED_ON = ("JOURNAL_STREAM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")

NATS_CONFIG = """
listen: "127.0.0.1:{port}"
logfile: "{directory}/server.log"
max_connections: 20000
# A client with more than so many bytes to read is cut off (default 64 MB).
max_pending: 4294967296
# A client that takes nothing for so long is cut off (default 10 s).
write_deadline: "120s"
# The default is 1 MB with its limits: our largest message has exactly that.
max_payload: 8388608
"""

MOSQUITTO_CONFIG = """
listener {port} 127.0.0.1
# Started by root it would become the user mosquitto, who can't read this file.
user root
allow_anonymous true
max_connections -1
persistence false
# 0: no limit. By default messages for a client with 1000 unsent ones are dropped.
max_queued_messages 0
max_queued_bytes 0
# As all others have it.
set_tcp_nodelay true
log_dest none
log_type none
# No messages of its own about itself.
sys_interval 0
"""

REDIS_OPTIONS = [
    "--bind", "127.0.0.1", "--daemonize", "no", "--loglevel", "warning",
    # No persistence.
    "--save", "", "--appendonly", "no",
    # By default a subscriber with 32 MB to read, or 8 MB for a minute, is cut off.
    "--client-output-buffer-limit", "pubsub 0 0 0",
    # By default 10000, and 511 that wait to be accepted.
    "--maxclients", str(OPEN_FILES), "--tcp-backlog", "4096",
]


class Failure(Exception):
    """A server did not start; the text says why."""


def split_cpus():
    """The CPUs of the server and of the load generator: one each, or None where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return ({cpus[0]}, {cpus[1]}) if len(cpus) > 1 else (None, None)


def prepare(cpus):
    """What runs in a child before its program does."""
    def limits():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if cpus:
            os.sched_setaffinity(0, cpus)
    return limits


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process of its own, from start() to stop()."""

    kind = ""  # psad, bare, nats, redis, mqtt
    protocol = ""  # as the load generator calls it
    says_port = None  # what it says on standard error or output about its port

    def __init__(self, label, program):
        self.label = label
        self.program = program
        self.process = None
        self.port = 0
        self.said = []  # lines

    # --- for subclasses ---

    def command(self, _directory, _options):
        raise NotImplementedError

    def version(self):
        return first_line([self.program, "--version"])

    # --- for bench/run ---

    def is_there(self):
        return shutil.which(self.program) is not None

    def start(self, options, cpus):
        self.said = []
        self.directory = tempfile.TemporaryDirectory(prefix="psad-bench-")
        self.port = 0 if self.says_port else free_port()
        environment = {k: v for k, v in os.environ.items() if k not in NOT_PASSED_ON}
        self.process = subprocess.Popen(
            self.command(self.directory.name, options), cwd=self.directory.name, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", preexec_fn=prepare(cpus))
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        try:
            self._wait_ready()
        except BaseException:  # also when we are interrupted
            self.stop()
            raise

    def _listen(self):
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def _wait_ready(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.listener.join(1)
                raise Failure(f"ended with status {self.process.returncode}: {self.said[-5:]}")
            if self.says_port and not self.port:
                found = [m for m in map(self.says_port.search, list(self.said)) if m]
                self.port = int(found[0][1]) if found else 0
            if self.port:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return
                except OSError:
                    pass
            time.sleep(0.01)
        raise Failure(f"not ready after {START_SECONDS} s: {self.said[-5:]}")

    def rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as status:
            return int(re.search(r"^VmRSS:\s+(\d+)", status.read(), re.M)[1]) * 1024

    def stop(self):
        """Ends it; `said` then has all that it said. Returns None or what went wrong."""
        fault = None
        status = self.process.poll()
        if status is not None:
            fault = f"had ended with status {status}: {self.said[-3:]}"
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                fault = f"killed: did not stop within {STOP_SECONDS} s"
                self.process.kill()
                self.process.wait()
        self.listener.join(5)
        self.process.stdout.close()
        self.directory.cleanup()
        return fault


class Psad(Server):
    kind = protocol = "psad"
    says_port = re.compile(r"psad: listening on 127\.0\.0\.1:(\d+)$")

    def __init__(self, label, program, timed=None):
        super().__init__(label, program)
        self.timed = timed  # the same with clocks in it

    def command(self, _directory, options):
        arguments = [os.path.abspath(self.timed if "timed" in options else self.program)]
        for option in ("listen.tcp=127.0.0.1:0", "server.drain_timeout=1s",
                       *options.get("psad", [])):
            arguments += ["-o", option]
        return arguments

    def version(self):
        return first_line([self.program, "-V"])


class Bare(Server):
    """bench/bare.c: the yardstick, which does nothing but what can't be left out."""
    kind = "bare"
    protocol = "raw"
    says_port = re.compile(r"listening on 127\.0\.0\.1:(\d+)$")

    def command(self, _directory, options):
        return [os.path.abspath(self.program), *options.get("bare", []), "0"]

    def version(self):
        return "of this tree"


class Nats(Server):
    kind = protocol = "nats"

    def command(self, directory, _options):
        path = os.path.join(directory, "nats.conf")
        with open(path, "w", encoding="utf-8") as config:
            config.write(NATS_CONFIG.format(port=self.port, directory=directory))
        return [self.program, "-c", path]


class Redis(Server):
    kind = protocol = "redis"

    def command(self, _directory, _options):
        return [self.program, "--port", str(self.port), *REDIS_OPTIONS]


class Mosquitto(Server):
    kind = protocol = "mqtt"

    def command(self, directory, _options):
        path = os.path.join(directory, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as config:
            config.write(MOSQUITTO_CONFIG.format(port=self.port))
        return [self.program, "-c", path]

    def version(self):
        return first_line([self.program, "-h"])


PEERS = {"nats": lambda: Nats("nats", "nats-server"), "redis": lambda: Redis("redis", "redis-server"),
         "mqtt": lambda: Mosquitto("mqtt", "mosquitto")}


def first_line(command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        return str(fault)
    return (done.stdout.splitlines() or ["says nothing"])[0].strip()
