"""Two control processes on one store: one that slept, two that both believe to decide, and clocks that are wrong."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis

from router.control.lease import LEASE_S
from router.core.decisions import DecisionRecord
from router.store import keys
from router.store.codec import decode_decision
from tests.chaos.fleet import FAKETIME, Fleet, Member, stopped, until_one_decides
from tests.chaos.histories import faults
from tests.e2e.harness import ROUTE, config_for
from tests.e2e.load import eventually
from tests.e2e.model_server import ModelServer

HOUR_S = 3_600.0
TURN_S = 1.0


def walking(stable: ModelServer, candidate: ModelServer, bakes_s: Sequence[float]) -> dict[str, Any]:
    """Return a configuration whose rollout walks by time alone: nobody gets anything of the candidate's."""
    steps = [{"weight": "0%", "mirror": "0%", "bake": f"{bake_s:g}s"} for bake_s in bakes_s]
    steps.append({"weight": "0%", "mirror": "0%", "bake": "1h"})
    return config_for(stable, candidate, rollout={"candidate": "v2", "policy": "canary", "steps": steps})


def ledger_of(fleet: Fleet) -> list[tuple[float, DecisionRecord]]:
    """Return the ledger, oldest first, each line with the second of the store's clock at which it was written."""
    with redis.Redis.from_url(fleet.url) as client:
        entries: Any = client.xrange(keys.decisions(ROUTE))
    return [(int(entry.split(b"-")[0]) / 1000, decode_decision(fields[b"r"])) for entry, fields in entries]


def writers_of(members: Mapping[str, Member]) -> dict[int, str]:
    """Return which control process wrote each revision that control decided, as their logs say."""
    return {
        int(line["revision"]): name
        for name, member in members.items()
        for line in member.turnout.logged("info")
        if line["event"] == "decided" and line["actor"] == "control"
    }


def lease_lines(member: Member) -> list[str]:
    """Return what a control process has logged of the lease, in order."""
    known = ("this process decides from now on", "another control process decides now")
    return [line["event"] for line in member.turnout.logged("info", "warning") if line["event"] in known]


@pytest.mark.slow
async def test_cl2_a_leader_that_slept_for_three_leases_is_fenced(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Awake again it writes nothing under its old epoch, says so once, and stops deciding; the other goes on."""
    config = walking(stable, candidate, [1.0] * 30)
    old, new = await asyncio.gather(fleet.start("control", config), fleet.start("control", config))
    before = await until_one_decides(old, new)
    if await old.epoch() is None:
        old, new = new, old
    admin = new.admin

    async def walked(steps: int) -> bool:
        return int((await admin.rollout())["step"]) >= steps

    await eventually(lambda: walked(2))
    async with stopped(old.turnout.pid):
        asleep_s = time.monotonic()
        after = await until_one_decides(new)
        took_over_s = time.monotonic() - asleep_s
        await asyncio.sleep(max(0.0, asleep_s + 3 * LEASE_S - time.monotonic()))  # the length of the fault
        awake_at = len(ledger_of(fleet))

    async def noticed() -> bool:
        return await old.epoch() is None

    await eventually(noticed)
    step = int((await admin.rollout())["step"])
    await eventually(lambda: walked(step + 2))
    ledger = [record for _, record in ledger_of(fleet)]
    assert before < after
    assert {record.epoch for record in ledger[awake_at:]} == {after}
    assert faults(ledger, writers_of({"old": old, "new": new})) == []
    assert lease_lines(old) == ["this process decides from now on", "another control process decides now"]
    figure(
        f"asleep for {3 * LEASE_S:.0f} s; the other decided after {took_over_s:.1f} s; "
        f"{len(ledger)} decisions, 0 of them with the old epoch {before} after {after} began"
    )


@pytest.mark.slow
async def test_cl3_two_leaders_at_once_leave_one_history(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """The lease is deleted again and again while both walk the plan and operators ask both of them for other shares."""
    config = walking(stable, candidate, [0.1] * 45)
    started = await asyncio.gather(fleet.start("control", config), fleet.start("control", config))
    members = dict(zip("ab", started, strict=True))
    accepted = 0
    with redis.Redis.from_url(fleet.url) as client:
        until_s = time.monotonic() + 3.0
        while time.monotonic() < until_s:
            client.delete(keys.LEASE)
            asked = [
                member.admin.ask("POST", f"/rollout/{verb}", {"reason": name})
                for name, member in members.items()
                for verb in ("pause", "resume")
            ]
            answers = await asyncio.gather(*asked)
            assert {answer.status for answer in answers} <= {200, 409}
            accepted += sum(answer.status == 200 for answer in answers)
    ledger = [record for _, record in ledger_of(fleet)]
    writers = writers_of(members)
    assert faults(ledger, writers) == []
    assert sum(record.actor.startswith("operator") for record in ledger) == accepted, "an update was lost"
    epochs = {record.epoch for record in ledger if record.actor == "control"}
    assert len(epochs) >= 3, "the lease never changed hands"
    figure(
        f"{len(ledger)} decisions, {accepted} of operators, the others by {len(set(writers.values()))} processes "
        f"under {len(epochs)} epochs: one history"
    )


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed (Debian: apt install faketime)")
async def test_cl4_clocks_that_are_wrong_and_jump_change_no_bake_and_no_lease(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Controls an hour fast and an hour slow, gateways too, steps of 30 s both ways, and the leader dies in a bake."""
    bakes_s = (3.0, 3.0, 8.0)
    config = walking(stable, candidate, bakes_s)
    replicas = await asyncio.gather(*(fleet.start("gateway", config, off_s) for off_s in (HOUR_S, -HOUR_S)))
    first = await fleet.start("control", config, HOUR_S)
    await until_one_decides(first)
    second = await fleet.start("control", config, -HOUR_S)
    admin = second.admin

    async def reached(step: int) -> bool:
        return int((await admin.rollout())["step"]) >= step

    await eventually(lambda: reached(1), within_s=15.0)
    for off_s in (HOUR_S - 30, HOUR_S + 30, HOUR_S):
        for member in (first, replicas[0]):
            assert member.clock is not None
            member.clock.set(off_s)
        await asyncio.sleep(0.5)  # so that each clock is lived by for a while
    await eventually(lambda: reached(2), within_s=15.0)
    assert len((await admin.rollout())["replicas"]) == len(replicas)
    await asyncio.sleep(TURN_S)  # a beat that tells of the third bake
    os.kill(first.turnout.pid, signal.SIGKILL)
    await eventually(lambda: reached(3), within_s=30.0)
    times = [(at_s, record) for at_s, record in ledger_of(fleet) if record.kind in ("start", "advance")]
    dwells_s = [after - before for (before, _), (after, _) in itertools.pairwise(times)]
    figure("bakes of " + ", ".join(f"{b:g} s took {d:.2f} s" for b, d in zip(bakes_s, dwells_s, strict=True)))
    for bake_s, dwell_s in zip(bakes_s, dwells_s, strict=True):
        assert 0.95 * bake_s <= dwell_s <= 1.05 * bake_s + 2 * TURN_S
    assert faults([record for _, record in times]) == []
    assert lease_lines(first) == lease_lines(second) == ["this process decides from now on"]
