"""Errors as a person reads them: what happened, why, and what to do."""

from typing import TextIO

from router.core.errors import ConfigError, TurnoutError

ERROR = 1
USAGE = 2


class CommandError(Exception):
    """A command cannot go on. `exit_code` is what the process ends with."""

    def __init__(self, what: str, why: str = "", fix: str = "", *, exit_code: int = ERROR) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.exit_code = exit_code


def as_command_error(error: Exception) -> CommandError | None:
    """Return what to show for an expected error, None for one that is a bug and keeps its traceback."""
    if isinstance(error, CommandError):
        return error
    if not isinstance(error, TurnoutError):
        return None
    # By name: these live in modules that a quick command has no need to load.
    of_the_start = type(error).__name__ in ("ListenError", "PluginError") or getattr(error, "lasting", False)
    usage = isinstance(error, ConfigError) or of_the_start
    return CommandError(str(error), exit_code=USAGE if usage else ERROR)


def show(error: CommandError, out: TextIO) -> None:
    """Write the error, one line for each part that is known."""
    out.write(f"error: {error.what}\n")
    if error.why:
        out.write(f"  why: {error.why}\n")
    if error.fix:
        out.write(f"  fix: {error.fix}\n")
