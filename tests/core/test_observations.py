"""Outcomes and counters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.observations import (
    ANSWERS,
    DROPS,
    FAILURES,
    CounterKey,
    End,
    Outcome,
    distance_bucket,
    outcome_of_status,
)


def test_every_outcome_is_the_variants_or_ours_and_never_both() -> None:
    """What we did ourselves is never a failure of a variant, nor an answer of it."""
    assert set(Outcome) == ANSWERS | FAILURES | DROPS | {Outcome.CANCELLED}
    assert not (DROPS | {Outcome.CANCELLED}) & (ANSWERS | FAILURES)
    assert {Outcome.HTTP_ERROR} == ANSWERS & FAILURES
    assert [outcome for outcome in Outcome if outcome.is_failure] == [
        Outcome.HTTP_ERROR, Outcome.CONNECT_FAILED, Outcome.RESET, Outcome.MALFORMED, Outcome.TIMEOUT,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "ok"), (399, "ok"), (400, "client_error"), (499, "client_error"), (500, "http_error")]
)
def test_a_complete_answer_is_judged_by_its_status(status: int, outcome: str) -> None:
    """A client's mistake is no failure of the variant, a 5xx is."""
    assert outcome_of_status(status) == outcome


@given(st.integers(0), st.text(), st.text(), st.text(), st.text())
@settings(deadline=None, derandomize=True)
def test_a_counter_key_is_read_back_from_its_field(
    exposure: int, metric: str, slice_: str, variant: str, cell: str
) -> None:
    """Whatever characters its parts hold, and no two keys share a field."""
    key = CounterKey(exposure, metric, slice_, variant, cell)
    assert CounterKey.from_field(key.to_field()) == key


@pytest.mark.parametrize("text", ["", "1|a|b|c", "1|a|b|c|d|e", "x|a|b|c|d"])
def test_a_field_that_is_no_key_is_refused(text: str) -> None:
    """Counters of an unknown form are an error, never a zero."""
    with pytest.raises(ValueError, match=r"expected 5 parts|invalid literal"):
        CounterKey.from_field(text)


def test_an_end_says_whose_fault_a_missing_answer_is() -> None:
    """A client's mistake is fine, a failure is one, and of what we gave up nobody can say."""
    assert {
        End.FINE: {Outcome.OK, Outcome.CLIENT_ERROR}, End.FAIL: set(FAILURES), End.UNKNOWN: {*DROPS, Outcome.CANCELLED},
    } == {end: {outcome for outcome in Outcome if outcome.end is end} for end in End}  # fmt: skip


@pytest.mark.parametrize(("distance", "bucket"), [(0.0, 0), (1e-6, 0), (1.05e-6, 1), (1.0, 284), (1e9, 520)])
def test_a_distance_falls_into_a_bucket_of_five_percent(distance: float, bucket: int) -> None:
    """From a millionth up; what is farther than all edges is in the last one."""
    assert bucket == distance_bucket(distance)
