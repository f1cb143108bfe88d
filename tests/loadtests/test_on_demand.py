"""What is installed on demand is whole and from the present lock, or is not here."""

from pathlib import Path

import pytest

from loadtests.on_demand import OnDemand
from tests.servers.installed import ALWAYS_IN_CI, SERVERS, venv_of


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without anything in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_venv_counts_only_with_the_stamp_of_the_present_lock(tmp_path: Path) -> None:
    """An interrupted installation, or one from a lock with other dependencies, is not taken for a whole one."""
    lock = tmp_path / "tool.lock"
    lock.write_text("other==2.0\ntool-bin==1.5 \\\n    --hash=sha256:00\n")
    tools = OnDemand(tmp_path, "tools")
    venv = tools.venv("tool")
    assert (tools.names(), venv) == (["tool"], tmp_path / "turnout" / "tools" / "tool-1.5")
    (venv / "bin").mkdir(parents=True)
    assert not tools.is_here("tool")
    (venv / "turnout-stamp").write_text(tools._digest("tool"))  # noqa: SLF001 - what a whole installation leaves
    assert tools.is_here("tool")
    assert tools.install("tool") == venv
    lock.write_text("other==2.1\ntool-bin==1.5 \\\n    --hash=sha256:00\n")
    assert not tools.is_here("tool")


@pytest.mark.parametrize("name", SERVERS.names())
@pytest.mark.parametrize("ci", [True, False], ids=["CI", "elsewhere"])
def test_a_missing_server_is_named_and_fails_only_where_ci_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, *, ci: bool
) -> None:
    """The reason says how to install it."""
    monkeypatch.setenv("CI", "true" if ci else "")
    outcome = pytest.fail.Exception if ci and name in ALWAYS_IN_CI else pytest.skip.Exception
    with pytest.raises(outcome, match=f"the optional server {name} is not installed"):
        venv_of(name)


def test_each_server_that_ci_must_have_has_a_lock() -> None:
    """Or CI would install nothing and say so too late."""
    assert set(ALWAYS_IN_CI) <= set(SERVERS.names())
