"""What the demo says before it starts: where everything is, and how `turnout` is called here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from router.demo.free_ports import ADMIN_PORT
from router.demo.plan import ROUTE
from router.demo.stage import Stage

CHECKOUT: Final = Path(__file__).parents[2]


def greeting(on: Stage, turnout: str, rate_per_s: float, users: int) -> Sequence[str]:
    """Return the lines that say what runs, for a person who sees it for the first time."""
    return (
        f"gateway    {on.gateway_url}    send predictions here",
        f"admin      {on.admin_url}    admin API, for `turnout get` and the other commands",
        f"metrics    {on.ops_url}/metrics",
        f"store      embedded Valkey, unix socket, data in {on.directory} until the end",
        f"demo       {', '.join(on.servers)} of a digit reader, real servers; {len(on.inputs)} held-out scans",
        f"config     {on.directory / 'turnout.yaml'}, with steps, gates and margins",
        f"traffic    {rate_per_s:g} requests/s of {users:,} users",
        f"watch      {turnout} get {ROUTE} -w",
        "stop       Ctrl-C",
        "",
    )


def turnout_command(admin_url: str, checkout: Path = CHECKOUT) -> str:
    """Return how `turnout` is called in this shell so that it reaches this admin API."""
    if shutil.which("turnout"):
        program = "turnout"
    elif (checkout / "run").is_file():
        program = "./run" if Path.cwd() == checkout else str(checkout / "run")
    else:
        program = "python -m router"
    usual = urlsplit(admin_url).port == ADMIN_PORT and "TURNOUT_URL" not in os.environ
    return program if usual else f"TURNOUT_URL={admin_url} {program}"
