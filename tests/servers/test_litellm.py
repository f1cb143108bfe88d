"""LiteLLM's proxy with mock answers: one proxy, each version a model of it, asked with a key."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from loadtests.processes import free_ports
from tests.e2e.harness import Turnouts
from tests.e2e.wire import request
from tests.servers import chats
from tests.servers.installed import venv_of
from tests.servers.journey import Question, Server, make_the_journey
from tests.servers.processes import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KEY = (("authorization", "Bearer sk-test"),)
SAYS = {"stable": "The answer is eight.", "other": "The answer is three.", "same": "The answer is eight."}
"""What each model always says: the proxy has nobody behind it, and lets no client choose a mock answer."""


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a proxy with all models."""
    commands = venv_of("litellm") / "bin"
    (port,) = free_ports(1)
    models = [
        {"model_name": name, "litellm_params": {"model": "openai/mock", "api_key": "none", "mock_response": said}}
        for name, said in SAYS.items()
    ]
    (tmp_path / "config.yaml").write_text(json.dumps({"model_list": models}))  # JSON is YAML
    command: list[str | Path] = [commands / "litellm", "--config", "config.yaml", "--host", "127.0.0.1"]
    env = {"LITELLM_MASTER_KEY": "sk-test", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command += ["--port", str(port), "--telemetry", "False"]
    async with serving(command, tmp_path, port, "/health/liveliness", **env):
        yield port


async def test_litellm_as_shadow_and_canary(turnouts: Turnouts, port: int) -> None:
    """Each variant's `model` is written into the body, and copies carry the key since the route allows it."""
    for candidate in ("other", "same"):
        models = {"v1": "stable", "v2": candidate}
        place = {"url": f"http://127.0.0.1:{port}", "health": "/health/liveliness"}

        def ask_directly(version: str, asked: Question, models: Mapping[str, str] = models) -> tuple[int, bytes]:
            body = asked.body.replace(b'"parrot"', b'"%b"' % models[version].encode())
            return port, request("POST", chats.CHAT, body, dict(asked.headers))

        server = Server(
            {
                "match": {"path_prefix": "/v1"},
                "adapter": "openai",
                "mirror_safe": True,
                "mirror": {"allow": ["authorization"]},
                "variants": {version: {**place, "model": model} for version, model in models.items()},
            },
            chats.ask,
            ask_directly,
            b'{"model": "parrot"}',
            chats.lasting,
        )
        questions = [
            chats.question(f"{number}?", SAYS["stable"], SAYS[candidate], stream=number % 2 == 1, headers=KEY)
            for number in range(12)
        ]
        await make_the_journey(turnouts, server, questions, name=candidate)
