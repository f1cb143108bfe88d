"""What can be asked of the demo, which ports it takes, and how it calls itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from router.core.errors import ConfigError
from router.demo.free_ports import choose_ports, is_free
from router.demo.options import DemoOptions, check, stays
from router.demo.plan import ACTS
from router.demo.turnout_process import clean_environment, urls_of
from router.demo.words import turnout_command


@pytest.mark.parametrize(
    ("asked", "taken", "ports"),
    [
        (0, set(), (0, 0, 0)),
        (8080, set(), (8080, 8081, 8082)),
        (8080, {8080}, (0, 8081, 8082)),
        (8080, {8081, 8082}, (8080, 0, 0)),
        (9000, set(), (9000, 8081, 8082)),
        (8081, set(), (8081, 0, 8082)),
    ],
)
def test_the_usual_ports_are_taken_where_they_are_free(
    asked: int, taken: set[int], ports: tuple[int, int, int]
) -> None:
    """Gateway, admin and ops each fall back to a free port of their own."""
    assert tuple(choose_ports(asked, lambda port: port not in taken).values()) == ports


def test_a_port_that_somebody_asked_for_is_not_replaced() -> None:
    """A taken one is an error that names it, instead of a gateway where nobody looks."""
    with pytest.raises(ConfigError, match="--port: got 9000, expected a port that is free"):
        choose_ports(9000, lambda _: False)


def test_a_port_is_free_until_somebody_listens_on_it() -> None:
    """Asked of the real kernel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (DemoOptions(seconds=0.0), "--seconds: got 0.0, expected more than 0; the acts take about 40"),
        (DemoOptions(bad="luck"), "--bad: got 'luck', expected one of digit, crash"),
        (DemoOptions(json="/no/such/place/out.json"), "--json: got '/no/such/place/out.json', expected a file"),
        (DemoOptions(json="/"), "--json: got '/', expected a file that can be written"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: DemoOptions, text: str) -> None:
    """Before a minute has passed, and in words."""
    with pytest.raises(ConfigError) as refused:
        check(options)
    assert str(refused.value).startswith(text)


def test_good_options_pass(tmp_path: Path) -> None:
    """Standard output, a new file and a file that is there already."""
    old = tmp_path / "old.json"
    old.touch()
    for json in (None, "-", str(tmp_path / "new.json"), str(old)):
        check(DemoOptions(seconds=20.0, json=json))
    assert not (tmp_path / "new.json").exists()


def test_the_demo_stays_only_for_somebody_who_looks_at_it() -> None:
    """Whoever names seconds or wants JSON wants an end, and without a live view nobody would see that it waits."""
    assert stays(DemoOptions(), live=True)
    assert not stays(DemoOptions(), live=False)
    assert not stays(DemoOptions(seconds=20.0), live=True)
    assert not stays(DemoOptions(json="x"), live=True)


def test_without_a_word_the_acts_have_two_minutes() -> None:
    """`--seconds` is a limit, not a length."""
    assert (DemoOptions().limit_s, DemoOptions(seconds=20.0).limit_s) == (120.0, 20.0)


def test_the_sort_of_bad_candidate_chooses_the_acts() -> None:
    """A damaged digit is caught by the judge, a crash by the breaker."""
    assert DemoOptions().acts == ACTS["digit"]
    assert DemoOptions(bad="crash").acts == ACTS["crash"]


def test_the_users_own_turnout_variables_do_not_reach_the_demo() -> None:
    """TURNOUT_STORE__URL would make the demo write into somebody's store."""
    given = {"TURNOUT_STORE__URL": "redis://prod", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/bin", "MY_TURNOUT_X": "1"}
    assert clean_environment(given) == {"PATH": "/bin", "MY_TURNOUT_X": "1"}


def test_the_listeners_are_read_from_what_serve_prints() -> None:
    """One line for each, the URL second."""
    said = "gateway    http://127.0.0.1:8080    send predictions here\nops        http://127.0.0.1:1\nready\n"
    assert urls_of(said) == {"gateway": "http://127.0.0.1:8080", "ops": "http://127.0.0.1:1"}


def test_hints_call_turnout_as_it_can_be_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name where it is on PATH, else by the checkout's ./run; with the URL where it is not the usual one."""
    monkeypatch.delenv("TURNOUT_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    usual = "http://127.0.0.1:8081"
    assert turnout_command(usual, tmp_path / "checkout") == "python -m router"
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "run").touch()
    assert turnout_command(usual, tmp_path / "checkout") == str(tmp_path / "checkout" / "run")
    monkeypatch.chdir(tmp_path / "checkout")
    assert turnout_command(usual, tmp_path / "checkout") == "./run"
    assert turnout_command("http://127.0.0.1:4711", tmp_path / "checkout") == "TURNOUT_URL=http://127.0.0.1:4711 ./run"
    (tmp_path / "turnout").touch(mode=0o755)
    assert turnout_command(usual, tmp_path / "checkout") == "turnout"
    monkeypatch.setenv("TURNOUT_URL", "http://elsewhere")
    assert turnout_command(usual, tmp_path / "checkout") == "TURNOUT_URL=http://127.0.0.1:8081 turnout"
