# SPDX-License-Identifier: MIT
"""Fixtures of the system tests. Each test has its own broker, port 0 and directory."""

import resource

import pytest

from broker import Broker
from durable import Durable
from hang import Hang, build_library


def pytest_configure(config):
    """The tests' own connections need descriptors; the daemon inherits the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def broker(tmp_path):
    """A factory: broker("log.segment_size=64K", …) starts a daemon; all are stopped and checked at the end."""
    started = []

    def start(*options, **keywords):
        started.append(Broker(tmp_path, *options, **keywords))
        return started[-1]

    yield start
    failures = []
    for one in started:
        if not one.ended:
            try:
                one.stop()
            except AssertionError as failure:
                failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def durable(tmp_path):
    """A factory: durable("log.fsync=always", …) is a log directory in which daemons can be run."""
    made = []

    def make(*options, **keywords):
        made.append(Durable(keywords.pop("home", tmp_path), *options, **keywords))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture(scope="module")
def hang_library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("hang"))


@pytest.fixture
def hang(hang_library, tmp_path):
    return Hang(hang_library, tmp_path)
