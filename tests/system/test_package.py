# SPDX-License-Identifier: MIT
"""What is shipped besides the daemon: units, configurations, and make install. The package itself
is tried by tests/package/run."""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import broker as daemon
from broker import PSAD, ROOT, run_psad
from client import FLAVOUR, scaled, wait_until

sys.path.insert(0, str(ROOT / "tests/lint"))
import manual  # noqa: E402  (behind the path to it)

PACKAGING = ROOT / "packaging"
UNITS = ["psad.service", "psad.socket"]
MEMORY = "psad.service.d/memory.conf"


@pytest.fixture(scope="module")
def analyze():
    """systemd-analyze, with what it said on both streams."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")

    def run(*arguments):
        return subprocess.run([tool, *map(str, arguments)], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, check=False)
    return run


def units(folder, edit=lambda name, text: text):
    """The units as they are shipped, but for where the daemon is. Returns the paths of those that
    are no drop-ins."""
    for name in (*UNITS, MEMORY):
        text = edit(name, (PACKAGING / name).read_text())
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("/usr/sbin/psad", PSAD))
    return [folder / name for name in UNITS]


def planted(file, old, new):
    """An edit for units()."""
    def edit(name, text):
        if name != file:
            return text
        assert old in text, f"the fault can't be planted: {old!r} is not in {file}"
        return text.replace(old, new, 1)
    return edit


# --- units -------------------------------------------------------------------------------------

def complaints(analyze, paths):
    """The exit status is 0 for an unknown key: what counts is that nothing is said."""
    done = analyze("verify", "--man=no", *paths)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else "refused")


def test_the_units_and_the_drop_in_are_understood_to_the_last_word(analyze, tmp_path):
    paths = units(tmp_path)
    assert complaints(analyze, paths) == ""
    shutil.rmtree(tmp_path / "psad.service.d")
    assert complaints(analyze, paths) == ""


@pytest.mark.parametrize("fault", [
    ("psad.service", "RemoveIPC=yes", "RemoveIpc=yes"),
    ("psad.service", "Type=notify", "Type=tell"),
    ("psad.service", "WatchdogSec=60s", "WatchdogSec=often"),
    (MEMORY, "/usr/sbin/psad -c", "/usr/sbin/psadd -c"),
    ("psad.service", "@system-service", "@system-services"),
    ("psad.socket", "Backlog=4096", "BackLog=4096"),
    (MEMORY, "RuntimeDirectoryPreserve=restart", "RuntimeDirectoryPreserve=restarts"),
    (MEMORY, "ExecStart=\n", ""),
], ids=lambda fault: fault[2].strip() or "two ExecStart")
def test_a_mistake_in_a_unit_is_told(analyze, tmp_path, fault):
    assert complaints(analyze, units(tmp_path, planted(*fault))) != ""


def exposure(analyze, path):
    """Of the service, of 10; and whether it is low enough."""
    done = analyze("security", "--offline=true", "--threshold=13", "--no-pager", path)
    return done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_exposed_by_1_3_of_10_at_most(analyze, tmp_path):
    is_tight, said = exposure(analyze, units(tmp_path)[0])
    assert is_tight, said


@pytest.mark.parametrize("line", ["CapabilityBoundingSet=", "NoNewPrivileges=yes", "User=psad",
                                  "SystemCallFilter=~@privileged @resources", "PrivateDevices=yes"])
def test_a_service_that_is_exposed_by_more_is_told(analyze, tmp_path, line):
    path = units(tmp_path, planted("psad.service", line + "\n", ""))[0]
    is_tight, said = exposure(analyze, path)
    assert not is_tight, said


def test_the_pages_that_the_units_name_are_there():
    for name in UNITS:
        for page, section in re.findall(r"man:([\w.-]+)\((\d)\)", (PACKAGING / name).read_text()):
            assert (PACKAGING / f"man/{page}.{section}").exists(), page


def commands(text, key="ExecStart"):
    """What a unit runs, with lines put together."""
    found = re.findall(rf"^{key}=(.+)$", text.replace("\\\n", " "), re.M)
    return [command.replace("/etc/psad/psad.conf", str(PACKAGING / "psad.conf")).split()
            for command in found]


@pytest.mark.parametrize("name", ["psad.service", MEMORY])
def test_what_the_units_run_is_a_good_configuration(name):
    start, = commands((PACKAGING / name).read_text())
    result = run_psad("-t", *start[1:])
    assert result.returncode == 0, result.stderr
    check = commands((PACKAGING / name).read_text(), "ExecReload")[0]
    assert check[1] == "-t" and check[2:] == start[1:], "a reload checks something else"


def test_the_drop_in_keeps_its_log_in_what_the_service_manager_keeps():
    text = (PACKAGING / MEMORY).read_text()
    folder = re.search(r"^RuntimeDirectory=(.+)$", text, re.M)[1]
    assert f"log.dir=/run/{folder}" in commands(text)[0]
    assert "log.fsync=no" in commands(text)[0]


# --- the sandbox -------------------------------------------------------------------------------

def filter_sets(text):
    """{set: what stands in it} of systemd-analyze syscall-filter."""
    sets, members = {}, None
    for line in text.splitlines():
        if line.startswith("@"):
            members = sets.setdefault(line.strip(), set())
        elif line.startswith("    ") and not line.strip().startswith("#") and members is not None:
            members.add(line.strip())
    return sets


def expand(name, sets):
    if not name.startswith("@"):
        return {name}
    return set().union(*(expand(member, sets) for member in sets[name]))


def allowed_calls(unit, sets):
    """What the SystemCallFilter= lines leave, in their order."""
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", unit, re.M):
        names = set().union(*(expand(name, sets) for name in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def faults_of_trace(trace, unit, sets):
    """The calls in strace's output that the unit would forbid."""
    families = re.search(r"^RestrictAddressFamilies=(.+)$", unit, re.M)[1].split()
    used = set(re.findall(r"^\d+ +(\w+)\(", trace, re.M))
    assert {"execve", "openat", "socket"} <= used, "this is no trace of a daemon"
    faults = {f"{name}()" for name in used - allowed_calls(unit, sets)}
    for line in trace.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        name, rest = call.groups() if call else ("", "")
        if name == "socket" and not rest.startswith(tuple(f"{family}," for family in families)):
            faults.add(line)
        if "PROT_EXEC" in rest and ("PROT_WRITE" in rest or name in ("mprotect", "pkey_mprotect")):
            faults.add(line)  # MemoryDenyWriteExecute=
    return faults


def use_everything(start, config, socket_path):
    """A daemon's life: publishing, reading in all ways, reloads, limits, retention, the end."""
    b = start()
    for address in (None, f"unix:{socket_path}"):
        client = b.client(address)
        client.ok("SUB a.* b.>")
        for number in range(20):
            client.publish("a.x", b"x" * 1000 * number)
            client.recv_msg()
        client.close()
    config("[limits]\nmax_payload = 24K\n[server]\nlog_level = debug\n")
    seen = b.stderr_lines
    b.signal(signal.SIGHUP)
    b.wait_stderr("reload", after=seen)
    slow = b.client()
    slow.ok("SUB >")
    b.control.publish_all([("a.y", b"y" * 10000)] * scaled(2000))  # rolls, retires, and a lag
    for command in ("LAST 5", "SINCE 1h", "LIMIT 3"):
        assert b.client().read(f"READ > {command}")
    cat = b.client()
    cat.send("CAT > LAST 100\n")
    assert cat.recv_raw().count(b"y" * 10000) == 100
    assert b.client().block("STATS") and b.client().block("HELP")
    return b


@pytest.fixture(scope="module")
def sets(analyze):
    return filter_sets(analyze("syscall-filter").stdout)


def is_open(path):
    """Whether a process has the file open."""
    for descriptor in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if os.path.samefile(descriptor, path):
                return True
        except OSError:
            pass  # gone meanwhile, or somebody else's
    return False


@pytest.fixture
def traced(broker, tmp_path, monkeypatch):
    """Runs a life under strace; returns the trace."""
    if FLAVOUR:
        pytest.skip("a sanitizer makes calls of its own")
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-f", "-o", "/dev/null", "true"],
                                        capture_output=True, check=False).returncode != 0:
        pytest.skip("strace is not installed, or may not trace here")

    def run(*options):
        # -D: the daemon stays our child, strace goes to the background.
        path, wrapper = tmp_path / "trace", tmp_path / "traced-psad"
        wrapper.write_text(f'#!/bin/sh\nexec "{strace}" -D -f -q -A -s 16 -o "{path}" '
                           f'"{PSAD}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(daemon, "PSAD", str(wrapper))
        file = tmp_path / "psad.conf"

        def config(text):
            file.write_text(text)
            return file
        config("[limits]\nmax_payload = 20K\n")
        b = use_everything(lambda: broker(
            f"listen.unix={tmp_path}/socket", "log.segment_size=128K", "log.retain_bytes=4M",
            *options, tcp="127.0.0.1:0, [::1]:0", config=file), config, tmp_path / "socket")

        def trace():
            wait_until(lambda: not is_open(path), "strace has written its last line")
            return path.read_text()
        return b, trace
    return run


@pytest.mark.parametrize("options", [(), ("log.fsync=always",), ("log.fsync=no",)],
                         ids=["in memory", "always", "no"])
def test_psad_makes_no_system_call_that_the_unit_forbids(traced, sets, tmp_path, options):
    if options:
        options = (*options, f"log.dir={tmp_path}/log")
    b, trace = traced(*options)
    if options:
        b.kill()  # and recovers
        b, trace = traced(*options)
    b.stop()
    trace = trace()
    unit = (PACKAGING / "psad.service").read_text()
    assert faults_of_trace(trace, unit, sets) == set()
    # The same judge finds what a tighter unit would break.
    assert "openat()" in faults_of_trace(trace, unit + "SystemCallFilter=~@file-system\n", sets)
    assert "clone3()" in faults_of_trace(trace, unit + "SystemCallFilter=~@process\n", sets)
    assert ("fdatasync()" in faults_of_trace(trace, unit + "SystemCallFilter=~@sync\n", sets)) == \
        bool(options)
    assert any("AF_INET6" in fault for fault in faults_of_trace(
        trace, unit.replace("AF_INET AF_INET6", "AF_INET"), sets))
    jit = trace + "1 mmap(NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE, -1, 0) = 0x1\n"
    assert len(faults_of_trace(jit, unit, sets)) == 1


# --- make install --------------------------------------------------------------------------------

@pytest.fixture
def install(tmp_path):
    """make install from a copy of what it needs, so that nothing is built, here or there."""
    tree = tmp_path / "tree"
    for name in ("Makefile", "README.md", "LICENSE", "psad.conf.example"):
        tree.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree)
    for name in ("packaging", "conf", "tests/clients"):
        shutil.copytree(ROOT / name, tree / name)
    (tree / "build").mkdir()
    shutil.copy(PSAD, tree / "build/psad")

    def run(*variables):
        to = tmp_path / "to"
        environment = {k: v for k, v in daemon.environment().items() if not k.startswith("MAKE")}
        done = subprocess.run(["make", "-o", "build/psad", "install", f"DESTDIR={to}", *variables],
                              cwd=tree, env=environment, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return to
    return run


def test_make_install_puts_everything_where_it_is_looked_for(install):
    to = install("PREFIX=/opt/psad", "SYSCONFDIR=/opt/psad/etc")
    names = {str(path.relative_to(to / "opt/psad")) for path in to.rglob("*") if path.is_file()}
    assert {"sbin/psad", "etc/psad/psad.conf", "lib/systemd/system/psad.service",
            "lib/systemd/system/psad.socket", "lib/sysusers.d/psad.conf",
            "lib/tmpfiles.d/psad.conf",
            "share/man/man8/psad.8", "share/man/man5/psad.conf.5", "share/man/man7/psad-protocol.7",
            "share/doc/psad/psad.conf.example", "share/doc/psad/examples/laptop.conf",
            "share/doc/psad/examples/psad.service.d/memory.conf",
            "share/doc/psad/examples/clients/subscribe.py"} <= names
    for path in to.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == (0o755 if path.name == "psad"
                                                                 else 0o644), path
        if path.suffix in (".service", ".conf", ".8"):
            text = path.read_text()
            assert "/usr/sbin" not in text and "/etc/psad" not in text.replace(
                "/opt/psad/etc/psad", ""), path
    page = (to / "opt/psad/share/man/man8/psad.8").read_text()
    assert "Mdocdate" not in page and re.search(r"^\.Os psad \d", page, re.M)


def test_make_install_leaves_a_configuration_that_is_there_as_it_is(install):
    to = install()
    path = to / "etc/psad/psad.conf"
    assert "/var/lib/psad/log" in path.read_text()
    path.write_text("# mine\n")
    install()
    assert path.read_text() == "# mine\n"


# --- the manual ----------------------------------------------------------------------------------

def test_the_manual_names_what_a_running_psad_says(broker):
    page = (PACKAGING / "man/psad-protocol.7").read_text()
    b = broker()
    words = b.client().ask("INFO").split()[3:]
    assert [word.split("=")[0] for word in words] == manual.items(page, "INFO", "Li ")
    assert sorted(b.stats()) == sorted(manual.items(page, "STATISTICS", "Li "))
    verbs = [line.split()[1] for line in b.client().block("HELP") if ":" not in line.split()[1]]
    assert verbs == manual.items(page, "COMMANDS", "Cm ")


def dialogues(page):
    """The examples: for each, [(what the client says, what the server answers), ...]."""
    for text in re.findall(r"\.Bd [^\n]*\n((?:[CS]: .*\n)+)\.Ed", page):
        yield [tuple([line[3:] for line in part.splitlines()] for part in turn)
               for turn in re.findall(r"((?:C: .*\n)+)((?:S: .*\n)*)", text)]


def play(b, dialogue):
    """Holds a dialogue of the manual. A MSG may come before or behind the answer."""
    client = b.client()
    identity = "@" + b.info()["log"]
    for said, answers in dialogue:
        client.send("".join(f"{line}\n" for line in said))
        wanted = [re.sub(r"@[0-9a-f]{8}\b", identity, line) for line in answers]
        assert sorted(client.recv_raw_line().decode() for _ in wanted) == sorted(wanted), said


def test_the_dialogues_of_the_manual_are_what_psad_says(broker):
    first, resumed, foreign = dialogues((PACKAGING / "man/psad-protocol.7").read_text())
    b = broker("log.segment_size=64K", "log.retain_bytes=256K", "limits.max_payload=16K")
    play(b, first)

    # Of 3 to 60 the newest may be there still: retention drops whole segments.
    b.control.publish_all([("other", b"x" * 12000)] * 58)
    b.publish("news", b"again")
    client = b.client()
    client.send(f"SUB news weather.> AFTER 2@{b.info()['log']}\nQUIT\n")
    got = client.recv_raw().decode().splitlines()
    wanted = [re.sub("@.*", f"@{b.info()['log']}", line)
              for _, answers in resumed for line in answers]
    assert [line for line in got if "GAP" not in line] == \
        [line for line in wanted if "GAP" not in line]
    gap, = [line.split() for line in got if "GAP" in line]
    assert got.index(" ".join(gap)) == wanted.index("GAP 3 60 retention")
    assert gap[1] == "3" and gap[3] == "retention" and 3 < int(gap[2]) <= 60

    other = broker()
    other.publish("news", b"new")
    play(other, foreign)
