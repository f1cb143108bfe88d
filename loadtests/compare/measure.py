"""One system under one workload, measured: closed loop by wrk, then at a fixed rate by the open loop."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from loadtests.compare.figures import PARTS, Cell, Workload
from loadtests.compare.open_loop import Latencies, Order
from loadtests.compare.systems.system import Live
from loadtests.processes import LOAD_CORE, PATH, cpu_s, peak_rss_mib, reset_peak_rss

POST = "loadtests/post.lua"
WARM_S = 1
SETTLE_S = 0.1
"""How long after the load CPU still counts: copies that are under way, and the recorder's next write, belong to it."""
AT_ONCE, AT_ONCE_S = 20_000, 1e6
LATE_MS = 5.0
"""An open loop that was itself later than this at its p99 says more about its core than about the gateway."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What wrk has counted."""

    requests: int
    requests_s: float
    errors: int


def wrk_command(port: int, work: Workload, seconds: int) -> list[str]:
    """Return the command line of a closed loop: one thread, its connections all busy."""
    options = [f"-c{work.connections}", f"-d{seconds}s", "--timeout", "20s", "-s", POST]
    wrk = ["taskset", "-c", LOAD_CORE, "env", f"BODY_BYTES={work.body_bytes}"]
    wrk += [*([f"HEADERS={work.more_headers}"] if work.more_headers else []), "wrk", "-t1"]
    return [*wrk, *options, f"http://127.0.0.1:{port}{PATH}"]


def read_wrk(text: str) -> Closed:
    """Return what wrk has printed. Raises RuntimeError when it is nothing of wrk's."""
    requests, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None:
        raise RuntimeError(f"wrk printed no figures:\n{text}")
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = (int(statuses[1]) if statuses else 0) + (sum(map(int, sockets.groups())) if sockets else 0)
    return Closed(int(requests[1]), float(rate[1]), errors)


def closed_loop(port: int, work: Workload, seconds: int) -> Closed:
    """Run wrk."""
    done = subprocess.run(wrk_command(port, work, seconds), check=True, capture_output=True, text=True)
    return read_wrk(done.stdout)


def open_loop(order: Order) -> Latencies:
    """Run the open loop in a process on the load's core."""
    command = [sys.executable, "-m", "loadtests.compare.open_loop", json.dumps(asdict(order))]
    done = subprocess.run(["taskset", "-c", LOAD_CORE, *command], check=True, capture_output=True, text=True)
    return Latencies(**json.loads(done.stdout))


def warm_up(live: Live, work: Workload) -> None:
    """Open connections, let code compile and pages be touched."""
    closed_loop(live.port, work, WARM_S)


def closed_cell(system: str, live: Live, work: Workload, number: int, seconds: int) -> Cell:
    """Return one cell, of round `number`, without latencies."""
    reset_peak_rss([pid for part in live.parts.values() for pid in part])
    missing = live.pairs_missing() if live.pairs_missing else 0
    before = _spent(live)
    closed = closed_loop(live.port, work, seconds)
    time.sleep(SETTLE_S)
    spent = {part: s - before[part] for part, s in _spent(live).items()}
    return Cell(
        system=system, mode=work.mode, body_bytes=work.body_bytes, connections=work.connections, round=number,
        requests_s=closed.requests_s,
        cpu_us={part: _per_request_us(spent.get(part), closed.requests) for part in PARTS},
        p50_ms=None, p99_ms=None,
        errors=max(closed.errors, not closed.requests),
        pairs_missing=live.pairs_missing() - missing if live.pairs_missing else None,
        p999_ms=None, rate_s=None,
        peak_rss_mib=round(peak_rss_mib(live.parts["gateway"]), 1) if live.parts else None,
    )  # fmt: skip


def latencies_of(system: str, live: Live, rate_s: float, seconds: int) -> Latencies:
    """Return what the open loop found; say so when it was late itself."""
    found = open_loop(Order(live.port, rate_s, seconds))
    if found.late_p99_ms > LATE_MS:
        print(f"note: the open loop on {system} was {found.late_p99_ms:.1f} ms late itself", file=sys.stderr)
    return found


def client_can_s(port: int) -> float:
    """Return how many requests a second the open loop's client can make of a server, all of them due at once."""
    found = open_loop(Order(port, AT_ONCE_S, AT_ONCE / AT_ONCE_S))
    return found.requests / (found.p999_ms / 1000)


def with_latencies(cell: Cell, found: Latencies, rate_s: float) -> Cell:
    """Return the cell with what the open loop found in the same round; its errors count too."""
    return replace(
        cell,
        p50_ms=round(found.p50_ms, 3), p99_ms=round(found.p99_ms, 3), p999_ms=round(found.p999_ms, 3),
        rate_s=round(rate_s, 1), errors=cell.errors + found.errors,
    )  # fmt: skip


def _per_request_us(spent_s: float | None, requests: int) -> float | None:
    return round(spent_s / requests * 1e6, 2) if spent_s is not None and requests else None


def _spent(live: Live) -> Mapping[str, float]:
    return {part: cpu_s(pids) for part, pids in live.parts.items()}
