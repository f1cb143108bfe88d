"""Commands that ask or tell a running Turnout."""
# ruff: noqa: PLR0913, PLR0917 - an option of a command is an argument of its function

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import options as o
from router.cli.options import DEFAULT_URL, Format
from router.cli.output import emit, json_line, say
from router.cli.problems import USAGE, CommandError
from router.cli.waiting import Goal, wait_for, watch

if TYPE_CHECKING:
    from httpx import Response

    from router.cli.client import Api

VERBS = {
    "pause": "Stop moving; traffic stays as it is.",
    "resume": "Go on after a pause.",
    "abort": "Take the candidate's traffic away for good.",
    "retry": "Try again what was rolled back.",
    "undo": "Put the previous stable variant back.",
    "approve": "Agree that the present step may be left.",
}
"""Commands that take nothing but a Route and a reason."""

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many, newest first.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order of the help page."""
    app.command("list")(list_routes)
    for command in (get, status, wait, start, promote):
        app.command()(command)
    for verb, says in VERBS.items():
        app.command(verb, help=says)(_simple(verb))
    app.command("set-weight")(set_weight)
    app.command("set-policy")(set_policy)
    app.command()(decisions)


def list_routes(url: o.Url = DEFAULT_URL, token: o.Token = None, output: o.Output = Format.TABLE) -> None:
    """List all Routes, one line each."""
    from router.cli.show import route_table

    with _api(url, token) as api:
        answer = api.get("/v1/routes")
    if output is Format.JSON:
        say(answer.text)
    else:
        emit(route_table(answer.json()))


def get(
    route: o.Route = None,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="Show every change until Ctrl-C.")] = False,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Show where a rollout stands. A tree of its variants and gateways under a header."""
    with _api(url, token) as api:
        watch(api, api.route(route), output, once=not watched)


def status(
    route: o.Route = None, url: o.Url = DEFAULT_URL, token: o.Token = None, output: o.Output = Format.TABLE
) -> None:
    """Show a rollout in one line."""
    with _api(url, token) as api:
        _print_rollout(api.get(f"{api.route(route)}/rollout"), output)


def wait(
    route: o.Route = None,
    goal: Annotated[Goal, typer.Option("--for", help="passed: the judge would promote it.")] = Goal.PROMOTED,
    timeout: Annotated[str, typer.Option(help="How long at most: 45s, 30m, 2h.")] = "30m",
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Wait until a rollout ends. Exit status: 0 reached, 1 error, 2 usage, 3 rolled back, 4 timed out."""
    timeout_s = o.duration_s(timeout)
    with _api(url, token) as api:
        ended = wait_for(api, api.route(route), goal, timeout_s)
        _print_rollout(ended.answer, output)
        raise typer.Exit(ended.exit_code)


def start(
    route: o.Route = None,
    candidate: Annotated[str | None, typer.Option(help="Variant on trial.", show_default=False)] = None,
    policy: Annotated[
        str | None, typer.Option(help="shadow, canary, blue_green or a plug-in's.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="YAML file with a `rollout:` block, or just its content.", show_default=False)
    ] = None,
    reason: o.Reason = None,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Start a rollout."""
    block = _block(file) if file else {}
    block |= {key: value for key, value in (("candidate", candidate), ("policy", policy)) if value}
    missing = [f"--{key}" for key in ("candidate", "policy") if key not in block]
    if missing:
        raise CommandError(f"{' and '.join(missing)} missing", fix="give it, or a --file with it", exit_code=USAGE)
    block["reason"] = o.reason_or_default(reason, "start")
    with _api(url, token) as api:
        _print_rollout(api.post(f"{api.route(route)}/rollouts", block), output)


def promote(
    route: o.Route = None,
    full: Annotated[bool, typer.Option("--full", help="Make the candidate stable now, without the judge.")] = False,
    reason: o.Reason = None,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Go to the next step. From the last one: make the candidate stable."""
    body = {"reason": o.reason_or_default(reason, "promote --full" if full else "promote"), "full": full}
    with _api(url, token) as api:
        _print_rollout(api.post(f"{api.route(route)}/rollout/promote", body), output)


def set_weight(
    route: o.Route = None,
    weight: Annotated[str | None, typer.Argument(help="Candidate's share: 10%.", show_default=False)] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Share of requests to copy as well: 100%.", show_default="as it is")
    ] = None,
    reason: o.Reason = None,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Set the candidate's share of live answers."""
    name, value = o.route_and(route, weight, "WEIGHT")
    body = {"weight": o.share(value), "reason": o.reason_or_default(reason, "set-weight")}
    if mirror is not None:
        body["mirror"] = o.share(mirror)
    with _api(url, token) as api:
        _print_rollout(api.patch(f"{api.route(name)}/rollout", body), output)


def set_policy(
    route: o.Route = None,
    policy: Annotated[
        str | None, typer.Argument(help="shadow, canary, blue_green or a plug-in's.", show_default=False)
    ] = None,
    reason: o.Reason = None,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Go on under another policy, at its first step."""
    name, value = o.route_and(route, policy, "POLICY")
    body = {"policy": value, "reason": o.reason_or_default(reason, "set-policy")}
    with _api(url, token) as api:
        _print_rollout(api.patch(f"{api.route(name)}/rollout", body), output)


def decisions(
    route: o.Route = None,
    limit: Limit = 20,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="With what each followed from, for `turnout replay FILE`; json only.")
    ] = False,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Show what was decided. By whom, why, newest first; json is one object a line."""
    from router.cli.show import decision_table

    if evidence and output is not Format.JSON:
        raise CommandError("--evidence needs -o json", "a table has no room for it", exit_code=USAGE)
    query: dict[str, str | int | bool] = {"limit": limit} | ({"evidence": "true"} if evidence else {})
    with _api(url, token) as api:
        records = api.get(f"{api.route(route)}/decisions", query).json()
    if output is Format.JSON:
        for record in records:
            say(json_line(record))
    else:
        emit(decision_table(records))


def _simple(verb: str) -> Callable[..., None]:
    def command(
        route: o.Route = None,
        reason: o.Reason = None,
        url: o.Url = DEFAULT_URL,
        token: o.Token = None,
        output: o.Output = Format.TABLE,
    ) -> None:
        body = {"reason": o.reason_or_default(reason, verb)}
        with _api(url, token) as api:
            _print_rollout(api.post(f"{api.route(route)}/rollout/{verb}", body), output)

    return command


@contextmanager
def _api(url: str, token: str | None) -> "Iterator[Api]":
    from router.cli.client import Api

    api = Api(url, token)
    try:
        yield api
    finally:
        api.close()


def _print_rollout(answer: "Response", output: Format) -> None:
    from router.cli.show import status_line

    if output is Format.JSON:
        say(answer.text)
    else:
        emit([status_line(answer.json())])


def _block(path: Path) -> dict[str, Any]:
    """Return a rollout block as plain data; the API checks what is in it."""
    import yaml

    try:
        found = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise CommandError(f"--file {path} cannot be read", " ".join(str(error).split()), exit_code=USAGE) from error
    block = found.get("rollout", found) if isinstance(found, dict) else None
    if not isinstance(block, dict):
        raise CommandError(f"--file {path} holds no rollout block", fix="see `turnout schema`", exit_code=USAGE)
    return block
