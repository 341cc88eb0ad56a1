# SPDX-License-Identifier: MIT
"""A service manager as far as its service sees it: the socket that $NOTIFY_SOCKET names."""

import os
import socket
import threading
import time
import uuid

from client import wait_until

WATCHDOG_US = 1_200_000  # short enough for a test, long enough for a busy machine


class Message(dict):
    """One datagram: its assignments, and when it came (CLOCK_MONOTONIC)."""

    def __init__(self, data):
        super().__init__(line.split("=", 1) for line in data.decode().splitlines())
        self.time = time.monotonic()

    @property
    def status(self):
        return self.get("STATUS", "")


class Manager:
    """Listens at a path, or under an abstract name, and keeps what it is told."""

    def __init__(self, directory, is_abstract=False):
        self.path = f"@psad-test-{uuid.uuid4()}" if is_abstract else str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.path[1:] if is_abstract else self.path)
        self.messages = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def environment(self, watchdog_us=0):
        return {"NOTIFY_SOCKET": self.path} | (
            {"WATCHDOG_USEC": str(watchdog_us)} if watchdog_us else {})

    def _read(self):
        while data := self._socket.recv(65536):
            self.messages.append(Message(data))

    def close(self):
        """Nobody listens any more."""
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._socket.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def index(self, is_it, after=0):
        """The place of the first such message from there on, or -1."""
        return next((n for n, message in enumerate(self.messages[after:], after)
                     if is_it(message)), -1)

    def wait(self, is_it, what, after=0):
        """Waits for such a message; returns it."""
        return self.messages[wait_until(
            lambda: 1 + self.index(is_it, after), f"the service manager is told {what}: "
            f"it was told {self.messages[-5:]}") - 1]

    def wait_key(self, key, value=None, after=0):
        return self.wait(lambda m: m.get(key) == value if value else key in m,
                         f"{key}={value or '…'}", after)

    def wait_status(self, *words, after=0):
        return self.wait(lambda m: all(word in m.status for word in words), f"{words}", after)

    @property
    def feeds(self):
        """So often has the watchdog been fed."""
        return sum("WATCHDOG" in message for message in list(self.messages))

    def settle(self):
        """Everything that was sent before this has been read."""
        mark = str(uuid.uuid4())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._socket.getsockname())
            sock.send(f"MARK={mark}".encode())
        self.wait_key("MARK", mark)

    def wait_fed(self, times=2):
        """Until the watchdog has been fed so often from now on."""
        goal = self.feeds + times
        wait_until(lambda: self.feeds >= goal, f"the watchdog is fed {times} times")
