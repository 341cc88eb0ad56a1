#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Starts a command with sockets handed over, as a service manager does it for a socket unit.

    hand_over.py NAME=FD... -- COMMAND...

The descriptors become 3, 4, … and $LISTEN_FDS, $LISTEN_FDNAMES and $LISTEN_PID say so. A name may
be empty."""

import fcntl
import os
import sys

FIRST = 3

if __name__ == "__main__":
    split = sys.argv.index("--")
    pairs = [argument.rsplit("=", 1) for argument in sys.argv[1:split]]
    # Out of the way first, so that none is overwritten by another.
    kept = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, FIRST + len(pairs) + 32) for _, fd in pairs]
    for number, fd in enumerate(kept):
        os.dup2(fd, FIRST + number)
    os.closerange(FIRST + len(pairs), max(kept, default=0) + 1)
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in pairs)
    os.environ["LISTEN_PID"] = str(os.getpid())
    command = sys.argv[split + 1:]
    os.execvp(command[0], command)
