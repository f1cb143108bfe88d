"""A candidate that is worse for one tenant only, through real processes: two workers, control, Valkey, two servers."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.harness import TURNOUT, Admin, Turnouts, clean_environment, config_for
from tests.e2e.load import ask_all, eventually
from tests.e2e.model_server import BODY, INFER, ModelServer, Seen, answer_of
from tests.e2e.wire import request

PATIENT = {"consecutive": 1_000_000, "window": 1_000, "ratio": "100%", "fleet": "local"}
MARGIN = {"max_increase": "20pp", "tolerance": "15pp"}
OOPS = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"


class WorseForOne(ModelServer):
    """Gives one tenant another answer than all others get."""

    def __init__(self, label: int, tenant: str, answer: bytes) -> None:
        super().__init__(label)
        self._tenant = tenant
        self._bad = answer

    def answer_to(self, seen: Seen) -> bytes | None:
        """Return the bad answer, or the usual one."""
        return self._bad if seen.headers.get("x-tenant") == self._tenant else None


def mixed(number: int, one_in: int = 11) -> Iterator[bytes]:
    """Yield so many requests, one in `one_in` of which is acme's; the tenant stands in a field and in the body."""
    for index in range(1, number + 1):
        tenant = f"t{index % 3}" if index % one_in else "acme"
        body = json.dumps({**json.loads(BODY), "parameters": {"tenant": tenant}}).encode()
        yield request("POST", INFER, body, {"x-tenant": tenant})


def config_with(
    stable: ModelServer, candidate: ModelServer, source: str, step: Mapping[str, object], *gates: Mapping[str, object]
) -> dict[str, Any]:
    """Return a configuration of two workers whose rollout has one step that lasts, and asks these gates."""
    rollout = {
        "candidate": "v2",
        "policy": "canary",
        "steps": [{**step, "bake": "1h"}],
        "gates": gates,
        "breaker": PATIENT,
    }
    config = config_for(
        stable, candidate, rollout=rollout, affinity=[], slices=[source], rescue={"enabled": False},
        timeouts={"connect": "1s", "total": "1s"},
    )  # fmt: skip
    return {**config, "gateway": {"port": 0, "workers": 2}}


async def found(admin: Admin, gate: str, by: str) -> Any:  # noqa: ANN401 - JSON
    """Return the decision once the rollout is rolled back: it names the slice, and the gate of all requests passes."""

    async def rolled_back() -> bool:
        return bool((await admin.rollout())["phase"] == "rolled_back")

    await eventually(rolled_back, within_s=20.0)
    decision = (await admin.get("/decisions"))[0]
    assert decision["kind"] == "roll_back"
    assert decision["reason"].startswith(f"{by}: ")
    results = {one["gate"]: one for one in decision["judgement"]["gates"]}
    assert results[gate]["verdict"] == "pass"
    assert [name for name, one in results.items() if one["verdict"] == "fail"] == [by]
    assert (results[gate]["slice"], results[by]["slice"]) == (None, "tenant=acme")
    return decision


async def until_passes(admin: Admin, gate: str) -> None:
    """Return once the gate of all requests passes."""

    async def passes() -> bool:
        gates = {one["gate"]: one["verdict"] for one in (await admin.rollout())["judgement"]["gates"]}
        return bool(gates[gate] == "pass")

    await eventually(passes, within_s=20.0)


@pytest.mark.slow
async def test_harm_to_one_tenant_is_found_by_its_slice_while_all_requests_together_pass(
    turnouts: Turnouts, stable: ModelServer, figure: Callable[[str], None]
) -> None:
    """Nobody has named the tenant: it gets its place by traffic, keeps it when worker and control die, and is named."""
    gates = {"metric": "error_rate", **MARGIN}, {"metric": "error_rate", **MARGIN, "slices": "each", "name": "tenants"}
    async with WorseForOne(2, "acme", OOPS).running() as candidate:
        config = config_with(stable, candidate, "header:x-tenant", {"weight": "50%"}, *gates)
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        before = await admin.until_routed(replicas=2)
        assert (before["slices"], before["free_places"]) == (["tenant=other", "tenant=none"], 5)
        answers = [*await ask_all(serve.port("gateway"), mixed(1_600))]

        async def placed() -> bool:
            return bool((await admin.rollout())["free_places"] == 1)

        await eventually(placed, within_s=20.0)
        rollout = await admin.until_routed(replicas=2)
        assert sorted(rollout["slices"][2:]) == ["tenant=acme", "tenant=t0", "tenant=t1", "tenant=t2"]
        assert rollout["phase"] == "progressing", rollout["reason"]
        for pid in (serve.workers()[0], serve.pid_of("router.app control")):
            os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            now = await admin.rollout()
            return now["slices"] == rollout["slices"] and len(now["replicas"]) >= 2

        await eventually(lambda: answered(back), within_s=20.0)
        answers += await ask_all(serve.port("gateway"), mixed(2_200))
        decision = await found(admin, "error_rate", "tenants@tenant=acme")
        kinds = [one["kind"] for one in await admin.get("/decisions")]
        counted = (await admin.get("/evidence"))["counters"]
        shown = cli(serve.port("admin"), "get"), cli(serve.port("admin"), "decisions")
    assert {answer.status for answer in answers} == {200, 500}
    assert kinds == ["roll_back", "give_places", "start"]
    assert {one["slice"] for one in counted} == {"", *rollout["slices"]} - {"tenant=none"}
    assert "Slices:        tenant=other, tenant=none, tenant=" in shown[0]
    assert "tenants@tenant=acme: " in shown[0]
    assert "judged by themselves from now on: tenant=" in shown[1]
    figure(decision["reason"])


@pytest.mark.slow
async def test_a_tenant_in_the_body_whose_answers_differ_is_found_in_the_shadow(
    turnouts: Turnouts, stable: ModelServer, figure: Callable[[str], None]
) -> None:
    """By pairs, before the candidate serves anybody; its gate names the slice, so it has a place from the start."""
    gates = {"metric": "disagreement", "max": "20%"}, {"metric": "disagreement", "max": "20%", "slice": "tenant=acme"}
    async with WorseForOne(stable.label, "acme", answer_of(stable.label + 1)).running() as candidate:
        config = config_with(stable, candidate, "json:$.parameters.tenant", {"mirror": "100%"}, *gates)
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        assert (await admin.until_routed(replicas=2))["slices"][2:] == ["tenant=acme"]
        answers = [*await ask_all(serve.port("gateway"), mixed(600, one_in=1_000))]
        await until_passes(admin, "disagreement")
        answers += await ask_all(serve.port("gateway"), mixed(400))
        decision = await found(admin, "disagreement", "disagreement@tenant=acme")
        pairs = await admin.get("/pairs?disagreements=true&limit=500")
        explained = cli(serve.port("admin"), "explain")
    assert {answer.status for answer in answers} == {200}
    assert {one["slices"]["tenant"] for one in pairs} == {"acme"}
    assert "disagreement@tenant=acme: " in explained
    figure(decision["reason"])


async def answered(condition: Callable[[], Any]) -> bool:
    """Return whether a condition holds; False while control is not there to be asked."""
    try:
        return bool(await condition())
    except (OSError, AssertionError):
        return False


def cli(port: int, *arguments: str) -> str:
    """Return what the command line prints."""
    command = [str(TURNOUT), *arguments, "--url", f"http://127.0.0.1:{port}"]
    env = clean_environment(COLUMNS="500")
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
