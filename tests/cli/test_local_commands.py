"""Commands that need no running Turnout, and the command line itself."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import io
import json
import os
import resource
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from router.admin.tokens import Keyring
from router.cli.commands import application, given_json, run
from router.core.config import TokenConfig

ALL = (
    "serve", "gateway", "control", "demo", "validate", "schema", "token",
    "list", "get", "status", "wait", "start", "promote", "pause", "resume", "abort", "retry", "undo", "approve",
    "set-weight", "set-policy", "decisions", "pairs", "diff", "explain", "replay", "rejudge",
)  # fmt: skip


def turnout(*arguments: str) -> tuple[int, str, str]:
    """Run one command in this process; return exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def test_help_names_every_command() -> None:
    """All commands of design.md section 8 that exist today, and -h works as well."""
    status, shown, _ = turnout("--help")
    assert status == 0
    listed = shown.partition("Commands:\n")[2].splitlines()
    assert tuple(line.split()[0] for line in listed if line.strip()) == ALL
    assert turnout("-h")[1] == shown


@pytest.mark.parametrize("command", ALL)
def test_every_command_explains_itself(command: str) -> None:
    """`turnout COMMAND --help` says what it does, and every option and argument has a sentence."""
    assert turnout(command, "--help")[0] == 0
    known = typer.main.get_command(application())
    assert isinstance(known, typer.core.TyperGroup)
    found = known.commands[command]
    assert found.help
    assert [parameter.name for parameter in found.params if not getattr(parameter, "help", "")] == []


def test_help_comes_fast_because_nothing_heavy_is_loaded() -> None:
    """`turnout --help` takes less than 300 ms of CPU, the best of five; wall time would measure the neighbours."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    took_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "router", "--help"], check=True, capture_output=True, env=environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took_s) < 0.3, took_s
    code = (
        "import sys; from router.cli.commands import run\n"
        "try: run(['--help'])\n"
        "except SystemExit: print(sorted({'httpx', 'pydantic', 'yaml', 'fastapi', 'numpy', 'rich', 'structlog'} "
        "& set(sys.modules)))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert shown.splitlines()[-1] == "[]"


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit 2, with the nearest name."""
    status, _, error = turnout("sevre")
    assert status == 2
    assert "'serve'" in error


def test_validate_sums_up_a_good_file(starter: Any) -> None:
    """Exit 0, a line for the file and one for each Route; nothing is started or written."""
    status, shown, _ = turnout("validate", "--config", str(starter.config()))
    first, second = shown.splitlines()
    assert status == 0
    assert first.endswith("OK, 1 route, 1 worker on 127.0.0.1:0")
    assert second == "  digits: /digits by opaque, variants v1, v2, stable v1"
    assert sorted(path.name for path in starter.home.iterdir()) == ["turnout.yaml"]


def test_validate_reports_everything_that_is_wrong_at_once(starter: Any) -> None:
    """Exit 2; each finding names field, value and what was expected."""
    config = starter.config(gateway={"workers": "two", "prot": 1})
    status, shown, error = turnout("validate", "--config", str(config))
    assert (status, shown) == (2, "")
    assert "gateway.workers: got 'two', expected" in error
    assert "gateway.prot" in error
    assert "port" in error


def test_a_missing_file_is_a_usage_error() -> None:
    """Exit 2 with the file's name and where to go from here."""
    status, _, error = turnout("serve", "--config", "/nowhere/turnout.yaml")
    assert status == 2
    assert "/nowhere/turnout.yaml" in error
    assert "turnout schema" in error


def test_turnouts_own_variables_are_no_settings(starter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TURNOUT_URL and TURNOUT_TOKEN are for the command line; a configuration is still valid beside them."""
    monkeypatch.setenv("TURNOUT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_TOKEN", "secret")
    assert turnout("validate", "--config", str(starter.config()))[0] == 0


def test_schema_is_a_json_schema_of_the_file(starter: Any) -> None:
    """It knows the blocks that a file may have."""
    status, shown, _ = turnout("schema")
    assert status == 0
    assert {"gateway", "routes", "store"} <= set(json.loads(shown)["properties"])
    assert set(json.loads(starter.config().read_text())) <= set(json.loads(shown)["properties"])


def test_a_token_fits_the_configuration_it_is_printed_with() -> None:
    """The printed entry, put into a configuration, lets the printed token in under its name and role."""
    status, shown, _ = turnout("token", "--name", "ada's laptop", "--role", "viewer")
    assert status == 0
    token = shown.splitlines()[1].strip()
    (entry,) = yaml.safe_load(shown.partition("for the configuration:\n")[2])["auth"]["tokens"]
    caller = Keyring([TokenConfig(**entry)]).find(token)
    assert caller
    assert (caller.name, str(caller.role)) == ("ada's laptop", "viewer")
    as_json = json.loads(turnout("token", "-o", "json")[1])
    assert set(as_json) == {"token", "name", "role", "hash"}
    assert as_json["token"] != token


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["demo", "--json"], ["demo", "--json", "-"]),
        (["demo", "--json", "out.json"], ["demo", "--json", "out.json"]),
        (["demo", "--json", "-"], ["demo", "--json", "-"]),
        (["demo", "--json", "--headless"], ["demo", "--json", "-", "--headless"]),
        (["demo", "--headless"], ["demo", "--headless"]),
    ],
)
def test_json_of_the_demo_needs_no_file(given: list[str], meant: list[str]) -> None:
    """`--json` alone writes to standard output, whatever follows it."""
    assert given_json(given) == meant


def test_a_file_without_a_rollout_block_is_a_usage_error(tmp_path: Path) -> None:
    """Neither YAML that is none, nor a list, nor a missing file is sent anywhere."""
    (tmp_path / "broken.yaml").write_text("a: [1")
    (tmp_path / "list.yaml").write_text("- 1")
    for name in ("broken.yaml", "list.yaml", "none.yaml"):
        status, _, error = turnout("start", "digits", "--file", str(tmp_path / name))
        assert status == 2
        assert "--file" in error
