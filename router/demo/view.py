"""The live view: one frame of at most 80 x 24 characters from what is known just now. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.text import Text

from router.demo.admin import Body
from router.demo.pairs import IN_FLIGHT, PairCounts, PairScores
from router.demo.plan import CANDIDATE, ROUTE, STABLE, Leg
from router.demo.tally import Snapshot
from router.demo.walk import Event, clock_of

BAR: Final = 60
"""Characters of a bar."""

WINDOW_S: Final = 5.0
"""Over how long rate and actual share are shown. Chosen: 750 requests, so a share of 10 % is good to a point or two."""

EVENTS: Final = 6
COLOURS: Final[Mapping[str, str]] = {STABLE: "cyan", CANDIDATE: "green"}


@dataclass(frozen=True, slots=True)
class Recent:
    """What happened within the last seconds: requests per second, and v2's part of the answers; None: no answers."""

    rate_per_s: float
    v2_share: float | None


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a frame shows. `rollout` is the admin API's body, None before it was read."""

    elapsed_s: float
    legs: Sequence[Leg]
    ends_s: Sequence[float]
    place: int
    rollout: Body | None
    snapshot: Snapshot
    recent: Recent
    counts: PairCounts
    scores: PairScores
    events: Sequence[Event]
    turnout: str


class Meter:
    """Makes Recent out of snapshots. An answer names the role that served; which variant that is, the caller knows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int, int]] = deque()
        self._revision: object = None

    def add(self, snapshot: Snapshot, rollout: Body | None) -> Recent:
        """Return what changed since the snapshot WINDOW_S ago, or since the rollout's last change of the split."""
        v2_role = "stable" if rollout and rollout["stable"] == CANDIDATE else "candidate"
        split = rollout["revision"] if rollout else None
        if split != self._revision:
            self._revision = split
            self._seen = deque((at_s, sent, -1, -1) for at_s, sent, _, _ in self._seen)
        served = snapshot.variants.get(v2_role)
        self._seen.append((snapshot.seconds, snapshot.sent, snapshot.answers, served.answers if served else 0))
        while self._seen[0][0] < snapshot.seconds - WINDOW_S:
            self._seen.popleft()
        return self._recent()

    def _recent(self) -> Recent:
        last_s, last_sent, last_answers, last_v2 = self._seen[-1]
        first_s, first_sent, _, _ = self._seen[0]
        _, _, answers, v2 = next(one for one in self._seen if one[2] >= 0)
        answered = last_answers - answers
        return Recent(
            rate_per_s=(last_sent - first_sent) / (last_s - first_s) if last_s > first_s else 0.0,
            v2_share=(last_v2 - v2) / answered if answered > 0 else None,
        )


def frame(scene: Scene) -> Group:
    """Return the lines of one frame."""
    return Group(
        *_head(scene),
        Text(),
        *_split(scene),
        Text(),
        *_numbers(scene),
        Text(),
        *_models(scene),
        Text(),
        *_events(scene),
        *_next(scene),
    )


def v2_share(rollout: Body | None) -> float:
    """Return the part of the live answers that v2 should give, 0..1."""
    if rollout is None:
        return 0.0
    weight: float = rollout["exposure"]["weight_bp"] / 10_000
    return 1.0 - weight if rollout["stable"] == CANDIDATE else weight


def _head(scene: Scene) -> Sequence[Text]:
    title = Text(" turnout demo", style="bold")
    title.append(f"   {ROUTE}: from v1 to v2", style="not bold")
    total_s = scene.ends_s[-1]
    clock = f"{clock_of(scene.elapsed_s)} of {clock_of(total_s)}" if scene.place < len(scene.legs) else "walk done"
    title.append(clock.rjust(79 - title.cell_len), style="not bold dim")
    here = scene.legs[min(scene.place, len(scene.legs) - 1)]
    return title, _ladder(scene), Text(f" {here.meaning}", style="dim")


def _ladder(scene: Scene) -> Text:
    ladder = Text()
    before = None
    for place, leg in enumerate(scene.legs):
        done, now = place < scene.place, place == scene.place
        glyph, colour = ("✔", "green") if done else ("●", "yellow") if now else ("·", "dim")
        ladder.append(f" {glyph} ", style=colour)
        # A policy is named once, after that only its weights: `canary 10%  25%  50%`.
        name = leg.name.split()[-1] if leg.to == before else leg.name
        ladder.append(name, style="bold" if now else "" if done else "dim")
        ladder.append(" ")
        before = leg.to
    return ladder


def _split(scene: Scene) -> Sequence[Text]:
    exposure = scene.rollout["exposure"] if scene.rollout else {"mirror_bp": 0}
    share = v2_share(scene.rollout)
    actual = scene.recent.v2_share
    told = Text.assemble(
        " " * 11,
        ("█ v1", COLOURS[STABLE]), f" {_shares(1.0 - share, None if actual is None else 1.0 - actual)}",
        " " * 4,
        ("▒ v2", COLOURS[CANDIDATE]), f" {_shares(share, actual)}",
    )  # fmt: skip
    mirror = exposure["mirror_bp"] / 10_000
    copies = round(mirror * BAR)
    return (
        Text.assemble(" answers   ", *_bar(share)),
        told,
        Text.assemble(
            " copies    ", ("■" * copies, "magenta"), ("·" * (BAR - copies), "dim"), f" {mirror:.0%}",
        ),
    )  # fmt: skip


def _bar(share: float) -> Sequence[tuple[str, str]]:
    v2 = round(share * BAR)
    return ("█" * (BAR - v2), COLOURS[STABLE]), ("▒" * v2, COLOURS[CANDIDATE])


def _shares(asked: float, actual: float | None) -> str:
    return f"set {asked:.0%}, actual {'-' if actual is None else f'{actual:.1%}'}"


def _numbers(scene: Scene) -> Sequence[Text]:
    snapshot, counts = scene.snapshot, scene.counts
    rate = f"{scene.recent.rate_per_s:.0f}"
    agreement = f"{scene.scores.agreement:.1%}" if scene.scores.pairs else "-"
    # What is under way is not missing yet; at the end it would be.
    missing = sum(count for reason, count in counts.missing.items() if reason != IN_FLIGHT)
    return (
        Text.assemble(
            f" requests {snapshot.sent:>8,}{rate:>11} a second", *_trouble("client errors", snapshot.client_errors)
        ),
        Text.assemble(
            f" pairs    {counts.both:>8,}{agreement:>11} agree   ",
            *_trouble("answers missing", missing),
        ),
    )


def _trouble(what: str, count: int) -> Sequence[str | tuple[str, str]]:
    return f"{what:>24}", (f"{count:>8,}", "bold red" if count else "green")


def _models(scene: Scene) -> Sequence[Text]:
    rows = [Text(f" {'models, on the pairs':<27}{'right':>8}{'p50':>13}{'p95':>13}", style="dim")]
    kinds = {STABLE: "logistic regression", CANDIDATE: "kernel model"}
    for name, role in ((STABLE, "stable"), (CANDIDATE, "candidate")):
        score = scene.scores.models[role]
        text = Text.assemble((f" {name}", COLOURS[name]), f"  {kinds[name]:<22}")
        if scene.scores.pairs:
            text.append(f"{score.accuracy:>8.1%}{score.p50_ms:>10.1f} ms{score.p95_ms:>10.1f} ms")
        rows.append(text)
    return rows


def _events(scene: Scene) -> Sequence[Text]:
    shown = list(scene.events)[-EVENTS:]
    lines = [Text(f" {clock_of(one.at_s)}  {one.name:<13}{one.text or one.meaning}"[:79]) for one in shown]
    return lines + [Text()] * (EVENTS - len(lines))  # the view keeps its height


def _next(scene: Scene) -> Sequence[Text]:
    stop = ("   stop: Ctrl-C", "dim")
    if scene.place < len(scene.legs):
        left_s = max(0.0, scene.ends_s[scene.place] - scene.elapsed_s)
        following = scene.legs[scene.place + 1].name if scene.place + 1 < len(scene.legs) else "the results"
        return Text(), Text.assemble((f" next: {following} in {left_s:.0f} s", "bold"), stop)
    return (
        Text.assemble((" all of it still runs; try from another terminal:", "bold"), stop),
        Text(f" {scene.turnout} pairs {ROUTE} --disagreements"),
    )
