"""How likely the demo's two acts end as they must: the real judge, once a second, on the real models' answers.

    PYTHONPATH=. .venv/bin/python tests/demo/chances.py [SEEDS]

Users, digits and delays of labels are drawn anew in each run, with the demo's numbers; rows come in rounds and users
count once in a step, as in the demo. Only what labels say is drawn: no request fails, and latency is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from router.analysis.evidence import Evidence
from router.analysis.judge import Case, judge
from router.core.decisions import Judgement
from router.core.observations import AFFINITY, CORRECT, LABEL, PAIR_VARIANT, CounterKey
from router.core.rollout import Exposure, Spec
from router.demo.feedback import FASTEST_S, SLOWEST_S
from router.demo.models import MODELS, halves
from router.demo.performance import RATE_PER_S, USERS
from router.demo.plan import DAMAGED
from router.demo.stage import CONFIG
from router.settings.rollout_blocks import RolloutBlock

Ints = NDArray[np.int64]
FROM_LABELS = ("accuracy", "recall")
STEPS_S = (6.0, 6.0, 8.0)
"""How long the steps before the last one take in the demo, with their minimum counts: measured."""

LAST_S = 14.0
"""How long the last step is looked at. In the demo it takes as long, because `error_rate` needs that."""

ACT_TWO_S = 12.0


@dataclass(frozen=True, slots=True)
class Digits:
    """The traffic's rows: what is true, and which of them each model gets right."""

    truth: Ints
    right: dict[str, Ints]

    @classmethod
    def load(cls) -> Digits:
        """Train the models as the demo does."""
        train, held_out = halves()
        right = {
            name: (make(train).predict(held_out.images).labels == held_out.labels).astype(np.int64)
            for name, make in MODELS.items()
        }
        return cls(held_out.labels, right)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled requests in the order in which their labels came back, at `at_s` after the start of the act."""

    at_s: NDArray[np.float64]
    asked_at_s: NDArray[np.float64]
    row: Ints
    user: Ints

    @classmethod
    def draw(cls, dice: np.random.Generator, digits: Digits, seconds: float) -> Labels:
        """Return the labels of so many seconds of traffic."""
        count = int(seconds * RATE_PER_S)
        rounds = [dice.permutation(len(digits.truth)) for _ in range(count // len(digits.truth) + 1)]
        asked_at_s = np.arange(count) / RATE_PER_S
        at_s = asked_at_s + dice.uniform(FASTEST_S, SLOWEST_S, count)
        order = np.argsort(at_s)
        row, user = np.concatenate(rounds)[:count], dice.integers(USERS, size=count)
        return cls(at_s[order], asked_at_s[order], row[order], user[order])

    def known_at(self, now_s: float) -> Labels:
        """Return those that have come back by now."""
        known = self.at_s <= now_s
        return Labels(self.at_s[known], self.asked_at_s[known], self.row[known], self.user[known])


def spec_of() -> Spec:
    """Return what the demo's file asks for."""
    text = "\n".join(line for line in CONFIG.read_text(encoding="utf-8").splitlines() if "$" not in line)
    block: Any = yaml.safe_load(text)["routes"]["digits"]["rollout"]
    return RolloutBlock.model_validate(block).value()


EXPOSURES = tuple(
    Exposure(number, weight_bp, 10_000, "canary", 0.0) for number, weight_bp in enumerate((0, 1_000, 2_500, 5_000), 1)
)


def evidence_of(digits: Digits, labels: Labels, models: tuple[str, str], starts_s: Sequence[float]) -> Evidence:
    """Count these labels as the store does: each user at the first label in an exposure."""
    stable, candidate = models
    counters: dict[CounterKey, int] = {}
    last = np.zeros(USERS, dtype=np.int64)
    exposure_of = np.searchsorted(np.array(starts_s), labels.asked_at_s, side="right")
    for exposure in range(1, len(starts_s) + 1):
        mine = np.flatnonzero(exposure_of == exposure)
        users, firsts = np.unique(labels.user[mine], return_index=True)
        rows, before = labels.row[mine][firsts], last[users]
        last[users] = exposure
        cells = np.stack([digits.truth[rows], digits.right[stable][rows], digits.right[candidate][rows], before])
        for (y, a, b, j), count in _counted(cells):
            for metric, cell in ((CORRECT, f"{a}{b}"), (LABEL, f"{y}:1{a}{b}")):
                key = CounterKey(exposure, AFFINITY + metric, "", PAIR_VARIANT, f"{cell}/{j}")
                counters[key] = counters.get(key, 0) + count
    return Evidence(counters)


def _counted(cells: Ints) -> Iterator[tuple[Ints, int]]:
    """Yield each column of `cells` once, and how often it is there."""
    columns, counts = np.unique(cells, axis=1, return_counts=True)
    return zip(columns.T, counts.tolist(), strict=True)


class Acts:
    """Both acts as the judge sees them, as often as asked."""

    def __init__(self) -> None:
        self._spec, self._digits = spec_of(), Digits.load()
        self._asked = tuple(gate.name for gate in self._spec.gates if gate.metric in FROM_LABELS)

    def one(self, seed: int) -> float | None:
        """Return after how many seconds of the last step all gates that ask labels pass; None: not, or rolled back."""
        dice = np.random.default_rng((1, seed))
        starts_s = np.concatenate([[0.0], np.cumsum(STEPS_S)]).tolist()
        proved_s = None
        for now_s, said in self._looks(dice, ("v1", "v2"), starts_s, starts_s[-1] + LAST_S):
            if said.rollback:
                return None
            if said.promote and now_s > starts_s[-1] and proved_s is None:
                proved_s = now_s - starts_s[-1]
        return proved_s

    def two(self, seed: int) -> tuple[float, str] | None:
        """Return after how many seconds v3 is rolled back in its shadow, and for what; None: not in time."""
        for now_s, said in self._looks(np.random.default_rng((2, seed)), ("v2", "v3"), (0.0,), ACT_TWO_S):
            if said.rollback:
                return now_s, said.reason
        return None

    def _looks(
        self, dice: np.random.Generator, models: tuple[str, str], starts_s: Sequence[float], ends_s: float
    ) -> Iterator[tuple[float, Judgement]]:
        """Yield what the judge says once a second, from a random moment of the first second on."""
        labels = Labels.draw(dice, self._digits, ends_s)
        for now_s in np.arange(dice.uniform(), ends_s, 1.0):
            begun = [start_s for start_s in starts_s if start_s <= now_s]
            case = Case(self._spec, EXPOSURES[: len(begun)], keyed=True, step_gates=self._asked)
            evidence = evidence_of(self._digits, labels.known_at(now_s), models, begun)
            yield now_s, judge(case, evidence, detail=False)


@dataclass(frozen=True, slots=True)
class Chances:
    """What became of so many runs; times in seconds, of those that ended as they must."""

    runs: int
    promoted_s: tuple[float, ...]
    blamed_s: tuple[float, ...]

    @classmethod
    def of(cls, runs: int) -> Chances:
        """Play both acts so many times."""
        acts = Acts()
        ones, twos = [acts.one(seed) for seed in range(runs)], [acts.two(seed) for seed in range(runs)]
        return cls(
            runs,
            tuple(one for one in ones if one is not None),
            tuple(two[0] for two in twos if two is not None and two[1].startswith(f"{DAMAGED}:")),
        )

    def __str__(self) -> str:
        one, two = (f"{len(times)} of {self.runs} runs" for times in (self.promoted_s, self.blamed_s))
        slow_one, slow_two = (max(times, default=0.0) for times in (self.promoted_s, self.blamed_s))
        return (
            f"act one: every gate by labels passes in {one}, the slowest after {slow_one:.1f} s of the last step\n"
            f"act two: v3 is rolled back for {DAMAGED} in {two}, the slowest after {slow_two:.1f} s"
        )


if __name__ == "__main__":
    sys.stdout.write(f"{Chances.of(int(sys.argv[1]) if len(sys.argv) > 1 else 200)}\n")
