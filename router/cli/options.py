"""Arguments and options that several commands share."""

import getpass
import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from router.core.timestamps import rfc3339

DEFAULT_URL = "http://127.0.0.1:8081"


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"


Route: TypeAlias = Annotated[str | None, typer.Argument(help="Needed only if there are several.", show_default=False)]
Url: TypeAlias = Annotated[str, typer.Option(envvar="TURNOUT_URL", help="Admin API.")]
Token: TypeAlias = Annotated[
    str | None, typer.Option(envvar="TURNOUT_TOKEN", help="Bearer token for the admin API.", show_default=False)
]
Output: TypeAlias = Annotated[
    Format, typer.Option("-o", "--output", help="table, or json: what the API said, unchanged.")
]
Reason: TypeAlias = Annotated[
    str | None, typer.Option("--reason", help="Why, for the record; one line.", show_default="who and what")
]
Config: TypeAlias = Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, None: 1.0}


def duration_s(text: str) -> float:
    """Return seconds for `30m`, `45s`, `2h`; a number alone is seconds. Raises typer.BadParameter."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"got {text!r}, expected a duration such as 30s, 5m or 2h")
    return float(found[1]) * _UNITS_S[found[2]]


def moment(text: str, now_s: float) -> str:
    """Return a moment in RFC 3339 for `30m` (so long before `now_s`) or for a time with its offset.

    Raises typer.BadParameter.
    """
    try:
        at_s = datetime.fromisoformat(text).timestamp() if "T" in text else now_s - duration_s(text)
        return rfc3339(at_s)
    except (typer.BadParameter, ValueError, OverflowError, OSError):
        expected = "a duration such as 30m (so long ago), or a time such as 2026-01-31T12:00:00Z"
        raise typer.BadParameter(f"got {text!r}, expected {expected}") from None


def share(text: str) -> str:
    """Return a share as the API reads it; a number alone is percent. Raises typer.BadParameter."""
    number = text.strip().removesuffix("%")
    try:
        fits = 0 <= float(number) <= 100
    except ValueError:
        fits = False
    if not fits:
        raise typer.BadParameter(f"got {text!r}, expected a share from 0% to 100%")
    return f"{number}%"


def route_and(first: str | None, second: str | None, what: str) -> tuple[str | None, str]:
    """Return (Route, value) of a command that is called as `COMMAND [ROUTE] VALUE`. Raises typer.BadParameter."""
    if first is None:
        raise typer.BadParameter("missing", param_hint=what)
    return (None, first) if second is None else (first, second)


def reason_or_default(reason: str | None, verb: str) -> str:
    """Return the given reason, else one that says who asked and how."""
    if reason:
        return reason
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user in this container
        user = "somebody"
    return f"turnout {verb}, by {user}"
