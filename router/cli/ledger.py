"""Commands that explain a rollout by what was recorded, take its decisions again, and put other questions to it."""
# ruff: noqa: PLR0913, PLR0917 - an option of a command is an argument of its function

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import options as o
from router.cli.options import DEFAULT_URL, Format
from router.cli.output import emit, say
from router.cli.problems import ERROR, USAGE, CommandError

if TYPE_CHECKING:
    from router.core.basis import Basis
    from router.core.decisions import DecisionRecord

Source = Annotated[
    str | None,
    typer.Argument(
        help="A Route, needed only if there are several; or the FILE of an exported ledger.", show_default=False
    ),
]
Rollout = Annotated[str | None, typer.Option(help="Only decisions of this rollout id.", show_default="all")]
Newest = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many of the newest decisions.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order of the help page."""
    for command in (explain, replay, rejudge):
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


def replay(
    source: Source = None,
    rollout: Rollout = None,
    limit: Newest = 100,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Take recorded decisions again, here. Exit status: 0 all the same, 1 a difference, or nothing could be replayed.

    FILE is what `turnout decisions --evidence -o json` wrote; then no server is asked.
    """
    from router.cli.replayed import replay_body, replay_lines
    from router.control.replay import Outcome
    from router.control.replay import replay as taken_again
    from router.plugins import load_policies

    policies = load_policies()
    found = [taken_again(record, policies) for record in _records(source, rollout, limit, url, token)]
    if output is Format.JSON:
        for one in found:
            say(json.dumps(replay_body(one), ensure_ascii=False))
    else:
        emit(replay_lines(found))
    outcomes = {one.outcome for one in found}
    raise typer.Exit(0 if Outcome.SAME in outcomes and Outcome.DIFFERS not in outcomes else ERROR)


def rejudge(
    source: Source = None,
    gates: Annotated[
        Path | None, typer.Option(help="YAML file with `gates:` as in a rollout block, alpha and beta.")
    ] = None,
    rollout: Annotated[str | None, typer.Option(help="The rollout's id.", show_default="the newest")] = None,
    limit: Newest = 100,
    url: o.Url = DEFAULT_URL,
    token: o.Token = None,
    output: o.Output = Format.TABLE,
) -> None:
    """Say what other gates would have done. They judge the recorded evidence at each decision, and in between."""
    from router.cli.rejudged import rejudge_body, rejudge_lines
    from router.control.rejudge import Moment
    from router.control.rejudge import rejudge as judged_anew
    from router.plugins import load_policies
    from router.settings import load_gates

    if gates is None:
        raise CommandError("--gates missing", fix="name a YAML file with `gates:`", exit_code=USAGE)
    asked = load_gates(gates)
    records = _records(source, rollout, limit, url, token)
    chosen = rollout or (records[-1].rollout if records else "")
    moments = [Moment(one.basis, one) for one in records if one.basis and one.basis.state.id == chosen]
    if not _is_file(source):
        moments += [Moment(basis) for basis in _timeline(source, chosen, url, token)]
    policies = load_policies()
    if missing := {one.basis.state.policy for one in moments if one.basis.state.active} - policies.keys():
        raise CommandError(f"policy {', '.join(sorted(missing))} is not installed here", "it says what comes next")
    found = judged_anew(moments, asked, policies)
    if not found.points:
        raise CommandError(
            f"nothing to judge of rollout {chosen or '(none)'}", "no evidence of it is recorded", _EXPORT
        )
    if output is Format.JSON:
        say(json.dumps(rejudge_body(chosen, found), ensure_ascii=False))
    else:
        emit(rejudge_lines(chosen, found))


def _is_file(source: str | None) -> bool:
    return source is not None and Path(source).is_file()


def _timeline(route: str | None, rollout: str, url: str, token: str | None) -> "Sequence[Basis]":
    """Return what the evidence of the rollout was between its decisions, and of the present one what it is now."""
    import orjson

    from router.cli.client import Api
    from router.store.basis_codec import read_basis
    from router.store.fields import Fields

    with closing(Api(url, token)) as api:
        told = orjson.loads(api.get(f"{api.route(route)}/timeline", {"rollout": rollout}).content)
    return [read_basis(Fields.of(one, f"timeline[{number}]")) for number, one in enumerate(told)]


def _records(
    source: str | None, rollout: str | None, limit: int, url: str, token: str | None
) -> "Sequence[DecisionRecord]":
    """Return the recorded decisions with what they followed from, oldest first."""
    from router.cli.client import Api

    if source is not None and _is_file(source):
        told = _exported(Path(source))
    else:
        with closing(Api(url, token)) as api:
            told = api.get(f"{api.route(source)}/decisions", {"limit": limit, "evidence": "true"}).json()
    records = [_record(one, number) for number, one in enumerate(told, 1)]
    chosen = [record for record in records if rollout in (None, record.rollout)]
    if rollout is not None and not chosen:
        ids = ", ".join(dict.fromkeys(record.rollout for record in records)) or "none"
        raise CommandError(f"no decision of rollout {rollout}", f"there are those of: {ids}", exit_code=USAGE)
    return sorted(chosen, key=lambda record: (record.route, record.revision))


def _exported(path: Path) -> Iterable[Any]:
    """Return the objects of an exported ledger, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise CommandError(f"{path} cannot be read as an exported ledger", why, _EXPORT, exit_code=USAGE) from error


_EXPORT = "write one by `turnout decisions --evidence -o json > FILE`"


def _record(told: Any, number: int) -> "DecisionRecord":  # noqa: ANN401 - JSON
    """Return the ledger's own record in one object of an export; raises UnreadableRecordError where it is damaged."""
    import orjson

    from router.store.codec import decode_decision

    if not isinstance(told, dict) or "record" not in told:
        raise CommandError(f"decision {number} has no record of what it followed from", fix=_EXPORT, exit_code=USAGE)
    return decode_decision(orjson.dumps(told["record"]), longest=None)
