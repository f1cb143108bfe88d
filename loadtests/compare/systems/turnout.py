"""Turnout as it is run: `turnout serve` with one worker, control and the embedded store."""

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.compare.figures import CANARY, MIRROR, TURNOUT
from loadtests.compare.systems.system import ALL_MODES, Live, Place
from loadtests.processes import GATEWAY_CORE, START_S, Parts, descendants, free_ports, running, wait_for_answer
from router import version

_IN_FORCE = {CANARY: ("turnout_weight_ratio", "10%"), MIRROR: ("turnout_mirror_ratio", "")}
"""The metric that shows which share a worker routes by, and which that is to be."""
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_PARTS = ((b"valkey-server", "store"), (b"router.app\0control", "control"))
SETTLED_S = 10.0
PROGRAM = (sys.executable, "-m", "router")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is not the usual: more Routes beside the one that is asked, more workers, their cores, a mirror's share.

    `backends` are the ports of stable, if it has several. `store` is the URL of a store of somebody else's.
    """

    routes: int = 1
    backends: tuple[int, ...] = ()
    workers: int = 1
    cores: str = GATEWAY_CORE
    mirror: str = "100%"
    store: str | None = None
    gates: tuple[Mapping[str, object], ...] = ()


USUAL_SHAPE = Shape()


class Turnout:
    """This checkout, started by `program`."""

    name = TURNOUT
    modes = ALL_MODES

    def __init__(self, program: Sequence[str] = PROGRAM, shape: Shape = USUAL_SHAPE) -> None:
        self._program = program
        self._shape = shape

    def version(self) -> str:
        """Return the installed version."""
        return version()

    @contextmanager
    def live(self, place: Place) -> Iterator[Live]:
        """Run it; its rollout is in force when this is entered."""
        admin, ops = free_ports(2)
        file = place.folder / "turnout.yaml"
        file.write_text(json.dumps(self._config(place, admin, ops)))
        command = [*self._program, "serve", "--config", str(file)]
        with running(command, self._shape.cores, place.folder) as process:
            wait_for_answer(place.port)
            wait_until_in_force(place, ops, self._shape.mirror)
            missing = (lambda: _missing(ops)) if place.mode == MIRROR else None
            yield Live(place.port, parts_of(process.pid), tuple(command), missing)

    def _config(self, place: Place, admin: int, ops: int) -> dict[str, object]:
        shape = self._shape
        stable = shape.backends or (place.stable,)
        variants = {"v1": _variant(*stable), "v2": _variant(place.candidate)}
        plain = {"adapter": "open_inference", "variants": variants, "stable": "v1"}
        rollout = {"rollout": self._rollout(place.mode)} if place.mode in _IN_FORCE else {}
        routes = {"m": {"match": {"path_prefix": "/v2/models/m"}, **plain, **rollout}}
        for number in range(1, shape.routes):
            routes[f"m{number}"] = {"match": {"path_prefix": f"/v2/models/m{number}"}, **plain}
        listeners = {"gateway": {"port": place.port, "workers": shape.workers}, "admin": {"port": admin}}
        store = {"store": {"url": shape.store}} if shape.store else {}
        return {**listeners, "ops": {"port": ops}, "log": {"level": "warning"}, "routes": routes, **store}

    def _rollout(self, mode: str) -> dict[str, object]:
        gates = {"gates": list(self._shape.gates)} if self._shape.gates else {}
        if mode == CANARY:
            mirror = {"mirror": "10%"} if gates else {}  # some gates are about pairs
            return {
                "candidate": "v2",
                "policy": "canary",
                "steps": [{"weight": "10%", **mirror, "bake": "1h"}],
                **gates,
            }
        steps = [{"mirror": self._shape.mirror, "min_pairs": 500}]
        return {"candidate": "v2", "policy": "shadow", "steps": steps, **gates}


def _variant(*ports: int) -> dict[str, object]:
    return {"urls": [f"http://127.0.0.1:{port}" for port in ports]}


def wait_until_in_force(place: Place, ops_port: int, mirror: str = "100%") -> None:
    """Return when all has started and the worker routes by the rollout; RuntimeError after START_S."""
    deadline = time.monotonic() + START_S
    name, share = _IN_FORCE.get(place.mode, ("", ""))
    wanted = float((share or mirror).rstrip("%")) / 100
    while time.monotonic() < deadline:
        ready = "ready" in (place.folder / "out").read_text().splitlines()
        if ready and (not name or _sum(_scrape(ops_port), name) == wanted):
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
    """Return from the metrics how many copied requests have had no complete pair in the store, and copies never made.

    Not those whose client left before its answer, as wrk does at its end with what is in flight, and not those that
    made room for newer ones after they had been written (`pairs.keep`).
    """
    incomplete = sum(
        value
        for labels, value in _samples(page, "turnout_pairs_total")
        if 'outcome="both"' not in labels and "cancelled" not in labels
    )
    dropped = sum(
        value
        for labels, value in _samples(page, "turnout_dropped_total")
        if ('what="copy"' in labels or 'what="pair"' in labels) and 'reason="trimmed"' not in labels
    )
    return round(incomplete + dropped)


def _sum(page: str, name: str) -> float:
    return sum(value for _, value in _samples(page, name))


def _samples(page: str, name: str) -> list[tuple[str, float]]:
    return [(labels, float(value)) for found, labels, value in _SAMPLE.findall(page) if found == name]


def _scrape(ops_port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
