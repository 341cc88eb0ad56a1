#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each tag [O<n>] of the memory orders is declared with both its ends, has a row in the table at
the top of src/log/log.c and stands at an access too.

A declaration is a comment that names two ends or more:

    /* [O1] append: release; cursor_next: acquire */

A row of the table begins with " * [O1] ".

    tests/lint/memory_order.py [ROOT]
"""

import re
import sys
from pathlib import Path

TABLE = "src/log/log.c"
TAG = re.compile(r"\[O(\d+)\]")
ORDER = r"release|acquire|acq_rel|seq_cst|cas|fence|the same"
END = re.compile(rf"[^:;.]*\b[\w()]+\b[^:;.]*:[^:;]*?\b({ORDER})s?\b")


def split_table(text):
    """The comment at the top of log.c that is the table, and the rest."""
    match = re.search(r"/\*(?:(?!\*/).)*?^ \* \[O\d+\] .*?\*/", text, re.S | re.M)
    if not match:
        return "", text
    blank = re.sub(r"[^\n]", " ", match.group(0))  # lines keep their numbers
    return match.group(0), text[:match.start()] + blank + text[match.end():]


def comments(text):
    for match in re.finditer(r"/\*.*?\*/", text, re.S):
        yield re.sub(r"\s*\n\s*\*?\s*", " ", match.group(0)[2:-2])


def ends(comment, tag):
    """The ends that a comment names behind a tag, up to the next tag."""
    for part in re.split(rf"(?=\[O{tag}\])", comment)[1:]:
        words = TAG.split(part.split("]", 1)[1])[0]
        yield [end for end in words.split(";") if END.match(end)]


def main(root):
    table = ""
    rest = {}
    for path in sorted(root.glob("src/**/*.[ch]")):
        name = str(path.relative_to(root))
        rest[name] = path.read_text(errors="replace")
        if name == TABLE:
            table, rest[name] = split_table(rest[name])

    rows = re.findall(r"^ \* \[O(\d+)\] ", table, re.M)
    places = {}
    for name, text in rest.items():
        for number, line in enumerate(text.splitlines(), 1):
            for tag in TAG.findall(line):
                places.setdefault(tag, []).append(f"{name}:{number}")
    declared = {tag for text in rest.values() for comment in comments(text)
                for tag in TAG.findall(comment)
                if any(len(named) >= 2 for named in ends(comment, tag))}

    faults = []
    for tag in sorted(set(places) | set(rows), key=int):
        where = places.get(tag, [])
        first = where[0] if where else TABLE
        if rows.count(tag) != 1:
            faults.append(f"{first}: [O{tag}] has {rows.count(tag)} rows in the table of {TABLE}")
        if tag not in declared:
            faults.append(f"{first}: [O{tag}] is nowhere declared with both its ends")
        if len(where) < 2:
            faults.append(f"{first}: [O{tag}] stands at {len(where)} place outside the table; "
                          "its declaration and each access carry it")
    print("\n".join(faults) or f"{len(rows)} tags have a declaration, both ends, a row")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])))
