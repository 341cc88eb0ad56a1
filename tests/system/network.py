# SPDX-License-Identifier: MIT
"""Two machines and a cable between them: network namespaces of the test's own, and a program that
carries packets from one to the other, or does not.

    with Network(seed) as network:
        psad is started behind network.prefix and listens at network.server_address
        sockets of clients are made by network.socket
        network.set("cut")             nothing passes ("cut up", "cut down": towards the server,
                                       towards the clients); connections hang and are told nothing
        network.set("heal")            it passes again
        network.set("unplug"), set("plug")       the clients' interface is down, and up
        network.set("weather LOSS DELAY DOUBLE DISORDER")      shares of the packets, seconds
        network.set("clear")           heal, plug and fair weather
        network.counts()               {"carried": …, "lost": …, "late": …, "doubled": …}

The program is this file itself. The kernel would do all this with sch_netem, but not every kernel
has that; a pair of TUN devices is nearly everywhere."""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

SERVER, CLIENT = "10.99.0.1", "10.99.0.2"
PORT = 9853
DEVICE = "psad0"
MTU = 1500
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why there can't be such a network here; None: there can."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun to be used"
    try:
        subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return "no network namespaces for this user, or no ip(8)"
    return None


def enter(namespace):
    """Of the calling thread alone."""
    if LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(namespace):
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        yield
    finally:
        enter(home)
        os.close(home)


class Network:
    def __init__(self, seed):
        self.seed = seed
        self.server_address = f"{SERVER}:{PORT}"

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            # The namespaces live as long as these two do.
            self._homes = [stack.enter_context(self._keep()) for _ in range(2)]
            self._client = os.open(f"/proc/{self._homes[1].pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._client)
            self._link = subprocess.Popen(
                [sys.executable, __file__, *(str(home.pid) for home in self._homes),
                 str(self.seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(self._end, self._link)
            assert self._link.stdout.readline() == "ready\n", "the link has not come up"
            for home, address in zip(self._homes, (SERVER, CLIENT)):
                self._ip(home, "link", "set", "lo", "up")
                self._ip(home, "address", "add", f"{address}/24", "dev", DEVICE)
                self._ip(home, "link", "set", DEVICE, "mtu", str(MTU), "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure):
        self._stack.close()

    @contextlib.contextmanager
    def _keep(self):
        keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep infinity"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            keeper.stdout.readline()  # it is there
            yield keeper
        finally:
            self._end(keeper)

    @staticmethod
    def _end(process):
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()

    @staticmethod
    def _ip(home, *words):
        subprocess.run(["nsenter", "-t", str(home.pid), "-n", "ip", *words], check=True,
                       stdin=subprocess.DEVNULL)

    @property
    def prefix(self):
        """Of a command that is to run where the server is."""
        return ("nsenter", "-t", str(self._homes[0].pid), "-n", "--")

    def socket(self, family=socket.AF_INET):
        """A socket where the clients are. A Unix socket is at home everywhere."""
        with inside(self._client):
            return socket.socket(family)

    def set(self, what):
        if what in ("unplug", "plug", "clear"):
            self._ip(self._homes[1], "link", "set", DEVICE, "down" if what == "unplug" else "up")
        if what not in ("unplug", "plug"):
            self._tell(what)

    def counts(self):
        words = self._tell("counts").split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def _tell(self, what):
        self._link.stdin.write(what + "\n")
        self._link.stdin.flush()
        answer = self._link.stdout.readline()
        assert answer.endswith("\n"), "the link has died"
        return answer


class Link:
    """The cable: two devices, what is on its way between them, and the weather."""

    def __init__(self, server, client, seed):
        self.ends = [server, client]
        self.random = random.Random(seed)
        self.way = []  # (when, number, end to go to, packet)
        self.number = 0
        self.cut = [False, False]  # towards the server, towards the clients
        self.fair()
        self.counts = {"carried": 0, "lost": 0, "late": 0, "doubled": 0}

    def fair(self):
        self.loss = self.delay = self.double = self.disorder = 0

    def obey(self, command):
        word, *rest = command.split()
        if word == "cut":
            self.cut = [rest in ([], ["up"]), rest in ([], ["down"])]
            self.way.clear()
        elif word == "weather":
            self.loss, self.delay, self.double, self.disorder = map(float, rest)
        elif word in ("heal", "clear"):
            self.cut = [False, False]
            if word == "clear":
                self.fair()
        elif word == "counts":
            return " ".join(f"{name} {count}" for name, count in self.counts.items())
        return "ok"

    def take(self, packet, end):
        """A packet on its way to an end."""
        if self.cut[end] or self.random.random() < self.loss:
            self.counts["lost"] += 1
            return
        copies = 1 + (self.random.random() < self.double)
        self.counts["doubled"] += copies - 1
        for _ in range(copies):
            delay = self.delay * (.5 + self.random.random())
            if self.random.random() < self.disorder:
                delay += .03 * self.random.random()
            if delay:
                self.counts["late"] += 1
                self.number += 1
                heapq.heappush(self.way, (time.monotonic() + delay, self.number, end, packet))
            else:
                self.give(packet, end)

    def give(self, packet, end):
        try:
            os.write(self.ends[end], packet)
            self.counts["carried"] += 1
        except OSError:
            self.counts["lost"] += 1  # its interface is down, or has no room

    def deliver(self):
        """What is due. Returns the milliseconds until the next is; None: nothing waits."""
        while self.way and self.way[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(self.way)
            self.give(packet, end)
        return max(0, (self.way[0][0] - time.monotonic()) * 1000) if self.way else None

    def run(self):
        """Until nobody commands any more."""
        poller = select.poll()
        for fd in (0, *self.ends):
            poller.register(fd, select.POLLIN)
        commands = b""
        while True:
            for fd, events in poller.poll(self.deliver()):
                if fd == 0:
                    got = os.read(0, 4096)
                    if not got:
                        return
                    commands += got
                    *lines, commands = commands.split(b"\n")
                    for line in lines:
                        print(self.obey(line.decode()), flush=True)
                elif events & select.POLLIN:
                    self.carry(fd)
                else:
                    time.sleep(.01)  # it is unplugged

    def carry(self, fd):
        for _ in range(64):
            try:
                packet = os.read(fd, 65536)
            except OSError:
                return
            self.take(packet, 1 - self.ends.index(fd))


def open_device(pid):
    """A TUN device in the namespace of a process."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    os.close(namespace)
    return device


if __name__ == "__main__":
    link = Link(open_device(sys.argv[1]), open_device(sys.argv[2]), int(sys.argv[3]))
    print("ready", flush=True)
    link.run()
