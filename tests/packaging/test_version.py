"""The version stands in pyproject.toml and nowhere else."""

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import router
from tests.e2e.harness import TURNOUT, Turnouts, config_for
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("router", "model_adapters", "rollout_policies")


def project_version() -> str:
    """Return the version that pyproject.toml states."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = metadata["project"]["version"]
    assert isinstance(version, str)
    return version


def test_the_program_reports_the_version_of_pyproject() -> None:
    """`router.version()` is what pyproject.toml says."""
    assert router.version() == project_version()


def test_the_command_and_the_chart_say_the_same() -> None:
    """`turnout --version`, and the version that the chart deploys."""
    said = subprocess.run([TURNOUT, "--version"], check=True, capture_output=True, text=True).stdout
    chart = yaml.safe_load((ROOT / "helm/turnout/Chart.yaml").read_text(encoding="utf-8"))

    assert said == f"turnout {project_version()}\n"
    assert (chart["version"], chart["appVersion"]) == (project_version(), project_version())


async def test_every_process_that_runs_says_the_same(tmp_path: Path) -> None:
    """turnout_build_info of gateways and control, and the description of the admin API."""
    turnouts = Turnouts(tmp_path)
    async with ModelServer(1).running() as stable, ModelServer(2).running() as candidate:
        try:
            running = await turnouts.start(config_for(stable, candidate))
            built = f'turnout_build_info{{python="{platform.python_version()}",version="{project_version()}"}} 1.0'
            for listener in ("ops", "admin"):
                page = await fetch(running.port(listener), request("GET", "/metrics"))
                assert built in page.body.decode().splitlines()
            description = await fetch(running.port("admin"), request("GET", "/openapi.json"))
            assert description.json()["info"]["version"] == project_version()
        finally:
            await turnouts.finish()


def test_no_source_file_states_the_version_again() -> None:
    """No module writes the version down or keeps a `__version__`: a second place would go stale."""
    stated = re.compile(rf"__version__|[\"']{re.escape(project_version())}[\"']")

    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(sources) >= len(PACKAGES)
    assert [str(path) for path in sources if stated.search(path.read_text(encoding="utf-8"))] == []


def test_importing_the_packages_does_no_work() -> None:
    """The three top packages load no module beyond themselves, so a gateway worker starts lean."""
    code = (
        "import sys; before = set(sys.modules); import router, model_adapters, rollout_policies;"
        " print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert loaded.stdout.split() == sorted(PACKAGES)
