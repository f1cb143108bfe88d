"""Turnout beside other gateways in one run: `./run compare [--quick] [--json FILE]`.

The gateway has core 0 with all that belongs to it (Turnout: control and store too); wrk, the open loop and the
upstreams have core 1. CPU is user + system time of the processes from /proc by the requests that wrk counted.
"""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from loadtests.compare import growth, pages
from loadtests.compare.figures import CANARY, MIRROR, PLAIN, USUAL, Workload, ratios
from loadtests.compare.measure import wrk_command
from loadtests.compare.report import Report, as_json, as_markdown, draw
from loadtests.compare.rounds import Times, run, upstreams
from loadtests.compare.systems.envoy import Envoy
from loadtests.compare.systems.fastapi_httpx import FastapiHttpx
from loadtests.compare.systems.haproxy import Haproxy
from loadtests.compare.systems.nginx import Nginx
from loadtests.compare.systems.system import System
from loadtests.compare.systems.traefik import Traefik
from loadtests.compare.systems.turnout import Turnout
from loadtests.on_demand import MissingError
from loadtests.processes import end_by_sigterm

PEERS: Sequence[System] = (Nginx(), Haproxy(), Envoy(), Traefik(), FastapiHttpx())
KIB = 1_024
MODES = (PLAIN, CANARY, MIRROR)
MORE = (
    Workload(PLAIN, 10 * KIB, 64),
    Workload(PLAIN, KIB * KIB, 64),
    Workload(PLAIN, 100, 1),
    Workload(PLAIN, 100, 1_000),
)
"""How the cost of a plain proxy grows; design.md's own workload is measured in every mode."""
QUICK = ("nginx", "envoy")
FULL_TIMES, QUICK_TIMES = Times(20, 2, 8, 3), Times(8, 1, 5, 2)
"""Chosen: all of it in 35 minutes, and in 4."""
FULL_GROWTH, QUICK_GROWTH = Times(7, 2, 0, 0), Times(2, 1, 0, 0)
"""Chosen: 12 minutes, and 4."""


def main() -> int:
    """Print the tables; exit code 1 when a must does not hold or a request failed, 2 when nothing can be measured."""
    options = _options()
    end_by_sigterm()
    missing = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; Debian: apt-get install wrk util-linux", file=sys.stderr)
        return 2
    os.chdir(Path(__file__).parents[2])  # programs of ours are started by their module names
    wanted = (
        options.systems.split(",") if options.systems else [*QUICK] if options.quick else [one.name for one in PEERS]
    )
    peers = [one for one in PEERS if one.name in wanted]
    versions, absent = versions_of([Turnout(), *peers])
    present: list[Turnout | System] = [Turnout(), *(peer for peer in peers if peer.name in versions)]
    works = [work for work in workloads(full=not options.quick) if work.mode in options.modes.split(",")]
    if options.growth:
        return growth_of_turnout(versions, options)
    with upstreams() as models:
        machine = machine_of({**versions, "upstreams": models.fast_are}, options)
        commands = {"wrk": " ".join(wrk_command(0, works[0], options.times.seconds))}
        cells = run(present, works, models, options.times, commands)
    report = Report({**machine, "commands": commands}, cells, ratios(cells), absent)
    print(as_markdown(report))
    if options.json:
        options.json.write_text(as_json(report))
    if options.picture:
        draw(report, options.picture)
    if options.markdown:
        pages.keep_comparison(report)
    return int(not report.passed)


def growth_of_turnout(versions: Mapping[str, str], options: argparse.Namespace) -> int:
    """Print how Turnout's cost grows; exit code 1 when something grows too much or a request failed."""
    with upstreams() as models:
        machine = machine_of({"turnout": versions["turnout"], "upstreams": models.fast_are}, options)
        found = growth.measure_growth(
            models, options.times.rounds, options.times.seconds, machine, options.only.split(",")
        )
    print(growth.as_markdown(found))
    if options.json:
        options.json.write_text(growth.as_json(found))
    if options.picture:
        growth.draw(found, options.picture)
    if options.markdown:
        pages.keep_growth(found)
    return int(bool(found.too_much) or any(point.errors for point in found.points))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="nginx and Envoy, design.md's workload; 4 minutes")
    parser.add_argument("--rounds", type=_positive, help="turns of each system; default 20, quick 8")
    parser.add_argument("--seconds", type=_positive, help="of a turn; default 2, quick 1")
    parser.add_argument(
        "--latency-rounds", type=_count, help="turns of the open loop on each system; default 8, quick 5"
    )
    parser.add_argument("--systems", help=f"peers beside Turnout: {','.join(one.name for one in PEERS)}")
    parser.add_argument("--modes", default=",".join(MODES), help="default: all of %(default)s")
    parser.add_argument("--growth", action="store_true", help="instead: how Turnout's own cost grows, and with what")
    parser.add_argument("--only", default=",".join(growth.GROUPS), help="of --growth; default: all of %(default)s")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--picture", type=Path, help="draw CPU per request into this file (.svg)")
    parser.add_argument("--markdown", action="store_true", help="write the figures into docs/performance.md and README")
    options = parser.parse_args()
    usual = QUICK_TIMES if options.quick else FULL_TIMES
    if options.growth:
        usual = QUICK_GROWTH if options.quick else FULL_GROWTH
    rounds, seconds = options.rounds or usual.rounds, options.seconds or usual.seconds
    open_rounds = min(rounds, usual.open_rounds if options.latency_rounds is None else options.latency_rounds)
    options.times = Times(rounds, seconds, open_rounds, usual.open_seconds)
    systems = {one.name for one in PEERS}
    for option, known in (("systems", systems), ("modes", set(MODES)), ("only", set(growth.GROUPS))):
        if unknown := set((getattr(options, option) or "").split(",")) - known - {""}:
            parser.error(f"--{option}: {', '.join(sorted(unknown))} is none of {', '.join(sorted(known))}")
    if options.markdown and {options.modes, options.only} != {parser.get_default("modes"), parser.get_default("only")}:
        parser.error(
            "--markdown is for a whole run: the pages would lose what is not measured; leave --modes and --only"
        )
    return options


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("expected at least 1, got 0")
    return int(text)


def workloads(*, full: bool) -> list[Workload]:
    """Return what is asked of each system, by mode; unless `full`, latencies only where a must is about them."""
    usual = [Workload(mode, *USUAL, open_loop=full or mode == PLAIN) for mode in MODES]
    return [usual[0], *MORE, *usual[1:]] if full else usual


def versions_of(systems: Sequence[Turnout | System]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the versions of those that can be run, and the others with the reason why not."""
    versions, absent = {}, []
    for system in systems:
        try:
            versions[system.name] = system.version()
        except MissingError as error:
            absent.append({"system": system.name, "why": str(error)})
    return versions, absent


def machine_of(versions: Mapping[str, str], options: argparse.Namespace) -> dict[str, object]:
    """Return where and how this was measured."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
        "times": asdict(options.times),
        "command": " ".join(["./run", "compare", *sys.argv[1:]]),
        "interval": "Student's t at 95 % over the logarithms of the rounds' ratios",
    }


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
