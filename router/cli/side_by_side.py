"""One pair as two columns, stable beside candidate; what differs is marked. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from router.cli.show import SENTENCE_CHARS, Body, Line, clock, cut, sameness, slices_of
from router.telemetry.logs import escape

PLACES = 100
"""Most places of a payload that are shown. Chosen: some screens; `-o json` shows all."""

NAME_CHARS, VALUE_CHARS = 48, 64
"""Longest name and value in a row. Chosen: what Turnout keeps of a label."""

Rows: TypeAlias = list[tuple[str, str, str]]

_MARK = "≠"
_MISSING = "-"


def pair_lines(pair: Body) -> Iterator[Line]:
    """Yield the request, how the answers compare, then both answers, and both payloads if there are any."""
    comparison = pair["comparison"]
    yield _field("Request", pair["request_id"])
    yield _field("Pair", pair["pair_id"])
    yield _field("At", f"{clock(pair['assigned_at'])}, rollout {pair['rollout']}, exposure {pair['exposure']}")
    yield _field("Served", pair["served"])
    yield _field("Slices", slices_of(pair))
    distance = "" if comparison["distance"] is None else f", distance {comparison['distance']:.6g}"
    said = f"{cut(sameness(comparison), SENTENCE_CHARS)}{distance}"
    style = {True: "green", False: "red"}.get(comparison["same"], "yellow")
    yield Line(_field("Same", said).text, style)
    yield _field("Comparator", comparison["comparator"])
    yield Line("")
    payload = pair.get("payload")
    answers = list(zip(_side(pair["stable"]), _side(pair["candidate"]), strict=True))
    rows = [(name, here, there) for (name, here), (_, there) in answers]
    places, left_out = _payload_rows(payload) if payload else ([], 0)
    yield from _columns(rows, places)
    if payload:
        more = f"; {left_out} more that differ: -o json shows them" if left_out else ""
        yield Line("")
        yield Line(f"answers: {len(places)} kept places differ{more}")
        yield _field("Sent", json.dumps(payload["request"], ensure_ascii=False))


def _side(side: Body) -> Iterator[tuple[str, str]]:
    prediction = side["prediction"]
    yield "outcome", str(side["outcome"])
    yield "status", str(side["status"] or _MISSING)
    yield "latency", f"{side['latency_ms']:.1f} ms"
    yield "bytes", f"{side['bytes']:,}"
    yield "digest", side["digest"] or _MISSING
    yield "label", _MISSING if prediction["label"] is None else str(prediction["label"])
    yield "score", _MISSING if prediction["score"] is None else f"{prediction['score']:.6g}"


def _columns(rows: Rows, places: Rows) -> Iterator[Line]:
    """Yield the rows under a heading, those of the payload behind the others; times always differ, and say nothing."""
    cells = [
        tuple(escape(cut(cell, chars)) for cell, chars in zip(row, (NAME_CHARS, VALUE_CHARS, VALUE_CHARS), strict=True))
        for row in [("", "stable", "candidate"), *rows, *places]
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(2)]
    differ = [False, *(here != there and name != "latency" for name, here, there in rows), *(True for _ in places)]
    for number, (row, differs) in enumerate(zip(cells, differ, strict=True)):
        name, here, there = row
        text = f"{_MARK if differs else ' '} {name:<{widths[0]}}  {here:<{widths[1]}}  {there}".rstrip()
        yield Line(text, "bold" if number == 0 else "red" if differs else "")


def _payload_rows(payload: Mapping[str, object]) -> tuple[Rows, int]:
    """Return the places in which both answers' payloads differ, and how many more there are."""
    stable, candidate = (dict(_leaves(payload[role])) for role in ("stable", "candidate"))
    names = [*stable, *(name for name in candidate if name not in stable)]
    differ = [name for name in names if stable.get(name) != candidate.get(name)]
    rows = [(name, stable.get(name, _MISSING), candidate.get(name, _MISSING)) for name in differ[:PLACES]]
    return rows, len(differ) - len(rows)


def _leaves(value: object) -> Iterator[tuple[str, str]]:
    """Yield path and JSON of each value that is no object or list with something in it, in the order of the document.

    Not by recursion: the answer may be hostile.
    """
    left = [("$", value)]
    while left:
        path, found = left.pop()
        if isinstance(found, dict) and found:
            left += [(f"{path}{_step(name)}", one) for name, one in reversed(found.items())]
        elif isinstance(found, list) and found:
            left += [(f"{path}[{index}]", one) for index, one in reversed(list(enumerate(found)))]
        else:
            yield path, json.dumps(found, ensure_ascii=False)


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name, ensure_ascii=False)}]"


def _field(name: str, value: object) -> Line:
    return Line(f"{name + ':':<12} {escape(cut(value, 2 * SENTENCE_CHARS))}")
