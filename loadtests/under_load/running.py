"""What goes on beside locust's users: the stand, the open loops, the watch, and the fault. In greenlets of locust's."""

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import gevent

from loadtests.compare.open_loop import Order
from loadtests.under_load.options import Options
from loadtests.under_load.protocols import DIGITS, PROTOCOLS
from loadtests.under_load.scenario import Fault, Scenario
from loadtests.under_load.timeline import DIRECT, OPEN, OPEN_DIRECT, TURNOUT, Answer, Event, Stand, Timeline, event_of

LOOK_S = 0.5
OPEN_BODIES = 50
OPEN_CONNECTIONS = 32
ASK_S = 5.0
"""How long a look may take."""


class Run:
    """One run. It takes the stand's start to build it; `stop` ends everything."""

    def __init__(self, options: Options, scenario: Scenario) -> None:
        self._options = options
        self._scenario = scenario
        self._stand = subprocess.Popen(
            [options.python, "-m", "loadtests.under_load.stand"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        order = {
            "scenario": "" if options.url else options.scenario,
            "seconds": options.seconds,
            "protected": options.protected,
        }
        told = self._ask(order)
        self.images: list[list[float]] = told["images"]
        self.prompts: list[str] = told["prompts"]
        self.gateway_url: str = options.url or told["gateway_url"]
        self.direct_url: str = options.direct_url or told.get("direct_url", "")
        self._admin_url: str = options.admin_url or told["admin_url"]
        self.seen = Timeline(options.seconds)
        self._began_s = 0.0
        self._began_at = 0.0
        self._revisions: dict[str, int] = {}
        self._loops: dict[str, subprocess.Popen[str]] = {}
        self._lives: list[gevent.Greenlet] = []

    def second(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self._began_s if self._began_s else 0.0

    def compared(self) -> list[tuple[str, str]]:
        """Return whose p99 is compared with whose: both loops, if there is somebody to ask directly."""
        loops = [(TURNOUT, DIRECT), (OPEN, OPEN_DIRECT)] if self._options.rate_s else [(TURNOUT, DIRECT)]
        return loops if self.direct_url else []

    def begin(self) -> None:
        """Start the clock and everything that goes by it."""
        self._began_s, self._began_at = time.monotonic(), time.time()
        for source, url in ((OPEN, self.gateway_url), (OPEN_DIRECT, self.direct_url)):
            if url and self._options.rate_s:
                self._loops[source] = self._open_loop(url)
        self._lives.append(gevent.spawn(self._watch))
        if self._scenario.fault:
            self._lives.append(gevent.spawn(self._break, self._scenario.fault))

    def end(self) -> None:
        """Take the last look and what the open loops have measured."""
        gevent.killall(self._lives)
        self._look()
        for source, loop in self._loops.items():
            lines, _ = loop.communicate(timeout=60)
            for line in lines.splitlines():
                meant_s, latency_ms, failed = json.loads(line)
                why = "no good answer in the open loop" if failed else ""
                self.seen.answers.append(Answer(meant_s, source, latency_ms, why))

    def stop(self) -> None:
        """End the stand and what it has started."""
        gevent.killall(self._lives)
        for loop in self._loops.values():
            loop.kill()
            loop.wait()
        if self._stand.stdin:
            self._stand.stdin.close()
        self._stand.wait()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._stand.stdin is not None
        assert self._stand.stdout is not None
        self._stand.stdin.write(json.dumps(order) + "\n")
        self._stand.stdin.flush()
        line = self._stand.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand ended with {self._stand.wait()} when it was asked for {order}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _open_loop(self, url: str) -> subprocess.Popen[str]:
        where, protocol = urlsplit(url), PROTOCOLS[DIGITS]
        order = Order(
            port=where.port or 80, rate_s=self._options.rate_s, seconds=self._options.seconds,
            connections=OPEN_CONNECTIONS, grace_s=10.0, host=where.hostname or "", path=protocol.path,
            bodies=[protocol.body_of(image) for image in self.images[:OPEN_BODIES]],
        )  # fmt: skip
        loop = subprocess.Popen(
            [sys.executable, "-m", "loadtests.under_load.arrivals"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert loop.stdin is not None
        loop.stdin.write(json.dumps(asdict(order)) + "\n")
        loop.stdin.flush()
        return loop

    def _watch(self) -> None:
        while True:
            self._look()
            gevent.sleep(LOOK_S)

    def _look(self) -> None:
        """See where each rollout stands. Without an answer nothing is noted: the store may be away on purpose."""
        for route in self._scenario.protocols:
            try:
                rollout = self._get(f"/v1/routes/{route}/rollout")
                if rollout["revision"] != self._revisions.get(route):
                    self._note_decisions(route)
                    self._revisions[route] = rollout["revision"]
            except (OSError, ValueError, LookupError):
                continue
            exposure = rollout["exposure"]
            self.seen.stands.append(
                Stand(
                    self.second(), route, rollout["phase"], rollout["reason"],
                    exposure["weight_bp"], exposure["mirror_bp"],
                )
            )  # fmt: skip

    def _note_decisions(self, route: str) -> None:
        for one in reversed(self._get(f"/v1/routes/{route}/decisions")):
            if one["revision"] > self._revisions.get(route, 0):
                second = datetime.fromisoformat(one["at"]).timestamp() - self._began_at
                self.seen.events.append(event_of(one, second))

    def _get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        with urllib.request.urlopen(self._admin_url + path, timeout=ASK_S) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def _break(self, fault: Fault) -> None:
        """Break what is to be broken once the candidate has its weight, and put it back."""
        while max((one.weight_bp for one in self.seen.stands), default=0) < fault.at_weight_bp:
            gevent.sleep(LOOK_S / 2)
        gevent.sleep(2 * LOOK_S)  # so that everybody routes by it
        began_s = self.second()
        self.seen.fault_s = began_s, self._options.seconds
        self._do(fault.part, fault.does)
        if fault.undo:
            gevent.sleep(fault.undo_after * self._options.seconds)
            self._do(fault.part, fault.undo)
        if not fault.lasts:
            self.seen.fault_s = began_s, self.second()

    def _do(self, part: str, does: str) -> None:
        self.seen.events.append(Event(self.second(), "fault", f"{part}: {does}"))
        self._ask({"part": part, "does": does})
        self.seen.events.append(Event(self.second(), "done", f"{part}: {does}"))
