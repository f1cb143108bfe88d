"""Shadow through real processes: one pair for each request, and the candidate is never heard."""

import json
import subprocess
from collections.abc import Sequence

import pytest

from tests.e2e.harness import TURNOUT, Admin, Turnouts, clean_environment, config_for
from tests.e2e.load import ask_all, eventually, until
from tests.e2e.model_server import BODY, INFER, ModelServer, answer_of
from tests.e2e.wire import request

SHADOW = {"candidate": "v2", "policy": "shadow"}
REQUESTS = 1_000
"""As many as the admin API shows at once."""


def asked(ids: Sequence[str]) -> list[bytes]:
    """Return one request for each id."""
    return [request("POST", INFER, BODY, {"x-request-id": one}) for one in ids]


async def turnout_pairs(admin_port: int) -> list[object]:
    """Return what `turnout pairs` says; the test's loop may block, since nothing of Turnout waits for it."""
    listed = subprocess.run(  # noqa: ASYNC221 - see above
        [TURNOUT, "pairs", "--limit", str(REQUESTS), "-o", "json"],
        env=clean_environment(TURNOUT_URL=f"http://127.0.0.1:{admin_port}"),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in listed.stdout.splitlines()]


async def test_shadow_at_100_percent_gives_exactly_one_pair_for_each_request(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """1,000 requests: 1,000 answers of stable, 1,000 copies, 1,000 pairs, read by the API and by the command line."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=SHADOW))
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    ids = [f"request-{number}" for number in range(REQUESTS)]
    answers = await ask_all(serve.port("gateway"), asked(ids))
    assert {answer.status for answer in answers} == {200}
    assert {answer.json()["outputs"][0]["data"][0] for answer in answers} == {1}
    assert [answer.headers["x-request-id"] for answer in answers] == ids

    async def all_there() -> bool:
        return len(await admin.get(f"/pairs?limit={REQUESTS}")) == REQUESTS

    await eventually(all_there)
    pairs = await admin.get(f"/pairs?limit={REQUESTS}")
    assert sorted(pair["request_id"] for pair in pairs) == sorted(ids)
    assert sorted(seen.request_id for seen in candidate.seen) == sorted(ids)
    assert sorted(seen.request_id for seen in stable.seen) == sorted(ids)
    assert all(seen.is_copy for seen in candidate.seen)
    assert not any(seen.is_copy for seen in stable.seen)
    assert {pair["served"] for pair in pairs} == {"stable"}
    assert {(pair["stable"]["outcome"], pair["candidate"]["outcome"]) for pair in pairs} == {("ok", "ok")}
    labels = {(pair["stable"]["prediction"]["label"], pair["candidate"]["prediction"]["label"]) for pair in pairs}
    assert labels == {("1", "2")}
    assert {pair["comparison"]["same"] for pair in pairs} == {False}

    assert await turnout_pairs(serve.port("admin")) == pairs


@pytest.mark.slow
async def test_evidence_counts_each_request_and_pair_once(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """What the counters say is what the clients and the servers saw, also after a restart of everything."""
    config = config_for(stable, candidate, rollout=SHADOW)
    total = 0
    for number in (300, 200):
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        await ask_all(serve.port("gateway"), asked([f"{total + one}" for one in range(number)]))
        total += number

        async def all_counted(admin: Admin = admin, total: int = total) -> bool:
            counts = (await admin.get("/evidence"))["counts"]
            return bool(counts == {"requests_stable": total, "requests_candidate": 0, "pairs": total})

        await eventually(all_counted)
        counters = await admin.counters()
        assert counters is not None
        assert sum(value for (_, metric, *_), value in counters.items() if metric == "agreement") == total
        assert await serve.stop() == 0
    assert len(candidate.seen) == len(stable.seen) == total


@pytest.mark.parametrize(
    ("served", "weight"), [("stable", "0%"), pytest.param("candidate", "100%", marks=pytest.mark.slow)]
)
async def test_live_requests_and_copies_each_name_the_model_of_their_variant(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, served: str, weight: str
) -> None:
    """A candidate with a `model` of its own is asked for that; stable is asked what the client asked, by copies too."""
    rollout = {"candidate": "v2", "policy": "canary", "steps": [{"weight": weight, "mirror": "100%"}]}
    config = config_for(stable, candidate, rollout=rollout)
    config["routes"]["digits"]["variants"]["v2"]["model"] = "digits-v2"
    serve = await turnouts.start(config)
    await Admin(serve.port("admin")).until_routed()
    answers = await ask_all(serve.port("gateway"), asked([str(number) for number in range(50)]))
    assert {answer.headers["x-turnout-variant"] for answer in answers} == {served}
    await until(lambda: len(stable.seen) == len(candidate.seen) == 50)
    assert {seen.target for seen in stable.seen} == {INFER}
    assert {seen.target for seen in candidate.seen} == {"/v2/models/digits-v2/infer"}


class WordyServer(ModelServer):
    """Answers for 5,000 rows at once."""

    @property
    def answer(self) -> bytes:
        """The bytes of every answer."""
        return answer_of(self.label, rows=5_000)


@pytest.mark.slow
async def test_ov9_long_answers_are_compared_beside_the_worker_and_not_in_it(turnouts: Turnouts) -> None:
    """The pair has its verdict; the worker has loaded nothing for it, and stopping leaves nothing behind."""
    async with WordyServer(1).running() as stable, WordyServer(2).running() as candidate:
        serve = await turnouts.start(config_for(stable, candidate, rollout=SHADOW))
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        await ask_all(serve.port("gateway"), asked(["one"]))

        async def told() -> bool:
            return bool(await admin.get("/pairs?limit=1"))

        await eventually(told)
        (pair,) = await admin.get("/pairs?limit=1")
        assert pair["comparison"]["same"] is False
        assert pair["comparison"]["reason"] == "row 0: 1 != 2 (5000 of 5000 rows differ)"
        assert any("router.app compare" in command for command in serve.processes().values())
        assert await serve.stop() == 0
