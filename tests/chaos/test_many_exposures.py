"""A worker's memory while operators change their minds all day: rollout after rollout, exposure after exposure."""

import asyncio
from collections.abc import Callable

import pytest

from router.core.rollout import EXPOSURES
from tests.e2e.harness import Admin, Turnouts, config_for, rss_mib
from tests.e2e.load import Load
from tests.e2e.model_server import ModelServer

ROLLOUTS = 4
MOVES = EXPOSURES - 2
"""Of each rollout, whose start is an exposure as well: as many as it may have, but one."""
ROLLOUT = {
    "candidate": "v2",
    "policy": "canary",
    "steps": [{"weight": "30%", "mirror": "30%", "bake": "1h"}],
    "breaker": {"consecutive": 100_000, "window": 1_000, "ratio": "100%"},
}
MOST_MIB = 3.0
"""Most growth from the second rollout to the last. Before past exposures were folded: 4.5 MiB for each rollout."""
SETTLE_S = 2.5
"""After so long a past exposure changes no more: its last second, the deadline of a request, two turns of counters."""


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(240)
async def test_two_hundred_moves_leave_a_worker_as_large_as_fifty(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Four rollouts of 49 exposures each, under load with affinity keys: what the first one took is used again."""
    config = config_for(stable, candidate, rollout=ROLLOUT, timeouts={"total": "1s"})
    config |= {"pairs": {"keep": "1MiB"}}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    (worker,) = serve.workers()
    load = Load(serve.port("gateway"), headers_of=lambda index: {"x-user-id": f"user-{index % 1_000}"})
    sizes: list[float] = []
    async with load.running():
        for attempt in range(ROLLOUTS):
            if attempt:
                await admin.post("/rollout/abort", reason="another one")
                await admin.post("/rollout/retry", reason="another one")
            for move in range(MOVES):
                await admin.patch(weight=f"{20 + move % 20}%", reason="another mind")
                await load.until_answered(50)
            await asyncio.sleep(SETTLE_S)
            sizes.append(rss_mib(worker))
    figure(f"RSS after 1 to {ROLLOUTS} rollouts of {MOVES} moves: {', '.join(f'{size:.1f}' for size in sizes)} MiB; "
           f"{load.answered} answers")  # fmt: skip
    assert load.errors == []
    assert abs(sizes[-1] - sizes[1]) <= MOST_MIB
