"""The recorder: nothing on the request path waits for the store, losses are bounded and counted, counters only grow."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from model_adapters.opaque import Opaque
from router.core.config import KIB, PairsConfig, RecorderConfig
from router.core.decisions import RollBack
from router.core.inference import Answer, Prediction, RawAnswer, kept_label
from router.core.observations import Comparison, CounterKey
from router.core.ports import Appended, RecordBatch
from router.core.traffic import NO_KEY, SERVE, AffinityKind, AffinitySource, Timeouts, draw_of, key_cell
from router.testing import MemoryStore
from tests.gateway.bench import ADAPTERS, COMPARATORS, ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.upstreams import Visit, answering, ok

SHADOW = (0, 10_000)


async def shadowed(bench: Bench, **config: object) -> Gateway:
    """Return a gateway at shadow 100 %."""
    route = route_of(await bench.upstream(), await bench.upstream())
    return await bench.gateway(route, states=[started(*SHADOW)], **config)  # type: ignore[arg-type]


async def ask(bench: Bench, number: int, body: bytes = b"x") -> None:
    """Send `number` requests, all of which must be answered by the variant."""
    client = await bench.client()
    for _ in range(number):
        assert (await client.ask("POST", "/", body, within_s=1.0)).body == body


def writes(gateway: Gateway) -> Mapping[tuple[str, ...], object]:
    """Return turnout_store_writes_total."""
    return gateway.worker.snapshot()["turnout_store_writes_total"]


async def counters(gateway: Gateway) -> dict[CounterKey, int]:
    """Return what the store holds of the gateway's rollout, summed over boots."""
    found: dict[CounterKey, int] = {}
    for cells in (await gateway.store.evidence("r", ROLLOUT)).values():
        for key, value in cells.items():
            found[key] = found.get(key, 0) + value
    return found


def of(found: dict[CounterKey, int], metric: str, variant: str, cell: str) -> int:
    """Return one counter, summed over exposures."""
    return sum(value for key, value in found.items() if (key.metric, key.variant, key.cell) == (metric, variant, cell))


async def test_counters_reach_the_store_and_agree_with_the_pairs(bench: Bench) -> None:
    """Started, outcomes, latencies, pairs and agreement, under the exposure that was routed by."""
    gateway = await shadowed(bench)
    await ask(bench, 30)
    await gateway.pairs(30)
    await gateway.worker.recorder.flush()
    found = await counters(gateway)
    assert {key.exposure for key in found} == {1}
    cells = [
        ("started", "stable", "all"),
        ("outcome", "stable", "ok"),
        ("pair", "pair", "both"),
        ("agreement", "pair", "same"),
    ]
    assert [of(found, *cell) for cell in cells] == [30] * 4
    assert sum(value for key, value in found.items() if key.metric == "latency") == 30
    assert not [key for key in found if key.variant == "candidate"]


async def test_live_requests_without_copies_are_counted_too(bench: Bench) -> None:
    """A canary without mirror writes its counters each second, and what is left when it drains."""
    route = route_of(await bench.upstream(), await bench.upstream())
    gateway = await bench.gateway(route, states=[started(10_000, 0)])
    await ask(bench, 20)
    await gateway.worker.drain(2.0)
    bench.gateways.clear()
    found = await counters(gateway)
    assert (of(found, "started", "candidate", "all"), of(found, "outcome", "candidate", "ok")) == (20, 20)


async def test_a_store_that_is_away_holds_nobody_up_and_loses_nothing_that_fits(bench: Bench) -> None:
    """Fifty requests meanwhile; when it is back, every pair is there once, and the counters are whole."""
    gateway = await shadowed(bench)
    await ask(bench, 10)
    await gateway.pairs(10)
    gateway.server.cut()
    await until(lambda: gateway.worker.snapshot()["turnout_store_up"][()] == 0.0, "the store is missed")
    await ask(bench, 50)
    await until(lambda: writes(gateway)["failed",], "a write is tried")
    assert gateway.worker.recorder.queue_bytes > 0
    gateway.server.mend()
    await gateway.pairs(60)
    await gateway.worker.recorder.flush()
    assert of(await counters(gateway), "outcome", "stable", "ok") == 60
    assert gateway.worker.recorder.queue_bytes == 0
    assert gateway.dropped("pair", "store_down") == gateway.dropped("pair", "queue_full") == 0
    assert writes(gateway)["ok",]


async def test_while_the_store_is_away_the_oldest_pairs_go_first_and_are_counted(bench: Bench) -> None:
    """The queue stays within its bytes; stored + dropped = made; the newest pair survives, and counters are whole."""
    limit = 64 * KIB  # some 25 pairs that nobody has read yet, or 250 encoded ones
    gateway = await shadowed(bench, recorder=RecorderConfig(queue_bytes=limit))
    gateway.server.cut()
    client = await bench.client()
    for number in range(600):
        await client.ask("POST", "/", b"x", f"X-Request-Id: r{number}")
        assert gateway.worker.recorder.queue_bytes <= limit
        if number % 10 == 9:
            await until(lambda: gateway.held() == {}, "the copies end")
            gateway.worker.recorder.tick(gateway.worker.table)  # not only every 50 ms: this queue is small
    gateway.server.mend()
    await gateway.worker.recorder.flush()
    lost = int(gateway.dropped("pair", "store_down") + gateway.dropped("pair", "queue_full"))
    assert gateway.dropped("pair", "store_down") > 0
    pairs = await gateway.pairs(600 - lost)
    assert pairs[-1].request_id == "r599"
    assert of(await counters(gateway), "outcome", "stable", "ok") == 600
    assert of(await counters(gateway), "pair", "pair", "both") == 600


async def test_pairs_too_large_for_the_queue_are_dropped_as_such(bench: Bench) -> None:
    """Two answers of 4,000 bytes do not fit 8 KiB; the requests are answered and counted all the same."""
    gateway = await shadowed(bench, recorder=RecorderConfig(queue_bytes=8 * KIB))
    await ask(bench, 3, b"x" * 4_000)
    await until(lambda: gateway.dropped("pair", "queue_full") == 3, "the drops are counted")
    await gateway.pairs(0)
    assert gateway.outcomes() == {"ok": 3}


async def test_pairs_that_nobody_could_keep_are_counted_as_lost_evidence(bench: Bench) -> None:
    """They had begun: without this the judge would take them for copies that are still in flight."""
    route = route_of(
        await bench.upstream(), await bench.upstream(), affinity=(AffinitySource(AffinityKind.HEADER, "x-user"),)
    )
    gateway = await bench.gateway(route, states=[started(*SHADOW)], recorder=RecorderConfig(queue_bytes=8 * KIB))
    client = await bench.client()
    for user in ("anna", "anna", "bert"):
        await client.ask("POST", "/", b"x" * 4_000, f"x-user: {user}")
    await until(lambda: gateway.dropped("pair", "queue_full") == 3, "the drops are counted")
    await gateway.worker.recorder.flush()
    found = await counters(gateway)
    assert (of(found, "started", "pair", "all"), of(found, "pair", "pair", "lost")) == (3, 3)
    assert (of(found, "key:started", "pair", "all/0"), of(found, "key:pair", "pair", "lost/0")) == (2, 2)


async def test_a_store_that_forgot_is_told_of_past_exposures_again(bench: Bench) -> None:
    """Also of those that change no more and were written long ago."""
    route = route_of(await bench.upstream(), await bench.upstream(), timeouts=Timeouts(total_s=0.2))
    gateway = await bench.gateway(route, states=[started(*SHADOW)])
    recorder, past = gateway.worker.recorder, gateway.worker.table.standings["r"].tally
    assert past is not None
    await ask(bench, 5)
    await gateway.pairs(5)
    await gateway.expose(weight_bp=10_000)
    await until(lambda: past.settled, "its last second is over")
    await recorder.flush()
    await recorder.flush()  # finds nothing new: from now on it is left out
    before = {key: value for key, value in (await counters(gateway)).items() if key.exposure == 1}
    gateway.server.cut()
    gateway.server.evidence.clear()
    await ask(bench, 1)
    await until(lambda: writes(gateway)["failed",], "a write is tried")
    gateway.server.mend()
    await recorder.flush()
    await recorder.flush()
    assert {key: value for key, value in (await counters(gateway)).items() if key.exposure == 1} == before
    assert of(before, "outcome", "stable", "ok") == 5


async def test_large_fields_count_into_the_queue(bench: Bench) -> None:
    """A request whose fields alone are larger than the queue gives no pair: bodies are not all that is held."""
    gateway = await shadowed(bench, recorder=RecorderConfig(queue_bytes=16 * KIB))
    client = await bench.client()
    for _ in range(3):
        await client.ask("POST", "/", b"x", "X-Large: " + "x" * 20_000)
    await until(lambda: gateway.dropped("pair", "queue_full") == 3, "the drops are counted")
    await gateway.pairs(0)
    assert gateway.outcomes() == {"ok": 3}


async def test_counters_never_go_backwards(bench: Bench) -> None:
    """The store comes and goes ten times under load with a queue that overflows: each reading is at least the last."""
    gateway = await shadowed(bench, recorder=RecorderConfig(queue_bytes=16 * KIB))
    last: dict[CounterKey, int] = {}
    for _ in range(10):
        gateway.server.cut()
        await ask(bench, 20)
        gateway.server.mend()
        await until(lambda: gateway.worker.recorder.queue_bytes == 0, "the queue is written")
        found = await counters(gateway)
        assert all(found.get(key, 0) >= value for key, value in last.items())
        last = found
    await gateway.worker.recorder.flush()
    assert of(await counters(gateway), "started", "stable", "all") == 200


class Hanging(MemoryStore):
    """A store whose writes do not come back until they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = asyncio.Event()

    async def append(self, batch: RecordBatch, keep_bytes: int) -> Appended:
        """Wait, then write."""
        await self.may_write.wait()
        return await super().append(batch, keep_bytes)


async def test_a_store_that_hangs_holds_nobody_up(bench: Bench) -> None:
    """Requests go on; what was recorded is written when the store comes to."""
    store = Hanging()
    gateway = await shadowed(bench, store=store)
    await ask(bench, 50)
    assert gateway.outcomes() == {"ok": 50}
    store.may_write.set()
    await gateway.pairs(50)


async def test_what_the_store_trims_is_counted(bench: Bench) -> None:
    """`pairs.keep`: the log holds the newest pairs, and the metric says how many went."""
    gateway = await shadowed(bench, pairs=PairsConfig(keep_bytes=8 * KIB))
    for _ in range(20):
        await ask(bench, 10)
        await until(lambda: gateway.worker.recorder.queue_bytes == 0, "the queue is written")
    kept = await gateway.store.pairs("r", 1_000)
    assert 0 < len(kept) < 200
    assert gateway.dropped("pair", "trimmed") == 200 - len(kept)


async def test_draining_writes_every_pair_and_every_counter(bench: Bench) -> None:
    """Nothing that was answered before the drain is missing after it, also where the copy was still under way."""

    async def late(visit: Visit) -> None:
        async for received in visit.requests():
            await asyncio.sleep(0.2)
            await visit.send(ok(received.body))

    route = route_of(await bench.upstream(), await bench.upstream(late))
    gateway = await bench.gateway(route, states=[started(*SHADOW)])
    await ask(bench, 25)
    for client in bench.clients:
        client.close()
    await gateway.worker.drain(3.0)
    bench.gateways.clear()
    pairs = await gateway.pairs(25)
    assert {pair.candidate.outcome for pair in pairs} == {"ok"}
    assert of(await counters(gateway), "started", "stable", "all") == 25


async def test_two_workers_write_under_their_own_boots(bench: Bench) -> None:
    """Their counters add up."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    first = await bench.gateway(route_of(stable, candidate), states=[started(*SHADOW)])
    second = await bench.gateway(route_of(stable, candidate), server=first.server)
    for gateway in (first, second):
        client = await bench.client(gateway)
        for _ in range(10):
            await client.ask("POST", "/", b"x")
    await first.pairs(20)
    await first.worker.recorder.flush()
    await second.worker.recorder.flush()
    assert list(await first.store.evidence("r", ROLLOUT)) == ["boot0", "boot1"]
    assert of(await counters(first), "outcome", "stable", "ok") == 20


async def test_each_exposure_has_its_own_counters(bench: Bench) -> None:
    """The id is the revision that opened it; after a rollback nothing more is counted as evidence."""
    gateway = await shadowed(bench)
    await ask(bench, 5)
    canary = await gateway.expose(weight_bp=10_000)
    await ask(bench, 7)
    await gateway.decide(RollBack(reason="test"))
    await ask(bench, 9)
    await gateway.pairs(12)
    await gateway.worker.recorder.flush()
    found = await counters(gateway)
    started_by = {(key.exposure, key.variant): value for key, value in found.items() if key.metric == "started"}
    assert started_by == {
        (1, "stable"): 5, (1, "pair"): 5, (canary.exposure.id, "candidate"): 7, (canary.exposure.id, "pair"): 7,
    }  # fmt: skip
    assert gateway.outcomes("v1") == {"ok": 14}


def prediction(label: object, score: float) -> bytes:
    """Return an answer of the Open Inference Protocol."""
    outputs = [
        {"name": "label", "shape": [1], "datatype": "INT64", "data": [label]},
        {"name": "score", "shape": [1], "datatype": "FP64", "data": [score]},
    ]
    return ok(json.dumps({"outputs": outputs}).encode(), "Content-Type: application/json")


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
async def test_predictions_are_read_compared_and_kept_unless_told_otherwise(bench: Bench, *, keep: bool) -> None:
    """Labels differ: the comparison says so; `pairs.predictions: false` leaves labels and scores out of the log."""
    stable = await bench.upstream(answering(prediction(7, 0.9)))
    candidate = await bench.upstream(answering(prediction(1, 0.5)))
    gateway = await bench.gateway(
        route_of(stable, candidate, adapter="open_inference"),
        states=[started(*SHADOW)],
        pairs=PairsConfig(predictions=keep),
    )
    client = await bench.client()
    await client.ask("POST", "/v2/models/m/infer", b"{}")
    pair = (await gateway.pairs(1))[0]
    assert pair.comparison.same is False
    shown = [(side.label, side.score) for side in (pair.stable, pair.candidate)]
    assert shown == ([("7", 0.9), ("1", 0.5)] if keep else [(None, None)] * 2)


async def test_a_pair_keeps_the_cell_of_its_user_and_a_batch_all_its_labels(bench: Bench) -> None:
    """Labels of a batch that do not fit end in a digest, so that the last row still makes a difference."""
    rows = [f"class-{number}" for number in range(40)]
    answers = [[*rows, last] for last in ("one", "two")]
    stable, candidate = [await bench.upstream(answering(batch(labels))) for labels in answers]
    user = AffinitySource(AffinityKind.HEADER, "x-user")
    route = route_of(stable, candidate, adapter="open_inference", affinity=(user,))
    gateway = await bench.gateway(route, states=[started(*SHADOW)])
    client = await bench.client()
    for fields in (["x-user: anna"], ["x-user: bert"], ["x-user: anna"], []):
        await client.ask("POST", "/v2/models/m/infer", b"{}", *fields)
    pairs = await gateway.pairs(4)
    anna, bert = (key_cell(draw_of(user, ROLLOUT, SERVE)) for user in (b"anna", b"bert"))
    assert [pair.key_cell for pair in pairs] == [anna, bert, anna, NO_KEY]
    assert [pairs[0].stable.label, pairs[0].candidate.label] == [kept_label(labels) for labels in answers]
    assert pairs[0].stable.label != pairs[0].candidate.label


def batch(labels: list[str]) -> bytes:
    """Return an answer with one label for each row."""
    output = {"name": "label", "shape": [len(labels)], "datatype": "BYTES", "data": labels}
    return ok(json.dumps({"outputs": [output]}).encode(), "Content-Type: application/json")


async def test_an_unreadable_answer_is_not_compared_and_says_why(bench: Bench) -> None:
    """The pair is kept: both answered."""
    stable = await bench.upstream(answering(prediction(7, 0.9)))
    candidate = await bench.upstream(answering(ok(b"no json")))
    gateway = await bench.gateway(route_of(stable, candidate, adapter="open_inference"), states=[started(*SHADOW)])
    client = await bench.client()
    await client.ask("POST", "/v2/models/m/infer", b"{}")
    pair = (await gateway.pairs(1))[0]
    assert (pair.complete, pair.comparison.same) == (True, None)
    assert pair.comparison.reason.startswith("unreadable answer of candidate: answer: not JSON")


class BrokenAdapter(Opaque):
    """Fails in a way that is not in its contract."""

    def read_answer(self, raw: RawAnswer) -> Prediction | None:  # noqa: ARG002 - its contract
        """Fail."""
        raise ZeroDivisionError


class BrokenComparator:
    """Fails in a way that is not in its contract."""

    name = "digest"

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:  # noqa: ARG002 - its contract
        """Fail."""
        raise KeyError("secret")


@pytest.mark.parametrize("broken", ["adapter", "comparator"])
async def test_a_plug_in_that_fails_costs_its_comparison_and_nothing_else(bench: Bench, broken: str) -> None:
    """Pairs are recorded with the reason, deadlines keep being noticed, later pairs too."""
    route = route_of(await bench.upstream(), await bench.upstream())
    gateway = await bench.gateway(
        route,
        states=[started(*SHADOW)],
        adapters={**ADAPTERS, "opaque": BrokenAdapter()} if broken == "adapter" else ADAPTERS,
        comparators={"digest": BrokenComparator()} if broken == "comparator" else COMPARATORS,
    )
    await ask(bench, 3)
    pairs = await gateway.pairs(3)
    expected = "adapter failed: ZeroDivisionError" if broken == "adapter" else "comparator failed: KeyError"
    assert [(pair.comparison.same, pair.comparison.reason) for pair in pairs] == [(None, expected)] * 3
    await ask(bench, 1)
    await gateway.pairs(4)
