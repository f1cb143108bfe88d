"""The end of a demo: what was measured, what of it is not as it must be, and both as JSON and as lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.core.decisions import ActorKind
from router.core.rollout import Phase
from router.demo.admin import Body
from router.demo.pairs import PairCounts
from router.demo.plan import Act, Ending
from router.demo.tally import Snapshot
from router.demo.watch import SETTLE_S, Flip

MIN_COMPLETE: Final = 0.95
"""What the judge itself asks for (statistics.md rule 9); a machine that is not overloaded has all of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `labels` counts, by Turnout's words, what became of those that were sent to it."""

    acts: Sequence[Act]
    endings: Sequence[Ending]
    snapshot: Snapshot
    flips: Sequence[Flip]
    pairs: PairCounts
    labels: Mapping[str, int]

    @property
    def rate_per_s(self) -> float:
        """Requests sent per second."""
        return self.snapshot.sent / self.snapshot.seconds if self.snapshot.seconds else 0.0


def failures(report: Report) -> tuple[str, ...]:
    """Return a sentence for each thing that is not as it must be; none when all is well."""
    snapshot, pairs = report.snapshot, report.pairs
    found = [sentence for one in report.endings for sentence in _failures_of(one)]
    found += [f"{act.name}: was not played" for act in report.acts[len(report.endings) :]]
    if snapshot.client_errors:
        found.append(f"client errors: {snapshot.client_errors} ({_listed(snapshot.errors)}), expected none")
    crashed = any(act.crashes for act in report.acts)
    if crashed and not snapshot.rescued:
        found.append("rescue: no answer came from stable in place of the crashed candidate")
    if not crashed and pairs.complete < MIN_COMPLETE:
        found.append(f"pairs: {_complete(pairs)}, expected at least {MIN_COMPLETE:.0%}")
    if report.flips and report.flips[-1].reached_ms is None:
        found.append(f"flip: the last decision had not reached all gateway workers after {SETTLE_S:.0f} s")
    return tuple(found)


def _failures_of(ending: Ending) -> list[str]:
    """Return what is wrong with how one act ended."""
    act, last = ending.act, ending.last
    if ending.waited_for:
        still = f"{act.candidate} is {ending.result} after {ending.seconds:.0f} s"
        return [f"{act.name}: {still}, expected {act.expected}; it waits for {ending.waited_for}"]
    if ending.result != act.expected:
        why = f": {last['reason']}" if last else ""
        return [f"{act.name}: {act.candidate} is {ending.result}, expected {act.expected}{why}"]
    found = []
    if last is None or last["actor"] != ActorKind.CONTROL:
        found.append(f"{act.name}: the judge did not decide it, {last['actor'] if last else 'nobody'} did")
    if last and act.blamed and not last["reason"].startswith(f"{act.blamed}:"):
        found.append(f"{act.name}: the decision does not blame {act.blamed}: {last['reason']}")
    if act.crashes and not any(_by_breaker(one) and not one["weight_bp_after"] for one in ending.decisions):
        found.append(f"{act.name}: no breaker took the candidate's traffic away")
    return found


def to_json(report: Report) -> Mapping[str, Any]:
    """Return the demo's JSON (design.md section 8), with a few more keys."""
    snapshot, found = report.snapshot, failures(report)
    return {
        "v": 1,
        "ok": not found,
        "failures": list(found),
        "seconds": round(snapshot.seconds, 3),
        "requests": snapshot.sent,
        "requests_per_s": round(report.rate_per_s, 1),
        "skipped": snapshot.skipped,
        "client_errors": snapshot.client_errors,
        "errors": dict(snapshot.errors),
        "rescued": snapshot.rescued,
        "pairs": {
            "copies": report.pairs.copies,
            "both": report.pairs.both,
            "missing": dict(report.pairs.missing),
        },
        "labels": dict(report.labels),
        "flips": [_flip_json(one) for one in report.flips],
        "acts": [_act_json(one) for one in report.endings],
    }


def summary(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the results for a person: a word and what is to say about it, the verdict last."""
    snapshot, found = report.snapshot, failures(report)
    reached = [one.reached_ms for one in report.flips if one.reached_ms is not None]
    slowest = f", the slowest after {max(reached):.0f} ms" if reached else ""
    ends = ", ".join(f"{one.act.candidate} {words_of(one.result)}" for one in report.endings)
    rescued = f", {snapshot.rescued} rescued" if snapshot.rescued else ""
    return (
        *((one.act.name, f"{one.act.candidate} {_ended(one)}") for one in report.endings),
        (
            "requests",
            f"{snapshot.sent:,} ({report.rate_per_s:.0f} a second), client errors: {snapshot.client_errors}{rescued}",
        ),
        ("pairs", f"{_complete(report.pairs)}; labels: {_listed(report.labels) or 'none'}"),
        ("flips", f"{len(reached)} of {len(report.flips)} seen on all gateway workers{slowest}"),
        *(("FAILED", one) for one in found),
        ("result", f"{'not ok' if found else 'ok'}: {ends}"),
    )


def words_of(phase: str) -> str:
    """Return a phase as it is said."""
    return phase.replace("_", " ")


def _ended(ending: Ending) -> str:
    """Say how an act ended, with the numbers that decided it."""
    when, last = f"{words_of(ending.result)} after {ending.seconds:.0f} s", ending.last
    if last is None:
        return when
    halted = next((one for one in ending.decisions if _by_breaker(one)), None)
    reasons = [one["reason"] for one in (halted, last) if one is not None]
    if ending.result == Phase.PROMOTED:
        reasons += [gate["sentence"] for gate in last["judgement"]["gates"] if gate["gate"] == "accuracy"]
    return f"{when}: {'; '.join(reasons)}"


def _by_breaker(record: Body) -> bool:
    return str(record["actor"]).startswith(ActorKind.BREAKER)


def _complete(pairs: PairCounts) -> str:
    missing = f" (missing: {_listed(pairs.missing)})" if pairs.missing else ""
    return f"{pairs.both:,} of {pairs.copies:,} copies have both answers{missing}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)


def _flip_json(one: Flip) -> Mapping[str, Any]:
    reached_ms = None if one.reached_ms is None else round(one.reached_ms, 1)
    return {
        "to": one.to,
        "weight_bp": one.weight_bp,
        "mirror_bp": one.mirror_bp,
        "reached_gateways_ms": reached_ms,
    }


def _act_json(ending: Ending) -> Mapping[str, Any]:
    return {
        "candidate": ending.act.candidate,
        "result": ending.result,
        "expected": ending.act.expected,
        "seconds": round(ending.seconds, 3),
        "decisions": [_decision_json(one) for one in ending.decisions],
    }


def _decision_json(one: Body) -> Mapping[str, Any]:
    """Return one line of the ledger; the judgement, which is long, only with decisions that ended something."""
    told = {
        "at": one["at"],
        "kind": one["kind"],
        "actor": one["actor"],
        "reason": one["reason"],
        "policy": one["policy"],
        "phase": one["phase_after"],
        "weight_bp": one["weight_bp_after"],
        "mirror_bp": one["mirror_bp_after"],
    }
    return told | ({"judgement": one["judgement"]} if one["phase_after"] != Phase.PROGRESSING else {})
