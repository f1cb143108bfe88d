"""The rule by which rounds with a fault are judged."""

import pytest

from tests.rounds import allowed, percentile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(share: float, expected: int) -> None:
    """Of 1 to 100: the median is 50, and the 99th percentile 99."""
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_limit_counts_where_calm_rounds_are_alike() -> None:
    """Calm rounds of 10, 11 and 10 ms: twice the median."""
    assert allowed(2.0, [10.0, 11.0, 10.0]) == 20.0


def test_calm_rounds_that_differ_much_allow_as_much() -> None:
    """Calm rounds of 10, 30 and 10 ms differ by 20: 60 above the median cannot be told from that."""
    assert allowed(2.0, [10.0, 30.0, 10.0]) == 70.0
