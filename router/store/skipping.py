"""What could not be read is left where it is, skipped, counted by kind, and told of once for each change.

Nothing is moved or deleted: a foreign entry stays under its key to be looked at, until its log is trimmed.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from router.store.fields import UnreadableRecordError
from router.telemetry import logs

Record = TypeVar("Record")


class Skipping:
    """Counts over the life of a store client; `counts` by what was skipped, an entry each time it was met."""

    def __init__(self, log: logs.Log) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._changes = logs.Changes()

    def reading(self, what: str, where: str) -> "Reading":
        """Return the account of one call that reads entries of this kind at `where`; end it with `done`."""
        return Reading(self, what, where)

    def take(self, reading: "Reading") -> None:
        """Add up one call; a warning is written when its first error is another one than last time."""
        self.counts[reading.what] += reading.skipped
        if self._changes.changed(reading.where, reading.first) and reading.skipped:
            self._log.warning(
                "unreadable entries skipped", where=reading.where, skipped=reading.skipped, first=reading.first
            )


@dataclass(slots=True)
class Reading:
    """The entries of one call that could not be read; `first` is the first error, as the example."""

    _skipping: Skipping
    what: str
    where: str
    skipped: int = field(default=0, init=False)
    first: str = field(default="", init=False)

    def read(self, decode: Callable[[bytes], Record], raw: bytes | None) -> Record | None:
        """Return what `decode` makes of `raw`, or None and count it."""
        if raw is None:
            self.count(UnreadableRecordError("the entry has no field of ours"))
            return None
        try:
            return decode(raw)
        except UnreadableRecordError as error:
            self.count(error)
            return None

    def count(self, error: Exception) -> None:
        """Count one."""
        self.first = self.first or str(error)[:200]
        self.skipped += 1

    def done(self) -> None:
        """End the call's account."""
        self._skipping.take(self)
