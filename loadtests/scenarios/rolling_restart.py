"""Three gateways behind HAProxy are restarted one after another, while the candidate serves half of all clients."""

from loadtests.under_load.protocols import CHAT, DIGITS
from loadtests.under_load.scenario import Fault, Limits, Scenario, Settings
from loadtests.under_load.shapes import constant


def half(_: float) -> Settings:
    """Return a Route that stays at half."""
    steps = [{"weight": "50%", "bake": "1h"}]
    return {"rollout": {"candidate": "v2", "policy": "canary", "steps": steps}}


SCENARIO = Scenario(
    says="each gateway says that it is unready, serves on, finishes what it has, comes back: nobody loses a request",
    shape=constant,
    route=half,
    limits=Limits(reached="progressing"),
    fault=Fault("gateways", "restart", at_weight_bp=5_000),
    protocols=(DIGITS, CHAT),
    gateways=3,
)
