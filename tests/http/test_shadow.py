"""MI4: every answer of the corpus, from the shadow of one worker, so that no case may harm a later one."""

import asyncio

import pytest
import uvloop

from tests.gateway.bench import Gateway, route_of, started, until
from tests.gateway.clients import Client
from tests.gateway.upstreams import echo
from tests.http.cases import AnswerCase
from tests.http.corpus import ANSWER_CASES
from tests.http.recorder import Recorder
from tests.http.servers import own_bench

BODY = b"the live answer"
COPIED = tuple(case for case in ANSWER_CASES if case.method != "HEAD")
"""Only POST is ever copied, so no shadow is asked for a HEAD."""
TARGETS = ("/case", "/fresh", "/fresh")


async def _play_all() -> dict[str, list[str]]:
    """Return for each case what was wrong with the live answers, and then how the copies after it ended."""
    recorder = Recorder()
    async with own_bench() as bench:
        shadow, live = await bench.upstream(recorder.script), await bench.upstream(echo)
        gateway = await bench.gateway(route_of(live, shadow), states=[started(0, 10_000)])
        client = await bench.client()
        found = {case.id: await _play(case, gateway, client, recorder) for case in COPIED}
        pairs = sorted(await gateway.pairs(len(TARGETS) * len(COPIED)), key=lambda pair: pair.assigned_at_s)
        for at, wrong in enumerate(found.values()):
            for pair in pairs[at * len(TARGETS) :][: len(TARGETS)][1:]:
                got = (pair.candidate.outcome, pair.candidate.status, pair.candidate.body_bytes)
                if got != ("ok", 200, len("/fresh")):
                    wrong.append(f"the next copy ended as {got}")
    return found


async def _play(case: AnswerCase, gateway: Gateway, client: Client, recorder: Recorder) -> list[str]:
    recorder.begin(case)
    wrong = []
    for target in TARGETS:
        answer = await client.ask("POST", target, BODY)
        if (answer.status, answer.body) != (200, BODY):
            wrong.append(f"the client got {answer.status} {answer.body[:20]!r}")
        await until(lambda: not gateway.held(), "the copy has ended")
        recorder.release.set()
        await until(recorder.answered.is_set, "the shadow has said all")
    return wrong


@pytest.fixture(scope="module")
def wrong() -> dict[str, list[str]]:
    """Return what was wrong with each case."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_play_all())


@pytest.mark.parametrize("case", COPIED, ids=str)
def test_mi4_no_answer_of_the_shadow_reaches_a_client_or_another_pair(
    wrong: dict[str, list[str]], case: AnswerCase
) -> None:
    """The live answers are exact, the gateway lives on, and the next copies get their own answers."""
    assert wrong[case.id] == [], f"{case.id}: {case.title} (RFC {case.rfc})"
