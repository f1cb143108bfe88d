"""One run of the demo, from the first process to the last: the play, what is seen of it, and what comes of it."""

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

from router.demo.admin import Admin, Body
from router.demo.events import Event, decided
from router.demo.feedback import Feedback
from router.demo.interrupt import Interrupt
from router.demo.options import STANDARD_OUTPUT, DemoOptions, stays
from router.demo.plan import ROUTE, models_of
from router.demo.play import Play
from router.demo.report import Report, failures, summary, to_json
from router.demo.screen import Screen
from router.demo.stage import Stage, stage
from router.demo.traffic import Traffic
from router.demo.view import EVENTS, Meter, Scene
from router.demo.watch import Watch
from router.demo.words import greeting, turnout_command

RATE_PER_S: Final = 200.0
"""Chosen: everything together then needs half of two cores, and a round of all held-out digits, enough labels to find a
broken one, takes less than five seconds."""

USERS: Final = 20_000
"""Chosen: few of them come twice within one step, and each counts once there (docs/statistics.md)."""

SEED: Final = 3
"""Fixed, as is each rollout's id: in every run the same users bring the same digits in the same order, and land on the
same side. What differs is when each decision comes, and with it which requests a step sees."""

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
        self._results: tuple[tuple[str, str], ...] = ()
        self._traffic: Traffic | None = None

    async def run(self, ports: Mapping[str, int], interrupt: Interrupt) -> int:
        """Return 0 if everything was as it must be, else 1. Cancelled, it ends all that it has started."""
        staying = stays(self._options, live=self._screen.live)
        models = models_of(self._options.acts)
        async with stage(models, ports, self._screen.line) as on, Admin(on.admin_url, on.ops_url) as admin:
            turnout = turnout_command(on.admin_url)
            for line in greeting(on, turnout, RATE_PER_S, USERS):
                self._screen.line(line)
            traffic = Traffic(f"{on.gateway_url}/v2/models/{ROUTE}/infer", on.inputs, RATE_PER_S, USERS, SEED)
            self._traffic = traffic
            async with _flowing(traffic):
                feedback = Feedback(admin, traffic, SEED)
                watch = Watch(admin, traffic, on.turnout, self._decided)
                play = self._play(on, admin, traffic, watch)

                def draw() -> None:
                    if self._screen.live:
                        self._screen.draw(self._scene(play, watch, feedback, turnout))

                def life() -> tuple[Coroutine[Any, Any, None], ...]:
                    return watch.guard(), feedback.run(), _again_and_again(draw)

                await _first_of(play.run(), *life())
                if not staying:
                    await traffic.stop()
                await watch.settle()
                report = Report(play.acts, play.endings, traffic.snapshot(), watch.flips, watch.counts, feedback.counts)
                self._write(report)
                self._results = summary(report)
                draw()
                if staying:
                    traffic.mark("after")
                    await _first_of(interrupt.wait(), watch.run(), *life())
        self._screen.end()
        for line in ("", *(f"{name:<11}{text}" for name, text in self._results), *(() if staying else LOOK_NEXT)):
            self._screen.line(line)
        if interrupt.number is not None:
            self._screen.line(self.farewell(interrupt.number))
        return 1 if failures(report) else 0

    def _play(self, on: Stage, admin: Admin, traffic: Traffic, watch: Watch) -> Play:
        return Play(
            acts=self._options.acts, config=on.config, admin=admin, traffic=traffic, watch=watch,
            kill=lambda model: on.servers[model].kill(), tell=self._tell, limit_s=self._options.limit_s,
        )  # fmt: skip

    def farewell(self, number: int) -> str:
        """Return the line that ends a run that signal `number` has ended."""
        why = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._traffic is None:
            return f"stopped by {why}: before the first request; nothing is left running"
        seen = self._traffic.snapshot()
        sent = f"{seen.sent:,} requests, client errors: {seen.client_errors}"
        return f"stopped by {why}: {sent}; nothing is left running"

    def _decided(self, record: Body) -> None:
        assert self._traffic is not None  # noqa: S101 - made before anybody watches
        self._tell(decided(record, self._traffic.snapshot().seconds))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if not self._screen.live:
            self._screen.line(event.told())

    def _scene(self, play: Play, watch: Watch, feedback: Feedback, turnout: str) -> Scene:
        assert self._traffic is not None  # noqa: S101 - made before the play
        snapshot = self._traffic.snapshot()
        return Scene(
            elapsed_s=play.elapsed_s,
            limit_s=play.limit_s,
            act=play.act,
            rollout=watch.rollout,
            gates=watch.gates,
            waits_for=watch.waits_for,
            snapshot=snapshot,
            recent=self._meter.add(snapshot, watch.rollout),
            counts=watch.counts,
            labels=sum(feedback.counts.values()),
            events=tuple(self._events),
            results=self._results,
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
