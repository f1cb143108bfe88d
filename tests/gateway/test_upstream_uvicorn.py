"""DP6: a variant under a plain uvicorn, which closes connections that were unused for 5 s."""

import asyncio
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.core.traffic import Backend, Variant
from tests.e2e.wire import Line, request
from tests.gateway.bench import Bench, Gateway, route_of
from tests.store.wires import Wire

ROOT = Path(__file__).parents[2]
SPACE_S = (4.8, 5.2)
FAR_S = 0.1


@pytest.fixture
def port() -> Iterator[int]:
    """Run uvicorn with its defaults in a process of its own, and return its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2_048) as listener:
        command = ["-m", "uvicorn", "--fd", str(listener.fileno()), "--log-level", "warning"]
        process = subprocess.Popen(
            [sys.executable, *command, "tests.gateway.uvicorn_app:app"], cwd=ROOT, pass_fds=[listener.fileno()]
        )
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("clients", "turns"), [(100, 3), pytest.param(400, 5, marks=pytest.mark.soak)])
async def test_dp6_requests_that_come_when_uvicorn_closes_never_meet_it(
    bench: Bench, port: int, clients: int, turns: int, figure: Callable[[str], None]
) -> None:
    """POSTs 4.8 to 5.2 s apart: our unused connections are gone before that, so none of them fails.

    The variant is FAR_S away, so that a request and the end of its connection would have time to cross.
    """
    async with Wire(port, delay_s=FAR_S).running() as wire:
        variant = Variant("v1", (Backend("127.0.0.1", wire.port),))
        await spaced(await bench.gateway(route_of(variant)), clients, turns, figure)


async def spaced(gateway: Gateway, clients: int, turns: int, figure: Callable[[str], None]) -> None:
    """Let clients ask at these times; each must get 200."""
    rolls = random.Random(6)
    statuses: Counter[int] = Counter()

    async def user() -> None:
        line = await Line.open(gateway.port)
        for turn in range(turns):
            await asyncio.sleep(rolls.uniform(*SPACE_S) if turn else 0)  # the space is what is tested
            statuses[(await line.ask(request("POST", "/", b"x" * 100))).status] += 1
        line.close()

    await asyncio.gather(*[user() for _ in range(clients)])
    figure(f"{clients * turns:,} POSTs of {clients} clients, {SPACE_S[0]} to {SPACE_S[1]} s apart: {dict(statuses)}")
    assert statuses == {200: clients * turns}
