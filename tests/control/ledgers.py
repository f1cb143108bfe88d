"""Rollouts lived through with made-up traffic, and their ledgers."""

import random
from dataclasses import replace

from router.core.decisions import DecisionRecord
from router.core.observations import CUTS, LATENCY, LEVEL, CounterKey
from router.core.ports import RecordBatch
from router.core.rollout import GateSpec, NoDataSpec, RolloutState, Spec, Step
from router.plugins import load_policies
from router.store.basis_codec import decode_basis
from router.store.codec import encode_pairs
from tests.control.plant import Plant, order

POLICIES = load_policies()
STEPS = (
    Step(mirror_bp=10_000, bake_s=10.0, min_pairs=100),
    Step(weight_bp=1_000, mirror_bp=1_000, bake_s=60.0, min_requests=200),
    Step(weight_bp=5_000, mirror_bp=1_000, bake_s=60.0, min_requests=200),
)
GATES = (
    GateSpec("errors", "error_rate", max_increase=0.02),
    GateSpec("flips", "disagreement", maximum=0.05),
    GateSpec("speed", "latency", max_increase=0.5, dry_run=True),
)
PRECISION = GateSpec("precision", "precision", max_increase=0.05, label="8", dry_run=True)
SPEC = Spec("v2", "canary", steps=STEPS, gates=GATES, no_data=NoDataSpec(after_s=600.0), max_duration_s=3_600.0)


async def ledger(plant: Plant) -> list[DecisionRecord]:
    """Return all decisions, oldest first, each with what it followed from as the store holds it."""
    bases = {revision: decode_basis(raw) for revision, raw in (await plant.store.bases("digits", 1_000)).items()}
    records = await plant.store.decisions("digits", 1_000)
    return [replace(record, basis=bases.get(record.revision)) for record in reversed(records)]


class Traffic:
    """Counters as a gateway writes them, of requests whose ends are drawn."""

    def __init__(self, seed: int, candidate_fails: float, differs: float) -> None:
        self._random = random.Random(seed)
        self._fails = {"stable": 0.005, "candidate": candidate_fails}
        self._differs = differs
        self._counters: dict[CounterKey, int] = {}
        self._sequence = 0

    def _count(self, exposure: int, metric: str, variant: str, cell: str, number: int) -> None:
        key = CounterKey(exposure, metric, "", variant, cell)
        self._counters[key] = self._counters.get(key, 0) + number

    async def arrive(self, plant: Plant, state: RolloutState, requests: int) -> None:
        """Let so many requests come and end, by the present shares."""
        exposure = state.exposure
        candidate = requests * exposure.weight_bp // 10_000
        for role, number in (("stable", requests - candidate), ("candidate", candidate)):
            failed = sum(self._random.random() < self._fails[role] for _ in range(number))
            for cut in CUTS:
                self._count(exposure.id, "started" + cut, role, "all", number)
                self._count(exposure.id, "outcome" + cut, role, "ok", number - failed)
                self._count(exposure.id, "outcome" + cut, role, "http_error", failed)
                if exposure.thresholds:
                    self._count(exposure.id, LEVEL + cut, role, str(self._random.randrange(3)), number)
            for _ in range(3):
                self._count(exposure.id, LATENCY, role, str(200 + self._random.randrange(60)), number // 3)
        pairs = requests * exposure.mirror_bp // 10_000
        differ = sum(self._random.random() < self._differs for _ in range(pairs))
        for metric, cell, number in (
            ("started", "all", pairs), ("pair", "both", pairs),
            ("agreement", "same", pairs - differ), ("agreement", "different", differ),
            ("pair_failure", "fine/fine", pairs), ("label", "8:111", pairs - differ), ("label", "8:110", differ),
        ):  # fmt: skip
            for cut in CUTS:
                self._count(exposure.id, metric + cut, "pair", cell, number)
        self._sequence += 1
        batch = RecordBatch("digits", state.id, "g1", self._sequence, 0, encode_pairs([]), dict(self._counters))
        await plant.store.append(batch, 2**20)


async def walked(plant: Plant, traffic: Traffic, spec: Spec = SPEC) -> None:
    """Let control look every 20 seconds while requests come, until the rollout has ended."""
    state = await plant.commands.start("digits", spec, order("try it"))
    loop = plant.loop()
    for _ in range(30):
        await traffic.arrive(plant, state, 3_000)
        await loop.turn()
        plant.clock.advance(20)
        state = await plant.states.read("digits")
        if not state.active:
            return
