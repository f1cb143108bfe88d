"""What `turnout replay` says, as lines for a person and as JSON. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from router.cli.show import Body, Line, clock
from router.control.replay import Outcome, Replayed
from router.core.timestamps import rfc3339
from router.telemetry.logs import escape

_STYLES = {Outcome.SAME: "green", Outcome.DIFFERS: "red", Outcome.NOT_REPLAYABLE: "yellow"}


def replay_lines(found: Sequence[Replayed]) -> Iterator[Line]:
    """Yield one line for each decision, under it each difference, and at the end how many there were of each."""
    for one in found:
        record, style = one.record, _STYLES[one.outcome]
        at = clock(rfc3339(record.at_s))
        why = f" ({escape(one.why)})" if one.why else ""
        said = f"{escape(record.kind)} by {escape(record.actor)}: {escape(record.reason)}"
        yield Line(f"{one.outcome:<14}  {at}  revision {record.revision}  {said}{why}", style)
        for place in one.differences:
            yield Line(
                f"    {escape(place.where)}: {escape(place.recorded)} recorded, {escape(place.replayed)} now", style
            )
    counts = Counter(one.outcome for one in found)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    yield Line(f"{len(found)} decisions: {told or 'nothing to replay'}", "bold")


def replay_body(one: Replayed) -> Body:
    """Return one decision's replay as an object."""
    record = one.record
    return {
        "at": rfc3339(record.at_s),
        "rollout": record.rollout,
        "revision": record.revision,
        "kind": record.kind,
        "outcome": str(one.outcome),
        "why": one.why,
        "differences": [
            {"where": place.where, "recorded": place.recorded, "replayed": place.replayed} for place in one.differences
        ],
    }
