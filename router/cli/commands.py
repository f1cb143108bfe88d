"""Every command in one application."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from router import version
from router.cli import ledger, local, pairs, rollouts
from router.cli.problems import as_command_error, show

HELP = "A rollout router for model servers: shadow, canary and blue/green with the pair of answers kept."


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Carry out one command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that does not know our signs still gets its lines.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        application()(given_json(given), prog_name="turnout")
    except Exception as error:
        found = as_command_error(error)
        if found is None:
            raise
        show(found, sys.stderr)
        sys.exit(found.exit_code)
    sys.exit(0)


def application() -> typer.Typer:
    """Return all commands."""
    app = typer.Typer(
        name="turnout",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help needs no rich: half the time
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    local.register(app)
    rollouts.register(app)
    pairs.register(app)
    ledger.register(app)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"turnout {version()}")
        raise typer.Exit


def _options(
    *,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what stands before a command."""


def given_json(arguments: list[str]) -> list[str]:
    """Return the arguments with `-` (standard output) after a `--json` that names no file; typer cannot."""
    if "--json" not in arguments:
        return arguments
    at = arguments.index("--json") + 1
    named = at < len(arguments) and not arguments[at].startswith("--")
    return arguments if named else [*arguments[:at], "-", *arguments[at:]]
