"""The walk: its plan, its commands, its flips, and what is said about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.app import load_config
from router.core.decisions import Actor, ActorKind, Advance, Decision, Judgement, Promote, SetPolicy, Start
from router.core.moves import make_move
from router.core.rollout import Phase, Step, idle_state
from router.demo.admin import Admin, Body, NotNowError
from router.demo.flip import Flip, flip, reached_at
from router.demo.plan import BLUE_GREEN, CANARY, LEGS, SHADOW, Command, config_of, leg_ends_s
from router.demo.traffic import Sample, Traffic
from router.demo.turnout_process import DemoError
from router.demo.walk import Event, Walk, clock_of, reach_of
from router.settings.rollout_blocks import RolloutBlock, StepBlock

OPERATOR = Actor(ActorKind.OPERATOR, "local")
CANARY_LEG = next(leg for leg in LEGS if leg.name == "canary 10%")


def replica(revision: int, applied_at: str | None) -> Body:
    """Return one gateway worker as the admin API shows it."""
    return {"id": f"boot-{revision}", "revision": revision, "applied_at": applied_at}


def rollout_of(revision: int, *applied: tuple[int, str | None], weight_bp: int = 1_000, stable: str = "v1") -> Body:
    """Return as much of a rollout's body as a flip reads."""
    return {
        "revision": revision, "stable": stable, "exposure": {"weight_bp": weight_bp, "mirror_bp": 0},
        "replicas": [replica(*one) for one in applied],
    }  # fmt: skip


class ScriptedAdmin(Admin):
    """Answers commands and questions in turn with prepared bodies, or raises; the last one is repeated."""

    def __init__(self, *bodies: Body | Exception) -> None:
        self.commands: list[tuple[str, int]] = []
        self._bodies: Iterator[Body | Exception] = iter(bodies)
        self._last: Body | Exception = {}

    async def command(self, command: Command, revision: int) -> Body:
        """Take note of it and answer the next body."""
        self.commands.append((command.path, revision))
        return await self.rollout()

    async def rollout(self) -> Body:
        """Answer the next body."""
        self._last = next(self._bodies, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last


class SilentTraffic(Traffic):
    """Sends nothing and keeps the marks."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/", [Sample(b"", 0)], 1.0, 1, 0)
        self.marks: list[str] = []

    def mark(self, phase: str) -> None:
        """Keep the name."""
        self.marks.append(phase)
        super().mark(phase)


@pytest.mark.parametrize("seconds", [20.0, 60.0, 600.0])
def test_the_legs_share_all_the_time(seconds: float) -> None:
    """They end one after the other, the last at the end, and none is shorter than a second."""
    ends_s = leg_ends_s(seconds)
    assert ends_s[-1] == pytest.approx(seconds)
    assert all(end_s - start_s >= 0.99 for start_s, end_s in zip((0.0, *ends_s), ends_s, strict=False))


def test_a_minute_is_divided_like_this() -> None:
    """The shadow and the first canary get the most time."""
    assert [round(end_s, 6) for end_s in leg_ends_s(60.0)] == [3.0, 15.0, 27.0, 36.0, 45.0, 54.0, 60.0]


def test_the_weights_are_those_that_are_promised() -> None:
    """Shadow, canary 10, 25, 50 %, blue/green, promotion."""
    assert [(leg.to, leg.weight_bp) for leg in LEGS] == [
        ("", 0), ("shadow", 0), ("canary", 1_000), ("canary", 2_500), ("canary", 5_000), ("blue_green", 10_000),
        ("promoted", 0),
    ]  # fmt: skip


def steps_of(command: Command) -> tuple[Step, ...]:
    """Return the steps in a command's body as the admin API reads them."""
    blocks: Any = command.body["steps"]
    return tuple(StepBlock.model_validate(block).value() for block in blocks)


def test_the_commands_lead_to_the_weights_of_their_legs() -> None:
    """Carried out by the real guard and transition table, every command is legal and opens the leg's exposure."""
    block = {key: value for key, value in SHADOW.body.items() if key != "reason"}
    spec = RolloutBlock.model_validate(block).value()
    advance = Advance(reason="demo", actor=OPERATOR)
    decisions: list[Decision] = [
        Start(reason="demo", actor=OPERATOR, rollout_id="a.1", spec=spec, steps=spec.steps),
        SetPolicy(reason="demo", actor=OPERATOR, policy="canary", steps=steps_of(CANARY)),
        advance,
        advance,
        SetPolicy(reason="demo", actor=OPERATOR, policy="blue_green", steps=steps_of(BLUE_GREEN)),
        Promote(reason="demo", actor=OPERATOR, full=True),
    ]
    state = idle_state("digits", "v1", 0.0)
    for leg, decision in zip(LEGS[1:], decisions, strict=True):
        state = make_move(state, [decision], Judgement(), 1.0).state
        assert (leg.name, state.exposure.weight_bp) == (leg.name, leg.weight_bp)
    assert (state.phase, state.stable) == (Phase.PROMOTED, "v2")


def test_control_leaves_the_walk_to_the_operator() -> None:
    """Every step asks for approval, so no ramp goes ahead of the demo, however long a leg is."""
    assert all(step.approval for command in (SHADOW, CANARY, BLUE_GREEN) for step in steps_of(command))


def test_a_flip_is_reached_when_the_last_worker_has_applied_it() -> None:
    """The time runs from sending the command to the latest `applied_at`; later revisions are good too."""
    replicas = [replica(4, "2026-01-31T12:00:00.020000Z"), replica(5, "2026-01-31T12:00:00.045000Z")]
    noon_s = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert reached_at(replicas, 4) == pytest.approx(noon_s + 0.045)


@pytest.mark.parametrize("replicas", [[], [replica(4, "2026-01-31T12:00:00Z"), replica(3, "2026-01-31T12:00:00Z")]])
def test_a_flip_is_not_reached_while_a_worker_is_behind_or_none_is_there(replicas: Sequence[Body]) -> None:
    """Nobody to apply it is no success."""
    assert reached_at(replicas, 4) is None


async def test_a_flip_asks_until_all_workers_have_it() -> None:
    """The answer to the command is older than the workers' news; the flip waits for them."""
    applied_at = datetime.now(UTC).isoformat()
    admin = ScriptedAdmin(
        rollout_of(3, (3, applied_at), (3, applied_at)),
        rollout_of(4, (3, applied_at), (3, applied_at)),
        rollout_of(4, (4, applied_at), (3, applied_at)),
        rollout_of(4, (4, applied_at), (4, applied_at)),
    )
    done, body = await flip(admin, CANARY_LEG, CANARY)
    assert body["replicas"][1]["revision"] == 4
    assert (done.to, done.weight_bp, done.stable, done.gateways) == ("canary", 1_000, "v1", 2)
    assert done.reached_ms is not None
    assert -1_000 < done.reached_ms < 1_000  # this very moment, whatever the machine is busy with


async def test_a_flip_that_never_arrives_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the limit it is given up; the walk goes on and the report fails."""
    monkeypatch.setattr("router.demo.flip.REACH_S", 0.05)
    done, _ = await flip(ScriptedAdmin(rollout_of(3), rollout_of(4, (3, None))), CANARY_LEG, CANARY)
    assert done.reached_ms is None


async def test_a_command_that_met_a_busy_store_is_sent_again() -> None:
    """It was not carried out, so the same command goes out again, for the same revision."""
    applied_at = datetime.now(UTC).isoformat()
    admin = ScriptedAdmin(
        rollout_of(3), NotNowError("503"), rollout_of(3), rollout_of(4), rollout_of(4, (4, applied_at))
    )
    done, _ = await flip(admin, CANARY_LEG, CANARY)
    assert admin.commands == [("rollout", 3), ("rollout", 3)]
    assert done.reached_ms is not None


async def test_a_command_that_was_carried_out_without_an_answer_is_not_sent_again() -> None:
    """The stored revision says that it happened."""
    applied_at = datetime.now(UTC).isoformat()
    admin = ScriptedAdmin(rollout_of(3), NotNowError("503"), rollout_of(4, (4, applied_at)))
    done, _ = await flip(admin, CANARY_LEG, CANARY)
    assert admin.commands == [("rollout", 3)]
    assert done.reached_ms is not None


async def test_a_command_that_is_refused_ends_the_walk() -> None:
    """409 and its like will not change by asking again."""
    admin = ScriptedAdmin(rollout_of(3), DemoError("409 the rollout is rolled back"))
    with pytest.raises(DemoError, match="409"):
        await flip(admin, CANARY_LEG, CANARY)


async def test_a_walk_marks_the_traffic_so_that_no_leg_counts_requests_of_another() -> None:
    """Requests sent while a flip is on its way belong to neither leg; events say what happened."""
    applied_at = datetime.now(UTC).isoformat()
    legs = [replace(LEGS[0], part=0.5), replace(CANARY_LEG, part=0.5)]
    admin = ScriptedAdmin(rollout_of(3), rollout_of(4, (4, applied_at)))
    traffic, told = SilentTraffic(), list[Event]()
    walk = Walk(admin, traffic, 0.02, told.append, legs)
    await walk.run()
    assert traffic.marks == ["v1 alone", "flip to canary 10%", "canary 10%"]
    assert admin.commands == [("rollout", 3)]
    assert [one.name for one in told] == ["v1 alone", "canary 10%", "canary 10%"]
    assert (walk.place, len(walk.flips)) == (2, 1)
    assert walk.rollout is not None
    assert walk.rollout["revision"] == 4


def test_a_late_answer_does_not_put_the_rollout_back() -> None:
    """Answers can overtake each other; the newest revision stays."""
    walk = Walk(ScriptedAdmin(), SilentTraffic(), 20.0, print)
    walk.saw(rollout_of(5))
    walk.saw(rollout_of(4))
    assert walk.rollout == rollout_of(5)


def test_events_are_told_in_one_line() -> None:
    """Time, leg, what it means, what happened."""
    flipped = Event(75.2, "canary 10%", "on all 2 gateway workers after 12 ms", "v2 answers 10% of the users")
    assert flipped.told() == "1:15  canary 10%: v2 answers 10% of the users; on all 2 gateway workers after 12 ms"
    assert Event(3.0, "shadow", "593 answers").told() == "0:03  shadow: 593 answers"
    assert clock_of(599.9) == "9:59"


def test_a_flip_that_did_not_arrive_is_loud() -> None:
    """The line says it in capitals."""
    assert reach_of(Flip("x", "canary", 0, "v1", 2, None)) == "NOT on all of 2 gateway workers"
    assert reach_of(Flip("x", "canary", 0, "v1", 2, 12.4)) == "on all 2 gateway workers after 12 ms"


def test_the_configuration_is_a_valid_one(tmp_path: Path) -> None:
    """The demo's turnout.yaml passes the check of `turnout validate`."""
    ports = {"gateway": 8080, "admin": 0, "ops": 0}
    config = config_of(v1_url="http://127.0.0.1:9001", v2_url="http://127.0.0.1:9002", ports=ports)
    file = tmp_path / "turnout.yaml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    checked = load_config(file, {})
    assert checked.gateway.workers == 2
    assert list(checked.routes["digits"].variants) == ["v1", "v2"]
    assert checked.routes["digits"].mirror_safe
