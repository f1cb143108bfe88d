"""What the API says, as lines for a person. Pure: bodies and the time in, lines with a style out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from router.telemetry.logs import escape

Body: TypeAlias = Mapping[str, Any]

_GLYPHS = {
    "idle": ("·", "dim"),
    "progressing": ("◌", "cyan"),
    "paused": ("॥", "yellow"),
    "promoted": ("✔", "green"),
    "rolled_back": ("✖", "red"),
}
"""As in `kubectl argo rollouts get`: progressing, paused, healthy, degraded."""

_WORDS = {"rolled_back": "RolledBack"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output; `style` is one of rich's words, empty for plain."""

    text: str
    style: str = ""


def phase_of(rollout: Body) -> Line:
    """Return glyph and name of the phase."""
    phase = str(rollout["phase"])
    glyph, style = _GLYPHS.get(phase, ("?", "magenta"))
    return Line(f"{glyph} {_WORDS.get(phase, escape(phase).capitalize())}", style)


def percent(basis_points: float) -> str:
    """Return a share as it is written in the configuration: `12.5%`."""
    return f"{basis_points / 100:.2f}".rstrip("0").rstrip(".") + "%"


def status_line(rollout: Body) -> Line:
    """Return everything about a rollout that fits into one line."""
    phase = phase_of(rollout)
    step = f"  step {_step(rollout)}" if rollout["steps"] else ""
    exposure = rollout["exposure"]
    shares = f"weight {percent(exposure['weight_bp'])}  mirror {percent(exposure['mirror_bp'])}"
    return Line(f"{escape(rollout['route'])}: {phase.text}{step}  {shares}  {escape(rollout['reason'])}", phase.style)


def rollout_tree(route: Body, now_s: float) -> list[Line]:
    """Return the header block and, under it, the tree of variants and gateways; `now_s` is wall-clock time."""
    rollout = route["rollout"]
    return [*_header(route, rollout, now_s), Line(""), *_tree(route, rollout, now_s)]


def essence(rollout: Body) -> tuple[object, ...]:
    """Return what about a rollout is worth another line where lines stay: not the time, not every request."""
    replicas = tuple((one["id"], one["revision"]) for one in rollout["replicas"])
    return rollout["id"], rollout["revision"], rollout["phase"], rollout["reason"], replicas


def route_table(routes: Sequence[Body]) -> list[Line]:
    """Return one line for each Route under a heading."""
    rows = [
        (
            route["name"], phase_of(route).text, route["stable"], route["candidate"] or "-", route["policy"] or "-",
            percent(route["weight_bp"]), percent(route["mirror_bp"]), route["adapter"],
        )
        for route in routes
    ]  # fmt: skip
    return _table(("ROUTE", "STATUS", "STABLE", "CANDIDATE", "POLICY", "WEIGHT", "MIRROR", "ADAPTER"), rows)


def decision_table(decisions: Sequence[Body]) -> list[Line]:
    """Return the ledger, one line for each decision."""
    rows = [
        (
            clock(one["at"]), one["kind"], _change(one["phase_before"], one["phase_after"]),
            _change(percent(one["weight_bp_before"]), percent(one["weight_bp_after"])),
            _change(percent(one["mirror_bp_before"]), percent(one["mirror_bp_after"])),
            one["actor"], one["reason"],
        )
        for one in decisions
    ]  # fmt: skip
    return _table(("TIME", "DECISION", "PHASE", "WEIGHT", "MIRROR", "ACTOR", "REASON"), rows)


def pair_table(pairs: Sequence[Body]) -> list[Line]:
    """Return one line for each pair: both answers, and whether they are the same."""
    sliced = any(one["slices"] for one in pairs)
    rows = [
        (
            clock(one["assigned_at"]), cut(one["request_id"]), one["served"],
            *([cut(slices_of(one))] if sliced else []),
            cut(_side(one["stable"])), cut(_side(one["candidate"])), _distance(one["comparison"]),
            cut(sameness(one["comparison"]), SENTENCE_CHARS),
        )
        for one in pairs
    ]  # fmt: skip
    head = ("TIME", "REQUEST", "SERVED", *(["SLICES"] if sliced else []), "STABLE", "CANDIDATE", "DISTANCE", "SAME")
    return _table(head, rows)


CELL_CHARS, SENTENCE_CHARS = 64, 256
"""Longest text of a cell, and of a sentence in the last one. Chosen: what Turnout keeps of a label, and of a reason."""


def cut(text: object, chars: int = CELL_CHARS) -> str:
    """Return a text of at most so many characters; a longer one ends in a sign that it was cut."""
    shown = str(text)
    return shown if len(shown) <= chars else f"{shown[: chars - 1]}…"


def slices_of(pair: Body) -> str:
    """Return the slices of a pair: `tenant=acme region=eu`, or a dash."""
    return " ".join(f"{name}={value}" for name, value in pair["slices"].items()) or "-"


def _distance(comparison: Body) -> str:
    return "-" if comparison["distance"] is None else f"{comparison['distance']:.4g}"


def age(seconds: float) -> str:
    """Return a duration in its one or two largest units: `45s`, `3m20s`, `2h5m`, `3d4h`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def _header(route: Body, rollout: Body, now_s: float) -> Iterator[Line]:
    exposure, phase, counts = rollout["exposure"], phase_of(rollout), rollout["judgement"]["counts"]
    yield _field("Name", rollout["route"])
    yield Line(_field("Status", phase.text).text, phase.style)
    yield _field("Message", rollout["reason"])
    if rollout.get("halted"):
        yield Line(_field("Halted", "by a breaker; `turnout resume` goes on with this step's weight").text, "yellow")
    yield _field("Policy", rollout["policy"] or "-")
    if rollout["steps"]:
        yield _field("Step", _step(rollout))
    yield _field("SetWeight", percent(exposure["weight_bp"]))
    served = counts["requests_stable"] + counts["requests_candidate"]
    if served:
        yield _field("ActualWeight", f"{percent(10_000 * counts['requests_candidate'] / served)} of {served} requests")
    yield _field("Mirror", f"{percent(exposure['mirror_bp'])}, {counts['pairs']} pairs")
    yield _field("Stable", rollout["stable"])
    yield _field("Candidate", rollout["candidate"] or "-")
    yield _field("Since", age(now_s - seconds_of(exposure["since"])))
    if rollout["waits_for"]:
        yield _field("WaitsFor", rollout["waits_for"])
    yield _field("Judgement", rollout["judgement"]["invalid"] or rollout["judgement"]["reason"])
    for gate in rollout["judgement"]["gates"]:
        yield gate_line(gate)
    if rollout.get("slices"):
        free = f" (places free: {rollout['free_places']})" if rollout["free_places"] else ""
        yield _field("Slices", ", ".join(rollout["slices"]) + free)
    if route["pending"]:
        pending = route["pending"]
        yield Line(_field("Pending", f"{pending['candidate']} by {pending['policy']}: {pending['why']}").text, "yellow")
    if route["drift"]:
        yield Line(_field("Drift", route["drift"]).text, "yellow")


def _tree(route: Body, rollout: Body, now_s: float) -> Iterator[Line]:
    yield Line(escape(rollout["route"]))
    weight_bp = rollout["exposure"]["weight_bp"]
    branches: list[tuple[Line, list[Line]]] = []
    for variant in route["variants"]:
        role, share, style = _role_of(variant["name"], rollout, weight_bp)
        urls = [Line(escape(url)) for url in variant["urls"]]
        named = [f"  {field} {escape(variant[field])}" for field in ("model", "version", "path") if variant[field]]
        branches.append((Line(f"{escape(variant['name'])}  {role}{share}{''.join(named)}", style), urls))
    branches.append((Line("gateways"), [_replica(one, rollout, now_s) for one in rollout["replicas"]]))
    for number, (head, leaves) in enumerate(branches, 1):
        last = number == len(branches)
        yield Line(f"{'└──' if last else '├──'} {head.text}", head.style)
        for index, leaf in enumerate(leaves, 1):
            trunk, twig = "   " if last else "│  ", "└──" if index == len(leaves) else "├──"
            yield Line(f"{trunk} {twig} {leaf.text}", leaf.style)


def _role_of(name: str, rollout: Body, weight_bp: int) -> tuple[str, str, str]:
    if name == rollout["stable"]:
        return "stable", f"  {percent(10_000 - weight_bp)}", "green"
    if name == rollout["candidate"]:
        return "candidate", f"  {percent(weight_bp)}", "cyan"
    return "unused", "", "dim"


def _replica(replica: Body, rollout: Body, now_s: float) -> Line:
    current = replica["revision"] == rollout["revision"] or rollout["revision"] == 0
    heard = age(now_s - seconds_of(replica["seen"]))
    where = f"{escape(replica['host'])} pid {replica['pid']}"
    text = (
        f"{'✔' if current else '◌'} {escape(replica['id'])}  {where}  revision {replica['revision']}  heard {heard} ago"
    )
    return Line(text, "" if current else "yellow")


_VERDICTS = {"pass": ("✔", "green"), "fail": ("✖", "red"), "error": ("⚠", "yellow")}


def gate_line(gate: Body) -> Line:
    """Return what one gate says, with the sign of its verdict."""
    glyph, style = _VERDICTS.get(gate["verdict"], ("◌", ""))
    aside = " (dry run)" if not gate["enforced"] else "" if gate.get("proves", True) else " (looks for harm only)"
    return Line(f"  {glyph} {escape(gate['sentence'])}{aside}", style)


def _step(rollout: Body) -> str:
    return f"{rollout['step'] + 1}/{len(rollout['steps'])}"


def _field(name: str, value: object) -> Line:
    return Line(f"{name + ':':<14} {escape(str(value))}")


def _table(head: tuple[str, ...], rows: Iterable[Sequence[object]]) -> list[Line]:
    cells = [head, *([escape(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [Line(lines[0], "bold"), *map(Line, lines[1:])]


def _change(before: str, after: str) -> str:
    return after if before == after else f"{before} -> {after}"


def _side(side: Body) -> str:
    prediction = side.get("prediction") or {}
    label = prediction.get("label")
    shown = f" {label}" if label is not None else ""
    first_ms = (side.get("generation") or {}).get("first_token_ms")
    first = f" (first token {first_ms:.1f}ms)" if first_ms is not None else ""
    return f"{side['outcome']} {side['status']} {side['latency_ms']:.1f}ms{first}{shown}"


def sameness(comparison: Body) -> str:
    """Return whether two answers are the same, or why nobody knows."""
    if comparison["same"] is None:
        return f"not compared: {comparison['reason']}"
    return "yes" if comparison["same"] else f"NO {comparison['reason']}".rstrip()


def clock(at: str) -> str:
    """Return a time of the API in local time, to the millisecond."""
    return datetime.fromisoformat(at).astimezone().strftime("%m-%d %H:%M:%S.%f")[:-3]


def seconds_of(at: str) -> float:
    """Return a time of the API as a wall-clock second."""
    return datetime.fromisoformat(at).timestamp()
