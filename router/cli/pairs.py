"""Commands that show pairs of answers: many in a table or a file, or one side by side."""
# ruff: noqa: PLR0913, PLR0917 - an option of a command is an argument of its function

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import options as o
from router.cli.options import DEFAULT_URL, Format
from router.cli.output import emit, json_line, note, say
from router.cli.problems import USAGE, CommandError

if TYPE_CHECKING:
    from router.cli.client import Api
    from router.cli.show import Body

SHOWN = 20
TABLE_ROWS = 1_000
"""Most rows of a table: its columns are as wide as their widest cell, so all must be known. JSON has no such limit."""

PAGE = 1_000

Disagreements = Annotated[bool, typer.Option("--disagreements", help="Only those whose answers differ.")]
Same = Annotated[bool, typer.Option("--same", help="Only those whose answers are the same.")]
NotCompared = Annotated[bool, typer.Option("--not-compared", help="Only those that could not be compared.")]
Newest = Annotated[bool, typer.Option("--newest", help="In their order, not those that differ first.")]
Outcome = Annotated[
    str | None, typer.Option(help="Only those in which a variant ended so: timeout, http_error ...", show_default=False)
]
Slices = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        metavar="NAME=VALUE",
        help="Only those of this slice; may be given several times.",
        show_default=False,
    ),
]
MinDistance = Annotated[float | None, typer.Option(help="Only those at least so far apart.", show_default=False)]
Since = Annotated[str | None, typer.Option(help="From: 30m (ago), or 2026-01-31T12:00:00Z.", show_default=False)]
Until = Annotated[str | None, typer.Option(help="Before: as --since.", show_default=False)]
RequestId = Annotated[
    str | None, typer.Option("--request-id", help="Only those of this x-request-id.", show_default=False)
]
Payloads = Annotated[bool, typer.Option("--payloads", help="With what is kept of bodies; for operators, and logged.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order of the help page."""
    app.command()(pairs)
    app.command()(diff)


def pairs(
    route: o.Route = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="How many.", show_default="20; with --export all")
    ] = None,
    disagreements: Disagreements = False,
    same: Same = False,
    not_compared: NotCompared = False,
    newest: Newest = False,
    outcome: Outcome = None,
    slices: Slices = None,
    min_distance: MinDistance = None,
    since: Since = None,
    until: Until = None,
    request_id: RequestId = None,
    payloads: Payloads = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them to FILE.jsonl or FILE.csv.", show_default=False)
    ] = None,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Show pairs of answers. Those that differ first, each newest first; json is one object a line."""
    from router.cli.client import Api
    from router.cli.export import write_pairs
    from router.cli.show import pair_table

    kinds = {"false": disagreements, "true": same, "null": not_compared}
    chosen = [kind for kind, given in kinds.items() if given]
    if len(chosen) > 1:
        what = "--disagreements, --same and --not-compared exclude each other"
        raise CommandError(what, fix="give one of them", exit_code=USAGE)
    if payloads and output is not Format.JSON and (export is None or export.suffix != ".jsonl"):
        fix = "use -o json, or --export FILE.jsonl"
        raise CommandError("--payloads needs JSON", "a table has no room for them", fix, exit_code=USAGE)
    query = _query(outcome, slices, min_distance, since, until, request_id, payloads)
    query |= {"same": chosen[0]} if chosen else {}
    with closing(Api(url, token)) as api:
        path = f"{api.route(route)}/pairs"
        if export is not None:
            written = write_pairs(export, islice(_kept(api, path, query, limit), limit))
            say(f"{written:,} pairs written to {export}")
            return
        wanted = limit or SHOWN
        if wanted > TABLE_ROWS and output is not Format.JSON:
            why = f"a table shows {TABLE_ROWS:,} at most"
            raise CommandError(f"--limit {wanted}", why, "use -o json, or --export FILE", exit_code=USAGE)
        in_order = newest or bool(chosen)
        found = _kept(api, path, query, wanted) if in_order else _disagreements_first(api, path, query, wanted)
        shown = islice(found, wanted)
        if output is Format.JSON:
            for pair in shown:
                say(json_line(pair))
        else:
            emit(pair_table(list(shown)))


def diff(
    route: o.Route = None,
    request_id: Annotated[
        str | None, typer.Argument(metavar="REQUEST_ID", help="The x-request-id of the request.", show_default=False)
    ] = None,
    pair_id: Annotated[
        str | None, typer.Option("--pair", help="Which pair of the request, if it has several.", show_default=False)
    ] = None,
    payloads: Payloads = False,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Show one pair side by side. What differs is marked; json is the pair."""
    from router.cli.client import Api
    from router.cli.side_by_side import pair_lines

    name, wanted = o.route_and(route, request_id, "REQUEST_ID")
    with closing(Api(url, token)) as api:
        query = {"request_id": wanted} | ({"payloads": "true"} if payloads else {})
        found = {one["pair_id"]: one for one in _kept(api, f"{api.route(name)}/pairs", query, None)}
    pair = _the_only(list(found.values()), wanted, pair_id)
    if output is Format.JSON:
        say(json_line(pair))
    else:
        emit(pair_lines(pair))
    if payloads and pair["payload"] is None:
        raise CommandError(
            "no payload of this pair is kept",
            "`pairs.payloads` named nothing that stood in its bodies, or they were too long or no JSON",
            "name what is to be kept in the configuration (docs/privacy.md); it counts for new pairs",
        )


def _query(
    outcome: str | None,
    slices: list[str] | None,
    min_distance: float | None,
    since: str | None,
    until: str | None,
    request_id: str | None,
    payloads: bool,
) -> dict[str, Any]:
    """Return the API's parameters for what was given."""
    now_s = time.time()
    given = {
        "outcome": outcome, "slice": slices or None, "min_distance": min_distance, "request_id": request_id,
        "since": since and o.moment(since, now_s), "until": until and o.moment(until, now_s),
        "payloads": "true" if payloads else None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def _kept(api: "Api", path: str, query: Mapping[str, Any], limit: int | None) -> "Iterator[Body]":
    """Yield all kept pairs that fit, newest first; `limit` is how many will be taken, None for all."""
    import orjson

    for answer in api.pages(path, {**query, "limit": min(limit or PAGE, PAGE)}):
        yield from orjson.loads(answer.content)


def _disagreements_first(api: "Api", path: str, query: Mapping[str, Any], limit: int) -> "Iterator[Body]":
    """Yield what differs among the pairs that one request searches, then the newest others.

    One, because a good candidate differs in so few that everything would be searched each time.
    """
    differ = api.get(path, {**query, "same": "false", "limit": min(limit, PAGE)})
    first = differ.json()
    yield from first
    if len(first) < limit:
        if "next" in differ.links:
            note("not all pairs were searched for those that differ; --disagreements does so")
        shown = {one["pair_id"] for one in first}
        yield from (one for one in _kept(api, path, query, limit) if one["pair_id"] not in shown)


def _the_only(found: "list[Body]", request_id: str, pair_id: str | None) -> "Body":
    """Return the pair that is meant. Raises CommandError that says why there is none, or which there are."""
    from router.cli.show import clock, cut
    from router.telemetry.logs import escape

    shown = escape(cut(request_id, 128))
    chosen = [one for one in found if pair_id is None or one["pair_id"] == pair_id]
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise CommandError(
            f"no pair of request {shown}",
            "it was not copied, is not written yet, or has made room for newer ones (pairs.keep)",
            "`turnout pairs` shows the ids of requests that have pairs",
        )
    listed = "; ".join(
        f"{escape(cut(one['pair_id']))} of {clock(one['assigned_at'])}, rollout {escape(cut(one['rollout']))}"
        for one in found[:SHOWN]
    )
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    what = "none of them is the one of --pair" if pair_id else "clients may use an id twice"
    raise CommandError(
        f"{len(found)} pairs of request {shown}: {what}", f"{listed}{more}", "choose one by --pair", exit_code=USAGE
    )
