"""A gateway worker in a process of its own, so that its memory can be measured: `python worker_process.py JSON`.

It prints its port, and a line of JSON with what it holds for each line it reads; the end of its input ends it.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from router.core.config import Limits
from router.core.traffic import Backend, MirrorLimits, Timeouts, Variant
from tests.gateway.bench import Bench, route_of, started


async def main(options: dict[str, int]) -> None:
    """Run it."""
    route = route_of(
        Variant("v1", (Backend("127.0.0.1", options["stable"]),)),
        Variant("v2", (Backend("127.0.0.1", options["candidate"]),)),
        timeouts=Timeouts(connect_s=600.0, total_s=600.0),
        mirror=MirrorLimits(in_flight=options.get("copies", 200), timeout_s=options.get("copy_timeout_s", 30)),
    )
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        limits = Limits(write_stall_s=600.0, body_deadline_s=600.0, pipelined=1_000)
        gateway = await bench.gateway(route, states=[started(0, options.get("mirror_bp", 0))], limits=limits)
        print(gateway.port, flush=True)  # noqa: T201 - how it speaks
        while await asyncio.to_thread(sys.stdin.readline):
            recorder = gateway.worker.recorder
            dropped = gateway.worker.table.lives["r"].copy_drops
            held = {
                **gateway.held(),
                "queue_bytes": recorder.queue_bytes,
                "drops": sum(recorder.drops.values()),
                **{f"copies dropped: {reason}": number for reason, number in dropped.items()},
            }
            print(json.dumps(held), flush=True)  # noqa: T201 - how it speaks
        await bench.end()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
