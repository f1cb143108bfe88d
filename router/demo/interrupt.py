"""Ctrl-C and its like: the first signal cancels the demo, which then clears up; later ones are ignored."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Cancels `task` at the first signal, unless somebody waits for the signal itself."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.number: int | None = None
        """The signal that came; None while there was none."""
        self._task: asyncio.Task[Any] | None = task
        self._came = asyncio.Event()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take the signals of this process within the block; use it on the main thread."""
        loop = asyncio.get_running_loop()
        numbers = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]  # nohup ignores SIGHUP
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def wait(self) -> None:
        """Return at the first signal; from this call on it cancels nothing."""
        self._task = None
        await self._came.wait()

    def _on_signal(self, number: int) -> None:
        if self.number is not None:
            return  # it is on its way down, and that takes at most a few seconds
        self.number = number
        self._came.set()
        if self._task:
            self._task.cancel()
