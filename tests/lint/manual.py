#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What psad knows stands in its manual, and what stands there psad knows: verbs, starts, error
codes, reasons, statistics, words of INFO, options, keys with their defaults and bounds.

    tests/lint/manual.py [ROOT]

The code's side is read from its own tables, the manual's from the lists of the sections named
below.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

PAGES = ["psad.8", "psad.conf.5", "psad-protocol.7"]
UNIX_PATH_MAX = 107  # sun_path holds 108 bytes, one of them the NUL
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
TIMES = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000}
# How the manual begins what it says of a key of this kind; {} are the bounds.
KINDS = {
    "COUNT": "Number from {} to {}; ",
    "SIZE": "Size from {} to {}; ",
    "TIME": "Time from {} to {}; ",
    "MODE": "Octal digits from {} to {}; ",
    "FLAG": "One of no , yes ; ",
    "LEVEL": "One of debug , info , notice , warning , error ; ",
    "SYNC": "One of no , interval , always ; ",
    "PATH": "Path of at most {1} bytes, or empty; ",
    "ADDRESSES": "Addresses, comma-separated, or empty; ",
}


class Broken(Exception):
    """The code or a page is not written in a way that can be read here."""


# ---- the code ----

def table(text, name):
    """The rows X(...) of a macro that is a table."""
    found = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", text)
    rows = re.findall(r"X\(((?:[^()\"]|\"(?:[^\"\\]|\\.)*\"|\([^()]*\))*)\)",
                      found[1].replace("\\\n", " ")) if found else []
    if not rows:
        raise Broken(f"there is no table {name}")
    return rows


def words_of(text, name):
    return [re.search(r'"([^" ]+)', row)[1] for row in table(text, name)]


def number(text, constants):
    for _ in constants:
        text = re.sub(r"\b[A-Z_]+\b", lambda m: f"({constants[m[0]]})", text)
    text = re.sub(r"(\d)U?L?L?\b", r"\1", re.sub(r"\b0([0-7]+)\b", r"0o\1", text))
    if not re.fullmatch(r"[\s0-9o()*<+-]+", text):
        raise Broken(f"not a number: {text}")
    return eval(text)  # digits and operators alone


def amount(value, kind):
    """As value_size_text() and its like write it: in the largest unit that divides it."""
    if kind == "MODE":
        return f"{value:04o}" if value else "0"
    units = {"SIZE": SIZES, "TIME": TIMES}.get(kind, {"": 1})
    if value == 0:
        return "0"
    unit = [unit for unit, factor in units.items() if value % factor == 0][-1]
    return f"{value // units[unit]}{unit}"


def keys_of(text):
    """{section.key: (default, how its text begins)}"""
    constants = {name: value for name, value in
                 re.findall(r"#define ([A-Z_]+) +(\(.*?\)|\d+U?L?L?)(?: /\*.*)?\n", text)
                 if "sizeof" not in value}
    constants |= dict(re.findall(r"\b([A-Z_]+) = (\d+)\b", text))
    constants["UNIX_PATH_MAX"] = str(UNIX_PATH_MAX)
    constants |= {name: str(1 << 30) for name, value in re.findall(
        r"#define ([A-Z_]+) (GIB)\n", text)}
    keys = {}
    for row in table(text, "KEY_TABLE"):
        part = re.fullmatch(r'(\w+), (\w+), \w+, ([A-Z]+), "([^"]*)", ([^,]+), ([^,]+), '
                            r'(RELOAD|RESTART),.*', row, re.S)
        if not part:
            raise Broken(f"a row of KEY_TABLE can't be read: {row}")
        section, name, kind, default, least, most, when = part.groups()
        bounds = [amount(number(bound, constants), kind) for bound in (least, most)]
        keys[f"{section}.{name}"] = default, KINDS[kind].format(*bounds) + when.lower() + "."
    return keys


def info_words(text):
    literals = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(
        r'PRI\w+', "", text[text.index("INFO psad") - 20:].split(";")[0])))
    return re.findall(r"(\w+)=", literals)


def statistics(text, counters):
    names = re.findall(r'append_number\(\s*out, "(\w+)"', text)
    names += re.findall(r'"STAT (\w+) ', text)
    return names + table(counters, "COUNTER_TABLE") + table(counters, "GAUGE_TABLE")


def options(text):
    short = re.search(r'getopt_long\(argc, argv, "([^"]+)"', text)
    if not short:
        raise Broken("main.c does not call getopt_long()")
    return re.findall(r"\w", short[1]) + \
        ["-" + name for name in re.findall(r'\{"([\w-]+)", \w+_argument', text)]


def environment(root):
    return {name for path in (root / "src").rglob("*.c")
            for name in re.findall(r'getenv\("(\w+)"\)', path.read_text())}


# ---- the manual ----

def sections(page):
    """{heading: its lines}"""
    found, lines = {}, []
    for line in page.splitlines():
        if line.startswith((".Sh ", ".Ss ")):
            lines = found.setdefault(line[4:], [])
        lines.append(line)
    return found


def items(page, heading, macro):
    """What stands first, behind the macro, in each item of a section's list."""
    lines = sections(page).get(heading)
    if lines is None:
        raise Broken(f"there is no section {heading}")
    return [match[1] for line in lines if (match := re.match(rf"\.It {macro}(\S+)", line))]


def plain(lines):
    """The text without macros, as far as it is needed here."""
    return " ".join(re.sub(r"^\.(Li|Cm|No) ", "", line) for line in lines)


def documented_keys(page):
    """{section.key: (default, text)}"""
    keys = {}
    for heading, lines in sections(page).items():
        if not heading.startswith("["):
            continue
        starts = [i for i, line in enumerate(lines) if line.startswith(".It ")] + [len(lines)]
        for begin, end in zip(starts, starts[1:]):
            item = re.fullmatch(r"\.It Cm (\w+) Li =(?: (.*))?", lines[begin])
            if not item:
                raise Broken(f"psad.conf.5: {lines[begin]}: not a key with its default")
            keys[f"{heading.strip('[]')}.{item[1]}"] = item[2] or "", plain(lines[begin + 1:end])
    return keys


# ---- both ----

def compare(what, page, code, manual):
    for name in sorted(set(code) - set(manual)):
        yield f"{page}: the {what} {name} is missing"
    for name in sorted(set(manual) - set(code)):
        yield f"{page}: there is no {what} {name}"
    for name in sorted({name for name in manual if manual.count(name) > 1}):
        yield f"{page}: the {what} {name} is there twice"


def compare_keys(code, manual):
    yield from compare("key", "psad.conf.5", list(code), list(manual))
    for name in sorted(set(code) & set(manual)):
        default, begin = code[name]
        if manual[name][0] != default:
            yield f"psad.conf.5: {name}: the default is '{default}', not '{manual[name][0]}'"
        if not manual[name][1].startswith(begin):
            yield f"psad.conf.5: {name}: does not begin with '{begin}'"


def check(root):
    def source(name):
        return (root / "src" / name).read_text()
    pages = {name: (root / "packaging/man" / name).read_text() for name in PAGES}
    protocol, main_page = pages["psad-protocol.7"], pages["psad.8"]
    answer, stats = source("wire/answer.h"), source("ops/stats.c")
    starts = {word for word in re.findall(r'word_is\(keyword, "(\w+)"\)',
                                          source("wire/arguments.c"))} - {"LIMIT"}
    for what, code, heading, macro in [
            ("verb", words_of(source("wire/command.h"), "VERB_TABLE"), "COMMANDS", "Cm "),
            ("start", sorted(starts), "Starts", "Cm "),
            ("error code", words_of(answer, "ERROR_TABLE"), "Error codes", "Sy "),
            ("reason of a gap", words_of(answer, "GAP_TABLE"), "Reasons of gaps", "Sy "),
            ("reason of BYE", words_of(answer, "BYE_TABLE"), "Reasons of BYE", "Sy "),
            ("word of INFO", info_words(stats), "INFO", "Li "),
            ("statistic", statistics(stats, source("net/counters.h")), "STATISTICS", "Li ")]:
        yield from compare(what, "psad-protocol.7", code, items(protocol, heading, macro))
    described = items(main_page, "DESCRIPTION", "Fl ") + \
        items(main_page, "Tools for a directory", "Fl ")
    yield from compare("option", "psad.8", options(source("main.c")), described)
    yield from compare_keys(keys_of(source("ops/keys.h")), documented_keys(pages["psad.conf.5"]))
    for name in sorted(environment(root)):
        if not re.search(rf"\.It Ev .*\b{name}\b", main_page):
            yield f"psad.8: the environment's {name} is missing"
    statuses = {int(n) for n in re.findall(r"\bEXIT_\w+ = (\d)", source("main.c"))}
    yield from compare("exit status", "psad.8", [str(n) for n in statuses],
                       items(main_page, "EXIT STATUS", ""))


def lint(root):
    """What mandoc has against the pages' form."""
    for page in PAGES:
        done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", root / "packaging/man" / page],
                              capture_output=True, text=True, check=False)
        yield from (done.stdout + done.stderr).splitlines()


def main(root):
    try:
        faults = list(check(root))
    except (Broken, OSError) as broken:
        faults = [str(broken)]
    if shutil.which("mandoc"):
        faults += lint(root)
    else:
        print("mandoc is not here: nobody has looked at the pages' form")
    print("\n".join(faults) or "the manual says what the code does")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])))
