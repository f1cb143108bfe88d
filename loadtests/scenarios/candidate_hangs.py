"""A candidate stops answering while it serves a quarter of the clients: it takes requests and says nothing."""

from loadtests.under_load.scenario import UNPROTECTED, Fault, Limits, Scenario, canary
from loadtests.under_load.shapes import constant

SCENARIO = Scenario(
    says="v2 hangs once it serves 25 %: stable answers for it after rescue.first_byte, then nobody is sent there",
    shape=constant,
    route=canary,
    # A few requests of each worker wait those 500 ms; in a run of seconds they are more than 1 %.
    limits=Limits(reached="rolled_back", p99_slack_ms=600.0),
    fault=Fault("candidate", "hang", at_weight_bp=2_500),
    without_protection=UNPROTECTED,
)
