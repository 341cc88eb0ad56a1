#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Nothing keeps a sanitizer, valgrind or a tool that looks at the sources from saying what it sees,
but the table of tests/lint/analyze and .clang-tidy, where each line has its reason.

    tests/lint/suppressions.py [ROOT]
"""

import re
import sys
from pathlib import Path

PLACES = ["src", "tests", "bench", "packaging", ".ci", "Makefile"]
# With their reasons: the table, what proves it, and these words themselves.
EXCEPT = {"tests/lint/analyze", "tests/lint/suppressions.py", "tests/lint/selftest.py"}
WORDS = re.compile("|".join([
    r"no_sanitize", r"disable_sanitizer_instrumentation", r"suppressions\s*=", r"--suppress",
    r"cppcheck-suppress", r"\bNOLINT", r"-Wno-analyzer", r"__lsan_(ignore|disable)",
    r"__(asan|lsan|tsan|ubsan)_default_(options|suppressions)", r"\bAnnotate\w*Ignore",
    r"GCC diagnostic ignored", r"VALGRIND_(MAKE_MEM_DEFINED|DISABLE_ERROR_REPORTING)",
    r"detect_leaks=0"]))
# A fault is planted for ThreadSanitizer or for the use of freed memory; leaks of killed runs are none.
# And afl-fuzz demands it; libFuzzer and the replay of all that was found look for leaks.
LEAKS_OF = {"tests/race/planted/run", "tests/fuzz/run"}


def check(root, path):
    name = str(path.relative_to(root))
    if path.suffix == ".supp":
        yield f"{name}: a file of suppressions"
    if name in EXCEPT:
        return
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        return  # not a text
    for number, line in enumerate(lines, 1):
        match = WORDS.search(line)
        if match and not (match.group(0) == "detect_leaks=0" and name in LEAKS_OF):
            yield f"{name}:{number}: {match.group(0)}"


def main(root):
    files = []
    for place in PLACES:
        path = root / place
        files += [path] if path.is_file() else [
            one for one in sorted(path.rglob("*")) if one.is_file() and
            not {"corpus", "__pycache__"} & set(one.parts)]
    faults = [fault for path in files for fault in check(root, path)]
    if not files:
        faults.append(f"{root} holds no files")
    print("\n".join(faults) or f"{len(files)} files suppress nothing")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])))
