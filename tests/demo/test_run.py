"""The demo as a whole: real models, a real `turnout serve`, real traffic; and nothing of it afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]


@dataclass(slots=True)
class Sandbox:
    """A place to run demos in, which knows every process and file that they leave behind."""

    directory: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `turnout demo` in a process group of its own, as a shell does."""
        # No name with TURNOUT_: those are kept from the demo's Turnout.
        env = os.environ | {"TMPDIR": str(self.directory), "DEMO_TEST_MARK": self.mark}
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "demo", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            process_group=0,
        )
        self.started.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """Return the command lines, by process id, of all processes that come from here and are alive."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    # The store server writes its title over its environment; its socket's place is in the title.
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.directory) in command or self.mark.encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = command
            except OSError:
                continue  # it has ended meanwhile
        return found

    def files(self) -> list[str]:
        """Return what lies in the directory for temporary files."""
        return sorted(entry.name for entry in self.directory.iterdir())


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with a short path, because sockets lie in it; whatever still runs afterwards is killed."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as directory:
        one = Sandbox(Path(directory))
        yield one
        for process in one.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        until(lambda: not one.processes())


def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        time.sleep(0.01)


def test_a_headless_run_shows_both_acts(sandbox: Sandbox) -> None:
    """v2 promotes itself, v3 is rolled back for the digit that it reads wrong; no client error; only JSON on stdout."""
    process = sandbox.start("--headless", "--json")
    out, err = process.communicate(timeout=700)
    assert process.returncode == 0, f"{out}\n{err}"
    told: Any = json.loads(out)
    assert (told["ok"], told["failures"], told["client_errors"]) == (True, [], 0)
    assert told["requests"] < 120 * 200  # in less than two minutes of its traffic
    assert told["pairs"]["both"] >= 0.95 * told["pairs"]["copies"] > 5_000
    assert told["labels"]["accepted"] > 4_000
    one, two = told["acts"]
    assert [(act["candidate"], act["result"]) for act in (one, two)] == [("v2", "promoted"), ("v3", "rolled_back")]
    # Turnout walks the whole plan by itself; nobody asked for anything but the second rollout.
    assert [(made["kind"], made["actor"], made["weight_bp"]) for made in one["decisions"]] == [
        ("start", "config:file", 0), ("advance", "control", 1_000), ("advance", "control", 2_500),
        ("advance", "control", 5_000), ("promote", "control", 0),
    ]  # fmt: skip
    assert len(proved := {name for name, gate in gates_of(one).items() if gate["verdict"] == "pass"}) >= 12
    assert proved >= {"accuracy", "error_rate", *(f"recall:{digit}" for digit in range(10))}
    assert (two["decisions"][0]["kind"], two["decisions"][0]["actor"]) == ("start", "operator:local")
    ended = two["decisions"][-1]
    assert (ended["kind"], ended["actor"]) == ("roll_back", "control")
    assert ended["reason"].startswith("recall:8: candidate is right in ")
    assert [name for name, gate in gates_of(two).items() if gate["enforced"] and gate["verdict"] == "fail"] == [
        "recall:8"
    ]
    assert "50%: step 3 of 4 is done" in err
    assert "result     ok: v2 promoted, v3 rolled back" in err
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


def gates_of(act: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the gates of the decision that ended an act, by name."""
    return {gate["gate"]: gate for gate in act["decisions"][-1]["judgement"]["gates"]}


def test_a_candidate_that_crashes_hurts_no_client(sandbox: Sandbox) -> None:
    """Killed at 25 %: stable answers in its place, the breaker takes the traffic away, the judge makes it final."""
    process = sandbox.start("--headless", "--bad", "crash", "--json")
    out, err = process.communicate(timeout=700)
    assert process.returncode == 0, f"{out}\n{err}"
    told: Any = json.loads(out)
    assert (told["ok"], told["client_errors"]) == (True, 0)
    assert told["rescued"] > 0
    (act,) = told["acts"]
    assert (act["candidate"], act["result"]) == ("v2", "rolled_back")
    halt = next(made for made in act["decisions"] if made["actor"].startswith("breaker:"))
    assert (halt["phase"], halt["weight_bp"], halt["mirror_bp"]) == ("paused", 0, 10_000)
    assert (act["decisions"][-1]["kind"], act["decisions"][-1]["actor"]) == ("roll_back", "control")
    assert "crash: the server of v2 is killed while it serves" in err
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


def test_a_time_that_is_too_short_ends_the_demo_with_what_it_waited_for(sandbox: Sandbox) -> None:
    """`--seconds` is a limit: the status is 1, and the sentence says where the rollout stands."""
    process = sandbox.start("--headless", "--seconds", "2", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, f"{out}\n{err}"
    told: Any = json.loads(out)
    assert not told["ok"]
    assert any("expected promoted; it waits for " in failure for failure in told["failures"])
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_leaves_nothing(sandbox: Sandbox, seed: int) -> None:
    """While models are trained, Turnout starts or traffic flows: no process, no file, exit 130, and a line says so."""
    process = sandbox.start("--headless")
    assert process.stdout is not None
    process.stdout.readline()  # from here on there is something to clear up
    # Not a wait for anything: the moment is what is drawn at random.
    time.sleep(random.Random(seed).uniform(0.0, 12.0))
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)  # an impatient second one must not break the clearing up
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, f"{out}\n{err}"
    assert out.splitlines()[-1].startswith("stopped by Ctrl-C: ")
    assert out.splitlines()[-1].endswith("; nothing is left running")
    assert err == ""
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


def test_a_killed_demo_takes_its_processes_along(sandbox: Sandbox) -> None:
    """After SIGKILL nothing can be cleared up, yet every process ends by itself."""
    process = sandbox.start("--headless")
    assert process.stdout is not None
    for line in process.stdout:
        if "shadow" in line:
            break
    assert len(sandbox.processes()) == 9  # demo, three models, parent, two workers, control, store
    process.kill()
    process.communicate(timeout=10)
    until(lambda: not sandbox.processes(), within_s=20.0)


def test_a_turnout_that_dies_ends_the_demo_with_a_sentence(sandbox: Sandbox) -> None:
    """Its last words are shown, the status is 1, and what it had started is gone too."""
    process = sandbox.start("--headless")
    assert process.stdout is not None
    for line in process.stdout:
        if "shadow" in line:
            break
    (serve,) = [pid for pid, command in sandbox.processes().items() if " serve --config " in command]
    os.kill(serve, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, f"{out}\n{err}"
    assert err.startswith("error: turnout serve ended (exit status -9). It said:\n")
    until(lambda: not sandbox.processes())
    assert sandbox.files() == []


def test_a_port_that_is_taken_is_an_error_that_names_it(sandbox: Sandbox) -> None:
    """Nothing is started, the sentence says what to do, and the status is that of a usage error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = sandbox.start("--headless", "--port", str(port))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == f"error: --port: got {port}, expected a port that is free; 0 takes any, or stop what listens there\n"
    assert out == ""
    assert sandbox.files() == []
