"""What a run leaves behind: one HTML file that needs nothing else, and all figures as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from math import log10
from pathlib import Path

from loadtests.compare.open_loop import percentile
from loadtests.under_load.limits import Finding
from loadtests.under_load.options import Options
from loadtests.under_load.scenario import Scenario
from loadtests.under_load.timeline import (
    DIRECT,
    FIRST,
    OPEN,
    OPEN_DIRECT,
    STREAM,
    TURNOUT,
    Answer,
    Event,
    Timeline,
    by_bucket,
)

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1_000, 190, 60, 10, 24, 20
BUCKETS = 120
"""Points on the axis. Chosen: eight pixels each."""
COLOURS = {
    TURNOUT: "#0b62a4",
    DIRECT: "#8a8a8a",
    OPEN: "#c03028",
    OPEN_DIRECT: "#d9a441",
    STREAM: "#3a8f3a",
    FIRST: "#7b5aa6",
}
SLOWEST = 20
FLOOR_MS, CEILING_MS = 0.3, 10_000.0

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; max-width: 1040px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100%; margin: 1em 0 } th, td { text-align: left; padding: 3px 10px 3px 0;
border-bottom: 1px solid #ddd; vertical-align: top } .ok { color: #2a7a2a } .missed { color: #b00020; font-weight: 600 }
svg { width: 100%; height: auto; display: block } text { font: 11px system-ui, sans-serif; fill: #444 }
.axis { stroke: #ccc } .event { stroke: #777; stroke-dasharray: 3 3 } .fault { fill: #c03028; opacity: 0.08 }
"""

Across = Callable[[float], float]


def write(options: Options, scenario: Scenario, seen: Timeline, found: Sequence[Finding]) -> None:
    """Write the report, and the figures if a file was named for them."""
    Path(options.report).write_text(as_html(options, scenario, seen, found), encoding="utf-8")
    if options.json:
        Path(options.json).write_text(as_json(options, seen, found), encoding="utf-8")


def as_json(options: Options, seen: Timeline, found: Sequence[Finding]) -> str:
    """Return options, findings, events, and for each source its figures over the whole run."""
    sources = {}
    for source in COLOURS:
        if ordered := seen.latencies(source):
            shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
            sources[source] = {
                "requests": len(ordered),
                "failures": dict(seen.failures([source])),
                **{name: percentile(ordered, share) for name, share in shares.items()},
            }
    return json.dumps(
        {
            "v": 1,
            "passed": all(one.passed for one in found),
            "options": asdict(options),
            "findings": [asdict(one) for one in found],
            "sources": sources,
            "slowest": [asdict(one) for one in sorted(seen.answers, key=lambda one: -one.latency_ms)[:SLOWEST]],
            "events": [asdict(one) for one in _in_order(seen.events)],
            "stands": [asdict(one) for one in seen.stands],
        }
    )


def as_html(options: Options, scenario: Scenario, seen: Timeline, found: Sequence[Finding]) -> str:
    """Return the page: limits, then latency, split and rate on one axis of seconds, then what happened on it."""
    events = _in_order(seen.events)
    passed = all(one.passed for one in found)
    title = f"{options.scenario}: {'all limits held' if passed else 'limits missed'}"
    limits = "".join(
        f"<tr><td class={'ok' if one.passed else 'missed'}>{'held' if one.passed else 'missed'}</td>"
        f"<td>{escape(one.what)}</td><td>{escape(one.measured)}</td><td>{escape(one.limit)}</td></tr>"
        for one in found
    )
    happened = "".join(
        f"<tr><td>{number}</td><td>{one.second:.1f} s</td><td>{escape(one.what)}</td><td>{escape(one.text)}</td></tr>"
        for number, one in enumerate(events, 1)
    )
    charts = "".join(
        f"<figure>{_chart(name, body, seen, events)}</figure>"
        for name, body in (
            ("p99 of each second, ms (thin: median)", _latency(seen)),
            ("the candidate's share, %: as decided (line), and of the answers (dots)", _split(seen)),
            ("requests a second; red: failed", _rate(seen)),
        )
    )
    legend = " ".join(f'<span style="color:{colour}">&#9632; {escape(name)}</span>' for name, colour in COLOURS.items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>
<h1>{escape(title)}</h1>
<p>{escape(scenario.says)}.</p>
<p>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, up to {options.users} users for {options.minutes:g} minutes, open loops at
{options.rate_s:g} requests a second each{"" if options.protected else "; <b>without what protects</b>"}.
What each number means: loadtests/README.md.</p>
<table><tr><th></th><th>limit on</th><th>measured</th><th>limit</th></tr>{limits}</table>
<p>{legend}</p>{charts}
<table><tr><th></th><th>at</th><th>what</th><th>why</th></tr>{happened}</table></html>
"""


def _in_order(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda one: one.second)


def _x(seen: Timeline) -> Across:
    return lambda second: LEFT + (WIDTH - LEFT - RIGHT) * min(max(second / seen.seconds, 0.0), 1.0)


def _y(share: float) -> float:
    """Return where a share (0..1) of the height lies."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0)


def _chart(name: str, body: str, seen: Timeline, events: Sequence[Event]) -> str:
    """Return one picture: all of them have the same axis and the same numbered lines."""
    x = _x(seen)
    lines = []
    if seen.fault_s:
        began, ended = map(x, seen.fault_s)
        lines.append(
            f'<rect class="fault" x="{began:.1f}" y="{TOP}" width="{ended - began:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>'
        )
    for number, one in enumerate(events, 1):
        at = x(one.second)
        lines.append(f'<line class="event" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        lines.append(f'<text x="{at + 2:.1f}" y="{TOP + 9}">{number}</text>')
    ticks = "".join(
        f'<text x="{x(seen.seconds * part / 6):.1f}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{seen.seconds * part / 6:.0f} s</text>"
        for part in range(7)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        f'<text x="{LEFT}" y="14">{escape(name)}</text>{"".join(lines)}{body}{ticks}</svg>'
    )


def _grid(marks: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(share):.1f}" y2="{_y(share):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{label}</text>'
        for share, label in marks
    )


def _width_s(seen: Timeline) -> float:
    return max(1.0, seen.seconds / BUCKETS)


def _latency(seen: Timeline) -> str:
    def height(latency_ms: float) -> float:
        return log10(max(latency_ms, FLOOR_MS) / FLOOR_MS) / log10(CEILING_MS / FLOOR_MS)

    drawn = [_grid([(height(mark), f"{mark:g}") for mark in (1, 10, 100, 1_000, 10_000)])]
    for source, colour in COLOURS.items():
        buckets = by_bucket([one for one in seen.answers if one.source == source], _width_s(seen))
        for share, thick in ((0.99, 1.8), (0.5, 0.6)):
            points = [
                (bucket, height(percentile(sorted(one.latency_ms for one in answers), share)))
                for bucket, answers in sorted(buckets.items())
            ]
            drawn.append(_line(points, seen, colour, thick))
    return "".join(drawn)


def _split(seen: Timeline) -> str:
    x = _x(seen)
    drawn = [_grid([(part / 4, f"{25 * part}") for part in range(5)])]
    for route in seen.last_stands():
        path, before = "", 0.0
        for one in (one for one in seen.stands if one.route == route):
            weight = one.weight_bp / 10_000
            path += f"{'L' if path else 'M'}{x(one.second):.1f},{_y(before):.1f}L{x(one.second):.1f},{_y(weight):.1f}"
            before = weight
        drawn.append(f'<path d="{path}" fill="none" stroke="{COLOURS[TURNOUT]}" stroke-width="1.8"/>')
    told = [one for one in seen.answers if one.source == TURNOUT and one.side]
    for bucket, answers in by_bucket(told, _width_s(seen)).items():
        share = sum(one.side == "candidate" for one in answers) / len(answers)
        at = x((bucket + 0.5) * _width_s(seen))
        drawn.append(f'<circle cx="{at:.1f}" cy="{_y(share):.1f}" r="2.2" fill="{COLOURS[OPEN]}"/>')
    return "".join(drawn)


def _rate(seen: Timeline) -> str:
    width_s = _width_s(seen)
    buckets = {source: by_bucket([one for one in seen.answers if one.source == source], width_s) for source in COLOURS}
    most = max((len(answers) for found in buckets.values() for answers in found.values()), default=1) / width_s
    drawn = [_grid([(0.0, "0"), (1.0, f"{most:.0f}")])]
    for source, found in buckets.items():
        drawn.append(
            _line(
                [(bucket, len(answers) / width_s / most) for bucket, answers in sorted(found.items())],
                seen, COLOURS[source], 1.4,
            )
        )  # fmt: skip
    failed: list[Answer] = [one for one in seen.answers if one.failed]
    for bucket, answers in by_bucket(failed, width_s).items():
        at, top = _x(seen)((bucket + 0.5) * width_s), _y(len(answers) / width_s / most)
        drawn.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_y(0):.1f}" y2="{min(top, _y(0) - 3):.1f}" '
            'stroke="#b00020" stroke-width="4"/>'
        )
    return "".join(drawn)


def _line(points: Sequence[tuple[int, float]], seen: Timeline, colour: str, thick: float) -> str:
    x, width_s = _x(seen), _width_s(seen)
    path = " ".join(f"{x((bucket + 0.5) * width_s):.1f},{_y(share):.1f}" for bucket, share in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'
