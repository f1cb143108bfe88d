"""DP2: every answer of the corpus, from a live upstream, and the requests that come after it."""

import pytest

from router.core.traffic import Variant
from tests.gateway.bench import Bench, route_of
from tests.http.cases import AnswerCase
from tests.http.corpus import ANSWER_CASES
from tests.http.play import judge_answer, play_answer
from tests.http.recorder import Recorder


@pytest.mark.parametrize("case", ANSWER_CASES, ids=str)
async def test_dp2_an_answer_has_an_outcome_that_the_rfcs_allow(bench: Bench, case: AnswerCase) -> None:
    """Exact, 502 or visibly cut short as the RFCs say; the next requests get their own answers and no POISON."""
    recorder = Recorder()
    upstream = await bench.upstream(recorder.script)
    gateway = await bench.gateway(route_of(Variant("v1", (upstream.backend,), host="preserve")))
    seen = await play_answer(case, gateway.port, recorder)
    assert judge_answer(case, seen) == "", f"{case.id}: {case.title} (RFC {case.rfc})"
