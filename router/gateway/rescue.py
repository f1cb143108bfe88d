"""Rescue: stable answers a request whose candidate failed before its first byte had reached the client.

What a rescue may cost is bounded for each Route by `Rescues`; `refusal` says when there is none; a `Rescue` is stable's
call. The exchange stays the one that talks to the client: the candidate's part of it is booked when it fails, and
stable's answer is nobody's Observation (design.md section 5).
"""

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from router.core.observations import LATE, Ending, Outcome
from router.core.rollout import FULL_BP

if TYPE_CHECKING:
    from router.gateway import heads
    from router.gateway.exchange import Exchange
    from router.gateway.table import Standing
    from router.gateway.upstream import UpstreamConnection

SECOND_S = 1.0
WINDOW = 10
"""Seconds over which the budget is counted, the present one included (design.md section 5)."""

FEWEST = 10
"""Rescues that a window may always have: of little traffic a share is nothing (design.md section 5)."""


class Result(StrEnum):
    """What became of a candidate's failure that reached no client yet; the labels of turnout_rescues_total."""

    ANSWERED = "answered"
    """The client got stable's answer, whatever its status."""
    FAILED = "failed"
    """Stable gave no complete answer either."""
    CANCELLED = "cancelled"
    """The client left meanwhile, or did not send its request to the end."""
    OVER_BUDGET = "over_budget"
    NO_ROOM = "no_room"
    """Stable's own live pool was full, or live requests waited for a place in it: a rescue does not wait."""
    NO_TIME = "no_time"
    """The request's deadline had passed."""
    NOT_KEPT = "not_kept"
    """The request's body was too large to be kept, or too many were kept already."""
    NOT_SAFE = "not_safe"
    """The request had been sent, and the Route is not `mirror_safe`."""


def result_of(stable: Outcome, *, answered: bool) -> Result:
    """Return how a rescue ended; `answered` says that stable's answer had begun to go out."""
    if stable.is_answer and answered:
        return Result.ANSWERED
    return Result.CANCELLED if stable in (Outcome.CANCELLED, Outcome.OVERSIZE) else Result.FAILED


def refusal(standing: "Standing", *, sent: bool, kept: bool) -> Result | None:
    """Return why a failed request may not go to stable, None when it may; a budget is then taken from.

    `sent` says that the candidate may have read some of it, `kept` that all of it that has come in is still there.
    """
    live, stable = standing.live, standing.stable
    if sent and not live.mirror_safe:
        return Result.NOT_SAFE
    if not kept and (sent or stable.retargets):
        return Result.NOT_KEPT
    if stable.line.busy:
        return Result.NO_ROOM
    return None if live.rescues.admit(live.started) else Result.OVER_BUDGET


class Rescues:
    """One Route's budget of rescues on this worker, and how they ended.

    A window may have `budget_bp` of its requests as rescues, and FEWEST in any case. Both are kept as running totals,
    noted once a second, so that a request costs nothing here and a rescue a subtraction.
    """

    __slots__ = ("_begun", "_budget_bp", "_noted", "_noted_at", "results")

    def __init__(self, budget_bp: int) -> None:
        self.results: dict[Result, int] = dict.fromkeys(Result, 0)
        self._budget_bp = budget_bp
        self._begun = 0
        self._noted = deque([(0, 0)], maxlen=WINDOW)
        """Requests and rescues until the beginning of each second of the window, the oldest first."""
        self._noted_at = 0.0

    def __repr__(self) -> str:
        ended = ", ".join(f"{result} {number}" for result, number in self.results.items() if number)
        return f"<Rescues {self._begun} begun; {ended or 'none ended'}>"

    def turn(self, now: float, requests: int) -> None:
        """Begin a new second if the last one is over; `requests` is how many the Route has had so far."""
        if now - self._noted_at >= SECOND_S:
            self._noted_at = now
            self._noted.append((requests, self._begun))

    def admit(self, requests: int) -> bool:
        """Take one rescue from the budget; False when it is used up. `requests` as in `turn`."""
        requests_before, begun_before = self._noted[0]
        allowed = max(FEWEST, (requests - requests_before) * self._budget_bp // FULL_BP)
        if self._begun - begun_before >= allowed:
            return False
        self._begun += 1
        return True

    def count(self, result: Result) -> None:
        """Count what became of one failure."""
        self.results[result] += 1


class Rescue:
    """Stable's part in one request: a `Call` of stable's live pool that hands everything on to the exchange.

    It is a call of its own, since the candidate's pool may still hold the exchange's: a connect that is under way.
    """

    __slots__ = ("_exchange", "_sent_at", "_waited_s", "abandoned", "failed", "method", "name")

    def __init__(self, exchange: "Exchange", name: str, failed: Outcome) -> None:
        self.abandoned = False
        self.failed = failed
        """How the candidate's part ended, `name` being the candidate."""
        self.method = exchange.method
        self.name = name
        self._exchange = exchange
        self._sent_at = 0.0
        self._waited_s = 0.0

    def ending(self, outcome: Outcome, *, answered: bool) -> Ending:
        """Return how stable's part ended, as a witness: `outcome`, but for two cases.

        Late where it was slower than the time in which the candidate was given up; `shed`, which says nothing, for an
        answer of our own. `answered` says that stable's answer had begun to go out.
        """
        if outcome.is_answer and not answered:
            return Outcome.SHED
        too_slow = self.failed is Outcome.TIMEOUT and self._waited_s > self._exchange.standing.first_byte_s
        return LATE if too_slow else outcome

    def on_connected(self, connection: "UpstreamConnection") -> None:
        self._sent_at = self._exchange.worker.now()
        self._exchange.on_connected(connection)

    def on_answer_head(self, head: "heads.AnswerHead") -> None:
        self._waited_s = self._exchange.worker.now() - self._sent_at
        self._exchange.on_answer_head(head)

    def on_answer_data(self, data: bytes) -> None:
        self._exchange.on_answer_data(data)

    def on_answer_flush(self) -> None:
        self._exchange.on_answer_flush()

    def on_answer_end(self) -> None:
        self._exchange.on_answer_end()

    def on_failed(self, outcome: Outcome, why: str) -> None:
        self._exchange.on_failed(outcome, why)

    def on_write_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - see Call
        self._exchange.on_write_blocked(blocked)
