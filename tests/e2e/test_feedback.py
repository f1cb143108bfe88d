"""True labels through real processes: sent with a delay, joined, judged; and counted once through every accident."""

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from router.core.observations import Pair
from router.core.ports import RecordBatch
from router.store.codec import encode_pairs
from router.store.embedded import EmbeddedValkey
from router.testing.samples import sample_pair
from tests.e2e.harness import ROUTE, Admin, Turnout, Turnouts, config_for
from tests.e2e.load import Load, beside, eventually
from tests.e2e.model_server import ModelServer, Seen, answer_of
from tests.e2e.wire import Answer, BrokenError, Line, fetch, request
from tests.patience import patient_store

DIGITS = 10
DELAY_S = 0.3
RECALL_OF_8 = {"metric": "recall", "label": "8", "max_decrease": "20pp"}
ACCURACY = {"metric": "accuracy", "max_decrease": "5pp"}
LOOSE = {**ACCURACY, "max_decrease": "25pp"}
SHADOW = {"mirror": "100%", "bake": "1s", "min_pairs": 100}
HALF = {"weight": "50%", "mirror": "100%", "bake": "1s", "min_requests": 100}


class Reader(ModelServer):
    """Knows the digit that the client wrote into the request, but for those that it `misreads`."""

    def __init__(self, **misreads: int) -> None:
        super().__init__(0)
        self._answers = {str(digit): answer_of(misreads.get(f"as_{digit}", digit)) for digit in range(DIGITS)}

    def answer_to(self, seen: Seen) -> bytes:
        """Return the digit, or what it is taken for."""
        return self._answers[seen.headers["x-digit"]]


def feedback(labels: Sequence[dict[str, Any]]) -> bytes:
    """Return one call of the admin API."""
    return request("POST", "/v1/feedback", json.dumps(labels).encode(), {"content-type": "application/json"})


@dataclass
class Labeller:
    """Tells the truth about every answered request, DELAY_S after its answer. For `Load(named=True)`."""

    port: int
    results: Counter[str] = field(default_factory=Counter)
    _answered: deque[tuple[float, str]] = field(default_factory=deque)

    @staticmethod
    def headers_of(number: int) -> dict[str, str]:
        """Return what lets a model see the digit of a request."""
        return {"x-digit": str(number % DIGITS)}

    def on_answer(self, answer: Answer) -> None:
        """Note a request that may be labelled later."""
        self._answered.append((answer.ended_s + DELAY_S, answer.headers["x-request-id"]))

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[Labeller]":
        """Send labels for the duration of the block."""
        async with beside(self._run()):
            yield self

    async def _run(self) -> None:
        line = await Line.open(self.port)
        try:
            while True:
                due = [number for at_s, number in islice(self._answered, 1_000) if at_s <= time.monotonic()]
                if due:
                    labels = [{"request_id": number, "label": int(number) % DIGITS} for number in due]
                    answer = await line.ask(feedback(labels))
                    assert answer.status in (200, 503), answer  # a busy machine's store may be late: once more
                    if answer.status == 200:
                        self.results.update(answer.json())
                        self._answered = deque(islice(self._answered, len(due), None))
                await asyncio.sleep(0.05)
        finally:
            line.close()


@pytest.mark.slow
@pytest.mark.parametrize("affinity", [["header:x-user-id"], []], ids=["by user", "by request"])
async def test_a_candidate_that_misreads_one_digit_is_rolled_back_and_the_digit_is_named(
    turnouts: Turnouts, figure: Callable[[str], None], affinity: list[str]
) -> None:
    """No client sees an error, nothing else is wrong with it, and overall it is right in 90 %."""
    async with Reader().running() as stable, Reader(as_8=3).running() as candidate:
        rollout = {"candidate": "v2", "policy": "canary", "steps": [HALF, HALF], "gates": [RECALL_OF_8, LOOSE]}
        serve = await turnouts.start(config_for(stable, candidate, rollout=rollout, affinity=affinity))
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        labeller = Labeller(serve.port("admin"))

        async def rolled_back() -> bool:
            return bool((await admin.rollout())["phase"] == "rolled_back")

        async def late() -> bool:
            return bool(labeller.results["late"])

        load = Load(
            serve.port("gateway"), named=True, headers_of=labeller.headers_of, on_answer=labeller.on_answer
        )  # fmt: skip
        async with labeller.running(), load.running():
            await eventually(rolled_back, within_s=30.0)
            await eventually(late, within_s=10.0)
        assert load.errors == []
        newest = (await admin.get("/decisions"))[0]
        admin.close()
    assert (newest["kind"], newest["actor"]) == ("roll_back", "control")
    assert newest["reason"].startswith("recall:8: candidate is right in 0.00 % of ")
    assert "labelled pairs of class 8, stable in 100.00 %" in newest["reason"]
    recall = next(gate for gate in newest["judgement"]["gates"] if gate["gate"] == "recall:8")
    assert recall["verdict"] == "fail"
    figure(f"{dict(labeller.results)}: {newest['reason']}")


@pytest.mark.slow
async def test_an_equal_candidate_is_promoted_by_its_labels(turnouts: Turnouts, figure: Callable[[str], None]) -> None:
    """From shadow over half of the traffic to promotion, by proof of accuracy alone."""
    async with Reader().running() as stable, Reader().running() as candidate:
        rollout = {"candidate": "v2", "policy": "canary", "steps": [SHADOW, HALF], "gates": [ACCURACY]}
        timeouts = {"connect": "1s", "total": "1s"}
        serve = await turnouts.start(config_for(stable, candidate, rollout=rollout, affinity=[], timeouts=timeouts))
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        labeller = Labeller(serve.port("admin"))

        async def promoted() -> bool:
            return bool((await admin.rollout())["phase"] == "promoted")

        load = Load(
            serve.port("gateway"), named=True, headers_of=labeller.headers_of, on_answer=labeller.on_answer
        )  # fmt: skip
        async with labeller.running(), load.running():
            await eventually(promoted, within_s=30.0)
        assert load.errors == []
        decisions = await admin.get("/decisions")
        admin.close()
    assert [one["kind"] for one in decisions] == ["promote", "advance", "start"]
    (gate,) = decisions[0]["judgement"]["gates"]
    assert (gate["gate"], gate["verdict"], gate["counts"]["both_wrong"]) == ("accuracy", "pass", 0)
    taken = labeller.results["accepted"] + labeller.results["waiting"]
    assert taken >= gate["counts"]["both_right"] >= 50
    figure(f"{dict(labeller.results)}: {gate['sentence']}")


# -- once, whatever happens -----------------------------------------------------------------------------------------

PAIRS = 4_000
CALL = 100
RESTARTS = 4


@pytest.fixture
def valkey(tmp_path: Path) -> "Iterable[EmbeddedValkey]":
    """A store that outlives the control processes."""
    with EmbeddedValkey(tmp_path / "store") as running:
        yield running


def control_config(stable: ModelServer, candidate: ModelServer, url: str) -> dict[str, Any]:
    """Return what every control process is told."""
    rollout = {"candidate": "v2", "policy": "shadow"}
    return {**config_for(stable, candidate, rollout=rollout, affinity=[]), "store": {"url": url}}


async def written(url: str, rollout: str) -> list[dict[str, Any]]:
    """Write pairs as a gateway does, and return their labels."""
    store = patient_store(url)
    for sequence in range(PAIRS // 250):
        pairs = [_pair(rollout, number) for number in range(250 * sequence, 250 * (sequence + 1))]
        batch = RecordBatch(ROUTE, rollout, "g1", sequence + 1, len(pairs), encode_pairs(pairs), {})
        await store.append(batch, 2**26)
    await store.close()
    return [{"request_id": f"request-{number}", "label": "7"} for number in range(PAIRS)]


def _pair(rollout: str, number: int) -> Pair:
    made = replace(sample_pair(ROUTE, number), rollout=rollout, exposure=1)
    return replace(made, candidate=replace(made.candidate, label="7"))


async def total(admin: Admin) -> int:
    """Return how many labels the evidence holds, all of which are of good answers."""
    counters = await admin.counters()
    assert counters is not None
    assert {cell for (_, metric, _, cell) in counters if metric == "correct"} <= {"11"}
    return sum(value for (_, metric, _, _), value in counters.items() if metric == "correct")


async def send_all(port: int, labels: Sequence[dict[str, Any]]) -> Counter[str]:
    """Send labels in calls, each again until it is answered and nothing in it waits."""
    results: Counter[str] = Counter()
    for start in range(0, len(labels), CALL):
        give_up_s = time.monotonic() + 30.0
        while True:
            assert time.monotonic() < give_up_s, "a call was never answered in full"
            try:
                answer = await fetch(port, feedback(labels[start : start + CALL]))
            except (OSError, BrokenError):
                await asyncio.sleep(0.02)
                continue
            found = answer.json() if answer.status == 200 else {"waiting": 1}
            if not found["waiting"]:
                break
            await asyncio.sleep(0.02)
        results.update({result: number for result, number in found.items() if number})
    return results


@pytest.mark.slow
async def test_two_control_processes_count_the_same_labels_once(
    valkey: EmbeddedValkey,
    turnouts: Turnouts,
    stable: ModelServer,
    candidate: ModelServer,
    figure: Callable[[str], None],
) -> None:
    """Both get every label at the same time, in opposite orders."""
    config = control_config(stable, candidate, valkey.url)
    one = await turnouts.start(config, "control", directory=turnouts.directory / "one")
    two = await turnouts.start(config, "control", directory=turnouts.directory / "two")
    admin = Admin(one.port("admin"))
    labels = await written(valkey.url, await started(admin))
    found = sum(
        await asyncio.gather(send_all(one.port("admin"), labels), send_all(two.port("admin"), labels[::-1])), Counter()
    )
    # A call that a busy store was late for was sent again: each label has one result, and none was accepted twice.
    assert (found["accepted"] + found["double"], found.total()) == (2 * PAIRS, 2 * PAIRS)
    assert found["accepted"] <= PAIRS
    assert await total(admin) == PAIRS
    admin.close()
    largest = await fetch(one.port("admin"), feedback(labels[:1_000]))
    figure(
        f"{dict(found)}; 1,000 labels in one call, all doubles: {1e3 * (largest.ended_s - largest.started_s):.0f} ms"
    )


@pytest.mark.slow
async def test_the_example_of_the_manual_works(
    valkey: EmbeddedValkey, turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """docs/feedback.md, as it is written but for the port; what it shows as the answer has the same fields."""
    manual = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text()
    command, shown = (manual.partition(f"```{kind}\n")[2].partition("\n```")[0] for kind in ("sh", "json"))
    control = await turnouts.start(control_config(stable, candidate, valkey.url), "control")
    admin = Admin(control.port("admin"))
    await started(admin)
    admin.close()
    ran = await asyncio.create_subprocess_exec(
        "sh", "-c", command.replace(":8081/", f":{control.port('admin')}/"), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    answer = json.loads((await ran.communicate())[0])
    assert (tuple(answer), answer["waiting"]) == (tuple(json.loads(shown)), 2)


@pytest.mark.slow
async def test_kill_9_of_control_in_the_middle_counts_every_label_once(
    turnouts: Turnouts,
    valkey: EmbeddedValkey,
    stable: ModelServer,
    candidate: ModelServer,
    figure: Callable[[str], None],
) -> None:
    """Calls that were never answered are sent again; some of their labels had been counted."""
    config = control_config(stable, candidate, valkey.url)
    control = await turnouts.start(config, "control")
    admin = Admin(control.port("admin"))
    labels = await written(valkey.url, await started(admin))
    admin.close()
    results: Counter[str] = Counter()
    for number in range(RESTARTS):
        part = labels[number * PAIRS // RESTARTS : (number + 1) * PAIRS // RESTARTS]
        results.update(await cut_off(control, part, after=number * 2 + 1))
        control = await turnouts.start(config, "control")
        results.update(await send_all(control.port("admin"), part))
    admin = Admin(control.port("admin"))
    assert await total(admin) == PAIRS
    assert await send_all(control.port("admin"), labels[::97]) == {"double": len(labels[::97])}
    assert await total(admin) == PAIRS
    admin.close()
    figure(f"{PAIRS} labels over {RESTARTS} kills, as they were answered: {dict(results)}")


async def cut_off(control: Turnout, labels: Sequence[dict[str, Any]], after: int) -> Counter[str]:
    """Send calls over two connections, and kill control while the call number `after` is under way."""
    results: Counter[str] = Counter()
    calls = iter([labels[start : start + CALL] for start in range(0, len(labels), CALL)])
    answered = 0

    async def client() -> None:
        nonlocal answered
        line = await Line.open(control.port("admin"))
        for call in calls:
            answer = line.ask(feedback(call))
            if answered >= after and control.process.poll() is None:
                await asyncio.sleep(0.003 * after)  # into the call, each time at another place
                control.process.send_signal(signal.SIGKILL)
            try:
                found = await answer
            except BrokenError:
                return
            answered += 1
            if found.status == 200:
                results.update({result: number for result, number in found.json().items() if number})

    await asyncio.gather(client(), client())
    await control.ended()
    return results


async def started(admin: Admin) -> str:
    """Return the id of the file's rollout once it runs."""

    async def running() -> bool:
        return bool((await admin.rollout())["phase"] == "progressing")

    await eventually(running)
    return str((await admin.rollout())["id"])
