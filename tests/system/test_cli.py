# SPDX-License-Identifier: MIT
"""The command line, the configuration file, listeners, exit statuses and SIGHUP."""

import os
import signal
import socket
import stat

import pytest

from broker import run_psad
from client import Client, Line, wait_until


@pytest.fixture
def config(tmp_path):
    """Writes the configuration file; returns its path."""
    path = tmp_path / "psad.conf"

    def write(text):
        path.write_text(text)
        return path
    return write


def check(arguments, status, *words):
    """Runs psad to its end: status, and words that its standard error must hold."""
    result = run_psad(*map(str, arguments))
    assert result.returncode == status, f"exit status {result.returncode}:\n{result.stdout}{result.stderr}"
    missing = [word for word in words if str(word) not in result.stderr]
    assert not missing, f"{missing} not in:\n{result.stderr}"
    assert "Sanitizer" not in result.stderr, result.stderr
    return result


# --- options -----------------------------------------------------------------------------------------

def test_h_prints_the_usage_and_exits_0():
    output = check(["-h"], 0).stdout
    assert all(option in output for option in ("-c", "-o", "-t", "-V", "-h"))


def test_v_prints_the_versions_and_exits_0():
    output = check(["-V"], 0).stdout
    assert "psad" in output and "libevent" in output


@pytest.mark.parametrize("arguments", [["-x"], ["--nonsense"], ["stray"], ["-c"], ["-o"], ["-t", "stray"], ["-o", "nonsense"], ["-o", "server.workers"],
                                       ["-o", ""], ["-o", "=1"], ["-o", "workers=1"], ["-c", "/nonexistent/psad.conf"], ["-c", "/"]], ids=" ".join)
def test_wrong_usage_exits_1_and_says_why(arguments):
    result = check(arguments, 1)
    assert result.stderr.strip() != ""


@pytest.mark.parametrize("arguments", [["--dump"], ["--repair"], ["--new-log-id"], ["--repair", ".", "stray"], ["--new-log-id", ".", "stray"], ["--repair", ".", "--dump", "."],
                                       ["--dump", ".", "--dump", "."], ["-t", "--repair", "."], ["-o", "server.workers=1", "--dump", "."], ["-c", "x", "--new-log-id", "."],
                                       ["--dump", ".", "not..a.pattern"], ["--dump", ".", ">", "a.b>"]], ids=" ".join)
def test_wrong_usage_of_the_tools_exits_1_says_why_and_does_nothing(arguments, tmp_path):
    result = run_psad(*arguments, cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.strip() != "" and result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_h_tells_of_the_tools():
    output = check(["-h"], 0).stdout
    assert all(option in output for option in ("--dump DIR", "--repair DIR", "--new-log-id DIR"))


def test_t_checks_a_good_configuration_and_exits_0(config):
    check(["-t", "-c", config("[server]\nworkers = 2\n[log]\nretain_bytes = 1G\nretain_age = 7d\n[limits]\nidle_timeout = 0\n")], 0)
    check(["-t", "-o", "server.workers=3"], 0)
    check(["-t"], 0)


def test_t_opens_nothing(broker):
    b = broker()
    check(["-t", "-o", f"listen.tcp={b.address}"], 0)


def test_o_overrides_the_file_and_the_last_o_wins(broker, config):
    path = config("[listen]\ntcp = 127.0.0.1:1\n[server]\nworkers = 1\n[limits]\nmax_payload = 1K\n")
    b = broker("server.workers=3", "server.workers=2", config=path)
    assert b.stats()["workers"] == 2
    assert b.info()["max_payload"] == 1024


# --- values ------------------------------------------------------------------------------------------

GOOD = ["server.workers=0", "server.workers=64", "server.drain_timeout=100ms", "server.drain_timeout=1h",
        "server.log_level=debug", "server.log_level=error", "listen.tcp=127.0.0.1:9853", "listen.tcp=[::1]:9853", "listen.tcp=127.0.0.1:1,127.0.0.2:2 , [::1]:3",
        "listen.backlog=128", "log.segment_size=64K limits.max_payload=16K", "log.segment_size=1G log.retain_bytes=4G", "log.retain_bytes=0",
        "log.retain_messages=1000000", "log.retain_age=7d", "log.retain_age=90s", "limits.max_payload=64M log.segment_size=256M log.retain_bytes=1G",
        "limits.max_payload=1024", "limits.max_connections=10", "limits.max_connections_per_ip=10", "limits.max_patterns=1", "limits.input_memory=1M",
        "limits.put_timeout=1m", "limits.idle_timeout=1d", "limits.send_buffer=0", "limits.send_buffer=64K", "limits.keepalive=10s", "listen.insecure=yes listen.tcp=:9853",
        "listen.tcp= listen.unix=/tmp/psad-test-socket", "listen.unix=/tmp/psad-test-socket listen.unix_mode=0600"]


@pytest.mark.parametrize("options", GOOD)
def test_good_values_are_accepted(options):
    arguments = ["-t"]
    for word in options.replace(", ", ",").replace(" ,", ",").split(" "):
        arguments += ["-o", word]
    check(arguments, 0)


BAD = ["server.workers=-1", "server.workers=x", "server.workers=1.5", "server.workers=", "server.workers=99999999999999999999", "server.workers=1x",
       "server.drain_timeout=5x", "server.drain_timeout=-1s", "server.drain_timeout=s", "server.drain_timeout=", "server.drain_timeout=99999999999999999999s",
       "server.log_level=loud", "listen.tcp=nonsense", "listen.tcp=127.0.0.1", "listen.tcp=127.0.0.1:x", "listen.tcp=127.0.0.1:65536", "listen.tcp=127.0.0.1:-1",
       "listen.tcp=[::1:9853", "listen.tcp=127.0.0.1:1,,nonsense", "listen.unix_mode=888", "listen.unix_mode=x", "listen.backlog=x", "listen.backlog=-1",
       "listen.insecure=maybe", "log.segment_size=1K", "log.segment_size=2G", "log.segment_size=64Q", "log.segment_size=-64K", "log.retain_bytes=1M",
       "log.retain_bytes=x", "log.retain_bytes=99999999999999999999", "log.retain_bytes=99999999999999999G", "log.retain_messages=-1", "log.retain_messages=1e6",
       "log.retain_age=1w", "log.retain_age=-1s", "limits.max_payload=65M", "limits.max_payload=99999999999G", "limits.max_payload=-1",
       "limits.max_payload=0x100", "limits.max_connections=-1", "limits.max_connections=many", "limits.max_connections_per_ip=x", "limits.max_patterns=x",
       "limits.max_patterns=-1", "limits.input_memory=x", "limits.put_timeout=fast", "limits.idle_timeout=1 fortnight", "limits.send_buffer=-1", "limits.keepalive=x",
       "server.nonsense=1", "nonsense.workers=1", "log.segment-size=64K"]


@pytest.mark.parametrize("option", BAD)
def test_cve_2021_21309_bad_and_boundless_values_stop_the_start_and_name_the_key(option):
    key = option.split("=")[0]
    check(["-t", "-o", option], 1, key)
    check(["-o", "listen.tcp=127.0.0.1:0", "-o", option], 1, key)


@pytest.mark.parametrize("options, word", [
    (["log.segment_size=64K", "limits.max_payload=17K"], "max_payload"),
    (["log.segment_size=1M", "log.retain_bytes=3M", "limits.max_payload=64K"], "retain_bytes"),
    (["listen.tcp="], "listen"),
])
def test_values_that_do_not_go_together_stop_the_start(options, word):
    check([argument for option in options for argument in ("-o", option)], 1, word)


# --- the file ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, line, word", [
    ("[server]\nworkers = 2\nnonsense = 1\n", 3, "nonsense"),
    ("[server]\n\n\nworkers = many\n", 4, "workers"),
    ("workers = 2\n", 1, "workers"),
    ("[server]\nworkers\n", 2, ""),
    ("[server]\nworkers = 2\n\n\nnonsense\n", 5, ""),
    ("[limits]\nmax_payload = 1M\n[log]\nretain_age = soon\n", 4, "retain_age"),
    ("[server]\n# fine\n; fine\nworkers = 1x\n", 4, "workers"),
])
@pytest.mark.parametrize("options", [["-t"], []], ids=["with -t", "at the start"])
def test_an_error_in_the_file_names_file_line_and_key(config, text, line, word, options):
    path = config(text)
    check([*options, "-c", path], 1, f"{path}:{line}", word)


def test_an_unknown_section_stops_the_start(config):
    path = config("[server]\nworkers = 2\n[nonsense]\nworkers = 2\n")
    check(["-t", "-c", path], 1, f"{path}:", "nonsense")


@pytest.mark.parametrize("length", [200, 201, 500, 5000, 100000])
def test_a_key_line_of_over_199_bytes_stops_the_start(config, length):
    line = "unix = /tmp/" + "x" * (length - 12)
    path = config(f"[server]\nworkers = 2\n[listen]\n{line}\n[log]\nretain_bytes = 1G\n")
    check(["-t", "-c", path], 1, f"{path}:4", "199")
    check(["-c", path], 1, f"{path}:4")


def test_a_key_line_of_199_bytes_is_read_whole(config, tmp_path):
    line = "tcp = " + ", ".join(f"127.0.0.{n}:{1000 + n}" for n in range(1, 11))
    line += " " * (199 - len(line))
    check(["-t", "-c", config(f"[listen]\n{line}\n[server]\nworkers = 2\n")], 0)


def test_comments_may_be_of_any_length(broker, config):
    long = "x" * 100000
    path = config(f"# {long}\n; {long}\n   # {long} = 1\n;{'=' * 5000}\n[server]\n# [nonsense] {'n = 1 ' * 100}\nworkers = 2\n# {long}")
    assert broker(config=path).stats()["workers"] == 2


def test_a_comment_never_turns_into_a_key(config):
    """A reader with lines of 200 bytes would take the rest of these for lines of their own."""
    for cut in range(190, 215):
        check(["-t", "-c", config("[server]\n#" + "c" * cut + "\nworkers = 2\n")], 0)
        check(["-t", "-c", config("[server]\n#" + "c" * cut + "workers = nonsense\n")], 0)


def test_an_empty_file_and_dos_line_ends_are_fine(broker, config):
    check(["-t", "-c", config("")], 0)
    assert broker(config=config("[server]\r\nworkers = 2\r\n\r\n# done\r\n")).stats()["workers"] == 2


# --- listeners -----------------------------------------------------------------------------------------

def test_several_addresses_serve_one_log(broker, tmp_path):
    b = broker(f"listen.unix={tmp_path}/socket", tcp="127.0.0.1:0, [::1]:0, 127.0.0.2:0")
    assert len(b.addresses) == 4 and b.addresses[-1] == f"unix:{tmp_path}/socket"
    assert [b.client(address).publish("t") for address in b.addresses] == [1, 2, 3, 4]


def test_a_unix_socket_alone_is_enough(broker, tmp_path):
    b = broker(f"listen.unix={tmp_path}/socket", tcp="")
    assert b.addresses == [f"unix:{tmp_path}/socket"]
    assert b.publish("t") == 1


def test_an_address_in_use_exits_2_and_says_which(broker):
    b = broker()
    check(["-o", f"listen.tcp={b.address}"], 2, b.address, "in use")
    assert b.publish("t") == 1


def test_an_address_of_another_machine_exits_2():
    check(["-o", "listen.tcp=192.0.2.1:9853", "-o", "listen.insecure=yes"], 2, "192.0.2.1:9853")


@pytest.mark.parametrize("tcp", ["0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:9853", "127.0.0.1:0, 0.0.0.0:0"])
def test_listening_beyond_loopback_is_refused_unless_insecure_says_yes(tcp):
    check(["-o", f"listen.tcp={tcp}"], 1, "insecure")
    check(["-t", "-o", f"listen.tcp={tcp}"], 1, "insecure")
    check(["-t", "-o", f"listen.tcp={tcp}", "-o", "listen.insecure=yes"], 0)


def test_insecure_listens_beyond_loopback(broker):
    b = broker("listen.insecure=yes", tcp=":0")
    port = b.addresses[0].rsplit(":", 1)[1]
    assert b.client(f"127.0.0.1:{port}").publish("t") == 1


@pytest.mark.parametrize("option, mode", [(None, 0o660), ("0600", 0o600), ("0666", 0o666)])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_cve_2023_45145_the_unix_socket_has_its_mode_whatever_the_umask(broker, tmp_path, option, mode, umask):
    path = tmp_path / "socket"
    before = os.umask(umask)
    try:
        b = broker(f"listen.unix={path}", *([f"listen.unix_mode={option}"] if option else []))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert b.client(f"unix:{path}").publish("t") == 1


def test_a_stale_socket_file_is_replaced(broker, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    b = broker(f"listen.unix={path}")
    assert b.client(f"unix:{path}").publish("t") == 1


def test_a_killed_daemon_leaves_a_socket_that_the_next_one_replaces(broker, tmp_path):
    path = tmp_path / "socket"
    b = broker(f"listen.unix={path}")
    b.signal(signal.SIGKILL)
    b.expect_exit(-signal.SIGKILL)
    assert broker(f"listen.unix={path}").client(f"unix:{path}").publish("t") == 1


def test_a_unix_socket_in_use_is_refused_and_left_alone(broker, tmp_path):
    path = tmp_path / "socket"
    b = broker(f"listen.unix={path}")
    check(["-o", "listen.tcp=", "-o", f"listen.unix={path}"], 2, path)
    assert b.client(f"unix:{path}").publish("t") == 1


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_socket_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "precious"
    if kind == "file":
        path.write_text("data")
    else:
        path.mkdir()
    check(["-o", "listen.tcp=", "-o", f"listen.unix={path}"], 2, path)
    assert path.read_text() == "data" if kind == "file" else path.is_dir()


def test_a_unix_socket_in_a_missing_directory_exits_2(tmp_path):
    check(["-o", "listen.tcp=", "-o", f"listen.unix={tmp_path}/missing/socket"], 2, f"{tmp_path}/missing/socket")


def test_a_path_too_long_for_a_unix_socket_is_refused(tmp_path):
    result = run_psad("-o", "listen.tcp=", "-o", f"listen.unix={tmp_path}/{'x' * 150}")
    assert result.returncode in (1, 2)
    assert "listen.unix" in result.stderr or "xxx" in result.stderr, result.stderr


# --- open files ------------------------------------------------------------------------------------------

def test_the_limit_of_open_files_is_raised_and_told(broker):
    b = broker(nofile=None)
    text = open(f"/proc/{b.process.pid}/limits").read()
    soft, hard = next(line for line in text.splitlines() if line.startswith("Max open files")).split()[3:5]
    assert soft == hard
    assert hard in b.stderr


# --- SIGHUP ------------------------------------------------------------------------------------------------

SANE = "[limits]\nmax_connections = 5\n[server]\nworkers = 1\n"


def reload(broker, *words):
    seen = broker.stderr_lines
    broker.signal(signal.SIGHUP)
    return broker.wait_stderr(*words, after=seen)


@pytest.mark.parametrize("text, line", [("[limits]\nmax_connections = 1\nnonsense = 1\n", 3), ("[limits]\nmax_connections = 1\nmax_patterns = many\n", 3),
                                        ("[limits]\nmax_connections = 1\n[listen]\nunix = " + "x" * 300, 4)])
def test_a_bad_file_changes_nothing_at_sighup_and_is_told(broker, config, text, line):
    path = config(SANE)
    b = broker(config=path)
    b.publish("t")
    config(text)
    reload(b, f"{path}:{line}")
    clients = [b.try_client() for _ in range(4)]
    assert not any(isinstance(client, Line) for client in clients), "a limit of the bad file was applied"
    assert b.publish("t") == 2


def test_cve_2017_7652_a_missing_file_changes_nothing_at_sighup(broker, config):
    path = config(SANE)
    b = broker(config=path)
    b.publish("t")
    path.unlink()
    reload(b, str(path))
    assert b.publish("t") == 2
    clients = [b.try_client() for _ in range(5)]
    assert isinstance(clients[-1], Line), "the limit of the old file is gone"


def test_a_good_file_is_applied_at_sighup_or_said_to_need_a_restart(broker, config):
    path = config(SANE)
    b = broker(config=path)
    subscriber = b.client()
    subscriber.ok("SUB t")
    config("[limits]\nmax_connections = 3\n[server]\nworkers = 2\n")
    seen = b.stderr_lines
    reload(b, "server.workers")
    assert b.stats()["workers"] == 1

    def applied_or_told():
        if any("max_connections" in line for line in b.stderr.splitlines()[seen:]):
            return True
        clients = [b.try_client() for _ in range(2)]
        for client in clients:
            if isinstance(client, Client):
                client.close()
        return isinstance(clients[-1], Line)
    wait_until(applied_or_told, "max_connections is applied, or said to need a restart")
    assert b.publish("t", b"still here") == 1
    assert subscriber.recv_msg().payload == b"still here"


def test_sighup_without_a_file_is_harmless(broker):
    b = broker()
    b.publish("t")
    for _ in range(5):
        b.signal(signal.SIGHUP)
        b.publish("t")
    assert b.head() == 6


def test_sighup_over_and_over_under_load_loses_nothing(broker, config):
    path = config(SANE.replace("max_connections = 5", "max_connections = 50"))
    b = broker(config=path)
    subscriber = b.client()
    subscriber.ok("SUB t")
    for n in range(50):
        b.signal(signal.SIGHUP)
        b.control.publish_all([("t", b"%d" % n)] * 20)
    assert len(subscriber.recv_msgs(1000)) == 1000
