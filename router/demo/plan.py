"""The walk as a table: through which levels the demo takes v2, by which commands, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final, Literal

ROUTE: Final = "digits"
STABLE: Final = "v1"
CANDIDATE: Final = "v2"

MIN_SECONDS: Final = 10.0
"""Below, a canary phase has fewer than 300 requests, and its share says nothing. Chosen."""

DEFAULT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """One call of the admin API; `path` goes on after `/v1/routes/digits/`."""

    method: Literal["POST", "PATCH"]
    path: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Leg:
    """One level of the walk: `command` leads to it, then it lasts `part` of the whole time.

    `to` is the policy it belongs to, or `promoted`; `weight_bp` v2's share of live answers as a candidate.
    `meaning` says in a few words what happens to requests. Without a command nothing changes.
    """

    name: str
    to: str
    weight_bp: int
    part: float
    meaning: str
    command: Command | None = None

    @property
    def measures_share(self) -> bool:
        """Whether the candidate's share of the answers should be `weight_bp`."""
        return self.to not in ("", "promoted")


def _step(weight: str, mirror: str) -> dict[str, object]:
    # `approval`: an operator walks, so control shall not go ahead on its own, however long a leg is.
    return {"weight": weight, "mirror": mirror, "approval": True}


SHADOW = Command(
    "POST",
    "rollouts",
    {
        "candidate": CANDIDATE,
        "policy": "shadow",
        "steps": [_step("0%", "100%")],
        "reason": "demo: compare v2 with v1 on every request",
    },
)
CANARY = Command(
    "PATCH",
    "rollout",
    {
        "policy": "canary",
        "steps": [_step("10%", "20%"), _step("25%", "20%"), _step("50%", "20%")],
        "reason": "demo: the pairs look good, some users get v2",
    },
)
RAISE = Command("POST", "rollout/promote", {"reason": "demo: no errors, more users get v2"})
BLUE_GREEN = Command(
    "PATCH",
    "rollout",
    {
        "policy": "blue_green",
        "steps": [_step("100%", "20%")],
        "reason": "demo: everybody gets v2, v1 stays ready",
    },
)
PROMOTE = Command("POST", "rollout/promote", {"full": True, "reason": "demo: v2 has proved itself"})

LEGS: Final[Sequence[Leg]] = (
    Leg("v1 alone", "", 0, 0.05, "v1 answers everybody"),
    Leg("shadow", "shadow", 0, 0.20, "v1 answers everybody, v2 gets a copy of every request", SHADOW),
    Leg("canary 10%", "canary", 1_000, 0.20, "v2 answers 10% of the users, 20% copied to the other", CANARY),
    Leg("canary 25%", "canary", 2_500, 0.15, "v2 answers 25% of the users, 20% copied to the other", RAISE),
    Leg("canary 50%", "canary", 5_000, 0.15, "v2 answers 50% of the users, 20% copied to the other", RAISE),
    Leg("blue/green", "blue_green", 10_000, 0.15, "v2 answers everybody, v1 still gets 20% as copies", BLUE_GREEN),
    Leg("promoted", "promoted", 0, 0.10, "v2 is the stable version now", PROMOTE),
)


def leg_ends_s(seconds: float, legs: Sequence[Leg] = LEGS) -> tuple[float, ...]:
    """Return when each leg ends, in seconds after the start of a walk that takes `seconds`."""
    return tuple(seconds * part for part in accumulate(leg.part for leg in legs))


def config_of(*, v1_url: str, v2_url: str, ports: Mapping[str, int]) -> Mapping[str, object]:
    """Return the demo's turnout.yaml as plain data; `ports` of gateway, admin and ops, 0 for a free one."""
    config = {
        # Two workers, so that a flip has more than one replica to reach.
        "gateway": {"port": ports["gateway"], "workers": 2},
        "admin": {"port": ports["admin"]},
        "ops": {"port": ports["ops"]},
        "routes": {
            ROUTE: {
                "match": {"path_prefix": f"/v2/models/{ROUTE}"},
                "adapter": "open_inference",
                "affinity": ["header:x-user-id"],
                "variants": {STABLE: {"url": v1_url}, CANDIDATE: {"url": v2_url}},
                "stable": STABLE,
            }
        },
    }
    return MappingProxyType(config)
