"""Real model servers as processes: started, awaited, and ended with all that they have started themselves."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.e2e.harness import clean_environment
from tests.e2e.load import eventually, until
from tests.e2e.wire import BrokenError, fetch, request

START_S = 45.0
"""How long a start may take; seen here: 1 to 12 s, the longest without bytecode and beside other work."""

STOP_S = 5.0


@asynccontextmanager
async def serving(
    command: Sequence[str | Path], folder: Path, port: int, health: str, **env: str
) -> AsyncIterator[int]:
    """Run a server that listens on `port` until the block ends; yield the port once `health` answers 200.

    What it prints is in `server.log` of `folder`, where it runs. All of its group is ended: workers of LitServe go on
    serving when their parent is ended alone.
    """
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - the loop may wait for a fork
            command,
            cwd=folder,
            env=clean_environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:

        async def ready() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text()[-4_000:]
            try:
                return (await fetch(port, request("GET", health))).status == 200
            except (OSError, BrokenError):
                await asyncio.sleep(0.1)
                return False

        await eventually(ready, START_S)
        yield port
    finally:
        await _end(process)


async def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _lives(process):
            os.killpg(process.pid, number)
            with suppress(AssertionError):  # not by SIGTERM: then by the other one
                await until(lambda: not _lives(process), STOP_S)
    process.wait()


def _lives(process: "subprocess.Popen[bytes]") -> bool:
    """Whether anybody of its group does."""
    process.poll()  # a child that has ended stays in its group until it is waited for
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
