"""Freeze windows: when they are on, in the clock of people who change theirs twice a year."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from router.core.decisions import (
    CONTROL,
    FROZEN_ADVICE,
    Actor,
    ActorKind,
    Advance,
    Approve,
    Counts,
    Decision,
    Hold,
    Judgement,
    Outside,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    Undo,
    guard,
)
from router.core.freeze import DatedFreeze, FreezeWindow, WeeklyFreeze, frozen
from router.core.rollout import Phase, RolloutState, Spec, Step, apply, idle_state

BERLIN = "Europe/Berlin"
NIGHTS = WeeklyFreeze((4, 5, 6), 16 * 60, 8 * 60, 1, BERLIN, "weekend")
WEEKEND = WeeklyFreeze((4,), 16 * 60, 8 * 60, 3, BERLIN)
HOLIDAYS = DatedFreeze(1_797_724_800.0, 1_798_848_000.0, reason="holidays")


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    """Return a local time in seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("window", "begin", "end"),
    [
        (NIGHTS, "2026-11-27T16:00", "2026-11-28T08:00"),
        (NIGHTS, "2026-11-29T16:00", "2026-11-30T08:00"),
        (WEEKEND, "2026-11-27T16:00", "2026-11-30T08:00"),
        (WeeklyFreeze((0,), timezone=BERLIN), "2026-11-30T00:00", "2026-12-01T00:00"),
        (WeeklyFreeze((0,), 480, 960, 0, BERLIN), "2026-11-30T08:00", "2026-11-30T16:00"),
        (DatedFreeze(at("2026-12-20T00:00"), at("2027-01-02T00:00"), BERLIN), "2026-12-20T00:00", "2027-01-02T00:00"),
        # In the night of 2026-03-29 Berlin has no 02:00..03:00, in that of 2026-10-25 it has two.
        (WeeklyFreeze((5,), 1_320, 360, 1, BERLIN), "2026-03-28T22:00", "2026-03-29T06:00"),
        (WeeklyFreeze((5,), 1_320, 360, 1, BERLIN), "2026-10-24T22:00", "2026-10-25T06:00"),
    ],
)
def test_a_window_is_on_from_its_begin_until_before_its_end(window: FreezeWindow, begin: str, end: str) -> None:
    """By the local clock, over midnight, over several days and over the nights in which clocks are changed."""
    reason = f"frozen until {datetime.fromisoformat(end):%a %Y-%m-%d %H:%M} {BERLIN}"
    begin_s, end_s = at(begin), at(end)
    assert frozen(begin_s - 1.0, [window]) is None
    for now_s in (begin_s, (begin_s + end_s) / 2, end_s - 1.0):
        found = frozen(now_s, [window])
        assert found is not None
        assert found.startswith(reason)
    assert frozen(end_s, [window]) is None


def test_the_days_between_are_free_where_each_night_is_a_window_of_its_own() -> None:
    """Saturday noon lies in none of the three nights, yet in the one window from Friday to Monday."""
    noon_s = at("2026-11-28T12:00")
    assert frozen(noon_s, [NIGHTS]) is None
    assert frozen(noon_s, [WEEKEND]) == "frozen until Mon 2026-11-30 08:00 Europe/Berlin"


def test_where_a_local_time_is_missing_or_comes_twice_the_longer_reading_counts() -> None:
    """02:30 of the changing nights: missing in March, so 01:30..03:30 by either reading; twice in October."""
    gone = WeeklyFreeze((6,), 150, 240, 0, BERLIN)
    assert frozen(at("2026-03-29T01:29:59"), [gone]) is None
    assert frozen(at("2026-03-29T01:30:00"), [gone]) is not None, "the earlier reading of a begin that does not exist"
    ends_in_gap = WeeklyFreeze((6,), 0, 150, 0, BERLIN)
    assert frozen(at("2026-03-29T03:29:59"), [ends_in_gap]) is not None
    assert frozen(at("2026-03-29T03:30:00"), [ends_in_gap]) is None
    twice = WeeklyFreeze((6,), 150, 165, 0, BERLIN)
    first_s, last_s = at("2026-10-25T02:30", fold=0), at("2026-10-25T02:45", fold=1)
    assert last_s - first_s == 4_500.0
    assert frozen(first_s, [twice]) is not None
    assert frozen(last_s - 1.0, [twice]) is not None
    assert frozen(last_s, [twice]) is None


def test_every_quarter_of_an_hour_of_two_years_agrees_with_the_local_clock() -> None:
    """Counted off by hand: a weekday and a time of the day, whatever the offset from UTC is."""
    zone = ZoneInfo("America/New_York")
    window = WeeklyFreeze((1, 3), 18 * 60, 6 * 60, 1, "America/New_York")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for _ in range(2 * 365 * 96):
        local = moment.astimezone(zone)
        evening = local.weekday() in (1, 3) and local.hour >= 18
        morning = local.weekday() in (2, 4) and local.hour < 6
        if (evening or morning) != (window.end_s(moment.timestamp()) is not None):
            found.append(local)
        moment += timedelta(minutes=15)
    assert found == []


def test_of_several_windows_the_one_that_ends_last_is_named() -> None:
    """Whoever waits wants to know when it is over."""
    windows = (NIGHTS, HOLIDAYS)
    reason = "frozen until Sat 2027-01-02 00:00 UTC: holidays"
    assert frozen(at("2026-12-25T20:00"), windows) == reason
    assert frozen(at("2026-12-18T20:00"), windows) == "frozen until Sat 2026-12-19 08:00 Europe/Berlin: weekend"
    assert frozen(at("2026-12-18T12:00"), windows) is None
    assert frozen(0.0, ()) is None


# -- what the guard makes of it ----------------------------------------------------------------------------------------

NOW_S = 1_000.0
OLGA = Actor(ActorKind.OPERATOR, "olga")
FILE = Actor(ActorKind.CONFIG, "file")
FREEZE = Outside(frozen="frozen until Monday")
GOOD = Judgement(promote=True, reason="good", counts=Counts(9_000, 900, 900))
STEP = Step(weight_bp=1_000, mirror_bp=1_000, bake_s=0.0)


def running(*steps: Step) -> RolloutState:
    """Return a rollout in the first of `steps`."""
    begin = Start(reason="s", rollout_id="b.1", spec=Spec("v2", "canary"), steps=steps or (STEP, STEP))
    return apply(idle_state("digits", "v1", NOW_S), begin, NOW_S)


def start_with(step: Step) -> Start:
    """Return the start of a rollout with this first step."""
    return Start(reason="s", rollout_id="b.2", spec=Spec("v3", "canary"), steps=(step, STEP))


@pytest.mark.parametrize("actor", [CONTROL, OLGA, FILE], ids=str)
@pytest.mark.parametrize(
    ("state", "decision"),
    [
        (running(), Advance(reason="a")),
        (running(STEP), Promote(reason="p")),
        (idle_state("digits", "v1", NOW_S), start_with(STEP)),
        (idle_state("digits", "v1", NOW_S), start_with(Step(mirror_bp=1))),
        (running(), SetExposure(reason="e", weight_bp=1_001)),
        (running(), SetExposure(reason="e", weight_bp=0, mirror_bp=1_001)),
        (running(), SetPolicy(reason="y", policy="blue_green", steps=(Step(weight_bp=10_000),))),
        (running(), SetPolicy(reason="y", policy="shadow", steps=(Step(mirror_bp=10_000),))),
        (replace(running(), phase=Phase.PAUSED, halted=True), Resume(reason="r")),
    ],
    ids=["advance", "promote", "start", "copies", "weight", "mirror", "policy", "policy's mirror", "resume a halt"],
)
def test_a_freeze_holds_back_whatever_gives_the_candidate_more(
    state: RolloutState, decision: Decision, actor: Actor
) -> None:
    """Whoever asks; an operator also learns what is possible meanwhile."""
    asked = replace(decision, actor=actor)
    said = "frozen until Monday" + (FROZEN_ADVICE if actor is OLGA else "")
    assert guard(GOOD, state, asked, NOW_S, FREEZE) == Hold(reason=said, actor=actor)
    assert asked is guard(GOOD, state, asked, NOW_S) or actor is not OLGA


@pytest.mark.parametrize(
    ("state", "decision"),
    [
        (running(), RollBack(reason="b")),
        (running(), Pause(reason="p")),
        (running(), Approve(reason="a", actor=OLGA)),
        (running(), SetExposure(reason="e", weight_bp=1_000, mirror_bp=0)),
        (running(), SetPolicy(reason="y", policy="shadow", steps=(Step(mirror_bp=1_000),))),
        (running(), Promote(reason="o", full=True, actor=OLGA)),
        (idle_state("digits", "v1", NOW_S), start_with(Step(bake_s=5.0))),
        (apply(running(), Promote(reason="o"), NOW_S), Undo(reason="u", actor=OLGA)),
    ],
    ids=["roll_back", "pause", "approve", "less", "less by policy", "promote --full", "nothing yet", "undo"],
)
def test_a_freeze_never_stands_before_less_traffic_nor_before_the_operators_word(
    state: RolloutState, decision: Decision
) -> None:
    """GEP-1619's mistake: a rollback that loses to something else."""
    assert decision is guard(GOOD, state, decision, NOW_S, FREEZE)


def test_the_judges_rollback_passes_a_freeze() -> None:
    """Harm is taken back at once, whatever was proposed."""
    harm = Judgement(rollback=True, reason="it fails")
    assert guard(harm, running(), Advance(reason="a"), NOW_S, FREEZE) == RollBack(reason="it fails")


def test_full_by_control_is_nobodys_word() -> None:
    """Only an operator's `full` passes."""
    assert isinstance(guard(GOOD, running(STEP), Promote(reason="o", full=True), NOW_S, FREEZE), Hold)
