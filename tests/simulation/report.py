"""What `./run simulate` found: one JSON document, readable tables, and a last line that says what passed or failed."""

import dataclasses
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.simulation.power import Cost, LatencyRow, Row

VERSION = 1
"""Of the JSON document."""

Record = Any
"""A frozen dataclass of one of the parts; `passed` or `proves` says whether it holds, None that nothing was asked."""


@dataclass(frozen=True, slots=True)
class Report:
    """The parts that were run; one that was not is empty (`pooled`: None) and does not decide."""

    seed: int
    mode: str
    seconds: float
    aa: Sequence[Record] = ()
    pooled: Record = None
    controls: Sequence[Record] = ()
    promotion: Sequence[Record] = ()
    power: Sequence[Row] = ()
    latency: Sequence[LatencyRow] = ()
    costs: Sequence[Cost] = ()
    machine: str = ""
    """As `this_machine` says it."""

    def parts(self) -> dict[str, Sequence[Record]]:
        """Return what can pass or fail, by its name in the document."""
        return {
            "aa": self.aa, "pooled": [] if self.pooled is None else [self.pooled], "controls": self.controls,
            "promotion": self.promotion, "power": self.power, "latency": self.latency,
        }  # fmt: skip

    @property
    def ok(self) -> bool:
        """Return whether something was asked and everything that was asked holds."""
        verdicts = [holds(record) for records in self.parts().values() for record in records]
        return True in verdicts and False not in verdicts

    def document(self) -> dict[str, Any]:
        """Return the JSON document; numbers that JSON does not have are null."""
        plain = {name: [_plain(record) for record in records] for name, records in self.parts().items()}
        return {
            "v": VERSION, "seed": self.seed, "mode": self.mode, "machine": self.machine,
            "seconds": round(self.seconds, 1), **plain, "pooled": next(iter(plain["pooled"]), None),
            "costs": [_plain(cost) for cost in self.costs], "ok": self.ok,
        }  # fmt: skip


def holds(record: Record) -> bool | None:
    """Return whether one record holds, None where nothing was asked of it."""
    verdict = getattr(record, "proves", None) if hasattr(record, "proves") else getattr(record, "passed", None)
    return None if verdict is None else bool(verdict)


def this_machine() -> str:
    """Return what the figures were made on, in one line."""
    return (
        f"{os.cpu_count()} x {_processor()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _plain(value: Record) -> Any:  # noqa: ANN401 - JSON
    """Return what json can write: dataclasses as objects, numpy's numbers as Python's, nan and inf as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- For a reader ------------------------------------------------------------------------------------------------------


SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "aa": (
        "A/A: equal variants, rolled back by a judge that looks each second",
        ("name", "runs", "false_rollbacks", "rate", "bound"),
    ),
    "pooled": ("A/A, all cells together", ("runs", "false_rollbacks", "rate", "bound")),
    "controls": (
        "Negative controls: a wrong rule errs where ours does not",
        ("name", "wrong_rule", "wrong_rate", "our_rate", "bound"),
    ),
    "promotion": (
        "Whole rollouts", ("name", "truth", "promoted", "rolled_back", "held", "median_s", "bound"),
    ),
    "latency": ("Latency: time to detect a slowdown", ("name", "runs", "fired", "median_s", "expected_s")),
}  # fmt: skip
"""Of each part its title and the fields that fit into a terminal; the document has all."""


def show(report: Report, console: Console) -> None:
    """Print the tables of the parts that were run, and the verdict last."""
    for name, records in report.parts().items():
        if records and name == "power":
            _show_power(report.power, console)
        elif records:
            console.print(_of_records(*SHOWN[name], records), "")
    if report.costs:
        console.print(_of_records("One evaluation of each e-process", ("name", "microseconds"), report.costs), "")
    console.print(verdict(report), style="green" if report.ok else "bold red", highlight=False, soft_wrap=True)


def _show_power(rows: Sequence[Row], console: Console) -> None:
    for failure_rate in dict.fromkeys(row.failure_rate for row in rows):
        console.print(_of_power(rows, failure_rate), "")
    console.print(
        "Each cell: fraction rolled back, median seconds until then, median of the failures served until then that "
        "stable would not have had. A/A: false rollbacks. An ! breaks its bound.\n",
        highlight=False,
    )


def verdict(report: Report) -> str:
    """Return one line: what passed, or what failed."""
    counted, failed = [], []
    for name, records in report.parts().items():
        asked = [record for record in records if holds(record) is not None]
        if asked:
            counted.append(f"{len(asked)} of {name}")
        failed += [f"{name}: {_title(record)}" for record in asked if not holds(record)]
    where = f"({report.mode}, seed {report.seed}, {report.seconds:.0f} s)"
    if failed:
        return f"FAILED {len(failed)} {where}: {'; '.join(failed)}"
    return f"passed {where}: {', '.join(counted)}" if counted else f"FAILED {where}: nothing was run"


def _title(record: Record) -> str:
    """Return what a reader would look for in the tables."""
    if isinstance(record, Row):
        return f"{_judge(record)}, stable fails {100 * record.failure_rate:g} %, x{record.ratio:g}"
    words = [str(getattr(record, name)) for name in ("name", "wrong_rule") if hasattr(record, name)]
    return ", ".join(words) or "rate"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _of_records(title: str, names: Sequence[str], records: Sequence[Record]) -> Table:
    """Return a table with one line per record and one column per field, the verdict last."""
    table = _table(title)
    for name in names:
        header = name.removesuffix("_s").replace("_", "\n", 1)
        table.add_column(header, justify="left" if name in WORDS else "right")
    for record in records:
        mark = {True: "", False: "!", None: ""}[holds(record)]
        table.add_row(*(_shown(name, getattr(record, name)) for name in names), mark, style="red" if mark else None)
    return table


WORDS = {"name", "wrong_rule", "truth"}
"""Fields that are read, not compared."""


def _of_power(rows: Iterable[Row], failure_rate: float) -> Table:
    """Return section 4's table for one failure rate of stable."""
    here = [row for row in rows if row.failure_rate == failure_rate]
    ratios = sorted({row.ratio for row in here})
    table = _table(f"Time to detect, where stable fails {100 * failure_rate:g} % and the candidate so many times that")
    table.add_column("judge", no_wrap=True)
    for ratio in ratios:
        table.add_column("A/A" if ratio == 1 else f"x{ratio:g}", justify="right", no_wrap=True)
    for judge in dict.fromkeys(_judge(row) for row in here):
        by_ratio = {row.ratio: row for row in here if _judge(row) == judge}
        table.add_row(judge, *(_fired(by_ratio[ratio]) if ratio in by_ratio else "" for ratio in ratios))
    return table


def _judge(row: Row) -> str:
    return row.judge if row.alpha is None else f"{row.judge} {100 * row.alpha:g} %"


def _fired(row: Row) -> str:
    text = f"{row.fired:.4f}" if row.ratio == 1 else f"{row.fired:.2f}"
    # A median of hardly any runs says nothing.
    if row.ratio > 1 and row.fired >= 0.01 and row.median_s is not None and row.excess is not None:
        text += f" {row.median_s:4.0f} {row.excess:5.1f}"
    return f"[red]{text}![/red]" if row.passed is False else text


def _shown(name: str, value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, int) and name.endswith("_s"):
        return f"{value:,} s"
    if not isinstance(value, float):
        return str(value)
    if name == "microseconds":
        return f"{value:,.0f} us"
    return f"{value:,.0f} s" if name.endswith("_s") else f"{value:.4f}"
