"""`turnout rejudge`: what other gates would have done, from a server or from a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Turnout = Callable[..., Any]

GATES = "gates:\n  - {metric: error_rate, max: 5%}\n  - {metric: latency, max_increase: 10%}\nalpha: 0.001\n"


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    """A file with the question."""
    path = tmp_path / "other.yaml"
    path.write_text(GATES)
    return path


@pytest.fixture
def rolled_out(turnout: Turnout, tmp_path: Path) -> None:
    """A rollout with a gate of its own, paused and aborted."""
    block = tmp_path / "block.yaml"
    block.write_text("candidate: v2\npolicy: canary\ngates: [{metric: error_rate, max_increase: 1pp}]\n")
    for command in (("start", "--file", str(block)), ("pause",), ("abort", "--reason", "wrong")):
        assert turnout(*command).returncode == 0


@pytest.mark.usefixtures("rolled_out")
def test_other_gates_say_what_they_would_have_done(turnout: Turnout, gates: Path) -> None:
    """What they cannot say first, then each decision with their answer, and the difference."""
    done = turnout("rejudge", "digits", "--gates", str(gates))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert ", judged by error_rate at " in lines[0]
    assert "cannot be told from this record, and left out" in lines
    assert (
        "  latency: the rollout had no latency gate for these requests, so no threshold was frozen to count by" in lines
    )
    assert any("pause by operator:local -> wait: baking: " in line for line in lines)
    assert any("roll_back by operator:local -> wait: it is paused" in line for line in lines)
    assert lines[-1] == "they would have done the same at every recorded moment"


@pytest.mark.usefixtures("rolled_out")
def test_an_exported_ledger_can_be_asked_without_a_server(turnout: Turnout, gates: Path, tmp_path: Path) -> None:
    """At its decisions alone; json holds every number, and alpha is the file's."""
    file = tmp_path / "ledger.jsonl"
    file.write_text(turnout("decisions", "--evidence", "-o", "json").stdout)
    done = turnout("rejudge", str(file), "--gates", str(gates), "-o", "json", TURNOUT_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["gates"], [one["gate"] for one in told["untold"]]) == (["error_rate"], ["latency"])
    assert [one["happened"]["kind"] for one in told["points"]] == ["pause", "roll_back"]
    judged = told["points"][0]["judgement"]
    assert judged["rollback_at"] == pytest.approx(7.6, abs=3.0)
    assert [gate["verdict"] for gate in judged["gates"]] == ["inconclusive"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("gates: []\n", "gates: got a list, expected"),
        ("gates:\n  - {metric: error_rate, max: 5}\n", "line 2: gates[0].max: got 5, expected"),
        ("gates:\n  - {metric: eror_rate, max: 5%}\n", "gates[0].metric: got 'eror_rate', expected"),
        ("gates:\n  - {metric: error_rate, max: 5%}\n  - {metric: error_rate, max: 9%}\n", "a name of its own"),
        ("gate: x\n", "no field of this name; did you mean gates?"),
        ("- x\n", "expected blocks"),
    ],
)
def test_a_bad_question_names_what_is_wrong_in_it(turnout: Turnout, tmp_path: Path, content: str, said: str) -> None:
    """The same words as for the configuration, and exit 2."""
    path = tmp_path / "other.yaml"
    path.write_text(content)
    done = turnout("rejudge", "digits", "--gates", str(path))
    assert done.returncode == 2
    assert said in done.stderr


def test_the_question_has_to_be_named(turnout: Turnout) -> None:
    """Without --gates there is none."""
    done = turnout("rejudge", "digits")
    assert done.returncode == 2
    assert "--gates missing" in done.stderr
