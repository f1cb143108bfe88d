"""The end of a demo: what was measured, what of it is not as it must be, and both as JSON and as lines. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.core.rollout import FULL_BP
from router.demo.admin import Body
from router.demo.flip import REACH_S, Flip
from router.demo.pairs import ModelScore, PairCounts, PairScores
from router.demo.plan import CANDIDATE, STABLE, Leg
from router.demo.tally import Snapshot

MIN_RATE_PER_S: Final = 100.0
MIN_COMPLETE: Final = 0.98
MAX_ERRORS: Final = 3.0
"""How many standard errors a share may be off: 1 correct run of 370 would fail if its users were drawn anew."""


@dataclass(frozen=True, slots=True)
class Share:
    """The candidate's part of the live answers in one leg; `error` is the standard error of a right split, 0..1."""

    name: str
    weight_bp: int
    answers: int
    share: float
    error: float
    moved_users: int

    @property
    def fits(self) -> bool:
        """Whether it is within MAX_ERRORS standard errors; 0 % and 100 % have none, they must be exact."""
        return self.answers > 0 and abs(self.share - self.weight_bp / FULL_BP) <= MAX_ERRORS * self.error


@dataclass(frozen=True, slots=True)
class Report:
    """One walk. `result` is the phase in which the rollout ended, `decisions` its ledger, oldest first."""

    snapshot: Snapshot
    flips: Sequence[Flip]
    shares: Sequence[Share]
    pairs: PairCounts
    scores: PairScores
    result: str
    decisions: Sequence[Body]

    @property
    def rate_per_s(self) -> float:
        """Requests sent per second."""
        return self.snapshot.sent / self.snapshot.seconds if self.snapshot.seconds else 0.0


def shares_of(snapshot: Snapshot, legs: Sequence[Leg]) -> tuple[Share, ...]:
    """Return the share of each leg that has one, in the order of `legs`."""
    phases = {phase.name: phase for phase in snapshot.phases}
    return tuple(
        Share(
            name=leg.name,
            weight_bp=leg.weight_bp,
            answers=phases[leg.name].answers,
            share=phases[leg.name].share("candidate"),
            error=phases[leg.name].share_error(leg.weight_bp / FULL_BP),
            moved_users=phases[leg.name].moved_users,
        )
        for leg in legs
        if leg.measures_share and leg.name in phases
    )


def failures(report: Report) -> tuple[str, ...]:
    """Return a sentence for each thing that is not as it must be; none when all is well."""
    snapshot, pairs = report.snapshot, report.pairs
    found = []
    if report.rate_per_s < MIN_RATE_PER_S:
        found.append(f"rate: {report.rate_per_s:.1f} requests/s, expected at least {MIN_RATE_PER_S:.0f}")
    if snapshot.client_errors:
        found.append(f"client errors: {snapshot.client_errors} ({_listed(snapshot.errors)}), expected none")
    if pairs.complete < MIN_COMPLETE:
        found.append(f"pairs: {_complete(pairs)}, expected at least {MIN_COMPLETE:.0%}")
    found += [
        f"share: {one.name} gave v2 {one.share:.2%} of {one.answers:,} answers, "
        f"expected {_expected_share(one)} ({MAX_ERRORS:.0f} standard errors)"
        for one in report.shares
        if not one.fits
    ]
    found += [
        f"flip: {one.name} had not reached all {one.gateways} gateway workers after {REACH_S:.0f} s"
        for one in report.flips
        if one.reached_ms is None
    ]
    return tuple(found)


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
        "client_errors": snapshot.client_errors,
        "errors": dict(snapshot.errors),
        "pairs": {
            "copies": report.pairs.copies,
            "both": report.pairs.both,
            "missing": dict(report.pairs.missing),
            "agreement": round(report.scores.agreement, 4),
        },
        "flips": [_flip_json(one) for one in report.flips],
        "shares": [_share_json(one) for one in report.shares],
        "models": {
            name: {
                "accuracy": round(score.accuracy, 4),
                "latency_p50_ms": round(score.p50_ms, 2),
                "latency_p95_ms": round(score.p95_ms, 2),
            }
            for name, score in _models(report.scores)
        },
        "acts": [
            {
                "candidate": CANDIDATE,
                "result": report.result,
                "seconds": round(snapshot.seconds, 3),
                "decisions": [_decision_json(one) for one in report.decisions],
            }
        ],
    }


def summary(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the results for a person: a word and what is to say about it, the verdict last."""
    snapshot, scores = report.snapshot, report.scores
    reached = [one.reached_ms for one in report.flips if one.reached_ms is not None]
    slowest = f", the slowest after {max(reached):.0f} ms" if reached else ""
    split = [one for one in report.shares if 0 < one.weight_bp < FULL_BP]
    found = failures(report)
    return (
        ("requests", f"{snapshot.sent:,} ({report.rate_per_s:.0f} a second), client errors: {snapshot.client_errors}"),
        ("flips", f"{len(reached)} of {len(report.flips)} on all gateway workers{slowest}"),
        ("shares", "v2 got " + ", ".join(f"{one.share:.1%} at {_percent(one.weight_bp)}" for one in split)),
        ("pairs", f"{_complete(report.pairs)}; {scores.agreement:.1%} agree"),
        ("right", ", ".join(f"{name} {score.accuracy:.1%}" for name, score in _models(scores)) + " of these labels"),
        *(("FAILED", one) for one in found),
        ("result", f"{'not ok' if found else 'ok'}: rollout {report.result}"),
    )


def _models(scores: PairScores) -> tuple[tuple[str, ModelScore], ...]:
    return tuple(zip((STABLE, CANDIDATE), (scores.models["stable"], scores.models["candidate"]), strict=True))


def _complete(pairs: PairCounts) -> str:
    missing = f" (missing: {_listed(pairs.missing)})" if pairs.missing else ""
    return f"{pairs.both:,} of {pairs.copies:,} copies have both answers{missing}"


def _expected_share(share: Share) -> str:
    if not share.answers or math.isinf(share.error):
        return "answers"
    return f"{_percent(share.weight_bp)} +- {MAX_ERRORS * share.error:.2%}"


def _percent(weight_bp: int) -> str:
    return f"{weight_bp / 100:g}%"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def _flip_json(one: Flip) -> Mapping[str, Any]:
    reached_ms = None if one.reached_ms is None else round(one.reached_ms, 1)
    return {"to": one.to, "weight_bp": one.weight_bp, "stable": one.stable, "reached_gateways_ms": reached_ms}


def _share_json(one: Share) -> Mapping[str, Any]:
    return {
        "name": one.name,
        "weight_bp": one.weight_bp,
        "answers": one.answers,
        "share": round(one.share, 5),
        "standard_error": None if math.isinf(one.error) else round(one.error, 5),
        "fits": one.fits,
        "moved_users": one.moved_users,
    }


def _decision_json(one: Body) -> Mapping[str, Any]:
    return {
        "at": one["at"],
        "kind": one["kind"],
        "actor": one["actor"],
        "reason": one["reason"],
        "policy": one["policy"],
        "phase": one["phase_after"],
        "weight_bp": one["weight_bp_after"],
        "mirror_bp": one["mirror_bp_after"],
    }
