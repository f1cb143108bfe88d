"""The live view: what a frame shows, and that it fits."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from router.demo.events import Event
from router.demo.pairs import PairCounts
from router.demo.plan import ACTS
from router.demo.tally import Latency, PhaseTally, Snapshot, VariantTally
from router.demo.view import Meter, Recent, Scene, frame
from tests.demo.bodies import GATES, gate, judgement, rollout

NO_LATENCY = Latency(0.0, 0.0, 0.0, 0.0)


def snapshot_of(seconds: float, sent: int, errors: int = 0, rescued: int = 0, **answers: int) -> Snapshot:
    """Return a snapshot with so many answers of each role."""
    variants = MappingProxyType({role: VariantTally(count, count, NO_LATENCY) for role, count in answers.items()})
    phase = PhaseTally("act one", sum(answers.values()), errors, rescued, variants)
    return Snapshot(
        seconds=seconds, sent=sent, answers=sum(answers.values()), client_errors=errors, in_flight=0, skipped=0,
        errors={"status_503": errors} if errors else {}, variants=variants, phases=(phase,),
    )  # fmt: skip


JUDGED = judgement(
    gate("accuracy", proof=1.4, estimate=-0.043), *(gate(f"recall:{digit}", proof=digit / 8) for digit in range(10)),
    gate("error_rate", proof=0.35), gate("latency", proof=0.8, harm=0.1, estimate=0.02),
    gate("disagreement", harm=9.0, enforced=False), requests=500, pairs=1_200,
)  # fmt: skip
SCENE = Scene(
    elapsed_s=24.6,
    limit_s=120.0,
    act=ACTS["digit"][0],
    rollout=rollout(at=2, weight_bp=2_500, judged=JUDGED),
    gates=JUDGED["gates"],
    waits_for="baking: 2 s of 6 s",
    snapshot=snapshot_of(24.6, 6_150, stable=5_400, candidate=750),
    recent=Recent(rate_per_s=249.8, candidate_share=0.2561),
    counts=PairCounts(6_100, 6_100, {}),
    labels=5_790,
    events=(
        Event(0.0, "act one", "v2 in place of v1"),
        Event(0.4, "shadow", "the file's rollout block is new"),
        Event(6.8, "10%", "step 1 of 4 is done: 12 of 12 gates have not passed yet: accuracy: candidate is right in 9"),
        Event(12.1, "25%", "step 2 of 4 is done"),
    ),
    results=(),
    turnout="./run",
)
RESULTS = (
    ("act one", "v2 promoted after 31 s: last step: all 12 gates pass; " + "accuracy: it is what it is, " * 9),
    ("act two", "v3 rolled back after 6 s: " + "recall:8: candidate is right in half of them, " * 9),
    ("requests", "9,000 (250 a second), client errors: 0"),
    ("pairs", "8,990 of 9,000 copies have both answers"),
    ("flips", "6 of 6 seen on all gateway workers"),
    ("result", "ok: v2 promoted, v3 rolled back"),
)


def lines_of(scene: Scene, *, width: int = 80) -> list[str]:
    """Return a frame as a terminal of this width shows it, without colours."""
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(frame(scene))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_frame_shows_place_split_numbers_gates_events_and_what_is_waited_for() -> None:
    """Everything that is known just now stands in its place."""
    assert lines_of(SCENE) == [
        " turnout demo   act one: v2 in place of v1                         0:24 of 2:00",
        " ✔ shadow  ✔ 10%  ● 25%  · 50%  · promoted",
        " v2 answers 25% of the users, the one that did not answer gets a copy of 100%",
        "",
        " answers   " + "█" * 45 + "▒" * 15,
        "           █ v1 set 75%, actual 74.4%    ▒ v2 set 25%, actual 25.6%",
        " copies    " + "■" * 60 + " 100%",
        "",
        " requests    6,150     250 a second                     client errors       0",
        " pairs       6,100   5,790 labels sent                 answers missing       0",
        "",
        " gates        candidate against stable   proof of no harm    evidence of harm",
        " accuracy      +4.3 pp, at least -4 pp   ██████████ ✔        ··········",
        " error_rate    +0.0 pp, at most +1 pp    ███·······          ··········",
        " latency           +2%, at most +100%    ████████··          █·········",
        " recall of    0    1    2    3    4    5    6    7    8    9",
        "   proof      ·    ▁    ▂    ▃    ▄    ▅    ▆    ▇    ✔    ✔",
        "   harm       ·    ·    ·    ·    ·    ·    ·    ·    ·    ·",
        " 0:00  act one      v2 in place of v1",
        " 0:00  shadow       the file's rollout block is new",
        " 0:06  10%          step 1 of 4 is done: 12 of 12 gates have not passed yet ...",
        " 0:12  25%          step 2 of 4 is done",
        " next: baking: 2 s of 6 s   stop: Ctrl-C",
    ]


def test_harm_of_a_digit_stands_under_it() -> None:
    """At a glance: which one, and that it has failed."""
    gates = [gate(name, harm=1.2 if name == "recall:8" else 0.0) for name in GATES]
    body = rollout("rolled_back", candidate="v3", stable="v2", mirror_bp=0)
    lines = lines_of(replace(SCENE, act=ACTS["digit"][1], rollout=body, gates=gates))
    assert lines[1] == " ✖ shadow  · 10%  · 25%  · 50%  ✖ rolled back"
    assert lines[2] == " v2 answers everybody"
    assert lines[15].index("8") == lines[17].index("✖")


def test_rescues_are_shown_once_there_are_any() -> None:
    """A crash that no client noticed."""
    scene = replace(SCENE, snapshot=snapshot_of(20.0, 5_000, rescued=7, stable=5_000))
    assert lines_of(scene)[8] == " requests    5,000     250 a second      7 rescued      client errors       0"


@pytest.mark.parametrize("results", [(), RESULTS])
@pytest.mark.parametrize("phase", ["progressing", "paused", "promoted", "rolled_back"])
def test_a_frame_fits_an_80_x_24_terminal_whatever_the_numbers(phase: str, results: Any) -> None:  # noqa: ANN401
    """Also with ten minutes behind it, trouble everywhere and long sentences, no line is cut or folded."""
    long = "a sentence that goes on and on and on and on and on and on and on and on and on and on and on"
    judged = judgement(*(gate(name, proof=2.0, harm=2.0, estimate=-0.987654) for name in GATES))
    crowded = replace(
        SCENE,
        rollout=rollout(phase, weight_bp=5_000, at=3, judged=judged, reason=long),
        gates=judged["gates"],
        waits_for=long,
        snapshot=snapshot_of(599.0, 149_850, errors=12_345, rescued=23_456, stable=70_000, candidate=70_000),
        counts=PairCounts(60_000, 50_000, {"candidate:timeout": 10_000}),
        labels=149_000,
        elapsed_s=599.0,
        turnout="TURNOUT_URL=http://127.0.0.1:54321 ./run",
        events=(Event(594.0, "set exposure", long),) * 9,
        results=results,
    )
    lines = lines_of(crowded)
    assert len(lines) == 23
    assert max(map(len, lines)) <= 80


def test_the_first_frame_shows_no_numbers_that_nobody_has_measured() -> None:
    """Before the first answer there are dashes instead of made-up zeros."""
    first = replace(
        SCENE, elapsed_s=0.0, rollout=None, gates=(), waits_for="", snapshot=snapshot_of(0.0, 0),
        recent=Recent(0.0, None), counts=PairCounts(0, 0, {}), labels=0, events=(),
    )  # fmt: skip
    lines = lines_of(first)
    assert lines[1:3] == [" · the rollout is about to start", " v1 answers everybody"]
    assert lines[5] == "           █ v1 set 100%, actual -"
    assert lines[11] == " nothing is judged yet"
    assert lines[-1] == " next: the first look   stop: Ctrl-C"
    unknown = [{**gate("accuracy"), "estimate": None}, {**gate("latency"), "estimate": None}]
    assert [line[:41].rstrip() for line in lines_of(replace(SCENE, gates=unknown))[12:14]] == [
        " accuracy            -, at least -4 pp", " latency             -, at most +100%",
    ]  # fmt: skip


def test_between_two_acts_the_old_rollout_is_not_shown_as_the_new_one() -> None:
    """Until the second one has started."""
    assert lines_of(replace(SCENE, act=ACTS["digit"][1]))[1] == " · the rollout is about to start"


def test_at_the_end_a_frame_says_what_came_of_it_and_what_to_try() -> None:
    """Each sentence in at most three lines, and the view keeps its height."""
    lines = lines_of(replace(SCENE, results=RESULTS))
    assert lines[0].endswith("done")
    assert lines[11].startswith(" act one    v2 promoted after 31 s: ")
    assert lines[13].endswith(" ...")
    assert lines[14].startswith(" act two    v3 rolled back after 6 s: ")
    assert " result     ok: v2 promoted, v3 rolled back" in lines
    assert lines[-2:] == [
        " all of it still runs; try from another terminal:   stop: Ctrl-C",
        " ./run decisions digits",
    ]


def test_a_copy_under_way_is_not_shown_as_missing() -> None:
    """Only what will never come counts as missing while the play goes on."""
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


def test_the_meter_shows_the_last_five_seconds() -> None:
    """Rate and share are differences to the snapshot five seconds ago, not averages since the start."""
    meter, body = Meter(), rollout(weight_bp=5_000)
    meter.add(snapshot_of(0.0, 0), body)
    meter.add(snapshot_of(10.0, 1_000, stable=1_000), body)
    recent = meter.add(snapshot_of(14.0, 1_600, stable=1_300, candidate=300), body)
    assert recent == Recent(rate_per_s=150.0, candidate_share=0.5)


def test_the_meter_measures_each_split_alone() -> None:
    """After a change the share starts anew: answers of two splits, or of two meanings of a role, are never mixed."""
    meter = Meter()
    meter.add(snapshot_of(10.0, 1_000, stable=500, candidate=500), rollout(weight_bp=5_000))
    promoted = rollout("promoted", stable="v2", revision=2)
    assert meter.add(snapshot_of(11.0, 1_100, stable=500, candidate=500), promoted) == Recent(100.0, None)
    assert meter.add(snapshot_of(12.0, 1_200, stable=700, candidate=500), promoted) == Recent(100.0, 0.0)
