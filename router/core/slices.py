"""Slices: groups of requests that are also judged by themselves, by a header or the JSON body.

A slice is named `name=value`, as in `tenant=acme`. Only some values have a slice of their own; all others together are
`name=other`, and requests without a value are `name=none`.

Which ones is said by the *places* of a rollout, a table that its State holds from the start on: for each source first
`other` and `none`, then the values that gates name, then free places (`tenant=`, without a value). Control gives free
places to the values with most traffic, once and for good. So all replicas agree, a restart changes nothing, and the
weights of the evidence, 1/len(places) each, are fixed before the first request, whatever names turn up (ADR 0017).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from router.core.payloads import FieldPath

VALUE_CHARS = 32
"""Longest value that is kept whole. Chosen: names of tenants and regions; a longer one ends in a digest."""

OTHER, NONE = "other", "none"

WATCHED = 255
"""Values of one source that a worker counts while places are free. Chosen: a value with 1/256 of the traffic is found
whatever else comes, and it costs 25 KiB."""

ENOUGH = 1_000
"""Requests of one source, of all replicas together, before a value is given a place. Chosen: a share of 5 % is then
known to 0.7 points."""

LEAST_SHARE = 0.01
"""Share of the traffic from which on a value may have a place. Chosen: less is hardly ever proved or refuted in time,
and a place is given for good."""

_DIGEST_CHARS = 8


class SliceKind(StrEnum):
    """Where the value of a slice stands."""

    HEADER = "header"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class SliceSource:
    """One `slices` entry of a Route: `key` is a lower-case field name or a path into the request's JSON body."""

    kind: SliceKind
    key: str

    @property
    def name(self) -> str:
        """What its slices are called by: the header's name without `x-`, or the last name of the path."""
        return self.key.removeprefix("x-") if self.kind is SliceKind.HEADER else self.path[-1]

    def of(self, value: str) -> str:
        """Return the slice of a value."""
        return f"{self.name}={value}"

    def has(self, slice_: str) -> bool:
        """Whether a slice is one of this source."""
        return source_name(slice_) == self.name

    @property
    def path(self) -> tuple[str, ...]:
        """The names that lead from the body to the value."""
        return tuple([segment.name or "" for segment in FieldPath.parse(self.key).segments])

    @classmethod
    def parse(cls, text: str) -> "SliceSource":
        """Return the source written `header:NAME` or `json:$.name.name`; raises ValueError with what was expected."""
        kind, _, key = text.partition(":")
        if kind not in set(SliceKind) or not key:
            raise ValueError("header:NAME or json:PATH, as header:x-tenant or json:$.parameters.region")
        source = cls(SliceKind(kind), key.lower() if kind == SliceKind.HEADER else key)
        if source.kind is SliceKind.JSON:
            segments = FieldPath.parse(key).segments
            if not segments or any(segment.deep or segment.name is None for segment in segments):
                raise ValueError("a path of names only, as $.parameters.region: it must lead to one value")
            if "=" in source.name or not source.name.isprintable() or len(source.name) > VALUE_CHARS:
                raise ValueError(f"a path whose last name is printable, at most {VALUE_CHARS} characters and without =")
        return source


def slice_value(value: object) -> str:
    """Return a header's text or a JSON value as the value of a slice: short, printable; NONE if it is no value."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        return NONE
    if len(text) <= VALUE_CHARS and text.isprintable():
        return text or NONE
    digest = blake2b(text.encode(errors="replace"), digest_size=_DIGEST_CHARS // 2).hexdigest()
    begin = "".join([letter for letter in text[:VALUE_CHARS] if letter.isprintable()])
    return f"{begin[: VALUE_CHARS - _DIGEST_CHARS - 1]}~{digest}"


def places_of(sources: Iterable[SliceSource], most: int, named: Iterable[str]) -> tuple[str, ...]:
    """Return the places with which a rollout begins; `named` are slices that gates name, `most` places each source has.

    A named slice has its place even where there are more of them than `most`.
    """
    wanted = dict.fromkeys(named)
    places: list[str] = []
    for source in sources:
        own = dict.fromkeys((source.of(OTHER), source.of(NONE), *(one for one in wanted if source.has(one))))
        places += own
        places += [free_place(source.name)] * (most - (len(own) - 2))
    return tuple(places)


def source_name(slice_: str) -> str:
    """Return what the source of a slice, or of a free place, is called."""
    return slice_.partition("=")[0]


def free_place(source: str) -> str:
    """Return a place of the source with this name that no value has yet."""
    return f"{source}="


def is_free(place: str) -> bool:
    """Whether no value has this place yet."""
    return place.endswith("=") and place.count("=") == 1


def free_sources(places: Iterable[str]) -> frozenset[str]:
    """Return the names of the sources that have places to give away."""
    return frozenset([source_name(place) for place in places if is_free(place)])


@dataclass(frozen=True, slots=True)
class Popular:
    """What was counted of a rollout's requests, to give places by.

    `requests` by name of source, and of the slices without a place those with most traffic, each with how many requests
    were surely its own.
    """

    rollout: str
    requests: Mapping[str, int]
    slices: Mapping[str, int]


class PopularValues:
    """The values of one source that come often, in bounded memory (Misra & Gries 1982, "Finding repeated elements").

    A count is of requests that were surely its own: at most 1/(WATCHED + 1) of all requests too low, never too high. So
    the counts of several workers can be added (Agarwal et al. 2012, "Mergeable summaries"), and somebody who sends a
    new value each time gains none. Counting is O(1) on average.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<PopularValues {len(self._counts)} of {self.requests} requests>"

    def count(self, value: str) -> None:
        """Count one request with this value."""
        counts = self._counts
        if value in counts:
            counts[value] += 1
        elif len(counts) < WATCHED:
            counts[value] = 1
        else:
            self._counts = {one: number - 1 for one, number in counts.items() if number > 1}

    def top(self, most: int) -> list[tuple[str, int]]:
        """Return at most so many values with their counts, the most frequent first."""
        return sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))[:most]


def merge(seen: Iterable[Popular], rollout: str) -> Popular:
    """Return what several workers have counted of one rollout together."""
    requests: Counter[str] = Counter()
    slices: Counter[str] = Counter()
    for one in seen:
        if one.rollout == rollout:
            requests.update(one.requests)
            slices.update(one.slices)
    return Popular(rollout, requests, slices)


def give_places(places: tuple[str, ...], seen: Popular) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the places with free ones given to the values with most traffic, and in words what each new one has of it.

    The same places, and nothing, while too few requests were seen, or no value without a place has LEAST_SHARE of them.
    """
    after, words = list(places), []
    for slice_, number in sorted(seen.slices.items(), key=lambda one: (-one[1], one[0])):
        total, place = seen.requests.get(source_name(slice_), 0), free_place(source_name(slice_))
        if total >= ENOUGH and number >= LEAST_SHARE * total and place in after and slice_ not in after:
            after[after.index(place)] = slice_
            words.append(f"{slice_} ({number / total:.0%} of {total:,} requests)")
    return tuple(after), tuple(words)


def may_follow(places: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Whether `after` only gives free places away: no place is added, lost, moved or given twice."""
    given = [place for place in after if not is_free(place)]
    return (
        len(places) == len(after)
        and all(old == new or old == free_place(source_name(new)) for old, new in zip(places, after, strict=True))
        and len(given) == len(set(given))
    )


def at_path(body: object, path: Iterable[str]) -> object:
    """Return the value at a path of names, None where it does not lead anywhere."""
    for name in path:
        if not isinstance(body, Mapping):
            return None
        body = body.get(name)
    return body
