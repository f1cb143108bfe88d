"""A shadow that hangs, vanishes or dies: what it may cost, and that every copy is accounted for (MI1-MI7)."""

import asyncio
from collections.abc import Callable

import pytest

from router.core.config import MIB
from tests.gateway.bench import Bench
from tests.gateway.clients import Client, request
from tests.gateway.processes import dial, worker
from tests.gateway.upstreams import Visit, ok

ANSWER = ok(b'{"outputs":[]}')
BODY_BYTES = 100 * 2**10
CAP_BYTES = 64 * MIB
"""The default of `mirror.bytes`."""


async def reading(visit: Visit) -> None:
    """Take each request with its body and give a short answer; faster than h11."""
    while head := await visit.read_head():
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await visit.reader.readexactly(length)
        await visit.send(ANSWER)


async def taking_nothing(visit: Visit) -> None:
    """Accept, and read nothing for as long as the test lasts."""
    await asyncio.sleep(3_600)
    await visit.gone()


async def ask_many(client: Client, wire: bytes, number: int) -> None:
    """Send requests one after another, each answered by ANSWER's body."""
    for _ in range(number):
        await client.send(wire)
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(14) == b'{"outputs":[]}'


# -- MI2: copies are bounded -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [4, pytest.param(1_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("hole", ["takes nothing", "swallows connects"])
async def test_mi2_a_black_hole_costs_no_more_than_the_configured_memory(
    bench: Bench, full_port: int, hole: str, rounds: int, figure: Callable[[str], None]
) -> None:
    """Bodies of 100 KiB at mirror 100 %: resident memory stops at the cap of copies; what is dropped is counted."""
    candidate = full_port if hole == "swallows connects" else (await bench.upstream(taking_nothing)).port
    stable = await bench.upstream(reading)
    async with worker(
        stable, candidate, in_the_end_free=False, mirror_bp=10_000, copies=10_000, copy_timeout_s=3_600
    ) as process:
        clients = [await dial(bench, process.port) for _ in range(4)]
        body = b"x" * BODY_BYTES

        async def each(number: int, method: str) -> None:
            wire = request(method, "/", body)
            await asyncio.gather(*[ask_many(client, wire, number) for client in clients])

        await each(100, "PUT")  # not copied
        before = process.resident_bytes()
        await each(250, "POST")
        grown = [process.resident_bytes() - before]
        while len(grown) < rounds:
            await each(250, "POST")
            grown.append(process.resident_bytes() - before)
        held = await process.held()
        figure(
            f"{hole}: {1_000 * len(grown)} requests, RSS + {grown[0] / MIB:.1f} MiB, then {grown[-1] / MIB:.1f} MiB; "
            f"{held['copies']} copies, {held['copies dropped: bytes']} dropped"
        )
        assert max(grown) <= CAP_BYTES
        assert max(grown) - grown[0] < 1 * MIB
        assert held["copy_bytes"] <= CAP_BYTES
        assert held["copy_bytes"] > CAP_BYTES - 2 * BODY_BYTES
        assert held["copies"] + held["copies dropped: bytes"] == 1_000 * len(grown)
