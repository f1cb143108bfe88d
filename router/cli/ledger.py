"""Commands that explain a rollout by what was recorded."""

import time
from contextlib import closing

import typer

from router.cli import options as o
from router.cli.options import DEFAULT_URL, Format
from router.cli.output import emit, say


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order of the help page."""
    for command in (explain,):
        app.command()(command)


def explain(
    route: o.Route = None, url: o.Url = DEFAULT_URL, token: o.Token = None, output: o.Output = Format.TABLE
) -> None:
    """Say why a rollout stands where it stands. By whose decision, what it waits for, and what would make it move."""
    from router.cli.client import Api
    from router.cli.explained import explanation_lines

    with closing(Api(url, token)) as api:
        answer = api.get(f"{api.route(route)}/explain")
    if output is Format.JSON:
        say(answer.text)
    else:
        emit(explanation_lines(answer.json(), time.time()))
