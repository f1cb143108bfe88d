"""Taking a recorded decision again: the same counters through the same functions give the same, digit for digit. Pure.

Nothing here judges or decides in its own way. What differs is told by its place in the record, so that a difference
points to what was tampered with, or to the version of the formulas that has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum

from router.analysis.evidence import Evidence
from router.control.judging import judgement_of
from router.control.ramp import next_move, propose
from router.core.basis import Basis
from router.core.decisions import FORMULA, Decision, DecisionRecord, Hold, Judgement
from router.core.errors import IllegalTransitionError
from router.core.moves import Move, make_move
from router.core.ports import RolloutPolicy

SHOWN_DIFFERENCES = 20
"""How many differences of one decision are told. Chosen: one changed counter moves most numbers of its gate."""


class Outcome(StrEnum):
    """What came of taking a decision again."""

    SAME = "same"
    DIFFERS = "differs"
    NOT_REPLAYABLE = "not replayable"


@dataclass(frozen=True, slots=True)
class Difference:
    """A place in the record, such as `judgement.gates[0].log_e_harm`, and its two values in words."""

    where: str
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision taken again. `why` says why it could not be, or what to know about a difference."""

    record: DecisionRecord
    outcome: Outcome
    why: str = ""
    differences: tuple[Difference, ...] = ()


def replay(record: DecisionRecord, policies: Mapping[str, RolloutPolicy]) -> Replayed:
    """Return what the recorded counters give now, by the functions of this version.

    The judgement is compared whole, bit for bit, and so are what was proposed, what was decided and what it changed.
    """
    basis = record.basis
    if basis is None:
        by_breaker = record.actor.partition(":")[0] == "breaker"
        why = "by a gateway's breaker, which has no counters" if by_breaker else "what it followed from is not recorded"
        return Replayed(record, Outcome.NOT_REPLAYABLE, why)
    if basis.facts is not None and basis.state.policy not in policies:
        return Replayed(record, Outcome.NOT_REPLAYABLE, f"policy {basis.state.policy} is not installed here")
    judgement = _judgement(record, basis)
    proposals = _proposals(basis, judgement, policies)
    made = _move(basis, proposals, judgement)
    recorded = replace(record, basis=None)
    found = [*_differ("proposals", basis.proposals, proposals)]
    if isinstance(made, Move) and made.record is not None:
        found += _differ("", recorded, made.record)
    else:
        found += _differ("judgement", recorded.judgement, judgement)
        held = str(made) if isinstance(made, IllegalTransitionError) else made.decision.reason
        found.append(Difference("kind", record.kind, f"nothing: {held}"))
    if not found:
        return Replayed(record, Outcome.SAME, "" if basis.counters is not None else "without its evidence")
    return Replayed(record, Outcome.DIFFERS, _formula_note(record), tuple(found[:SHOWN_DIFFERENCES]))


def _judgement(record: DecisionRecord, basis: Basis) -> Judgement:
    """Judge the recorded counters; where there were none to be had, the record's own word stands."""
    if basis.counters is None:
        return record.judgement
    return judgement_of(basis.state, Evidence(basis.counters), keyed=basis.keyed, ages=basis.ages)


def _proposals(basis: Basis, judgement: Judgement, policies: Mapping[str, RolloutPolicy]) -> Sequence[Decision]:
    """Return what control's policy proposes, or what an operator or the file has asked for."""
    if basis.facts is None:
        return basis.proposals
    try:
        return (propose(policies[basis.state.policy], basis.state, judgement, basis.facts, basis.now_s),)
    except Exception as error:  # noqa: BLE001 - a plug-in's mistake is a Hold in the loop, too
        return (Hold(reason=f"the policy has failed: {type(error).__name__}"),)


def _move(basis: Basis, proposals: Sequence[Decision], judgement: Judgement) -> Move | IllegalTransitionError:
    if basis.facts is not None:
        return next_move(basis.state, proposals[0], judgement, basis.now_s, basis.outside)
    try:
        return make_move(basis.state, proposals, judgement, basis.now_s, basis.outside)
    except IllegalTransitionError as error:
        return error


def _formula_note(record: DecisionRecord) -> str:
    recorded = record.judgement.formula
    if recorded in ("", FORMULA):
        return ""
    return f"judged by {recorded}, this version has {FORMULA}: its numbers may differ"


def _differ(where: str, recorded: object, replayed: object) -> Iterator[Difference]:
    """Yield every place at which two values differ: floats by each bit, dataclasses and tuples part by part."""
    if is_dataclass(recorded) and type(recorded) is type(replayed):
        for one in fields(recorded):
            at = f"{where}.{one.name}" if where else one.name
            yield from _differ(at, getattr(recorded, one.name), getattr(replayed, one.name))
    elif isinstance(recorded, tuple) and isinstance(replayed, tuple) and len(recorded) == len(replayed):
        for index, (one, other) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _differ(f"{where}[{index}]", one, other)
    elif (was := _exactly(recorded)) != (now := _exactly(replayed)):
        yield Difference(where, was, now)


def _exactly(value: object) -> str:
    """Return a value in words that tell every bit of a float, but not which kind of text or number it is."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return repr(value)
