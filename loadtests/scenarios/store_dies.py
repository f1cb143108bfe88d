"""The store is killed in the middle of a canary, and comes back later."""

from loadtests.under_load.scenario import Fault, Limits, Scenario, canary
from loadtests.under_load.shapes import constant

SCENARIO = Scenario(
    says="Valkey is killed at 25 % and away for a quarter of the run: the split stays, then the rollout goes on",
    shape=constant,
    route=canary,
    limits=Limits(reached="promoted", held=True),
    fault=Fault("store", "kill", at_weight_bp=2_500, undo="restart", undo_after=0.25),
    plant="asks_store",
)
