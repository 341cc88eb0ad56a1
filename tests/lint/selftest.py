#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Plants one fault at a time into a small tree and sees to it that the lint scripts name it."""

import subprocess
import sys
import tempfile
from pathlib import Path

SPDX = "/* SPDX-License-Identifier: MIT */\n"
TABLE = "/*\n * [O1] x.flag: set (release), read (acquire).\n */\n"
DECLARATION = "\t/* [O1] x_set: release; x_get: acquire */\n\tint flag;\n"
ACCESS = "\tstore_release(&x->flag, 1); /* [O1] */\n"
MODELLED = (SPDX + "/* Model: tests/models/x.pml */\n"
            "int x_set(int x)\n{\n\treturn x; /* why */\n}\n")
MODEL = SPDX + "/*\n * Stands for:\n *     src/log/x.c x_set 4bfaa127\n */\n/* [O1] */\n"
TABLE_OF_FAULTS = ("# SPDX-License-Identifier: MIT\n"
                   'FAULTS = [("x is set twice", "src/log/x.c", "return x;", "return x + x;")]\n')

CLEAN = {
    "src/base/atomic.h": SPDX + "#include <ck_pr.h>\n",
    "src/log/log.c": SPDX + TABLE + '#include "log/log.h"\n' + ACCESS,
    "src/log/log.h": SPDX + '#include "base/atomic.h"\n' + DECLARATION,
    "src/wire/topic.c": SPDX + '#include "wire/topic.h"\n#include <xxhash.h>\n',
    "src/net/worker.c": SPDX + '#include "log/log.h"\n#include <event2/event.h>\n',
    "src/ops/config.c": SPDX + '#include "net/worker.h"\n#include <ini.h>\n',
    "src/ops/service.c": SPDX + "#include <systemd/sd-daemon.h>\n",
    "src/main.c": SPDX + '#include "server.h"\n#include "ops/config.h"\n',
    "src/log/x.c": MODELLED,
    "tests/models/x.pml": MODEL,
    "tests/x/planted/run": TABLE_OF_FAULTS,
}

# script, file, what is written there (added, where it begins with "+"), what has to be said
PLANTS = [
    ("layers", "src/base/atomic.h", '+#include "log/log.h"\n', "is not below base"),
    ("layers", "src/log/log.h", '+#include "wire/topic.h"\n', "is not below log"),
    ("layers", "src/wire/topic.c", '+#include "log/log.h"\n', "is not below wire"),
    ("layers", "src/net/worker.c", '+#include "ops/config.h"\n', "is not below net"),
    ("layers", "src/ops/config.c", '+#include "server.h"\n', "is not below ops"),
    ("layers", "src/extra/x.c", SPDX + '#include "base/atomic.h"\n', "extra has no level"),
    ("layers", "src/log/log.h", "+#include <event2/event.h>\n", "neither sockets nor libevent"),
    ("layers", "src/wire/topic.c", "+# include <sys/socket.h>\n", "neither sockets nor libevent"),
    ("layers", "src/base/atomic.h", "+#include <netinet/in.h>\n", "neither sockets nor libevent"),
    ("layers", "src/log/log.c", "+#include <ck_pr.h>\n", "has its home in base/atomic.h"),
    ("layers", "src/net/worker.c", "+#include <ck_epoch.h>\n", "has its home in log/epoch.h"),
    ("layers", "src/net/worker.c", "+#include <ck_ec.h>\n", "has its home in log/wake.h"),
    ("layers", "src/net/worker.c", "+#include <ck_ring.h>\n", "has its home in net/handoff.h"),
    ("layers", "src/net/worker.c", "+#include <ck_ht.h>\n", "has its home in no file"),
    ("layers", "src/main.c", "+#include <ini.h>\n", "has its home in ops/config.c"),
    ("layers", "src/main.c", "+#include <systemd/sd-daemon.h>\n", "below src/ops/"),
    ("layers", "src/ops/other.c", SPDX + "#include <systemd/sd-daemon.h>\n", "more than one home"),
    ("layers", "src/log/log.c", "+#include <xxhash.h>\n", "more than one home"),
    ("memory_order", "src/net/worker.c", "+/* [O2] */\n/* [O2] */\n", "[O2] has 0 rows"),
    ("memory_order", "src/log/log.c", SPDX + TABLE.replace("O1", "O12") + ACCESS,
     "[O12] is nowhere declared"),
    ("memory_order", "src/log/log.h", SPDX + DECLARATION.replace("; x_get: acquire", ""),
     "[O1] is nowhere declared with both its ends"),
    ("memory_order", "src/log/log.h", SPDX + DECLARATION.replace("release;", ";"),
     "[O1] is nowhere declared with both its ends"),
    ("memory_order", "src/log/log.c", SPDX + TABLE, "[O1] stands at 1 place"),
    ("marks", "src/main.c", '#include "server.h"\n', "main.c:1: has no 'SPDX"),
    ("marks", "src/main.c", "+/* TO" "DO: later */\n", "main.c:4: TO" "DO"),
    ("marks", "src/main.c", "+/* FIX" "ME */\n", "main.c:4: FIX" "ME"),
    ("models", "src/log/x.c", MODELLED.replace("n x", "n -x"), "x_set of src/log/x.c has"),
    ("models", "src/log/x.c", MODELLED.replace("x_set", "x_get"), "has no function x_set"),
    ("models", "src/log/x.c", MODELLED.replace("Model:", "A model:"), "has no line 'Model:"),
    ("models", "src/main.c", "+/* Model: tests/models/x.pml */\n", "which does not stand for it"),
    ("models", "src/main.c", "+/* Model: tests/models/gone.pml */\n", "which does not stand for it"),
    ("models", "tests/models/x.pml", "+/* [O2] */\n", "[O2] has no row"),
    ("models", "tests/models/x.pml", SPDX + "/* of nothing */\n", "names no code"),
    ("suppressions", "src/main.c", '+__attribute__((no_sanitize("thread")))\n', "main.c:4: no_san"),
    ("suppressions", "src/main.c", "+/* NOLINTNEXTLINE */\n", "main.c:4: NOLINT"),
    ("suppressions", "src/tsan.supp", "race:log_append\n", "a file of suppressions"),
    ("suppressions", "Makefile", "TSAN_OPTIONS = suppressions=x\n", "Makefile:1: suppressions="),
    ("suppressions", "tests/run", "# detect_leaks=0\n", "tests/run:1: detect_leaks=0"),
    ("planted_edits", "src/log/x.c", MODELLED.replace("return x", "return -x"),
     "planted/run: x is set twice: stands 0 times in src/log/x.c"),
    ("planted_edits", "src/log/x.c", MODELLED.replace("return x;", "return x; return x;"),
     "stands 2 times in src/log/x.c"),
    ("planted_edits", "tests/x/planted/run", "FAULTS = []\n", "there is nothing to plant"),
    ("marks", "tests/run", "no licence\n", "tests/run:1: has no 'SPDX"),
]


def run(script, plant=None, text=""):
    """Runs a lint script over the clean tree, with one file changed. Returns status and output."""
    with tempfile.TemporaryDirectory() as folder:
        tree = dict(CLEAN)
        if plant:
            tree[plant] = tree[plant] + text[1:] if text.startswith("+") else text
        for name, content in tree.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        done = subprocess.run([sys.executable, Path(__file__).with_name(script + ".py"), folder],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def main():
    failures = []
    for script in ("layers", "memory_order", "marks", "models", "planted_edits", "suppressions"):
        status, output = run(script)
        if status != 0:
            failures.append(f"{script}: the clean tree is refused: {output}")
    for script, plant, text, said in PLANTS:
        status, output = run(script, plant, text)
        if status != 1 or said not in output:
            failures.append(f"{script}: not caught: {plant}: {text!r}: {output}")
    status, output = run("models", "src/log/x.c", MODELLED.replace("why", "as it is"))
    if status != 0:
        failures.append(f"models: a comment is taken for code: {output}")
    print("\n".join(failures) or f"{len(PLANTS)} planted faults caught")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
