"""Pictures of the judge for docs/statistics.md, drawn from what was simulated.

Plain SVG that is the same, byte for byte, for the same seed and release of matplotlib. Text stays text.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from router.analysis import gates as ask
from router.analysis.eprocess import Floats
from router.analysis.gates import Arm
from router.analysis.judge import critical_value
from tests.simulation import power
from tests.simulation.report import Record, Report

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "turnout",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
}
# Colours that colour-blind readers can tell apart (Okabe and Ito).
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7",
)  # fmt: skip

LIGHT_GREEN = "#99d8c4"

COLOURS = {
    power.FULL: BLUE, power.ALONE: SKY, "z-test, each 10 s": RED, "Kayenta, each 5 min": PURPLE, "Flagger": ORANGE,
    "Argo Rollouts": GREEN,
}  # fmt: skip


def draw(report: Report, folder: Path, processes: int) -> Iterator[Path]:
    """Draw what the report has figures for into `folder`; yield each path once written."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        if report.power:
            yield _saved(evidence(), folder / "judge-evidence.svg")
            yield _saved(false_rollbacks(report.power), folder / "judge-false-rollbacks.svg")
            runs = min(row.runs for row in report.power)
            curve = power.run(runs, report.seed, processes, power.CURVE)
            equal = [row for row in report.power if row.ratio == 1 and row.failure_rate == power.CURVE[0][0]]
            yield _saved(delays(curve, equal), folder / "judge-delays.svg")
        if report.aa:
            yield _saved(aa_rates(report.aa), folder / "judge-aa.svg")


def _saved(figure: Figure, path: Path) -> Path:
    FigureCanvasSVG(figure)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path


# -- Evidence over time ------------------------------------------------------------------------------------------------

HARM_AT, PROOF_AT = math.exp(critical_value(0.01, 1)), math.exp(critical_value(0.05, 1))
"""Levels of a first attempt with the default alpha and beta."""
MARGIN = np.array([0.005])
EVERY_S = 5


@dataclass(frozen=True, slots=True)
class Story:
    """One rollout to show. `ends_s` is when it is promoted or rolled back; arrays are of `at_s`."""

    title: str
    at_s: Floats
    harm: Floats
    proof: Floats
    ends_s: float
    promoted: bool


def story(title: str, failure_rate: float, ratio: float, seed: int) -> Story:
    """Return one rollout of section 4's ramp, judged by the error gate with a margin of 0.5 percentage points."""
    seen = power.traces(np.random.default_rng(seed), 1, failure_rate, ratio)
    evidence = power.Evidence(seen)
    at_s = np.arange(1, power.SECONDS + 1)
    runs = np.zeros_like(at_s)
    harm = np.exp(evidence.in_full(runs, at_s))
    proof = _proof(*evidence.arms(runs, at_s), at_s)
    last = at_s > power.EDGES_S[-2]
    ends_s, promoted = min(
        (float(at_s[crossed][0]), promoted)
        for crossed, promoted in ((harm >= HARM_AT, False), (last & (proof >= PROOF_AT), True))
        if crossed.any()
    )
    shown = ((at_s % EVERY_S == 0) & (at_s < ends_s)) | (at_s == ends_s)
    return Story(title, at_s[shown].astype(float), harm[shown], proof[shown], ends_s, promoted)


def _proof(stable: Arm, candidate: Arm, at_s: Any) -> Floats:  # noqa: ANN401 - whole numbers
    """Return the evidence of the present exposure alone that the candidate is within the margin."""
    now = np.searchsorted(power.EDGES_S[1:-1], at_s - 1, side="right")
    log_f = np.empty(len(at_s))
    for k, share in enumerate(power.SHARES):
        here = now == k
        a, b = (
            Arm(arm.events[here, k, None], arm.rest[here, k, None], arm.unknown[here, k, None])
            for arm in (stable, candidate)
        )
        log_f[here] = ask.difference_proof(a, b, float(share), MARGIN)
    return np.exp(log_f)


def evidence() -> Figure:
    """Return the picture of a healthy rollout beside a bad one."""
    stories = [
        story("Healthy: fails 0.4 %, as stable does", 0.004, 1.0, 8),
        story("Bad: fails 2 %, stable 0.4 %", 0.004, 5.0, 3),
    ]
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(5, 1))
    for column, one in enumerate(stories):
        _draw_evidence(axes[0, column], one)
        _draw_weight(axes[1, column], one)
    axes[0, 0].set_ylabel("evidence (e-value)")
    axes[1, 0].set_ylabel("weight")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_evidence(axes: Axes, one: Story) -> None:
    axes.set_title(one.title)
    axes.set_yscale("log")
    axes.set_ylim(1e-2, 1e3)
    axes.set_yticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1000"])
    axes.minorticks_off()
    for begin, end in zip(power.EDGES_S[1:-1:2], power.EDGES_S[2::2], strict=True):
        axes.axvspan(begin / 60, end / 60, color="#f2f2f2", zorder=0, linewidth=0)
    for level, colour, text in (
        (HARM_AT, RED, f"roll back at {HARM_AT:.0f}"),
        (PROOF_AT, GREEN, f"promote at {PROOF_AT:.0f}"),
    ):
        axes.axhline(level, color=colour, linewidth=1, linestyle=(0, (5, 3)))
        axes.text(24.8, level * 1.12, text, color=colour, ha="right", va="bottom", fontsize=8)
    minutes = one.at_s / 60
    axes.plot(minutes, one.harm, color=RED, linewidth=1.6, label="of harm (more than 0.25 points worse), of all steps")
    _draw_proof(axes, one)
    end = one.ends_s / 60
    colour, verdict = (GREEN, "promoted") if one.promoted else (RED, "rolled back")
    axes.plot(end, one.proof[-1] if one.promoted else one.harm[-1], "o", color=colour, markersize=6)
    axes.axvline(end, color=colour, linewidth=1, linestyle=":")
    left = end > 15
    axes.text(
        end - 0.4 if left else end + 0.4, 0.02, f"{verdict} after {_clock(one.ends_s)}", color=colour,
        fontweight="bold", ha="right" if left else "left",
    )  # fmt: skip


def _draw_proof(axes: Axes, one: Story) -> None:
    """Draw it step by step: it begins anew with each, and only the last one's decides."""
    for begin, end in zip(power.EDGES_S[:-1], power.EDGES_S[1:], strict=True):
        step = (one.at_s > begin) & (one.at_s <= end)
        decides = end == power.EDGES_S[-1]
        axes.plot(
            one.at_s[step] / 60, one.proof[step], color=GREEN if decides else LIGHT_GREEN,
            linewidth=1.6 if decides else 1.2,
            label="of proof (less than 0.5 points worse), of the last step; pale: earlier" if decides else None,
        )  # fmt: skip


def _draw_weight(axes: Axes, one: Story) -> None:
    edges = np.minimum(power.EDGES_S, one.ends_s)
    for share, begin, end in zip(power.SHARES, edges[:-1], edges[1:], strict=True):
        if end > begin:
            axes.fill_between([begin / 60, end / 60], 0, [share, share], color=BLUE, linewidth=0, alpha=0.75)
            axes.text(begin / 60 + 0.15, share + 0.05, f"{100 * share:g} %", fontsize=8)
    after = 1.0 if one.promoted else 0.0
    axes.fill_between([one.ends_s / 60, 25], 0, after, color=BLUE, linewidth=0, alpha=0.75)
    axes.text(
        one.ends_s / 60 + (0.4 if one.promoted else 1.8), 0.55 if one.promoted else 0.08, f"{100 * after:g} %",
        color="white" if one.promoted else "black", fontsize=8,
    )  # fmt: skip
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 1], ["0 %", "100 %"])
    axes.set_xlim(0, 25)
    axes.set_xlabel("minutes")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


# -- Judges compared ---------------------------------------------------------------------------------------------------


def _at_five_percent(rows: Sequence[power.Row]) -> dict[str, list[power.Row]]:
    """Return the rows of each judge, ours at alpha .05, best known first."""
    found: dict[str, list[power.Row]] = {name: [] for name in COLOURS}
    for row in rows:
        if row.alpha in {None, 0.05}:
            found[row.judge].append(row)
    return found


def _named(judge: str) -> str:
    return {power.FULL: "Turnout", power.ALONE: "Turnout's e-process\nwithout a margin"}.get(judge, judge)


def false_rollbacks(rows: Sequence[power.Row]) -> Figure:
    """Return the picture of how often each judge rolls back a candidate that equals stable."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    judges = _at_five_percent([row for row in rows if row.ratio == 1])
    for at, cells in enumerate(judges.values()):
        for row, offset, colour in zip(cells, (-0.19, 0.19), (SKY, BLUE), strict=True):
            label = f"stable fails {100 * row.failure_rate:g} %" if at == 0 else None
            axes.barh(at + offset, row.fired, height=0.34, color=colour, label=label)
            axes.text(
                row.fired + 0.006, at + offset, f"{100 * row.fired:.1f} %" if row.fired else "0", va="center",
                fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip
    axes.axvline(0.05, color="black", linewidth=1, linestyle=(0, (5, 3)), label="alpha = 5 %", zorder=0.5)
    axes.set_yticks(range(len(judges)), [_named(judge) for judge in judges])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.06)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    axes.grid(visible=False, axis="y")
    axes.set_title("How often a candidate that equals stable is rolled back within 25 minutes")
    axes.legend(loc="center right", fontsize=8)
    return figure


def delays(rows: Sequence[power.Row], equal: Sequence[power.Row]) -> Figure:
    """Return the picture of how long each judge takes to find a regression, and what it lets through until then.

    `equal` are rows of the same failure rate without a regression: their false rollbacks stand in the legend, and those
    who break the promise are dashed, for a judge that fires at everything is fast too.
    """
    figure = Figure(figsize=(8, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    false = {judge: cells[0].fired for judge, cells in _at_five_percent(equal).items()}
    for judge, cells in _at_five_percent(rows).items():
        found = [row for row in cells if row.fired >= 0.5 and row.median_s is not None]
        ratios = [row.ratio for row in found]
        style: dict[str, Any] = {
            "color": COLOURS[judge], "marker": "o", "markersize": 4, "linewidth": 2.2 if judge == power.FULL else 1.4,
            "linestyle": "-" if false[judge] <= 0.05 else (0, (3, 2)),
            "label": f"{_named(judge)} (false rollbacks: {100 * false[judge]:.1f} %)".replace("\n", " "),
        }  # fmt: skip
        left.plot(ratios, [row.median_s or np.nan for row in found], **style)
        right.plot(ratios, [row.excess or np.nan for row in found], **style)
    for axes, title in ((left, "Seconds until the rollback"), (right, "Extra failures served until then")):
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1.5, 2, 3, 5, 8, 12, 20], ["1.5", "2", "3", "5", "8", "12", "20"])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.minorticks_off()
        axes.set_xlabel("times as many failures as stable (0.8 %)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    return figure


# -- A/A ---------------------------------------------------------------------------------------------------------------


def aa_rates(cells: Sequence[Record]) -> Figure:
    """Return the picture of the false rollbacks in every cell of the A/A suite, those without a tolerance last."""
    rows = list(dict.fromkeys(_kind(cell) for cell in cells))
    shipped = len({_kind(cell) for cell in cells if cell.gates == SHIPPED})
    figure = Figure(figsize=(8, 1.3 + 0.21 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for begin in range(0, len(rows), 2):
        axes.axhspan(begin - 0.5, begin + 0.5, color="#f5f5f5", zorder=0, linewidth=0)
    if 0 < shipped < len(rows):
        axes.axhline(shipped - 0.5, color="#666666", linewidth=0.8)
    timings = list(dict.fromkeys(cell.timing for cell in cells))
    for timing, colour, offset in zip(timings, (BLUE, ORANGE, GREEN), (-0.22, 0.0, 0.22), strict=False):
        some = [cell for cell in cells if cell.timing == timing]
        at = [rows.index(_kind(cell)) + (offset if cell.gates == SHIPPED else 0.0) for cell in some]
        axes.plot([cell.rate for cell in some], at, "o", color=colour, markersize=4.5, label=f"answers {timing}")
    axes.axvline(0.05, color="black", linewidth=1, linestyle=(0, (5, 3)), label="alpha = 5 %")
    for row, kind in enumerate(rows):
        bound = max(cell.bound for cell in cells if _kind(cell) == kind)
        label = "alpha + 3 standard errors of the simulation" if row == 0 else None
        axes.plot([bound, bound], [row - 0.4, row + 0.4], color=RED, linewidth=1.6, label=label)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=-0.001)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    axes.grid(visible=False, axis="y")
    axes.set_title(f"False rollbacks of equal variants in {len(cells)} kinds of traffic")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


SHIPPED = "as shipped"
"""Cells of aa with the product's gates; the others have no tolerance, to test the promise where it is tight."""


def _kind(cell: Record) -> str:
    """Return what a row is about: everything but when answers come."""
    words = f"{cell.shape}, {cell.routing}, {cell.unit}"
    return words if cell.gates == SHIPPED else f"{cell.gates}: {words}"
