# SPDX-License-Identifier: MIT
"""What bench/run measures, and what is required of psad.

A case is one run of the load generator against a server that was started for it. The figures that
the report knows by name are in METRICS; REQUIREMENTS compares medians of them.
"""

import re
from dataclasses import dataclass, field

ALL = ("psad", "bare", "nats", "redis", "mqtt")
WITHOUT_MQTT = ("psad", "bare", "nats", "redis")


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    load: str  # options of the load generator
    servers: tuple = ("psad", "bare")
    metric: str = "ns_delivery"  # the figure that tables and plots show first
    psad: tuple = ()  # psad's options, as after -o
    warm: str = ""  # a run before, against the same server, which is not measured
    timed: bool = False  # psad with clocks in it
    cpus: str = ""  # always these, whatever --cpus says
    shared: bool = False  # also in the second table, where nothing is pinned
    # Kind of server -> more options for it. Mosquitto gets fewer messages where it takes minutes.
    loads: dict = field(default_factory=dict)

    def psad_options(self):
        return {"psad": self.psad, **({"timed": True} if self.timed else {})}


# Acks are off and publishers as fast as they can be where a case does not say otherwise.
DEFAULTS = "--verb=PUT --acks=off --pubs=1 --pace=full --timeout=120 --topic=t --filter=t"
# Memory for a million messages of 128 bytes.
KEEP_A_MILLION = ("log.retain_bytes=512M",)
# Segments of 4 MB that come back soon.
SMALL_LOG = ("log.retain_bytes=64M",)
# Subscribers and messages of i.
PUBLISHING = ((1, 10000), (100, 5000), (1000, 1000), (10000, 300))

CASES = [
    Case("a", "1,000 messages of 16 bytes to 500 subscribers at once",
         "--subs=500 --messages=1000 --size=16", ALL, shared=True),
    Case("a10", "10,000 messages of 16 bytes to 500 subscribers at once",
         "--subs=500 --messages=10000 --size=16", WITHOUT_MQTT, shared=True),
    Case("b", "100,000 messages of 128 bytes to 100 subscribers, full speed",
         "--subs=100 --messages=100000 --size=128", ALL, shared=True,
         loads={"mqtt": "--messages=5000"}),
    Case("c", "200 messages a second of 128 bytes to 500 subscribers",
         "--subs=500 --messages=400 --size=128 --pace=rate:200 --latency", ALL, shared=True),
    Case("d", "100 messages of 128 bytes to 10,000 subscribers",
         "--subs=10000 --messages=100 --size=128", ALL, shared=True,
         loads={"mqtt": "--messages=20"}),
    Case("e", "1,000,000 messages on 1,000 topics with one subscriber each",
         "--subs=1000 --filter=t.%d --topic=t.%d --topics=1000 --messages=1000000 --size=128",
         ("psad", "nats", "redis")),
    Case("f1put", "publishing 1,000,000 × 128 bytes with PUT, 1 connection, nobody listens",
         "--subs=0 --messages=1000000 --size=128", WITHOUT_MQTT, "ns_message"),
    Case("f1pub", "the same with PUB",
         "--subs=0 --messages=1000000 --size=128 --verb=PUB", ("psad",), "ns_message"),
    Case("f8put", "publishing 1,000,000 × 128 bytes with PUT, 8 connections, nobody listens",
         "--subs=0 --messages=1000000 --size=128 --pubs=8",
         ("psad", "nats", "redis"), "ns_message"),
    Case("f8pub", "the same with PUB",
         "--subs=0 --messages=1000000 --size=128 --pubs=8 --verb=PUB", ("psad",), "ns_message"),
    Case("f1put-reused", "f1put where the log's memory is used again",
         "--subs=0 --messages=1000000 --size=128", ("psad",), "ns_message", SMALL_LOG,
         "--subs=0 --messages=600000 --size=128"),
    Case("f1pub-reused", "f1pub where the log's memory is used again",
         "--subs=0 --messages=1000000 --size=128 --verb=PUB", ("psad",), "ns_message", SMALL_LOG,
         "--subs=0 --messages=600000 --size=128 --verb=PUB"),
    Case("f8put-reused", "f8put where the log's memory is used again",
         "--subs=0 --messages=1000000 --size=128 --pubs=8", ("psad",), "ns_message", SMALL_LOG,
         "--subs=0 --messages=600000 --size=128"),
    Case("f8pub-reused", "f8pub where the log's memory is used again",
         "--subs=0 --messages=1000000 --size=128 --pubs=8 --verb=PUB", ("psad",), "ns_message",
         SMALL_LOG, "--subs=0 --messages=600000 --size=128 --verb=PUB"),
    Case("g1", "replay of 1,000,000 kept messages of 128 bytes to 1 subscriber",
         "--preload=1000000 --start=all --filter=> --subs=1 --messages=0 --size=128",
         psad=KEEP_A_MILLION),
    Case("g100", "replay of 1,000,000 kept messages of 128 bytes to 100 subscribers",
         "--preload=1000000 --start=all --filter=> --subs=100 --messages=0 --size=128",
         psad=KEEP_A_MILLION),
    Case("g1t", "replay of 1,000,000 kept messages of one topic to 1 subscriber",
         "--preload=1000000 --start=all --subs=1 --messages=0 --size=128", psad=KEEP_A_MILLION),
    Case("g100t", "replay of 1,000,000 kept messages of one topic to 100 subscribers",
         "--preload=1000000 --start=all --subs=100 --messages=0 --size=128", psad=KEEP_A_MILLION),
    Case("h", "memory of 10,000 idle subscribers",
         "--idle --subs=10000 --messages=0", ALL, "bytes_subscriber"),
    # One message at a time: each of them rings. The one worker is awake then; what it costs to wake
    # another, and to be pushed aside by it, is in iw.
    *(Case(f"i{subs}", f"publishing with {subs:,} subscribers: append and wake",
           f"--subs={subs} --messages={messages} --size=128 --pace=window:1 --acks=on", ("psad",),
           "publish_ns", timed=True, cpus="split")
      for subs, messages in PUBLISHING),
    # Among the writes to so many sockets the log is not in the caches any more when a single message
    # comes: what that costs is no work that grows, which shows where messages come together.
    *(Case(f"ib{subs}", f"publishing 1,000 messages at once to {subs:,} subscribers: append and wake",
           f"--subs={subs} --messages=1000 --size=128", ("psad",), "publish_ns", timed=True,
           cpus="split")
      for subs, _ in PUBLISHING),
    *(Case(f"iw{subs}", f"the same with two workers on two CPUs, {subs:,} subscribers",
           f"--subs={subs} --messages={messages} --size=128 --pace=window:1 --acks=on", ("psad",),
           "publish_ns", ("server.workers=2",), timed=True, cpus="shared")
      for subs, messages in PUBLISHING),
    Case("j", "b beside 10 more subscribers that never read",
         "--subs=100 --messages=100000 --size=128 --stopped=10"),
    # Fast enough that those who don't read are full at once, slow enough that latency is not a queue.
    Case("b-paced", "5,000 messages a second of 128 bytes to 100 subscribers",
         "--subs=100 --messages=10000 --size=128 --pace=rate:5000 --latency"),
    Case("j-paced", "b-paced beside 10 more subscribers that never read",
         "--subs=100 --messages=10000 --size=128 --pace=rate:5000 --latency --stopped=10"),
    Case("k", "10,000 subscribers connect and resume at once",
         "--subs=10000 --preload=1000 --start=resume --messages=10 --size=128",
         metric="storm_seconds"),
    Case("l64k", "500 messages of 64 KiB to 100 subscribers",
         "--subs=100 --messages=500 --size=65536", WITHOUT_MQTT),
    Case("l1m", "40 messages of 1 MiB to 100 subscribers",
         "--subs=100 --messages=40 --size=1048576", WITHOUT_MQTT),
    Case("m", "10,000 subscribers of their own topic and of news: 10,000 and 1,000 messages",
         "--subs=10000 --filter=user.%d --filter=news --topic=user.%d --topics=10000"
         " --messages=10000 --also=news:1000 --size=128", ("psad", "nats", "redis")),
    Case("n", "2,000 messages, each on a new topic, to 1,000 subscribers of ev.*, after 300,000",
         "--subs=1000 --filter=ev.* --topic=ev.%d --topics=0 --messages=2000 --size=128",
         ("psad", "nats"), warm="--subs=0 --topic=ev.%d --topics=0 --messages=300000 --size=128"),
    Case("n1", "2,000 messages on one topic to 1,000 subscribers of ev.*, after 300,000",
         "--subs=1000 --filter=ev.* --topic=ev.100000 --messages=2000 --size=128",
         ("psad", "nats"), warm="--subs=0 --topic=ev.100000 --messages=300000 --size=128"),
    Case("o", "PUB until OK while 10,000 followers are written to, one message at a time",
         "--subs=10000 --messages=200 --size=128 --pace=window:1 --acks=on --verb=PUB", ("psad",),
         "ok_p99"),
    Case("p", "8 workers on these CPUs, 8 publishers, 10 subscribers: the longest append",
         "--subs=10 --pubs=8 --messages=1000000 --size=128", ("psad",), "longest_append",
         ("server.workers=8",), timed=True, cpus="shared"),
    Case("q", "memory of a server with nothing to do", "", ALL, "rss"),
]


# --- figures ----------------------------------------------------------------------------------------

def _load(key, factor=1.0):
    def figure(run):
        value = run["load"].get(key)
        return None if value is None else value * factor
    return figure


def _latency(which, key):
    return lambda run: (run["load"].get(which) or {}).get(key)


def _bytes_subscriber(run):
    load = run["load"]
    if load.get("rss_after") is None or not load.get("subs"):
        return None
    return (load["rss_after"] - load["rss_before"]) / load["subs"]


def _timed(key):
    return lambda run: run["timed"].get(key)


def _publish_ns(run):
    append = run["timed"].get("append_ns_per_message")
    wake = run["timed"].get("wake_ns_per_message")
    return None if append is None or wake is None else append + wake


# name -> (what, unit, figure of one run or None)
METRICS = {
    "ns_delivery": ("CPU per delivery", "ns", _load("cpu_ns_per_delivery")),
    "ns_message": ("CPU per message", "ns", _load("cpu_ns_per_message")),
    "deliveries_s": ("deliveries", "1/s", _load("deliveries_per_s")),
    "messages_s": ("messages", "1/s", _load("messages_per_s")),
    "cpu_s": ("CPU", "s", _load("cpu_s")),
    "load_cpu_s": ("CPU of the load generator", "s", _load("load_cpu_s")),
    "seconds": ("time", "s", _load("seconds")),
    "p50": ("latency, median", "µs", _latency("latency_us", "p50")),
    "p99": ("latency, 99 %", "µs", _latency("latency_us", "p99")),
    "latency_max": ("latency, longest", "µs", _latency("latency_us", "max")),
    "ok_p50": ("PUB to OK, median", "µs", _latency("ok_latency_us", "p50")),
    "ok_p99": ("PUB to OK, 99 %", "µs", _latency("ok_latency_us", "p99")),
    "ok_max": ("PUB to OK, longest", "µs", _latency("ok_latency_us", "max")),
    "storm_seconds": ("until all have resumed", "s", _load("storm_seconds")),
    "bytes_subscriber": ("memory per subscriber", "B", _bytes_subscriber),
    "rss": ("memory", "MB", lambda run: run["rss"] / 1e6 if run.get("rss") else None),
    "rss_peak": ("memory at most", "MB", _load("rss_peak", 1e-6)),
    "publish_ns": ("append and wake", "ns", _publish_ns),
    "append_ns": ("append", "ns", _timed("append_ns_per_message")),
    "wake_ns": ("wake", "ns", _timed("wake_ns_per_message")),
    "append_p999": ("append, 99.9 %", "µs", _timed("append_p999_us")),
    "longest_append": ("longest append", "µs", _timed("longest_append_us")),
}


def figure(run, metric):
    """A figure of one run, None where it has none."""
    return METRICS[metric][2](run)


# --- what is required -------------------------------------------------------------------------------

@dataclass(frozen=True)
class Requirement:
    """psad's figure is at most `limit` times that of `against`, or at most `limit`."""
    case: str
    metric: str
    limit: float
    against: tuple = ()  # (case, kind of server, metric); psad: the same build; empty: absolute
    inverse: bool = False  # more is better: the other's figure is at most `limit` times psad's
    unit: str = ""

    def text(self):
        what = f"{self.case}: {METRICS[self.metric][0]}"
        if not self.against:
            return f"{what} ≤ {self.limit:.4g} {METRICS[self.metric][1]}"
        case, kind, metric = self.against
        name = kind if case == self.case else f"{case} of {kind}"
        if metric != self.metric:
            name += f" ({METRICS[metric][0]})"
        if self.inverse:
            return f"{what} ≥ {1 / self.limit:.2g} × {name}"
        factor = f"{self.limit:g}" if self.limit >= 1 else f"1/{1 / self.limit:g}"
        return f"{what} ≤ {factor} × {name}"


def _beside(case, metric, limits):
    return [Requirement(case, metric, limit, (case, kind, metric)) for kind, limit in limits]


def _as(case, metric, limit, other, kind="psad", inverse=False):
    return Requirement(case, metric, limit, (other, kind, metric), inverse)


REQUIREMENTS = [
    *_beside("a", "ns_delivery", [("bare", 1.5), ("nats", 1 / 6), ("redis", 1 / 6)]),
    *_beside("a10", "ns_delivery", [("bare", 1.5), ("nats", 1 / 6), ("redis", 1 / 6)]),
    *_beside("b", "ns_delivery", [("bare", 1.25), ("nats", 1 / 4), ("redis", 1 / 4)]),
    *_beside("c", "ns_delivery", [("bare", 1.2)]),
    *_beside("c", "p50", [("bare", 1.15), ("nats", 1), ("redis", 1), ("mqtt", 1)]),
    *_beside("c", "p99", [("bare", 1.15), ("nats", 1), ("redis", 1), ("mqtt", 1)]),
    *_beside("d", "ns_delivery", [("bare", 1.3), ("redis", 1 / 3)]),
    *_beside("e", "ns_delivery", [("nats", 1 / 2)]),
    *_beside("f1put", "ns_message", [("nats", 1)]),
    *_beside("f8put", "ns_message", [("nats", 1)]),
    _as("f1pub", "ns_message", 1.1, "f1put"),
    _as("f8pub", "ns_message", 1.1, "f8put"),
    _as("f1put-reused", "ns_message", 1 / 2, "f1put", "nats"),
    _as("f8put-reused", "ns_message", 1 / 2, "f8put", "nats"),
    _as("f1pub-reused", "ns_message", 1.1, "f1put-reused"),
    _as("f8pub-reused", "ns_message", 1.1, "f8put-reused"),
    *_beside("g1", "ns_delivery", [("bare", 1.1)]),
    *_beside("g100", "ns_delivery", [("bare", 1.1)]),
    Requirement("h", "bytes_subscriber", 1024),
    # It does not grow: a quarter more is noise. With one subscriber caches are still warm at the
    # next message, with thousands never: what is beyond that shows between 1,000 and 10,000.
    *(_as(f"ib{subs}", "publish_ns", 1.25, "ib1") for subs in (100, 1000, 10000)),
    *(_as(f"i{subs}", "publish_ns", 1.25, "i1") for subs in (100, 1000, 10000)),
    _as("j", "ns_delivery", 1.1, "b"),
    _as("j", "deliveries_s", 1.1, "b", inverse=True),
    _as("j-paced", "p50", 1.1, "b-paced"),
    _as("j-paced", "p99", 1.1, "b-paced"),
    _as("j", "rss_peak", 1.1, "b"),
    *_beside("l64k", "ns_delivery", [("bare", 1.2)]),
    *_beside("l1m", "ns_delivery", [("bare", 1.2)]),
    _as("m", "ns_delivery", 3, "d"),
    _as("n", "ns_delivery", 2, "n1"),
    _as("n", "rss_peak", 1.1, "n1"),
    Requirement("o", "ok_p99", 5000),
    Requirement("q", "rss", 8 * 1.048576),
]
# What is to be reported and has no limit.
REPORTED = [*((f"iw{subs}", "wake_ns") for subs, _ in PUBLISHING),
            ("k", "storm_seconds"), ("p", "append_p999"), ("p", "longest_append"), ("o", "ok_p50")]


def _group(case):
    return re.match("[a-z]+", case.name)[0]


def select(names):
    """Cases by name; i selects i1, i100, …, as there is none of just that name."""
    if not names:
        return CASES
    known = {case.name for case in CASES}
    groups = {_group(case) for case in CASES} - known
    unknown = [name for name in names if name not in known | groups]
    if unknown:
        raise ValueError(f"no such case: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [case for case in CASES
            if case.name in names or (_group(case) in names and _group(case) in groups)]
