"""A gateway worker in a process of its own, so that its memory can be measured: `python worker_process.py JSON`.

It prints its port, and a line of JSON (`report`) for each line it reads; the end of its input ends it.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from router.core.config import Limits
from router.core.traffic import Backend, MirrorLimits, Timeouts, Variant
from router.telemetry.metrics import HistogramValue
from tests.gateway.bench import Bench, Gateway, route_of, started


def report(gateway: Gateway) -> dict[str, Any]:
    """Return what the worker holds, has dropped and has recorded, and how late its loop was."""
    recorder, metrics = gateway.worker.recorder, gateway.worker.snapshot()
    lag = metrics["turnout_loop_lag_seconds"][()]
    assert isinstance(lag, HistogramValue)
    held = {**gateway.held(), "queue_bytes": recorder.queue_bytes, "drops": sum(recorder.drops.values())}
    return {
        "held": {name: number for name, number in held.items() if number},
        "dropped": {"/".join(cell): number for cell, number in metrics["turnout_dropped_total"].items() if number},
        "pairs": {cell[0]: number for cell, number in metrics["turnout_pairs_total"].items()},
        "lag": lag.counts,
    }


async def main(options: dict[str, Any]) -> None:
    """Run it."""
    route = route_of(
        Variant("v1", (Backend("127.0.0.1", options["stable"]),)),
        Variant("v2", (Backend("127.0.0.1", options["candidate"]),)),
        timeouts=Timeouts(connect_s=600.0, total_s=600.0),
        adapter=options.get("adapter", "opaque"),
        mirror=MirrorLimits(in_flight=options.get("copies", 200), timeout_s=options.get("copy_timeout_s", 30)),
    )
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        limits = Limits(write_stall_s=600.0, body_deadline_s=600.0, pipelined=1_000)
        gateway = await bench.gateway(route, states=[started(0, options.get("mirror_bp", 0))], limits=limits)
        print(gateway.port, flush=True)  # noqa: T201 - how it speaks
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(report(gateway)), flush=True)  # noqa: T201 - how it speaks
        await bench.end()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
