"""What a request costs, held against a fixed reference in the same run: `python -m loadtests.guard`.

A budget in microseconds would hold for one machine. Here the gateway takes turns of a fixed number of requests with
`reference_proxy.py`, on the same core, and what is judged is the median of the rounds' ratios of CPU. It must lie
between two bounds around what was recorded: above them requests have become dearer; below them they have become so
much cheaper that the record would let half of the gain be lost unseen. Then run the command above, which prints what to
write down in RECORDED.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtests.compare.figures import MIRROR, PLAIN
from loadtests.compare.measure import SETTLE_S
from loadtests.compare.open_loop import Order, measure
from loadtests.compare.rounds import Upstreams, rotated, started, upstreams
from loadtests.compare.systems.turnout import PROGRAM, Turnout
from loadtests.processes import GATEWAY_CORE, cpu_s, end_by_sigterm, free_ports, running, wait_for_answer

RECORDED_ON = "2026-11-25"
RECORDED: Mapping[str, float] = {PLAIN: 0.37, MIRROR: 0.84}
"""CPU of parent and worker for a request, by that of the reference, as `python -m loadtests.guard` gave them: 0.34 to
0.39 and 0.84 to 0.93 in four runs."""
DEARER, CHEAPER = 1.25, 0.75
"""The bounds as shares of the record. Chosen: quiet and busy runs of the same tree lay up to 17 % apart."""

REFERENCE = "reference"
ROOT = Path(__file__).parents[1]
CLIENTS = 24
AT_ONCE_S = 1e6
"""Requests due a second: all of them at once."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Times:
    """How many rounds, and how many requests in each turn."""

    rounds: int = 7
    requests: int = 1_500


TIMES = Times()


def judged(found: Mapping[str, float], recorded: Mapping[str, float] = RECORDED) -> list[str]:
    """Return a sentence for each mode that lies outside its bounds."""
    complaints = []
    for mode, ratio in found.items():
        low, high = CHEAPER * recorded[mode], DEARER * recorded[mode]
        says = f"{mode}: a request takes {ratio:.2f} times the reference's CPU, recorded {recorded[mode]:.2f}"
        if ratio > high:
            complaints.append(f"{says}, at most {high:.2f}: it has become dearer; find out by what")
        elif ratio < low:
            complaints.append(f"{says}, at least {low:.2f}: it has become cheaper; record `python -m loadtests.guard`")
    return complaints


def costs(modes: Sequence[str], program: Sequence[str] = PROGRAM, times: Times = TIMES) -> dict[str, float]:
    """Return by mode the median of the rounds' ratios; `program` is what starts Turnout."""
    with upstreams() as models, _all(modes, program, models) as parties:
        for port, _ in parties.values():
            _ask(port, times.requests // 2)
        rounds = [
            {name: _turn_s(*parties[name], times.requests) for name in rotated(list(parties), number)}
            for number in range(1, times.rounds + 1)
        ]
    return {mode: statistics.median(one[mode] / one[REFERENCE] for one in rounds) for mode in modes}


@contextmanager
def _all(
    modes: Sequence[str], program: Sequence[str], models: Upstreams
) -> Iterator[dict[str, tuple[int, Sequence[int]]]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (port,) = free_ports(1)
        command = [sys.executable, str(ROOT / "loadtests" / "reference_proxy.py"), str(port), str(models.fast[0])]
        process = stack.enter_context(running(command, GATEWAY_CORE, folder))
        wait_for_answer(port)
        parties: dict[str, tuple[int, Sequence[int]]] = {REFERENCE: (port, [process.pid])}
        for mode in modes:
            one = stack.enter_context(started(Turnout(program), mode, models.fast))
            parties[mode] = (one.port, one.parts["gateway"])
        yield parties


def _turn_s(port: int, pids: Sequence[int], requests: int) -> float:
    before_s = cpu_s(pids)
    _ask(port, requests)
    time.sleep(SETTLE_S)
    return cpu_s(pids) - before_s


def _ask(port: int, requests: int) -> None:
    """Have so many requests answered, as fast as they are over a few connections."""
    found = measure(Order(port, AT_ONCE_S, requests / AT_ONCE_S, CLIENTS, grace_s=PATIENCE_S))
    if found.errors:
        raise RuntimeError(
            f"{found.errors} of {requests} requests to port {port} failed; see why before costs are compared"
        )


def main() -> int:
    """Print what to record, and what is out of bounds; exit code 1 for the latter."""
    end_by_sigterm()
    found = costs((PLAIN, MIRROR))
    print(f'RECORDED_ON = "{datetime.now(UTC).date()}"')
    print(f"RECORDED: Mapping[str, float] = {{PLAIN: {found[PLAIN]:.2f}, MIRROR: {found[MIRROR]:.2f}}}")
    complaints = judged(found)
    print("\n".join(complaints), file=sys.stderr)
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
