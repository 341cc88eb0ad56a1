# SPDX-License-Identifier: MIT
"""Draws the plots of bench/run with gnuplot, as SVG; says so and draws none where it is not here."""

import csv
import os
import shutil
import subprocess

import report

SIZE = {"svg": "size {w},{h} dynamic font 'sans-serif,13' background '#ffffff'",
        "png": "size {w},{h} font 'sans,11'"}
# Told apart by people who don't see all colours too.
COLOURS = ["#0072b2", "#999999", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9"]

COMMON = """
set encoding utf8
set terminal {terminal} {size}
set output '{output}'
set title {title} font ',15'
set grid ytics lc rgb '#dddddd' lt 1
set border 3
set tics nomirror out
set key outside right top vertical Left reverse
"""


def quote(text):
    return "'" + str(text).replace("'", "''") + "'"


def datablock(name, rows):
    def field(value):
        return "NaN" if value is None else quote(value).replace("'", '"') \
            if isinstance(value, str) else f"{value:.6g}"
    lines = [" ".join(field(value) for value in row) for row in rows]
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


class Canvas:
    """Runs gnuplot and remembers what it drew."""

    def __init__(self, out, kind="svg"):
        self.out = out
        self.kind = kind
        self.drawn = []

    def plot(self, name, title, script, width=900, height=480):
        size = SIZE[self.kind].format(w=width, h=height)
        output = os.path.join(self.out, f"{name}.{self.kind}")
        terminal = "pngcairo" if self.kind == "png" else self.kind
        text = COMMON.format(terminal=terminal, size=size, output=output, title=quote(title))
        done = subprocess.run(["gnuplot"], input=text + script, text=True, stderr=subprocess.PIPE,
                              check=False)
        if done.returncode == 0 and os.path.exists(output):
            self.drawn.append(f"{name}.{self.kind}")
        else:
            print(f"bench/run: gnuplot did not draw {name}: {done.stderr.strip()}")


def bars(columns, rows, y_label, scale="log", floor=None):
    """Grouped bars: rows are (category, value of each column)."""
    values = [v for row in rows for v in row[1:] if v]
    script = datablock("data", rows)
    script += "set style data histogram\nset style histogram clustered gap 1\n" \
        "set style fill solid 0.9 noborder\nset boxwidth 0.9\n" \
        f"set ylabel {quote(y_label)}\nset xtics scale 0\n"
    if scale == "log":
        low = floor or min(values) / 2
        script += f"set logscale y\nset yrange [{low:.6g}:{max(values) * 1.6:.6g}]\n"
    else:
        script += f"set yrange [0:{max(values) * 1.15:.6g}]\n"
    parts = [f"$data using {i + 2}:xtic(1) title {quote(c)} lc rgb '{COLOURS[i % len(COLOURS)]}'"
             for i, c in enumerate(columns)]
    return script, parts


def draw_costs(canvas, summary, pinning):
    """CPU per delivery of everybody, in units of the bare program's."""
    bare = (summary.servers("bare") or [None])[0]
    servers = [s for s in summary.servers() if s != bare]
    rows = []
    for case in summary.cases(pinning):
        if not bare or case.metric != "ns_delivery":
            continue
        ratios = [summary.ratio(pinning, (case.name, s, case.metric), (case.name, bare, case.metric))
                  for s in servers]
        if any(ratios):
            rows.append([case.name, *(r and r[0] for r in ratios)])
    if not rows:
        return
    script, parts = bars(servers, rows, "times the bare program's (1 = the line)", floor=0.5)
    script += "set ytics (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)\nset xlabel 'case'\n" \
        "plot " + ", ".join(parts + ["1 notitle lc rgb '#000000' lw 1.5"]) + "\n"
    canvas.plot(f"cost-{pinning}", f"CPU per delivery beside a bare program, CPUs {pinning}",
                script, 300 + 70 * max(len(rows), 6))


def draw_publishers(canvas, summary, pinning):
    """f: nobody listens."""
    chosen = [case for case in summary.cases(pinning) if case.metric == "ns_message"]
    servers = [s for s in summary.servers()
               if any(summary.median(pinning, case.name, s, "ns_message") for case in chosen)]
    if not servers:
        return
    rows = [[case.name, *(summary.median(pinning, case.name, s, "ns_message") for s in servers)]
            for case in chosen]
    script, parts = bars(servers, rows, "CPU per message, ns", scale="linear")
    script += "set xlabel 'case'\nplot " + ", ".join(parts) + "\n"
    canvas.plot(f"publishers-{pinning}", f"Publishing while nobody listens, CPUs {pinning}", script,
                380 + 90 * max(len(rows), 4))


def draw_latency(canvas, summary, pinning):
    servers = [s for s in summary.servers() if summary.median(pinning, "c", s, "p50")]
    if not servers:
        return
    rows = [[s, *(summary.median(pinning, "c", s, m) for m in ("p50", "p99", "latency_max"))]
            for s in servers]
    script, parts = bars(["median", "99 %", "longest"], rows, "µs from publishing to receiving")
    script += "plot " + ", ".join(parts) + "\n"
    canvas.plot(f"latency-{pinning}",
                f"Latency: 200 messages a second to 500 subscribers, CPUs {pinning}", script)


def draw_publishing(canvas, summary):
    psads = summary.servers("psad")
    counts = [1, 100, 1000, 10000]
    lines = []
    for psad in psads:
        name = f", {psad}" if len(psads) > 1 else ""
        for case, metric, what in (("i", "append_ns", "append"), ("i", "wake_ns", "wake, 1 worker"),
                                   ("iw", "wake_ns", "wake, 2 workers")):
            values = [summary.median("split", f"{case}{n}", psad, metric) for n in counts]
            if any(values):
                lines.append((what + name, values))
    if not lines:
        return
    rows = [[n, *(values[i] for _, values in lines)] for i, n in enumerate(counts)]
    script = datablock("data", rows) + "set logscale x\nset xrange [0.7:15000]\n" \
        "set xtics ('1' 1, '10' 10, '100' 100, '1,000' 1000, '10,000' 10000)\n" \
        "set xlabel 'subscribers'\nset ylabel 'ns per message'\nset logscale y\n"
    script += "plot " + ", ".join(
        f"$data using 1:{i + 2} with linespoints pt 7 ps 0.8 lw 2 lc rgb '{COLOURS[i % len(COLOURS)]}' "
        f"title {quote(what)}" for i, (what, _) in enumerate(lines)) + "\n"
    canvas.plot("publishing", "What publishing costs psad, against the number of subscribers", script)


def read_log(out):
    path = os.path.join(out, "log.csv")
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for key in ("writers", "subscribers", "batch"):
            row[key] = int(row[key])
        for key in ("append_ns", "read_ns", "messages_per_s"):
            row[key] = None if row[key].lower().endswith("nan") else float(row[key])
    return rows


def draw_log(canvas, log, scenario, metric, what):
    """A panel for each number of writers; a line for each contestant and batch, against subscribers."""
    chosen = [row for row in log if row["scenario"] == scenario and row[metric]]
    if not chosen:
        return
    def each(key):
        return list(dict.fromkeys(row[key] for row in chosen))
    writers, contestants = each("writers"), each("contestant")
    batches, subscribers = sorted(each("batch")), sorted(each("subscribers"))
    values = {(r["writers"], r["contestant"], r["batch"], r["subscribers"]): r[metric] for r in chosen}
    lines = [(c, b) for c in contestants for b in batches]
    script = ""
    for w in writers:
        script += datablock(f"data{w}", [
            [f"{n:,}", *(values.get((w, c, b, n)) for c, b in lines)] for n in subscribers])
    low, high = min(values.values()), max(values.values())
    width = 330 + 230 * max(len(writers), 2)
    right = 1 - 230 / width  # behind it is the key
    script += "unset title\nset logscale y\nset xlabel 'subscribers'\nset xtics scale 0\n" \
        f"set yrange [{low / 1.5:.6g}:{high * 1.5:.6g}]\nset xrange [-0.3:{len(subscribers) - 0.7}]\n" \
        f"set multiplot layout 1,{len(writers)} title {quote(f'The log alone ({scenario}): {what}')} " \
        f"font ',15' margins screen {90 / width:.3f},{right - 0.02:.3f},0.15,0.83 " \
        f"spacing screen 0.02\nset ylabel {quote(what)}\nset key at screen {right:.3f},0.8 left top Left reverse\n"
    for place, w in enumerate(writers):
        if place == 1:
            script += "unset ylabel\nset format y ''\nunset key\n"
        parts = [f"$data{w} using 0:{i + 2}:xtic(1) with linespoints pt 7 ps 0.6 lw 2 "
                 f"dt {batches.index(b) + 1} lc rgb '{COLOURS[contestants.index(c)]}' "
                 f"title {quote(f'{c}, {b} at a time')}" for i, (c, b) in enumerate(lines)]
        label = f"{w} writer" + ("s" if w != 1 else "")
        script += f"set label 1 {quote(label)} at graph 0.5,1.04 center\nplot {', '.join(parts)}\n"
    script += "unset multiplot\n"
    canvas.plot(f"log-{scenario}-{metric.replace('_', '-')}", "", script, width)


def draw_log_memory(canvas, log):
    """What the first use of memory costs, and the second."""
    chosen = [r for r in log if r["scenario"].startswith("memory") and r["append_ns"]]
    if not chosen:
        return
    names = list(dict.fromkeys(r["contestant"] for r in chosen))
    scenarios = list(dict.fromkeys(r["scenario"] for r in chosen))
    values = {(r["contestant"], r["scenario"]): r["append_ns"] for r in chosen}
    rows = [[name, *(values.get((name, s)) for s in scenarios)] for name in names]
    script, parts = bars([s.replace("memory-", "").replace("-", " ") for s in scenarios], rows,
                         "append, ns per message", scale="linear")
    canvas.plot("log-memory", "The log alone: memory that is touched for the first time",
                script + "plot " + ", ".join(parts) + "\n")


def draw(out, results, kind="svg"):
    """Returns the names of the files drawn."""
    if not shutil.which("gnuplot"):
        print("bench/run: gnuplot is not here, so there are no plots; packaging/deps.sh bench "
              "installs it")
        return []
    canvas = Canvas(out, kind)
    summary = report.Summary(results)
    for pinning in summary.pinnings():
        draw_costs(canvas, summary, pinning)
        draw_publishers(canvas, summary, pinning)
        draw_latency(canvas, summary, pinning)
    draw_publishing(canvas, summary)
    log = read_log(out)
    for scenario in ("threads", "subscribers"):
        draw_log(canvas, log, scenario, "append_ns", "append, ns per message")
        draw_log(canvas, log, scenario, "read_ns", "read, ns per message")
    draw_log_memory(canvas, log)
    return canvas.drawn
