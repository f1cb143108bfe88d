"""docs/http.md: in step with the corpus, and with what `test_corpus` holds Turnout to."""

import re
from pathlib import Path

from tests.http.cases import AnswerCase, RequestCase
from tests.http.corpus import ANSWER_CASES, MISSED, REQUEST_CASES
from tests.http.table import GROUPS, PASSED

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
CASES: tuple[RequestCase | AnswerCase, ...] = (*REQUEST_CASES, *ANSWER_CASES)
ROW = re.compile(r"\| ([A-Z]{2}[0-9]{2}) \| (.*) \| (911[02] [0-9A-C.]+) \| ([^|]*) \| .* \| .* \|")


def rows() -> dict[str, tuple[str, str]]:
    """Return section and Turnout's cell of each row of the page, by id."""
    found = [ROW.fullmatch(line) for line in PAGE.read_text().splitlines()]
    return {row[1]: (row[3], row[4]) for row in found if row is not None}


def test_dp1_no_two_cases_share_an_id_and_each_has_an_outcome() -> None:
    """A case without an allowed outcome could never pass; the issue asks for 150 cases."""
    assert len({case.id for case in CASES}) == len(CASES) >= 170
    assert all(case.allowed for case in CASES)
    assert {case.id for cases in GROUPS.values() for case in cases} == {case.id for case in CASES}


def test_dp1_the_page_has_a_row_for_each_case_and_no_other() -> None:
    """`python -m tests.http` writes it anew."""
    assert {id_: rfc for id_, (rfc, _) in rows().items()} == {case.id: case.rfc for case in CASES}


def test_dp1_the_page_says_of_turnout_what_is_known_of_it() -> None:
    """Passed, but for the cases that the corpus names with a reason."""
    assert {id_ for id_, (_, cell) in rows().items() if cell != PASSED} == MISSED.keys()
