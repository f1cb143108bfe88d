"""The environment as plain data: `TURNOUT_GATEWAY__PORT=8080` is the field `gateway.port`."""

from collections.abc import Iterable, Mapping
from typing import Any

from router.settings.document import parse_value
from router.settings.findings import Finding, Location, nearest

PREFIX = "TURNOUT_"
DELIMITER = "__"

FILE_ONLY = frozenset({"routes", "freeze"})
"""Names by operators, and a list: there is no field for a variable to name."""


def read_environment(environ: Mapping[str, str], blocks: Iterable[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Return what the variables say, nested as in the file, and what is wrong with them.

    Values are written as in the file, lists as `[a, b]`. Variables without a double underscore are not ours
    to judge: the command line has TURNOUT_URL, and Kubernetes sets TURNOUT_PORT for a service called turnout.
    """
    data: dict[str, Any] = {}
    findings: list[Finding] = []
    known = set(blocks)
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or DELIMITER not in variable:
            continue
        try:
            _place(data, variable, environ[variable], known)
        except ValueError as error:
            findings.append(Finding((variable,), environ[variable], str(error)))
    return data, findings


def variable_of(at: Location, data: Mapping[str, Any]) -> str | None:
    """Return the variable that set the field at `at`, None if the environment did not."""
    here: object = data
    for depth, part in enumerate(at):
        if not isinstance(here, dict) or part not in here:
            return None
        here = here[part]
        if not isinstance(here, dict):
            return PREFIX + DELIMITER.join(str(name) for name in at[: depth + 1]).upper()
    return None


def _place(data: dict[str, Any], variable: str, text: str, known: set[str]) -> None:
    """Put one value where its variable's name says. ValueError tells what was expected."""
    *outer, field = variable.removeprefix(PREFIX).lower().split(DELIMITER)
    if outer[0] in FILE_ONLY:
        raise ValueError(f"no such variable, because {outer[0]} can be set in the file only")
    if outer[0] not in known:
        raise ValueError(f"the name of a block after {PREFIX}; {nearest(outer[0], known - FILE_ONLY)}")
    value = parse_value(text)
    block: Any = data
    for part in outer:
        block = block.setdefault(part, {}) if isinstance(block, dict) else None
    try:
        block[field] = value
    except TypeError:
        raise ValueError(f"no variable for all of {'.'.join(outer)} beside one for a part of it") from None
