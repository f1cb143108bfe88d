"""The live view: what a frame says, and that it fits an 80 x 24 terminal with and without colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from types import MappingProxyType

import pytest
from rich.console import Console

from router.demo.pairs import ModelScore, PairCounts, PairScores
from router.demo.plan import LEGS, leg_ends_s
from router.demo.tally import Latency, Snapshot, VariantTally
from router.demo.view import Meter, Recent, Scene, frame, v2_share
from router.demo.walk import Event

NO_LATENCY = Latency(0.0, 0.0, 0.0, 0.0)


def snapshot_of(seconds: float, sent: int, errors: int = 0, **answers: int) -> Snapshot:
    """Return a snapshot with so many answers of each role."""
    variants = {role: VariantTally(count, count, NO_LATENCY) for role, count in answers.items()}
    return Snapshot(
        seconds=seconds, sent=sent, answers=sum(answers.values()), client_errors=errors, in_flight=0, skipped=0,
        errors={"status_503": errors} if errors else {}, variants=MappingProxyType(variants), phases=(),
    )  # fmt: skip


def rollout_of(weight_bp: int, mirror_bp: int, *, stable: str = "v1", revision: int = 3) -> Mapping[str, object]:
    """Return as much of the admin API's body as a frame reads."""
    return {"stable": stable, "revision": revision, "exposure": {"weight_bp": weight_bp, "mirror_bp": mirror_bp}}


SCENE = Scene(
    elapsed_s=44.6,
    legs=LEGS,
    ends_s=leg_ends_s(80.0),
    place=3,
    rollout=rollout_of(2500, 2000),
    snapshot=snapshot_of(44.6, 6_690, stable=6_000, candidate=690),
    recent=Recent(rate_per_s=149.8, v2_share=0.2561),
    counts=PairCounts(3_182, 3_182, {}),
    scores=PairScores(
        3_180, 0.948, {"stable": ModelScore(0.944, 1.21, 2.84), "candidate": ModelScore(0.987, 1.38, 3.05)}
    ),
    events=(
        Event(4.0, "shadow", "on all 2 gateway workers after 18 ms", "v1 answers everybody"),
        Event(20.0, "shadow", "2,393 answers, 0.0% of them by v2, client errors: 0"),
        Event(20.0, "canary 10%", "on all 2 gateway workers after 60 ms", "v2 answers 10% of the users"),
        Event(36.0, "canary 10%", "2,387 answers, 10.2% of them by v2, client errors: 0"),
        Event(36.0, "canary 25%", "on all 2 gateway workers after 23 ms", "v2 answers 25% of the users"),
    ),
    turnout="./run",
)


def lines_of(scene: Scene, *, width: int = 80) -> list[str]:
    """Return a frame as a terminal of this width shows it, without colours."""
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(frame(scene))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_frame_shows_place_split_numbers_models_events_and_what_comes_next() -> None:
    """Everything that is known just now stands in its place."""
    assert lines_of(SCENE) == [
        " turnout demo   digits: from v1 to v2                              0:44 of 1:20",
        " ✔ v1 alone  ✔ shadow  ✔ canary 10%  ● 25%  · 50%  · blue/green  · promoted",
        " v2 answers 25% of the users, 20% copied to the other",
        "",
        " answers   " + "█" * 45 + "▒" * 15,
        "           █ v1 set 75%, actual 74.4%    ▒ v2 set 25%, actual 25.6%",
        " copies    " + "■" * 12 + "·" * 48 + " 20%",
        "",
        " requests    6,690        150 a second           client errors       0",
        " pairs       3,182      94.8% agree            answers missing       0",
        "",
        " models, on the pairs          right          p50          p95",
        " v1  logistic regression      94.4%       1.2 ms       2.8 ms",
        " v2  kernel model             98.7%       1.4 ms       3.0 ms",
        "",
        " 0:04  shadow       on all 2 gateway workers after 18 ms",
        " 0:20  shadow       2,393 answers, 0.0% of them by v2, client errors: 0",
        " 0:20  canary 10%   on all 2 gateway workers after 60 ms",
        " 0:36  canary 10%   2,387 answers, 10.2% of them by v2, client errors: 0",
        " 0:36  canary 25%   on all 2 gateway workers after 23 ms",
        "",
        "",
        " next: canary 50% in 3 s   stop: Ctrl-C",
    ]


def test_a_frame_fits_an_80_x_24_terminal_whatever_the_numbers() -> None:
    """Also with ten minutes behind it, trouble everywhere and long events, no line is cut or folded."""
    event = Event(594.0, "canary 50%", "NOT on all of 2 gateway workers, and a sentence that goes on and on and on")
    crowded = replace(
        SCENE,
        snapshot=snapshot_of(599.0, 89_850, errors=12_345, stable=40_000, candidate=40_000),
        counts=PairCounts(60_000, 50_000, {"candidate:timeout": 10_000}),
        ends_s=leg_ends_s(600.0),
        elapsed_s=599.0,
        turnout="TURNOUT_URL=http://127.0.0.1:54321 ./run",
        events=(event,) * 9,
    )
    for scene in (SCENE, crowded):
        for place in range(len(LEGS) + 1):
            lines = lines_of(replace(scene, place=place), width=80)
            assert len(lines) == 23
            assert max(map(len, lines)) <= 80


def test_the_first_frame_shows_no_numbers_that_nobody_has_measured() -> None:
    """Before the first answer there are dashes instead of made-up zeros."""
    nothing = PairScores(0, 0.0, {"stable": ModelScore(0, 0, 0), "candidate": ModelScore(0, 0, 0)})
    first = replace(
        SCENE, elapsed_s=0.0, place=0, rollout=None, snapshot=snapshot_of(0.0, 0), recent=Recent(0.0, None),
        counts=PairCounts(0, 0, {}), scores=nothing, events=(),
    )  # fmt: skip
    lines = lines_of(first)
    assert lines[5] == "           █ v1 set 100%, actual -    ▒ v2 set 0%, actual -"
    assert lines[9] == " pairs           0          - agree            answers missing       0"
    assert lines[12] == " v1  logistic regression"
    assert lines[-1] == " next: shadow in 4 s   stop: Ctrl-C"


def test_after_the_walk_a_frame_says_what_to_try() -> None:
    """The view stays, and names a command instead of the next leg."""
    lines = lines_of(replace(SCENE, place=len(LEGS)))
    assert lines[0].endswith("walk done")
    assert lines[-2:] == [
        " all of it still runs; try from another terminal:   stop: Ctrl-C",
        " ./run pairs digits --disagreements",
    ]


def test_a_copy_under_way_is_not_shown_as_missing() -> None:
    """Only what will never come counts as missing while the walk goes on."""
    counts = PairCounts(105, 100, {"in_flight": 3, "candidate:reset": 2})
    assert lines_of(replace(SCENE, counts=counts))[9].endswith("answers missing       2")


def test_colours_follow_the_terminal_and_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the bars still differ, by their glyphs."""

    def drawn() -> str:
        out = StringIO()
        Console(file=out, width=80, force_terminal=True, color_system="truecolor").print(frame(SCENE))
        return out.getvalue()

    assert "\x1b[36m█" in drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in drawn()
    assert "█" * 45 + "▒" * 15 in drawn()


@pytest.mark.parametrize(
    ("rollout", "share"),
    [
        (None, 0.0),
        (rollout_of(0, 10_000), 0.0),
        (rollout_of(2500, 0), 0.25),
        (rollout_of(0, 0, stable="v2"), 1.0),
        (rollout_of(1000, 0, stable="v2"), 0.9),
    ],
)
def test_the_share_of_v2_follows_who_is_stable(rollout: Mapping[str, object] | None, share: float) -> None:
    """As candidate v2 has the weight; once it is stable it has what the candidate leaves."""
    assert v2_share(rollout) == pytest.approx(share)


def test_the_meter_shows_the_last_five_seconds() -> None:
    """Rate and share are differences to the snapshot five seconds ago, not averages since the start."""
    meter, rollout = Meter(), rollout_of(5000, 0)
    meter.add(snapshot_of(0.0, 0), rollout)
    meter.add(snapshot_of(10.0, 1_000, stable=1_000), rollout)
    recent = meter.add(snapshot_of(14.0, 1_600, stable=1_300, candidate=300), rollout)
    assert recent == Recent(rate_per_s=150.0, v2_share=0.5)


def test_the_meter_measures_each_split_alone() -> None:
    """After a flip the share starts anew: answers of two splits, or of two meanings of a role, are never mixed."""
    meter = Meter()
    meter.add(snapshot_of(0.0, 0), rollout_of(10_000, 0))
    meter.add(snapshot_of(1.0, 150, candidate=150), rollout_of(10_000, 0))
    promoted = rollout_of(0, 0, stable="v2", revision=4)
    assert meter.add(snapshot_of(2.0, 300, candidate=300), promoted) == Recent(150.0, None)
    assert meter.add(snapshot_of(3.0, 450, candidate=300, stable=150), promoted) == Recent(150.0, 1.0)
