"""What operators can ask of a rollout, whether or not the control loop is alive and wherever the lease is.

Each command reads the stored state, makes a Move of it (guard, apply) and writes that by compare-and-set. It keeps
the stored epoch: an operator outranks no lease holder and is outranked by none, the revision alone decides who was
first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from router.control.blocks import BlockStanding, next_rollout_id, standing_of
from router.control.preflight import (
    check_candidate,
    check_gates,
    gates_refusal,
    mirror_refusal,
    plan_of,
    replan,
    start_refusal,
)
from router.control.probe import Prober
from router.control.states import States
from router.core.basis import ages_of
from router.core.decisions import (
    Actor,
    Advance,
    Approve,
    Decision,
    Hold,
    Judgement,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    Undo,
    guard,
)
from router.core.errors import IllegalTransitionError, StaleEpochError, TurnoutError
from router.core.moves import make_move
from router.core.ports import RolloutPolicy
from router.core.rollout import Phase, RolloutState, Spec, Step, block_hash_of, legal_moves
from router.core.slices import places_of
from router.core.traffic import Route

TRIES = 5
"""How often a command re-reads after a lost race. Chosen: with one write a second by the loop and a few operators,
losing five times in a row means that something writes in a tight loop."""


class UnknownRouteError(TurnoutError):
    """No Route of this name; `known` are those there are."""

    def __init__(self, route: str, known: Sequence[str]) -> None:
        super().__init__(f"no route {route!r}; known: {', '.join(known)}")
        self.known = tuple(known)


class RevisionMismatchError(TurnoutError):
    """The caller acted on an older (or newer) state than the stored one; nothing was changed."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"the rollout is at revision {actual}, not {expected}; read it again and decide anew")
        self.expected = expected
        self.actual = actual


class RefusedError(TurnoutError):
    """The command is possible in this phase, yet refused for a reason; `state` is what is stored now."""

    def __init__(self, reason: str, state: RolloutState) -> None:
        super().__init__(reason)
        self.state = state


class ContendedError(TurnoutError):
    """Others were first several times in a row; nothing was changed by this command."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who commands, why, and on which revision; `expected_revision` None means whatever is stored."""

    actor: Actor
    reason: str
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different about a running rollout; None leaves as it is. Shares in basis points."""

    weight_bp: int | None = None
    mirror_bp: int | None = None
    policy: str | None = None
    steps: tuple[Step, ...] = ()


Proposals = Callable[[RolloutState], "Sequence[Decision]"]


class Commands:
    """The operators' commands. Every method returns the state that was written.

    All raise UnknownRouteError, StoreUnavailableError (it may have happened), RevisionMismatchError, ContendedError,
    IllegalTransitionError and RefusedError; cancelled, the write may or may not have happened.
    """

    def __init__(  # noqa: PLR0913 - all that it depends on
        self,
        states: States,
        routes: Mapping[str, Route],
        policies: Mapping[str, RolloutPolicy],
        prober: Prober,
        block_hash: Callable[[Spec], str],
        *,
        predictions: bool = True,
    ) -> None:
        self._states = states
        self._routes = routes
        self.policies = policies
        self._prober = prober
        self._block_hash = block_hash
        self._predictions = predictions

    def route(self, name: str) -> Route:
        """Return the Route; raises UnknownRouteError."""
        found = self._routes.get(name)
        if found is None:
            raise UnknownRouteError(name, tuple(self._routes))
        return found

    async def start(self, route: str, spec: Spec, order: Order) -> RolloutState:
        """Begin a rollout under a fresh id, once its candidate is there and healthy.

        Also raises ConfigError for a candidate or policy that does not exist.
        """
        return await self._begin(route, order, lambda _: spec, lambda _: self._block_hash(spec))

    async def start_block(self, route: str, spec: Spec, order: Order, epoch: int) -> RolloutState:
        """Begin a rollout that the file asks for, unless the store has seen it: that is refused.

        For the control loop: the write carries its epoch and raises StaleEpochError if the store has seen a newer one.
        """

        def unseen_spec(state: RolloutState) -> Spec:
            if standing_of(state, self._block_hash(spec)) is BlockStanding.SEEN:
                raise RefusedError("this block was started before", state)
            return spec

        return await self._begin(route, order, unseen_spec, lambda _: self._block_hash(spec), epoch)

    async def retry(self, route: str, order: Order) -> RolloutState:
        """Begin the next attempt of the Spec that was rolled back last; raises as `start` does."""

        def last_spec(state: RolloutState) -> Spec:
            if state.spec is None or state.phase is not Phase.ROLLED_BACK:
                raise RefusedError("only a rollout that was rolled back can be tried again", state)
            return state.spec

        return await self._begin(route, order, last_spec, lambda state: block_hash_of(state.id))

    async def pause(self, route: str, order: Order) -> RolloutState:
        """Stop moving; traffic stays as it is."""
        return await self._move(route, order, lambda _: [Pause(reason=order.reason, actor=order.actor)])

    async def resume(self, route: str, order: Order) -> RolloutState:
        """Go on after a pause."""
        return await self._move(route, order, lambda _: [Resume(reason=order.reason, actor=order.actor)])

    async def approve(self, route: str, order: Order) -> RolloutState:
        """Agree that the present step may be left."""
        return await self._move(route, order, lambda _: [Approve(reason=order.reason, actor=order.actor)])

    async def abort(self, route: str, order: Order) -> RolloutState:
        """Take the candidate's traffic away for good."""
        return await self._move(route, order, lambda _: [RollBack(reason=order.reason, actor=order.actor)])

    async def undo(self, route: str, order: Order) -> RolloutState:
        """After a promotion: put the previous stable variant back, for `rollback_window`, if it can take traffic."""
        state = await self._read(route, order)
        old, variants = state.previous_stable, self.route(route).variants
        if old:
            self._check(state, Undo(reason=order.reason, actor=order.actor), None)
            if old not in variants:
                raise RefusedError(f"{old} is not in the file any more; put it back to be able to undo", state)
            unwell = await self._prober(variants[old])
            if unwell is not None:
                raise RefusedError(f"{old} is not ready to take all traffic back: {unwell}", state)
        return await self._move(route, order, lambda _: [Undo(reason=order.reason, actor=order.actor)])

    async def promote(self, route: str, order: Order, *, full: bool) -> RolloutState:
        """Go to the next step, or from the last one make the candidate stable if the judge agrees.

        `full` makes it stable at once, from any step, by the operator's word.
        """

        def proposals(state: RolloutState) -> list[Decision]:
            if not full and state.step + 1 < len(state.steps):
                return [Advance(reason=order.reason, actor=order.actor)]
            return [Promote(reason=order.reason, actor=order.actor, full=full)]

        return await self._move(route, order, proposals)

    async def change(self, route: str, change: Change, order: Order) -> RolloutState:
        """Set policy, steps, weight and mirror of a running rollout in one write.

        A new policy begins at its first step; weight and mirror then count instead of that step's. Also raises
        ConfigError for an unknown policy.
        """
        target = self.route(route)

        def proposals(state: RolloutState) -> list[Decision]:
            made: list[Decision] = []
            if change.policy is not None or change.steps:
                made.append(self._set_policy(state, change, order))
            if change.weight_bp is not None or change.mirror_bp is not None:
                weight_bp, mirror_bp = change.weight_bp, change.mirror_bp
                made.append(
                    SetExposure(reason=order.reason, actor=order.actor, weight_bp=weight_bp, mirror_bp=mirror_bp)
                )
            walked = [step for one in made if isinstance(one, SetPolicy) for step in one.steps]
            refusal = mirror_refusal(target, [*walked, Step(mirror_bp=change.mirror_bp or 0)])
            if refusal is not None:
                raise RefusedError(refusal, state)
            return made

        return await self._move(route, order, proposals)

    def _set_policy(self, state: RolloutState, change: Change, order: Order) -> SetPolicy:
        if state.spec is None or not state.active:
            raise IllegalTransitionError(state.phase, SetPolicy.kind, legal_moves(state.phase))
        policy = change.policy or state.policy
        check_gates(state.spec, change.steps)
        steps = replan(self.policies, state.spec, policy, change.steps)
        refusal = gates_refusal(state.spec, steps, predictions=self._predictions)
        if refusal is not None:
            raise RefusedError(refusal, state)
        return SetPolicy(reason=order.reason, actor=order.actor, policy=policy, steps=steps)

    async def _begin(
        self,
        route: str,
        order: Order,
        spec_of: Callable[[RolloutState], Spec],
        block_of: Callable[[RolloutState], str],
        epoch: int | None = None,
    ) -> RolloutState:
        target = self.route(route)

        def proposals(state: RolloutState) -> list[Decision]:
            spec = spec_of(state)
            check_candidate(target, spec.candidate)
            steps = plan_of(self.policies, spec)
            refusal = start_refusal(target, state, spec, steps, predictions=self._predictions)
            if refusal is not None:
                raise RefusedError(refusal, state)
            rollout_id = next_rollout_id(state, block_of(state))
            named = [gate.slice for gate in spec.gates if gate.slice is not None]
            slices = places_of(target.slices, target.max_slices, named)
            start = Start(
                reason=order.reason, actor=order.actor, rollout_id=rollout_id, spec=spec, steps=steps, slices=slices
            )
            return [start]

        state = await self._read(route, order)
        (start,) = proposals(state)
        # Before candidate and webhooks are asked: what is refused anyway shall not wait for them.
        self._check(state, start, None)
        candidate = spec_of(state).candidate
        unwell = await self._prober(target.variants[candidate])
        if unwell is not None:
            raise RefusedError(f"candidate {candidate} is not ready: {unwell}", state)
        self._check(state, start, await self._states.webhooks.gates.confirmed(state, start))
        return await self._move(route, order, proposals, epoch)

    def _check(self, state: RolloutState, wanted: Decision, unconfirmed: str | None) -> None:
        outside = replace(self._states.outside(state.route), unconfirmed=unconfirmed)
        allowed = guard(Judgement(), state, wanted, self._states.now_s(), outside)
        if isinstance(allowed, Hold):
            raise RefusedError(allowed.reason, state)

    async def _read(self, route: str, order: Order) -> RolloutState:
        self.route(route)
        state = await self._states.read(route)
        if order.expected_revision is not None and state.revision != order.expected_revision:
            raise RevisionMismatchError(order.expected_revision, state.revision)
        return state

    async def _move(self, route: str, order: Order, proposals: Proposals, epoch: int | None = None) -> RolloutState:
        for _ in range(TRIES):
            state = await self._read(route, order)
            evidence, judgement = await self._states.evidence_or_none(state)
            now_s = self._states.now_s()
            bound = state if epoch is None else replace(state, epoch=epoch)
            wanted = proposals(bound)
            outside = self._states.outside(route)
            move = make_move(bound, wanted, judgement, now_s, outside)
            if isinstance(move.decision, Hold):
                raise RefusedError(move.decision.reason, state)
            try:
                basis = self._states.basis(bound, evidence, now_s, ages_of(judgement))
                basis = replace(basis, proposals=tuple(wanted), outside=outside)
                written = await self._states.write(state, move, basis)
            except StaleEpochError:
                if epoch is not None:
                    raise
                continue  # a new lease holder wrote its epoch in between; nothing else changed
            if not written:
                continue
            if move.decision is not wanted[0]:
                raise RefusedError(f"rolled back instead: {move.decision.reason}", move.state)
            return move.state
        raise ContendedError(f"others changed {route} {TRIES} times in a row; nothing was done, try again")
