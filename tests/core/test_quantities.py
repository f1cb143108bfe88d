"""Quantities: what is read, and how a bare number is refused."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.quantities import duration_s, fraction, points, ratio, share_bp, size_bytes

LAWS = settings(deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("reader", "text", "number"),
    [
        (share_bp, "10%", 1_000),
        (share_bp, "0%", 0),
        (share_bp, "100%", 10_000),
        (share_bp, "0.01%", 1),
        (share_bp, "99.99 %", 9_999),
        (share_bp, "33.330%", 3_333),
        (fraction, "2%", 0.02),
        (fraction, "0.001%", 0.00001),
        (ratio, "150%", 1.5),
        (points, "0.5pp", 0.005),
        (points, "100pp", 1.0),
        (duration_s, "500ms", 0.5),
        (duration_s, "30s", 30.0),
        (duration_s, "5m", 300.0),
        (duration_s, "1.5h", 5_400.0),
        (duration_s, "7d", 604_800.0),
        (size_bytes, "100B", 100),
        (size_bytes, "8KiB", 8_192),
        (size_bytes, "0.5MiB", 524_288),
        (size_bytes, "1GiB", 2**30),
    ],
)
def test_a_quantity_is_read_with_its_unit(reader: Callable[[object], float], text: str, number: float) -> None:
    """Exactly, not by floating point on the way."""
    assert reader(text) == number


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        (share_bp, 10, "a share with its unit: write 10%"),
        (share_bp, 0, "a share with its unit: write 0%"),
        (share_bp, 0.1, "a share with its unit: write 0.1% or 10%"),
        (share_bp, "10", "a share like 10% (units: %)"),
        (share_bp, "10pp", "a share like 10% (units: %)"),
        (share_bp, True, "a share like 10% (units: %)"),
        (share_bp, None, "a share like 10% (units: %)"),
        (share_bp, "100.01%", "a share from 0% to 100%"),
        (share_bp, "-1%", "a share from 0% to 100%"),
        (share_bp, "0.001%", "a share in steps of 0.01%"),
        (share_bp, "1e2%", "a share like 10% (units: %)"),
        (ratio, "-1%", "a relative change from 0% up"),
        (points, 0.5, "a difference of rates in percentage points with its unit: write 0.5pp"),
        (points, "0.5%", "a difference of rates in percentage points like 0.5pp (units: pp)"),
        (points, "101pp", "a difference of rates in percentage points from 0pp to 100pp"),
        (duration_s, 30, "a duration with its unit: write 30ms or 30s or 30m or 30h or 30d"),
        (duration_s, "0s", "a duration above 0"),
        (duration_s, "1w", "a duration like 30s (units: ms, s, m, h, d)"),
        (duration_s, "3651d", "a duration up to 3650d"),
        (duration_s, "9" * 400 + "s", "a duration like 30s (units: ms, s, m, h, d)"),
        (size_bytes, 8_192, "a size with its unit: write 8192B or 8192KiB or 8192MiB or 8192GiB"),
        (size_bytes, "8MB", "a size like 8MiB (units: B, KiB, MiB, GiB)"),
        (size_bytes, "0B", "a size of at least 1B"),
    ],
    ids=lambda value: None if callable(value) else repr(value)[:40],
)
def test_anything_else_is_refused_with_what_was_expected(
    reader: Callable[[object], float], value: object, expected: str
) -> None:
    """A bare number gets advice how it was probably meant."""
    with pytest.raises(ValueError, match=r".*") as error:
        reader(value)
    assert str(error.value) == expected


@given(st.integers(0, 10_000))
@LAWS
def test_every_basis_point_can_be_written(basis_points: int) -> None:
    """The share that is shown is the share that is read."""
    assert share_bp(f"{Decimal(basis_points) / 100}%") == basis_points


@given(st.text() | st.floats() | st.integers() | st.lists(st.integers()))
@LAWS
def test_a_reader_raises_nothing_but_value_error(value: object) -> None:
    """Whatever YAML or JSON gives."""
    for reader in (share_bp, fraction, ratio, points, duration_s, size_bytes):
        try:
            reader(value)
        except ValueError as error:
            expected = str(error)
            assert "\n" not in expected
