# SPDX-License-Identifier: MIT
"""What is done to a broker while its clients are at work: each function is one misfortune, and ends
with everything as it should be, so that the clients must get on again.

They take the Chaos that they act in (chaos.py) and return nothing; what is wrong is an
AssertionError."""

import os
import resource
import signal

from client import wait_until
from swarm import Gone, Wire, read_everything

KIB, MIB = 1 << 10, 1 << 20
SEGMENT = 128 * KIB


def kill(chaos):
    """SIGKILL, and now and then again in the middle of its recovery."""
    def die():
        chaos.tally["kills"] += 1
        chaos.machine.kill()
        # Whoever finds one of these lives finds its end too, so they are not judged either.
        while chaos.setting.is_durable and chaos.random.random() < .3:
            chaos.tally["kills"] += 1
            chaos.machine.start_and_kill(chaos.random.random() * .03)
    chaos.end_life(die)
    chaos.start()


def restart(chaos):
    """SIGTERM: it ends in good order, and within drain_timeout even with readers that stand."""
    chaos.tally["restarts"] += 1
    chaos.end_life(chaos.machine.stop)
    chaos.start()


def power_cut(chaos):
    """SIGKILL, and what wasn't synced is gone."""
    chaos.tally["power cuts"] += 1
    chaos.end_life(chaos.machine.kill)
    chaos.history.power_cut()
    chaos.supply.cut(chaos.random.randrange(1 << 32))
    chaos.start()
    # The gaps that this life tells, before the next cut adds to them: each is judged by what was
    # synced before its own.
    read_everything(chaos.broker, chaos.history,
                    f"reader after cut {chaos.tally['power cuts']}", to_head=False)


def stop(chaos):
    """SIGSTOP for a while."""
    chaos.tally["stops"] += 1
    for _ in range(chaos.random.randrange(1, 4)):
        chaos.broker.signal(signal.SIGSTOP)
        chaos.wait(chaos.random.random() * .6)
        chaos.broker.signal(signal.SIGCONT)
        chaos.wait(chaos.random.random() * .1)


def reload_storm(chaos):
    """The configuration is good, changed and bad in turn, faster than it is read. A bad one changes
    nothing: its max_payload is never seen."""
    bad = [lambda: chaos.write("[limits]\nmax_payload = 7777\nno_such_key = 1\n"),
           lambda: chaos.write("[limits]\nmax_payload = 7777\nkeepalive = soon\n"),
           lambda: chaos.write("[limits]\nmax_payload = 7777\n[log]\nretain_bytes = 1\n"),
           lambda: chaos.write(b"[limits\n\x00\xff\n"),
           lambda: chaos.config.unlink(missing_ok=True)]
    for _ in range(chaos.random.randrange(3, 15)):
        if chaos.random.random() < .4:
            chaos.random.choice(bad)()
            chaos.tally["bad reloads"] += 1
        else:
            chaos.configure()
            chaos.tally["reloads"] += 1
        chaos.broker.signal(signal.SIGHUP)
        if chaos.random.random() < .5:
            assert chaos.info()["max_payload"] != 7777, "a bad configuration was taken"
    chaos.reload(limits__max_patterns=chaos.random.choice([16, 20, 50]),
                 limits__idle_timeout=chaos.random.choice(["0", "5s"]),
                 limits__keepalive=chaos.random.choice(["50s", "60s"]),
                 limits__send_buffer=chaos.random.choice(["0", "8K", "32K", "256K"]))
    most = int(chaos.keys["limits.max_patterns"])
    client = chaos.client()
    # Unless the connection is one too many for other reasons, which says another key.
    for count, expected in ((most, "OK "), (most + 1, "ERR too-many ")):
        answer = client.ask("SUB " + " ".join(f"none.n{n}" for n in range(count)))
        assert answer.startswith(expected), \
            f"max_patterns is {most} now, and {count} patterns were answered {answer}"
        if expected == "OK ":
            client.ok("UNSUB")
    client.close()


def retention_jump(chaos):
    """What is kept is lowered and raised, by bytes, count and age."""
    chaos.tally["retention jumps"] += 1
    for _ in range(chaos.random.randrange(1, 3)):
        kept = chaos.random.choice([512 * KIB, MIB, 2 * MIB, 4 * MIB])
        count = chaos.random.choice([0, 0, 500, 5000])
        chaos.reload(log__retain_bytes=kept, log__retain_messages=count,
                     log__retain_age=chaos.random.choice(["0", "0", "1s", "5s"]))
        # Promise 9; a segment has room for so many of the smallest messages.
        chaos.wait_stats(lambda s: s["log_bytes"] <= kept + 2 * SEGMENT, f"at most {kept} are kept")
        if count:
            most = count + count // 8 + SEGMENT // 48
            chaos.wait_stats(lambda s: s["log_messages"] <= most, f"at most {most} are kept")
    chaos.reload(log__retain_bytes=chaos.kept, log__retain_messages=0, log__retain_age="0")


def use_up_descriptors(chaos):
    """The daemon's limit is lowered to what it has open, and a crowd wants in. When it is raised
    again, all are served."""
    chaos.tally["descriptor exhaustions"] += 1
    pid = chaos.broker.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE,
                     (opened + chaos.random.randrange(0, 5), before[1]))
    try:
        crowd = gather(chaos, 40)
        chaos.wait(chaos.random.random() * .8)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    disperse(chaos, crowd)
    chaos.wait_served()


def burst(chaos):
    """Many connections at once; some say something, most end with a reset."""
    chaos.tally["bursts"] += 1
    disperse(chaos, gather(chaos, chaos.random.randrange(50, 250)))
    chaos.wait_served()


def gather(chaos, count):
    crowd = []
    for _ in range(count):
        try:
            wire = Wire(chaos.random.choice(chaos.addresses), chaos.setting.patience,
                        new_socket=chaos.new_socket)
        except Gone:
            continue
        crowd.append(wire)
        wire.send(chaos.random.choice([b"", b"PING\n", b"SUB >\n", b"PUT a 100\nx", b"INFO\n"]))
    return crowd


def disperse(chaos, crowd):
    for wire in crowd:
        if chaos.random.random() < .7:
            wire.abort()
        else:
            wire.close()


def fill_disk(chaos):
    """No room for another segment: publishing is refused, reading goes on; and when there is room
    again, so does publishing."""
    chaos.tally["full disks"] += 1
    refusals = sum(p.refusals for p in chaos.swarm.publishers)
    chaos.reload(log__retain_bytes=64 * MIB)
    ballast = chaos.disk / "ballast"
    try:
        with open(ballast, "wb", buffering=0) as file:
            size = MIB
            while size >= 4096:
                try:
                    written = file.write(bytes(size))
                except OSError:
                    written = 0
                if written < size:
                    size //= 2

        def is_refused():
            chaos.swarm.look_after()
            return sum(p.refusals for p in chaos.swarm.publishers) > refusals
        wait_until(is_refused, "publishing is refused, as the disk is full")
        chaos.info()
        client = chaos.client()
        first = chaos.info()["first"]
        assert client.read(f"> AFTER {first - 1} LIMIT 20")[1].startswith("END ")
        client.close()
    finally:
        ballast.unlink(missing_ok=True)
    chaos.reload(log__retain_bytes=chaos.kept)


def cut_cable(chaos):
    """Nothing passes for a while, in one way or both; or the interface itself is down."""
    chaos.tally["cable cuts"] += 1
    how = chaos.random.choice(["cut", "cut", "cut up", "cut down", "unplug"])
    chaos.network.set(how)
    chaos.wait(chaos.random.choice([.2, 1, 3, 5]) * chaos.random.random())
    chaos.network.set("heal" if how != "unplug" else "plug")


def change_weather(chaos):
    """Packets are lost, late, doubled and out of order."""
    chaos.tally["weathers"] += 1
    loss = chaos.random.choice([0, 0, .01, .05, .15])
    delay = chaos.random.choice([0, .001, .02, .1])
    double = chaos.random.choice([0, 0, .05])
    disorder = chaos.random.choice([0, .05, .2])
    chaos.network.set(f"weather {loss} {delay} {double} {disorder}")
    chaos.wait(chaos.random.random() * 2)
