"""MLflow's scoring server with scikit-learn models, one server for each version, asked in all input forms."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from loadtests.processes import free_ports
from tests.e2e.harness import Turnouts
from tests.e2e.wire import request
from tests.servers.digits import questions, save_models
from tests.servers.installed import venv_of
from tests.servers.journey import Question, Server, make_the_journey
from tests.servers.processes import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATH = "/invocations"


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """The ports of both versions."""
    commands = venv_of("mlflow") / "bin"
    save_models(commands / "python", "mlflow", tmp_path)
    found = dict(zip(("v1", "v2"), free_ports(2), strict=True))
    on_path = f"{commands}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    async with AsyncExitStack() as stack:
        for version, port in found.items():
            command: list[str | Path] = [
                commands / "mlflow",
                "models",
                "serve",
                "-m",
                ".",
                "--env-manager",
                "local",
                "-h",
                "127.0.0.1",
            ]
            await stack.enter_async_context(
                serving([*command, "-p", str(port)], tmp_path / version, port, "/ping", PATH=on_path)
            )
        yield found


def body_of(number: int, rows: list[list[float]]) -> bytes:
    """Return a request in one form after the other."""
    columns = [str(column) for column in range(len(rows[0]))]
    forms = (
        {"inputs": rows},
        {"instances": rows},
        {"dataframe_split": {"columns": columns, "data": rows}},
        {"dataframe_records": [dict(zip(columns, row, strict=True)) for row in rows]},
    )
    return json.dumps(forms[number % len(forms)]).encode()


def ask(number: int, question: Question) -> bytes:
    """Return what a client sends."""
    return request("POST", PATH, question.body, {**dict(question.headers), "x-user-id": f"user-{number}"})


async def test_mlflow_as_shadow_and_canary(turnouts: Turnouts, ports: dict[str, int]) -> None:
    """Each version is a server of its own."""
    server = Server(
        {
            "match": {"path_prefix": PATH},
            "adapter": "mlflow",
            "variants": {
                version: {"url": f"http://127.0.0.1:{port}", "health": "/ping"} for version, port in ports.items()
            },
        },
        ask,
        lambda version, asked: (ports[version], request("POST", PATH, asked.body, dict(asked.headers))),
        b'{"rows": []}',
    )
    await make_the_journey(turnouts, server, questions(body_of, lambda digits: ",".join(map(str, digits))))
