"""MI4: every answer of the corpus, from the shadow."""

import pytest

from tests.gateway.bench import Bench, route_of, started, until
from tests.gateway.upstreams import echo
from tests.http.cases import AnswerCase
from tests.http.corpus import ANSWER_CASES
from tests.http.recorder import Recorder

BODY = b"the live answer"


COPIED = tuple(case for case in ANSWER_CASES if case.method != "HEAD")
"""Only POST is ever copied, so no shadow is asked for a HEAD."""


@pytest.mark.slow
@pytest.mark.parametrize("case", COPIED, ids=str)
async def test_mi4_no_answer_of_the_shadow_reaches_a_client_or_another_pair(bench: Bench, case: AnswerCase) -> None:
    """The live answer is exact, the gateway lives on, and the next copies get their own answers."""
    recorder = Recorder()
    shadow = await bench.upstream(recorder.script)
    live = await bench.upstream(echo)
    gateway = await bench.gateway(route_of(live, shadow), states=[started(0, 10_000)])
    recorder.begin(case)
    client = await bench.client()
    for number, target in enumerate(("/case", "/fresh", "/fresh"), 1):
        answer = await client.ask("POST", target, BODY)
        assert (answer.status, answer.body) == (200, BODY)
        await until(lambda: not gateway.held(), "the copy has ended")
        recorder.release.set()
        if number == 1:
            await until(recorder.answered.is_set, "the shadow has said all")
    assert gateway.outcomes() == {"ok": 3}
    pairs = sorted(await gateway.pairs(3), key=lambda pair: pair.assigned_at_s)
    assert [pair.stable.outcome for pair in pairs] == ["ok"] * 3
    following = [(pair.candidate.outcome, pair.candidate.status, pair.candidate.body_bytes) for pair in pairs[1:]]
    assert following == [("ok", 200, len("/fresh"))] * 2
