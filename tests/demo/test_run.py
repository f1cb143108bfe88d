"""The demo as a whole: real models, a real `turnout serve`, real traffic; and nothing of it afterwards.

The run that shows both acts is in tests/packaging/test_release.py: of the wheel, in an environment of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo.sandbox import Sandbox, sandbox_for, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox for this checkout's demo."""
    with sandbox_for() as one:
        yield one


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
