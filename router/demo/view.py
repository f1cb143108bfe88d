"""The live view: one frame of at most 80 x 23 characters from what is known just now. Pure."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.text import Text

from router.demo.admin import Body
from router.demo.events import Event, clock_of, level_of, percent
from router.demo.gate_rows import gate_rows
from router.demo.pairs import IN_FLIGHT, PairCounts
from router.demo.plan import Act
from router.demo.tally import Snapshot

WIDTH: Final = 79
BAR: Final = 60
"""Characters of a bar."""

WINDOW_S: Final = 5.0
"""Over how long rate and actual share are shown. Chosen: 1,000 requests, so a share of 10 % is good to a point."""

EVENTS: Final = 4
BODY: Final = 12
"""Lines of the lower half: gates, events and what is waited for; at the end, the results."""

COLOURS: Final[Mapping[str, str]] = {"v1": "cyan", "v2": "green", "v3": "magenta"}
KINDS: Final[Mapping[str, str]] = {"v1": "logistic regression", "v2": "kernel model", "v3": "kernel model, damaged"}


@dataclass(frozen=True, slots=True)
class Recent:
    """What happened within the last seconds: requests per second, and the candidate's part; None: no answers."""

    rate_per_s: float
    candidate_share: float | None


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a frame shows. `rollout` is the admin API's body, None before it was read.

    `gates` are the lines of a judgement, `waits_for` says why the rollout does not move; `results` are the lines of the
    summary once the play is over.
    """

    elapsed_s: float
    limit_s: float
    act: Act
    rollout: Body | None
    gates: Sequence[Body]
    waits_for: str
    snapshot: Snapshot
    recent: Recent
    counts: PairCounts
    labels: int
    events: Sequence[Event]
    results: Sequence[tuple[str, str]]
    turnout: str


class Meter:
    """Makes Recent out of snapshots."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int, int]] = deque()
        self._revision: object = None

    def add(self, snapshot: Snapshot, rollout: Body | None) -> Recent:
        """Return what changed since the snapshot WINDOW_S ago, or since the rollout's last change of the split."""
        split = rollout["revision"] if rollout else None
        if split != self._revision:
            self._revision = split
            self._seen = deque((at_s, sent, -1, -1) for at_s, sent, _, _ in self._seen)
        served = snapshot.variants.get("candidate")
        self._seen.append((snapshot.seconds, snapshot.sent, snapshot.answers, served.answers if served else 0))
        while self._seen[0][0] < snapshot.seconds - WINDOW_S:
            self._seen.popleft()
        return self._recent()

    def _recent(self) -> Recent:
        last_s, last_sent, last_answers, last_candidate = self._seen[-1]
        first_s, first_sent, _, _ = self._seen[0]
        _, _, answers, candidate = next(one for one in self._seen if one[2] >= 0)
        answered = last_answers - answers
        return Recent(
            rate_per_s=(last_sent - first_sent) / (last_s - first_s) if last_s > first_s else 0.0,
            candidate_share=(last_candidate - candidate) / answered if answered > 0 else None,
        )


def frame(scene: Scene) -> Group:
    """Return the lines of one frame."""
    lower = _results(scene) if scene.results else _under_way(scene)
    return Group(
        *_head(scene),
        Text(),
        *_split(scene),
        Text(),
        *_numbers(scene),
        Text(),
        *lower,
        *[Text()] * (BODY - len(lower)),  # the view keeps its height
    )


def _head(scene: Scene) -> Sequence[Text]:
    title = Text(" turnout demo", style="bold")
    title.append(f"   {scene.act.name}: {scene.act.title}", style="not bold")
    clock = f"{clock_of(scene.elapsed_s)} of {clock_of(scene.limit_s)}" if not scene.results else "done"
    title.append(clock.rjust(WIDTH - title.cell_len), style="not bold dim")
    return title, _ladder(scene), Text(f" {_meaning(scene.rollout)}", style="dim")


def _ladder(scene: Scene) -> Text:
    """Show the steps of the plan, the one that is taken, and how it ended."""
    ladder, rollout = Text(), scene.rollout
    if rollout is None or rollout["candidate"] != scene.act.candidate:
        return Text(" · the rollout is about to start", style="dim")
    phase, here = rollout["phase"], rollout["step"]
    moving = phase in ("progressing", "paused")
    for place, step in enumerate(rollout["steps"]):
        done = place < here or phase == "promoted"
        glyph, colour = ("✔", "green") if done else ("●", "yellow") if place == here else ("·", "dim")
        if place == here and not moving and not done:
            glyph, colour = "✖", "red"
        ladder.append(f" {glyph} ", style=colour)
        ladder.append(level_of(step["weight_bp"]), style="bold" if place == here and moving else "")
        ladder.append(" ")
    glyph, word, colour = _ENDS.get(phase, ("·", "promoted", "dim"))
    ladder.append(f" {glyph} {word}", style=colour)
    return ladder


_ENDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "promoted": ("✔", "promoted", "bold green"),
    "rolled_back": ("✖", "rolled back", "bold red"),
    "paused": ("॥", "paused", "bold yellow"),
}


def _meaning(rollout: Body | None) -> str:
    """Say what happens to requests just now."""
    if rollout is None or not rollout["candidate"]:
        return "v1 answers everybody"
    stable, candidate, exposure = rollout["stable"], rollout["candidate"], rollout["exposure"]
    weight_bp, mirror_bp = exposure["weight_bp"], exposure["mirror_bp"]
    served = f"{candidate} answers {percent(weight_bp)} of the users" if weight_bp else f"{stable} answers everybody"
    if not mirror_bp:
        return served
    who = "the one that did not answer" if weight_bp else candidate
    return f"{served}, {who} gets a copy of {percent(mirror_bp)}"


def _split(scene: Scene) -> Sequence[Text]:
    rollout = scene.rollout
    stable, candidate = (rollout["stable"], rollout["candidate"]) if rollout else ("v1", "")
    exposure = rollout["exposure"] if rollout else {"weight_bp": 0, "mirror_bp": 0}
    weight, mirror = exposure["weight_bp"] / 10_000, exposure["mirror_bp"] / 10_000
    actual = scene.recent.candidate_share
    told = Text(" " * 11).append(f"█ {stable}", style=COLOURS[stable])
    told.append(f" {_shares(1.0 - weight, None if actual is None else 1.0 - actual)}")
    if candidate and candidate != stable:
        told.append("    ").append(f"▒ {candidate}", style=COLOURS[candidate]).append(f" {_shares(weight, actual)}")
    served, copies = round(weight * BAR), round(mirror * BAR)
    return (
        Text.assemble(
            " answers   ", ("█" * (BAR - served), COLOURS[stable]), ("▒" * served, COLOURS.get(candidate, ""))
        ),
        told,
        Text.assemble(" copies    ", ("■" * copies, "blue"), ("·" * (BAR - copies), "dim"), f" {mirror:.0%}"),
    )


def _shares(asked: float, actual: float | None) -> str:
    return f"set {asked:.0%}, actual {'-' if actual is None else f'{actual:.1%}'}"


def _numbers(scene: Scene) -> Sequence[Text]:
    snapshot, counts = scene.snapshot, scene.counts
    # What is under way is not missing yet; at the end it would be.
    missing = sum(count for reason, count in counts.missing.items() if reason != IN_FLIGHT)
    rescued = f"{snapshot.rescued:>7,} rescued" if snapshot.rescued else " " * 15
    rate = f"{scene.recent.rate_per_s:>8.0f} a second"
    labels = f"{scene.labels:>8,} labels sent "
    return (
        Text(f" requests {snapshot.sent:>8,}{rate}{rescued}").append(_trouble("client errors", snapshot.client_errors)),
        Text(f" pairs    {counts.both:>8,}{labels:<33}").append(_trouble("answers missing", missing)),
    )


def _trouble(what: str, count: int) -> Text:
    return Text(f"{what:>19}").append(f"{count:>8,}", style="bold red" if count else "green")


def _under_way(scene: Scene) -> Sequence[Text]:
    shown = [_line(f" {clock_of(one.at_s)}  {one.name:<12} {one.text}") for one in list(scene.events)[-EVENTS:]]
    rows = [*gate_rows(scene.gates), *shown]
    hint = "   stop: Ctrl-C"
    last = Text(
        textwrap.shorten(f" next: {scene.waits_for or 'the first look'}", WIDTH - len(hint), placeholder=" ..."),
        style="bold",
    )
    return [*rows, *[Text()] * (BODY - 1 - len(rows)), Text(" ") + last.append(hint, style="not bold dim")]


def _results(scene: Scene) -> Sequence[Text]:
    """Show the summary, and what to try now."""
    room = BODY - 2
    lines: list[Text] = []
    for name, told in scene.results:
        wrapped = textwrap.wrap(told, WIDTH - 12, max_lines=3, placeholder=" ...")
        lines += [Text(f" {name if not number else '':<10} {one}") for number, one in enumerate(wrapped)]
    lines = [*lines[: room - 1], lines[-1]] if len(lines) > room else lines
    return [
        *lines,
        *[Text()] * (room - len(lines)),
        Text.assemble((" all of it still runs; try from another terminal:", "bold"), ("   stop: Ctrl-C", "dim")),
        Text(f" {scene.turnout} decisions digits"),
    ]


def _line(text: str) -> Text:
    return Text(text if len(text) <= WIDTH else f"{text[: WIDTH - 4]} ...")
