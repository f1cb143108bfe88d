"""Reading values that came from the store: nothing in it is trusted, so every type and range is checked.

An unknown extra field is skipped, because a newer version may have written it. A missing or wrong one is an
UnreadableRecordError that names the place and what was expected there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, TypeVar

import orjson

from router.core.errors import TurnoutError

RECORD_BYTES = 2**20
"""Longest record that is read. Chosen: a state with 100 steps and gates takes 20 KiB; revisit when one holds more."""

SHOWN = 40
"""How many characters of a wrong value go into the error, so that it stays one short line."""

WHOLE_MAX = 2**53
"""Largest whole number that survives every JSON reader, and Lua."""

Choice = TypeVar("Choice", bound=StrEnum)


class UnreadableRecordError(TurnoutError):
    """A record in the store is not what this version writes: foreign, damaged, or of a newer major version."""


def fail(where: str, value: object, expected: str) -> NoReturn:
    """Raise UnreadableRecordError for the value at `where`."""
    shown = repr(value)
    if len(shown) > SHOWN:
        shown = shown[:SHOWN] + "..."
    raise UnreadableRecordError(f"{where}: got {shown}, expected {expected}")


def text(value: object, where: str) -> str:
    """Return `value` if it is text."""
    return value if isinstance(value, str) else fail(where, value, "text")


def whole(value: object, where: str, low: int = 0, high: int = WHOLE_MAX) -> int:
    """Return `value` if it is a whole number `low`..`high`."""
    # bool is an int to isinstance, yet `true` is never a number of ours.
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    fail(where, value, f"a whole number {low}..{high}")


def number(value: object, where: str) -> float:
    """Return `value` if it is a finite number."""
    if isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    fail(where, value, "a finite number")


def flag(value: object, where: str) -> bool:
    """Return `value` if it is true or false."""
    return value if isinstance(value, bool) else fail(where, value, "true or false")


def choice(kind: type[Choice], value: object, where: str) -> Choice:
    """Return the member of `kind` that is written as `value`."""
    try:
        return kind(text(value, where))
    except ValueError:
        fail(where, value, "one of " + ", ".join(kind))


def items(value: object, where: str) -> Sequence[object]:
    """Return `value` if it is a list."""
    return value if isinstance(value, list) else fail(where, value, "a list")


def row(value: object, where: str, columns: int) -> Sequence[object]:
    """Return `value` if it is a list of at least `columns` values; a newer version may have appended some."""
    found = items(value, where)
    return found if len(found) >= columns else fail(where, value, f"a list of {columns} or more")


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object; `where` names it in errors. Each method returns the named field, checked."""

    values: Mapping[str, object]
    where: str

    @classmethod
    def parse(cls, raw: bytes | str, where: str, version: int, longest: int | None = RECORD_BYTES) -> "Fields":
        """Return the record in `raw`: an object whose major version `v` is 1..`version`."""
        if longest is not None and len(raw) > longest:
            raise UnreadableRecordError(f"{where}: {len(raw)} bytes, expected at most {longest}")
        try:
            values = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise UnreadableRecordError(f"{where}: not JSON ({error})") from None
        fields = cls.of(values, where)
        if fields.whole("v", 1) > version:
            fail(f"{where}.v", values["v"], f"at most {version}: a newer Turnout wrote this, update this one")
        return fields

    @classmethod
    def of(cls, value: object, where: str) -> "Fields":
        """Return `value` if it is an object."""
        return cls(value, where) if isinstance(value, dict) else fail(where, value, "an object")

    def get(self, name: str) -> object:
        """Return the field as it is; missing is an error, null is not."""
        try:
            return self.values[name]
        except KeyError:
            raise UnreadableRecordError(f"{self.where}: field {name!r} is missing") from None

    def at(self, name: str) -> str:
        """Return the place of a field, for errors."""
        return f"{self.where}.{name}"

    def text(self, name: str) -> str:
        """Return text."""
        return text(self.get(name), self.at(name))

    def whole(self, name: str, low: int = 0, high: int = WHOLE_MAX) -> int:
        """Return a whole number `low`..`high`."""
        return whole(self.get(name), self.at(name), low, high)

    def number(self, name: str) -> float:
        """Return a finite number."""
        return number(self.get(name), self.at(name))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return flag(self.get(name), self.at(name))

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        """Return a member of `kind`."""
        return choice(kind, self.get(name), self.at(name))

    def text_or_none(self, name: str) -> str | None:
        """Return text, or None for null."""
        return None if self.get(name) is None else self.text(name)

    def number_or_none(self, name: str) -> float | None:
        """Return a finite number, or None for null."""
        return None if self.get(name) is None else self.number(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(text(item, self.at(name)) for item in items(self.get(name), self.at(name)))

    def record(self, name: str) -> "Fields":
        """Return an object."""
        return Fields.of(self.get(name), self.at(name))

    def records(self, name: str) -> "list[Fields]":
        """Return a list of objects."""
        found = items(self.get(name), self.at(name))
        return [Fields.of(item, f"{self.at(name)}[{index}]") for index, item in enumerate(found)]


def named_numbers(record: Fields, name: str) -> tuple[tuple[str, float], ...]:
    """Return a list of rows of a name and a number."""
    where = record.at(name)
    rows = [row(item, where, 2) for item in items(record.get(name), where)]
    return tuple((text(found[0], where), number(found[1], where)) for found in rows)
