"""`turnout` with something planted in its gateway workers, to measure against: `planted_turnout PLANT COMMAND...`."""

import sys
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


def planted(plant: str) -> tuple[str, ...]:
    """Return the program, as `Turnout` takes it."""
    return (sys.executable, "-m", "loadtests.planted_turnout", plant)


def _child(plant: str, kind: str, arguments: list[str]) -> None:
    if kind == "gateway":
        {"needless_work": needless_work, "no_recorder": no_recorder}[plant]()
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
