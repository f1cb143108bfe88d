"""The stored states of all Routes: read, judged, and replaced by compare-and-set.

A store that has lost states is given back those that were read or written here (`router.core.recovery`), before
anything is decided on them: loop and operators never act by an older state than this process has seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from router.analysis.evidence import Evidence
from router.analysis.judge import measure_of_ratios
from router.analysis.measures import Measure
from router.control.judging import case_of, judgement_of
from router.control.watches import Watches
from router.control.webhooks import Webhooks, no_webhooks
from router.core.basis import Ages, Basis
from router.core.decisions import Judgement, Outside
from router.core.errors import StoreUnavailableError, UnreadableStateError
from router.core.freeze import FreezeWindow, frozen
from router.core.moves import Move
from router.core.ports import Store
from router.core.recovery import Restoration, restore
from router.core.rollout import RolloutState, idle_state
from router.core.traffic import Route
from router.store.lost_states import give_back, read_readable
from router.telemetry import logs

TRIES = 3
"""How often a store that has lost states is read again after giving them back: once, and twice for lost races."""


class States:
    """Reads and writes states for the loop and for operators, counts the decisions that were written and tells of them.

    `decided` counts by (kind of decision, kind of actor) since this process began. `newest` holds the newest
    state seen of each Route. `unreadable` says of a Route why its stored state could not be read when it was looked at
    last; such a Route is absent from what `stored` returns. `watches` measures how long what is read and written lasts;
    None where nobody does.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        store: Store,
        routes: Mapping[str, Route],
        now_s: Callable[[], float],
        *,
        freeze: Mapping[str, Sequence[FreezeWindow]] | None = None,
        webhooks: Webhooks | None = None,
        watches: Watches | None = None,
    ) -> None:
        self._store = store
        self._routes = routes
        self._freeze = freeze or {}
        self._log = logs.get("states")
        self.webhooks = webhooks or no_webhooks()
        self._watches = watches
        self.now_s = now_s
        self.decided: Counter[tuple[str, str]] = Counter()
        self.newest: dict[str, RolloutState] = {}
        self.unreadable: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"States({len(self._routes)} routes, {self.decided.total()} decisions written)"

    async def stored(self) -> Mapping[str, RolloutState]:
        """Return the stored states; absent are Routes never seen and the unreadable. Raises StoreUnavailableError."""
        return await self._whole(tuple(self._routes))

    async def find(self, route: str) -> RolloutState | None:
        """Return one Route's state, None where the store has never seen it.

        Raises StoreUnavailableError, and UnreadableStateError which says how to repair it.
        """
        found = (await self._whole((route,))).get(route)
        if route in self.unreadable:
            raise UnreadableStateError({route: self.unreadable[route]}, {})
        return found

    async def read(self, route: str) -> RolloutState:
        """Return one Route's state, idle where the store has never seen it; raises as `find` does."""
        return self.or_idle(route, await self.find(route))

    async def _whole(self, routes: Sequence[str]) -> Mapping[str, RolloutState]:
        """Read states; those that the store has lost are given back first."""
        for _ in range(TRIES):
            stored = await self._look(routes)
            lost = [one for name in routes if (one := self._lost(name, stored.get(name))) is not None]
            if not lost:
                self._remember(stored.values())
                return stored
            for one in lost:
                await give_back(self._store, one, self._log)
        raise StoreUnavailableError("the store loses states again and again; look at its log and its replicas")

    async def _look(self, routes: Sequence[str]) -> Mapping[str, RolloutState]:
        states, why = await read_readable(self._store, routes)
        for route in routes:
            self.unreadable.pop(route, None)
        self.unreadable.update(why)
        return states

    def _lost(self, route: str, stored: RolloutState | None) -> Restoration | None:
        known = self.newest.get(route)
        if known is None or route in self.unreadable:
            return None
        return restore(known, stored, self.now_s())

    def _remember(self, states: Iterable[RolloutState]) -> None:
        """Keep the newest state of each Route; reads may overtake each other."""
        for state in states:
            known = self.newest.get(state.route)
            if known is None or ((state.epoch, state.revision) >= (known.epoch, known.revision)):
                self.newest[state.route] = state

    def or_idle(self, route: str, stored: RolloutState | None) -> RolloutState:
        """Return `stored`, or the state of a Route that nobody has touched yet."""
        return stored if stored is not None else idle_state(route, self._routes[route].stable, self.now_s())

    async def evidence(self, state: RolloutState) -> Evidence:
        """Return the merged evidence of the state's rollout, empty while it has none. Raises StoreUnavailableError."""
        if not state.id:
            return Evidence()
        return Evidence.of(await self._store.evidence(state.route, state.id))

    async def judge(self, state: RolloutState) -> Judgement:
        """Return what the evidence says now, with all its numbers and words. Raises StoreUnavailableError."""
        return self.judgement(state, await self.evidence(state))

    def judgement(
        self, state: RolloutState, evidence: Evidence, ratios: Sequence[Measure] | None = None, *, detail: bool = True
    ) -> Judgement:
        """Return what this evidence says; `ratios` and `detail` as `router.analysis.judge.judge` takes them."""
        ages = self.ages(state)
        return judgement_of(state, evidence, ratios, keyed=self._keyed(state), detail=detail, ages=ages)

    def ratios(self, state: RolloutState, evidence: Evidence) -> Sequence[Measure]:
        """Return what this evidence says of precision and f1, for `judgement`."""
        case = case_of(state, keyed=self._keyed(state))
        return () if case is None else measure_of_ratios(case, evidence)

    def ages(self, state: RolloutState) -> Ages | None:
        """Return how long it has lasted by the clocks that never jump, None where nobody measures."""
        return None if self._watches is None else self._watches.ages(state)

    def _keyed(self, state: RolloutState) -> bool:
        return bool(self._routes[state.route].affinity)

    async def judge_or_invalid(self, state: RolloutState) -> Judgement:
        """Return what the evidence says, or an invalid judgement when it cannot be read."""
        return (await self.evidence_or_none(state))[1]

    async def evidence_or_none(self, state: RolloutState) -> tuple[Evidence | None, Judgement]:
        """Return the evidence and what it says, or None and an invalid judgement when it cannot be read.

        For operators: an abort does not wait for evidence, and `guard` lets nobody else move on an invalid one.
        """
        try:
            evidence = await self.evidence(state)
        except StoreUnavailableError as error:
            return None, Judgement(invalid=f"evidence could not be read: {error}", reason="no evidence")
        return evidence, self.judgement(state, evidence)

    def outside(self, route: str) -> Outside:
        """Return what holds a Route back now beside its rollout and evidence, for `guard`."""
        return Outside(frozen=frozen(self.now_s(), self._freeze.get(route, ())))

    def basis(self, state: RolloutState, evidence: Evidence | None, now_s: float, ages: Ages | None) -> Basis:
        """Return what a decision on this evidence follows from, as far as it is the same whoever proposes.

        `ages` are those that the judgement was made with.
        """
        counters = None if evidence is None else evidence.counters
        if counters is not None and not state.active:  # then only the present exposure is counted, and nothing judged
            counters = {key: value for key, value in counters.items() if key.exposure == state.exposure.id}
        return Basis(state, now_s, counters, self._keyed(state), ages=ages)

    async def write(self, before: RolloutState, move: Move, basis: Basis) -> bool:
        """Replace `before` by what the move made of it; False when somebody else was first.

        Raises StoreUnavailableError (the write may have happened) and StaleEpochError.
        """
        record = None if move.record is None else replace(move.record, basis=basis)
        if not await self._store.compare_and_set(move.state, before.revision, record):
            return False
        self._remember((move.state,))
        if self._watches is not None:
            self._watches.look([move.state])
        if record is not None:
            self.webhooks.tell(record, move.state)
            self.decided[record.kind, str(move.decision.actor.kind)] += 1
            self._log.info(
                "decided", route=record.route, kind=record.kind, reason=record.reason, actor=record.actor,
                revision=record.revision, phase=record.phase_after, weight_bp=record.weight_bp_after,
                mirror_bp=record.mirror_bp_after,
            )  # fmt: skip
        return True
