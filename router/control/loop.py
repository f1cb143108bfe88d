"""The control loop: once a second and on every notice it looks at all Routes and does what is due.

In each turn: read all states, give a sign of life, take or renew the lease. The holder of the lease then fences
(writes its epoch into every stored state), notes which `rollout:` blocks of the file are due, and decides for each
rollout under way: judge, propose, guard, apply, compare-and-set. What to do is said by pure functions; this file
carries it out.

While the store is away the loop freezes: nothing is decided, everything is tried again in the next turn.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from router.analysis.evidence import Evidence
from router.control.blocks import BlockStanding, drift_of, standing_of
from router.control.commands import Commands, ContendedError, Order, RefusedError
from router.control.feedback import Feedback
from router.control.lease import Lease
from router.control.looks import Looks
from router.control.probe import Prober
from router.control.ramp import Outlook, lagging_of, next_move, propose
from router.control.replicas import CONTROL, Pulses, Replica, ahead_of, replicas_of
from router.control.states import States
from router.control.watches import Watches
from router.control.webhooks import GatewayDecisions, Webhooks
from router.core.basis import Basis, Facts, ages_of
from router.core.config import TurnoutConfig
from router.core.decisions import Actor, ActorKind, Decision, Hold, Judgement, Outside, guard
from router.core.errors import (
    ConfigError,
    IllegalTransitionError,
    PluginError,
    StaleEpochError,
    StoreUnavailableError,
)
from router.core.observations import ALL, PAIR_VARIANT, STARTED
from router.core.ports import Heartbeat, RolloutPolicy, Store
from router.core.rollout import RolloutState
from router.core.slices import free_sources, merge
from router.core.traffic import Role
from router.settings import block_hash
from router.telemetry import logs

INTERVAL_S = 1.0
GAP_S = 0.02
"""Chosen: notices that come closer together than this share one turn, so that a burst of writes costs two turns."""

LEAVE_S = 1.0
"""How long an ending loop tries to give its lease back; after that the lease runs out by itself."""

Propose = Callable[[RolloutState, Judgement, Facts, float], Decision]

FILE = Actor(ActorKind.CONFIG, "file")


@dataclass(frozen=True, slots=True)
class View:
    """What the loop saw in its last good turn. `blocks` says of each Route why its block has not started yet.

    `epoch` is None while another process decides. `judgements` are of the rollouts that this one decides for, with all
    gates' numbers, some seconds old at most.
    """

    states: Mapping[str, RolloutState] = field(default_factory=dict)
    heartbeats: Sequence[Heartbeat] = ()
    epoch: int | None = None
    blocks: Mapping[str, str] = field(default_factory=dict)
    judgements: Mapping[str, Judgement] = field(default_factory=dict)


class ControlLoop:
    """Decides for all Routes while it holds the lease. `run` it once; `commands` and `states` work without it running.

    `now_s` is the wall clock, `monotonic` one that never jumps, both in seconds; `boot` names this process start.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        *,
        config: TurnoutConfig,
        store: Store,
        policies: Mapping[str, RolloutPolicy],
        prober: Prober,
        boot: str,
        now_s: Callable[[], float],
        monotonic: Callable[[], float],
        propose: Propose | None = None,
        interval_s: float = INTERVAL_S,
        webhooks: Webhooks | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._boot = boot
        self._now_s = now_s
        self._monotonic = monotonic
        self._policies = policies
        self._propose = propose or self._by_policy
        self._heartbeats: Sequence[Heartbeat] = ()
        self._arrived: dict[str, tuple[tuple[object, ...], float]] = {}
        self._interval_s = interval_s
        self._lease = Lease(store, boot)
        self._log = logs.get("control")
        self._changes = logs.Changes()
        self._wake = asyncio.Event()
        self._due: dict[str, int] = {}
        self._due_event = asyncio.Event()
        self._blocks: dict[str, str] = {}
        self._refusals: dict[str, str] = {}
        self._watches = Watches(monotonic, now_s)
        self._pulses = Pulses()
        self.states = States(
            store, config.routes, now_s, freeze=config.freeze, webhooks=webhooks, watches=self._watches
        )
        self.states.webhooks.gates.on_answer = self._wake.set
        self._gateways = GatewayDecisions(store, self.states.webhooks)
        self._looks = Looks(self.states, monotonic)
        self.commands = Commands(
            self.states, config.routes, policies, prober, block_hash, predictions=config.pairs.predictions
        )
        self.feedback = Feedback(store, self.states, config.routes, config.feedback, monotonic=monotonic)
        self.view = View()
        self.store_up = False
        self.turned_at_s = monotonic()
        """When the last turn ended, good or not, by the monotonic clock; from the start on until there is one."""

    def __repr__(self) -> str:
        store = "up" if self.store_up else "down"
        return f"ControlLoop({self._boot}, epoch {self.view.epoch}, store {store})"

    @property
    def silent_s(self) -> float:
        """Seconds since the last turn ended; grows only if the loop hangs or does not run."""
        return self._monotonic() - self.turned_at_s

    def replicas(self, route: str, heartbeats: Sequence[Heartbeat]) -> Sequence[Replica]:
        """Return the live gateway workers, by what this process has seen of their heartbeats until now."""
        return replicas_of(route, heartbeats, self._pulses.live(heartbeats, self._monotonic()))

    async def run(self) -> None:
        """Turn until cancelled; then give the lease back.

        A lost store or a broken Route never ends it. Anything that does is a bug: it is logged and raised as an
        ExceptionGroup, and the process shall end so that its parent starts a new one.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._turn_forever(), name="turns")
                tasks.create_task(self._listen_forever(), name="notices")
                tasks.create_task(self._start_blocks_forever(), name="blocks")
                tasks.create_task(self.feedback.run(), name="feedback")
        except BaseExceptionGroup as group:
            self._log.error("the control loop has failed", exc_info=group.exceptions[0])
            raise
        finally:
            await self._leave()

    async def turn(self) -> None:
        """Do one turn; never raises but for cancellation. Known trouble is logged once for each change."""
        try:
            await self._turn()
        except StoreUnavailableError as error:
            self._arrived.clear()  # what happened meanwhile is not known, so it was not silence
            self._pulses.forget()
            self._store_is(up=False, why=str(error))
        except StaleEpochError as error:
            self._lease.lose(str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not stop the turns that a later abort may need
            self._report("turn", error)
        else:
            self._store_is(up=True)
            self._changes.changed("turn", None)
        self.turned_at_s = self._monotonic()

    async def start_due_blocks(self) -> None:
        """Try to start every block that the last turn found due; the reason of a refusal stays in `view.blocks`."""
        due, self._due = self._due, {}
        await asyncio.gather(*(self._start_block(route, epoch) for route, epoch in due.items()))

    async def _turn(self) -> None:
        stored = await self.states.stored()
        self._heartbeats = heartbeats = await self._store.heartbeats()
        seen = [self.states.or_idle(name, self.states.newest.get(name)) for name in self._config.routes]
        self._watches.look(seen, heartbeats)
        await self._beat()  # after the look, so that it tells what was measured to whoever comes after us
        epoch = await self._lease.renew(max((state.epoch for state in stored.values()), default=0))
        if epoch is None:
            self._blocks.clear()
            self._arrived.clear()
        else:
            fenced = {name: await self._fence(state, epoch) for name, state in stored.items()}
            for name in self._config.routes:
                if self._is_readable(name) and (name not in stored or fenced[name] is not None):
                    await self._tend_safely(name, fenced.get(name), epoch)
        await self._gateways.look(stored, tell=epoch is not None)
        judgements = self._looks.judgements(stored.values() if epoch is not None else ())
        self.view = View(stored, heartbeats, epoch, dict(self._blocks), judgements)

    def _is_readable(self, route: str) -> bool:
        """Whether its stored state can be read; if not, that Route alone is left as it is, and told of once."""
        why = self.states.unreadable.get(route)
        if self._changes.changed(f"state {route}", why) and why is not None:
            self._log.error("unreadable state", route=route, why=why)
        return why is None

    async def _fence(self, state: RolloutState, epoch: int) -> RolloutState | None:
        """Write our epoch into a stored state; None when somebody else wrote first, then the next turn does it.

        The revision stays as it is: the content is the same, so gateways have nothing to apply, no exposure opens,
        and an operator's If-Match stays good. Safe all the same, because the store compares revision *and* epoch on
        each write: whoever read the state before the fence and writes after it fails on the epoch, whoever wrote
        before it makes the fence fail on the revision.
        """
        if state.epoch > epoch:
            raise StaleEpochError(f"{state.route} is at epoch {state.epoch}, this process has {epoch}")
        if state.epoch == epoch:
            return state
        fenced = replace(state, epoch=epoch)
        if await self._store.compare_and_set(fenced, state.revision, None):
            return fenced
        self._wake.set()
        return None

    async def _tend_safely(self, route: str, stored: RolloutState | None, epoch: int) -> None:
        """Tend one Route; a Route that breaks must not stop the others."""
        key = f"route {route}"
        try:
            await self._tend(route, stored, epoch)
        except (StoreUnavailableError, StaleEpochError):
            raise
        except Exception as error:  # noqa: BLE001 - see above
            self._report(key, error)
        else:
            self._changes.changed(key, None)

    async def _tend(self, route: str, stored: RolloutState | None, epoch: int) -> None:
        drift = drift_of(self._config.routes[route], stored)
        if self._changes.changed(f"drift {route}", drift) and drift is not None:
            self._log.warning("file and store differ", route=route, drift=drift)
        state = self.states.or_idle(route, stored)
        ahead = ahead_of(self.replicas(route, self._heartbeats), state.revision)
        if ahead is None:
            self._tend_block(state, epoch)
        else:
            self._blocks[route] = ahead
        if state.active:
            await self._decide(state)

    async def _decide(self, state: RolloutState) -> None:
        """Judge, propose, guard, apply, compare-and-set; a lost race does nothing, the next turn sees the truth.

        Also while it is paused, when nothing is proposed: harm is taken back then too.
        """
        evidence = await self.states.evidence(state)
        self._note_arrivals(state, evidence)
        facts, now_s = self._facts(state, self._heartbeats), self._now_s()
        look = self._looks.at(state, evidence)
        brief = self.states.judgement(state, evidence, look.ratios, detail=False)
        self.states.webhooks.gates.poll(state)
        outside = self._outside(state)
        if isinstance(guard(brief, state, self._proposal(state, brief, facts, now_s), now_s, outside), Hold):
            if self._looks.sample_due(state, now_s):
                basis = self.states.basis(state, evidence, now_s, ages_of(brief))
                await self._sample(replace(basis, facts=facts, outside=outside))
            return
        told = self.states.judgement(state, evidence)  # the ledger keeps every number and sentence
        proposal = self._proposal(state, told, facts, now_s)
        move = next_move(state, proposal, told, now_s, outside)
        if move.decision is proposal:  # nothing else speaks against it: now others are asked by webhook
            outside = replace(outside, unconfirmed=self.states.webhooks.gates.ask(state, proposal))
            move = next_move(state, proposal, told, now_s, outside)
        if move.record is not None:
            basis = self.states.basis(state, evidence, now_s, ages_of(told))
            basis = replace(basis, proposals=(proposal,), facts=facts, outside=outside)
            await self.states.write(state, move, basis)

    async def _sample(self, basis: Basis) -> None:
        """Keep the evidence of one moment for `rejudge`; never at the cost of a decision."""
        with contextlib.suppress(StoreUnavailableError):
            await self._store.add_sample(basis)

    def outlook(self, state: RolloutState, judgement: Judgement, heartbeats: Sequence[Heartbeat]) -> Outlook:
        """Return what control would make of this judgement now: what the loop does, in any control process.

        Only silence is known to the process that decides alone; any other counts none.
        """
        facts, outside, now_s = self._facts(state, heartbeats), self._outside(state), self._now_s()
        if not state.active:
            return Outlook(None, facts, outside, now_s)
        proposal = self._proposal(state, judgement, facts, now_s)
        outside = replace(outside, unconfirmed=self.states.webhooks.gates.said(state, proposal))
        move = next_move(state, proposal, judgement, now_s, outside)
        return Outlook(move.decision, facts, outside, now_s)

    def _outside(self, state: RolloutState) -> Outside:
        return replace(self.states.outside(state.route), demanded=self.states.webhooks.gates.demanded(state))

    def _proposal(self, state: RolloutState, judgement: Judgement, facts: Facts, now_s: float) -> Decision:
        """Return what to propose; a plug-in's mistake is a Hold, so that the judge can roll back all the same."""
        try:
            return self._propose(state, judgement, facts, now_s)
        except Exception as error:  # noqa: BLE001 - see above
            self._report(f"policy of {state.route}", error)
            return Hold(reason=f"the policy has failed: {type(error).__name__}")

    def _by_policy(self, state: RolloutState, judgement: Judgement, facts: Facts, now_s: float) -> Decision:
        return propose(self._policies[state.policy], state, judgement, facts, now_s)

    def _note_arrivals(self, state: RolloutState, evidence: Evidence) -> None:
        """Note whether evidence of the candidate has arrived since the last turn, by the clock that never jumps.

        Silence is counted from the state's last change, and only over turns that could see the evidence.
        """
        begun = [evidence.value(state.exposure.id, STARTED, who, ALL) for who in (Role.CANDIDATE, PAIR_VARIANT)]
        key = (state.id, state.revision, *begun)
        known = self._arrived.get(state.route)
        if known is None or known[0] != key:
            self._arrived[state.route] = (key, self._monotonic())

    def _facts(self, state: RolloutState, heartbeats: Sequence[Heartbeat]) -> Facts:
        key, since = self._arrived.get(state.route, ((), 0.0))
        idle_s = self._monotonic() - since if key[:2] == (state.id, state.revision) else 0.0
        replicas = self.replicas(state.route, heartbeats)
        seen = [one.popular[state.route] for one in heartbeats if state.route in one.popular]
        popular = merge(seen, state.id) if free_sources(state.slices) else None
        return Facts(idle_s, lagging_of(state, replicas, heartbeats), popular)

    def _tend_block(self, state: RolloutState, epoch: int) -> None:
        """Note what is to become of the file's block; starting it waits for a candidate: another task's work."""
        spec = self._config.rollouts.get(state.route)
        if spec is None:
            return
        match standing_of(state, block_hash(spec)):
            case BlockStanding.SEEN:
                self._blocks.pop(state.route, None)
                self._refusals.pop(state.route, None)
            case BlockStanding.WAITING:
                self._blocks[state.route] = f"waits until {state.id} has ended"
            case BlockStanding.DUE:
                self._blocks[state.route] = self._refusals.get(state.route, "is about to start")
                self._due[state.route] = epoch
                self._due_event.set()

    async def _start_block(self, route: str, epoch: int) -> None:
        order = Order(FILE, "the file's rollout block is new")
        try:
            await self.commands.start_block(route, self._config.rollouts[route], order, epoch)
        except (RefusedError, ConfigError, PluginError) as error:
            self._refusals[route] = str(error)
            if self._changes.changed(f"block {route}", str(error)):
                self._log.warning("the file's rollout block cannot start yet", route=route, why=str(error))
        except StaleEpochError as error:
            self._lease.lose(str(error))
        except (IllegalTransitionError, ContendedError, StoreUnavailableError):
            return  # somebody else was first, or the store is away: the next turn sees the truth
        else:
            self._refusals.pop(route, None)
            self._changes.changed(f"block {route}", None)

    async def _beat(self) -> None:
        heartbeat = Heartbeat(
            boot=self._boot, kind=CONTROL, host=socket.gethostname(), pid=os.getpid(), at_s=self._now_s(),
            config_digest=self._config.digest, applied={}, watched=self._watches.told(),
        )  # fmt: skip
        await self._store.beat(heartbeat)

    async def _turn_forever(self) -> None:
        while True:
            self._wake.clear()
            await self.turn()
            await asyncio.sleep(GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._interval_s - GAP_S, 0)):
                    await self._wake.wait()

    async def _listen_forever(self) -> None:
        """Wake the turns on each notice; while the line is down they come by the clock alone."""
        while True:
            fresh = True  # what happened while there was no line is found by a turn after it stands
            with contextlib.suppress(StoreUnavailableError):
                async for notice in self._store.notices():
                    if notice.route or fresh:
                        self._wake.set()
                    fresh = False
            await asyncio.sleep(min(self._interval_s, INTERVAL_S))

    async def _start_blocks_forever(self) -> None:
        while True:
            await self._due_event.wait()
            self._due_event.clear()
            await self.start_due_blocks()

    async def _leave(self) -> None:
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._lease.release()  # the heartbeat stays: it tells the next process what was measured

    def _store_is(self, *, up: bool, why: str = "") -> None:
        self.store_up = up
        if self._changes.changed("store", up):
            if up:
                self._log.info("the store answers")
            else:
                self._log.warning("the store is away; nothing is decided until it is back", why=why)

    def _report(self, key: str, error: Exception) -> None:
        if self._changes.changed(key, f"{type(error).__name__}: {error}"):
            self._log.error("a turn has failed; it is tried again each second", what=key, exc_info=error)
