"""Turnout beside other gateways in one run: `./run compare [--quick] [--json FILE]`.

Each round measures every system in every mode, so that all have met the same machine, and begins with another system.
The gateway has core 0 with all that belongs to it (Turnout: control and store too); wrk, the open loop and the
upstreams have core 1. CPU is user + system time of the processes from /proc by the requests that wrk counted.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.compare.figures import CANARY, DIRECT, MIRROR, PLAIN, Cell, Workload, ratios
from loadtests.compare.measure import Pace, Times, closed_loop, measure, wrk_command
from loadtests.compare.peers import MissingError
from loadtests.compare.report import Report, as_json, as_markdown, draw
from loadtests.compare.systems import nginx
from loadtests.compare.systems.envoy import Envoy
from loadtests.compare.systems.fastapi_httpx import FastapiHttpx
from loadtests.compare.systems.haproxy import Haproxy
from loadtests.compare.systems.nginx import Nginx
from loadtests.compare.systems.system import Live, Place, System, live
from loadtests.compare.systems.traefik import Traefik
from loadtests.compare.systems.turnout import Turnout
from loadtests.processes import GATEWAY_CORE, LOAD_CORE, free_ports, running, wait_for_answer

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
LARGE_BYTES = 64 * KIB
QUICK = ("nginx", "envoy")
HALF = 0.5
"""The open loop's rate as a share of what Turnout does in a closed loop in the same mode."""


def main() -> int:
    """Print the tables; exit code 1 when a must does not hold or a request failed, 2 when nothing can be measured."""
    options = _options()
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
    times = Times(options.rounds, closed=options.seconds, open=options.seconds)
    with upstreams() as models:
        machine = machine_of({**versions, "upstreams": models.fast_are}, options)
        commands = {"wrk": " ".join(wrk_command(0, works[0], options.seconds))}
        cells = list(run(present, works, models, times, commands))
    report = Report({**machine, "commands": commands}, cells, ratios(cells), absent)
    print(as_markdown(report))
    if options.json:
        options.json.write_text(as_json(report))
    if options.picture:
        draw(report, options.picture)
    return int(not report.passed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="nginx and Envoy, design.md's workload, 3 rounds of 2 s")
    parser.add_argument("--rounds", type=int, help="default 5, quick 3")
    parser.add_argument("--seconds", type=int, help="of each load; default 5, quick 2")
    parser.add_argument("--systems", help=f"peers beside Turnout: {','.join(one.name for one in PEERS)}")
    parser.add_argument("--modes", default=",".join(MODES), help="default: all of %(default)s")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--picture", type=Path, help="draw CPU per request into this file (.svg)")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 5)
    for option, known in (("systems", {one.name for one in PEERS}), ("modes", set(MODES))):
        if unknown := set((getattr(options, option) or "").split(",")) - known - {""}:
            parser.error(f"--{option}: {', '.join(sorted(unknown))} is none of {', '.join(sorted(known))}")
    return options


def workloads(*, full: bool) -> list[Workload]:
    """Return what is asked of each system, by mode."""
    usual = [Workload(mode, 100, 64, open_loop=True) for mode in MODES]
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


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Ports of stable and candidate: the fastest there are, and those that read a body before they answer."""

    fast: tuple[int, int]
    reading: tuple[int, int]
    fast_are: str

    def of(self, work: Workload) -> tuple[int, int]:
        """Return the pair for a workload. nginx answers at once: a body that is still on its way would be cut off."""
        return self.reading if work.body_bytes > LARGE_BYTES else self.fast


@contextmanager
def upstreams() -> Iterator[Upstreams]:
    """Run the fixed-answer upstreams on the load's core: nginx where it is installed, and our own."""
    ports = free_ports(4)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other, ExitStack() as stack:
        own = [sys.executable, str(Path(__file__).parents[1] / "fixed_answer.py")]
        try:
            fast = nginx.fixed_answers(Path(one), ports[:2])
        except MissingError:
            fast = [*own, *map(str, ports[:2])]
        stack.enter_context(running(fast, LOAD_CORE, Path(one)))
        stack.enter_context(running([*own, *map(str, ports[2:])], LOAD_CORE, Path(other)))
        for port in ports:
            wait_for_answer(port)
        yield Upstreams((ports[0], ports[1]), (ports[2], ports[3]), Path(fast[0]).name)


def run(
    systems: Sequence[Turnout | System],
    works: Sequence[Workload],
    models: Upstreams,
    times: Times,
    commands: dict[str, str],
) -> Iterator[Cell]:
    """Yield every cell, direct calls included; note in `commands` what started each system."""
    groups: dict[tuple[str, tuple[int, int]], list[Workload]] = {}  # what one start of a system serves
    for work in works:
        groups.setdefault((work.mode, models.of(work)), []).append(work)
    paces = {mode: Pace(times, _half_rate_s(mode, models.fast, times)) for mode, _ in groups}
    for number in range(1, times.rounds + 1):
        turn = (number - 1) % len(systems)
        for (mode, ports), asked in groups.items():
            if mode == PLAIN:
                yield from (measure(DIRECT, Live(ports[0], {}), work, number, paces[mode]) for work in asked)
            for system in [*systems[turn:], *systems[:turn]]:
                if mode not in system.modes:
                    continue
                print(f"round {number} of {times.rounds}: {system.name}, {mode}", file=sys.stderr)
                with _started(system, mode, ports) as one:
                    commands.setdefault(system.name, f"taskset -c {GATEWAY_CORE} {' '.join(one.command)}")
                    yield from (measure(system.name, one, work, number, paces[mode]) for work in asked)


def _half_rate_s(mode: str, ports: tuple[int, int], times: Times) -> float:
    with _started(Turnout(), mode, ports) as one:
        work = Workload(mode, 100, 64)
        closed_loop(one.port, work, times.warm)
        return HALF * closed_loop(one.port, work, times.closed).requests_s


@contextmanager
def _started(system: Turnout | System, mode: str, ports: tuple[int, int]) -> Iterator[Live]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = Place(folder, free_ports(1)[0], *ports, mode)
        yield stack.enter_context(system.live(place) if isinstance(system, Turnout) else live(system, place))


def machine_of(versions: Mapping[str, str], options: argparse.Namespace) -> dict[str, object]:
    """Return where and how this was measured."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
        "rounds": options.rounds,
        "seconds": options.seconds,
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
