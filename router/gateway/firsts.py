"""First events of affinity keys: counted once over all replicas, because the store says who came first.

A user whose requests all go to one side is one unit of evidence, however many requests come (statistics.md rule 4).
This worker asks about a key once for each exposure and metric; the store's bitmap decides among replicas. Nothing waits
for that: what is asked about carries its own end, and is counted when the answer comes. If the answer is lost the key
counts for nobody, which costs evidence and never its validity.
"""

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from router.core.errors import StoreUnavailableError
from router.core.observations import LOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.core.observations import Ending
    from router.core.ports import RecordStore
    from router.core.traffic import Role
    from router.gateway.table import Standing
    from router.gateway.tally import Arrivals, PairCells, PairEnd, RoleTally, Tally

WAITING = 20_000
"""First events that may wait for the store, some 3 MiB; what does not fit is counted as `keys_full`. Chosen: a burst of
new users while the store is away for seconds."""

AT_ONCE = 256
"""Cells in one call. Chosen: 256 x 200 exposures are 50,000 bits read, a few milliseconds of the server."""

RETRY_S = 0.25
REQUEST, FAILURE, PAIR = "request", "failure", "pair"
"""What a key can be seen for the first time with; names of the bitmaps."""


class Subject(Protocol):
    """What is counted if its key turns out to be new."""

    def answer(self, tally: "Tally", last: int | None) -> None:
        """Count it; `last` is the exposure in which the key was seen last before, 0 for none, None if it is not new."""


class FirstRequest:
    """A key's first request in an exposure: its start is counted when it is admitted, its end when it has one."""

    __slots__ = ("_arrivals", "_end", "_role", "_slices", "_tally")

    def __init__(self, role: "Role") -> None:
        self._role = role
        self._tally: RoleTally | None = None
        self._arrivals: Arrivals | None = None
        self._end: tuple[Ending, int] | None = None
        self._slices: Sequence[tuple[str, tuple[int, ...]]] = ()

    def answer(self, tally: "Tally", last: int | None) -> None:
        """Count its start now, and its end if it has ended."""
        if last is None:
            return
        self._tally = tally.keyed(last).live[self._role]
        self._arrivals = self._tally.present
        self._arrivals.started += 1
        if self._end is not None:
            self._tally.end(self._arrivals, *self._end)
            self.end_slices(self._slices, *self._end)

    def end(self, outcome: "Ending", bucket: int) -> None:
        """Count its end, or keep it until its start is counted."""
        if self._tally is not None and self._arrivals is not None:
            self._tally.end(self._arrivals, outcome, bucket)
        else:
            self._end = outcome, bucket

    def end_slices(self, slices: "Sequence[tuple[str, tuple[int, ...]]]", outcome: "Ending", bucket: int) -> None:
        """Count its end in these slices (with the levels of each), or keep them as `end` does; called behind `end`."""
        if self._arrivals is None:
            self._slices = slices
            return
        for name, edges in slices:
            self._arrivals.of_slice(name, edges).end(outcome, bucket)


class FirstFailure(NamedTuple):
    """A key's first failure in an exposure, in the cell in which its request arrived.

    The cell stays open until the answer is there: a folded one counts no more.
    """

    arrivals: "Arrivals"
    slices: tuple[str, ...] = ()

    def answer(self, tally: "Tally", last: int | None) -> None:  # noqa: ARG002 - see Subject
        """Count it."""
        self.arrivals.asked -= 1
        if last is not None:
            for cell in (self.arrivals, *map(self.arrivals.of_slice, self.slices)):
                cell.first_failures[last] += 1


class FirstPair:
    """A key's first copy in an exposure: its start is counted when it is admitted, its end when it has one."""

    __slots__ = ("_cells", "_end")

    def __init__(self) -> None:
        self._cells: PairCells | None = None
        self._end: PairEnd | Literal["lost"] | None = None

    def answer(self, tally: "Tally", last: int | None) -> None:
        """Count its start now, and its end if it has ended."""
        if last is None:
            return
        self._cells = tally.keyed(last).pairs.present
        self._cells.started += 1
        if self._end is not None:
            self.end(self._end)

    def end(self, end: "PairEnd | Literal['lost']") -> None:
        """Count its end, or keep it until its start is counted; `lost` is a pair that nobody could read."""
        if self._cells is None:
            self._end = end
        elif end == LOST:
            self._cells.lose()
        else:
            self._cells.end(end)


class _First(NamedTuple):
    standing: "Standing"
    cell: int
    subject: Subject


class Firsts:
    """Asks the store about keys that this worker has not seen, in batches, in a task of its own."""

    def __init__(self, store: "RecordStore") -> None:
        self.dropped = 0
        self._store = store
        self._waiting: dict[tuple[Tally, str], deque[_First]] = {}
        self._number = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return self._number

    def ask(self, standing: "Standing", tally: "Tally", metric: str, cell: int, subject: Subject) -> bool:
        """Have `subject` admitted if nobody has seen the key's cell in this exposure; never waits.

        False when too many wait already.
        """
        if self._number >= WAITING:
            self.dropped += 1
            return False
        self._number += 1
        self._waiting.setdefault((tally, metric), deque()).append(_First(standing, cell, subject))
        return True

    def waits_for(self, tally: "Tally") -> bool:
        """Whether something of this exposure waits for the store's word."""
        return any(one is tally for one, _ in self._waiting)

    def tick(self) -> None:
        """Set the task to work if there is something to ask."""
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled; a call that failed is repeated."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not await self._ask_some():
                    await asyncio.sleep(RETRY_S)

    async def _ask_some(self) -> bool:
        """Ask about those that share the oldest bitmap; False when the store is away."""
        (tally, metric), waiting = next(iter(self._waiting.items()))
        some = list(islice(waiting, AT_ONCE))
        state = some[0].standing.state
        exposures = [exposure.id for exposure in state.exposures]
        try:
            found = await self._store.mark_seen(state.route, state.id, exposures, metric, [one.cell for one in some])
        except StoreUnavailableError:
            return False
        for one, last in zip(some, found, strict=True):
            waiting.popleft()
            one.subject.answer(tally, last)
        self._number -= len(some)
        if not waiting:
            del self._waiting[tally, metric]
        return True
