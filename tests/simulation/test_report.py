"""What `./run simulate` says: a document, tables, a last line, an exit code."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from tests.simulation import __main__ as command
from tests.simulation import controls, power
from tests.simulation.aa import Cell, Pooled
from tests.simulation.controls import Control
from tests.simulation.power import Cost, LatencyRow, Row
from tests.simulation.promotion import Case
from tests.simulation.report import Report, holds, show, this_machine, verdict

CELL = Cell(
    "constant ramp sticky instant", "constant", "ramp", "sticky", "instant", "as shipped", 200, 3, 0.015, 0.096,
    passed=True, promoted=0.9, median_s=500.0, rollback_s=float("nan"),
)  # fmt: skip
POOLED = Pooled(200, 3, 0.015, 0.096, passed=True)
CONTROL = Control("shadow", "dropped copies", 200, 1.0, 0.0, 0.096, proves=True)
CASE = Case("equal", "promoted", 0.99, 0.01, 0.0, float("nan"), float("nan"), 0.95, passed=True, table="")
ROW = Row("full judge", 0.05, 0.008, 5.0, 2_000, 1.0, 150.0, 6.4, 150.0, 6.4, passed=True)
UNASKED = Row("Flagger", None, 0.008, 5.0, 2_000, 1.0, 300.0, 16.0)
LATENCY = LatencyRow("x2", 300, 1.0, 15.0, 15, passed=True)
GOOD = Report(
    seed=7, mode="quick", seconds=12.34, aa=[CELL], pooled=POOLED, controls=[CONTROL], promotion=[CASE],
    power=[ROW, UNASKED], latency=[LATENCY], costs=[Cost("arm", 25.0)], machine="a machine",
)  # fmt: skip
BAD = {
    "aa": replace(GOOD, aa=[CELL, replace(CELL, passed=False)]),
    "pooled": replace(GOOD, pooled=replace(POOLED, passed=False)),
    "controls": replace(GOOD, controls=[replace(CONTROL, proves=False)]),
    "promotion": replace(GOOD, promotion=[replace(CASE, passed=False)]),
    "power": replace(GOOD, power=[UNASKED, replace(ROW, passed=False)]),
    "latency": replace(GOOD, latency=[replace(LATENCY, passed=False)]),
}


def printed(report: Report) -> list[str]:
    """Return the lines that a terminal of 80 columns shows."""
    console = Console(width=80, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as text:
        show(report, console)
    return text.get().splitlines()


def test_the_document_has_all_parts() -> None:
    """Under fixed names, with the seed and the machine that made the figures."""
    document = GOOD.document()
    names = [
        "v", "seed", "mode", "machine", "seconds", "aa", "pooled", "controls", "promotion", "power", "latency", "costs",
        "ok",
    ]  # fmt: skip
    assert names == list(document)
    assert tuple(document[name] for name in ("v", "seed", "mode", "machine", "seconds", "ok")) == (
        1,
        7,
        "quick",
        "a machine",
        12.3,
        True,
    )
    assert document["pooled"]["rate"] == 0.015
    assert document["power"][0]["expected_s"] == 150.0


def test_the_document_is_json_as_the_standard_has_it() -> None:
    """No NaN, and numpy's numbers as numbers."""
    report = replace(GOOD, aa=[replace(CELL, rate=np.float64(0.02), median_s=np.float64(4))])
    (cell,) = json.loads(json.dumps(report.document(), allow_nan=False))["aa"]
    assert (cell["rate"], cell["median_s"], cell["rollback_s"]) == (0.02, 4, None)


def test_a_part_that_was_not_run_is_empty() -> None:
    """And does not decide; with nothing at all there is nothing that passed."""
    report = Report(seed=1, mode="quick", seconds=0.0, controls=[CONTROL])
    assert (report.document()["aa"], report.document()["pooled"], report.ok) == ([], None, True)
    assert not Report(seed=1, mode="quick", seconds=0.0).ok


@pytest.mark.parametrize("part", list(BAD))
def test_one_record_that_fails_fails_all(part: str) -> None:
    """Whatever part it is of, and the last line names the part."""
    assert GOOD.ok
    assert not BAD[part].ok
    assert BAD[part].document()["ok"] is False
    assert verdict(BAD[part]).startswith(f"FAILED 1 (quick, seed 7, 12 s): {part}: ")


def test_the_last_line_counts_what_passed() -> None:
    """Only what was asked: a rival's row can neither pass nor fail."""
    counts = "1 of aa, 1 of pooled, 1 of controls, 1 of promotion, 1 of power, 1 of latency"
    assert f"passed (quick, seed 7, 12 s): {counts}" == printed(GOOD)[-1]
    assert holds(UNASKED) is None


def test_tables_fit_a_terminal() -> None:
    """Of 80 columns, and a cell reads as in section 4: fraction, seconds, failures."""
    lines = printed(GOOD)
    assert max(map(len, lines[:-1])) <= 80
    assert any(line.startswith("full judge 5 %") and "1.00  150   6.4" in line for line in lines)


@pytest.mark.parametrize("part", [part for part in BAD if part != "pooled"])
def test_a_failing_line_is_marked(part: str) -> None:
    """With an exclamation mark, for terminals without colour."""
    assert any(line.rstrip().endswith("!") for line in printed(BAD[part]))
    assert not any(line.rstrip().endswith("!") for line in printed(GOOD))


@pytest.mark.parametrize(("report", "expected"), [(GOOD, 0), (BAD["controls"], 1)], ids=["good", "bad"])
def test_the_exit_code_says_whether_all_holds(
    report: Report, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the document is written either way."""
    monkeypatch.setattr(command, "simulate", lambda *_: report)
    file = tmp_path / "figures.json"
    assert expected == command.main(["--json", str(file)])
    assert report.document() == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "3", "--processes", "1"], ("quick", 3, 1, None)),
        (["--full", "--only", "aa", "--processes", "4"], ("full", 1, 4, "aa")),
    ],
    ids=["quick by default", "full"],
)
def test_the_command_line_is_passed_on(
    arguments: Sequence[str], expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode, seed, processes and the only part."""
    asked: list[tuple[object, ...]] = []

    def simulate(*given: object) -> Report:
        asked.append(given)
        return GOOD

    monkeypatch.setattr(command, "simulate", simulate)
    command.main(arguments)
    assert [expected] == asked


def test_only_what_was_asked_for_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its size of the mode, the seed and the processes."""
    asked: list[tuple[object, ...]] = []

    def run(*given: object) -> list[Control]:
        asked.append(given)
        return [CONTROL]

    monkeypatch.setattr(controls, "run", run)
    report = command.simulate("quick", 5, 2, "controls")
    assert [(command.SIZES["quick"].controls, 5, 2)] == asked
    assert (report.controls, report.aa, report.ok) == ([CONTROL], [], True)
    assert this_machine() == report.machine


@pytest.mark.slow
def test_pictures_are_the_same_each_time_and_small(tmp_path: Path) -> None:
    """Well-formed SVG of at most 80 KB without a date, for the parts that were run."""
    from tests.simulation.pictures import draw

    rows = power.run(power.BLOCK, 1, 1)
    report = replace(GOOD, power=rows)
    first, again = (list(draw(report, tmp_path / name, 1)) for name in ("first", "again"))
    names = ["judge-evidence.svg", "judge-false-rollbacks.svg", "judge-delays.svg", "judge-aa.svg"]
    assert names == [path.name for path in first]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.stat().st_size <= 80_000
        assert ET.parse(one).getroot().tag.endswith("svg")  # noqa: S314 - our own
        assert b"<dc:date>" not in one.read_bytes()
    assert list(draw(replace(GOOD, power=[], aa=[]), tmp_path, 1)) == []


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A record of which nothing is asked."""

    name: str


def test_a_record_without_a_verdict_is_not_asked() -> None:
    """So further tables can be added to the report without deciding anything."""
    assert holds(Unjudged("x")) is None
