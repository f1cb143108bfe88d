"""The real model servers that Turnout is tested with, and where they are installed."""

import os
from pathlib import Path

import pytest

from loadtests.on_demand import OnDemand

SERVERS = OnDemand(Path(__file__).with_name("locks"), "servers")

ALWAYS_IN_CI = ("mlserver", "litserve")
"""Those that `.ci/run` installs. The others take 1.5 GB and two minutes more."""


def venv_of(name: str) -> Path:
    """Return the venv of a server; skip the test where it is missing, and fail it in CI if it must be there."""
    if not SERVERS.is_here(name):
        missed = pytest.fail if os.environ.get("CI") and name in ALWAYS_IN_CI else pytest.skip
        missed(f"the optional server {name} is not installed (./run servers {name})")
    return SERVERS.venv(name)
