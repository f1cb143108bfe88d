"""The breaker: when a worker takes the candidate's traffic away by itself, from what it has just seen. Pure.

A failure counts if stable answered the same input well: then a *witness* says whose fault it was. A failure without a
witness counts only if stable failed less than half as often at the same time, so that an outage which both variants
share trips nothing, and only once in the window for each affinity key, so that one user with bad requests does not
either. docs/breaker.md has the whole rule and its figures.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.core.observations import FAILURES, LATE, Ending, Outcome
from router.core.rollout import FULL_BP
from router.core.traffic import NO_KEY, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.core.rollout import RolloutState

GOOD, COPY, RESCUE, ALONE = range(4)
"""What a result of the candidate can be: good, or a failure that stable's answer to the same input witnessed (as a
copy or as a rescue), or a failure without a witness."""

FEWEST = 3
"""Results of stable without which nobody can say how it does. Chosen: in an outage of both every one of them fails, so
more would only add failures of the candidate before it trips at high weights (27 at 90 %)."""

ERRORS = 3
"""How many standard errors stable must be better by. Chosen: in an outage that half of all requests feel, a row of five
and a window that looks bad come by chance every few seconds."""

_FAILED: dict[Ending, bool] = {
    Outcome.OK: False, Outcome.CLIENT_ERROR: False, **dict.fromkeys(FAILURES, True), LATE: True,
}  # fmt: skip
"""Whether an ending is a failure of its variant; what the gateway or the client gave up says nothing.

A good answer that began too late is one in both: where rescue cuts the candidate, stable must not look better only
because it is waited for.
"""


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker of `route` has tripped in `exposure` (its id) of `rollout`; `reason` has the numbers."""

    route: str
    rollout: str
    exposure: int
    reason: str

    def settled_by(self, state: "RolloutState") -> bool:
        """Whether `state` follows a decision that took the candidate's traffic away, or is of another rollout.

        Until then the trip holds: a step forward that was decided at the same time must not bring the traffic back.
        """
        if state.id != self.rollout or not state.active:
            return True
        return any(one.weight_bp == 0 for one in state.exposures if one.id > self.exposure)


class Breaker:
    """Watches the live requests of one rollout on one worker, and trips once: `on_trip` is called with the reason.

    It counts in place, in memory that it takes when it is made: `window` results of the candidate, and for each how
    many results of stable there were before it. `alone` says that stable gets neither requests nor copies.
    """

    __slots__ = (
        "_at", "_candidate", "_cells", "_in_row", "_kinds", "_on_trip", "_row", "_row_since", "_size", "_spec",
        "_stable_at", "_stable_failed", "_stable_failed_at", "_stable_fails", "_stable_seen", "_window", "alone",
        "rollout", "tripped",
    )  # fmt: skip

    def __init__(self, state: "RolloutState", on_trip: "Callable[[Breaker, str], None]") -> None:
        if state.spec is None:
            raise ValueError("a breaker needs a rollout; this route is idle")
        self.rollout = state.id
        self.tripped = False
        self.alone = False
        self._spec = spec = state.spec.breaker
        self._candidate = state.candidate
        self._on_trip = on_trip
        self._stable_seen = 0
        self._stable_failed = 0
        self._stable_fails = False
        """Whether its last result was a failure."""
        self._kinds = [GOOD] * spec.window
        self._cells = [NO_KEY] * spec.window
        self._stable_at = [0] * spec.window
        self._stable_failed_at = [0] * spec.window
        self._at = 0
        self._size = 0
        self._window = [0, 0, 0, 0]
        """Results in the window, by kind."""
        self._row = [0, 0, 0, 0]
        """Failures since the last good answer, by kind; the first of the four stays 0."""
        self._in_row = 0
        self._row_since = (0, 0)
        """Results and failures of stable when the first of them was seen."""

    def __repr__(self) -> str:
        tripped = ", tripped" if self.tripped else ""
        failed = self._size - self._window[GOOD]
        return f"<Breaker of {self.rollout}: {failed} of {self._size} failed, {self._in_row} in a row{tripped}>"

    def follow(self, state: "RolloutState") -> None:
        """Take note of new shares."""
        self.alone = state.exposure.weight_bp >= FULL_BP and state.exposure.mirror_bp == 0

    # -- what the request path says ---------------------------------------------------------------------------------

    def live_ended(self, role: Role, ending: Ending, cell: int, waits: bool) -> None:  # noqa: FBT001 - hot path
        """A live request has ended, of the affinity key in `cell`; `waits`: for the other variant, if it has failed."""
        failed = _FAILED.get(ending)
        if failed is None:
            return
        if role is Role.STABLE:
            self.stable_ended(failed)
        elif not (failed and waits):  # else `pair_ended` or `rescued` comes
            self.candidate_ended(failed, cell)

    def pair_ended(self, candidate: Outcome, stable: Outcome, cell: int) -> None:
        """A live request of the candidate and its copy to stable have both ended."""
        if candidate in FAILURES:
            self._answered_twice(stable, cell, COPY)

    def rescued(self, stable: Ending, cell: int) -> None:
        """The rescue of a request that the candidate has failed has ended."""
        self._answered_twice(stable, cell, RESCUE)

    def _answered_twice(self, stable: Ending, cell: int, by: int) -> None:
        stable_failed = _FAILED.get(stable)
        if stable_failed is None:
            self.candidate_ended(True, cell)  # noqa: FBT003 - hot path
        else:
            self.witnessed(stable_failed, by)

    # -- what counts ------------------------------------------------------------------------------------------------

    def stable_ended(self, failed: bool) -> None:  # noqa: FBT001 - hot path
        """Stable has ended a request or a copy."""
        self._stable_seen += 1
        self._stable_fails = failed
        if failed:
            self._stable_failed += 1

    def candidate_ended(self, failed: bool, cell: int = NO_KEY) -> None:  # noqa: FBT001 - hot path
        """The candidate has ended a live request that nobody else has answered."""
        if not failed:
            if self._in_row:
                self._in_row = 0
                self._row = [0, 0, 0, 0]
            self._push(GOOD, NO_KEY)
        elif cell == NO_KEY or cell not in self._cells:
            self._fail(ALONE, cell)

    def witnessed(self, stable_failed: bool, by: int) -> None:  # noqa: FBT001 - as its like above
        """The candidate has failed, and stable has ended the same input: as a COPY or as a RESCUE.

        Where stable failed as well the request says nothing about the candidate, good or bad.
        """
        self.stable_ended(stable_failed)
        if not stable_failed:
            self._fail(by, NO_KEY)

    def _push(self, kind: int, cell: int) -> None:
        at = self._at
        if self._size == self._spec.window:
            self._window[self._kinds[at]] -= 1
        else:
            self._size += 1
        self._window[kind] += 1
        self._kinds[at] = kind
        self._cells[at] = cell
        self._stable_at[at] = self._stable_seen
        self._stable_failed_at[at] = self._stable_failed
        self._at = at + 1 if at + 1 < self._spec.window else 0

    def _fail(self, kind: int, cell: int) -> None:
        if self.tripped:
            return
        if not self._in_row:
            self._row_since = self._stable_seen, self._stable_failed
        self._in_row += 1
        self._row[kind] += 1
        self._push(kind, cell)
        reason = self._reason()
        if reason:
            self.tripped = True
            self._on_trip(self, reason)

    # -- the rule ---------------------------------------------------------------------------------------------------

    def _reason(self) -> str:
        """Return why it trips now, or nothing."""
        spec, size = self._spec, self._size
        oldest = self._at if size == spec.window else 0
        window_since = self._stable_at[oldest], self._stable_failed_at[oldest]
        failed = size - self._window[GOOD]
        better = self._is_better(window_since, failed, size) and self._is_beyond_chance(window_since, failed, size)
        if self._in_row >= spec.consecutive:
            alone = self._row[ALONE] if better and self._is_better(self._row_since, self._in_row, self._in_row) else 0
            counted = self._row[COPY] + self._row[RESCUE] + alone
            if counted >= spec.consecutive:
                what = f"{counted} failures of {self._candidate} in a row"
                return f"{what}, {self._evidence(self._row, alone, self._row_since)}"
        if size == spec.window and failed * FULL_BP >= spec.ratio_bp * size:
            alone = self._window[ALONE] if better and self._is_better(self._last_failures_since(), 1, 1) else 0
            counted = self._window[COPY] + self._window[RESCUE] + alone
            if counted and counted * FULL_BP >= spec.ratio_bp * size:
                what = f"{counted} failures among the last {size} answers of {self._candidate}"
                return f"{what}, {self._evidence(self._window, alone, window_since)}"
        return ""

    def _is_better(self, since: tuple[int, int], failures: int, results: int) -> bool:
        """Whether stable failed less than half as often since then as the candidate, which failed so often of so many.

        Where stable gets nothing but rescues there may be nobody to compare with: then the candidate's failures are its
        own, unless stable failed in the last rescue.
        """
        seen, failed = self._stable_seen - since[0], self._stable_failed - since[1]
        if seen == 0 and self.alone:
            return not self._stable_fails
        return (self.alone or seen >= FEWEST) and 2 * failed * results < failures * seen

    def _is_beyond_chance(self, since: tuple[int, int], failures: int, results: int) -> bool:
        """Whether the difference is as large as ERRORS standard errors of one between equal variants (pooled)."""
        seen, failed = self._stable_seen - since[0], self._stable_failed - since[1]
        bad, all_of_them = failures + failed, results + seen
        difference = failures * seen - failed * results
        chance = bad * (all_of_them - bad) * results * seen
        return difference * difference * all_of_them >= ERRORS * ERRORS * chance

    def _last_failures_since(self) -> tuple[int, int]:
        """Return what stable had ended when the last few failures in the window began, as many as make a row."""
        at, left, since = self._at, self._spec.consecutive, (self._stable_seen, self._stable_failed)
        for _ in range(self._size):
            at = (at or self._spec.window) - 1
            if self._kinds[at] != GOOD:
                since, left = (self._stable_at[at], self._stable_failed_at[at]), left - 1
                if not left:
                    break
        return since

    def _evidence(self, kinds: list[int], alone: int, since: tuple[int, int]) -> str:
        """Return what stable did meanwhile, as the end of a sentence."""
        copies, rescues = kinds[COPY], kinds[RESCUE]
        by = " and ".join(f"{number} by {how}" for number, how in ((rescues, "rescue"), (copies, "copies")) if number)
        seen, failed = self._stable_seen - since[0], self._stable_failed - since[1]
        others = f"stable failed {failed} of {seen} others meanwhile" if seen else "stable got nothing to compare with"
        if not alone:
            return f"stable answered the same inputs ({by})"
        return f"stable answered {copies + rescues} of the same inputs ({by}), {others}" if by else others
