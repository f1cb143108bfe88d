"""Everything the demo runs, in a private directory: model servers and a Turnout in front; up, and down again."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from router.demo.plan import config_text
from router.demo.server_process import ServerFailedError, ServerProcess
from router.demo.traffic import Sample, samples
from router.demo.turnout_process import DemoError, TurnoutProcess

CONFIG: Final = Path(__file__).with_name("turnout.yaml")

READY_S: Final = 60.0
"""How long a start may take. It takes 2 s; chosen for a very busy machine."""

REMOVE_S: Final = 3.0
"""How long files may still come while the directory is removed: the store of a killed Turnout writes until its end."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running: the URLs of the listeners, what there is to send, and where the data lies.

    `config` is the content of turnout.yaml, `servers` the prediction servers by model.
    """

    gateway_url: str
    admin_url: str
    ops_url: str
    inputs: tuple[Sample, ...]
    directory: Path
    config: Mapping[str, Any]
    servers: Mapping[str, ServerProcess]
    turnout: TurnoutProcess


@asynccontextmanager
async def stage(models: Sequence[str], ports: Mapping[str, int], tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Run these models and a Turnout within the block; afterwards no process, no port and no file of it is left.

    `tell` gets a line before what takes a while. Raises DemoError when something does not come up. Cancelled at any
    moment, it clears up too. Call it on the main thread.
    """
    with ExitStack() as down:
        directory = Path(mkdtemp(prefix="turnout-demo-"))
        down.callback(_remove, directory)
        tell(f"training {len(models)} models on scikit-learn's digits ...")
        servers: dict[str, ServerProcess] = {}
        for model in models:
            servers[model] = ServerProcess.start(model)
            down.callback(servers[model].stop)
        # Meanwhile, and off the loop: it loads scikit-learn, and Ctrl-C shall not wait for that.
        inputs = await asyncio.to_thread(_held_out)
        urls = {model: await _ready(server) for model, server in servers.items()}
        text = config_text(CONFIG.read_text(encoding="utf-8"), urls=urls, ports=ports)
        config = directory / "turnout.yaml"
        config.write_text(text, encoding="utf-8")
        tell("starting turnout serve ...")
        turnout = TurnoutProcess.start(config, directory / "turnout.log")
        down.callback(turnout.stop)
        listeners = await turnout.ready(READY_S)
        yield Stage(
            listeners["gateway"], listeners["admin"], listeners["ops"], inputs, directory, _read(text), servers, turnout
        )


def _held_out() -> tuple[Sample, ...]:
    from router.demo.models import halves

    half = halves()[1]
    return samples(half.images.tolist(), half.labels.tolist())


async def _ready(server: ServerProcess) -> str:
    try:
        return await server.ready(READY_S)
    except ServerFailedError as error:
        raise DemoError(str(error)) from error


def _read(text: str) -> Mapping[str, Any]:
    import yaml

    config: Mapping[str, Any] = yaml.safe_load(text)
    return config


def _remove(directory: Path) -> None:
    """Remove the directory; raises OSError when something still writes into it after REMOVE_S."""
    give_up_s = time.monotonic() + REMOVE_S
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.05)
