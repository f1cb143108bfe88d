"""CF2: the file is read again under load, a hundred times; nobody notices, and nothing is left over."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.app import load_config
from tests.e2e.harness import Admin, Turnout, Turnouts, config_for
from tests.e2e.load import Load, eventually, until
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request

HALF = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "50%", "mirror": "10%", "bake": "1h"}]}


def rewrite(serve: Turnout, config: dict[str, Any], *, say: bool = True) -> None:
    """Change the file and, unless that is done otherwise, say so."""
    file = serve.directory / "turnout.yaml"
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    new.replace(file)
    if say:
        serve.process.send_signal(signal.SIGHUP)


def reloaded(serve: Turnout) -> int:
    """Return how many reloads the parent has carried out."""
    return sum(line["event"] == "reloaded" for line in serve.logged("info"))


def descriptors(serve: Turnout) -> int:
    """Return how many files and sockets all its processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in serve.processes())


def tasks(serve: Turnout) -> int:
    """Return how many threads all its processes have."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in serve.processes())


async def started(turnouts: Turnouts, stable: ModelServer, candidate: ModelServer) -> tuple[Turnout, dict[str, Any]]:
    """Return a `turnout serve` with two workers and half of the traffic on the candidate."""
    config = config_for(stable, candidate, rollout=HALF)
    config["gateway"] |= {"workers": 2}
    serve = await turnouts.start(config)
    await Admin(serve.port("admin")).until_routed(replicas=2)
    return serve, config


@pytest.mark.slow
async def test_cf2_a_reload_changes_what_the_file_says_and_nothing_else(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """A new route answers, the rollout under way keeps its revision and weight, and no client sees an error."""
    serve, config = await started(turnouts, stable, candidate)
    before = await Admin(serve.port("admin")).rollout()
    old = set(serve.workers())
    async with Load(serve.port("gateway"), clients=16).running() as load:
        await load.until_answered(200)
        config["routes"]["other"] = {**config["routes"]["digits"], "match": {"path_prefix": "/other"}}
        del config["routes"]["other"]["rollout"]
        rewrite(serve, config, say=False)
        answer = await fetch(serve.port("admin"), request("POST", "/v1/reload"))
        assert answer.status == 202, answer
        await until(lambda: reloaded(serve) == 1, within_s=20.0)
        await until(lambda: not old & set(serve.workers()), within_s=20.0)
        await load.until_answered(200)
    assert load.errors == []
    admin = Admin(serve.port("admin"))
    after = await admin.until_routed(replicas=2)
    assert (after["revision"], after["exposure"]) == (before["revision"], before["exposure"])
    assert (await Admin(serve.port("admin"), "other").get(""))["name"] == "other"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda config: config["routes"]["digits"].update(stabel="v1"), "stabel"),
        (lambda config: config["routes"]["digits"]["variants"].pop("v2"), "v2"),
        (lambda config: config["gateway"].update(workers=3), "gateway.workers changed, which only a restart can do"),
    ],
    ids=["an unknown field", "a variant that the file still uses", "what needs a restart"],
)
async def test_cf1_a_reload_of_a_bad_file_changes_nothing(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, spoil: Callable[[Any], object], why: str
) -> None:
    """The log names the field; the same processes serve on."""
    serve, config = await started(turnouts, stable, candidate)
    old = set(serve.workers())
    spoil(config)
    rewrite(serve, config)
    await until(lambda: refusals(serve), within_s=20.0)
    assert why in refusals(serve)[0]
    async with Load(serve.port("gateway"), clients=8).running() as load:
        await load.until_answered(100)
    assert load.errors == []
    assert (reloaded(serve), set(serve.workers())) == (0, old)


@pytest.mark.slow
async def test_cf2_a_reload_that_removes_a_variant_in_use_is_refused(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """A file that is right in itself, but half of the traffic goes to what it leaves out: the old processes stay."""
    serve, config = await started(turnouts, stable, candidate)
    old = set(serve.workers())
    route = config["routes"]["digits"]
    del route["rollout"], route["variants"]["v2"]
    rewrite(serve, config)
    await until(lambda: refusals(serve), within_s=20.0)
    assert "routes.digits.variants: got ['v1'], expected also v2, which has traffic now" in refusals(serve)[0]
    async with Load(serve.port("gateway"), clients=8).running() as load:
        await load.until_answered(100)
    assert load.errors == []
    assert set(serve.workers()) == old
    await Admin(serve.port("admin")).post("/rollout/abort", reason="then it is not in use any more")
    await Admin(serve.port("admin")).until_routed(replicas=2)
    rewrite(serve, config)
    await until(lambda: reloaded(serve) == 1, within_s=20.0)


def refusals(serve: Turnout) -> list[str]:
    """Return why reloads were refused."""
    return [line["why"] for line in serve.logged("error") if line["event"].startswith("reload refused")]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_cf2_a_hundred_reloads_under_load_are_noticed_by_nobody(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """100 asked for in 10 s, each another file: 0 errors, the last is in force; open files and threads are back."""
    serve, config = await started(turnouts, stable, candidate)
    admin = Admin(serve.port("admin"))
    before = await admin.rollout()
    async with Load(serve.port("gateway"), clients=16).running() as load:
        await load.until_answered(200)
    held = descriptors(serve), tasks(serve)
    async with Load(serve.port("gateway"), clients=16).running() as load:
        begun_s = time.monotonic()
        for number in range(100):
            config["routes"]["digits"]["timeouts"] = {"total": f"{20 + number}s"}
            rewrite(serve, config)
            await load.keep_on(max(0.0, begun_s + 0.1 * (number + 1) - time.monotonic()))
        async with asyncio.timeout(60):
            while refusals(serve) or not await settled(serve, admin):
                assert refusals(serve) == []
                await load.until_answered(50)
    assert load.errors == []
    last = load_config(serve.directory / "turnout.yaml", {})
    assert [line["digest"] for line in serve.logged("info") if line["event"] == "reloaded"][-1] == last.digest
    after = await Admin(serve.port("admin")).until_routed(replicas=2)
    assert (after["revision"], after["exposure"]) == (before["revision"], before["exposure"])
    async with Load(serve.port("gateway"), clients=16).running() as later:
        await later.until_answered(200)

    async def back() -> bool:
        return abs(descriptors(serve) - held[0]) <= 5 and abs(tasks(serve) - held[1]) <= 5

    await eventually(back, within_s=20.0)
    figure(
        f"{reloaded(serve)} reloads for 100 signals, {load.asked} requests, 0 errors; "
        f"open files {held[0]} before, {descriptors(serve)} after, threads {held[1]} and {tasks(serve)}"
    )


async def settled(serve: Turnout, admin: Admin) -> bool:
    """Whether the last file is in force everywhere: two workers, one control, none that is leaving."""
    kinds = [
        command.split(" router.app ")[1].split()[0]
        for command in serve.processes().values()
        if " router.app " in command
    ]
    return sorted(kinds) == ["control", "gateway", "gateway"] and len((await admin.rollout())["replicas"]) >= 2
