"""A rollout by the admin API: started, changed, moved, ended. On memory and on Valkey."""

import asyncio

import pytest

from router.core.observations import CounterKey
from router.core.ports import Heartbeat, RecordBatch
from router.core.rollout import Spec, Step
from router.testing import MemoryStore
from tests.admin.desk import BLOCK, ROLLOUT, Desk, config, desk_for, fields, memory_store, problem


async def test_an_idle_route_answers_with_all_members(desk: Desk) -> None:
    """Those of design.md section 8 and what is waited for, also before anything has happened."""
    document = await desk.get(ROLLOUT)
    assert list(document) == [
        "route", "id", "revision", "epoch", "phase", "reason", "halted", "policy", "step", "steps", "exposure",
        "stable", "candidate", "judgement", "waits_for", "slices", "free_places", "replicas",
    ]  # fmt: skip
    assert fields(document, ["phase", "id", "revision", "stable", "candidate"]) == ["idle", "", 0, "v1", ""]
    assert list(document["exposure"]) == ["id", "weight_bp", "mirror_bp", "since"]


async def test_start_answers_201_with_the_running_rollout(desk: Desk) -> None:
    """Its steps are in basis points and seconds, its ETag is the revision, and a GET says the same."""
    answer = await desk.client.post(f"{ROLLOUT}s", json=BLOCK)
    assert (answer.status_code, answer.headers["etag"], answer.headers["location"]) == (201, '"1"', ROLLOUT)
    document = answer.json()
    assert fields(document, ["phase", "policy", "step", "stable", "candidate", "reason"]) == [
        "progressing", "canary", 0, "v1", "v2", "new model",
    ]  # fmt: skip
    assert document["steps"][1] == {
        "weight_bp": 1_000, "mirror_bp": 500, "bake_s": 60.0, "min_requests": 200, "min_pairs": 0, "approval": False,
        "gates": [],
    }  # fmt: skip
    assert document["exposure"] == {
        "id": 1, "weight_bp": 0, "mirror_bp": 10_000, "since": "2027-01-15T08:00:00.000000Z",
    }  # fmt: skip
    assert document == await desk.get(ROLLOUT)


async def test_the_flips_of_an_operator(desk: Desk) -> None:
    """Shadow, canary, blue/green and back on a running rollout, each in one request, then an abort."""
    await desk.start(policy="shadow", steps=[])
    for change, expected in (
        ({"policy": "canary", "weight": "10%", "mirror": "5%"}, ["canary", 1_000, 500]),
        ({"weight": "25%"}, ["canary", 2_500, 500]),
        ({"policy": "blue_green", "weight": "100%"}, ["blue_green", 10_000, 10_000]),
        ({"policy": "shadow", "reason": "back"}, ["shadow", 0, 10_000]),
        ({"mirror": "0.01%"}, ["shadow", 0, 1]),
        ({"steps": [{"weight": "2%"}]}, ["shadow", 200, 0]),
    ):
        answer = await desk.client.patch(ROLLOUT, json=change)
        document = answer.json()
        exposure = document["exposure"]
        assert [document["policy"], exposure["weight_bp"], exposure["mirror_bp"]] == expected, answer.text
    aborted = await desk.post("abort", reason="enough")
    assert fields(aborted, ["phase", "reason"]) == ["rolled_back", "enough"]
    assert (aborted["exposure"]["weight_bp"], aborted["exposure"]["mirror_bp"]) == (0, 0)


async def test_the_verbs_of_an_operator(desk: Desk) -> None:
    """Pause, resume, approve, promote by step and in full, undo, retry; a body is not needed."""
    first = await desk.start()
    walked = [
        (await desk.post("pause"))["phase"],
        (await desk.post("resume"))["phase"],
        (await desk.post("approve"))["phase"],
        (await desk.post("promote"))["step"],
        (await desk.post("promote", full=True, reason="ship it"))["stable"],
        (await desk.post("undo"))["stable"],
    ]
    assert walked == ["paused", "progressing", "progressing", 1, "v2", "v1"]
    bare = await desk.client.post(f"{ROLLOUT}/retry")
    assert bare.json()["id"] == first["id"].replace(".1", ".2")
    assert bare.json()["reason"] == "no reason given"


async def test_a_promotion_without_the_judge_says_how(desk: Desk) -> None:
    """409 with guard's sentence; nothing changed."""
    await desk.start(steps=[{"weight": "1%"}])
    document = problem(await desk.client.post(f"{ROLLOUT}/promote"), 409)
    assert "promote --full" in document["detail"]
    assert fields(document, ["phase", "revision"]) == ["progressing", 1]
    assert (await desk.get(ROLLOUT))["revision"] == 1


@pytest.mark.parametrize(
    ("verb", "legal"),
    [
        ("pause", ["start"]), ("resume", ["start"]), ("abort", ["start"]), ("approve", ["start"]),
        ("promote", ["start"]), ("undo", ["start"]), ("retry", ["start"]),
    ],
)  # fmt: skip
async def test_what_is_illegal_on_an_idle_route_is_409_with_what_is_legal(
    desk: Desk, verb: str, legal: list[str]
) -> None:
    """The members can be acted on by a program, the sentence by a person."""
    document = problem(await desk.client.post(f"{ROLLOUT}/{verb}"), 409)
    assert fields(document, ["phase", "legal"]) == ["idle", legal]
    assert "start" in document["detail"]


async def test_a_change_or_a_start_in_the_wrong_phase_is_409_too(desk: Desk) -> None:
    """A rolled back rollout has no weight to set; a running one is not started over."""
    problem(await desk.client.patch(ROLLOUT, json={"weight": "1%"}), 409)
    problem(await desk.client.patch(ROLLOUT, json={"policy": "canary"}), 409)
    running = await desk.start()
    document = problem(await desk.client.post(f"{ROLLOUT}s", json={**BLOCK, "candidate": "v3"}), 409)
    assert running["id"] in document["detail"]
    assert document["legal"] == ["abort", "approve", "pause", "promote", "set-policy", "set-weight"]
    await desk.post("abort")
    document = problem(await desk.client.patch(ROLLOUT, json={"weight": "1%"}), 409)
    assert document["legal"] == ["retry", "start"]


async def test_an_unwell_candidate_is_409_with_the_reason(desk: Desk) -> None:
    """What the probe said."""
    desk.prober.unwell["v2"] = "GET http://127.0.0.1:9001/health answered 503, expected 2xx"
    document = problem(await desk.client.post(f"{ROLLOUT}s", json=BLOCK), 409)
    assert "answered 503" in document["detail"]


async def test_if_match_acts_on_that_revision_only(desk: Desk) -> None:
    """412 names the stored revision; with or without quotes; `*` and none mean any."""
    await desk.start()
    for value in ("7", '"7"', "0"):
        answer = await desk.client.post(f"{ROLLOUT}/pause", headers={"if-match": value})
        assert fields(problem(answer, 412), ["expected", "revision"]) == [int(value.strip('"')), 1]
        assert answer.headers["etag"] == '"1"'
    for verb, value in (("pause", '"1"'), ("resume", "2"), ("pause", "*")):
        answer = await desk.client.post(f"{ROLLOUT}/{verb}", headers={"if-match": value})
        assert answer.status_code == 200, answer.text
    for value in ("x", 'W/"4"', '"', "-1", "1 OR 2", "9" * 99):
        document = problem(await desk.client.patch(ROLLOUT, json={"weight": "1%"}, headers={"if-match": value}), 422)
        assert document["field"] == "If-Match"
    problem(await desk.client.post(f"{ROLLOUT}s", json=BLOCK, headers={"if-match": "0"}), 412)


async def test_cl11_two_operators_with_the_same_revision(desk: Desk) -> None:
    """One 200, one 412, and the ledger shows actor, reason, before and after of the one."""
    await desk.start()
    changes = [{"weight": "1%", "reason": "one"}, {"weight": "2%", "reason": "two"}]
    answers = await asyncio.gather(
        *(desk.client.patch(ROLLOUT, json=change, headers={"if-match": "1"}) for change in changes)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    newest = (await desk.get("/v1/routes/digits/decisions"))[0]
    won = next(change for change, answer in zip(changes, answers, strict=True) if answer.status_code == 200)
    assert fields(newest, ["actor", "reason", "weight_bp_before"]) == ["operator:local", won["reason"], 0]
    assert newest["weight_bp_after"] == (100 if won["reason"] == "one" else 200)


async def test_replicas_show_when_a_flip_has_reached_everybody(desk: Desk) -> None:
    """Each live gateway worker with the revision it routes by and since when; silent ones and control are left out."""
    document = await desk.start()
    await desk.store.beat(Heartbeat("g3", "gateway", "host", 42, desk.clock.now_s, "c0ffee", {"digits": (1, 0.0)}))
    assert [one["id"] for one in (await desk.get(ROLLOUT))["replicas"]] == ["g3"]
    now_s = desk.clock.now_s  # by clocks that are 5 s behind ours, which does not matter
    desk.clock.advance(5.1)
    for boot, kind, at_s, applied in (
        ("g1", "gateway", now_s - 1, {"digits": (document["revision"], now_s - 0.5)}),
        ("g2", "gateway", now_s, {}),
        ("c1", "control", now_s, {}),
    ):
        await desk.store.beat(Heartbeat(boot, kind, "host", 42, at_s, "c0ffee", applied))
    replicas = (await desk.get(ROLLOUT))["replicas"]
    assert [fields(one, ["id", "revision", "applied_at"]) for one in replicas] == [
        ["g1", 1, "2027-01-15T07:59:59.500000Z"], ["g2", 0, None],
    ]  # fmt: skip
    assert replicas[0] == {
        "id": "g1", "host": "host", "pid": 42, "revision": 1, "applied_at": "2027-01-15T07:59:59.500000Z",
        "seen": "2027-01-15T07:59:59.000000Z",
    }  # fmt: skip


async def test_the_judgement_counts_what_the_gateways_saw(desk: Desk) -> None:
    """Within the present exposure, over all workers."""
    document = await desk.start()
    counters = {
        CounterKey(1, "outcome", "", "candidate", "ok"): 4, CounterKey(1, "pair", "", "pair", "both"): 3,
        CounterKey(1, "started", "", "candidate", "all"): 4,
    }  # fmt: skip
    for boot in ("g1", "g2"):
        await desk.store.append(RecordBatch("digits", document["id"], boot, 1, 0, b"", counters), 2**20)
    judgement = (await desk.get(ROLLOUT))["judgement"]
    assert judgement["counts"] == {"requests_stable": 0, "requests_candidate": 8, "pairs": 6}
    assert fields(judgement, ["rollback", "promote", "invalid", "reason", "gates"]) == [
        False, False, None, "nothing is judged: no gate is enforced", [],
    ]  # fmt: skip
    evidence = await desk.get("/v1/routes/digits/evidence")
    assert evidence["counts"] == judgement["counts"]
    assert evidence["counters"][0] == {
        "exposure": 1, "metric": "outcome", "slice": "", "variant": "candidate", "cell": "ok", "value": 8,
    }  # fmt: skip


async def test_a_route_shows_its_definition_drift_and_the_block_that_waits() -> None:
    """What the file says, what the store says, and why the file's block has not started."""
    block = Spec("v3", "shadow", steps=(Step(mirror_bp=1),))
    async with desk_for(memory_store(), config(rollouts={"digits": block})) as desk:
        await desk.control.turn()
        assert (await desk.get("/v1/routes/digits"))["pending"]["why"] == "is about to start"
        await desk.start()
        document = await desk.get("/v1/routes/digits")
        assert document["pending"] == {
            "candidate": "v3", "policy": "shadow", "why": f"waits until {document['rollout']['id']} has ended",
        }  # fmt: skip
        await desk.post("promote", full=True)
        document = await desk.get("/v1/routes/digits")
        assert fields(document, ["file_stable", "adapter", "mirror_safe"]) == ["v1", "open_inference", True]
        assert "the store v2" in document["drift"]
        assert document["variants"][1] == {
            "name": "v2", "urls": ["http://127.0.0.1:9001"], "model": None, "version": "2", "path": None,
            "health": "/health",
        }  # fmt: skip
        summary = (await desk.get("/v1/routes"))[0]
        assert fields(summary, ["name", "stable", "phase", "drift"]) == ["digits", "v2", "promoted", document["drift"]]
        await desk.control.turn()
        await desk.control.start_due_blocks()
        document = await desk.get("/v1/routes/digits")
        assert (document["pending"], document["rollout"]["candidate"]) == (None, "v3")


class GoneAfterwards(MemoryStore):
    """A store that is lost right after each write."""

    async def compare_and_set(self, *arguments: object) -> bool:
        """Write, then be gone."""
        written = await super().compare_and_set(*arguments)  # type: ignore[arg-type]
        self.server.cut()
        return written


async def test_a_command_that_was_carried_out_is_no_error_when_the_store_goes_right_after() -> None:
    """The answer says what was written; what cannot be read any more is marked."""
    async with desk_for(GoneAfterwards(), config()) as desk:
        document = await desk.start()
        assert document["phase"] == "progressing"
        assert "could not be read" in document["judgement"]["invalid"]
        problem(await desk.client.get(ROLLOUT), 503)
