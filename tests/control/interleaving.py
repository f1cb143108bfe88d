"""Several control processes and operators on one store, interleaved call by call, in an order that a test chooses.

A coroutine on a MemoryStore gives way exactly once for each call of the store. Driven by hand, without an event loop,
it stops there, and anything else can happen before the store has seen its call: every interleaving of whole store calls
can be played, and played again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Any

from router.analysis.evidence import Evidence
from router.analysis.measures import Measure
from router.control.commands import Commands
from router.control.loop import ControlLoop
from router.control.states import States
from router.core.config import TurnoutConfig
from router.core.decisions import DecisionRecord, Judgement
from router.core.errors import StoreUnavailableError, TurnoutError
from router.core.observations import CUTS, CounterKey
from router.core.ports import RecordBatch, RolloutPolicy
from router.core.rollout import Phase, RolloutState, Spec, block_hash_of
from router.settings import block_hash
from router.store.codec import decode_decision, decode_state, encode_pairs
from router.store.redis import RedisStore
from router.testing import ManualClock, MemoryServer, MemoryStore
from tests.control.plant import FakeProber, route_named

ROUTE = "digits"
AT_ONCE = 3
"""How many commands and turns may be under way; the oldest is finished before another one begins."""


class Lost(Enum):
    """What becomes of a write whose reply never comes."""

    BEFORE = "it did not happen"
    AFTER = "it happened"


class Lossy:
    """A store whose next write can be lost: the caller gets an error either way and cannot know which it was.

    To stand before a real store among the bases of a class.
    """

    lose: Lost | None = None

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Write, unless the write is lost on its way."""
        lose, self.lose = self.lose, None
        if lose is Lost.BEFORE:
            await asyncio.sleep(0)
            raise StoreUnavailableError("the request was lost")
        written = bool(await super().compare_and_set(state, expected_revision, record))  # type: ignore[misc]
        if lose is Lost.AFTER:
            raise StoreUnavailableError("the reply was lost")
        return written


class LossyMemoryStore(Lossy, MemoryStore):
    """In memory."""


class LossyRedisStore(Lossy, RedisStore):
    """On a real server."""


class BriefStates(States):
    """States that judge without the gates' lines: the same verdicts, in half of the time."""

    def judgement(
        self, state: RolloutState, evidence: Evidence, ratios: Sequence[Measure] | None = None, *, detail: bool = False
    ) -> Judgement:
        """Return what the evidence says, in brief."""
        return super().judgement(state, evidence, ratios, detail=detail and ratios is not None)


class Theatre:
    """Two control processes, two operators, one store; checks what must hold after each single step."""

    def __init__(self, policies: Mapping[str, RolloutPolicy], file: Spec | None) -> None:
        self.clock = ManualClock(1_800_000_000.0)
        self.server = MemoryServer(clock=self.clock)
        self.config = TurnoutConfig(routes={ROUTE: route_named(ROUTE)})
        self.policies = policies
        self.stores = [LossyMemoryStore(self.server) for _ in range(2)]
        self.loops = [self._loop(number, file) for number in range(2)]
        self.operators = [self._commands() for _ in range(2)]
        self._running: list[Coroutine[Any, Any, object]] = []
        self._body: bytes | None = None
        self._state: RolloutState | None = None
        self._ended: set[str] = set()
        self._known: set[str] = set()
        self._evidence = 0
        self.faults: list[str] = []
        self.refused: Counter[str] = Counter()

    def _loop(self, number: int, file: Spec | None) -> ControlLoop:
        return ControlLoop(
            config=replace(self.config, rollouts={ROUTE: file} if file else {}),
            store=self.stores[number], policies=self.policies, prober=FakeProber(), boot=f"control-{number}",
            now_s=self.clock, monotonic=self.clock,
        )  # fmt: skip

    def _commands(self) -> Commands:
        self.stores.append(LossyMemoryStore(self.server))
        states = BriefStates(self.stores[-1], self.config.routes, self.clock)
        return Commands(states, self.config.routes, self.policies, FakeProber(), block_hash)

    # -- what can happen --------------------------------------------------------------------------------------------

    def begin(self, what: Coroutine[Any, Any, object]) -> None:
        """Let a command or a turn get under way; it runs up to its first call of the store."""
        while len(self._running) >= AT_ONCE:
            self.step(0)
        self._running.append(what)
        self.step(len(self._running) - 1)

    def step(self, number: int) -> None:
        """Let one of those under way make its next call of the store, and check what that has done."""
        if not self._running:
            return
        number %= len(self._running)
        try:
            self._running[number].send(None)
        except StopIteration:
            del self._running[number]
        except TurnoutError as error:  # refused, contended, fenced, illegal, or the store was away: all are allowed
            del self._running[number]
            self.refused[type(error).__name__] += 1
        self._check()

    def finish(self) -> None:
        """Let everything that is under way end."""
        self.server.mend()
        while self._running:
            self.step(0)

    def turn(self, number: int) -> None:
        """Let a control process look at everything, and start its file's block if that is due."""
        loop = self.loops[number]

        async def whole() -> None:
            await loop.turn()
            due, loop._due = loop._due, {}  # noqa: SLF001 - `start_due_blocks` would need an event loop
            for route, epoch in due.items():
                await loop._start_block(route, epoch)  # noqa: SLF001 - the same

        self.begin(whole())

    def reload(self, number: int, file: Spec | None) -> None:
        """Let a control process live by another file from now on, as after a restart or a reload."""
        self.loops[number] = self._loop(number, file)

    def change_leader(self) -> None:
        """Let the lease run out and both processes ask for it, the other one first."""
        holder = self.server.lease.holder
        self.clock.advance(6.0)
        self.turn(1 if holder == "control-0" else 0)

    def minute(self, *, failed: int) -> None:
        """Let a minute pass in which so many of 1,000 of the candidate's answers failed, and the leader look at it."""
        self.see(failed=failed)
        self.clock.advance(60.0)
        self.turn(1 if self.server.lease.holder == "control-1" else 0)

    def lose(self, number: int, lost: Lost) -> None:
        """Lose the next write of a control process, or of an operator (2 and 3)."""
        self.stores[number].lose = lost

    def see(self, *, failed: int) -> None:
        """Let a gateway write what it has counted of the present exposure: 1,000 answers each, so many failed."""
        state = self.state
        if state is None or not state.id:
            return
        self._evidence += 1
        counters: dict[CounterKey, int] = {}
        for role, bad in (("stable", 0), ("candidate", failed)):
            for cut in CUTS:
                counters[CounterKey(state.exposure.id, "started" + cut, "", role, "all")] = 1_000
                counters[CounterKey(state.exposure.id, "outcome" + cut, "", role, "ok")] = 1_000 - bad
                counters[CounterKey(state.exposure.id, "outcome" + cut, "", role, "http_error")] = bad
        up, self.server.up = self.server.up, True
        batch = RecordBatch(ROUTE, state.id, f"g{self._evidence}", 1, 0, encode_pairs([]), counters)
        writing = MemoryStore(self.server).append(batch, 2**20)
        with suppress(StopIteration):
            while True:
                writing.send(None)
        self.server.up = up

    # -- what must hold ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> RolloutState | None:
        """What is stored now."""
        return self._state

    def ledger(self) -> list[DecisionRecord]:
        """Return all decisions, oldest first."""
        return [decode_decision(raw) for raw in reversed(self.server.records.get(ROUTE, ()))]

    def _check(self) -> None:
        body = self.server.states.get(ROUTE)
        if body is None or body is self._body:
            return
        before, after = self._state, decode_state(body)
        self._body, self._state = body, after
        self.faults += _broken(before, after, self._ended, self._known, self.ledger)
        self._known.add(after.id)
        if after.phase is Phase.ROLLED_BACK:
            self._ended.add(after.id)


def _broken(
    before: RolloutState | None,
    after: RolloutState,
    ended: set[str],
    known: set[str],
    ledger: Callable[[], list[DecisionRecord]],
) -> list[str]:
    """Return the laws that this one write has broken."""
    found = []
    shares = after.exposure.weight_bp, after.exposure.mirror_bp
    if after.id in ended and (shares != (0, 0) or after.active):
        found.append(f"{after.id} was rolled back and has shares {shares} in phase {after.phase}")
    if before is None:
        return found
    if after.epoch < before.epoch:
        found.append(f"epoch {after.epoch} after {before.epoch}")
    if after.revision < before.revision:
        found.append(f"revision {after.revision} after {before.revision}")
    if after.revision == before.revision and replace(after, epoch=before.epoch) != before:
        found.append(f"revision {after.revision} has two contents")
    if after.id != before.id and (after.id in known or before.active):
        found.append(f"{after.id} began although it had begun before, or another one was under way")
    if after.revision > before.revision and ledger()[-1].actor == "config:file":
        if before.active:
            found.append("the file has changed a rollout under way")
        if block_hash_of(after.id) in before.seen_blocks:
            found.append(f"the file has started {after.id} again")
    return found
