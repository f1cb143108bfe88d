"""A control process in parts, to be put together as a test needs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from router.control.commands import Commands, Order
from router.control.loop import ControlLoop, Propose
from router.control.states import States
from router.control.webhooks import Webhooks
from router.core.config import TurnoutConfig
from router.core.decisions import Actor, ActorKind
from router.core.ports import RolloutPolicy, Store
from router.core.rollout import Spec, Step
from router.core.traffic import Backend, Match, Route, Variant
from router.plugins import load_policies
from router.settings import block_hash
from router.testing import ManualClock

OLGA = Actor(ActorKind.OPERATOR, "olga")
CANARY = Spec("v2", "canary", steps=(Step(mirror_bp=10_000), Step(weight_bp=1_000), Step(weight_bp=5_000)))


def route_named(name: str, *, mirror_safe: bool = True) -> Route:
    """Return a Route with the variants v1 (stable), v2 and v3."""
    variants = {
        version: Variant(version, (Backend("127.0.0.1", 9_000 + index),))
        for index, version in enumerate(("v1", "v2", "v3"))
    }
    match = Match(f"/{name}")
    return Route(name, match, "open_inference", variants, "v1", mirror_safe=mirror_safe)


@dataclass
class FakeProber:
    """Says of each variant what the test wrote down; well by default."""

    unwell: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, variant: Variant) -> str | None:
        """Answer as a Prober."""
        self.asked.append(variant.name)
        return self.unwell.get(variant.name)


@dataclass
class Plant:
    """A control process in parts: one store that all share, one clock, one prober."""

    new_store: Callable[[], Store]
    config: TurnoutConfig
    clock: ManualClock = field(default_factory=lambda: ManualClock(1_800_000_000.0))
    prober: FakeProber = field(default_factory=FakeProber)
    policies: Mapping[str, RolloutPolicy] = field(default_factory=load_policies)

    def __post_init__(self) -> None:
        self.store = self.new_store()
        self.states = States(self.store, self.config.routes, self.clock, freeze=self.config.freeze)
        self.commands = self.commands_on(self.store)

    def commands_on(self, store: Store) -> Commands:
        """Return the operators' commands of another process, with its own client of the store."""
        states = States(store, self.config.routes, self.clock, freeze=self.config.freeze)
        return Commands(states, self.config.routes, self.policies, self.prober, block_hash)

    def loop(
        self,
        boot: str = "control-1",
        *,
        blocks: Mapping[str, Spec] | None = None,
        propose: Propose | None = None,
        interval_s: float = 1.0,
        webhooks: Webhooks | None = None,
    ) -> ControlLoop:
        """Return another control process on the same store; `blocks` are its file's rollout blocks."""
        return ControlLoop(
            config=replace(self.config, rollouts=blocks or {}),
            store=self.new_store(),
            policies=self.policies,
            prober=self.prober,
            boot=boot,
            now_s=self.clock,
            monotonic=self.clock,
            propose=propose,
            interval_s=interval_s,
            webhooks=webhooks,
        )


def order(reason: str = "because", revision: int | None = None) -> Order:
    """Return what olga commands."""
    return Order(OLGA, reason, revision)
