"""Which requests failed, for the log: one line a second for each variant, and none from the request path itself."""

from typing import TYPE_CHECKING, NamedTuple

from router.core.observations import FAILURES, Outcome

if TYPE_CHECKING:
    from router.gateway.exchange import Exchange
    from router.telemetry.logs import Log

INTERVAL_S = 1.0
"""Between two lines of one variant (reliability.md, UP7)."""

_TOLD = FAILURES | {Outcome.SHED, Outcome.QUEUE_TIMEOUT}
"""Not of clients that leave, nor of requests that are too large: both are the clients' own doing."""


class Failed(NamedTuple):
    """How many requests failed since the last line, and the latest of them."""

    requests: int
    outcome: Outcome
    request_id: bytes


class Failures:
    """What has failed at each variant since it was told last; as many entries as there are variants."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], Failed] = {}
        self._tell_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Failures {self._latest}>"

    def note(self, exchange: "Exchange", outcome: Outcome) -> None:
        """Take note of a request that got no whole answer of the variant that it is with now, or is rescued from it."""
        if outcome not in _TOLD:
            return
        key = exchange.standing.live.route.name, exchange.variant.variant.name
        before = self._latest.get(key)
        self._latest[key] = Failed(1 + (before.requests if before else 0), outcome, exchange.request_id)

    def tell(self, log: "Log", now_s: float) -> None:
        """Write a line for each variant that has failed, if the last ones are old enough."""
        if not self._latest or now_s < self._tell_at_s:
            return
        self._tell_at_s = now_s + INTERVAL_S
        failed, self._latest = self._latest, {}
        for (route, variant), (requests, outcome, request_id) in failed.items():
            log.warning(
                "requests failed", route=route, variant=variant, requests=requests, outcome=outcome.value,
                request_id=request_id.decode("latin-1"),
            )  # fmt: skip
