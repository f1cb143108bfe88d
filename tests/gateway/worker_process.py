"""A gateway worker in a process of its own, so that its memory can be measured: `python worker_process.py JSON`.

It prints its port, and a line of JSON (`report`) for each line it reads; the end of its input ends it. `limits` and
`variant` of JSON are fields of Limits and of the stable variant; with `watch` it notes how long clients last, and so
holds each of them a little longer.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from router.core.config import Limits
from router.core.traffic import Backend, MirrorLimits, Timeouts, Variant
from router.gateway.client import ClientConnection
from router.gateway.garbage import keep_for_good
from router.telemetry.metrics import HistogramValue
from tests.gateway.bench import Bench, Gateway, route_of, started

LOOK_S = 0.05


class Watch:
    """Notes how long connections last that come after the first report, by a look twenty times a second."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: frozenset[object] = frozenset()
        self._came: dict[object, float] = {}
        self._blocked: dict[object, float] = {}
        self._most = 0
        self._connected_s = 0.0
        self._blocked_s = 0.0

    def __repr__(self) -> str:
        return f"<Watch: at most {self._most} connections, {self._connected_s:.1f} s, blocked {self._blocked_s:.1f} s>"

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._look(time.monotonic())
            await asyncio.sleep(LOOK_S)

    def _look(self, now: float) -> None:
        present = self._gateway.worker._clients - self._known  # noqa: SLF001 - no metric of it
        self._came = {one: self._came.get(one, now) for one in present}
        blocked = [one for one in present if isinstance(one, ClientConnection) and one.blocked]
        self._blocked = {one: self._blocked.get(one, now) for one in blocked}
        self._most = max(self._most, len(present))
        self._connected_s = max(self._connected_s, now - min(self._came.values(), default=now))
        self._blocked_s = max(self._blocked_s, now - min(self._blocked.values(), default=now))

    def take(self) -> dict[str, float]:
        """Return how many there are and what was noted of them; when none is left, begin anew with the next."""
        self._look(time.monotonic())
        there = len(self._came)
        found = {"there": there, "most": self._most, "connected_s": self._connected_s, "blocked_s": self._blocked_s}
        if not there or not self._known:
            self._known = frozenset(self._gateway.worker._clients)  # noqa: SLF001 - no metric of it
            self._most, self._connected_s, self._blocked_s = 0, 0.0, 0.0
        return found


def report(gateway: Gateway, watch: Watch | None) -> dict[str, Any]:
    """Return what the worker holds, has dropped and has recorded, how late its loop was, how long clients lasted."""
    recorder, metrics = gateway.worker.recorder, gateway.worker.snapshot()
    lag = metrics["turnout_loop_lag_seconds"][()]
    assert isinstance(lag, HistogramValue)
    held = {**gateway.held(), "queue_bytes": recorder.queue_bytes, "drops": sum(recorder.drops.values())}
    return {
        "held": {name: number for name, number in held.items() if number},
        "dropped": {"/".join(cell): number for cell, number in metrics["turnout_dropped_total"].items() if number},
        "pairs": {cell[0]: number for cell, number in metrics["turnout_pairs_total"].items()},
        "lag": lag.counts,
        "clients": watch.take() if watch is not None else {},
    }


async def main(options: dict[str, Any]) -> None:
    """Run it."""
    route = route_of(
        Variant("v1", (Backend("127.0.0.1", options["stable"]),), **options.get("variant", {})),
        Variant("v2", (Backend("127.0.0.1", options["candidate"]),)),
        timeouts=Timeouts(connect_s=600.0, total_s=600.0),
        adapter=options.get("adapter", "opaque"),
        mirror=MirrorLimits(in_flight=options.get("copies", 200), timeout_s=options.get("copy_timeout_s", 30)),
    )
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        limits = Limits(
            **{"write_stall_s": 600.0, "body_deadline_s": 600.0, "pipelined": 1_000, **options.get("limits", {})}
        )
        gateway = await bench.gateway(route, states=[started(0, options.get("mirror_bp", 0))], limits=limits)
        watch = Watch(gateway) if options.get("watch") else None
        watching = asyncio.create_task(watch.run()) if watch is not None else None
        print(gateway.port, flush=True)  # noqa: T201 - how it speaks
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(report(gateway, watch)), flush=True)  # noqa: T201 - how it speaks
        if watching is not None:
            watching.cancel()
        await bench.end()


if __name__ == "__main__":
    keep_for_good()
    uvloop.run(main(json.loads(sys.argv[1])))
