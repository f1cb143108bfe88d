"""`turnout replay`: recorded decisions taken again, from a server or from a file without one."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Turnout = Callable[..., Any]


@pytest.fixture
def ledger(turnout: Turnout, served: Any) -> str:
    """A rollout with a few commands, ended; its id."""
    for command in (
        ("start", "digits", "--candidate", "v2", "--policy", "canary"),
        ("pause", "--reason", "lunch"), ("resume",), ("set-weight", "20%"), ("abort", "--reason", "wrong"),
    ):  # fmt: skip
        assert turnout(*command).returncode == 0
    return str(httpx.get(served.url("admin") + "/v1/routes/digits/rollout").json()["id"])


def exported(turnout: Turnout, path: Path) -> list[Any]:
    """Write the ledger into a file; return its objects."""
    text = turnout("decisions", "--evidence", "-o", "json", "-n", "1000").stdout
    path.write_text(text)
    return [json.loads(line) for line in text.splitlines()]


def test_a_ledger_replays_from_the_server(turnout: Turnout, ledger: str) -> None:
    """One line for each decision, oldest first, and exit 0 when all are the same."""
    done = turnout("replay", "digits", "--rollout", ledger)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["same"] * 5
    assert [line.partition("  revision ")[2].split()[1] for line in lines[:-1]] == [
        "start", "pause", "resume", "set_exposure", "roll_back",
    ]  # fmt: skip
    assert lines[-1] == "5 decisions: 5 same"


def test_an_exported_ledger_replays_without_a_server(turnout: Turnout, ledger: str, tmp_path: Path) -> None:
    """Forensics: the file alone says it; `-o json` is one object a line."""
    file = tmp_path / "ledger.jsonl"
    exported(turnout, file)
    done = turnout("replay", str(file), "--rollout", ledger, "-o", "json", TURNOUT_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["outcome"], one["rollout"], one["differences"]) for one in found] == [("same", ledger, [])] * 5


def test_a_tampered_export_is_found(turnout: Turnout, ledger: str, tmp_path: Path) -> None:
    """Exit 1, and the line says where, what was recorded and what follows."""
    file = tmp_path / "ledger.jsonl"
    told = exported(turnout, file)
    told[1]["record"]["weight_bp_after"] = 3_000
    file.write_text("\n".join(json.dumps(one) for one in told))
    done = turnout("replay", str(file), "--rollout", ledger)
    assert done.returncode == 1
    at = next(n for n, line in enumerate(done.stdout.splitlines()) if line.startswith("differs"))
    assert done.stdout.splitlines()[at + 1] == "    weight_bp_after: 3000.0 recorded, 2000.0 now"
    assert done.stdout.splitlines()[-1] == "5 decisions: 4 same, 1 differs"


def test_decisions_without_their_basis_are_no_success(turnout: Turnout, ledger: str, tmp_path: Path) -> None:
    """Silence is never success: when nothing could be replayed, the exit status says so."""
    file = tmp_path / "ledger.jsonl"
    told = exported(turnout, file)
    for one in told:
        one["record"]["basis"] = None
    file.write_text("\n".join(json.dumps(one) for one in told))
    done = turnout("replay", str(file), "--rollout", ledger)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "5 decisions: 5 not replayable"
    assert "(what it followed from is not recorded)" in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "cannot be read as an exported ledger"), ('{"kind": "start"}', "has no record of what it followed from")],
)
def test_a_file_that_is_no_export_says_how_to_make_one(
    turnout: Turnout, tmp_path: Path, content: str, said: str
) -> None:
    """A usage error with the command that writes one."""
    file = tmp_path / "ledger.jsonl"
    file.write_text(content)
    done = turnout("replay", str(file))
    assert done.returncode == 2
    assert said in done.stderr
    assert "fix: write one by `turnout decisions --evidence -o json > FILE`" in done.stderr


def test_a_damaged_record_names_the_place(turnout: Turnout, ledger: str, tmp_path: Path) -> None:
    """What cannot be read is an error, never skipped."""
    file = tmp_path / "ledger.jsonl"
    told = exported(turnout, file)
    told[0]["record"]["basis"]["now_s"] = "yesterday"
    file.write_text("\n".join(json.dumps(one) for one in told))
    done = turnout("replay", str(file), "--rollout", ledger)
    assert done.returncode == 1
    assert "basis.now_s: got 'yesterday', expected a finite number" in done.stderr


def test_a_rollout_that_is_not_there_is_a_usage_error(turnout: Turnout, ledger: str) -> None:
    """With the ids that are."""
    done = turnout("replay", "--rollout", "nope.1")
    assert done.returncode == 2
    assert ledger in done.stderr


def test_evidence_needs_json(turnout: Turnout) -> None:
    """A table has no room for thousands of counters."""
    done = turnout("decisions", "--evidence")
    assert done.returncode == 2
    assert "--evidence needs -o json" in done.stderr
