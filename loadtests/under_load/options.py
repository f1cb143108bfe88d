"""What can be asked of a load test on the command line."""

from dataclasses import dataclass

VARIABLE = "TURNOUT_LOADTEST"
"""The environment variable by which locust's process gets them, as JSON."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run. `python` is an interpreter that has Turnout; empty addresses: a Turnout is started."""

    scenario: str
    python: str
    users: int
    minutes: float
    json: str
    report: str
    shape: str = ""
    rate_s: float = 0.0
    protected: bool = True
    url: str = ""
    admin_url: str = ""
    direct_url: str = ""

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return 60.0 * self.minutes
