# SPDX-License-Identifier: MIT
"""A log directory and an address, and the daemons that run on them, one after the other."""

import re
import socket
import subprocess

from broker import PSAD, Broker, environment
from client import Msg

# A message of 20 KB must fit, and the segments be many.
SMALL_SEGMENTS = ("log.segment_size=128K", "log.retain_bytes=0", "limits.max_payload=20K")


class Durable:
    """start(), then kill() or stop(), then start() again: the same log, at the same address."""

    def __init__(self, home, *options, env=None, config=None):
        self.home = home
        self.config = config
        self.prefix = ()
        self.dir = home / "log"
        self.options = options
        self.env = env
        self.before_start = lambda: None
        self.lives = []
        # Bound and never listening, so that nobody else is given the port between two lives.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"

    def arguments(self, *options):
        """What psad is told, as its options."""
        return (f"log.dir={self.dir}", *self.options, *options)

    def start(self, *options):
        self.before_start()
        self.lives.append(Broker(self.home, *self.arguments(*options), tcp=self.address,
                                 env=self.env, config=self.config, launcher=self.prefix))
        return self.broker

    @property
    def broker(self):
        return self.lives[-1]

    def kill(self):
        self.broker.kill()

    def stop(self):
        self.broker.stop()

    def restart(self, *options):
        self.stop()
        return self.start(*options)

    def revive(self, *options):
        self.kill()
        return self.start(*options)

    def _daemon(self, *options, stderr=subprocess.DEVNULL):
        self.before_start()
        command = [*self.prefix, PSAD] + (["-c", str(self.config)] if self.config else [])
        for option in (f"listen.tcp={self.address}", *self.arguments(*options)):
            command += ["-o", option]
        return subprocess.Popen(command, cwd=self.home, stdin=subprocess.DEVNULL, stderr=stderr,
                                env=environment(**(self.env or {})))

    def start_and_kill(self, seconds):
        """A daemon that is killed so long after its birth, be it ready by then or not."""
        with self._daemon() as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            else:
                raise AssertionError(f"psad ended by itself: status {process.returncode}")

    def refused(self, *options, status=2):
        """psad does not start here, and says why; returns what it said."""
        said = []
        with self._daemon(*options, stderr=subprocess.PIPE) as process:
            for line in process.stderr:
                said.append(line.decode("utf-8", "replace"))
                if "ready" in said[-1]:
                    process.kill()
        said = "".join(said)
        assert process.returncode == status, f"status {process.returncode}:\n{said}"
        return said

    def abandon(self):
        """Whatever has happened: nothing is left running."""
        for broker in self.lives:
            if broker.process.poll() is None:
                broker.process.kill()
                broker.process.wait()
        self._port.close()

    def end(self):
        """At the end of a test: the last daemon must still stop in good order."""
        try:
            for broker in self.lives:
                if not broker.ended:
                    broker.stop()
        finally:
            self.abandon()

    # --- its files ---------------------------------------------------------------------------

    @property
    def segments(self):
        """The files of the segments, oldest first."""
        return sorted(self.dir.glob("*.seg"))

    @property
    def files(self):
        """name -> content of what is kept there: neither the lock nor half-made files."""
        contents = {}
        for path in sorted(self.dir.iterdir()):
            if path.name == "lock" or path.suffix == ".tmp":
                continue
            try:
                contents[path.name] = path.read_bytes()
            except FileNotFoundError:
                pass  # dropped meanwhile
        return contents

    def used_bytes(self):
        """What the directory takes: as du counts it, and as the sizes of the segments."""
        blocks = sizes = 0
        for path in self.dir.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # dropped meanwhile
            blocks += status.st_blocks * 512
            sizes += status.st_size if path.suffix == ".seg" else 0
        return blocks, sizes

    def find(self, needle):
        """The one place in the segments' files where these bytes stand: path and offset."""
        found = [(path, match.start()) for path in self.segments
                 for match in re.finditer(re.escape(needle), path.read_bytes())]
        assert len(found) == 1, f"{needle[:40]!r} stands in {len(found)} places"
        return found[0]


def flip(path, offset, bit=0):
    """Turns one bit of a file around, as bad memory or a bad disk does."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def read_all(broker, start="AFTER 0", patterns=">"):
    """What is kept, as messages and gaps; and the position at its end."""
    items, end = broker.control.read(f"{patterns} {start}".rstrip())
    assert end.startswith("END "), end
    return items, end


def messages_of(items):
    return {item.id: item for item in items if isinstance(item, Msg)}


def may_mount():
    """Whether this process may make a small file system of its own."""
    return subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL, check=False).returncode == 0


class SmallDisk:
    """A tmpfs of its own size, mounted while the block runs. Only root may."""

    def __init__(self, path, size):
        self.path, self.size = path, size

    def __enter__(self):
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "psad-test",
                        str(self.path)], check=True)
        return self.path

    def __exit__(self, *failure):
        subprocess.run(["umount", "-l", str(self.path)], check=True)
