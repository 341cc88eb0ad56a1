#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A model names the code that it stands for, the code names the model, and neither has changed
without the other having been looked at.

The first comment of each model has a table, a row for each function:

     * Stands for:
     *     src/log/wake.c park 1f2e3d4c

The last word is a hash of the function without comments and white space. Where the function has
changed since, somebody has to look at the model again, and then writes the hashes down anew with
--write. Each file so named has a line "Model: tests/models/wake.pml" in a comment, and each tag
[O<n>] that a model names has a row in the table of src/log/log.c.

    tests/lint/models.py [--write] [ROOT]
"""

import hashlib
import re
import sys
from pathlib import Path

ORDERS = "src/log/log.c"
ROW = re.compile(r"^( \* +)(src/\S+\.[ch]) (\w+) ([0-9a-f]{8})$", re.M)
NAMED = re.compile(r"^/\* Model: (\S+) \*/$", re.M)


def hash_of(text, function):
    """Of a function's definition, which ends with a } in the first column; None: there is none."""
    match = re.search(rf"^(?!\s|#|/|\}})[^\n;]*\b{function}\([^;{{]*?\)\s*\n\{{\n"
                      r".*?^\}", text, re.M | re.S)
    if match is None:
        return None
    code = re.sub(r"/\*.*?\*/|\s", "", match.group(0), flags=re.S)
    return hashlib.sha256(code.encode()).hexdigest()[:8]


def check_model(root, name, model, write):
    """The faults of one model; the files that it names come with them."""
    faults, files = [], set()
    table = re.search(r"/\*.*?\*/\s*/\*.*?\*/", model, re.S)  # the licence, then the header
    rows = list(ROW.finditer(table.group(0))) if table else []
    if not rows or " * Stands for:\n" not in table.group(0):
        faults.append(f"{name}: names no code that it stands for")
    fresh = model
    for row in rows:
        indent, source, function, recorded = row.groups()
        files.add(source)
        path = root / source
        now = hash_of(path.read_text(), function) if path.exists() else None
        if now is None:
            faults.append(f"{name}: {source} has no function {function}")
        elif now != recorded and write:
            fresh = fresh.replace(row.group(0), f"{indent}{source} {function} {now}")
        elif now != recorded:
            faults.append(f"{name}: {function} of {source} has changed: look at the model again, "
                          "then tests/lint/models.py --write")
    orders = (root / ORDERS).read_text() if (root / ORDERS).exists() else ""
    for tag in sorted(set(re.findall(r"\[O\d+\]", model))):
        if f" * {tag} " not in orders:
            faults.append(f"{name}: {tag} has no row in the table of {ORDERS}")
    if fresh != model:
        (root / name).write_text(fresh)
    return faults, files


def main(root, write):
    paths = sorted([*root.glob("tests/models/*.pml"), *root.glob("tests/models/genmc/*.c")])
    named = {str(path.relative_to(root)): set(NAMED.findall(path.read_text()))
             for path in sorted(root.glob("src/**/*.[ch]"))}
    faults, stands_for = [], {}
    for path in paths:
        name = str(path.relative_to(root))
        found, stands_for[name] = check_model(root, name, path.read_text(), write)
        faults += found
        faults += [f"{source}: has no line 'Model: {name}'" for source in sorted(stands_for[name])
                   if name not in named.get(source, set())]
    for source, models in named.items():
        faults += [f"{source}: names {name}, which does not stand for it" for name in sorted(models)
                   if source not in stands_for.get(name, set())]
    if not paths:
        faults.append(f"{root} holds no models")
    print("\n".join(faults) or f"{len(paths)} models and their code name each other")
    return 1 if faults else 0


if __name__ == "__main__":
    WORDS = [word for word in sys.argv[1:] if word != "--write"]
    sys.exit(main(Path(WORDS[0]) if WORDS else Path(__file__).parents[2], "--write" in sys.argv))
