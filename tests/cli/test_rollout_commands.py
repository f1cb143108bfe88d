"""Every command that talks to a running Turnout, against a real one."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

Turnout = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_running(served: Any) -> Iterator[None]:
    """Leave v1 stable and no rollout under way for the next test."""
    yield
    rollout = served.url("admin") + "/v1/routes/digits/rollout"
    httpx.post(f"{rollout}/abort")
    httpx.post(f"{rollout}/undo")
    assert httpx.get(rollout).json()["stable"] == "v1"


def rollout_of(turnout: Turnout) -> Any:
    """Return the API's view of the rollout."""
    return json.loads(turnout("get", "-o", "json").stdout)


def started(turnout: Turnout, policy: str = "canary") -> None:
    """Start a rollout of v2."""
    done = turnout("start", "digits", "--candidate", "v2", "--policy", policy)
    assert done.returncode == 0, done.stderr


def test_list_shows_every_route_in_one_line(turnout: Turnout) -> None:
    """A heading and one line with status, variants and shares."""
    done = turnout("list")
    heading, line = done.stdout.splitlines()
    assert heading.split() == ["ROUTE", "STATUS", "STABLE", "CANDIDATE", "POLICY", "WEIGHT", "MIRROR", "ADAPTER"]
    assert line.split()[0] == "digits"
    assert line.split()[-1] == "opaque"


def test_json_output_is_the_apis_body_unchanged(turnout: Turnout, served: Any) -> None:
    """`-o json` prints byte for byte what the API answered."""
    for command, path in (("list", "/v1/routes"), ("status", "/v1/routes/digits/rollout")):
        ours = turnout(command, "-o", "json").stdout
        theirs = httpx.get(served.url("admin") + path).text
        if command == "status":  # signs of life tick between two questions
            assert json.loads(ours).keys() == json.loads(theirs).keys()
        else:
            assert ours == theirs + "\n"


def test_a_rollout_goes_through_its_life(turnout: Turnout) -> None:
    """start, pause, resume, set-weight, set-policy, promote --full, undo: each does what it says, with the reason."""
    started(turnout, "shadow")
    assert rollout_of(turnout)["exposure"]["mirror_bp"] == 10_000
    assert turnout("pause", "--reason", "lunch").returncode == 0
    assert (rollout_of(turnout)["phase"], rollout_of(turnout)["reason"]) == ("paused", "lunch")
    assert turnout("resume").returncode == 0
    assert rollout_of(turnout)["phase"] == "progressing"
    assert turnout("set-policy", "digits", "canary").returncode == 0
    assert rollout_of(turnout)["policy"] == "canary"
    assert turnout("set-weight", "12.5%", "--mirror", "5").returncode == 0
    exposure = rollout_of(turnout)["exposure"]
    assert (exposure["weight_bp"], exposure["mirror_bp"]) == (1_250, 500)
    assert turnout("promote", "--full").returncode == 0
    assert rollout_of(turnout)["stable"] == "v2"
    assert turnout("undo").returncode == 0
    assert rollout_of(turnout)["stable"] == "v1"


def test_abort_and_retry(turnout: Turnout) -> None:
    """An abort takes the weight to 0 for good; retry begins the next attempt."""
    started(turnout)
    turnout("set-weight", "50%")
    done = turnout("abort", "--reason", "wrong labels")
    assert done.returncode == 0
    assert "RolledBack" in done.stdout
    assert "wrong labels" in done.stdout
    assert rollout_of(turnout)["exposure"]["weight_bp"] == 0
    before = rollout_of(turnout)["id"]
    assert turnout("retry").returncode == 0
    assert rollout_of(turnout)["id"] != before


def test_reasons_by_default_name_the_command_and_who_typed_it(turnout: Turnout) -> None:
    """Without --reason the ledger still says where a decision came from."""
    started(turnout)
    turnout("pause", USER="ada", LOGNAME="ada")
    assert rollout_of(turnout)["reason"] == "turnout pause, by ada"


def test_start_reads_a_block_from_a_file(turnout: Turnout, tmp_path: Path) -> None:
    """--file gives the block, also as it stands in the configuration; options win over it."""
    block = tmp_path / "block.yaml"
    block.write_text("rollout:\n  candidate: v1\n  policy: canary\n  steps: [{weight: 3%, min_requests: 7}]\n")
    assert turnout("start", "--file", str(block), "--candidate", "v2").returncode == 0
    (step,) = rollout_of(turnout)["steps"]
    assert (step["weight_bp"], step["min_requests"]) == (300, 7)


def test_start_without_candidate_or_policy_is_a_usage_error(turnout: Turnout) -> None:
    """Exit 2, and the error names what is missing."""
    done = turnout("start", "digits", "--policy", "canary")
    assert done.returncode == 2
    assert "--candidate missing" in done.stderr


def test_what_the_phase_does_not_allow_is_an_error_that_names_what_is_possible(turnout: Turnout) -> None:
    """Exit 1 with the legal moves."""
    done = turnout("resume")
    assert done.returncode == 1
    assert "resume is not possible while the rollout is" in done.stderr
    assert "possible: " in done.stderr


def test_a_wrong_value_is_a_usage_error(turnout: Turnout) -> None:
    """Exit 2, from our own check as from the API's."""
    started(turnout)
    assert turnout("set-weight", "200%").returncode == 2
    done = turnout("set-policy", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_an_unknown_route_is_an_error(turnout: Turnout) -> None:
    """Exit 1, and the way to find the right name."""
    done = turnout("status", "letters")
    assert done.returncode == 1
    assert "turnout list" in done.stderr


def test_wait_ends_as_it_promises(turnout: Turnout, served: Any) -> None:
    """0 reached, 3 rolled back, 4 timed out, 2 usage."""
    started(turnout)
    assert turnout("wait", "--for=promoted", "--timeout", "100ms").returncode == 4
    abort = served.url("admin") + "/v1/routes/digits/rollout/abort"
    waiting = threading.Timer(0.3, httpx.post, (abort,))
    waiting.start()
    assert turnout("wait", "--for", "promoted", "--timeout", "20s").returncode == 3
    waiting.join()
    assert turnout("wait", "--for=rolled_back", "--timeout", "20s").returncode == 0
    assert turnout("wait", "--for=nonsense").returncode == 2
    started(turnout)
    assert turnout("promote", "--full").returncode == 0
    assert turnout("wait", "--timeout", "20s").returncode == 0
    assert turnout("wait", "--for", "passed", "--timeout", "20s").returncode == 0
    assert turnout("wait", "--for", "rolled_back", "--timeout", "20s").returncode == 1


def test_decisions_are_shown_newest_first_with_reason_and_actor(turnout: Turnout) -> None:
    """The table has one line for each; json is one object a line."""
    started(turnout)
    turnout("pause", "--reason", "a first look")
    lines = turnout("decisions", "-n", "2").stdout.splitlines()
    assert len(lines) == 3
    assert "pause" in lines[1]
    assert "progressing -> paused" in lines[1]
    assert "operator:local" in lines[1]
    assert lines[1].endswith("a first look")
    objects = [json.loads(line) for line in turnout("decisions", "-n", "2", "-o", "json").stdout.splitlines()]
    assert [one["kind"] for one in objects] == ["pause", "start"]


def test_pairs_are_shown_with_both_answers(turnout: Turnout, served: Any) -> None:
    """A copied request is a line of the table and a line of json."""
    started(turnout, "shadow")
    gateway = served.url("gateway")

    def first_pair() -> str:
        httpx.post(f"{gateway}/digits", content=b"{}", headers={"x-request-id": "one-of-ours"})
        return str(turnout("pairs", "-n", "1", "-o", "json").stdout)

    give_up_s = time.monotonic() + 20
    while not (found := first_pair()):
        assert time.monotonic() < give_up_s
    pair = json.loads(found)
    assert (pair["v"], pair["request_id"], pair["served"]) == (1, "one-of-ours", "stable")
    heading, line, *_ = turnout("pairs", "--limit", "5").stdout.splitlines()
    assert heading.split() == ["TIME", "REQUEST", "SERVED", "STABLE", "CANDIDATE", "DISTANCE", "SAME"]
    assert "one-of-ours" in line
    assert turnout("pairs", "--outcome", "timeout").stdout.splitlines()[1:] == []
    assert json.loads(turnout("pairs", "-n", "1", "--payloads", "-o", "json").stdout)["payload"] is None
    refused = turnout("pairs", "--payloads")
    assert (refused.returncode, "--payloads needs JSON" in refused.stderr) == (2, True)


def test_get_shows_header_and_tree(turnout: Turnout) -> None:
    """Where it stands above, variants with their shares and gateways with their revision below; plain in a pipe."""
    started(turnout)
    turnout("set-weight", "10%")
    shown = turnout("get").stdout
    fields = dict(line.split(":", 1) for line in shown.splitlines()[:12] if ":" in line)
    assert fields["Name"].strip() == "digits"
    assert "Progressing" in fields["Status"]
    assert fields["Step"].strip() == "1/5"
    assert fields["SetWeight"].strip() == "10%"
    assert "├── v1  stable  90%" in shown
    assert "├── v2  candidate  10%" in shown
    assert "└── gateways" in shown
    assert f"revision {rollout_of(turnout)['revision']}" in shown
    assert "\x1b" not in shown


def on_a_terminal(served: Any, *arguments: str, **environ: str) -> str:
    """Return what a command writes when its output is a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TURNOUT_URL": served.url("admin"), "TERM": "xterm-256color", **environ}
    process = subprocess.Popen([sys.executable, "-m", "router", *arguments], env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # Linux says so when the last writer is gone
            break
        if not chunk:
            break
        written += chunk
    process.wait(20)
    os.close(ours)
    return written.decode()


def test_a_terminal_gets_colours_unless_it_does_not_want_them(turnout: Turnout, served: Any) -> None:
    """Colours on a terminal, none with NO_COLOR."""
    started(turnout)
    assert "\x1b[" in on_a_terminal(served, "get", NO_COLOR="")
    assert "\x1b[" not in on_a_terminal(served, "get", NO_COLOR="1")


def test_watching_shows_each_change_and_ends_with_ctrl_c(turnout: Turnout, served: Any) -> None:
    """In a pipe every change is written below the one before; Ctrl-C ends it without a traceback, exit 130."""
    started(turnout)
    env = {**os.environ, "TURNOUT_URL": served.url("admin")}
    watching = subprocess.Popen(
        [sys.executable, "-m", "router", "get", "-w"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout
    seen = []

    def read_to(text: str) -> None:
        assert watching.stdout
        for line in watching.stdout:
            seen.append(line)
            if text in line:
                return

    read_to("SetWeight:     0%")
    turnout("set-weight", "33%")
    read_to("SetWeight:     33%")
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert errors == ""
    assert seen.count("digits\n") == sum("Name:" in line for line in seen) - (not seen[-1].startswith("digits"))


def test_no_turnout_is_said_with_the_fix(turnout: Turnout) -> None:
    """Nobody listens: exit 1, what, why and what to do."""
    done = turnout("get", TURNOUT_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    what, why, fix = done.stderr.splitlines()
    assert what == "error: no Turnout at http://127.0.0.1:1"
    assert "refused" in why
    assert "turnout serve" in fix


def test_something_else_at_the_address_is_said_too(turnout: Turnout, served: Any) -> None:
    """The ops port is no admin API: the error says which port to use."""
    done = turnout("list", "--url", served.url("ops"))
    assert done.returncode == 1
    assert "is no Turnout admin API" in done.stderr
    assert "8081" in done.stderr


def test_proxy_variables_are_ignored(turnout: Turnout) -> None:
    """A proxy for the outside world has no business between us and our control plane."""
    assert turnout("list", HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1").returncode == 0
