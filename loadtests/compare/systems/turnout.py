"""Turnout as it is run: `turnout serve` with one worker, control and the embedded store."""

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtests.compare.figures import CANARY, MIRROR, TURNOUT
from loadtests.compare.systems.system import ALL_MODES, Live, Place
from loadtests.processes import GATEWAY_CORE, START_S, Parts, descendants, free_ports, running, wait_for_answer
from router import version

_ROLLOUTS = {
    CANARY: {"candidate": "v2", "policy": "canary", "steps": [{"weight": "10%", "bake": "1h"}]},
    MIRROR: {"candidate": "v2", "policy": "shadow"},
}
_IN_FORCE = {
    CANARY: re.compile(r"^turnout_weight_ratio\{.*\} 0\.1$", re.MULTILINE),
    MIRROR: re.compile(r"^turnout_mirror_ratio\{.*\} 1\.0$", re.MULTILINE),
}
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_PARTS = ((b"valkey-server", "store"), (b"router.app\0control", "control"))
SETTLED_S = 10.0
PROGRAM = (sys.executable, "-m", "router")


class Turnout:
    """This checkout, started by `program`."""

    name = TURNOUT
    modes = ALL_MODES

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = program

    def version(self) -> str:
        """Return the installed version."""
        return version()

    @contextmanager
    def live(self, place: Place) -> Iterator[Live]:
        """Run it; its rollout is in force when this is entered."""
        admin, ops = free_ports(2)
        variants = {name: {"url": f"http://127.0.0.1:{port}"} for name, port in _ports(place).items()}
        route: dict[str, object] = {
            "match": {"path_prefix": "/v2/models/m"},
            "adapter": "open_inference",
            "variants": variants,
        }
        route |= {"stable": "v1", **({"rollout": _ROLLOUTS[place.mode]} if place.mode in _ROLLOUTS else {})}
        listeners = {"gateway": {"port": place.port}, "admin": {"port": admin}, "ops": {"port": ops}}
        file = place.folder / "turnout.yaml"
        file.write_text(json.dumps({**listeners, "log": {"level": "warning"}, "routes": {"m": route}}))
        command = [*self._program, "serve", "--config", str(file)]
        with running(command, GATEWAY_CORE, place.folder) as process:
            wait_for_answer(place.port)
            wait_until_in_force(place, ops)
            missing = (lambda: _missing(ops)) if place.mode == MIRROR else None
            yield Live(place.port, parts_of(process.pid), tuple(command), missing)


def _ports(place: Place) -> dict[str, int]:
    return {"v1": place.stable, "v2": place.candidate}


def wait_until_in_force(place: Place, ops_port: int) -> None:
    """Return when all has started and the worker routes by the rollout; RuntimeError after START_S."""
    deadline = time.monotonic() + START_S
    wanted = _IN_FORCE.get(place.mode)
    while time.monotonic() < deadline:
        ready = "ready" in (place.folder / "out").read_text().splitlines()
        if ready and (wanted is None or wanted.search(_scrape(ops_port))):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the rollout was not in force within {START_S:.0f} s")


def parts_of(pid: int) -> Parts:
    """Sort the processes under `turnout serve` by what they are: whatever is not control or store is the gateway's."""
    parts: dict[str, list[int]] = {"gateway": [], "control": [], "store": []}
    for child in descendants(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        parts[next((name for word, name in _PARTS if word in command), "gateway")].append(child)
    return parts


def _missing(ops_port: int) -> int:
    """Return the pairs that are missing, once no copy is under way and everything is written."""
    deadline = time.monotonic() + SETTLED_S
    while (page := _scrape(ops_port)) and _sum(page, "turnout_in_flight") + _sum(page, "turnout_recorder_queue_bytes"):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return missing_pairs(page)


def missing_pairs(page: str) -> int:
    """Return from the metrics how many copied requests have no complete pair in the store, and copies never made.

    Not those whose client left before its answer, as wrk does at its end with what is in flight.
    """
    incomplete = sum(
        value
        for labels, value in _samples(page, "turnout_pairs_total")
        if 'outcome="both"' not in labels and "cancelled" not in labels
    )
    dropped = sum(
        value
        for labels, value in _samples(page, "turnout_dropped_total")
        if 'what="copy"' in labels or 'what="pair"' in labels
    )
    return round(incomplete + dropped)


def _sum(page: str, name: str) -> float:
    return sum(value for _, value in _samples(page, name))


def _samples(page: str, name: str) -> list[tuple[str, float]]:
    return [(labels, float(value)) for found, labels, value in _SAMPLE.findall(page) if found == name]


def _scrape(ops_port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
