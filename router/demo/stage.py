"""Everything the demo runs, in a private directory: two model servers and a Turnout in front; up, and down again."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from router.demo.plan import CANDIDATE, STABLE, config_of
from router.demo.server_process import ServerFailedError, ServerProcess
from router.demo.traffic import Sample, samples
from router.demo.turnout_process import DemoError, TurnoutProcess

READY_S: Final = 60.0
"""How long a start may take. It takes 2 s; chosen for a very busy machine."""

REMOVE_S: Final = 3.0
"""How long files may still come while the directory is removed: the store of a killed Turnout writes until its end."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running: the URLs of the listeners, what there is to send, and where the data lies."""

    gateway_url: str
    admin_url: str
    ops_url: str
    inputs: tuple[Sample, ...]
    directory: Path
    turnout: TurnoutProcess


@asynccontextmanager
async def stage(ports: Mapping[str, int], tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Run everything within the block; afterwards no process, no port and no file of it is left.

    `tell` gets a line before what takes a while. Raises DemoError when something does not come up. Cancelled at any
    moment, it clears up too. Call it on the main thread.
    """
    with ExitStack() as down:
        directory = Path(mkdtemp(prefix="turnout-demo-"))
        down.callback(_remove, directory)
        tell("training two models on scikit-learn's digits ...")
        servers = []
        for model in (STABLE, CANDIDATE):
            servers.append(ServerProcess.start(model))
            down.callback(servers[-1].stop)
        # Meanwhile, and off the loop: it loads scikit-learn, and Ctrl-C shall not wait for that.
        inputs = await asyncio.to_thread(_held_out)
        v1_url, v2_url = [await _ready(server) for server in servers]
        config = directory / "turnout.yaml"
        config.write_text(_yaml(config_of(v1_url=v1_url, v2_url=v2_url, ports=ports)), encoding="utf-8")
        tell("starting turnout serve ...")
        turnout = TurnoutProcess.start(config, directory / "turnout.log")
        down.callback(turnout.stop)
        urls = await turnout.ready(READY_S)
        yield Stage(urls["gateway"], urls["admin"], urls["ops"], inputs, directory, turnout)


def _held_out() -> tuple[Sample, ...]:
    from router.demo.models import halves

    half = halves()[1]
    return samples(half.images.tolist(), half.labels.tolist())


async def _ready(server: ServerProcess) -> str:
    try:
        return await server.ready(READY_S)
    except ServerFailedError as error:
        raise DemoError(str(error)) from error


def _yaml(config: Mapping[str, object]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(config), sort_keys=False)
    return text


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
