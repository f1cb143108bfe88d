"""What of a JSON body may be kept: field paths that name it, and field paths that never are.

Kept is only what a path of `keep` leads to, so a field that a model learns tomorrow is not kept until somebody says
so; what a path of `redact` leads to goes even then. Paths are the part of RFC 9535 that names fields whatever stands
in them: `$`, `.name`, `['name']`, `.*`, `[*]`, `..name`. Positions, slices and filters are refused: what they leave
out depends on a client's data.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

DEPTH = 32
"""Deepest container that is looked into; deeper ones are left out. Chosen: four times what the protocols need."""

WORK = 4_000
"""Most work on one body, in units of `_Walk._pay`. Measured: the worst bodies of 16 KiB take 0.7 ms."""

LONGEST_PATH = 256

_SEGMENT = re.compile(
    r"""(?P<deep>\.\.(?=[^.\[])|\.\.(?=\[)|\.(?=[^.\[]))?   # `..` before a name or a bracket, `.` before a name
        (?:(?P<star>\*|\[\*\])|(?P<name>[A-Za-z_\u0080-\uffff][\w-]*)
          |\['(?P<single>[^'\\\x00-\x1f]*)'\]|\["(?P<double>[^"\\\x00-\x1f]*)"\])""",
    re.VERBOSE,
)

Found: TypeAlias = dict[str, object] | list[object]


class TooMuchWorkError(Exception):
    """A body asks for more than WORK."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a path: to the field `name`, to every field and element if it is None; `deep`: at any depth."""

    name: str | None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A path into JSON values. No segments: the whole value."""

    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> "FieldPath":
        """Return the path written in `text`; raises ValueError with what was expected."""
        if not text.startswith("$") or len(text) > LONGEST_PATH:
            raise ValueError(_EXPECTED)
        segments: list[Segment] = []
        at = 1
        while at < len(text):
            found = _SEGMENT.match(text, at)
            if found is None or not _well_formed(found):
                raise ValueError(_EXPECTED)
            name = next((one for one in (found["name"], found["single"], found["double"]) if one is not None), None)
            segments.append(Segment(name, deep=found["deep"] == ".."))
            at = found.end()
        return cls(tuple(segments))


_EXPECTED = (
    "a field path like $.inputs[*].name, $['user id'] or $..email: names and * only, since positions and filters "
    "would depend on what a client sends"
)


def _well_formed(found: re.Match[str]) -> bool:
    """Whether dots stand where RFC 9535 wants them: before a bare name or star, never a single one before a bracket."""
    bare = found["name"] is not None or found["star"] == "*"
    return found["deep"] is not None if bare else found["deep"] != "."


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a body is kept: all that `keep` leads to, without what `redact` leads to. No `keep`: nothing.

    A name in a path of `redact` leads into every element of a list too: what was meant to go must not stay because it
    stands in a list.
    """

    keep: tuple[FieldPath, ...] = ()
    redact: tuple[FieldPath, ...] = ()

    def of(self, value: object) -> Found | None:
        """Return what is kept of an object or a list; None if that is nothing, or it is neither.

        Fields and elements that are left out leave no trace. The result may share containers with `value`. Raises
        TooMuchWorkError.
        """
        keep, redact = start(self.keep), start(self.redact)
        if not keep or not isinstance(value, (dict, list)) or arrived(redact):
            return None
        return _Walk().kept(value, None if arrived(keep) else keep, redact, DEPTH)


NOTHING = Selection()
"""Keeps nothing of any body."""

_State: TypeAlias = tuple[tuple[Segment, ...], int]
"""A path, and how many of its segments lead to where the walk is."""

States: TypeAlias = Sequence[_State]


class _Walk:
    """One pass through a value."""

    def __init__(self) -> None:
        self._left = WORK

    def kept(self, value: Found, keep: States | None, redact: States, depth: int) -> Found | None:
        """Return what is kept of `value`; `keep` None: all that is not redacted."""
        if keep is None and not redact:
            return value
        if depth == 0:
            return None
        found: Found
        if isinstance(value, list):
            self._pay(len(value), 0)
            found = self._elements(value, _into(keep, None), step(redact, None, through_lists=True), depth)
        else:
            self._pay(len(value), len(keep or ()) + len(redact))
            found = {}
            for name, one in value.items():
                here = self._one(one, _into(keep, name), step(redact, name), depth)
                if here is not _LEFT_OUT:
                    found[name] = here
        return found if found or keep is None else None

    def _elements(self, value: list[object], keep: States | None, redact: States, depth: int) -> list[object]:
        if keep == [] or arrived(redact):
            return []
        found: list[object] = []
        for one in value:
            if isinstance(one, (dict, list)):
                self._pay(1, len(keep or ()) + len(redact))
                inner = self.kept(one, keep, redact, depth - 1)
                if inner is not None:
                    found.append(inner)
            elif keep is None:
                found.append(one)
        return found

    def _one(self, value: object, keep: States | None, redact: States, depth: int) -> object:
        if keep == [] or arrived(redact):
            return _LEFT_OUT
        if isinstance(value, (dict, list)):
            found = self.kept(value, keep, redact, depth - 1)
            return _LEFT_OUT if found is None else found
        return value if keep is None else _LEFT_OUT

    def _pay(self, values: int, states: int) -> None:
        """Account for work: a value costs 1, and 4 for each path that goes on to it. About 0.2 us each."""
        self._left -= values * (1 + 4 * states)
        if self._left < 0:
            raise TooMuchWorkError


_LEFT_OUT = object()


def start(paths: Iterable[FieldPath]) -> States:
    """Return where paths are at the value as a whole."""
    return [(path.segments, 0) for path in paths]


def _into(keep: States | None, name: str | None) -> States | None:
    """Return where paths of `keep` are after a step, None once one of them has arrived: then all is kept."""
    if keep is None:
        return None
    inner = step(keep, name)
    return None if arrived(inner) else inner


def step(states: States, name: str | None, *, through_lists: bool = False) -> States:
    """Return where paths are after a step to the field `name`, or to any element of a list (None)."""
    found: list[_State] = []
    for segments, at in states:
        segment = segments[at]
        if segment.name is None or segment.name == name:
            found.append((segments, at + 1))
        if segment.deep or (through_lists and segment.name is not None):
            found.append((segments, at))
    # Without doubles, of which `$..a..a` makes twice as many at each level.
    return list(dict.fromkeys(found)) if len(found) > 1 else found


def arrived(states: States) -> bool:
    """Whether one of the paths leads here; to be asked before another step is taken."""
    return any(at == len(segments) for segments, at in states)


def going_on(states: States) -> States:
    """Return the paths that lead further, without those that have arrived."""
    return [(segments, at) for segments, at in states if at < len(segments)]
