"""The lock files: pinned, hashed, without addresses, and in step with pyproject.toml."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.locks import DEV, ROOT, RUNTIME, TOOLS, lock_of, logical_lines, pins, versions

LOCKS = [RUNTIME, DEV, *map(lock_of, TOOLS)]


def asked_for(name: str) -> list[Requirement]:
    """Return what pyproject.toml asks of a lock: dependencies, extras and groups, or one group alone."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = metadata["dependency-groups"]
    for group in TOOLS:
        if name == lock_of(group):
            return [Requirement(line) for line in groups[group]]
    lines = [*metadata["project"]["dependencies"], *groups["build"]]
    for extra in metadata["project"]["optional-dependencies"].values():
        lines += extra
    if name == DEV:
        lines += [line for line in groups["dev"] if isinstance(line, str)]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_no_address(name: str) -> None:
    """A lock names packages and hashes only: where they come from is the reader's own setting."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if "://" in line or " @ " in line] == []
    options = [line.split("=")[0].split()[0] for line in lines if line.lstrip().startswith("-")]
    assert set(options) == {"--hash"}


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """Each requirement has one exact version and at least one sha256, so pip --require-hashes takes it."""
    lines = logical_lines(name)

    assert len(lines) > 10
    assert [line for line in lines if line.count("==") < 1 or "--hash=sha256:" not in line] == []
    assert [pin for pin in pins(name) if not str(Requirement(pin).specifier).startswith("==")] == []


@pytest.mark.parametrize("name", LOCKS)
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
