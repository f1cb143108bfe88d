"""What `turnout explain` says, as lines for a person. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from router.cli.show import Body, Line, age, clock, gate_line, percent, phase_of, seconds_of
from router.telemetry.logs import escape


def explanation_lines(told: Body, now_s: float) -> list[Line]:
    """Return why a rollout stands where it stands and what would make it move; `now_s` is wall-clock time."""
    return list(_lines(told, now_s))


def _lines(told: Body, now_s: float) -> Iterator[Line]:
    phase, exposure = phase_of(told), told["exposure"]
    weight, mirror = percent(exposure["weight_bp"]), percent(exposure["mirror_bp"])
    step = f", step {told['step'] + 1} of {told['steps']}" if told["steps"] else ""
    yield Line(f"{escape(told['route'])}: {phase.text}{step}", phase.style)
    since = age(now_s - seconds_of(exposure["since"]))
    if told["candidate"]:
        yield Line(f"{_text(told, 'candidate')} serves {weight} and {mirror} are copied, for {since} now")
        yield Line(f"{_text(told, 'stable')} serves {percent(10_000 - exposure['weight_bp'])}")
    else:
        yield Line(f"{_text(told, 'stable')} serves everything; there was no rollout yet")
    yield from _part(f"why {weight}", [_change(one) for one in told["changes"]])
    yield from _part("what the judge says", _judged(told["judgement"]) if told["rollout"] else ())
    waits = [Line(f"  {_text(told, 'waits_for')}", "yellow")] if told["waits_for"] else []
    yield from _part("what it waits for", waits)
    if told["next"]:
        yield from _part(
            "what happens next", [Line(f"  {_text(told['next'], 'kind')}: {_text(told['next'], 'reason')}")]
        )
    yield from _part("what it needs to move by itself", _sentences(told["missing"]))
    yield from _part("what ends the waiting", _sentences(told["limits"]))
    yield from _part("what an operator can do", _sentences([", ".join(told["operator"])] if told["operator"] else []))
    if told["limits"] and not told["decides"]:
        yield Line("")
        yield Line("another control process decides; how long there was no evidence is known to that one alone", "dim")


def _part(title: str, lines: Iterable[Line]) -> Iterator[Line]:
    """Yield a part with its title, nothing where it has no lines."""
    found = list(lines)
    if found:
        yield Line("")
        yield Line(title, "bold")
        yield from found


def _change(change: Body) -> Line:
    shares = f"weight {percent(change['weight_bp'])}, mirror {percent(change['mirror_bp'])}"
    return Line(f"  {clock(change['at'])}  {shares}: {_text(change, 'kind')} by {_text(change, 'actor')}: "
                f"{_text(change, 'reason')}")  # fmt: skip


def _judged(judgement: Body) -> Iterator[Line]:
    if judgement["gates"]:
        yield from (gate_line(gate) for gate in judgement["gates"])
    else:
        yield Line(f"  {escape(judgement['invalid'] or judgement['reason'])}")


def _sentences(sentences: Sequence[str]) -> Iterator[Line]:
    return (Line(f"  {escape(one)}") for one in sentences)


def _text(body: Body, name: str) -> str:
    return escape(str(body[name]))
