"""What a run found: as JSON, as a table for people, and as a picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests.compare.figures import CANARY, DIRECT, MIRROR, PARTS, PLAIN, TURNOUT, Cell, Ratio, medians

COLUMNS = (
    "system", "mode", "body", "connections", "requests/s", "CPU us: gateway", "control", "store", "p50 ms", "p99",
    "p99.9", "at requests/s", "peak MiB", "errors", "pairs missing",
)  # fmt: skip
LONGEST = 3.0
"""The longest bar by that of Turnout; what would be longer is cut there, and its number says so."""
TITLES = {PLAIN: "plain proxy", CANARY: "10 % canary", MIRROR: "100 % mirror"}


@dataclass(frozen=True, slots=True)
class Report:
    """One run: on which machine, what was measured, what follows, and who is missing and why."""

    machine: Mapping[str, Any]
    cells: Sequence[Cell]
    ratios: Sequence[Ratio]
    missing: Sequence[Mapping[str, str]]

    @property
    def passed(self) -> bool:
        """Whether no request failed and every must was measured and holds."""
        musts = [ratio for ratio in self.ratios if ratio.must is not None]
        return bool(musts) and all(one.passed for one in musts) and not any(cell.errors for cell in self.cells)

    def of_medians(self) -> "Report":
        """Return the same with one cell for each system and workload."""
        return replace(self, cells=medians(self.cells))


def from_json(text: str) -> Report:
    """Return what `as_json` wrote."""
    read = json.loads(text)
    ratios = [Ratio(passed=one.pop("pass"), **one) for one in read["ratios"]]
    return Report(read["machine"], [Cell(**one) for one in read["cells"]], ratios, read["missing"])


def as_json(report: Report) -> str:
    """Return the document of issue 6, with three more fields in each cell."""
    ratios = [asdict(ratio) for ratio in report.ratios]
    for ratio in ratios:
        ratio["pass"] = ratio.pop("passed")
    found = {
        "v": 1,
        "machine": report.machine,
        "cells": [asdict(cell) for cell in report.cells],
        "ratios": ratios,
        "missing": list(report.missing),
    }
    return json.dumps(found, indent=1)


def as_markdown(report: Report) -> str:
    """Return tables of the medians over rounds, and of the ratios."""
    rows = [f"| {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"]
    rows += [_row(cell) for cell in medians(report.cells)]
    rows += ["", "| Turnout against | in | ratio | 95 % interval | must | |", "|---|---|---:|---:|---:|---|"]
    rows += [_ratio_row(ratio) for ratio in report.ratios]
    rows += [f"\nMissing: {one['system']}: {one['why']}" for one in report.missing]
    return "\n".join(rows)


def _row(cell: Cell) -> str:
    body = f"{cell.body_bytes // 1024} KiB" if cell.body_bytes >= 1024 else f"{cell.body_bytes} B"
    figures = [f"{cell.requests_s:.0f}", *(_number(cell.cpu_us.get(part), 1) for part in PARTS)]
    figures += [_number(one, 2) for one in (cell.p50_ms, cell.p99_ms, cell.p999_ms)]
    figures += [
        _number(cell.rate_s, 0),
        _number(cell.peak_rss_mib, 0),
        str(cell.errors),
        _number(cell.pairs_missing, 0),
    ]
    return f"| {' | '.join([cell.system, cell.mode, body, str(cell.connections), *figures])} |"


def _ratio_row(ratio: Ratio) -> str:
    interval = "" if ratio.low95 is None else f"{ratio.low95:.2f} to {ratio.high95:.2f}"
    verdict = {None: "", True: "held", False: "**missed**"}[ratio.passed]
    return f"| {ratio.peer} | {ratio.mode} | {ratio.median:.2f} | {interval} | {_number(ratio.must, 1)} | {verdict} |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _bar_text(value: float, longest: float) -> str:
    if not value:
        return "none"
    return f"{value:.0f}" if value <= longest else f"... {value:,.0f}"


def draw(report: Report, file: Path) -> None:
    """Write a picture of the gateways' CPU per request, by mode and system; the format follows from the suffix."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "turnout"  # the same figures give the same file
    cells = [one for one in medians(report.cells) if one.usual]
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True, layout="constrained")
    systems = [one for one in dict.fromkeys(cell.system for cell in cells) if one != DIRECT][::-1]
    for axis, (mode, title) in zip(axes, TITLES.items(), strict=True):
        cpu = {cell.system: cell.cpu_us["gateway"] for cell in cells if cell.mode == mode}
        values = [cpu.get(system) or 0.0 for system in systems]
        longest = LONGEST * (cpu.get(TURNOUT) or max([1.0, *values]))
        colors = ["#1f6feb" if one == TURNOUT else "#b0b8c1" for one in systems]
        bars = axis.barh(systems, [min(value, longest) for value in values], color=colors)
        axis.bar_label(bars, [_bar_text(value, longest) for value in values], padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(0, 1.3 * longest)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("CPU of the gateway per request, microseconds", fontsize=9)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
