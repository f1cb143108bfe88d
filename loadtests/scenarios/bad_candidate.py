"""A candidate goes bad while it serves a quarter of the clients: every prediction is a 500 from then on."""

from loadtests.under_load.scenario import UNPROTECTED, Fault, Limits, Scenario, canary
from loadtests.under_load.shapes import constant

SCENARIO = Scenario(
    says="v2 answers nothing but 500 once it serves 25 %: stable answers for it, its traffic goes, it is rolled back",
    shape=constant,
    route=canary,
    limits=Limits(reached="rolled_back"),
    fault=Fault("candidate", "spoil", at_weight_bp=2_500),
    without_protection=UNPROTECTED,
)
