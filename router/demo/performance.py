"""One run of the demo, from the first process to the last: the walk, what is seen of it, and what comes of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from router.demo.admin import Admin
from router.demo.interrupt import Interrupt
from router.demo.options import STANDARD_OUTPUT, DemoOptions, seconds_of, stays
from router.demo.plan import ROUTE
from router.demo.report import Report, failures, shares_of, summary, to_json
from router.demo.screen import Screen
from router.demo.stage import stage
from router.demo.traffic import Traffic
from router.demo.view import EVENTS, Meter, Scene
from router.demo.walk import Event, Walk
from router.demo.watch import Watch
from router.demo.words import greeting, turnout_command

RATE_PER_S: Final = 150.0
"""Half as much again as must be reached."""

USERS: Final = 10_000
SEED: Final = 3
"""Fixed, as is the rollout's id: in every run the same users come in the same order and land on the same side. With
this one the share of a right split is within 2 standard errors at each weight in walks of 10 to 600 s (computed), so
that the check at 3 fails for a wrong split only, not for one right run of 120."""

FRAME_S: Final = 0.25
LOOK_NEXT: Final = ("look next  docs/demo.md, docs/cli.md; `./run` shows it live and stays until Ctrl-C",)


async def perform(options: DemoOptions, screen: Screen, ports: Mapping[str, int]) -> int:
    """Run the demo on this screen and return the exit status, as `run.main` does; raises DemoError."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is it
    interrupt, performance = Interrupt(task), Performance(options, screen)
    with interrupt.caught():
        try:
            return await performance.run(ports, interrupt)
        except asyncio.CancelledError:
            if interrupt.number is None:
                raise
    screen.end()
    screen.line(performance.farewell(interrupt.number))
    return 128 + interrupt.number


class Performance:
    """One run; `run` it once."""

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._meter = Meter()
        self._traffic: Traffic | None = None

    async def run(self, ports: Mapping[str, int], interrupt: Interrupt) -> int:
        """Return 0 if everything was as it must be, else 1. Cancelled, it ends all that it has started."""
        staying = stays(self._options, live=self._screen.live)
        async with stage(ports, self._screen.line) as on, Admin(on.admin_url, on.ops_url) as admin:
            turnout = turnout_command(on.admin_url)
            for line in greeting(on, turnout, RATE_PER_S, USERS):
                self._screen.line(line)
            self._traffic = Traffic(f"{on.gateway_url}/v2/models/{ROUTE}/infer", on.inputs, RATE_PER_S, USERS, SEED)
            async with _flowing(self._traffic):
                walk = Walk(admin, self._traffic, seconds_of(self._options), self._tell)
                watch = Watch(admin, self._traffic, walk, on.turnout)

                def draw() -> None:
                    if self._screen.live:
                        self._screen.draw(self._scene(walk, watch, turnout))

                def life() -> tuple[Coroutine[Any, Any, None], ...]:
                    return watch.run(), watch.guard(), _again_and_again(draw)

                await _first_of(walk.run(), *life())
                if not staying:
                    await self._traffic.stop()
                report = await _report(self._traffic, walk, watch, admin)
                self._write(report)
                results = summary(report)
                self._events.extend(Event(walk.elapsed_s, name, text) for name, text in results)
                draw()
                if staying:
                    self._traffic.mark("after")
                    await _first_of(interrupt.wait(), *life())
        self._screen.end()
        for line in ("", *(f"{name:<11}{text}" for name, text in results), *(() if staying else LOOK_NEXT)):
            self._screen.line(line)
        if interrupt.number is not None:
            self._screen.line(self.farewell(interrupt.number))
        return 1 if failures(report) else 0

    def farewell(self, number: int) -> str:
        """Return the line that ends a run that signal `number` has ended."""
        why = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._traffic is None:
            return f"stopped by {why}: before the first request; nothing is left running"
        seen = self._traffic.snapshot()
        sent = f"{seen.sent:,} requests, client errors: {seen.client_errors}"
        return f"stopped by {why}: {sent}; nothing is left running"

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if not self._screen.live:
            self._screen.line(event.told())

    def _scene(self, walk: Walk, watch: Watch, turnout: str) -> Scene:
        assert self._traffic is not None  # noqa: S101 - made before the walk
        snapshot = self._traffic.snapshot()
        return Scene(
            elapsed_s=walk.elapsed_s,
            legs=walk.legs,
            ends_s=walk.ends_s,
            place=walk.place,
            rollout=walk.rollout,
            snapshot=snapshot,
            recent=self._meter.add(snapshot, walk.rollout),
            counts=watch.counts,
            scores=watch.pairs.scores(),
            events=tuple(self._events),
            turnout=turnout,
        )

    def _write(self, report: Report) -> None:
        text = json.dumps(to_json(report)) + "\n"
        if self._options.json == STANDARD_OUTPUT:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif self._options.json:
            Path(self._options.json).write_text(text, encoding="utf-8")


@asynccontextmanager
async def _flowing(traffic: Traffic) -> AsyncIterator[None]:
    """Send within the block; afterwards requests on their way get a second, so that none is cut off."""
    traffic.start()
    try:
        yield
    finally:
        await traffic.stop(drain_s=1.0)


async def _again_and_again(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(FRAME_S)


async def _first_of(*lives: Coroutine[Any, Any, None]) -> None:
    """Return when the first of these has ended, and cancel the others; raise what it raised."""
    tasks = [asyncio.create_task(life) for life in lives]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _report(traffic: Traffic, walk: Walk, watch: Watch, admin: Admin) -> Report:
    await watch.settle()
    snapshot = traffic.snapshot()
    return Report(
        snapshot=snapshot,
        flips=tuple(walk.flips),
        shares=shares_of(snapshot, walk.legs),
        pairs=watch.counts,
        scores=watch.pairs.scores(),
        result=(await admin.rollout())["phase"],
        decisions=await admin.decisions(),
    )
