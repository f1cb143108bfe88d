"""CF2: the file is read again under load, a hundred times; nobody notices, and nothing is left over."""

import asyncio
import copy
import os
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


def without_candidate(config: dict[str, Any]) -> None:
    """Take the candidate out of a file, so that the rest of it is right."""
    route = config["routes"]["digits"]
    del route["rollout"], route["variants"]["v2"]


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

    async def known() -> bool:
        return (await fetch(serve.port("admin"), request("GET", "/v1/routes/other"))).status == 200

    await eventually(known, within_s=20.0)  # the old control process may answer until it has ended


BAD: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda config: config["routes"]["digits"].update(stabel="v1"), "stabel"),
    (lambda config: config["routes"]["digits"]["variants"].pop("v2"), "v2"),
    (lambda config: config["gateway"].update(workers=3), "gateway.workers changed, which only a restart can do"),
    (without_candidate, "routes.digits.variants: got ['v1'], expected also v2, which has traffic now"),
]
"""An unknown field; a variant that the file still uses; what needs a restart; a variant that has traffic."""


@pytest.mark.slow
async def test_cf1_a_reload_of_a_bad_file_changes_nothing(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """The log names the field, the same processes serve on; once it is not in use any more, a variant may go."""
    serve, config = await started(turnouts, stable, candidate)
    old = set(serve.workers())
    async with Load(serve.port("gateway"), clients=8).running() as load:
        for number, (spoil, why) in enumerate(BAD):
            bad = copy.deepcopy(config)
            spoil(bad)
            rewrite(serve, bad)
            await until(lambda number=number: len(refusals(serve)) > number, within_s=20.0)  # type: ignore[misc]
            assert why in refusals(serve)[number]
            await load.until_answered(100)
        assert (reloaded(serve), set(serve.workers())) == (0, old)
        admin = Admin(serve.port("admin"))
    os.kill(min(old), signal.SIGKILL)

    async def replaced() -> bool:
        found = await admin.rollout()
        routed = {one["pid"] for one in found["replicas"] if one["revision"] == found["revision"]}
        return bool(routed - old)

    await eventually(replaced, within_s=20.0)  # whoever takes a dead one's place lives by the file that was good
    async with Load(serve.port("gateway"), clients=8).running() as after:
        await admin.post("/rollout/abort", reason="then it is not in use any more")
        await admin.until_routed(replicas=2)
        without_candidate(config)
        rewrite(serve, config)
        await until(lambda: reloaded(serve) == 1, within_s=20.0)
    assert (load.errors, after.errors) == ([], [])


def refusals(serve: Turnout) -> list[str]:
    """Return why reloads were refused."""
    return [line["why"] for line in serve.logged("error") if line["event"].startswith("reload refused")]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("reloads", [20, pytest.param(100, marks=pytest.mark.soak)])
async def test_cf2_many_reloads_under_load_are_noticed_by_nobody(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, reloads: int, figure: Callable[[str], None]
) -> None:
    """One asked for each 0.6 s or, at 20, each 0.1 s: 0 errors, the last is in force, files and threads are back."""
    every_s = 0.6 if reloads == 100 else 0.1
    serve, config = await started(turnouts, stable, candidate)
    admin = Admin(serve.port("admin"))
    before = await admin.rollout()
    async with Load(serve.port("gateway"), clients=16).running() as load:
        await load.until_answered(200)
    held = descriptors(serve), tasks(serve)
    async with Load(serve.port("gateway"), clients=16).running() as load:
        begun_s = time.monotonic()
        for number in range(reloads):
            config["routes"]["digits"]["timeouts"] = {"total": f"{20 + number}s"}
            rewrite(serve, config)
            await load.keep_on(max(0.0, begun_s + every_s * (number + 1) - time.monotonic()))
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
        f"{reloaded(serve)} reloads for {reloads} signals, {load.asked} requests, 0 errors; "
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
