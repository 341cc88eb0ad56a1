# SPDX-License-Identifier: MIT
"""Turns the runs of bench/run into medians, markdown tables and the list of what is required.

A run that failed (a server that cut subscribers off, messages that never came) is in no median; it is
listed under the tables, and where every run failed the table says so.
"""

import csv
import json
import os
import statistics

import cases

# From so many CPUs on that were busy with something else, a run counts as disturbed.
DISTURBED_CPUS = 0.2


def number(value):
    """Three digits that count, thousands with commas."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def save(out, results):
    path = os.path.join(out, "results.json")
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    os.replace(path + ".new", path)


def load(out):
    with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
        return json.load(file)


class Summary:
    """All figures of all rounds: what(case, server, metric) -> a median."""

    def __init__(self, results):
        self.about = results["about"]
        self.values = {}  # (cpus, case, server, metric) -> {round: value}
        self.faults = {}  # (cpus, case, server) -> [fault]
        self.count = {}  # (cpus, case, server) -> runs
        self.kinds = {}  # server -> kind, in the order of the columns
        for run in results["runs"]:
            key = run["cpus"], run["case"], run["server"]
            self.kinds.setdefault(run["server"], run["kind"])
            self.count[key] = self.count.get(key, 0) + 1
            if run["fault"]:
                self.faults.setdefault(key, []).append(run["fault"])
                continue
            for metric in cases.METRICS:
                value = cases.figure(run, metric)
                if value is not None:
                    self.values.setdefault((*key, metric), {})[run["round"]] = value

    def servers(self, kind=None):
        return [label for label, k in self.kinds.items() if kind in (None, k)]

    def pinnings(self):
        return [p for p in ("split", "shared") if any(key[0] == p for key in self.count)]

    def cases(self, pinning):
        """Those that ran so, in the order of the list."""
        ran = {key[1] for key in self.count if key[0] == pinning}
        return [case for case in cases.CASES if case.name in ran]

    def pinning_of(self, case, pinning):
        """Some cases always run one way, whatever the table is about."""
        fixed = next((c.cpus for c in cases.CASES if c.name == case), "")
        return fixed or pinning

    def rounds(self, pinning, case, server, metric):
        return self.values.get((self.pinning_of(case, pinning), case, server, metric), {})

    def median(self, pinning, case, server, metric):
        values = self.rounds(pinning, case, server, metric).values()
        return statistics.median(values) if values else None

    def ratio(self, pinning, one, other):
        """(ratio of the medians, lowest and highest ratio of one round) of two (case, server, metric)."""
        above, below = self.median(pinning, *one), self.median(pinning, *other)
        if above is None or not below:
            return None
        ours, theirs = self.rounds(pinning, *one), self.rounds(pinning, *other)
        paired = [ours[r] / theirs[r] for r in ours if theirs.get(r)] or [above / below]
        return above / below, min(paired), max(paired)

    def has_failed(self, pinning, case, server):
        key = self.pinning_of(case, pinning), case, server
        return key in self.faults and len(self.faults[key]) == self.count[key]


# --- tables ---

def table(head, rows, right=True):
    """`right`: all columns but the first hold numbers."""
    lines = ["| " + " | ".join(head) + " |",
             "|" + " --- |" + (" ---: |" if right else " --- |") * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cell(summary, pinning, case, server, metric):
    if summary.has_failed(pinning, case, server):
        return "failed"
    return number(summary.median(pinning, case, server, metric))


def cost_table(summary, pinning, psad, metric):
    """CPU of each server, and psad's share of it."""
    servers = summary.servers()
    others = [s for s in servers if s != psad]
    rows = []
    for case in summary.cases(pinning):
        if case.metric != metric and not (metric == "ns_delivery" and "latency" in case.load):
            continue
        if case.cpus and case.cpus != pinning:
            continue
        row = [f"{case.name} {case.title}"]
        row += [cell(summary, pinning, case.name, server, metric) for server in servers]
        for other in others:
            ratio = summary.ratio(pinning, (case.name, psad, metric), (case.name, other, metric))
            row.append("–" if ratio is None else
                       f"{ratio[0]:.2f}" if ratio[0] >= 0.1 else number(ratio[0]))
        rows.append(row)
    if not rows:
        return ""
    what, unit, _ = cases.METRICS[metric]
    return f"### {what}, {unit}\n\n" + table(
        ["case", *servers, *(f"{psad} / {other}" for other in others)], rows) + "\n"


def figure_table(summary, pinning, title, chosen):
    """One row for each (case, metric) that anybody has."""
    servers = summary.servers()
    rows = []
    for case, metric in chosen:
        cells = [cell(summary, pinning, case.name, server, metric) for server in servers]
        if any(c not in ("–", "failed") for c in cells):
            what, unit, _ = cases.METRICS[metric]
            rows.append([f"{case.name} {what}, {unit}", *cells])
    return f"### {title}\n\n" + table(["case", *servers], rows) + "\n" if rows else ""


def tables(summary, pinning, psad):
    ran = [c for c in summary.cases(pinning) if not c.cpus or c.cpus == pinning]
    fan_out = [c for c in ran if c.metric == "ns_delivery"]
    text = cost_table(summary, pinning, psad, "ns_delivery")
    text += cost_table(summary, pinning, psad, "ns_message")
    text += figure_table(summary, pinning, "Latency", [
        (c, m) for c in ran for m in ("p50", "p99", "latency_max", "ok_p50", "ok_p99", "ok_max")])
    text += figure_table(summary, pinning, "Throughput", [
        (c, "deliveries_s" if c in fan_out else "messages_s") for c in ran
        if c in fan_out or c.metric == "ns_message"])
    text += figure_table(summary, pinning, "Publishing inside psad, and resuming", [
        (c, m) for c in ran for m in ("publish_ns", "append_ns", "wake_ns", "append_p999",
                                      "longest_append", "storm_seconds")])
    text += figure_table(summary, pinning, "Memory", [
        (c, m) for c in ran for m in ("bytes_subscriber", "rss", "rss_peak")])
    return text


def builds_table(summary, pinning, psads):
    """Builds of psad beside the first of them: below 1 is better where the figure is a cost."""
    rows = []
    for case in summary.cases(pinning):
        metrics = [case.metric, "deliveries_s", "p50", "p99", "rss_peak"]
        for metric in dict.fromkeys(metrics):
            base = summary.median(pinning, case.name, psads[0], metric)
            if not base:
                continue
            row = [f"{case.name} {cases.METRICS[metric][0]}, {cases.METRICS[metric][1]}", number(base)]
            for other in psads[1:]:
                row.append(cell(summary, pinning, case.name, other, metric))
                ratio = summary.ratio(pinning, (case.name, other, metric),
                                      (case.name, psads[0], metric))
                row.append("–" if ratio is None
                           else f"{ratio[0]:.3f} ({ratio[1]:.2f}…{ratio[2]:.2f})")
            rows.append(row)
    head = ["case", psads[0]]
    for other in psads[1:]:
        head += [other, f"{other} / {psads[0]}"]
    return f"### Builds beside {psads[0]}\n\n" + table(head, rows) + "\n"


# --- what is required ---

def judge(summary, pinning, psad, requirement):
    """(is reached or None, what was measured) of one requirement."""
    ours = requirement.case, psad, requirement.metric
    if not requirement.against:
        value = summary.median(pinning, *ours)
        if value is None:
            return None, ""
        return value <= requirement.limit, f"{number(value)} {cases.METRICS[requirement.metric][1]}"
    case, kind, metric = requirement.against
    labels = [psad] if kind == "psad" else summary.servers(kind)
    theirs = case, labels[0] if labels else "", metric
    if labels and summary.has_failed(pinning, case, labels[0]):
        return None, f"{labels[0]} failed"
    ratio = summary.ratio(pinning, theirs, ours) if requirement.inverse else \
        summary.ratio(pinning, ours, theirs)
    if ratio is None:
        return None, ""
    value, low, high = ratio
    if requirement.inverse:
        value, low, high = 1 / value, 1 / high, 1 / low
    is_reached = value >= 1 / requirement.limit if requirement.inverse else value <= requirement.limit
    a, b = summary.median(pinning, *ours), summary.median(pinning, *theirs)
    return is_reached, f"{value:.3f} ({low:.2f}…{high:.2f}); {number(a)} : {number(b)}"


def requirements(summary, pinning, psad):
    rows = []
    missing = 0
    for requirement in cases.REQUIREMENTS:
        is_reached, measured = judge(summary, pinning, psad, requirement)
        if is_reached is None and not measured:
            missing += 1
            continue
        verdict = "not measured" if is_reached is None else "reached" if is_reached \
            else "**NOT reached**"
        rows.append([requirement.text(), verdict, measured])
    for case, metric in cases.REPORTED:
        value = summary.median(pinning, case, psad, metric)
        if value is not None:
            what, unit, _ = cases.METRICS[metric]
            rows.append([f"{case}: {what}", "reported", f"{number(value)} {unit}"])
    if not rows:
        return ""
    text = f"### What is required of {psad}\n\n" \
        "Ratios of medians, with the lowest and highest of a single round.\n\n"
    text += table(["required", "", "measured"], rows, right=False)
    if missing:
        text += f"\n{missing} more were not measured.\n"
    return text + "\n"


# --- all of it ---

def header(results):
    about = results["about"]
    lines = [f"- {about['date']}, psad's commit {about['commit']}",
             f"- {about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}",
             f"- {about['rounds']} interleaved rounds, medians of them; `bench/run {about['command']}`"]
    if about["quick"]:
        lines.append("- **quick: too short for anything but seeing that it runs**")
    others = [run["others_cpus"] for run in results["runs"] if "others_cpus" in run]
    if others:
        disturbed = sum(1 for o in others if o >= DISTURBED_CPUS)
        lines.append(f"- {disturbed} of {len(others)} runs were disturbed: {DISTURBED_CPUS} CPUs or "
                     f"more were busy with something else (median of all {statistics.median(others):.2f})")
    for label, server in about["servers"].items():
        lines.append(f"- {label}: {server['version']} (`{server['program']}`)")
    lines += ["- split: server on one CPU, load generator on another; shared: both on all CPUs",
              "- settings: acks off, PUT, publishers at full speed, loopback, where a case does not "
              "say otherwise; those of the servers are in bench/servers.py"]
    for case in cases.CASES:
        lines += [f"- {case.name}: {kind} with `{more}`" for kind, more in case.loads.items()
                  if kind in [server["kind"] for server in about["servers"].values()]]
    return "\n".join(lines) + "\n\n"


def failures(summary):
    lines = []
    for (pinning, case, server), faults in summary.faults.items():
        count = summary.count[pinning, case, server]
        lines.append(f"- {case} ({pinning}) {server}: {len(faults)} of {count}: {faults[-1]}")
    return "## Runs that failed\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def write_csv(out, summary):
    with open(os.path.join(out, "results.csv"), "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "cpus", "server", "metric", "unit", "rounds", "median", "min", "max"])
        for (pinning, case, server, metric), values in summary.values.items():
            values = list(values.values())
            rows.writerow([case, pinning, server, metric, cases.METRICS[metric][1], len(values),
                           statistics.median(values), min(values), max(values)])


def write(out, results, plots):
    """Writes results.csv and table.md; returns what a terminal shows: what is required."""
    summary = Summary(results)
    write_csv(out, summary)
    psads = summary.servers("psad")
    first = psads[0] if psads else (summary.servers() or [""])[0]
    text = "# psad measured\n\n" + header(results)
    closing = ""
    for pinning in summary.pinnings():
        text += f"## CPUs {pinning}\n\n" + tables(summary, pinning, first)
        if len(psads) > 1:
            closing += builds_table(summary, pinning, psads)
    # Where there are two tables, the first is the one that counts.
    for pinning in summary.pinnings()[:1]:
        closing += "".join(requirements(summary, pinning, psad) for psad in psads)
    closing += failures(summary)
    with open(os.path.join(out, "table.md"), "w", encoding="utf-8") as file:
        file.write(text + "## Results\n\n" + closing)
        file.writelines(f"![{plot}]({plot})\n" for plot in plots)
    return closing if psads else text + closing
