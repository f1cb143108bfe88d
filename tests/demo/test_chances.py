"""The acts end as they must by their margins, not by luck."""

from __future__ import annotations

import pytest

from tests.demo.chances import LAST_S, STEPS_S, Chances

RUNS = 12


@pytest.mark.slow
def test_both_acts_end_as_they_must_whatever_is_drawn() -> None:
    """Users, digits and delays drawn anew each time: v2 is proved within the last step, v3 is blamed for the 8s."""
    found = Chances.of(RUNS)
    print(found)  # noqa: T201 - shown with -s
    assert (len(found.promoted_s), len(found.blamed_s)) == (RUNS, RUNS)
    # With room to spare: labels are not what the last step waits for, and the shadow is long enough to find v3.
    assert max(found.promoted_s) < LAST_S - 4.0
    assert max(found.blamed_s) < STEPS_S[0] + 2.0
