"""Which slices a request belongs to: by its head when it has ended, by its body when its pair is compared.

A slice's counters therefore know ends, not starts: the judge takes all that is open in the route as open in each of its
slices (`Reading`), so that no end is waited for and none is lost.
"""

from typing import TYPE_CHECKING, NamedTuple

import orjson

from router.core.levels import Levels
from router.core.observations import ANSWERS, LATE
from router.core.slices import (
    NONE,
    OTHER,
    Popular,
    PopularValues,
    SliceKind,
    at_path,
    free_place,
    free_sources,
    is_free,
    slice_value,
)
from router.core.traffic import Role
from router.gateway.capture import PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from router.core.observations import Ending
    from router.core.slices import SliceSource
    from router.gateway.firsts import FirstRequest
    from router.gateway.heads import RequestHead
    from router.gateway.tally import Arrivals, RoleTally

NO_LEVELS = Levels()

TOLD = 2
"""Values told to control for each free place. Chosen: the most popular of all replicas together shall be among the most
popular of each, also where their traffic differs somewhat."""


class _Source(NamedTuple):
    """One source under one state: the slice of each value that has a place, and that of all others."""

    name: str
    key: bytes
    path: tuple[str, ...]
    slices: "Mapping[str, str]"
    other: str
    popular: PopularValues | None

    def slice_of(self, value: str) -> str:
        return self.slices.get(value, self.other)

    def note(self, value: str) -> None:
        """Count a request's value, so that it may get a place."""
        popular = self.popular
        if popular is not None:
            popular.requests += 1
            if value not in self.slices:
                popular.count(value)


class Popularity:
    """What this worker has counted of one rollout's values without a place; lasts as long as the rollout."""

    def __init__(self, rollout: str) -> None:
        self.rollout = rollout
        self._values: dict[str, PopularValues] = {}

    def __repr__(self) -> str:
        return f"<Popularity {self.rollout} {self._values}>"

    def follow(self, places: "Sequence[str]") -> None:
        """Count for the sources that have free places, and forget the others."""
        self._values = {name: self._values.get(name) or PopularValues() for name in sorted(free_sources(places))}

    def of(self, source: "SliceSource") -> PopularValues | None:
        """Return where values of this source are counted, None where no place is free."""
        return self._values.get(source.name)

    def told(self, places: "Sequence[str]") -> Popular | None:
        """Return what control shall know of it, None where no place is free. Bounded by the number of places."""
        if not self._values:
            return None
        found: dict[str, int] = {}
        for name, values in self._values.items():
            most = TOLD * sum([place == free_place(name) for place in places])
            taken = {place for place in places if not is_free(place)}
            top = [(f"{name}={value}", number) for value, number in values.top(most + len(taken))]
            found.update([one for one in top if one[0] not in taken][:most])
        return Popular(self.rollout, {name: values.requests for name, values in self._values.items()}, found)


class Slicing:
    """Counts by slice under one state of a Route. What a request's slice is, is settled by the state it began under.

    `levels` are where latency gates cut their slices.
    """

    __slots__ = ("_levels", "_of_body", "_of_head")

    def __init__(
        self,
        sources: "Iterable[SliceSource]",
        places: "Sequence[str]",
        popularity: Popularity,
        levels: "Mapping[str, Levels]",
    ) -> None:
        self._levels = levels
        self._of_head: list[_Source] = []
        self._of_body: list[_Source] = []
        for source in sources:
            slices = {one.partition("=")[2]: one for one in places if source.has(one) and not is_free(one)}
            if OTHER not in slices:
                continue  # of a source that the file has gained since the rollout began: it has no places
            of_head = source.kind is SliceKind.HEADER
            key, path = (source.key.encode(), ()) if of_head else (b"", source.path)
            found = _Source(source.name, key, path, slices, slices[OTHER], popularity.of(source))
            (self._of_head if of_head else self._of_body).append(found)

    def takes(self, body_bytes: int) -> bool:
        """Whether a request's body of that length is to be held until the pair is read."""
        return bool(self._of_body) and body_bytes <= PAYLOAD_BYTES

    def of_unread(self, head: "RequestHead") -> tuple[str, ...]:
        """Return the slices in which a pair counts whose body nobody reads: by the body all that it may belong to.

        For a pair without the candidate's answer that is safe: it speaks for the candidate where harm is asked, and
        against it where proof is.
        """
        by_head = [source.slice_of(_field(head, source.key)) for source in self._of_head]
        return (*by_head, *(slice_ for source in self._of_body for slice_ in source.slices.values()))

    def of_pair(self, head: "RequestHead", body: bytes | None) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Return (name, value) of each source for the pair log, and the slices in which the pair counts."""
        values = [(source, _field(head, source.key)) for source in self._of_head]
        if self._of_body:
            parsed = _parsed(body)
            for source in self._of_body:
                value = slice_value(at_path(parsed, source.path))
                source.note(value)
                values.append((source, value))
        pairs = tuple([(source.name, value) for source, value in values])
        return pairs, tuple([source.slice_of(value) for source, value in values])

    def end(  # noqa: PLR0913, PLR0917 - called on the request path, where every tuple costs
        self,
        arrivals: "Arrivals",
        first: "FirstRequest | None",
        role_tally: "RoleTally",
        role: Role,
        ending: "Ending",
        bucket: int,
        head: "RequestHead",
    ) -> tuple[str, ...]:
        """Count a request's end in its slices and return them; `first` where it may be its key's first."""
        found = []
        for source in self._of_head:
            value = _field(head, source.key)
            source.note(value)
            name = source.slice_of(value)
            levels = self._levels.get(name, NO_LEVELS)
            edges = levels.stable if role is Role.STABLE else levels.candidate
            arrivals.of_slice(name, edges).end(ending, bucket)
            if name in self._levels and (ending in ANSWERS or ending == LATE):
                role_tally.slice_buckets[name][bucket] += 1
            found.append((name, edges))
        if first is not None:
            first.end_slices(found, ending, bucket)
        return tuple([name for name, _ in found])


def _field(head: "RequestHead", key: bytes) -> str:
    r"""Return the value of the first such field; bytes that are no UTF-8 are written as `\xff`."""
    for lower, line in head.fields:
        if lower == key:
            return slice_value(line.partition(b":")[2].strip().decode("utf-8", "backslashreplace"))
    return NONE


def _parsed(body: bytes | None) -> object:
    try:
        return None if body is None else orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
