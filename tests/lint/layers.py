#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A file under src/ includes only what is at its own level or below, and each third-party header
has one home.

    tests/lint/layers.py [ROOT]
"""

import re
import sys
from pathlib import Path

# log and wire stand side by side: neither knows the other. "" is src/ itself: server, main.
LEVELS = {"base": 0, "log": 1, "wire": 1, "net": 2, "ops": 3, "": 4}

# No sockets and no event loop here, so that tests of these link without them.
CORE = ("base", "log", "wire")
NOT_IN_CORE = re.compile(r"event2/|event\.h$|sys/socket\.h|sys/un\.h|netinet/|arpa/|netdb\.h")

HOMES = {
    r"ck_pr\.h": ["base/atomic.h"],
    r"ck_epoch\.h": ["log/epoch.h", "log/epoch.c"],
    r"ck_ec\.h": ["log/wake.h", "log/wake.c"],
    r"ck_ring\.h": ["net/handoff.h", "net/handoff.c"],
    r"ck_.*\.h": [],  # nothing else of it is used
    r"ini\.h": ["ops/config.c"],
}
# These may choose their home, below the folder that is named.
SINGLE_HOMES = {r"systemd/.*\.h": "ops/", r"xxhash\.h|xxh3\.h": ""}


def includes(path):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def check_own(source, header):
    """`source` is relative to src/."""
    folder = "" if source.parent == Path(".") else source.parts[0]
    target = "" if "/" not in header else header.split("/")[0]
    if folder not in LEVELS:
        return f"the folder {folder} has no level in tests/lint/layers.py"
    if target not in LEVELS:
        return f'"{header}": there is no such level'
    if target == folder or LEVELS[target] < LEVELS[folder]:
        return None
    return f'"{header}" is not below {folder}'


def check_foreign(source, header):
    if source.parts[0] in CORE and NOT_IN_CORE.match(header):
        return f"<{header}>: base, log and wire know neither sockets nor libevent"
    for pattern, homes in HOMES.items():
        if re.fullmatch(pattern, header):
            return None if str(source) in homes else \
                f"<{header}> has its home in {' and '.join(homes) or 'no file'}"
    return None


def check_single_homes(users):
    for (pattern, folder), sources in users.items():
        strays = [source for source in sources if not source.startswith(folder)]
        if strays:
            yield f"src/{strays[0]}: <{pattern}> has its home below src/{folder}"
        if len(sources) > 1:
            yield f"<{pattern}> has more than one home: {', '.join(sorted(sources))}"


def main(root):
    faults = []
    users = {}
    sources = sorted(root.glob("src/**/*.[ch]"))
    for path in sources:
        source = path.relative_to(root / "src")
        for number, is_own, header in includes(path):
            fault = (check_own if is_own else check_foreign)(source, header)
            if fault:
                faults.append(f"src/{source}:{number}: {fault}")
            for pattern, folder in SINGLE_HOMES.items():
                if re.fullmatch(pattern, header):
                    users.setdefault((pattern, folder), set()).add(str(source))
    faults += check_single_homes(users)
    if not sources:
        faults.append(f"{root}/src holds no source files")
    print("\n".join(faults) or f"{len(sources)} files keep to the layers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])))
