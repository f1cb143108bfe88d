"""Each measured gateway does what it is measured for: one that does not mirror would look cheap."""

import asyncio
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.compare.__main__ import PEERS
from loadtests.compare.figures import CANARY, MIRROR
from loadtests.compare.peers import WHEELS
from loadtests.compare.systems.system import Place, System, live
from loadtests.compare.systems.turnout import Turnout
from loadtests.processes import PATH, free_ports
from tests.e2e.load import ask_all
from tests.e2e.wire import request
from tests.loadtests.serving import Ending, serving

REQUESTS = 400
SYSTEMS: list[Turnout | System] = [Turnout(), *PEERS]
SHARES = {CANARY: (16, 64), MIRROR: (REQUESTS, REQUESTS + 1)}
"""Requests of 400 that reach the candidate: 40 of a canary, four deviations to each side for those that throw dice; all
of a mirror, and perhaps a late copy of the request that has asked whether the gateway is up."""


class Stable(Ending):
    """Counts."""

    requests = 0

    def on_message_complete(self) -> None:
        """Answer."""
        Stable.requests += 1
        super().on_message_complete()


class Candidate(Ending):
    """Counts, too."""

    requests = 0

    def on_message_complete(self) -> None:
        """Answer."""
        Candidate.requests += 1
        super().on_message_complete()


def is_here(system: Turnout | System) -> bool:
    """Whether it can be run without installing anything."""
    return {"nginx": shutil.which("nginx"), "haproxy": shutil.which("haproxy")}.get(system.name, True) is not None and (
        system.name not in ("envoy", "traefik") or WHEELS.is_here(system.name)
    )


CASES = [(system, mode) for system in SYSTEMS for mode in SHARES if mode in system.modes]


@pytest.mark.slow
@pytest.mark.parametrize(("system", "mode"), CASES, ids=[f"{system.name}-{mode}" for system, mode in CASES])
def test_the_candidate_gets_what_the_mode_says(system: Turnout | System, mode: str, tmp_path: Path) -> None:
    """Canary: a tenth; mirror: everything, and stable everything too. Each client gets its answer."""
    if not is_here(system):
        pytest.skip(f"{system.name} is not installed")
    with ExitStack() as stack:
        stable, candidate = stack.enter_context(serving(Stable)), stack.enter_context(serving(Candidate))
        place = Place(tmp_path, free_ports(1)[0], stable, candidate, mode)
        one = stack.enter_context(system.live(place) if isinstance(system, Turnout) else live(system, place))
        Stable.requests = Candidate.requests = 0
        answers = asyncio.run(ask_all(one.port, [request("POST", PATH, b'{"inputs":[]}')] * REQUESTS))
        settled = threading.Event()
        for _ in range(100):  # a copy may come after the answer
            if Candidate.requests >= SHARES[mode][0] and Stable.requests >= REQUESTS * (mode != CANARY):
                break
            settled.wait(0.02)
        assert [answer.status for answer in answers] == [200] * REQUESTS
        assert SHARES[mode][0] <= Candidate.requests <= SHARES[mode][1]
        assert Stable.requests == (REQUESTS - Candidate.requests if mode == CANARY else REQUESTS)
