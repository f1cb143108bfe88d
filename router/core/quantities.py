"""Quantities as people write them, turned into the numbers that the rest of Turnout counts with.

A bare number is always refused: 10 could mean 10 % or a tenth, seconds or milliseconds. Each reader raises
ValueError with the words "what was expected", which become the end of the operator's error sentence.
"""

import re
from decimal import Decimal

from router.core.config import KIB, MIB

_QUANTITY = re.compile(r"(?P<sign>-?)(?P<number>\d{1,15}(?:\.\d{1,9})?) ?(?P<unit>[A-Za-z%]+)")

_PERCENT = {"%": Decimal("0.01")}
_POINTS = {"pp": Decimal("0.01")}
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3_600),
    "d": Decimal(86_400),
}
_BYTES = {"B": Decimal(1), "KiB": Decimal(KIB), "MiB": Decimal(MIB), "GiB": Decimal(MIB * KIB)}

_LONGEST_S = 3_650 * 86_400
"""Ten years. Chosen: timers and arithmetic stay far from any overflow."""


def share_bp(value: object) -> int:
    """Return `10%` as 1000 basis points; 0..10000, steps of 0.01 %."""
    share = _read(value, "a share", _PERCENT, "10%", high=Decimal(1))
    basis_points = share * 10_000
    if basis_points != int(basis_points):
        raise ValueError("a share in steps of 0.01%")
    return int(basis_points)


def fraction(value: object) -> float:
    """Return `2%` as 0.02; 0..1."""
    return float(_read(value, "a share", _PERCENT, "2%", high=Decimal(1)))


def ratio(value: object) -> float:
    """Return `150%` as 1.5; from 0 up."""
    return float(_read(value, "a relative change", _PERCENT, "10%"))


def points(value: object) -> float:
    """Return `0.5pp` (percentage points, the difference of two rates) as 0.005; 0..1."""
    return float(_read(value, "a difference of rates in percentage points", _POINTS, "0.5pp", high=Decimal(1)))


def duration_s(value: object, *, positive: bool = True) -> float:
    """Return `500ms`, `30s`, `5m`, `1h`, `7d` as seconds, up to ten years; 0 only if `positive` is False."""
    seconds = _read(value, "a duration", _SECONDS, "30s")
    if seconds > _LONGEST_S:
        raise ValueError("a duration up to 3650d")
    if positive and not seconds:
        raise ValueError("a duration above 0")
    return float(seconds)


def size_bytes(value: object) -> int:
    """Return `8KiB`, `64MiB`, `1GiB` or `100B` as bytes, from 1 up."""
    size = _read(value, "a size", _BYTES, "8MiB")
    if size < 1:
        raise ValueError("a size of at least 1B")
    return int(size)


def _read(value: object, what: str, units: dict[str, Decimal], example: str, high: Decimal | None = None) -> Decimal:
    """Return number times unit, 0 at least; ValueError tells how to write it."""
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found["unit"] not in units:
        usual = f"like {example} (units: {', '.join(units)})"
        raise ValueError(f"{what} {_advice(value, units) or usual}")
    quantity = Decimal(found["number"]) * units[found["unit"]]
    if found["sign"] or (high is not None and quantity > high):
        first = next(iter(units))
        raise ValueError(f"{what} from 0{first}" + (f" to {high / units[first]:f}{first}" if high else " up"))
    return quantity


def _advice(value: object, units: dict[str, Decimal]) -> str | None:
    """Say how a bare number was probably meant, None for anything else; below 1 it may be a share of one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if units is _PERCENT and 0 < value < 1:
        return f"with its unit: write {value}% or {(Decimal(str(value)) * 100).normalize():f}%"
    return "with its unit: write " + " or ".join(f"{value}{unit}" for unit in units)
