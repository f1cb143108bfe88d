"""True labels from clients, joined to the pairs that gateways wrote, and counted as evidence.

Every control process takes labels, whoever holds the lease. It reads the pair log behind a cursor into a bounded index,
from the first label on: without labels nothing is read. The store counts each label once, so it does not matter which
process was asked, how often, or whether it died in between.

A label may be faster than its pair, which is written only when the slower variant has answered. Such a label waits here
for `wait_s` at most; it is lost if the process dies meanwhile, and may be sent again at any time.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from router.control.pair_index import KnownPair, PairIndex
from router.control.states import States
from router.core.config import FeedbackConfig
from router.core.errors import StoreUnavailableError
from router.core.inference import kept_label
from router.core.labels import LabelledPair, LabelResult
from router.core.ports import RecordStore
from router.core.rollout import RolloutState
from router.core.traffic import Route
from router.settings.metrics import METRICS
from router.telemetry import logs
from router.telemetry.metrics import Histogram

TURN_S = 0.25
"""Time between two looks at the pair log. Chosen: half of what counters take to get to the store."""

PAGES = 8
"""Pages of a Route's pairs that are read in one look; what is left is read in the next. Chosen: some 8,000 pairs, and
0.1 s with pauses for others."""

WAITING = 20_000
"""Labels that may wait for their pairs, some 10 MiB. Chosen: 20 calls of the largest size."""

AT_ONCE = 250
"""Labels counted in one call of the store. Chosen: a millisecond or two in which it serves nobody else."""


class FeedbackResult(StrEnum):
    """What became of one label."""

    ACCEPTED = "accepted"
    WAITING = "waiting"
    DOUBLE = "double"
    LATE = "late"
    UNKNOWN = "unknown"
    UNUSABLE = "unusable"
    REFUSED = "refused"


_RESULTS = {
    LabelResult.ACCEPTED: FeedbackResult.ACCEPTED,
    LabelResult.DOUBLE: FeedbackResult.DOUBLE,
    LabelResult.FULL: FeedbackResult.REFUSED,
}


@dataclass(frozen=True, slots=True)
class TrueLabel:
    """What a client says was true of one request: the label of each row. `observed_at_s` is when it became known."""

    request_id: str
    labels: tuple[str, ...]
    observed_at_s: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    label: TrueLabel
    until_s: float


@dataclass(slots=True)
class _Sorted:
    """Labels by what is to be done with them: counted for a Route, waited for, or nothing (`results`)."""

    results: Counter[FeedbackResult] = field(default_factory=Counter)
    joined: dict[str, list[tuple[LabelledPair, float]]] = field(default_factory=dict)
    missing: list[TrueLabel] = field(default_factory=list)


class Feedback:
    """Takes labels. `results`, `drops` and `delays` count since this process began.

    `run` it once beside the control loop; `take` also works without it, but then nobody comes back to what waits.
    """

    def __init__(
        self,
        store: RecordStore,
        states: States,
        routes: Mapping[str, Route],
        config: FeedbackConfig,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self.results: Counter[FeedbackResult] = Counter()
        """Final results only: a label that waits is counted when it is known what became of it."""
        self.delays = Histogram("turnout_feedback_delay_seconds")
        """How long after their requests the labels that were counted became known."""
        self.index = PairIndex(config.index_bytes)
        self._drops: Counter[tuple[str, str]] = Counter()
        self._store = store
        self._states = states
        self._routes = routes
        self._wait_s = config.wait_s
        self._monotonic = monotonic
        self._cursors: dict[str, str] = {}
        self._read_until: dict[str, int] = {}
        """The revision of a Route's state at which its pairs had all been read."""
        self._waiting: deque[_Waiting] = deque()
        self._reading = asyncio.Lock()
        self._asked = asyncio.Event()
        self._log = logs.get("feedback")
        self._changes = logs.Changes()

    def __repr__(self) -> str:
        return f"Feedback({self.index!r}, {len(self._waiting)} labels waiting)"

    @property
    def waiting(self) -> int:
        """How many labels wait for their pair."""
        return len(self._waiting)

    @property
    def drops(self) -> Mapping[tuple[str, str], int]:
        """What was given up to stay within a bound, by what and why."""
        return {**self._drops, ("indexed_pair", "index_full"): self.index.dropped}

    async def take(self, labels: Sequence[TrueLabel]) -> Mapping[FeedbackResult, int]:
        """Count what can be counted now and keep the rest waiting; return how many labels ended how.

        Raises StoreUnavailableError: then some may have been counted and none waits; all may be sent again.
        """
        self._asked.set()
        states, _ = await self._read_pairs()
        found = self._sorted(labels, states)
        await self._count(found, states)
        room = max(WAITING - len(self._waiting), 0)
        waits, refused = found.missing[:room], found.missing[room:]
        found.results[FeedbackResult.REFUSED] += len(refused)
        self._drops["label", "waiting_full"] += len(refused)
        self.results.update(found.results)
        until_s = self._monotonic() + self._wait_s
        self._waiting.extend(_Waiting(label, until_s) for label in waits)
        found.results[FeedbackResult.WAITING] = len(waits)
        return {result: found.results[result] for result in FeedbackResult}

    async def run(self) -> None:
        """Look after labels that wait, until cancelled; from the first label on."""
        await self._asked.wait()
        try:
            while True:
                await asyncio.sleep(TURN_S)
                await self._turn_safely()
        finally:
            if self._waiting:
                self._log.warning("labels that waited for their pairs are lost", labels=len(self._waiting))

    async def _turn_safely(self) -> None:
        try:
            await self.turn()
        except StoreUnavailableError:
            return  # the loop tells of it; what waits goes on waiting
        except Exception as error:  # noqa: BLE001 - a bug here must not end the control process
            if self._changes.changed("turn", f"{type(error).__name__}: {error}"):
                self._log.error("labels could not be joined; it is tried again", exc_info=error)
        else:
            self._changes.changed("turn", None)

    async def turn(self) -> None:
        """Read new pairs, count the labels that waited for them, and give up those that have waited long enough."""
        states, all_read = await self._read_pairs()
        looked_at = list(self._waiting)
        found = self._sorted([one.label for one in looked_at], states)
        await self._count(found, states)
        now, missing = self._monotonic(), {id(label) for label in found.missing}
        kept = [one for one in looked_at if id(one.label) in missing and not (all_read and one.until_s <= now)]
        found.results[FeedbackResult.UNKNOWN] += len(found.missing) - len(kept)
        self.results.update(found.results)
        # Calls that were taken meanwhile have added theirs behind.
        self._waiting = deque([*kept, *islice(self._waiting, len(looked_at), None)])

    async def _read_pairs(self) -> tuple[Mapping[str, RolloutState], bool]:
        """Bring the index up to date; return the stored states, and whether all pairs have been read.

        The log of a Route whose rollout has ended is read once more, so that late labels are known for what they are.
        """
        async with self._reading:
            states = await self._states.stored()
            all_read, before = True, dict(self._cursors)
            for route, state in states.items():
                if state.id and (state.active or self._read_until.get(route) != state.revision):
                    if await self._read_some(route, state):
                        self._read_until[route] = state.revision
                    else:
                        all_read = False
            if self._cursors != before:  # a rollout may have begun whose first pairs are in the index now
                states = await self._states.stored()
            return states, all_read

    async def _read_some(self, route: str, state: RolloutState) -> bool:
        """Read a Route's next pairs; return whether these were all."""
        gates = state.spec.gates if state.spec else ()
        asked = {gate.slice: None for gate in gates if gate.slice is not None and METRICS[gate.metric].from_labels}
        for _ in range(PAGES):
            page = await self._store.pairs_after(route, self._cursors.get(route, ""))
            for pair in page.pairs:
                self.index.add(pair, asked)
            self._cursors[route] = page.cursor
            if not page.more:
                return True
        return False

    def _sorted(self, labels: Iterable[TrueLabel], states: Mapping[str, RolloutState]) -> _Sorted:
        found = _Sorted()
        for label in labels:
            pair = self.index.get(label.request_id)
            if pair is None:
                found.missing.append(label)
                continue
            route = pair.stratum.route
            state = states.get(route)
            if pair.several:
                found.results[FeedbackResult.UNUSABLE] += 1
            elif state is None or not state.active or state.id != pair.stratum.rollout:
                found.results[FeedbackResult.LATE] += 1
            elif pair.stable is None:
                found.results[FeedbackResult.UNUSABLE] += 1
            else:
                delay_s = label.observed_at_s - pair.assigned_at_s
                found.joined.setdefault(route, []).append((self._joined(label, pair, pair.stable), delay_s))
        return found

    def _joined(self, label: TrueLabel, pair: KnownPair, stable: str) -> LabelledPair:
        keyed = bool(self._routes[pair.stratum.route].affinity)
        return LabelledPair(
            request_id=label.request_id,
            exposure=pair.stratum.exposure,
            key_cell=pair.key_cell if keyed else None,
            truth=kept_label(label.labels),
            stable=stable,
            candidate=pair.candidate,
            batch=len(label.labels) > 1,
            slices=pair.slices,
        )

    async def _count(self, found: _Sorted, states: Mapping[str, RolloutState]) -> None:
        """Count what was joined, and add what became of it to the results."""
        for route, joined in found.joined.items():
            state = states[route]
            named = {gate.label for gate in state.spec.gates if gate.label} if state.spec else set()
            # A pair may be of an exposure that has opened since the state was read.
            exposures = sorted({exposure.id for exposure in state.exposures} | {one.exposure for one, _ in joined})
            remaining = iter(joined)
            while some := list(islice(remaining, AT_ONCE)):
                pairs = [one for one, _ in some]
                counted = await self._store.count_labels(route, state.id, exposures, pairs, named)
                self._drops["class", "classes_full"] += counted.uncounted_classes
                for result, (_, delay_s) in zip(counted.results, some, strict=True):
                    found.results[_RESULTS[result]] += 1
                    if result is LabelResult.ACCEPTED:
                        self.delays.observe(max(delay_s, 0.0))
                    elif result is LabelResult.FULL:
                        self._drops["label", "labels_full"] += 1
