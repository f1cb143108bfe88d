"""The hash of a rollout block: the first part of every rollout id."""

import re
import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest

from router.core.rollout import BreakerSpec, GateSpec, NoDataSpec, Spec, Step
from router.settings import block_hash
from router.settings.identity import content_digest

SPEC = Spec(
    candidate="v2",
    policy="canary",
    steps=(Step(mirror_bp=10_000, min_pairs=500), Step(weight_bp=100, min_requests=200)),
    gates=(GateSpec("error_rate", "error_rate", max_increase=0.005),),
)


def test_the_hash_of_a_block_never_changes() -> None:
    """Frozen here: another value would start every finished rollout again after an upgrade."""
    assert block_hash(Spec("v2", "canary")) == "99dcb8e3aaf2"
    assert block_hash(SPEC) == "fca8679b3b8f"


def test_the_hash_is_the_same_in_every_process() -> None:
    """Twelve hex digits that do not depend on Python's own hash."""
    script = (
        "from router.core.rollout import Spec\nfrom router.settings import block_hash\n"
        "print(block_hash(Spec('v2', 'canary')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == block_hash(Spec("v2", "canary"))
    assert re.fullmatch(r"[0-9a-f]{12}", done.stdout.strip())


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, candidate="v3"),
        replace(SPEC, policy="shadow"),
        replace(SPEC, steps=SPEC.steps[:1]),
        replace(SPEC, steps=SPEC.steps[::-1]),
        replace(SPEC, steps=(SPEC.steps[0], replace(SPEC.steps[1], weight_bp=101))),
        replace(SPEC, gates=()),
        replace(SPEC, gates=(replace(SPEC.gates[0], max_increase=0.006),)),
        replace(SPEC, gates=(replace(SPEC.gates[0], dry_run=True),)),
        replace(SPEC, alpha=0.02),
        replace(SPEC, beta=0.02),
        replace(SPEC, breaker=BreakerSpec(fleet="local")),
        replace(SPEC, no_data=NoDataSpec(action="abort")),
        replace(SPEC, on_inconclusive="abort"),
        replace(SPEC, max_duration_s=1.0),
        replace(SPEC, rollback_window_s=1.0),
    ],
)
def test_any_change_of_a_block_changes_its_hash(other: Spec) -> None:
    """Each field by itself."""
    assert block_hash(other) != block_hash(SPEC)


@dataclass(frozen=True)
class Now:
    """A block of today."""

    name: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Later:
    """The same block in a later version."""

    name: str
    parts: tuple[str, ...] = ()
    added: float = 0.5
    grown: Now = field(default=Now("x"))


def test_a_field_that_a_later_version_adds_leaves_old_hashes_alone() -> None:
    """As long as it has its default."""
    old = content_digest({"block": Now("a", ("b",))})
    assert content_digest({"block": Later("a", ("b",))}) == old
    assert content_digest({"block": Later("a", ("b",), added=0.6)}) != old
