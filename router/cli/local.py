"""Commands that run or check something on this machine."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import Config, Format, Output
from router.cli.output import say
from router.cli.problems import USAGE, CommandError

if TYPE_CHECKING:
    from router.core.config import TurnoutConfig

DEFAULT_CONFIG = Path("turnout.yaml")


class Role(StrEnum):
    """What a token may do; each includes the ones before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Bad(StrEnum):
    """What is wrong with the demo's bad candidate."""

    DIGIT = "digit"
    CRASH = "crash"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order of the help page."""
    for command in (serve, gateway, control, demo, validate, schema, token):
        app.command()(command)


def serve(config: Config = DEFAULT_CONFIG) -> None:
    """Run gateway, control and store. The store is an embedded Valkey unless store.url names another."""
    from router import app

    app.serve(_load(config), say, config)


def gateway(config: Config = DEFAULT_CONFIG) -> None:
    """Run the gateway alone. It is a parent with its workers and needs store.url."""
    from router import app

    app.gateway(_load(config), say, config)


def control(config: Config = DEFAULT_CONFIG) -> None:
    """Run control alone. It is the control loop with the admin API and needs store.url."""
    from router import app

    app.control(_load(config), say)


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No live view: a line now and then.")] = False,
    seconds: Annotated[
        float | None,
        typer.Option(help="How long the rollouts may take together.", show_default="120"),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="[FILE]", help="Write the result as JSON, to FILE or here.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Gateway port; 0 takes a free one.")] = 8080,
    bad: Annotated[
        Bad, typer.Option(help="The bad candidate: one that reads a digit wrong, or one that crashes.")
    ] = Bad.DIGIT,
) -> None:
    """Show rollouts of real models, live. A good one promotes itself, a bad one is rolled back."""
    from importlib import import_module  # by name: the demo stands beside the command line, not under it
    from importlib.util import find_spec

    if not find_spec("sklearn"):
        why = "it brings real models, and Turnout itself needs no scikit-learn"
        raise CommandError("the demo needs scikit-learn", why, "pip install 'turnout[demo]'")
    options = import_module("router.demo.options").DemoOptions(
        seconds=seconds, headless=headless, json=json_file, port=port, bad=bad
    )
    raise typer.Exit(import_module("router.demo.run").main(options))


def validate(config: Config = DEFAULT_CONFIG) -> None:
    """Check a configuration file. Prints a summary, or everything that is wrong and exits with 2; starts nothing."""
    from router.admin.bind import check_bind

    checked = _load(config)
    check_bind(checked)
    for line in summary(config, checked):
        say(line)


def schema() -> None:
    """Print the JSON Schema of the file. Editors complete and check by it."""
    from router.settings import json_schema

    say(json.dumps(json_schema(), indent=2))


def token(
    name: Annotated[str, typer.Option(help="Whose token it is; shown as actor of decisions.")] = "me",
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.OPERATOR,
    output: Output = Format.TABLE,
) -> None:
    """Make a token for the admin API. It is shown once; the configuration keeps only its hash."""
    from router.admin.tokens import make_token

    made, kept = make_token(os.urandom)
    if output is Format.JSON:
        say(json.dumps({"token": made, "name": name, "role": role.value, "hash": kept}))
        return
    entry = f"{{name: {json.dumps(name)}, role: {role.value}, hash: {json.dumps(kept)}}}"
    say(f"token, shown only now:\n  {made}\n\nfor the configuration:\n  auth:\n    tokens:\n      - {entry}")


def summary(path: Path, config: "TurnoutConfig") -> list[str]:
    """Return what a valid configuration says, a line for each Route."""
    gateway = config.gateway
    listen = f"{gateway.listen.host}:{gateway.listen.port}"
    lines = [f"{path}: OK, {_count(len(config.routes), 'route')}, {_count(gateway.workers, 'worker')} on {listen}"]
    for name, route in config.routes.items():
        rollout = config.rollouts.get(name)
        plan = f", rollout of {rollout.candidate} by {rollout.policy}" if rollout else ""
        lines.append(
            f"  {name}: {route.match.path_prefix} by {route.adapter}, "
            f"variants {', '.join(route.variants)}, stable {route.stable}{plan}"
        )
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _load(path: Path) -> "TurnoutConfig":
    from router.app import load_config

    if not path.exists():
        raise CommandError(
            f"no configuration at {path}",
            fix="name one by --config; `turnout schema` says what may stand in it, `turnout demo` needs none",
            exit_code=USAGE,
        )
    return load_config(path, os.environ)
