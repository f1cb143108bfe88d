"""LitServe with its OpenAI spec: chats, whole and as server-sent events, from two servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from loadtests.processes import free_ports
from tests.e2e.harness import Turnouts
from tests.e2e.wire import request
from tests.servers import chats
from tests.servers.digits import PROGRAMS
from tests.servers.installed import venv_of
from tests.servers.journey import Question, Server, make_the_journey
from tests.servers.processes import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """The ports of both versions, each a server of its own."""
    python = venv_of("litserve") / "bin/python"
    found = dict(zip(("v1", "v2"), free_ports(2), strict=True))
    async with AsyncExitStack() as stack:
        for version, port in found.items():
            folder = tmp_path / version
            folder.mkdir()
            command: list[str | Path] = [python, PROGRAMS / "chat.py", str(port), version]
            await stack.enter_async_context(serving(command, folder, port, "/health"))
        yield found


def questions() -> list[Question]:
    """Return chats, two of three streamed; v2 is wrong in streams and in whole answers."""
    found = []
    for number in range(3 * len(chats.WORDS)):
        text = f"{number} {chats.WORDS[number % len(chats.WORDS)]}"
        said = f"{text} "
        found.append(chats.question(text, said, said.replace("eight", "three"), stream=number % 3 > 0))
    return found


async def test_litserve_as_shadow_and_canary(turnouts: Turnouts, ports: dict[str, int]) -> None:
    """Texts are read of whole answers and of streams; a stream reaches the client byte for byte."""
    server = Server(
        {
            "match": {"path_prefix": "/v1"},
            "adapter": "openai",
            "mirror_safe": True,
            "variants": {
                version: {"url": f"http://127.0.0.1:{port}", "health": "/health"} for version, port in ports.items()
            },
        },
        chats.ask,
        lambda version, asked: (ports[version], request("POST", chats.CHAT, asked.body, dict(asked.headers))),
        b'{"model": "parrot"}',
        chats.lasting,
    )
    await make_the_journey(turnouts, server, questions())
