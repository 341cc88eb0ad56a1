# SPDX-License-Identifier: MIT
"""The simulated loss of power itself (power.c, power.py): it takes what was not synced, leaves
what was, and reaches all that lies between. A simulation that is too kind would let a user lose
messages; one that is too hard would have psad mend what no disk does."""

import random
import subprocess
import sys

import pytest

import power
from client import FLAVOUR

pytestmark = pytest.mark.skipif(bool(FLAVOUR), reason="the library is not for sanitizers")


@pytest.fixture
def supply(tmp_path):
    (tmp_path / "log").mkdir()
    return power.Power(power.build(tmp_path), tmp_path / "log", tmp_path / "disk")


def act(supply, script):
    """Runs a piece of Python in the log directory, watched."""
    prelude = "import os, mmap\n" \
        "directory = os.open('.', os.O_RDONLY)\n" \
        "def write(name, data, at=0, sync=False):\n" \
        "    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)\n" \
        "    os.pwrite(fd, data, at)\n" \
        "    if sync: os.fdatasync(fd)\n" \
        "    os.close(fd)\n"
    result = subprocess.run([sys.executable, "-S", "-c", prelude + script], cwd=supply.log,
                            env=supply.environment, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout


def outcomes(supply, cuts=60):
    """What all there can be after a cut: a set of {name: content} as sorted pairs."""
    found = set()
    for seed in range(cuts):
        names = supply.names(random.Random(seed), ["none", "prefix", "any"][seed % 3])
        found.add(tuple(sorted(
            (name, supply.content(serial, random.Random(seed), [0, 1, .5][seed // 3 % 3], 0))
            for name, serial in names.items())))
    return found


def test_what_was_synced_stays_and_what_was_not_may_go(supply):
    act(supply, "write('a', b'old', sync=True); os.fsync(directory); write('a', b'new')")
    assert outcomes(supply) == {(("a", b"old"),), (("a", b"new"),)}


def test_a_name_is_not_kept_by_syncing_the_file(supply):
    act(supply, "write('a', b'data', sync=True)")
    assert outcomes(supply) == {(), (("a", b"data"),)}


def test_stores_through_a_mapping_are_seen(supply):
    act(supply, "write('a', bytes(8192), sync=True); os.fsync(directory)\n"
                "fd = os.open('a', os.O_RDWR); m = mmap.mmap(fd, 8192)\n"
                "m[0] = 1; os.fdatasync(fd); m[4096] = 2; m[1] = 3")
    one, two = bytes([1, 0]) + bytes(4094), bytes([1, 3]) + bytes(4094)
    low, high = bytes(4096), bytes([2]) + bytes(4095)
    assert outcomes(supply, 200) == {
        (("a", first + last),) for first in (one, two) for last in (low, high)}


def test_replacing_a_file_gives_the_old_one_or_the_new_one(supply):
    act(supply, "write('a', b'old', sync=True); os.fsync(directory)\n"
                "write('a.tmp', b'new', sync=True); os.rename('a.tmp', 'a')")
    contents = {dict(files)["a"] for files in outcomes(supply)}
    assert contents == {b"old", b"new"}
    act(supply, "os.fsync(directory)")
    assert outcomes(supply) == {(("a", b"new"),)}


def test_replacing_a_file_without_a_sync_may_leave_it_empty(supply):
    act(supply, "write('a', b'old', sync=True); os.fsync(directory)\n"
                "write('a.tmp', b'new'); os.rename('a.tmp', 'a'); os.fsync(directory)")
    assert outcomes(supply) == {(("a", b""),), (("a", b"new"),), (("a", bytes(3)),)}


def test_a_file_that_was_removed_may_come_back_until_the_directory_is_synced(supply):
    act(supply, "write('a', b'x', sync=True); os.fsync(directory); os.unlink('a')")
    assert outcomes(supply) == {(), (("a", b"x"),)}
    act(supply, "os.fsync(directory)")
    assert outcomes(supply) == {()}


def test_after_a_cut_the_directory_is_what_the_disk_had_and_all_of_it_is_synced(supply):
    act(supply, "write('a', b'old', sync=True); os.fsync(directory); write('b', b'x')")
    boot = act(supply, "print(open('/proc/sys/kernel/random/boot_id').read())")
    assert act(supply, "print(open('/proc/sys/kernel/random/boot_id').read())") == boot
    assert "a" in supply.cut(1)
    assert act(supply, "print(open('/proc/sys/kernel/random/boot_id').read())") != boot
    assert (supply.log / "a").read_bytes() == b"old"
    left = {path.name for path in supply.log.iterdir()}
    act(supply, "write('a', b'new')")
    assert {frozenset(dict(files)) for files in outcomes(supply)} == {frozenset(left)}


def test_a_sync_that_failed_is_not_made_good_by_a_later_one(supply):
    act(supply, "write('a', b'old', sync=True); os.fsync(directory)")
    supply.set("fail")
    act(supply, "try: write('a', b'new', sync=True)\nexcept OSError as e: assert e.errno == 5\n"
                "else: raise SystemExit('it did not fail')")
    supply.set("fail", False)
    act(supply, "write('a', b'new', sync=True)")
    assert (("a", b"old"),) in outcomes(supply)


def test_a_change_that_was_made_just_before_a_kill_counts(supply):
    """The library had no time to write it down; the next life goes by what it finds."""
    act(supply, "write('a', b'x', sync=True); os.fsync(directory)")
    (supply.log / "a").rename(supply.log / "b")
    supply.settle()
    assert outcomes(supply) == {(("a", b"x"),), (("b", b"x"),)}
    act(supply, "os.fsync(directory)")
    assert outcomes(supply) == {(("b", b"x"),)}
    assert supply.cut(3) == ["b"]
