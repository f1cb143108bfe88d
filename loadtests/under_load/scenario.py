"""What a scenario is: the load, the rollout under it, what goes wrong meanwhile, and the limits that hold all the same.

Pure values; the scenarios themselves are the files of `loadtests/scenarios`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from loadtests.under_load.protocols import DIGITS, route_of
from loadtests.under_load.shapes import Shape

DRAIN_DELAY = "2s"
"""How long a gateway serves on, unready, before it refuses connections: four checks of HAProxy's."""

SCENARIOS = Path(__file__).parents[1] / "scenarios"

Settings = Mapping[str, Any]
"""A part of turnout.yaml."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a part of the system once the candidate serves `at_weight_bp`.

    `undo` follows after that share of the run. A `store` is killed, a `candidate` hangs, is killed or is spoiled, and
    `gateways` are restarted one after another.
    """

    part: Literal["store", "candidate", "gateways"]
    does: Literal["kill", "hang", "spoil", "restart"]
    at_weight_bp: int
    undo: Literal["", "restart"] = ""
    undo_after: float = 0.0

    @property
    def lasts(self) -> bool:
        """Whether it goes on to the end of the run."""
        return not self.undo and self.does != "restart"


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold.

    `errors`: most requests through Turnout that failed. `reached`: the phase in which each rollout must end, and in
    `reason`, if given, why. The p99 through Turnout may be `p99_times` that of direct requests in the same run and
    `p99_slack_ms` more, in the closed and in the open loop. `held`: while the fault lasts the candidate serves its
    weight, no more and no less.
    """

    reached: str
    errors: int = 0
    reason: str = ""
    p99_times: float = 2.0
    p99_slack_ms: float = 20.0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load test. `route` gives, for a run of so many seconds, what each Route is configured with.

    `protection` are the settings without which the limits must be missed, `plant` is a plant of
    `loadtests.planted_turnout` where no setting could do that. `gateways`: that many behind HAProxy, each of which
    leaves in order within DRAIN_DELAY (without protection: at once); 0 for one `turnout serve`.
    """

    says: str
    shape: Shape
    route: Callable[[float], Settings]
    limits: Limits
    fault: Fault | None = None
    protocols: tuple[str, ...] = (DIGITS,)
    without_protection: Settings = field(default_factory=dict)
    plant: str = ""
    gateways: int = 0


def names() -> list[str]:
    """Return what scenarios there are, as they are called on the command line."""
    return sorted(file.stem.replace("_", "-") for file in SCENARIOS.glob("*.py"))


def load(name: str) -> Scenario:
    """Return the scenario of that name, one of `names`."""
    found: Scenario = import_module(f"loadtests.scenarios.{name.replace('-', '_')}").SCENARIO
    return found


def routes(scenario: Scenario, seconds: float, urls: Mapping[str, str], *, protected: bool) -> Settings:
    """Return the `routes` of turnout.yaml, one for each protocol; `urls` by variant."""
    variants = {name: {"url": url} for name, url in urls.items()}
    common = {"affinity": ["header:x-user-id"], "variants": variants, "stable": "v1", "mirror_safe": True}
    asked: Settings = {**common, **scenario.route(seconds)}
    if not protected:
        asked = merged(asked, scenario.without_protection)
    return {name: {**route_of(name), **asked} for name in scenario.protocols}


def merged(settings: Settings, changes: Settings) -> Settings:
    """Return the settings with the changes in their place, block by block."""
    return {
        **settings,
        **{
            name: merged(settings.get(name, {}), change) if isinstance(change, Mapping) else change
            for name, change in changes.items()
        },
    }


def canary(seconds: float, candidate: str = "v2") -> Settings:
    """Return a Route with a canary that can be promoted within a run of so many seconds, copies all the way.

    A step takes a twentieth of the run at least, so that several seconds of each are seen in a run of minutes.
    """
    bake = f"{max(1, round(seconds / 20))}s"
    steps = [{"weight": weight, "mirror": "100%", "bake": bake, "min_requests": 20} for weight in ("10%", "25%", "50%")]
    return {
        "timeouts": {"total": "5s"},
        "mirror": {"timeout": "2s"},
        "rescue": {"first_byte": "500ms"},
        "rollout": {
            "candidate": candidate,
            "policy": "canary",
            "steps": [{"mirror": "100%", "bake": bake, "min_pairs": 50}, *steps],
            "gates": [
                {"metric": "error_rate", "max_increase": "2pp"},
                {"metric": "disagreement", "max": "15%"},  # v2 is right where v1 is wrong: 5 % differ
            ],
        },
    }


UNPROTECTED: Settings = {
    "rescue": {"enabled": False},
    "rollout": {"breaker": {"consecutive": 1_000_000, "window": 1_000, "ratio": "100%", "fleet": "local"}},
}
"""Neither rescue nor, within a run of minutes, breaker: clients see what the candidate does until the judge ends it."""
