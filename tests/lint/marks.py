#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every source file names its licence, and no file holds a mark of something left undone.

    tests/lint/marks.py [ROOT]
"""

import re
import sys
from pathlib import Path

FOLDERS = ["src", "bench", "tests", "packaging", ".ci"]
SOURCES = {".c", ".h", ".py", ".sh", ".pl", ".js", ".go", ".java", ""}
LICENCE = "SPDX-License-Identifier: MIT"
LICENCE_LINES = 5  # it stands at the top
# Their formats have no comments.
BARE = {"packaging/debian/copyright", "packaging/debian/source/format"}
MARKS = re.compile("|".join([r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bX" r"XX\b", r"\bHA" r"CK\b"]))


def check(path):
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        return  # not a text, so not a source
    if not any(LICENCE in line for line in lines[:LICENCE_LINES]):
        yield f"1: has no '{LICENCE}'"
    for number, line in enumerate(lines, 1):
        if MARKS.search(line):
            yield f"{number}: {MARKS.search(line).group(0)}"


def main(root):
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*"))
             if path.is_file() and path.suffix in SOURCES and "corpus" not in path.parts
             and str(path.relative_to(root)) not in BARE]
    faults = [f"{path.relative_to(root)}:{fault}" for path in files for fault in check(path)]
    if not files:
        faults.append(f"{root} holds no source files")
    print("\n".join(faults) or f"{len(files)} files name their licence and hold no marks")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])))
