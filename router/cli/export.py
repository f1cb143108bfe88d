"""Pairs as a file: JSON lines with all there is, or CSV for a spreadsheet. Written whole or not at all."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from router.cli.output import json_line
from router.cli.problems import USAGE, CommandError
from router.cli.show import Body, cut
from router.telemetry.logs import escape

_SIDE = ("outcome", "status", "latency_ms", "bytes", "digest", "label", "score")
COLUMNS = (
    "pair_id", "request_id", "route", "rollout", "exposure", "assigned_at", "served",
    *(f"stable_{name}" for name in _SIDE), *(f"candidate_{name}" for name in _SIDE),
    "comparator", "same", "distance", "reason", "slices",
)  # fmt: skip

_FORMULA = re.compile(r"""(^|;)(?=["'\s]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")
"""Where a cell may begin that a spreadsheet takes for a formula; some of them split cells at semicolons, too."""

_CELL_CHARS = 32_767
"""Longest text of a cell: Excel's limit. Python's csv refuses four times as much."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def write_pairs(path: Path, pairs: Iterable[Body]) -> int:
    """Write pairs to `path` as they come and return how many; a file that was there is replaced when all are written.

    The name says the form: .jsonl or .csv. Raises CommandError; then nothing is changed.
    """
    write = _WRITERS.get(path.suffix)
    if write is None:
        expected = " or ".join(_WRITERS)
        raise CommandError(f"--export {path}", f"a name that ends in {expected} is expected", exit_code=USAGE)
    try:
        with _replaced(path) as out:
            return write(out, pairs)
    except OSError as error:
        raise CommandError(f"--export {path} cannot be written", str(error)) from error


def cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet takes for a formula; texts in one line, numbers as they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return cut(_FORMULA.sub(r"\1'", escape(value)), _CELL_CHARS)


def row(pair: Body) -> list[object]:
    """Return the cells of a pair in the order of COLUMNS."""
    comparison = pair["comparison"]
    values = [
        *(pair[name] for name in COLUMNS[:7]), *_side(pair["stable"]), *_side(pair["candidate"]),
        *(comparison[name] for name in ("comparator", "same", "distance", "reason")),
        json.dumps(pair["slices"], ensure_ascii=False) if pair["slices"] else "",
    ]  # fmt: skip
    return [cell(value) for value in values]


def _side(side: Body) -> list[object]:
    prediction = side["prediction"]
    return [*(side[name] for name in _SIDE[:5]), prediction["label"], prediction["score"]]


def _write_lines(out: IO[str], pairs: Iterable[Body]) -> int:
    count = 0
    for count, pair in enumerate(pairs, 1):  # noqa: B007 - how many there were
        out.write(json_line(pair) + "\n")
    return count


def _write_rows(out: IO[str], pairs: Iterable[Body]) -> int:
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    count = 0
    for count, pair in enumerate(pairs, 1):  # noqa: B007 - how many there were
        rows.writerow(row(pair))
    return count


_WRITERS: dict[str, Callable[[IO[str], Iterable[Body]], int]] = {".jsonl": _write_lines, ".csv": _write_rows}


@contextmanager
def _replaced(path: Path) -> Iterator[IO[str]]:
    """Lend a file beside `path` that takes its place at the end, or is gone if there is an error. Raises OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("x", encoding="utf-8", errors="backslashreplace", newline="") as out:
        try:
            yield out
            out.flush()
            os.fsync(out.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
