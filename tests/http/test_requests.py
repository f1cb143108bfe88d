"""DP1: every request of the corpus, through a worker to a strict recording upstream."""

from typing import Any

import pytest

from router.core.traffic import Variant
from tests.gateway.bench import Bench, route_of
from tests.http.cases import RequestCase
from tests.http.corpus import MISSED, REQUEST_CASES
from tests.http.play import judge_request, play_request
from tests.http.recorder import Recorder


def cases() -> list[Any]:
    """Return the cases; those that are known to be missed must go on failing until they are taken off the list."""
    xfail = {id_: [pytest.mark.xfail(reason=reason, strict=True)] for id_, reason in MISSED.items()}
    return [pytest.param(case, id=case.id, marks=xfail.get(case.id, [])) for case in REQUEST_CASES]


@pytest.mark.parametrize("case", cases())
async def test_dp1_a_request_has_an_outcome_that_the_rfcs_allow(bench: Bench, case: RequestCase) -> None:
    """Refused, closed or passed on as the RFCs say; nothing malformed and no `/smuggled` upstream."""
    recorder = Recorder()
    upstream = await bench.upstream(recorder.script)
    gateway = await bench.gateway(route_of(Variant("v1", (upstream.backend,), host="preserve")))
    seen = await play_request(case, gateway.port, recorder)
    assert judge_request(case, seen) == "", f"{case.id}: {case.title} (RFC {case.rfc})"
