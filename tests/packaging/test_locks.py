"""The lock files: pinned, hashed, without addresses, and in step with pyproject.toml."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = "requirements.lock"
DEV = "requirements-dev.lock"
CHART = "requirements-chart.lock"


def logical_lines(name: str) -> list[str]:
    """Return the lock's requirements, each with its hashes on one line, without comments."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(name: str) -> set[str]:
    """Return `name==version ; marker` of each requirement in the lock."""
    return {line.split("--hash", 1)[0].strip() for line in logical_lines(name)}


def versions(name: str) -> dict[str, set[str]]:
    """Return the pinned versions by package; more than one where markers split them."""
    found: dict[str, set[str]] = {}
    for pin in pins(name):
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


def asked_for(name: str) -> list[Requirement]:
    """Return what pyproject.toml asks of a lock: dependencies, the demo extra and groups, or one group alone."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = metadata["dependency-groups"]
    if name == CHART:
        return [Requirement(line) for line in groups["chart"]]
    lines = [*metadata["project"]["dependencies"], *metadata["project"]["optional-dependencies"]["demo"]]
    lines += groups["build"]
    if name == DEV:
        lines += [line for line in groups["dev"] if isinstance(line, str)]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", [RUNTIME, DEV, CHART])
def test_a_lock_holds_no_address(name: str) -> None:
    """A lock names packages and hashes only: where they come from is the reader's own setting."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if "://" in line or " @ " in line] == []
    options = [line.split("=")[0].split()[0] for line in lines if line.lstrip().startswith("-")]
    assert set(options) == {"--hash"}


@pytest.mark.parametrize("name", [RUNTIME, DEV, CHART])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """Each requirement has one exact version and at least one sha256, so pip --require-hashes takes it."""
    lines = logical_lines(name)

    assert len(lines) > 10
    assert [line for line in lines if line.count("==") < 1 or "--hash=sha256:" not in line] == []
    assert [pin for pin in pins(name) if not str(Requirement(pin).specifier).startswith("==")] == []


@pytest.mark.parametrize("name", [RUNTIME, DEV, CHART])
def test_a_lock_satisfies_what_pyproject_asks_for(name: str) -> None:
    """A dependency that was changed without scripts/lock is found here, not on a user's machine."""
    locked = versions(name)

    unmet = [
        str(asked)
        for asked in asked_for(name)
        if not locked.get(canonicalize_name(asked.name))
        or not all(asked.specifier.contains(version) for version in locked[canonicalize_name(asked.name)])
    ]
    assert unmet == []


def test_the_dev_lock_holds_the_whole_runtime_lock() -> None:
    """What the tests run on is what users run on; ./run relies on it too."""
    assert pins(RUNTIME) - pins(DEV) == set()
