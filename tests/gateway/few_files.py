"""A gateway worker that may open few files, in a process of its own: `python -m ... UPSTREAM_PORT FILES GUARDED`.

It prints `port` and its port; the end of its input ends it.
"""

import asyncio
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from router.core.traffic import Backend, Variant
from tests.gateway.bench import Bench, route_of


async def main(upstream: int, files: int, *, guarded: bool) -> None:
    """Run it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if guarded:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        gateway = await bench.gateway(route_of(Variant("v1", (Backend("127.0.0.1", upstream),))))
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))  # without the guard: after it has looked
        print(f"port {gateway.port}", flush=True)  # noqa: T201 - how it speaks
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), guarded=sys.argv[3] == "1"))
