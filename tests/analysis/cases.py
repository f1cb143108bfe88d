"""Gates, exposures and histories that several tests ask the judge about."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from hypothesis import strategies as st

from router.analysis.evidence import Evidence
from router.analysis.judge import Case, judge
from router.core.decisions import GateResult, Judgement
from router.core.levels import QUANTILES, level_of, levels_of, threshold_name, thresholds_of
from router.core.observations import (
    AGREEMENT,
    BOTH,
    CORRECT,
    LABEL,
    LATENCY,
    PAIR,
    PAIR_FAILURE,
    CounterKey,
    Outcome,
    latency_bucket,
)
from router.core.rollout import Exposure, GateSpec, Spec
from router.core.traffic import Role
from tests.analysis.ledger import Ledger, Request, paired, served, settled

Counters = Mapping[CounterKey, int]

_NORMAL = NormalDist()


def latency_at_ms(rank: float) -> float:
    """Return a quantile of stable's latency: lognormal, with a median of 10 ms and a p99 of 16 ms."""
    return 10.0 * math.exp(0.2 * _NORMAL.inv_cdf(rank))


TAU_MS = {quantile: latency_at_ms(quantile) for quantile in QUANTILES}


def exposure(
    number: int, weight_bp: int = 5_000, *, slices: Sequence[str] = (), frozen: bool = True, mirror_bp: int = 1_000
) -> Exposure:
    """Return an exposure whose latency quantiles are frozen at TAU_MS, for all requests and for each slice."""
    names = [(threshold_name(quantile, slice_), tau) for slice_ in ("", *slices) for quantile, tau in TAU_MS.items()]
    return Exposure(number, weight_bp, mirror_bp, "canary", 0.0, tuple(names) if frozen else ())


HALF = exposure(1)
SHADOW = exposure(1, 0, mirror_bp=10_000)
ALL_TRAFFIC = exposure(1, 10_000)

ERRORS = GateSpec("errors", "error_rate", max_increase=0.005)
NO_MORE_ERRORS = GateSpec("no more errors", "error_rate", max_increase=0.0)
FEW_ERRORS = GateSpec("few errors", "error_rate", maximum=0.02)
LATENCY_GATE = GateSpec("latency", "latency", max_increase=0.1, slack_ms=0.0)
DISAGREEMENT = GateSpec("disagreement", "disagreement", maximum=0.02)
FAR_APART = GateSpec("far apart", "disagreement", maximum=0.02, beyond=0.1)
ACCURACY = GateSpec("accuracy", "accuracy", max_increase=0.01)
ACCURACY_FLOOR = GateSpec("accuracy floor", "accuracy", minimum=0.9)
RECALL = GateSpec("recall of 8", "recall", max_increase=0.02, label="8")
RECALL_FLOOR = GateSpec("recall floor", "recall", minimum=0.9, label="8")
PRECISION_FLOOR = GateSpec("precision floor", "precision", minimum=0.8, label="8")
F1_FLOOR = GateSpec("f1 floor", "f1", minimum=0.8, label="8")
PRECISION_LOSS = GateSpec("precision loss", "precision", max_increase=0.03, label="8", dry_run=True)
F1_LOSS = GateSpec("f1 loss", "f1", max_increase=0.03, label="8", dry_run=True)

GATES = (
    ERRORS, NO_MORE_ERRORS, FEW_ERRORS, LATENCY_GATE, DISAGREEMENT, FAR_APART, ACCURACY, ACCURACY_FLOOR, RECALL,
    RECALL_FLOOR, PRECISION_FLOOR, F1_FLOOR, PRECISION_LOSS, F1_LOSS,
)  # fmt: skip


def case_of(
    *gates: GateSpec,
    exposures: Sequence[Exposure] = (HALF,),
    attempt: int = 1,
    keyed: bool = False,
    step_gates: tuple[str, ...] = (),
    slices: tuple[str, ...] = (),
) -> Case:
    """Return a case of these gates with alpha 1 % and beta 5 %."""
    return Case(Spec("v2", "canary", gates=gates), exposures, attempt, keyed, step_gates, slices)


def judged(case: Case, *counters: Counters, detail: bool = True) -> Judgement:
    """Return what the judge says when each of `counters` is what one boot counted."""
    return judge(case, Evidence.of({str(boot): one for boot, one in enumerate(counters)}), detail=detail)


def result_of(gate: GateSpec, *counters: Counters, exposures: Sequence[Exposure] = (HALF,)) -> GateResult:
    """Return what the judge says of one gate alone."""
    (result,) = judged(case_of(gate, exposures=exposures), *counters).gates
    return result


# -- Counters of whole exposures ---------------------------------------------------------------------------------------


def failures(
    exposure: Exposure, stable: tuple[int, int], candidate: tuple[int, int], slice_: str = ""
) -> dict[CounterKey, int]:
    """Return live requests of both variants as (requests, failures among them)."""
    found: dict[CounterKey, int] = {}
    for role, (requests, failed) in zip(Role, (stable, candidate), strict=True):
        found |= served(exposure, role, {"ok": requests - failed, "http_error": failed}, slice_=slice_)
    return found


def latencies(
    gates: Sequence[GateSpec],
    exposure: Exposure,
    stable_ms: Iterable[float],
    candidate_ms: Iterable[float],
    slice_: str = "",
) -> dict[CounterKey, int]:
    """Return live requests of both variants, all answered, as fast as given; `gates` are the slice's."""
    found: dict[CounterKey, int] = {}
    levels = levels_of(one for thresholds in thresholds_of(gates, exposure) for one in thresholds)
    for role, edges, values in (
        (Role.STABLE, levels.stable, stable_ms),
        (Role.CANDIDATE, levels.candidate, candidate_ms),
    ):
        buckets = Counter(map(latency_bucket, values))
        cut: Counter[str] = Counter()
        for bucket, n in buckets.items():
            cut[str(level_of(edges, bucket))] += n
        found |= served(exposure, role, {"ok": buckets.total()}, levels=cut, slice_=slice_)
        cells = {str(bucket): n for bucket, n in buckets.items()}
        found |= settled(exposure, LATENCY, role, cells, slice_)
    return found


def spread_ms(requests: int, factor: float = 1.0, tail: float = 1.0) -> list[float]:
    """Return stable's latencies times `factor`; of the slowest 5 % times `tail` as well."""
    ranks = [(i + 0.5) / requests for i in range(requests)]
    return [factor * (tail if rank > 0.95 else 1.0) * latency_at_ms(rank) for rank in ranks]


def agreements(exposure: Exposure, pairs: int, different: int, slice_: str = "") -> dict[CounterKey, int]:
    """Return complete pairs, some of which differ."""
    return {
        **paired(exposure, PAIR, {BOTH: pairs}, slice_),
        **paired(exposure, AGREEMENT, {"same": pairs - different, "different": different}, slice_),
    }


def copies(exposure: Exposure, cells: Mapping[str, int]) -> dict[CounterKey, int]:
    """Return copied requests by `<stable>/<candidate>` of fine, fail and unknown."""
    return {**paired(exposure, PAIR, {BOTH: sum(cells.values())}), **paired(exposure, PAIR_FAILURE, cells)}


def right(exposure: Exposure, cells: Mapping[str, int], slice_: str = "") -> dict[CounterKey, int]:
    """Return labelled pairs by `<stable><candidate>` being right."""
    return {**agreements(exposure, sum(cells.values()), 0, slice_), **paired(exposure, CORRECT, cells, slice_)}


def of_class(exposure: Exposure, cells: Mapping[str, int], label: str = "8") -> dict[CounterKey, int]:
    """Return labelled pairs by `<truth><stable><candidate>` being one class."""
    by_class = {f"{label}:{code}": n for code, n in cells.items()}
    return {**agreements(exposure, sum(cells.values()), 0), **paired(exposure, LABEL, by_class)}


# -- Histories of single requests --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """One request as it will go. `ends_after_s` None means that nobody ever hears how it ended."""

    at_s: float
    exposure: int
    role: Role
    key: str = "k"
    slices: tuple[str, ...] = ()
    outcome: str = Outcome.OK
    latency_ms: float = 1.0
    ends_after_s: float | None = 0.0
    other: Outcome | None = None
    same: bool | None = None
    distance: float | None = None
    label: tuple[str, str, str | None] | None = None
    boot: int = 0

    @property
    def ends(self) -> tuple[Outcome, Outcome]:
        """The two ends of a copied request, stable's first."""
        mine = Outcome(self.outcome)
        other = self.other or Outcome.OK
        return (mine, other) if self.role is Role.STABLE else (other, mine)


def play(history: Sequence[Planned], exposures: Sequence[Exposure], ledgers: Sequence[Ledger], *, keyed: bool) -> None:
    """Let the ledgers count a history; each request is counted by the ledger of its boot."""
    by_id = {one.id: one for one in exposures}
    events: list[tuple[float, int, Callable[[], None]]] = []
    started: dict[int, Request] = {}

    def begin(number: int, one: Planned, ledger: Ledger) -> None:
        started[number] = ledger.start(
            one.at_s, by_id[one.exposure], one.role,
            key=one.key if keyed else None, slices=one.slices, copied=one.other is not None,
        )  # fmt: skip

    def finish(number: int, one: Planned, ledger: Ledger) -> None:
        ledger.end(started[number], one.outcome, one.latency_ms)
        if one.other is not None:
            ledger.compare(started[number], *one.ends, same=one.same, distance=one.distance)
        if one.label is not None:
            ledger.label(started[number], *one.label)

    for number, one in enumerate(history):
        ledger = ledgers[one.boot % len(ledgers)]
        events.append((one.at_s, 0, lambda args=(number, one, ledger): begin(*args)))  # type: ignore[misc]
        if one.ends_after_s is not None:
            at_s = one.at_s + one.ends_after_s
            events.append((at_s, 1, lambda args=(number, one, ledger): finish(*args)))  # type: ignore[misc]
    for _, _, happen in sorted(events, key=lambda event: event[:2]):
        happen()


def evidence_of(
    history: Sequence[Planned],
    exposures: Sequence[Exposure],
    gates: Sequence[GateSpec] = (),
    *,
    keyed: bool = False,
    now_s: float = 1_000.0,
) -> Evidence:
    """Return what one boot counts of a history."""
    ledger = Ledger(exposures, gates)
    play(history, exposures, [ledger], keyed=keyed)
    return Evidence(ledger.counters(now_s))


SLICES = ("digit=8", "user=new")


@st.composite
def histories(draw: st.DrawFn, exposures: int = 2, most: int = 30) -> list[Planned]:
    """Draw requests of a few keys over a few seconds, in exposures one after another, never ending ones included."""
    drawn = draw(
        st.lists(
            st.builds(
                Planned,
                at_s=st.floats(0, 3),
                exposure=st.integers(1, exposures),
                role=st.sampled_from(list(Role)),
                key=st.sampled_from("abcde"),
                slices=st.sampled_from([(), SLICES[:1], SLICES]),
                outcome=st.sampled_from(list(Outcome)),
                latency_ms=st.sampled_from([1.0, 10.0, 10.7, 12.0, 14.3, 16.4, 17.3, 90.0]),
                ends_after_s=st.none() | st.sampled_from([0.0, 0.5, 2.0]),
                other=st.none() | st.sampled_from(list(Outcome)),
                same=st.none() | st.booleans(),
                distance=st.none() | st.sampled_from([0.0, 0.1, 0.2]),
                label=st.none() | st.tuples(*[st.sampled_from(["1", "8"])] * 3),
                boot=st.integers(0, 2),
            ),
            max_size=most,
        )
    )
    return sorted((legal(one) for one in drawn), key=lambda one: one.at_s)


def legal(one: Planned) -> Planned:
    """Return the request with what only a complete pair can have taken away, and moved into its exposure's time."""
    complete = one.other is not None and all(end.is_answer for end in one.ends)
    return replace(
        one,
        at_s=one.at_s + 5 * one.exposure,
        same=one.same if complete else None,
        distance=one.distance if complete else None,
        label=one.label if complete else None,
    )
