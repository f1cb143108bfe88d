"""The play: acts that Turnout moves by itself, watched to their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from router.core.rollout import Phase
from router.demo import play as play_module
from router.demo.admin import Admin, Body, NotNowError
from router.demo.events import Event
from router.demo.plan import ACTS, Act
from router.demo.play import Play
from router.demo.traffic import Sample, Traffic
from router.demo.turnout_process import DemoError
from router.demo.watch import Flip, Watch, reached_at
from tests.demo.bodies import NOON_S, decision, gate, judgement, replica, rollout

CONFIG = {"routes": {"digits": {"rollout": {"candidate": "v2", "policy": "canary"}}}}
METRICS = "# TYPE turnout_pairs_total counter\n"


class ScriptedAdmin(Admin):
    """Answers with prepared rollouts in turn, the last one again and again, and with a ledger that fits."""

    def __init__(self, rollouts: Sequence[Body | Exception], ledger: Sequence[Body] = ()) -> None:
        self.started: list[Body] = []
        self._rollouts: Iterator[Body | Exception] = iter(rollouts)
        self._last: Body | Exception = {}
        self._ledger = ledger

    async def start(self, block: Body) -> None:
        """Take note of it."""
        self.started.append(block)

    async def route(self) -> Body:
        """Answer the next rollout."""
        self._last = next(self._rollouts, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return {"rollout": self._last, "pending": None if self._last["id"] else {"why": "is about to start"}}

    async def explain(self) -> Body:
        """Answer that it bakes, while it moves."""
        assert not isinstance(self._last, Exception)
        moves = self._last["phase"] == "progressing"
        return {"waits_for": "baking: 2 s of 6 s" if moves else None, "next": None}

    async def decisions(self) -> Sequence[Body]:
        """Answer the ledger up to the revision that was shown last."""
        assert not isinstance(self._last, Exception)
        return [one for one in self._ledger if one["revision"] <= self._last["revision"]]

    async def metrics(self) -> str:
        """Answer a page without any pair."""
        return METRICS


class SilentTraffic(Traffic):
    """Sends nothing; its schedule is where the test puts it."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/", [Sample(b"", 0)], 1.0, 1, 0)
        self.marks: list[str] = []
        self.carried_out_s = 0.0

    @property
    def offered_s(self) -> float:
        """Where the test has put it."""
        return self.carried_out_s

    def mark(self, phase: str) -> None:
        """Keep the name."""
        self.marks.append(phase)


class Scripted:
    """A play over scripted answers."""

    def __init__(
        self,
        acts: Sequence[Act],
        *rollouts: Body | Exception,
        ledger: Sequence[Body] = (),
        limit_s: float = 120.0,
    ) -> None:
        self.admin = ScriptedAdmin(rollouts, ledger)
        self.traffic = SilentTraffic()
        self.told: list[Body | Event] = []
        self.killed: list[str] = []
        turnout: Any = None
        self.watch = Watch(self.admin, self.traffic, turnout, self.told.append)
        self.play = Play(
            acts=acts, config=CONFIG, admin=self.admin, traffic=self.traffic, watch=self.watch,
            kill=self.killed.append, tell=self.told.append, limit_s=limit_s,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once: scripted answers need no time."""
    monkeypatch.setattr(play_module, "EVERY_S", 0.0)


IDLE = {**rollout("idle", candidate="", revision=0), "id": ""}
PROMOTED = rollout("promoted", stable="v2", revision=2, mirror_bp=0)
START = decision("start", actor="config:file")
PROMOTE = decision("promote", revision=2, phase="promoted", mirror_bp=0, before=(5_000, 10_000))
START_3 = decision("start", revision=3, candidate="v3", actor="operator:local")
ROLL_BACK = decision(
    "roll_back",
    revision=4,
    candidate="v3",
    phase="rolled_back",
    mirror_bp=0,
    before=(0, 10_000),
    reason="recall:8: bad",
)


async def test_act_one_is_the_files_and_act_two_is_asked_for() -> None:
    """The demo starts one rollout and moves none; each act has its own part of the ledger."""
    one = Scripted(
        ACTS["digit"], IDLE, rollout(), PROMOTED, rollout(candidate="v3", stable="v2", revision=3),
        rollout("rolled_back", candidate="v3", stable="v2", revision=4, mirror_bp=0),
        ledger=[START, PROMOTE, START_3, ROLL_BACK],
    )  # fmt: skip
    await one.play.run()
    assert one.admin.started == [{"candidate": "v3", "policy": "canary", "reason": "demo: v3 in place of v2"}]
    assert one.traffic.marks == ["act one", "act two"]
    assert [(end.act.candidate, end.result, end.decisions) for end in one.play.endings] == [
        ("v2", "promoted", [START, PROMOTE]), ("v3", "rolled_back", [START_3, ROLL_BACK]),
    ]  # fmt: skip
    assert one.play.over
    assert [entry for entry in one.told if not isinstance(entry, Event)] == [START, PROMOTE, START_3, ROLL_BACK]


@pytest.mark.parametrize("phase", ["rolled_back", "paused"])
async def test_an_act_that_ends_otherwise_ends_the_play(phase: str) -> None:
    """What comes after it would mean nothing."""
    one = Scripted(ACTS["digit"], rollout(), rollout(phase, revision=2), ledger=[START])
    await one.play.run()
    (ending,) = one.play.endings
    assert (ending.result, ending.waited_for) == (phase, "")
    assert one.play.over
    assert one.admin.started == []


async def test_a_play_ends_when_its_time_is_up_and_says_what_it_waited_for() -> None:
    """The time is that of the traffic's schedule, so a slow machine gets more of the clock's."""
    one = Scripted(ACTS["digit"], rollout(), ledger=[START])
    one.traffic.carried_out_s = 120.0
    await one.play.run()
    (ending,) = one.play.endings
    assert (ending.result, ending.waited_for) == ("progressing", "baking: 2 s of 6 s")


async def test_a_schedule_that_stands_still_does_not_hold_the_play_for_ever() -> None:
    """By the clock it takes five times as long at most."""
    one = Scripted(ACTS["digit"], rollout(), ledger=[START], limit_s=0.01)
    await one.play.run()
    assert one.play.endings[0].result == "progressing"
    assert one.play.endings[0].seconds >= 0.04


async def test_a_block_that_never_starts_is_told_with_its_reason() -> None:
    """The admin API knows why."""
    one = Scripted(ACTS["digit"], IDLE)
    one.traffic.carried_out_s = 120.0
    await one.play.run()
    assert (one.play.endings[0].result, one.play.endings[0].waited_for) == ("not started", "is about to start")


async def test_a_silent_admin_api_is_asked_again() -> None:
    """Control may start anew; the traffic and the rollout go on meanwhile."""
    one = Scripted(ACTS["digit"][:1], rollout(), NotNowError("503"), PROMOTED, ledger=[START, PROMOTE])
    await one.play.run()
    assert one.play.endings[0].result == "promoted"


async def test_a_rollout_that_is_refused_ends_the_play(monkeypatch: pytest.MonkeyPatch) -> None:
    """409 and its like will not change by asking again."""

    async def refuse(_: Body) -> None:
        raise DemoError("409 it has to end first")

    one = Scripted(ACTS["digit"][1:], rollout())
    monkeypatch.setattr(one.admin, "start", refuse)
    with pytest.raises(DemoError, match="409"):
        await one.play.run()


async def test_the_candidate_is_killed_once_while_it_serves() -> None:
    """After the breaker's halt the play goes on until the judge makes it final."""
    serving = rollout(weight_bp=2_500, at=2, judged=judgement(requests=60))
    halted = rollout("paused", revision=2)
    one = Scripted(ACTS["crash"], rollout(), serving, serving, halted, rollout("rolled_back", revision=3, mirror_bp=0))
    await one.play.run()
    assert one.killed == ["v2"]
    assert one.play.endings[0].result == Phase.ROLLED_BACK


def test_a_change_is_reached_when_the_last_worker_has_applied_it() -> None:
    """Nobody to apply it, a worker behind it or beyond it: no time is known."""
    assert reached_at([replica(4), replica(4, "2026-01-31T12:00:00.045000Z")], 4) == pytest.approx(NOON_S + 0.045)
    for replicas in ([], [replica(4), replica(3)], [replica(4), replica(5)]):
        assert reached_at(replicas, 4) is None


async def test_flips_are_the_decisions_that_changed_the_shares() -> None:
    """Each with the time from the decision to the last worker, where somebody saw it."""
    applied = [replica(1, "2026-01-31T12:00:00.012500Z"), replica(1)]
    lagging = rollout(revision=4, weight_bp=2_500, replicas=[replica(4), replica(3)])
    ledger = [
        START, decision("approve", revision=2, before=(0, 10_000)),
        decision("advance", revision=3, weight_bp=1_000, before=(0, 10_000)),
        decision("advance", revision=4, weight_bp=2_500, before=(1_000, 10_000)),
    ]  # fmt: skip
    one = Scripted(ACTS["digit"], rollout(replicas=applied), lagging, ledger=ledger)
    await one.watch.look()
    await one.watch.look()
    shadow, *others = one.watch.flips
    assert (shadow.to, shadow.weight_bp, shadow.mirror_bp) == ("shadow", 0, 10_000)
    assert shadow.reached_ms == pytest.approx(12.5, abs=0.01)
    assert others == [Flip("canary", 1_000, 10_000, 3, None), Flip("canary", 2_500, 10_000, 4, None)]


async def test_the_gates_shown_at_the_end_are_those_that_decided_it() -> None:
    """After it the present exposure is empty, and says nothing any more."""
    one = Scripted(ACTS["digit"], rollout(judged=judgement(gate("latency"))), PROMOTED, ledger=[START, PROMOTE])
    await one.watch.look()
    assert [line["gate"] for line in one.watch.gates] == ["latency"]
    await one.watch.look()
    assert one.watch.gates == PROMOTE["judgement"]["gates"]
