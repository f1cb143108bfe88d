"""What one parent keeps alive, and what it says about it on the ops port."""

import asyncio
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from router import version
from router.supervisor.keeper import Keeper
from router.supervisor.store_keeper import StoreKeeper
from router.telemetry import metrics
from router.telemetry.otlp import SpanExporter

ASK_S = 0.5
"""How long a worker may take to answer a scrape before its last metrics are shown. Chosen."""

SILENT_S = 5.0
"""A worker that has said nothing for so long is shown as degraded. Chosen: five missed answers."""


@dataclass(slots=True)
class Processes:
    """The workers by slot, and control and the store server where this parent runs them."""

    workers: list[Keeper] = field(default_factory=list)
    control: Keeper | None = None
    store: StoreKeeper | None = None
    exporter: SpanExporter | None = None
    """Exports the workers' spans where there is tracing."""
    stopping: bool = False
    replaced: list[Keeper] = field(default_factory=list)
    """Those that have a successor and finish what they have."""

    @property
    def keepers(self) -> tuple[Keeper, ...]:
        """All slots, workers first."""
        return (*self.workers, *([self.control] if self.control else []))

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether each worker slot answers requests; the body tells also what is degraded nevertheless."""
        ready = not self.stopping and all(keeper.is_ready for keeper in self.workers)
        return ready, {
            "ready": ready,
            "stopping": self.stopping,
            "processes": {keeper.name: "ready" if keeper.is_ready else "starting" for keeper in self.keepers},
            "degraded": list(self._degraded()),
        }

    async def collect(self) -> metrics.Snapshot:
        """Return the metrics of all workers in one: fresh ones where a worker answers in time, else its last."""
        await self.refresh(ASK_S)
        own: dict[str, dict[tuple[str, ...], metrics.Value]] = {
            "turnout_build_info": {(version(), platform.python_version()): 1.0}
        }
        if self.exporter is not None:
            own["turnout_dropped_total"] = {("span", why): n for why, n in self.exporter.drops.items()}
        leaving = (keeper for keeper in self.replaced if keeper.name != "control")
        return metrics.merge([own, *(keeper.counted() for keeper in (*self.workers, *leaving))])

    async def refresh(self, timeout_s: float) -> None:
        """Ask every worker for its metrics."""
        await asyncio.gather(*(keeper.refresh(timeout_s) for keeper in self.workers))

    def _degraded(self) -> Iterator[str]:
        if self.store and not self.store.is_up:
            yield "store: the embedded server is being started again; weights stay as they are"
        for keeper in self.workers:
            if keeper.counted().get("turnout_store_up", {}).get(()) == 0:
                yield f"store: {keeper.name} cannot reach it; weights stay as they are"
            if keeper.silent_s > SILENT_S:
                yield f"{keeper.name}: silent for {keeper.silent_s:.0f} s"
        if self.control and not self.control.is_ready:
            yield "control: not running; weights stay as they are"
