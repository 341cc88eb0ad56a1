# SPDX-License-Identifier: MIT
"""A short run of each chaos (chaos.py): whatever happens to the broker and its clients, in whatever
order, no promise is broken and everybody gets on.

PSAD_CHAOS_SECONDS=600 makes it longer; PSAD_CHAOS_SEED repeats a run as far as threads allow."""

import os
import random

import pytest

from chaos import SETTINGS, Chaos, why_not
from client import FLAVOUR, SMALL

SECONDS = float(os.environ.get("PSAD_CHAOS_SECONDS", 6 if SMALL or FLAVOUR else 10))
SEED = int(os.environ.get("PSAD_CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.mark.parametrize("name", SETTINGS)
def test_clients_get_what_they_were_promised_in_a_chaos(tmp_path, name):
    setting = SETTINGS[name]
    if reason := why_not(setting):
        pytest.skip(reason)
    Chaos(setting, tmp_path, SEED, SECONDS).run()
