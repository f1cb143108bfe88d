"""CL8: control is killed at fifty points of a recorded timeline, and decides what it would have decided anyway."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from router.core.decisions import DecisionRecord, Judgement
from router.core.rollout import GateSpec, Spec, Step
from router.store.embedded import EmbeddedValkey
from tests.chaos.histories import faults
from tests.chaos.timeline import BEGIN_S, TURN_S, Run

SECONDS = 80
RAMP_S = 58
"""Within this the kills lie; the last decision comes just after."""

KILLS = 50
SPEC = Spec(
    "v2", "canary",
    steps=(Step(weight_bp=1_000, bake_s=2.0, min_requests=600), Step(weight_bp=2_500, bake_s=2.0, min_requests=300)),
    gates=(GateSpec("errors", "error_rate", max_increase=0.05),),
)  # fmt: skip
"""Steps are left by their counts, long after their bakes: an interrupted bake may only be longer."""


def essence(ledger: list[DecisionRecord]) -> list[tuple[str, str, float, int, int, Judgement]]:
    """Return all of the ledger but who wrote it and what its clocks said."""
    return [
        (
            one.kind, one.reason, one.at_s, one.weight_bp_before, one.weight_bp_after,
            replace(one.judgement, exposed_s=None, running_s=None),
        )
        for one in ledger
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("late_failures", "kinds"),
    [(0.16, ["start", "advance", "roll_back"]), (0.02, ["start", "advance", "promote"])],
    ids=["a bad candidate", "a good candidate"],
)
async def test_cl8_killed_at_fifty_points_control_decides_the_same_to_the_last_digit(
    store_server: EmbeddedValkey, late_failures: float, kinds: list[str], figure: Callable[[str], None]
) -> None:
    """The same decisions in the same second on bit-equal evidence as without any kill; no weight jumps."""

    def rates(second: int) -> tuple[float, float]:
        return 0.02, (0.02 if second < 50 else late_failures)

    dice = random.Random(KILLS)
    points = {second: dice.uniform(0.0, 1.5 * TURN_S) for second in dice.sample(range(RAMP_S), KILLS)}
    calm = await Run(store_server.url, SPEC, rates).play(SECONDS, {})
    run = Run(store_server.url, SPEC, rates)
    stormy = await run.play(SECONDS, points)
    assert [one.kind for one in calm] == kinds
    assert essence(stormy) == essence(calm)
    assert faults(stormy) == []
    last = stormy[-1]
    assert run.killed == KILLS
    assert last.at_s - BEGIN_S >= RAMP_S, "kills after the last decision prove nothing"
    figure(
        f"{run.killed} kills, {len(run.epochs)} epochs: {last.kind} in second {last.at_s - BEGIN_S:.0f}, "
        f"log e {last.judgement.log_e!r} in both"
    )
