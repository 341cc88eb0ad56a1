#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Plants one fault at a time into a copy of the code or of the manual and sees to it that manual.py
names it."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL, CONF, DAEMON = (f"packaging/man/{page}" for page in
                          ("psad-protocol.7", "psad.conf.5", "psad.8"))
COMMAND, ANSWER, KEYS, STATS, COUNTERS, MAIN = (
    f"src/{name}" for name in ("wire/command.h", "wire/answer.h", "ops/keys.h", "ops/stats.c",
                               "net/counters.h", "main.c"))

# file, what stands there, what replaces it (the first time), what has to be said
PLANTS = [
    # What the code has and the manual lacks.
    (COMMAND, 'X(PUB, "PUB ', 'X(PEEK, "PEEK  look") \\\n\tX(PUB, "PUB ', "verb PEEK is missing"),
    ("src/wire/arguments.c", 'word_is(keyword, "LAST")', 'word_is(keyword, "NEWEST")',
     "start NEWEST is missing"),
    (ANSWER, 'X(BAD_TOPIC, "bad-topic")', 'X(BAD_TOPIC, "no-topic")',
     "error code no-topic is missing"),
    (ANSWER, 'X(VOID, "void")', 'X(VOID, "void") X(SKIPPED, "skipped")',
     "reason of a gap skipped is missing"),
    (ANSWER, 'X(IDLE, "idle")', 'X(IDLE, "idle") X(MOVED, "moved")',
     "reason of BYE moved is missing"),
    (STATS, "synced=%", "stored=%", "word of INFO stored is missing"),
    (STATS, '"log_bytes"', '"log_size"', "statistic log_size is missing"),
    (STATS, '"STAT version ', '"STAT release ', "statistic release is missing"),
    (COUNTERS, "X(cut_total)", "X(cut_total) X(hung_total)", "statistic hung_total is missing"),
    (COUNTERS, "X(subscribers)", "X(readers)", "statistic readers is missing"),
    (MAIN, '"c:o:tVh"', '"c:o:tqVh"', "option q is missing"),
    (MAIN, '{"repair", ', '{"mend", ', "option -mend is missing"),
    (MAIN, "EXIT_START = 2", "EXIT_START = 3", "exit status 3 is missing"),
    ("src/base/diag.c", 'getenv("JOURNAL_STREAM")', 'getenv("PSAD_STREAM")',
     "environment's PSAD_STREAM is missing"),
    (KEYS, "X(server, workers, ", "X(server, threads, ", "key server.threads is missing"),
    # What says something else.
    (KEYS, '"256M", 0, BYTES_MAX', '"128M", 0, BYTES_MAX', "the default is '128M', not '256M'"),
    (KEYS, 'COUNT, "0", 0, 1024', 'COUNT, "0", 0, 512', "'Number from 0 to 512; restart.'"),
    (KEYS, "64 * MIB, RELOAD", "32 * MIB, RELOAD", "'Size from 1 to 32M; reload.'"),
    (KEYS, "1, DAY, RELOAD", "1, 2 * DAY, RELOAD", "'Time from 1ms to 2d; reload.'"),
    (KEYS, "0, BYTES_MAX, RELOAD", "0, BYTES_MAX, RESTART", "1048576G; restart.'"),
    (CONF, ".It Cm backlog Li = 4096", ".It Cm backlog Li = 128", "the default is '4096'"),
    (CONF, ".Li no , interval , always ;", ".Li no , always ;", "fsync: does not begin with"),
    # What the manual has and the code lacks.
    (PROTOCOL, ".It Cm HELP\n", ".It Cm HELP\nx\n.It Cm WAIT\n", "there is no verb WAIT"),
    (PROTOCOL, ".It Cm LAST ", ".It Cm OLDEST ", "there is no start OLDEST"),
    (PROTOCOL, ".It Sy log-full\n", ".It Sy log-full\nx\n.It Sy log-off\n",
     "there is no error code log-off"),
    (PROTOCOL, ".It Sy damaged\n", ".It Sy broken\n", "there is no reason of a gap broken"),
    (PROTOCOL, ".It Sy quit\n", ".It Sy done\n", "there is no reason of BYE done"),
    (PROTOCOL, ".It Li fsync\n", ".It Li sync\n", "there is no word of INFO sync"),
    (PROTOCOL, ".It Li uptime_s\n", ".It Li uptime_ms\n", "there is no statistic uptime_ms"),
    (PROTOCOL, ".It Li uptime_s\n", ".It Li workers\nx\n.It Li uptime_s\n",
     "statistic workers is there twice"),
    (DAEMON, ".It Fl t\n", ".It Fl t\nx\n.It Fl d\n", "there is no option d"),
    (CONF, ".It Cm keepalive Li", ".It Cm linger Li", "there is no key limits.linger"),
    # What can't be read or is not well formed.
    (PROTOCOL, ".Ss Error codes", ".Ss Codes", "there is no section Error codes"),
    (ANSWER, "#define GAP_TABLE", "#define GAPS", "there is no table GAP_TABLE"),
    (CONF, ".It Cm unix Li =", ".It Cm unix", "not a key with its default"),
    (PROTOCOL, ".Ed\n.Pp\nWhat the server sends", "What the server sends", "WARNING"),
]


def run(root):
    done = subprocess.run([sys.executable, Path(__file__).with_name("manual.py"), root],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def plant(folder, name, old, new):
    """Runs manual.py over a copy with one edit. Returns status and output."""
    path = folder / name
    text = path.read_text()
    if old not in text:
        return 0, f"the fault can't be planted: {old!r} is not in {name}"
    path.write_text(text.replace(old, new, 1))
    try:
        return run(folder)
    finally:
        path.write_text(text)


def main():
    failures = []
    has_mandoc = shutil.which("mandoc") is not None
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copytree(ROOT / "src", folder / "src")
        shutil.copytree(ROOT / "packaging/man", folder / "packaging/man")
        status, output = run(folder)
        if status != 0:
            failures.append(f"the tree as it is is refused: {output}")
        for name, old, new, said in PLANTS:
            if said == "WARNING" and not has_mandoc:
                continue
            status, output = plant(folder, name, old, new)
            if status != 1 or said not in output:
                failures.append(f"not caught: {name}: {new!r}: {output}")
    print("\n".join(failures) or f"{len(PLANTS)} planted faults caught")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
