"""What a request costs beside a fixed reference: held to what was recorded, and a slow gateway is found out."""

import sys
from collections.abc import Callable

import pytest

from loadtests.compare.figures import MIRROR, PLAIN
from loadtests.guard import CHEAPER, DEARER, RECORDED, costs, judged
from loadtests.planted_turnout import planted

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads CPU from /proc, pins by taskset")
USUAL = {PLAIN: 1.0, MIRROR: 2.0}


@LINUX
@pytest.mark.slow
@pytest.mark.alone
def test_a_request_costs_what_was_recorded(figure: Callable[[str], None]) -> None:
    """Plain and 100 % mirror with pairs written, each within its two bounds."""
    found = costs((PLAIN, MIRROR))
    figure("; ".join(f"{mode} {ratio:.2f} x the reference, recorded {RECORDED[mode]}" for mode, ratio in found.items()))
    assert judged(found) == []


@LINUX
@pytest.mark.slow
@pytest.mark.alone
def test_a_gateway_with_needless_work_is_found_out(figure: Callable[[str], None]) -> None:
    """The same measurement, the same record, and a gateway that takes about half as much again."""
    found = costs((PLAIN,), planted("needless_work"))
    figure(f"plain with needless work {found[PLAIN]:.2f} x the reference, recorded {RECORDED[PLAIN]}")
    (complaint,) = judged(found)
    assert "it has become dearer" in complaint


@pytest.mark.parametrize(
    ("share", "says"), [(DEARER, None), (1.01 * DEARER, "dearer"), (CHEAPER, None), (0.99 * CHEAPER, "cheaper")]
)
def test_both_bounds_hold_and_each_mode_has_its_own(share: float, says: str | None) -> None:
    """At the bound is inside; beyond it the sentence names the mode, the figures and what to do."""
    complaints = judged({PLAIN: 1.0, MIRROR: 2.0 * share}, USUAL)
    assert len(complaints) == (says is not None)
    for complaint in complaints:
        assert complaint.startswith(
            f"mirror: a request takes {2.0 * share:.2f} times the reference's CPU, recorded 2.00"
        )
        assert f"it has become {says}" in complaint
