"""The wheel: exactly our three packages, installable beside the locked dependencies."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"router", "model_adapters", "rollout_policies"}


def sources(package: str) -> set[str]:
    """Return the package's files as they must stand in the wheel, caches left out."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what the command prints; its errors belong to the failure message."""
    done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def installer() -> list[str | Path]:
    """Return a command that installs into another environment; a venv made by uv or by Debian has no pip."""
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--offline", "--python"]
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0:
            return [python, "-m", "pip", "--python"]
    pytest.fail("found no pip and no uv to install the wheel with; install python3-pip")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel freshly built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a new venv with our wheel and, by path, the dependencies of this one.

    The checkout itself is not visible there: a .pth file inside a folder that a .pth file names is not read.
    """
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    command = installer()
    after = [python] if command[-1] == "--python" and "uv" in str(command[0]) else [python, "install"]
    run(*command, *after, "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
    return home / "venv/bin"


def test_the_wheel_holds_exactly_the_three_packages(wheel: Path) -> None:
    """Every file of the packages is in the wheel, and nothing else: no tests, no docs, no tools."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert {name.split("/", 1)[0] for name in names} == PACKAGES
    assert names == set().union(*(sources(package) for package in PACKAGES))
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_wheel_carries_licence_script_and_entry_points(wheel: Path) -> None:
    """The wheel's metadata has what plug-in discovery, the command line and redistribution need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    with zipfile.ZipFile(wheel) as archive:
        metadata = {name.split(".dist-info/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(metadata["entry_points.txt"]).decode()

    assert "licenses/LICENSE" in metadata
    assert set(project["entry-points"]) == {"turnout.policies", "turnout.adapters", "turnout.comparators"}
    for group, entries in project["entry-points"].items():
        assert f"[{group}]" in entry_points
        assert [name for name, target in entries.items() if f"{name} = {target}" not in entry_points] == []


@pytest.mark.slow
def test_the_installed_command_shows_its_help(clean_environment: Path, tmp_path: Path) -> None:
    """In a clean environment, outside the checkout, `turnout --help` and `python -m router --help` work."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    shown = run(clean_environment / "turnout", "--help", cwd=tmp_path, env=env)
    as_module = run(clean_environment / "python", "-m", "router", "--help", cwd=tmp_path, env=env)

    assert "serve" in shown
    assert "serve" in as_module


@pytest.mark.slow
def test_every_entry_point_loads_from_the_installed_wheel(clean_environment: Path, tmp_path: Path) -> None:
    """Policies, adapters and comparators arrive from the wheel, not from the checkout."""
    code = """
import importlib.metadata as metadata, pathlib, sys
for group in ("turnout.policies", "turnout.adapters", "turnout.comparators"):
    for found in metadata.entry_points(group=group):
        path = pathlib.Path(sys.modules[found.load().__module__].__file__)
        assert path.is_relative_to(sys.prefix), path
        print(group, found.name)
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    loaded = run(clean_environment / "python", "-c", code, cwd=tmp_path, env=env)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {f"{group} {name}" for group, entries in project["entry-points"].items() for name in entries}
    assert set(loaded.splitlines()) == expected
