# SPDX-License-Identifier: MIT
"""What a delivery costs, shown by counting: system calls, wake-ups, allocations, locks. No times."""

import contextlib
import re
import shutil
import socket
import struct
import subprocess
from collections import Counter
from typing import NamedTuple

import pytest

import broker as broker_module
from client import FLAVOUR, put, wait_until
from traffic import Job

pytestmark = pytest.mark.skipif(FLAVOUR != "", reason="a sanitizer has calls and allocations of its own")

PATTERNS = ["t", ">", "*", "t other.topic"]


def run_by(monkeypatch, tmp_path, command):
    """Brokers are started by this shell command from now on; "$@" in it is psad with its arguments."""
    wrapper = tmp_path / "psad-wrapper"
    wrapper.write_text(f'#!/bin/sh\nset -- "{broker_module.PSAD}" "$@"\n{command}\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(broker_module, "PSAD", str(wrapper))


# --- system calls ------------------------------------------------------------------------------

SENDS = ("write", "writev", "send", "sendto", "sendmsg", "sendmmsg")
RING = r'"\1\0\0\0\0\0\0\0", 8'  # what eventfd_write() writes, in strace's spelling


class Call(NamedTuple):
    thread: str
    name: str
    text: str  # arguments and result
    begin: int  # its line, and the one of its end


def parse_trace(text):
    """The calls in strace's output, in the order of their beginnings. What was interrupted by another thread is put together."""
    calls, unfinished = [], {}
    for number, line in enumerate(text.splitlines()):
        thread, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if found := re.match(r"<\.\.\. (\w+) resumed>(.*)", rest):
            if thread in unfinished:
                name, before, begin = unfinished.pop(thread)
                calls.append(Call(thread, name, before + found[2], begin))
        elif found := re.match(r"(\w+)\((.*?)(<unfinished \.\.\.>)?$", rest):
            if found[3]:
                unfinished[thread] = (found[1], found[2], number)
            else:
                calls.append(Call(thread, found[1], found[2], number))
    calls += [Call(thread, *call) for thread, call in unfinished.items()]
    return sorted(calls, key=lambda call: call.begin)


def is_delivery(call):
    return call.name in SENDS and '"MSG ' in call.text


def is_ring(call):
    return call.name in SENDS and RING in call.text


def is_sleep(call):
    """An epoll_wait that may last, not a mere look."""
    return call.name.startswith("epoll_") and "wait" in call.name and not re.search(r", \d+, 0(, NULL, \d+)?\) ", call.text)


class Trace:
    """A broker under strace. Marks are commands that psad does not know, and so read and nothing else."""

    def __init__(self, broker, path, *options):
        self.broker = broker("log.segment_size=16M", *options)
        self.path = path
        assert self.broker.control.ask("PING").startswith("PONG ")

    def mark(self, name):
        assert self.broker.control.ask(f"MARK {name}").code == "unknown-command"

    def between(self, calls, begin, end):
        at = [next(i for i, call in enumerate(calls) if f'"MARK {name}\\n"' in call.text) for name in (begin, end)]
        return calls[at[0] + 1:at[1]]

    def stop(self):
        """Ends the broker; returns all its calls."""
        self.broker.stop()
        end = f"{self.broker.process.pid} "
        wait_until(lambda: any(line.startswith(end) and "+++ exited" in line for line in self.path.read_text().splitlines()[-3:]),
                   "strace has written its last line")
        return parse_trace(self.path.read_text())


@pytest.fixture
def traced(broker, tmp_path, monkeypatch):
    """A factory of brokers under strace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run([strace, "-D", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace processes here")
    path = tmp_path / "trace"
    # -D: the daemon stays our child, strace goes to the background.
    run_by(monkeypatch, tmp_path, f'exec "{strace}" -D -f -q -s 64 -o "{path}" "$@"')
    return lambda *options: Trace(broker, path, *options)


def subscribe(b, count, patterns=("t",)):
    clients = [b.client() for _ in range(count)]
    for n, client in enumerate(clients):
        client.ok(f"SUB {patterns[n % len(patterns)]}")
    return clients


def publish_batch(publisher, subscribers, count, topic="t"):
    """One send with `count` messages; returns when all have been answered and everybody has got all."""
    publisher.send(put(topic, b"12345678") * count)
    ids = [publisher.recv_line().id for _ in range(count)]
    for subscriber in subscribers:
        assert [m.id for m in subscriber.recv_msgs(count)] == ids


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_of_messages_is_one_write_per_subscriber_and_block(traced, workers):
    t = traced(f"server.workers={workers}")
    subscribers = subscribe(t.broker, 200, PATTERNS)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 1)
    sizes = [1, 100, 100, 100, 1]
    for n, size in enumerate(sizes):
        t.mark(n)
        publish_batch(publisher, subscribers, size)
    t.mark(len(sizes))
    calls = t.stop()

    for n, size in enumerate(sizes):
        phase = t.between(calls, n, n + 1)
        names = Counter(call.name for call in phase)
        writes = sum(map(is_delivery, phase))
        # The workers may see a batch in up to three parts: psad claims 64 ids at a time.
        most = len(subscribers) * min(size, 3)
        assert len(subscribers) <= writes <= most, f"{writes} writes for {size} messages to {len(subscribers)}: {names}"
        others = len(phase) - writes
        assert others <= 40 * workers, f"{others} calls beside {writes} deliveries: {names}"
        print(f"workers {workers}, {size} messages to {len(subscribers)}: {writes} writes, {dict(names)}")


def test_deliveries_wait_for_no_lock(traced):
    t = traced("server.workers=2")
    subscribers = subscribe(t.broker, 100, PATTERNS)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 100)
    t.mark("begin")
    for _ in range(10):
        publish_batch(publisher, subscribers, 100)
    t.mark("end")
    calls = t.between(t.stop(), "begin", "end")
    assert sum(map(is_delivery, calls)) >= 10 * 100
    futexes = [call for call in calls if call.name == "futex"]
    # The keeper looks after the log now and then, however many deliveries there are.
    assert len(futexes) <= 10, futexes
    print(f"100 * 1000 deliveries: {len(futexes)} futex calls, {Counter(call.name for call in calls)}")


# --- wake-ups ----------------------------------------------------------------------------------


def sleepers(calls):
    """{eventfd: thread}: whom a ring at that descriptor wakes."""
    eventfds = {call.text.rsplit("= ", 1)[1] for call in calls if call.name.startswith("eventfd")}
    watched = {found[2]: found[1] for call in calls if (found := re.match(r"(\d+), EPOLL_CTL_ADD, (\d+)", call.text)) and found[2] in eventfds}
    waiters = {call.text.split(",")[0]: call.thread for call in calls if is_sleep(call)}
    return {eventfd: waiters[epoll] for eventfd, epoll in watched.items() if epoll in waiters}


def check_rings(calls, phase):
    """
    Each ring finds a thread that has lain down since the ring before it. Returns {eventfd: rings}. Those
    in the background, which wait by poll(), are kicked now and then: not for messages.
    """
    kicked = {found[1] for call in calls if call.name.startswith("p") and (found := re.match(r"\[\{fd=(\d+),", call.text))}
    rings = Counter(call.text.split(",")[0] for call in phase if is_ring(call))
    for eventfd in kicked & rings.keys():
        assert rings.pop(eventfd) <= 20, f"{eventfd} is kicked too often"
    sleeps = Counter(call.thread for call in phase if is_sleep(call))
    whose = sleepers(calls)
    for eventfd, count in rings.items():
        assert eventfd in whose, f"somebody is woken at {eventfd}, of whom nothing is known: {whose}"
        # One sleep may have begun before the phase.
        assert count <= sleeps[whose[eventfd]] + 1, f"{count} rings for {sleeps[whose[eventfd]]} sleeps"
    return rings


def test_a_batch_wakes_each_other_worker_once_at_most(traced):
    workers, batches = 4, 20
    t = traced(f"server.workers={workers}")
    subscribers = subscribe(t.broker, 2 * workers, PATTERNS)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 50)
    t.mark("begin")
    for _ in range(batches):
        publish_batch(publisher, subscribers, 50)
    t.mark("end")
    calls = t.stop()
    rings = check_rings(calls, t.between(calls, "begin", "end"))
    assert 0 < len(rings) <= workers - 1, rings
    assert max(rings.values()) <= batches, f"{rings} for {batches} batches of 50 messages"
    print(f"{batches} batches, {workers} workers asleep: {rings}")


def test_one_worker_alone_wakes_nobody(traced):
    t = traced("server.workers=1")
    subscribers = subscribe(t.broker, 10, PATTERNS)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 20)
    t.mark("begin")
    for _ in range(10):
        publish_batch(publisher, subscribers, 20)
    t.mark("end")
    calls = t.stop()
    assert not check_rings(calls, t.between(calls, "begin", "end"))


def test_workers_without_subscribers_are_left_asleep(traced):
    batches = 20
    t = traced("server.workers=4")
    publisher = t.broker.client()
    subscribers = subscribe(t.broker, 1)
    publish_batch(publisher, subscribers, 10)
    t.mark("begin")
    for _ in range(batches):
        publish_batch(publisher, subscribers, 10)
        publish_batch(publisher, [], 10, topic="nobody")
    t.mark("end")
    calls = t.stop()
    rings = check_rings(calls, t.between(calls, "begin", "end"))
    # Only the subscriber's worker: it has to look at what nobody wants, too.
    assert len(rings) <= 1 and rings.total() <= 2 * batches, rings


def test_a_pipeline_of_messages_wakes_nobody_who_is_awake(traced):
    workers, count = 3, 20000
    t = traced(f"server.workers={workers}")
    subscribers = subscribe(t.broker, 2 * workers, PATTERNS)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 50)
    jobs = [Job(lambda c=subscriber: c.recv_msgs(count)) for subscriber in subscribers]
    t.mark("begin")
    publisher.exchange(put("t", b"12345678") * count, count)
    for job in jobs:
        assert len(job.finish()) == count
    t.mark("end")
    calls = t.stop()
    phase = t.between(calls, "begin", "end")
    rings = check_rings(calls, phase)
    writes = sum(map(is_delivery, phase))
    assert rings.total() < count / 10 and writes < count * len(subscribers) / 10
    print(f"{count} messages in a pipeline, {workers} workers: {rings}, {sum(map(is_sleep, phase))} sleeps, "
          f"{writes} writes for {count * len(subscribers)} deliveries")


def swallow(sock):
    """Takes what comes until the end, of whatever kind; returns how much it was."""
    size = 0
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(1 << 20):
            size += len(chunk)
    return size


def test_workers_busy_with_replays_are_not_woken(traced):
    """They look at the log anyway. A ring for each batch would be far more than there are sleeps."""
    workers, batches = 2, 300
    t = traced(f"server.workers={workers}")
    t.broker.control.flood("old", b"x" * 200, 50000)
    readers = [t.broker.client() for _ in range(workers)]  # one for each
    subscribers = subscribe(t.broker, 2 * workers)
    publisher = t.broker.client()
    publish_batch(publisher, subscribers, 10)
    for reader in readers:
        reader.send("READ old\n" * 1000)
    jobs = [Job(lambda s=reader.sock: swallow(s)) for reader in readers]
    t.mark("begin")
    for _ in range(batches):
        publish_batch(publisher, subscribers, 10)
    t.mark("end")
    for reader in readers:
        reader.sock.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
    assert all(job.finish() > 0 for job in jobs)
    calls = t.stop()
    phase = t.between(calls, "begin", "end")
    rings = check_rings(calls, phase)
    print(f"{batches} batches beside {workers} replays: {rings}, {sum(map(is_sleep, phase))} sleeps")


# --- allocations and locks ---------------------------------------------------------------------

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

enum { ALLOCATIONS, LOCKS, COUNTS };
static unsigned long early[COUNTS], *counts = early;
#define COUNTED(which, call) (__atomic_fetch_add(&counts[which], 1, __ATOMIC_RELAXED), call)

void *malloc(size_t n) { return COUNTED(ALLOCATIONS, __libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return COUNTED(ALLOCATIONS, __libc_calloc(n, size)); }
void *realloc(void *at, size_t n) { return COUNTED(ALLOCATIONS, __libc_realloc(at, n)); }
void *aligned_alloc(size_t to, size_t n) { return COUNTED(ALLOCATIONS, __libc_memalign(to, n)); }
void *memalign(size_t to, size_t n) { return COUNTED(ALLOCATIONS, __libc_memalign(to, n)); }
int posix_memalign(void **at, size_t to, size_t n)
{
	*at = COUNTED(ALLOCATIONS, __libc_memalign(to, n));
	return *at == NULL ? ENOMEM : 0;
}

#define LOCK(name, type)                                              \
	int name(type *lock)                                          \
	{                                                             \
		static int (*next)(type *);                           \
		if (next == NULL)                                     \
			next = (int (*)(type *))dlsym(RTLD_NEXT, #name); \
		return COUNTED(LOCKS, next(lock));                    \
	}
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(pthread_spin_lock, pthread_spinlock_t)

__attribute__((constructor)) static void share(void)
{
	int fd = open(getenv("COUNTS"), O_RDWR);
	void *shared = mmap(NULL, sizeof early, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		abort();
	counts = shared;
}
"""


class Counts(NamedTuple):
    allocations: int
    locks: int


@pytest.fixture
def counted(broker, tmp_path, monkeypatch):
    """A factory of pairs: a broker, and a function that tells what has been counted in it."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    source, library, counts = tmp_path / "counter.c", tmp_path / "counter.so", tmp_path / "counts"
    source.write_text(COUNTER)
    built = subprocess.run([gcc, "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", library, source], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        pytest.skip(f"gcc does not build the counter: {built.stderr:.200}")
    counts.write_bytes(bytes(16))
    run_by(monkeypatch, tmp_path, f'COUNTS="{counts}" LD_PRELOAD="{library}" exec "$@"')
    return lambda *options: (broker("log.segment_size=16M", *options), lambda: Counts(*struct.unpack("@2L", counts.read_bytes())))


def cost_of(counts, action):
    before = counts()
    action()
    return Counts(*(now - then for now, then in zip(counts(), before)))


def publish_batches(publisher, subscribers, batches):
    for _ in range(batches):
        publish_batch(publisher, subscribers, 100)


def test_deliveries_allocate_nothing_and_take_no_lock(counted):
    b, counts = counted("server.workers=2")
    publisher = b.client()
    few = []
    connecting = cost_of(counts, lambda: few.extend(subscribe(b, 10, PATTERNS)))
    assert connecting.allocations >= 10 and counts().locks > 0, "the counter counts nothing"
    publish_batch(publisher, few, 100)
    for_few = cost_of(counts, lambda: publish_batches(publisher, few, 10))
    many = few + subscribe(b, 90, PATTERNS)
    publish_batch(publisher, many, 100)
    for_many = cost_of(counts, lambda: publish_batches(publisher, many, 10))
    for_more = cost_of(counts, lambda: publish_batches(publisher, many, 40))
    print(f"1000 messages to 10: {for_few}; 1000 to 100: {for_many}; 4000 to 100: {for_more}")
    # The few are for the publisher's answers: so many for a batch, whoever gets its messages.
    assert for_many.allocations <= for_few.allocations + 10 and for_many.allocations < 100
    assert for_more.allocations < 400
    assert max(for_few.locks, for_many.locks, for_more.locks) <= 10


def test_publishing_without_acknowledgement_allocates_nothing_either(counted):
    b, counts = counted("server.workers=2")
    subscribers = subscribe(b, 50, PATTERNS)
    publisher = b.client()
    publisher.ok("ACKS OFF")

    def publish_silently(batches):
        for _ in range(batches):
            publisher.send(put("t", b"12345678") * 100)
            for subscriber in subscribers:
                subscriber.recv_msgs(100)

    publish_silently(1)
    cost = cost_of(counts, lambda: publish_silently(20))
    print(f"2000 messages to 50 subscribers: {cost}")
    assert max(cost) <= 10
