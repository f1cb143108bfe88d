"""The play as data: which acts there are, what each must come to, and the configuration they run under. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from types import MappingProxyType
from typing import Any, Final

from router.core.rollout import Phase

ROUTE: Final = "digits"
FIRST_STABLE: Final = "v1"
DAMAGED: Final = "recall:8"
"""The gate that must be to blame for v3's end: see `router.demo.models.fit_v3`."""

CRASH_AT_BP: Final = 2_500
CRASH_AFTER: Final = 50
"""Requests that the candidate answers at CRASH_AT_BP before it is killed: enough for the view to show them."""


@dataclass(frozen=True, slots=True)
class Act:
    """One rollout from its start to its end.

    `expected` is the phase it must end in. `blamed` is the gate that must have decided it, empty where that is not
    foreseen. `in_file`: the file's own block starts it, else the demo asks for it. `crashes`: its server is killed
    while it serves.
    """

    name: str
    candidate: str
    title: str
    expected: Phase
    blamed: str = ""
    in_file: bool = False
    crashes: bool = False

    @property
    def ends(self) -> frozenset[str]:
        """Phases from which the rollout does not go on by itself. After a breaker's halt the judge still does."""
        final = {Phase.PROMOTED, Phase.ROLLED_BACK}
        return frozenset(final if self.crashes else {*final, Phase.PAUSED})


@dataclass(frozen=True, slots=True)
class Ending:
    """How an act ended: the phase then, or `not started`; after how long; and what was decided, oldest first.

    `waited_for` says what was missing when the time was up, empty where it was not.
    """

    act: Act
    result: str
    seconds: float
    decisions: Sequence[Mapping[str, Any]]
    waited_for: str = ""

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The decision that ended it, or None."""
        return self.decisions[-1] if self.decisions else None


ACTS: Final[Mapping[str, Sequence[Act]]] = MappingProxyType(
    {
        "digit": (
            Act("act one", "v2", "v2 in place of v1", Phase.PROMOTED, in_file=True),
            Act("act two", "v3", "v3 in place of v2", Phase.ROLLED_BACK, blamed=DAMAGED),
        ),
        "crash": (Act("crash", "v2", "v2 in place of v1, and dies", Phase.ROLLED_BACK, in_file=True, crashes=True),),
    }
)
"""What `--bad` may be: which sort of bad candidate is shown."""


def models_of(acts: Sequence[Act]) -> tuple[str, ...]:
    """Return the models that these acts need, the first stable one first."""
    return (FIRST_STABLE, *(act.candidate for act in acts))


def config_text(template: str, *, urls: Mapping[str, str], ports: Mapping[str, int]) -> str:
    """Return turnout.yaml; `urls` by model, `ports` of gateway, admin and ops, 0 for a free one.

    A model that does not run in this play gets an address at which nobody answers.
    """
    known = {f"{name}_url": urls.get(name, NOBODY) for name in ("v1", "v2", "v3")}
    return Template(template).substitute({f"{name}_port": str(port) for name, port in ports.items()} | known)


NOBODY: Final = "http://127.0.0.1:9"
"""The discard port: nothing listens there, and nothing is sent there, because no rollout names that variant."""


def block_for(act: Act, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rollout block of the configuration, asked of this act's candidate."""
    block: dict[str, Any] = config["routes"][ROUTE]["rollout"]
    return block | {"candidate": act.candidate, "reason": f"demo: {act.title}"}


def must_crash(act: Act, rollout: Mapping[str, Any]) -> bool:
    """Whether the moment for this act's crash has come, by the admin API's body of its rollout."""
    served: int = rollout["judgement"]["counts"]["requests_candidate"]
    weight_bp: int = rollout["exposure"]["weight_bp"]
    return act.crashes and weight_bp >= CRASH_AT_BP and served >= CRASH_AFTER
