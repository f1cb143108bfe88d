"""A better candidate is walked from copies to promotion while the load rises to its full height."""

from loadtests.under_load.scenario import Limits, Scenario, canary
from loadtests.under_load.shapes import ramp

SCENARIO = Scenario(
    says="v2 is better than v1: it is promoted, and no client notices anything but better answers",
    shape=ramp,
    route=canary,
    limits=Limits(reached="promoted"),
    plant="stalls",
)
