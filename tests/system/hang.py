# SPDX-License-Identifier: MIT
"""A daemon of which one thread hangs, or for which time goes by, when a test says so (hang.c)."""

import shutil
import subprocess

import pytest

from broker import ROOT
from client import FLAVOUR, wait_until


def build_library(directory):
    """The library that makes a thread hang, or a skip."""
    if FLAVOUR:
        pytest.skip("the library is not for sanitizers")
    if shutil.which("cc") is None:
        pytest.skip("no compiler to build hang.c with")
    library = directory / "hang.so"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-w", "-o",
                    library, ROOT / "tests/system/hang.c", "-ldl", "-pthread"], check=True)
    return library


class Hang:
    """Makes threads of a daemon hang."""

    def __init__(self, library, directory):
        self.directory = directory / "hang"
        self.directory.mkdir()
        self.environment = {"LD_PRELOAD": str(library), "HANG_DIR": str(self.directory)}

    def begin(self, thread, call):
        (self.directory / f"{thread}.{call}").touch()

    def wait(self, thread, call):
        wait_until((self.directory / f"{thread}.{call}.held").exists, f"{thread} hangs in {call}")

    def end(self, thread, call):
        (self.directory / f"{thread}.{call}").unlink()

    def let_pass(self, seconds):
        """For the daemon it is so much later, at once."""
        with open(self.directory / "later", "ab") as file:
            file.write(bytes(seconds))
