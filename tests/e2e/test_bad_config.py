"""A configuration that cannot work starts nothing, and says which field, what stood there, and what was expected."""

import copy
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.harness import Turnouts, config_for
from tests.e2e.model_server import ModelServer

Config = dict[str, Any]
GOOD = config_for(ModelServer(1, port=9_001), ModelServer(2, port=9_002))
"""Would start; nothing has to listen behind it for that."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One way to break the good configuration, and the three things that the error must say."""

    name: str
    breaks: Callable[[Config, Config], object]
    field: str
    value: str
    expected: str


BROKEN = [
    Broken("unknown block", lambda c, _: c.update(gatway={}), "gatway", "a block of fields", "did you mean gateway?"),
    Broken("unknown field", lambda _, r: r.update(affinty=[]), "routes.digits.affinty", "a list", "mean affinity?"),
    Broken("no routes", lambda c, _: c.update(routes={}), "routes", "none", "at least one route"),
    Broken(
        "port too high", lambda c, _: c["gateway"].update(port=70_000), "gateway.port", "70000",
        "less than or equal to 65535",
    ),
    Broken(
        "one port twice", lambda c, _: [c[name].update(port=7_001) for name in ("gateway", "admin")],
        "admin.port", "7001", "another port than that of gateway",
    ),
    Broken(
        "stable does not exist", lambda _, r: r.update(stable="v9"), "routes.digits.stable", "'v9'",
        "the name of a variant; did you mean v2? Known: v1, v2",
    ),
    Broken(
        "unknown adapter", lambda _, r: r.update(adapter="open_inferense"), "routes.digits.adapter",
        "'open_inferense'", "did you mean open_inference?",
    ),
    Broken(
        "path in a url", lambda _, r: r["variants"]["v1"].update(url="http://127.0.0.1:9001/v1"),
        "routes.digits.variants.v1.url", "'http://127.0.0.1:9001/v1'", "path",
    ),
    Broken(
        "no url", lambda _, r: r["variants"].update(v2={}), "routes.digits.variants.v2", "a block of fields",
        "either `url` or `urls`",
    ),
    Broken(
        "duration without unit", lambda _, r: r.update(timeouts={"total": 30}), "routes.digits.timeouts.total", "30",
        "write 30ms or 30s",
    ),
    Broken(
        "unknown policy", lambda _, r: r.update(rollout={"candidate": "v2", "policy": "canry"}),
        "routes.digits.rollout.policy", "'canry'", "did you mean canary?",
    ),
    Broken(
        "candidate is stable", lambda _, r: r.update(rollout={"candidate": "v1", "policy": "canary"}),
        "routes.digits.rollout.candidate", "'v1'", "another variant than the stable one",
    ),
    Broken(
        "weight without percent",
        lambda _, r: r.update(rollout={"candidate": "v2", "policy": "canary", "steps": [{"weight": 10}]}),
        "routes.digits.rollout.steps[0].weight", "10", "write 10%",
    ),
    Broken(
        "copies where they are not safe",
        lambda _, r: r.update(adapter="opaque", rollout={"candidate": "v2", "policy": "shadow"}),
        "routes.digits.mirror_safe", "False", "true, since step 1",
    ),
    Broken(
        "open admin without tokens", lambda c, _: c["admin"].update(host="0.0.0.0"), "admin.host", "'0.0.0.0'",
        "run `turnout token`",
    ),
    Broken(
        "store of another kind", lambda c, _: c.update(store={"url": "mysql://db"}), "store.url", "'mysql://db'",
        "redis://",
    ),
]  # fmt: skip


def nothing_was_made(directory: Path) -> bool:
    """Whether the directory holds only what the test has put there."""
    return all(path.suffix in (".yaml", ".out", ".err") for path in directory.iterdir())


FAST = ("unknown field", "stable does not exist", "weight without percent", "open admin without tokens")
"""Each start of an interpreter takes half a second; the others say the same of other fields."""


@pytest.mark.parametrize(
    "broken", [pytest.param(one, id=one.name, marks=() if one.name in FAST else pytest.mark.slow) for one in BROKEN]
)
async def test_a_broken_config_starts_nothing_and_says_why(turnouts: Turnouts, tmp_path: Path, broken: Broken) -> None:
    """Exit 2; one sentence with field, value and expectation; no listener was announced, no file made."""
    config = copy.deepcopy(GOOD)
    broken.breaks(config, config["routes"]["digits"])
    (tmp_path / "turnout.yaml").write_text(yaml.safe_dump(config))
    serve = turnouts.launch("serve", "--config", "turnout.yaml")
    assert await serve.ended() == 2
    assert serve.output == []
    found = re.fullmatch(
        r"error: turnout.yaml: (line \d+: )?(?P<field>\S+): got (?P<value>.*), expected (?P<expected>.*)",
        serve.log.strip(),
        re.DOTALL,
    )
    assert found, serve.log
    assert (found["field"], found["value"]) == (broken.field, broken.value)
    assert broken.expected in found["expected"]
    assert nothing_was_made(tmp_path)


async def test_all_that_is_wrong_is_said_at_once(turnouts: Turnouts, tmp_path: Path) -> None:
    """Two mistakes in two blocks are two lines, each with its line of the file or its variable."""
    config = copy.deepcopy(GOOD)
    config["routes"]["digits"]["stable"] = "v9"
    (tmp_path / "turnout.yaml").write_text(yaml.safe_dump(config))
    serve = turnouts.launch("serve", "--config", "turnout.yaml", TURNOUT_GATEWAY__WORKERS="0")
    assert await serve.ended() == 2
    assert "2 problems in turnout.yaml" in serve.log
    assert "TURNOUT_GATEWAY__WORKERS: gateway.workers: got 0, expected greater than or equal to 1" in serve.log
    assert "routes.digits.stable: got 'v9'" in serve.log
    assert nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    "listener", ["gateway", *(pytest.param(name, marks=pytest.mark.slow) for name in ("admin", "ops"))]
)
async def test_a_port_in_use_starts_nothing_and_says_which(turnouts: Turnouts, tmp_path: Path, listener: str) -> None:
    """Exit 2 with the port and the setting, even if whoever has the port would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = copy.deepcopy(GOOD)
        config[listener]["port"] = port
        (tmp_path / "turnout.yaml").write_text(yaml.safe_dump(config))
        serve = turnouts.launch("serve", "--config", "turnout.yaml")
        assert await serve.ended() == 2
        assert serve.output == []
    assert f"port {port} is in use: {listener} cannot listen on 127.0.0.1:{port}" in serve.log
    assert f"set {listener}.port (or TURNOUT_{listener.upper()}__PORT) to a free port" in serve.log
    assert nothing_was_made(tmp_path)


async def test_a_missing_config_file_is_named(turnouts: Turnouts, tmp_path: Path) -> None:
    """Exit 2 with the path that was tried."""
    serve = turnouts.launch("serve", "--config", "nowhere.yaml")
    assert await serve.ended() == 2
    assert "--config" in serve.log
    assert "nowhere.yaml" in serve.log
    assert nothing_was_made(tmp_path)


@pytest.mark.slow
async def test_a_second_serve_on_the_same_data_is_refused(turnouts: Turnouts, tmp_path: Path) -> None:
    """Exit 2 with the directory and the process that has it; the first one goes on."""
    first = await turnouts.start(GOOD)
    second = turnouts.launch("serve", "--config", "turnout.yaml")
    assert await second.ended() == 2
    assert f"store.directory: got '{tmp_path / '.turnout'}'" in second.log
    assert f"process {first.pid_of('valkey-server')} does" in second.log
    assert "ready" not in second.output
    assert first.process.poll() is None
