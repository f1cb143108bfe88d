"""Checks a Route's ledger as a history: one writer for each epoch, and no update lost, doubled or interleaved. Pure."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from router.core.decisions import DecisionRecord
from router.core.rollout import Phase

NOBODY: Mapping[int, str] = {}


def faults(ledger: Sequence[DecisionRecord], writers: Mapping[int, str] = NOBODY) -> list[str]:
    """Return in sentences what is wrong with a ledger, oldest line first; empty for one that is linearisable.

    Each line says what its writer read (phase, shares) and what it wrote. The writes are one history of one register
    iff each has read what the one before it wrote, and no revision was written twice. `writers` says of revisions that
    control wrote, as far as it is known, which process did.
    """
    return [*_chain(ledger), *_epochs(ledger), *_writers(ledger, writers), *_rollbacks(ledger)]


def _chain(ledger: Sequence[DecisionRecord]) -> Iterator[str]:
    for before, after in itertools.pairwise(ledger):
        if after.revision <= before.revision:
            yield f"revision {after.revision} was written after {before.revision}"
        left = str(before.phase_after), before.weight_bp_after, before.mirror_bp_after
        read = str(after.phase_before), after.weight_bp_before, after.mirror_bp_before
        if left != read:
            yield f"revision {after.revision} was decided on {read}, but {before.revision} had written {left}"


def _epochs(ledger: Sequence[DecisionRecord]) -> Iterator[str]:
    for before, after in itertools.pairwise(ledger):
        if after.epoch < before.epoch:
            yield f"epoch {after.epoch} wrote revision {after.revision} after epoch {before.epoch}"


def _writers(ledger: Sequence[DecisionRecord], writers: Mapping[int, str]) -> Iterator[str]:
    of_epoch: dict[int, set[str]] = {}
    for line in ledger:
        if line.revision in writers:
            of_epoch.setdefault(line.epoch, set()).add(writers[line.revision])
    for epoch, found in of_epoch.items():
        if len(found) > 1:
            yield f"epoch {epoch} has two writers: {', '.join(sorted(found))}"


def _rollbacks(ledger: Sequence[DecisionRecord]) -> Iterator[str]:
    """A rollout that was rolled back has no weight until another id begins."""
    ended: set[str] = set()
    for line in ledger:
        if line.kind == "start" and line.rollout in ended:
            yield f"rollout {line.rollout} began again"
        elif line.rollout in ended and line.weight_bp_after:
            yield f"revision {line.revision} gave {line.weight_bp_after} bp to {line.rollout}, which was rolled back"
        if line.phase_after == Phase.ROLLED_BACK:
            ended.add(line.rollout)
