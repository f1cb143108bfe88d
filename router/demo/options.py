"""What the demo can be asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.core.errors import ConfigError
from router.demo.free_ports import GATEWAY_PORT
from router.demo.plan import DEFAULT_SECONDS, MIN_SECONDS

STANDARD_OUTPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for. `seconds` is the length of the walk; None: the usual one, and a live view stays after it.

    `json` names a file, `-` is standard output, None writes none. `port` is the gateway's, 0 takes free ones for all.
    """

    seconds: float | None = None
    headless: bool = False
    json: str | None = None
    port: int = GATEWAY_PORT


def check(options: DemoOptions) -> None:
    """Raise ConfigError for what cannot work, before anything takes its time."""
    if options.seconds is not None and options.seconds < MIN_SECONDS:
        raise ConfigError("--seconds", options.seconds, f"at least {MIN_SECONDS:g}: seven legs of the walk share them")
    if options.json not in (None, STANDARD_OUTPUT):
        file = Path(options.json or "").absolute()
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ConfigError("--json", options.json, "a file that can be written")


def seconds_of(options: DemoOptions) -> float:
    """Return the length of the walk."""
    return DEFAULT_SECONDS if options.seconds is None else options.seconds


def stays(options: DemoOptions, *, live: bool) -> bool:
    """Whether everything goes on after the walk until Ctrl-C: only where a person looks at it and set no end."""
    return live and options.seconds is None and options.json is None
