"""How often the breaker trips when it should not: equal variants, one bad user, outages that both share.

    python -m tests.simulation.breaker [--requests N] [--outages N] [--seed N]

Drives the product's own Breaker (default settings), request by request, and prints a table; a minute with the defaults.
"""

import argparse
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from router.core.decisions import Start
from router.core.rollout import FULL_BP, BreakerSpec, RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import KEY_CELLS, NO_KEY
from router.gateway.breaker import COPY, Breaker

RATES = (0.0, 0.01, 0.05, 0.10)
WEIGHTS = (0.1, 0.5)
OUTAGE_WEIGHTS = (0.01, 0.1, 0.25, 0.5, 0.9)
OUTAGE_REQUESTS = 1_000
"""Of both variants together: 10 s at 100 requests a second."""
BASE_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated: both variants fail with the same chance, whatever the input.

    `copied` is the share of the candidate's requests that stable answers as well. `bad_user` is the share of all
    requests that comes from one affinity key and always fails. `ratio_bp` is the breaker's; FULL_BP leaves only rows.
    """

    weight: float
    rate: float
    copied: float = 0.0
    bad_user: float = 0.0
    ratio_bp: int = BreakerSpec().ratio_bp


class Site:
    """A breaker in front of simulated requests, made anew whenever it has tripped."""

    def __init__(self, case: Case, seed: str) -> None:
        self.case = case
        self.trips = 0
        self._state = rollout(case)
        self._random = random.Random(seed)
        self._renew()

    def __repr__(self) -> str:
        return f"Site({self.case}, {self.trips} trips)"

    def _renew(self) -> None:
        self._breaker = Breaker(self._state, self._tripped)
        self._breaker.follow(self._state)

    def _tripped(self, breaker: Breaker, reason: str) -> None:  # noqa: ARG002 - as the breaker calls it
        self.trips += 1

    def candidate_requests(self, number: int, rate: float) -> None:
        """Let the candidate end so many requests, and stable what comes in between."""
        case, chance = self.case, self._random.random
        for _ in range(number):
            while chance() >= case.weight:
                self._breaker.stable_ended(chance() < rate)
            self._end_candidate(rate)

    def requests(self, number: int, rate: float) -> None:
        """Let both end so many requests together."""
        chance = self._random.random
        for _ in range(number):
            if chance() < self.case.weight:
                self._end_candidate(rate)
            else:
                self._breaker.stable_ended(chance() < rate)

    def _end_candidate(self, rate: float) -> None:
        case, chance, breaker = self.case, self._random.random, self._breaker
        if case.bad_user and chance() < case.bad_user:
            breaker.candidate_ended(True, 7)  # noqa: FBT003 - the hot path's own signature
        elif chance() >= rate:
            breaker.candidate_ended(False)  # noqa: FBT003 - the same
        elif chance() < case.copied:
            breaker.witnessed(chance() < rate, COPY)
        else:
            breaker.candidate_ended(True, self._random.randrange(8, KEY_CELLS) if case.bad_user else NO_KEY)  # noqa: FBT003 - the same
        if breaker.tripped:
            self._renew()


def rollout(case: Case) -> RolloutState:
    """Return a rollout at this weight, with this breaker."""
    steps = (Step(weight_bp=round(case.weight * FULL_BP)),)
    spec = Spec("v2", "canary", breaker=BreakerSpec(ratio_bp=case.ratio_bp))
    start = Start(reason="s", rollout_id="a.1", spec=spec, steps=steps)
    return apply(idle_state("r", "v1", 0.0), start, 0.0)


def false_trips(case: Case, requests: int, seed: int) -> int:
    """Return how often it trips over so many requests of the candidate."""
    site = Site(case, f"{seed}:{case}")
    site.candidate_requests(requests, case.rate)
    return site.trips


def outage_trips(case: Case, outages: int, seed: int) -> int:
    """Return how often it trips over outages of both, between calm times as long; `rate` is that of the outage."""
    site = Site(case, f"{seed}:{case}")
    for _ in range(outages):
        site.requests(OUTAGE_REQUESTS, BASE_RATE)
        site.requests(OUTAGE_REQUESTS, case.rate)
    return site.trips


def row_trips_per_request(rate: float, row: int) -> float:
    """Return how often a row of failures is complete, for each result: 1 / (expected results until it is)."""
    return (1 - rate) / (rate**-row - 1) if 0 < rate < 1 else rate


EQUAL = tuple(Case(weight, rate, copied) for weight in WEIGHTS for rate in RATES for copied in (0.0, 1.0))
ONE_USER = tuple(
    Case(weight, rate, bad_user=share) for weight in WEIGHTS for rate in (0.0, 0.05) for share in (0.5, 1.0)
)
TOTAL = tuple(Case(weight, 1.0, copied) for weight in OUTAGE_WEIGHTS for copied in (0.0, 1.0))
PARTIAL = tuple(Case(weight, rate) for rate in (0.25, 0.5, 0.75) for weight in OUTAGE_WEIGHTS)


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table for the console."""
    made = Table(*heads, title=title, title_justify="left")
    for row in rows:
        made.add_row(*row)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.breaker")
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N", help="of the candidate, each case")
    parser.add_argument("--outages", type=int, default=1_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    asked = parser.parse_args(arguments)
    console = Console()
    millions = asked.requests / 1e6
    equal = [
        (
            f"{case.weight:.0%}", f"{case.rate:.0%}", f"{case.copied:.0%}",
            f"{false_trips(case, asked.requests, asked.seed) / millions:.1f}",
        )
        for case in EQUAL
    ]  # fmt: skip
    heads = ("weight", "both fail", "copied", "trips per million candidate requests")
    console.print(table("Equal variants", heads, equal))
    user = [
        (
            f"{case.weight:.0%}", f"{case.rate:.0%}", f"{case.bad_user:.0%}",
            f"{false_trips(case, asked.requests, asked.seed) / millions:.1f}",
        )
        for case in ONE_USER
    ]  # fmt: skip
    heads = ("weight", "others fail", "one user's share", "trips per million candidate requests")
    console.print(table("One user who only sends bad requests", heads, user))
    outages = [
        (
            f"{case.weight:.0%}", f"{case.rate:.0%}", f"{case.copied:.0%}",
            f"{outage_trips(case, asked.outages, asked.seed)} of {asked.outages}",
        )
        for case in (*TOTAL, *PARTIAL)
    ]  # fmt: skip
    heads = ("weight", "both fail", "copied", "outages of 10 s that tripped it")
    console.print(table("Outages that both share", heads, outages))


if __name__ == "__main__":
    main()
