"""Outcomes and counters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.observations import ANSWERS, FAILURES, OURS, CounterKey, Outcome, outcome_of_status


def test_every_outcome_is_the_variants_or_ours_and_never_both() -> None:
    """What we did ourselves is never a failure of a variant, nor an answer of it."""
    assert set(Outcome) == ANSWERS | FAILURES | OURS
    assert not OURS & (ANSWERS | FAILURES)
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
