"""The version stands in pyproject.toml and nowhere else."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import router

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
