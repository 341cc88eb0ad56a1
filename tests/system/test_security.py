# SPDX-License-Identifier: MIT
"""The security of a listening program: whatever strangers do, memory is bounded, nobody else is harmed."""

import os
import subprocess

import pytest

from broker import PSAD, environment
from client import Client, wait_until


# --- how it is started --------------------------------------------------------------------------------

@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_descriptors_closed_at_the_start_never_become_a_socket_or_a_file_of_the_log(tmp_path, closed):
    """Else what psad says to its operator is written into whatever has become descriptor 2."""
    def close():
        for fd in closed:
            os.close(int(fd))

    path = tmp_path / "socket"
    child = subprocess.Popen(
        [PSAD, "-o", "listen.tcp=", "-o", f"listen.unix={path}", "-o", f"log.dir={tmp_path}/log"],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=close)
    try:
        def connected():
            try:
                return Client(f"unix:{path}")
            except OSError:
                return None
        client = wait_until(connected, "psad listens")
        assert client.publish("t", b"x") == 1
        opened = {fd: os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in (0, 1, 2)}
        assert set(opened.values()) == {"/dev/null"}, opened
        client.close()
    finally:
        child.terminate()
        assert child.wait(60) == 0
