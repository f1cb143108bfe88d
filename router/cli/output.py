"""Where lines go: colours on a terminal, plain lines everywhere else and with NO_COLOR."""

import os
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from router.cli.show import Line
from router.telemetry.logs import escape_json

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live


def colourful() -> bool:
    """Whether standard output is a terminal that wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write one line at once, also into a pipe: somebody may be waiting for it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line beside the result, where a pipe does not take it for a part of it."""
    sys.stderr.write(f"note: {text}\n")


def json_line(record: object) -> str:
    """Return an object as one line of JSON that can neither break a line nor steer a terminal."""
    import orjson

    return escape_json(orjson.dumps(record).decode())


def emit(lines: Iterable[Line]) -> None:
    """Write lines, styled where that makes sense."""
    if not colourful():
        for line in lines:
            say(line.text)
        return
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(_group(lines))


class Screen:
    """Shows changing lines: redrawn in place on a terminal, written again below each other elsewhere."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._drawn = False

    @property
    def repaints(self) -> bool:
        """Whether drawing replaces what was drawn before, so that it may be done all the time."""
        return self._live is not None

    def __enter__(self) -> Self:
        if colourful():
            from rich.live import Live

            self._live = Live(auto_refresh=False, vertical_overflow="visible")
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines instead of the ones before."""
        if self._live:
            self._live.update(_group(lines), refresh=True)
            return
        if self._drawn:
            say("")
        self._drawn = True
        emit(lines)


def _group(lines: Iterable[Line]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(line.text, style=line.style) for line in lines))
