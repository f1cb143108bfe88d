"""Every protocol at once, each request copied to the candidate, over two short days."""

from loadtests.under_load.protocols import CHAT, PROTOCOLS
from loadtests.under_load.scenario import Limits, Scenario, Settings
from loadtests.under_load.shapes import diurnal


def shadow(seconds: float) -> Settings:
    """Return a Route whose candidate gets copies of everything and answers nobody."""
    steps = [{"mirror": "100%", "bake": f"{max(1, round(seconds / 4))}s", "min_pairs": 20}]
    gates = [{"metric": "error_rate", "max_increase": "20pp"}]  # a few pairs of each protocol must be proof enough
    return {
        "timeouts": {"total": "5s"},  # proof waits until all has ended that could
        "mirror": {"timeout": "2s"},
        "rollout": {"candidate": "v2", "policy": "shadow", "steps": steps, "gates": gates},
    }


SCENARIO = Scenario(
    says="v2 gets a copy of every request of seven protocols, streams too, and all of them pass as shadows",
    shape=diurnal,
    route=shadow,
    limits=Limits(reached="paused", reason="shadow_passed", p99_slack_ms=50.0),  # twice the work on the same cores
    protocols=(*PROTOCOLS, CHAT),
    plant="stalls",
)
