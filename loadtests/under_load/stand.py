"""What is put under load, in one process tree: models, store and Turnout; started and broken as asked on stdin.

The first line is an Order as JSON; it is answered by a line that says where everything is. Each further line,
`{"part", "does"}`, is done and answered by `done`. The end of the input ends everything. It runs where Turnout is
installed; locust, whose environment has no Turnout, talks to it.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from sklearn.datasets import load_digits

from loadtests import haproxy
from loadtests.planted_turnout import planted
from loadtests.processes import end_by_sigterm, free_ports, running
from loadtests.under_load.scenario import DRAIN_DELAY, load, routes
from router.demo.models import halves
from router.demo.turnout_process import urls_of
from router.store.embedded import EmbeddedValkey

READY_S = 60.0
"""How long a part may take to start; it takes 3 s. Chosen for a very busy machine."""
INPUTS = 200
"""How many images and prompts clients send: of the half that the models have not seen."""
CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
STOP_S = 30.0
SIGNALS = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP, "spoil": signal.SIGUSR1}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run: a scenario in a run of so many seconds, or only the inputs (`scenario` empty)."""

    scenario: str
    seconds: float
    protected: bool = True


class Stand:
    """Everything that runs. Everything ends with the stack."""

    def __init__(self, order: Order, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._processes: dict[str, Popen[bytes]] = {}
        self._scenario = load(order.scenario)
        self._program = planted(self._scenario.plant) if self._scenario.plant and not order.protected else ()
        models = ("v1", "v2")
        for name in models:
            self._start(name, [sys.executable, "-m", "loadtests.under_load.model_server", "--model", name])
        urls = {name: json.loads(self._said(name, "url"))["url"] for name in models}
        self._store = EmbeddedValkey(folder / "store")
        stack.enter_context(self._store)
        self._config = {
            "log": {"level": "warning"},
            "routes": routes(self._scenario, order.seconds, urls, protected=order.protected),
        }
        self.direct_url = urls["v1"]
        self._gateways = [f"gateway-{number}" for number in range(self._scenario.gateways)]
        self._drain_delay = DRAIN_DELAY if order.protected else "0s"
        self.gateway_url, self.admin_url = self._fleet() if self._gateways else self._serve()

    def do(self, part: str, does: str) -> None:
        """Break a part, or put it back; returns when that is done."""
        if part == "candidate":
            self._processes["v2"].send_signal(SIGNALS[does])
        elif part == "gateways":
            for name in self._gateways:
                self._restart(name)
        elif does == "restart":
            self._store.restart()
        else:
            assert self._store.pid is not None
            os.kill(self._store.pid, SIGNALS[does])

    def _serve(self) -> tuple[str, str]:
        listeners = {"gateway": {"port": 0, "workers": 2}, "admin": {"port": 0}, "ops": {"port": 0}}
        self._start("turnout", self._turnout("turnout", "serve", listeners))
        urls = urls_of(self._said("turnout", "ready"))
        return urls["gateway"], urls["admin"]

    def _fleet(self) -> tuple[str, str]:
        """Start control, and gateways of one worker each behind HAProxy; return the URLs of HAProxy and of the API."""
        self._start("control", self._turnout("control", "control", {"admin": {"port": 0}}))
        ports = {}
        for name in self._gateways:
            port, ops = free_ports(2)
            drained = {"port": port, "drain_delay": self._drain_delay}
            self._start(name, self._turnout(name, "gateway", {"gateway": drained, "ops": {"port": ops}}))
            ports[name] = port, ops
        for name in ("control", *self._gateways):
            self._said(name, "ready")
        (port,) = free_ports(1)
        file = self._folder / "haproxy.cfg"
        file.write_text(haproxy.configuration(port, ports, check_ms=500))
        self._start("haproxy", ["haproxy", "-db", "-f", str(file)])
        _wait_until_listening(port)
        return f"http://127.0.0.1:{port}", urls_of(self._said("control", "ready"))["admin"]

    def _restart(self, name: str) -> None:
        """End a gateway in order and start it again on its ports; returns when it is ready."""
        gateway = self._processes[name]
        gateway.terminate()
        if status := gateway.wait(STOP_S):
            raise RuntimeError(f"{name} ended with {status}")
        self._start(name, self._command_of(name, "gateway"))
        self._said(name, "ready")

    def _turnout(self, name: str, command: str, listeners: Mapping[str, Any]) -> list[str]:
        file = self._folder / f"{name}.yaml"
        store = {"url": self._store.url, "directory": str(self._folder / name / "states")}
        file.write_text(json.dumps({**self._config, "store": store, **listeners}))
        return self._command_of(name, command)

    def _command_of(self, name: str, command: str) -> list[str]:
        program = self._program or (sys.executable, "-m", "router")
        return [*program, command, "--config", str(self._folder / f"{name}.yaml")]

    def _start(self, name: str, command: list[str]) -> None:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        process = self._processes[name] = self._stack.enter_context(running(command, CORES, folder))
        self._stack.callback(process.send_signal, signal.SIGCONT)  # who is stopped does not hear that it is to end

    def _said(self, name: str, word: str) -> str:
        """Return what a process has printed once a line has this word; RuntimeError at its end or after READY_S."""
        out, deadline_s = self._folder / name / "out", time.monotonic() + READY_S
        while time.monotonic() < deadline_s and self._processes[name].poll() is None:
            said = out.read_text()
            if any(word in line for line in said.splitlines()) and said.endswith("\n"):
                return said
            time.sleep(0.02)
        said = (self._folder / name / "err").read_text()
        raise RuntimeError(f"{name} has ended, or was not ready within {READY_S:.0f} s: {said}")


def _wait_until_listening(port: int) -> None:
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listened on port {port} within {READY_S:.0f} s")


def inputs() -> Mapping[str, list[Any]]:
    """Return images (64 numbers each) and prompts, all real: scikit-learn's digits and its text about them."""
    words = load_digits().DESCR.split()
    prompts = [" ".join(words[at : at + 8]) for at in range(INPUTS)]
    return {"images": halves()[1].images[:INPUTS].tolist(), "prompts": prompts}


def main() -> None:
    """Serve standard input until its end."""
    end_by_sigterm()
    order = Order(**json.loads(sys.stdin.readline()))
    with (
        tempfile.TemporaryDirectory(prefix="turnout-load-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        told: dict[str, Any] = dict(inputs())
        if not order.scenario:
            print(json.dumps(told), flush=True)
            sys.stdin.read()
            return
        stand = Stand(order, Path(folder), stack)
        told |= {"gateway_url": stand.gateway_url, "admin_url": stand.admin_url, "direct_url": stand.direct_url}
        print(json.dumps(told), flush=True)
        for line in sys.stdin:
            stand.do(**json.loads(line))
            print(json.dumps("done"), flush=True)


if __name__ == "__main__":
    main()
