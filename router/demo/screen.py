"""Where the demo speaks: a live view on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from router.demo.view import Scene


class Screen(Protocol):
    """Takes what the demo has to say, within a `with` block."""

    live: bool
    """Whether `draw` shows anything."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def line(self, text: str) -> None:
        """Write a line that stays."""

    def draw(self, scene: Scene) -> None:
        """Show this scene instead of the one before."""

    def end(self) -> None:
        """Leave the last scene as it is; from now on lines go below it, and nothing is drawn."""


class PlainScreen:
    """Writes lines at once, also into a pipe, and draws nothing."""

    live = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._out.flush()

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def draw(self, scene: Scene) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class LiveScreen:
    """Draws scenes in place at the bottom of a terminal; lines go above it. Colours only without NO_COLOR."""

    live = True

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.end()

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def draw(self, scene: Scene) -> None:
        """Show this scene instead of the one before; the first one opens the view."""
        from router.demo.view import frame

        if not self._started:
            self._started = True
            self._live.start()
        self._live.update(frame(scene), refresh=True)

    def end(self) -> None:
        """Leave the last scene as it is, and give the cursor back; from now on lines go below it."""
        self._live.stop()


def screen_for(out: TextIO, *, headless: bool) -> PlainScreen | LiveScreen:
    """Return the live view if `out` is a terminal that can show it and nobody asked for lines."""
    if headless or not out.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return PlainScreen(out)
    from rich.console import Console

    return LiveScreen(Console(file=out))
