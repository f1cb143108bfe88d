"""JSON: two bodies are the same if their values are, by rules: what is ignored, how near is near, what has no order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import orjson

from model_adapters.comparators.numeric import within
from model_adapters.comparators.rows import missing, status_differs
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader
from router.core.payloads import FieldPath, States, arrived, going_on, start, step

DEPTH = 32
"""Deepest value that is looked into, as in `payloads`."""

SHOWN_CHARS = 40

_NOTHING = object()


class _TooDeepError(Exception):
    """A value lies deeper than DEPTH."""


@dataclass(frozen=True, slots=True)
class JsonRules:
    """Compares JSON bodies value by value; the distance is the share of values that differ.

    Values at `ignore` may be anything or missing. Numbers are the same up to `absolute` or `relative` of stable's,
    whichever allows more. Elements of lists at `unordered` are compared in sorted order.
    """

    name: ClassVar[str] = "json"
    loop_bytes: ClassVar[int] = 1_024
    """Measured: two bodies of 4 KiB that hold nothing but digits take 2.2 ms, and 4.1 ms where they are sorted."""
    ignore: tuple[FieldPath, ...] = ()
    unordered: tuple[FieldPath, ...] = ()
    absolute: float = 0.0
    relative: float = 0.0

    def configured(self, options: Mapping[str, object]) -> "JsonRules":
        """See TakesOptions."""
        read = OptionReader(options, ("abs", "ignore", "rel", "unordered"))
        return JsonRules(read.paths("ignore"), read.paths("unordered"), read.number("abs", 0.0), read.ratio("rel", 0.0))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all values are the same; bodies of 2xx answers only."""
        by_status = status_differs(self.name, stable, candidate)
        if by_status is not None:
            return by_status
        ours, theirs = _value_of(stable), _value_of(candidate)
        if ours is _NOTHING or theirs is _NOTHING:
            has = {"ours": ours is not _NOTHING, "theirs": theirs is not _NOTHING}
            return missing(self.name, "JSON", stable.status, **has)
        walk = _Walk(self)
        try:
            walk.values(ours, theirs, start(self.ignore), start(self.unordered), ())
        except _TooDeepError:
            return Comparison(self.name, same=None, reason=f"values deeper than {DEPTH}")
        return walk.comparison()


def _value_of(answer: Answer) -> object:
    if not 200 <= answer.status < 300:
        return _NOTHING
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return _NOTHING


class _Walk:
    """One pass through two values at the same time."""

    def __init__(self, rules: JsonRules) -> None:
        self._rules = rules
        self._values = 0
        self._differing = 0
        self._first = ""

    def comparison(self) -> Comparison:
        """Return what was found."""
        if not self._values:
            return Comparison(JsonRules.name, same=None, reason="no value is left to compare")
        share = self._differing / self._values
        if not self._differing:
            return Comparison(JsonRules.name, same=True, distance=0.0)
        reason = f"{self._first} ({self._differing} of {self._values} values differ)"
        return Comparison(JsonRules.name, same=False, distance=share, reason=reason)

    def values(
        self, ours: object, theirs: object, ignore: States, unordered: States, path: tuple[str | int, ...]
    ) -> None:
        """Compare two values at one place."""
        if arrived(ignore):
            return
        if len(path) > DEPTH:
            raise _TooDeepError
        if isinstance(ours, dict) and isinstance(theirs, dict) and (ours or theirs):
            for name in {**ours, **theirs}:
                here = step(ignore, name), step(going_on(unordered), name)
                self.values(ours.get(name, _NOTHING), theirs.get(name, _NOTHING), *here, (*path, name))
        elif isinstance(ours, list) and isinstance(theirs, list) and (ours or theirs):
            self._elements(ours, theirs, ignore, unordered, path)
        else:
            self._values += 1
            if not self._alike(ours, theirs):
                self._differ(ours, theirs, path)

    def _elements(
        self, ours: list[object], theirs: list[object], ignore: States, unordered: States, path: tuple[str | int, ...]
    ) -> None:
        inner, here = step(ignore, None), step(going_on(unordered), None)
        if arrived(inner):
            return
        if arrived(unordered):
            left = DEPTH - len(path)
            ours, theirs = (sorted(some, key=lambda one: _key(one, inner, here, left)) for some in (ours, theirs))
        for at in range(max(len(ours), len(theirs))):
            a = ours[at] if at < len(ours) else _NOTHING
            self.values(a, theirs[at] if at < len(theirs) else _NOTHING, inner, here, (*path, at))

    def _alike(self, ours: object, theirs: object) -> bool:
        if _is_number(ours) and _is_number(theirs):
            return within(ours, theirs, self._rules.absolute, self._rules.relative)
        return type(ours) is type(theirs) and ours == theirs

    def _differ(self, ours: object, theirs: object, path: Sequence[str | int]) -> None:
        self._differing += 1
        if not self._first:
            place = "".join([f"[{part}]" if isinstance(part, int) else f".{part[:64]}" for part in path])
            self._first = f"${place}: {_shown(ours)} != {_shown(theirs)}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(value: object, ignore: States, unordered: States, depth: int) -> tuple[object, ...]:
    """Return what orders values of any kind, without what is ignored; near numbers stand near each other."""
    if depth < 0:
        raise _TooDeepError
    if value is None:
        return (0,)
    if _is_number(value):
        return (1, value)
    if isinstance(value, list):
        inner, here = step(ignore, None), step(going_on(unordered), None)
        keys = [] if arrived(inner) else [_key(one, inner, here, depth - 1) for one in value]
        return (3, *(sorted(keys) if arrived(unordered) else keys))
    if isinstance(value, dict):
        places = [(name, step(ignore, name), step(going_on(unordered), name)) for name in sorted(value)]
        return (
            4,
            *[(name, _key(value[name], inner, here, depth - 1)) for name, inner, here in places if not arrived(inner)],
        )
    return (2, str(value))


def _shown(value: object) -> str:
    if value is _NOTHING:
        return "nothing"
    text = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)
    return text[:SHOWN_CHARS]
