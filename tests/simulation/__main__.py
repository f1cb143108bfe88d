"""Simulate rollouts and judge them: false rollbacks, negative controls, promotions, and time to detect.

    ./run simulate [--quick | --full] [--json FILE] [--pictures DIR] [--seed N] [--processes N] [--only PART]

Ends with 0 only if everything that was run holds.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.simulation import aa, controls, power, promotion
from tests.simulation.report import Report, show, this_machine

PARTS = ("aa", "controls", "promotion", "power")


@dataclass(frozen=True, slots=True)
class Size:
    """How many rollouts each cell, control or case has."""

    aa_named: int
    aa_other: int
    controls: int
    promotion: int
    power: int
    latency: int


SIZES = {"quick": Size(200, 200, 200, 200, 1_500, 300), "full": Size(10_000, 2_000, 2_000, 2_000, 10_000, 2_000)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    asked = _parser().parse_args(arguments)
    console = Console()
    report = simulate("full" if asked.full else "quick", asked.seed, asked.processes, asked.only)
    show(report, console)
    if asked.json:
        asked.json.write_text(json.dumps(report.document(), indent=1, allow_nan=False) + "\n")
    if asked.pictures:
        from tests.simulation.pictures import draw  # matplotlib is slow to load and only needed here

        for path in draw(report, asked.pictures, asked.processes):
            console.print(f"drew {path}", highlight=False)
    return 0 if report.ok else 1


def simulate(mode: str, seed: int, processes: int, only: str | None = None) -> Report:
    """Run all parts, or only one, and return what they found."""
    size, began = SIZES[mode], time.perf_counter()
    parts = PARTS if only is None else (only,)
    cells = aa.run(size.aa_named, size.aa_other, seed, processes) if "aa" in parts else []
    powers = "power" in parts
    return Report(
        seed=seed,
        mode=mode,
        aa=cells,
        pooled=aa.pooled(cells) if cells else None,
        controls=controls.run(size.controls, seed, processes) if "controls" in parts else [],
        promotion=promotion.run(size.promotion, seed, processes) if "promotion" in parts else [],
        power=power.run(size.power, seed, processes) if powers else [],
        latency=power.latency(size.latency, seed, processes) if powers else [],
        costs=power.costs() if powers else [],
        machine=this_machine(),
        seconds=time.perf_counter() - began,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run simulate", description=(__doc__ or "").partition("\n")[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="a minute on two cores (default)")
    sizes.add_argument("--full", action="store_true", help="many more rollouts in each cell")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw judge-*.svg there")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--only", choices=PARTS, help="run one part")
    return parser


if __name__ == "__main__":
    sys.exit(main())
