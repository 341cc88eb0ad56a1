#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every planted fault can still be planted: the text that it replaces stands in its file, once.

The tables take an hour to run, so that nobody runs them with each change; but that an edit applies can
be asked in no time. A row of a table is an object with `edits`, or with `path`, `before` and `after`, or a
tuple in which a file's name comes before the two texts.

    tests/lint/planted_edits.py [ROOT]
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

sys.dont_write_bytecode = True
TABLES = ("FAULTS", "RUN")


def is_edit(part):
    return isinstance(part, tuple) and len(part) == 3


def edits_of(row):
    """Its name, and its edits: file, before, after."""
    if hasattr(row, "edits"):
        return row.name, row.edits
    if hasattr(row, "path"):
        return row.name, [(row.path, row.before, row.after)]
    for i, part in enumerate(row):
        if is_edit(part):
            return row[0], [edit for edit in row[i:] if is_edit(edit)]
        if isinstance(part, str) and part.startswith(("src/", "tests/")):
            return row[0], [tuple(row[i:i + 3])]
    raise ValueError(f"a row of no known form: {row}")


def rows_of(path):
    loader = importlib.machinery.SourceFileLoader("table", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("table", loader))
    loader.exec_module(module)
    return [row for name in TABLES for row in getattr(module, name, [])]


def check_row(root, row):
    """The edits of it that do not apply, one after the other."""
    name, edits = edits_of(row)
    texts = {}
    for file, before, after in edits:
        path = root / file
        text = texts.get(file) or (path.read_text() if path.exists() else "")
        if text.count(before) != 1:
            yield f"{name}: stands {text.count(before)} times in {file}: {before!r}"
        texts[file] = text.replace(before, after)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    count, faults = 0, []
    for path in sorted(root.glob("tests/*/planted*/run")):
        rows = rows_of(path)
        count += len(rows)
        if not rows:
            faults.append(f"{path.relative_to(root)}: there is nothing to plant")
        for row in rows:
            faults += [f"{path.relative_to(root)}: {fault}" for fault in check_row(root, row)]
    if count == 0:
        faults.append("there are no tables")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


sys.exit(main())
