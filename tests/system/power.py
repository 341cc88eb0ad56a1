# SPDX-License-Identifier: MIT
"""Cutting the power of a log directory, without a machine to spare.

A daemon that runs with the library of power.c leaves a second copy of its files: what it has
synced. cut() makes the directory what it could be after a loss of power: all that was synced, and
any part of what was not, by pages (and now and then by sectors) and by changes of names."""

import random
import shutil
import subprocess
import uuid
from pathlib import Path

PAGE, SECTOR = 4096, 512
SOURCE = Path(__file__).with_name("power.c")


def build(directory):
    """Compiles the library; returns its path."""
    library = Path(directory) / "power.so"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-w",
                    "-o", library, SOURCE, "-ldl", "-pthread"], check=True)
    return library


class Power:
    """The power supply of one log directory."""

    def __init__(self, library, log_dir, disk_dir, delay_us=0):
        self.library, self.log, self.disk = library, Path(log_dir), Path(disk_dir)
        self.delay_us = delay_us
        self._renew({})

    @property
    def environment(self):
        """What a daemon needs to be watched."""
        return {"LD_PRELOAD": str(self.library), "POWER_LOG": str(self.log),
                "POWER_DISK": str(self.disk), "POWER_DELAY_US": str(self.delay_us)}

    def set(self, name, is_set=True):
        """`hold`: syncs wait; `fail`: they fail."""
        path = self.disk / name
        path.touch() if is_set else path.unlink(missing_ok=True)

    @property
    def is_held(self):
        """A sync waits."""
        return (self.disk / "held").exists()

    def _renew(self, files):
        """A new boot, in which all that is there is on the disk."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        (self.disk / "boot_id").write_text(f"{uuid.uuid4()}\n")
        for serial, (name, content) in enumerate(sorted(files.items())):
            (self.log / name).write_bytes(content)
            (self.log / name).chmod(0o600)
            (self.disk / f"{serial}.live").hardlink_to(self.log / name)
            (self.disk / f"{serial}.disk").write_bytes(content)
        (self.disk / "journal").write_text(
            "".join(f"have {n} {name}\n" for n, name in enumerate(sorted(files))))

    def names(self, randomly, choice):
        """name -> serial, as the directory may be found: what was synced, and some changes more.

        A journaling file system keeps a beginning of them, POSIX promises no order at all."""
        lines = [line.split() for line in (self.disk / "journal").read_text().splitlines()]
        synced = max((n for n, line in enumerate(lines) if line[0] == "syncdir"), default=-1)
        changes = [(n, line) for n, line in enumerate(lines) if line[0] != "syncdir"]
        done = [line for n, line in changes if n <= synced or line[0] == "have"]
        pending = [line for n, line in changes if n > synced and line[0] != "have"]
        if choice == "prefix":
            pending = pending[:randomly.randrange(len(pending) + 1)]
        elif choice == "any":
            pending = [line for line in pending if randomly.random() < .5]
        elif choice == "none":
            pending = []
        else:
            assert choice == "all"
        names = {}
        for what, serial, *rest in done + pending:
            if what in ("have", "create"):
                names[rest[0]] = int(serial)
            elif what == "rename":
                if names.get(rest[0]) == int(serial):
                    del names[rest[0]]
                names[rest[1]] = int(serial)
            elif what == "unlink" and names.get(rest[0]) == int(serial):
                del names[rest[0]]
        return names

    def content(self, serial, randomly, share, torn):
        """A file as it may be found: what was synced, and a share of the pages written since."""
        live = (self.disk / f"{serial}.live").read_bytes()
        path = self.disk / f"{serial}.disk"
        old = path.read_bytes() if path.exists() else b""
        if len(live) != len(old) and randomly.random() >= share:
            live = live[:len(old)].ljust(len(old), b"\0")  # the new size has not come through
        result = bytearray(live)
        old = old[:len(live)].ljust(len(live), b"\0")
        for page in range(0, len(live), PAGE):
            step = SECTOR if randomly.random() < torn else PAGE
            if live[page:page + PAGE] != old[page:page + PAGE]:
                for at in range(page, min(page + PAGE, len(live)), step):
                    if randomly.random() >= share:
                        result[at:at + step] = old[at:at + step]
        return bytes(result)

    def settle(self):
        """The daemon is dead: notes the one change of a name that it may have made last, and been
        killed before it could write that down."""
        is_at = {(self.disk / f"{n}.live").stat().st_ino: n for n in range(self._files())}
        noted, found, lines = self.names(None, "all"), {}, []
        for path in sorted(self.log.iterdir()):
            if path.is_file():
                inode = path.stat().st_ino
                if inode not in is_at:
                    is_at[inode] = len(is_at)
                    (self.disk / f"{is_at[inode]}.live").hardlink_to(path)
                found[path.name] = is_at[inode]
        gone = {serial: name for name, serial in noted.items() if name not in found}
        for name, serial in found.items():
            if serial in gone:
                lines.append(f"rename {serial} {gone.pop(serial)} {name}\n")
            elif noted.get(name) != serial:
                lines.append(f"create {serial} {name}\n")
        lines += [f"unlink {serial} {name}\n" for serial, name in gone.items()]
        with open(self.disk / "journal", "a", encoding="ascii") as journal:
            journal.writelines(lines)

    def _files(self):
        return len(list(self.disk.glob("*.live")))

    def cut(self, seed, share=None):
        """Loses the power (the daemon is dead already) and gives it back, with another boot.
        `share`: of the unsynced pages that come through; None: any."""
        self.settle()
        randomly = random.Random(seed)
        if share is None:
            share = randomly.choice([0, 1, .5, .1, .9])
        torn = randomly.choice([0, 0, .2])
        names = self.names(randomly, randomly.choice(["none", "prefix", "any"]))
        files = {name: self.content(serial, randomly, share, torn)
                 for name, serial in names.items()}
        for path in self.log.iterdir():
            if path.is_file():
                path.unlink()
        self._renew(files)
        return sorted(files)
