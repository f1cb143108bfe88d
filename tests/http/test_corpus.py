"""DP1 and DP2: the corpus through one worker to one upstream, so that no case may harm a later one."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import uvloop

from tests.http.cases import AnswerCase, RequestCase
from tests.http.corpus import ANSWER_CASES, MISSED, REQUEST_CASES
from tests.http.servers import turnout
from tests.http.table import Results, results_of


@pytest.fixture(scope="module")
def results() -> Results:
    """Return what was wrong with each case; the whole corpus takes two seconds in one run, forty in single ones."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(results_of(turnout))


def cases(of: Iterable[RequestCase | AnswerCase]) -> list[Any]:
    """Return the cases; those that are known to be missed must go on failing until they are taken off the list."""
    xfail = {id_: [pytest.mark.xfail(reason=reason, strict=True)] for id_, reason in MISSED.items()}
    return [pytest.param(case, id=case.id, marks=xfail.get(case.id, [])) for case in of]


@pytest.mark.parametrize("case", cases(REQUEST_CASES))
def test_dp1_a_request_has_an_outcome_that_the_rfcs_allow(results: Results, case: RequestCase) -> None:
    """Refused, closed or passed on as the RFCs say; nothing malformed and no `/smuggled` upstream."""
    assert results[case.id] == "", f"{case.id}: {case.title} (RFC {case.rfc})"


@pytest.mark.parametrize("case", cases(ANSWER_CASES))
def test_dp2_an_answer_has_an_outcome_that_the_rfcs_allow(results: Results, case: AnswerCase) -> None:
    """Exact, 502 or visibly cut short as the RFCs say; the next requests get their own answers and no POISON."""
    assert results[case.id] == "", f"{case.id}: {case.title} (RFC {case.rfc})"
