"""`turnout` with something planted in its gateway workers, to measure against: `planted_turnout PLANT COMMAND...`."""

import asyncio
import sys
import time
from typing import Any

from loadtests.reference_proxy import WORK, work
from router import app


def needless_work() -> None:
    """Let each request cost about half as much again as it does."""
    from router.gateway.exchange import Exchange

    begin = Exchange.begin

    def slow(self: Exchange, *arguments: Any) -> None:  # noqa: ANN401 - as the method
        work(WORK * 2 // 3)
        begin(self, *arguments)

    Exchange.begin = slow  # type: ignore[method-assign]


def no_recorder() -> None:
    """Let every pair be lost as if the recorder's queue were full: what a copy costs without its record."""
    from router.gateway.recorder import Recorder

    def lose(_: Recorder, exchange: Any, live: Any, copy: Any) -> None:  # noqa: ANN401 - as the method
        live.let_go("")
        copy.let_go("")
        exchange.pair_lost()

    Recorder.put = lose  # type: ignore[method-assign, assignment]


STALL_S, STALL_EVERY_S = 0.3, 1.5


def stalls() -> None:
    """Let each worker stand still for a while again and again, as one that collects much garbage would."""
    from router.gateway.worker import Worker

    start = Worker.start

    def stand_still() -> None:
        time.sleep(STALL_S)
        asyncio.get_running_loop().call_later(STALL_EVERY_S, stand_still)

    async def stalling(self: Worker, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as the method
        await start(self, *arguments, **named)
        stand_still()

    Worker.start = stalling  # type: ignore[method-assign]


def asks_store() -> None:
    """Let no request be routed while the store is away, as in a gateway that asks it each time."""
    from router.gateway.exchange import Exchange

    begin = Exchange.begin

    def asking(self: Exchange, *arguments: Any) -> None:  # noqa: ANN401 - as the method
        if self.worker._store_up:  # noqa: SLF001 - a plant
            begin(self, *arguments)
        else:
            self.begun = True
            self.refuse(503, "the planted question to the store has no answer")

    Exchange.begin = asking  # type: ignore[method-assign]


PLANTS = {"needless_work": needless_work, "no_recorder": no_recorder, "stalls": stalls, "asks_store": asks_store}


def planted(plant: str) -> tuple[str, ...]:
    """Return the program, as `Turnout` takes it."""
    return (sys.executable, "-m", "loadtests.planted_turnout", plant)


def _child(plant: str, kind: str, arguments: list[str]) -> None:
    if kind == "gateway":
        PLANTS[plant]()
    app.main([kind, *arguments])


def _main(plant: str) -> None:
    from router.cli import main as command_line

    # As a module, unlike the real one: the folder that holds `loadtests` must be found.
    app.command = lambda kind: (*planted(plant), "--child", kind)
    command_line()


if __name__ == "__main__":
    name = sys.argv.pop(1)
    if sys.argv[1] == "--child":
        _child(name, sys.argv[2], sys.argv[3:])
    else:
        _main(name)
