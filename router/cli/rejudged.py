"""What `turnout rejudge` says, as lines for a person and as JSON. Pure."""

from collections.abc import Iterator

from router.cli.show import Body, Line, clock, percent
from router.control.rejudge import Point, Rejudged
from router.core.decisions import Hold
from router.core.timestamps import rfc3339
from router.telemetry.logs import escape


def rejudge_lines(rollout: str, found: Rejudged) -> Iterator[Line]:
    """Yield what these gates would have done: first what they cannot say, then point by point, then the difference.

    Between decisions a line stands only where the answer changes.
    """
    names = ", ".join(escape(gate.name) for gate in found.gates) or "no gate"
    yield Line(f"rollout {escape(rollout)}, judged by {names} at {len(found.points)} recorded moments", "bold")
    if found.untold:
        yield Line("")
        yield Line("cannot be told from this record, and left out", "bold")
        for gate, why in found.untold:
            yield Line(f"  {escape(gate)}: {escape(why)}", "yellow")
    yield Line("")
    yield Line("what happened -> what these gates would have done", "bold")
    said = ""
    for point in found.points:
        answer = _answer(point)
        if point.moment.decided is not None or point.would.kind != said or point is found.points[-1]:
            yield Line(f"  {_when(point)}  {_happened(point)} -> {answer}", _style(point))
        said = point.would.kind
    yield Line("")
    yield from _difference(found)


def rejudge_body(rollout: str, found: Rejudged) -> Body:
    """Return all of it as one object."""
    return {
        "rollout": rollout,
        "gates": [gate.name for gate in found.gates],
        "untold": [{"gate": gate, "why": why} for gate, why in found.untold],
        "points": [_point_body(point) for point in found.points],
    }


def _point_body(point: Point) -> Body:
    state, decided, judgement = point.moment.basis.state, point.moment.decided, point.judgement
    return {
        "at": rfc3339(point.moment.basis.now_s),
        "revision": state.revision,
        "step": state.step,
        "weight_bp": state.exposure.weight_bp,
        "mirror_bp": state.exposure.mirror_bp,
        "happened": None
        if decided is None
        else {"kind": decided.kind, "actor": decided.actor, "reason": decided.reason},
        "would": {"kind": point.would.kind, "reason": point.would.reason},
        "judgement": {
            "rollback": judgement.rollback,
            "promote": judgement.promote,
            "invalid": judgement.invalid,
            "harm": judgement.harm,
            "reason": judgement.reason,
            "log_e": judgement.log_e,
            "rollback_at": judgement.rollback_at,
            "gates": [
                {
                    "gate": gate.gate,
                    "verdict": str(gate.verdict),
                    "sentence": gate.sentence,
                    "log_e_harm": gate.log_e_harm,
                    "log_e_proof": gate.log_e_proof,
                }
                for gate in judgement.gates
            ],
        },
    }


def _difference(found: Rejudged) -> Iterator[Line]:
    """Yield what these gates would have changed, the gravest first."""
    if point := found.rolled_back:
        yield Line(f"they would have rolled it back by {_when(point)}: {escape(point.would.reason)}", "red")
        yield Line("what was recorded later would not have been seen then")
    if point := found.held:
        yield Line(f"they would not have gone on at {_when(point)}: {escape(point.would.reason)}", "yellow")
    if point := found.sooner:
        yield Line(f"they would have gone on by {_when(point)}: {escape(point.would.reason)}", "cyan")
    if not (found.rolled_back or found.held or found.sooner):
        yield Line("they would have done the same at every recorded moment", "green")


def _happened(point: Point) -> str:
    exposure, decided = point.moment.basis.state.exposure, point.moment.decided
    shares = f"step {point.moment.basis.state.step + 1}, weight {percent(exposure.weight_bp)}"
    return shares if decided is None else f"{shares}: {escape(decided.kind)} by {escape(decided.actor)}"


def _answer(point: Point) -> str:
    kind = "wait" if isinstance(point.would, Hold) else escape(point.would.kind)
    return f"{kind}: {escape(point.would.reason)}"


def _style(point: Point) -> str:
    return {"roll_back": "red", "advance": "green", "promote": "green"}.get(point.would.kind, "")


def _when(point: Point) -> str:
    return clock(rfc3339(point.moment.basis.now_s))
