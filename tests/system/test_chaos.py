# SPDX-License-Identifier: MIT
"""A short run of each chaos (chaos.py): whatever happens to the broker and its clients, in whatever
order, no promise is broken and everybody gets on.

PSAD_CHAOS_SECONDS=600 makes it longer; PSAD_CHAOS_SEED repeats a run as far as threads allow."""

import os
import random

import pytest

from chaos import SETTINGS, Chaos, why_not
from client import FLAVOUR, SMALL

SECONDS = os.environ.get("PSAD_CHAOS_SECONDS")
SEED = int(os.environ.get("PSAD_CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.mark.parametrize("name", SETTINGS)
def test_clients_get_what_they_were_promised_in_a_chaos(tmp_path, name):
    setting = SETTINGS[name]
    if reason := why_not(setting):
        pytest.skip(reason)
    # There are six in files, and together they take long enough.
    seconds = 5 if setting.is_durable and not setting.has_network or SMALL or FLAVOUR else 10
    Chaos(setting, tmp_path, SEED, float(SECONDS or seconds)).run()
