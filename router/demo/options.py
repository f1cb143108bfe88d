"""What the demo can be asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.core.errors import ConfigError
from router.demo.free_ports import GATEWAY_PORT
from router.demo.plan import ACTS, Act

STANDARD_OUTPUT: Final = "-"

LIMIT_S: Final = 120.0
"""How long the acts may take together, of which they usually need a good third. Chosen."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for. `seconds` is how long the acts may take together; None: LIMIT_S, and a live view stays.

    `json` names a file, `-` is standard output, None writes none. `port` is the gateway's, 0 takes free ones for all.
    `bad` says which sort of bad candidate is shown.
    """

    seconds: float | None = None
    headless: bool = False
    json: str | None = None
    port: int = GATEWAY_PORT
    bad: str = "digit"

    @property
    def acts(self) -> Sequence[Act]:
        """The acts to play."""
        return ACTS[self.bad]

    @property
    def limit_s(self) -> float:
        """How long they may take together, in seconds of traffic."""
        return LIMIT_S if self.seconds is None else self.seconds


def check(options: DemoOptions) -> None:
    """Raise ConfigError for what cannot work, before anything takes its time."""
    if options.seconds is not None and options.seconds <= 0:
        raise ConfigError("--seconds", options.seconds, f"more than 0; the acts take about {LIMIT_S / 3:.0f}")
    if options.bad not in ACTS:
        raise ConfigError("--bad", options.bad, f"one of {', '.join(ACTS)}")
    if options.json not in (None, STANDARD_OUTPUT):
        file = Path(options.json or "").absolute()
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ConfigError("--json", options.json, "a file that can be written")


def stays(options: DemoOptions, *, live: bool) -> bool:
    """Whether everything goes on after the acts until Ctrl-C: only where a person looks at it and set no end."""
    return live and options.seconds is None and options.json is None
