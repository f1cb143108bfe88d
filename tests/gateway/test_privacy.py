"""What is kept of requests and answers (PR1, PR2): nothing of their words but what the operator asked for."""

import gc
import gzip
import json
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

import pytest

from model_adapters.opaque import Opaque
from router.core.config import PairsConfig
from router.core.errors import UnreadableError
from router.core.inference import Answer, Prediction, RawAnswer
from router.core.observations import Comparison, Payload
from router.core.payloads import FieldPath, Selection
from router.core.traffic import SERVE, AffinityKind, AffinitySource, draw_of, key_cell
from router.gateway.capture import PAYLOAD_BYTES
from router.gateway.open_batch import BATCH_BYTES
from tests.gateway.bench import ADAPTERS, COMPARATORS, Bench, Gateway, route_of, started, until
from tests.gateway.upstreams import Script, answering, ok

SHADOW = started(0, 10_000)
SECRET = "anna@example.org"


def predicting(label: str) -> Script:
    """Answer with a prediction of this label."""
    output = {"name": "label", "datatype": "BYTES", "shape": [1], "data": [label]}
    return answering(ok(json.dumps({"model_name": "m", "outputs": [output]}).encode()))


async def reason_of(bench: Bench, *, keep: bool, **plugins: object) -> Comparison:
    """Return the comparison of one pair in the log of answers that hold SECRET."""
    stable, candidate = await bench.upstream(predicting(SECRET)), await bench.upstream(predicting(SECRET + "x" * 999))
    gateway = await bench.gateway(
        route_of(stable, candidate, adapter="open_inference"), states=[SHADOW],
        pairs=PairsConfig(predictions=keep), **plugins,  # type: ignore[arg-type]
    )  # fmt: skip
    client = await bench.client()
    await client.ask("POST", "/v2/models/m/infer", b"{}")
    return (await gateway.pairs(1))[0].comparison


class Quoting(Opaque):
    """An adapter whose errors quote what it could not read."""

    name = "open_inference"

    def read_answer(self, raw: RawAnswer) -> Prediction | None:
        """Fail."""
        raise UnreadableError(f"cannot read {raw.body.decode()}")


class QuotingComparator:
    """A comparator whose reasons quote the answers, in both of its words."""

    name = "label"

    def __init__(self, *, same: bool | None) -> None:
        self._same = same

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Quote."""
        return Comparison(self.name, same=self._same, reason=f"{stable.prediction} or {candidate.prediction}")


PLUGINS: dict[str, dict[str, Any]] = {
    "built in": {},
    "adapter": {"adapters": {**ADAPTERS, "open_inference": Quoting()}},
    "same": {"comparators": {**COMPARATORS, "label": QuotingComparator(same=True)}},
    "unsaid": {"comparators": {**COMPARATORS, "label": QuotingComparator(same=None)}},
}


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_pr1_without_predictions_no_reason_quotes_an_answer(bench: Bench, plugin: str) -> None:
    """Whoever gives it: the words of adapters and comparators are not kept, what they found is."""
    found = await reason_of(bench, keep=False, **PLUGINS[plugin])
    assert SECRET not in repr(found)
    expected = {"built in": False, "adapter": None, "same": True, "unsaid": None}
    assert (found.same, bool(found.reason)) == (expected[plugin], plugin == "adapter")


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_pr1_with_predictions_a_reason_is_short(bench: Bench, plugin: str) -> None:
    """The labels in it are those that the pair keeps, of 64 bytes each; a plug-in's words end after 256."""
    found = await reason_of(bench, keep=True, **PLUGINS[plugin])
    assert SECRET in found.reason
    assert len(found.reason) <= (2 * 64 + len(" != ") if plugin == "built in" else 256)


# -- payloads ---------------------------------------------------------------------------------------------------------

MAIL, CARD, TOKEN = "anna@example.org", "4111111111111111", "tok_s3cret"
SEEDED = (MAIL, CARD, TOKEN)
REQUEST = {
    "id": "42",
    "parameters": {"email": MAIL, "new": {"token": TOKEN}},
    "inputs": [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [41]},
        {"name": "card", "datatype": "BYTES", "shape": [1], "data": [CARD], "owner": {"email": MAIL}},
    ],
}
ANSWER = {"model_name": "m", "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7], "to": MAIL}]}
FIELDS = (f"Authorization: Bearer {TOKEN}", f"Cookie: mail={MAIL}", f"X-Card: {CARD}")


def keeping(*keep: str, redact: tuple[str, ...] = ()) -> PairsConfig:
    """Return a pair log that keeps these fields of payloads."""
    return PairsConfig(payloads=Selection(tuple(map(FieldPath.parse, keep)), tuple(map(FieldPath.parse, redact))))


KEEP = keeping("$.inputs", "$.outputs[*]", redact=("$.inputs.data", "$..email", "$..to"))


async def predicting_gateway(
    bench: Bench, pairs: PairsConfig, answer: bytes | None = None, **config: object
) -> Gateway:
    """Return a gateway at shadow 100 % in front of two variants that give `answer`, else ANSWER."""
    script = answering(ok(json.dumps(ANSWER).encode() if answer is None else answer))
    route = route_of(await bench.upstream(script), await bench.upstream(script), adapter="open_inference")
    return await bench.gateway(route, states=[SHADOW], pairs=pairs, **config)  # type: ignore[arg-type]


async def predict(bench: Bench, number: int = 1, body: bytes | None = None) -> None:
    """Send REQUEST, or `body`, with seeded fields and query."""
    client = await bench.client()
    body = json.dumps(REQUEST).encode() if body is None else body
    for _ in range(number):
        await client.ask("POST", f"/v2/models/m/infer?mail={MAIL}&key={TOKEN}", body, *FIELDS)


def reachable(*roots: object) -> bytes:
    """Return everything that can be reached from `roots`, as bytes one can search in."""
    seen: dict[int, object] = {}
    queue = list(roots)
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType, FunctionType)):
            continue
        seen[id(one)] = one
        queue += gc.get_referents(one)
    texts = [one.encode(errors="replace") if isinstance(one, str) else one for one in seen.values()]
    return b"\n".join([bytes(one) for one in texts if isinstance(one, (bytes, bytearray))])


def stored(gateway: Gateway) -> bytes:
    """Return everything that the gateway's store holds."""
    server = gateway.server
    return reachable(
        server.states, server.records, server.bases, server.samples, server.batches, server.evidence, server.seen,
        server.labels, server.classes, server.heartbeats,
    )  # fmt: skip


def seeds_in(data: bytes) -> list[str]:
    """Return which of SEEDED stand in `data`."""
    return [seed for seed in SEEDED if seed.encode() in data]


async def test_pr1_payloads_are_off_unless_fields_are_named(bench: Bench) -> None:
    """Neither the pair nor anything else in the store has a byte of a body, a field or a query."""
    gateway = await predicting_gateway(bench, PairsConfig())
    await predict(bench)
    assert (await gateway.pairs(1))[0].payload is None
    assert seeds_in(stored(gateway)) == []


async def test_pr2_a_payload_holds_the_named_fields_without_the_redacted_ones(bench: Bench) -> None:
    """Of the request and of both answers; everything else of the pair is as without payloads."""
    gateway = await predicting_gateway(bench, KEEP)
    await predict(bench)
    pair = (await gateway.pairs(1))[0]
    assert pair.payload is not None
    assert json.loads(pair.payload.request or "") == {
        "inputs": [
            {"name": "age", "datatype": "INT64", "shape": [1]},
            {"name": "card", "datatype": "BYTES", "shape": [1], "owner": {}},
        ]
    }
    expected = {"outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]}
    assert [json.loads(text or "") for text in (pair.payload.stable, pair.payload.candidate)] == [expected] * 2
    assert (pair.comparison.same, pair.stable.label) == (True, "7")
    assert seeds_in(stored(gateway)) == []


async def test_pr2_nothing_seeded_stands_in_the_queue_for_the_store(bench: Bench) -> None:
    """The store is away: 200 pairs wait in the queue, and nothing that can be reached from it is seeded."""
    gateway = await predicting_gateway(bench, KEEP)
    gateway.server.cut()
    await predict(bench, 200)
    recorder = gateway.worker.recorder
    await until(lambda: gateway.held() == {}, "the copies end")
    while recorder.tick(gateway.worker.table):
        pass
    queue = [batch for batch in recorder._outbox if batch.pairs]  # noqa: SLF001 - what PR2 is about
    still_open = recorder._open  # noqa: SLF001
    assert sum(batch.pairs for batch in queue) + sum(batch.pairs for batch in still_open.values()) == 200
    found = reachable(queue, still_open)
    assert (b"inputs" in found, seeds_in(found)) == (True, [])
    assert seeds_in(reachable([json.dumps(REQUEST).encode()])) == [*SEEDED]
    gateway.server.mend()
    await gateway.pairs(200)
    assert seeds_in(stored(gateway)) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (MAIL.encode(), "not_json"),
        (b'"' + MAIL.encode() + b'"', "not_json"),
        (CARD.encode(), "not_json"),
        (b'{"email": "' + MAIL.encode(), "not_json"),
        (b'{"a": NaN, "email": "' + MAIL.encode() + b'"}', "not_json"),
        (gzip.compress(json.dumps(REQUEST).encode()), "not_json"),
        (b"\xff" + json.dumps(REQUEST).encode(), "not_json"),
        (json.dumps({"a": "x" * PAYLOAD_BYTES, "email": MAIL}).encode(), "size"),
        (b"[" * 2_000 + b'"' + MAIL.encode() + b'"' + b"]" * 2_000, "not_json"),
        (b'{"a": [' + b"1," * 4_500 + b'1], "email": "' + MAIL.encode() + b'"}', "size"),
    ],
    ids=["text", "json text", "json number", "cut", "nan", "gzip", "latin", "long", "deep", "many"],
)  # fmt: skip
async def test_pr2_a_body_that_cannot_be_redacted_is_not_kept_at_all(bench: Bench, body: bytes, reason: str) -> None:
    """Even when everything may be kept but e-mail: no JSON, too long, too many values; it is counted."""
    gateway = await predicting_gateway(bench, keeping("$", redact=("$..email", "$..to")), answer=body)
    await predict(bench, body=body)
    pair = (await gateway.pairs(1))[0]
    assert (pair.complete, pair.payload) == (True, None)
    assert gateway.dropped("payload", reason) == 3
    assert seeds_in(stored(gateway)) == []


async def test_pr2_a_name_that_stands_twice_hides_nothing(bench: Bench) -> None:
    """Whatever a parser makes of it: redacted is the field, not the first place where its name stands."""
    gateway = await predicting_gateway(bench, keeping("$", redact=("$.email", "$.outputs")))
    body = f'{{"email": "{MAIL}", "a": 1, "\\u0065mail": "{CARD}", "email": "{TOKEN}"}}'.encode()
    await predict(bench, body=body)
    pair = (await gateway.pairs(1))[0]
    assert pair.payload is not None
    assert json.loads(pair.payload.request or "") == {"a": 1}
    assert seeds_in(stored(gateway)) == []


async def test_payloads_count_into_the_bounds_of_the_queue_and_of_a_batch(bench: Bench) -> None:
    """Bodies that are held for a payload are in `queue_bytes`, and no stream entry is much longer than 256 KiB."""
    gateway = await predicting_gateway(bench, keeping("$"))
    body = json.dumps({"inputs": [{"data": "x" * 15_000}]}).encode()
    gateway.server.cut()
    await predict(bench, 60, body)
    await until(lambda: gateway.held() == {}, "the copies end")
    recorder = gateway.worker.recorder
    while recorder.tick(gateway.worker.table):
        pass
    assert recorder.queue_bytes >= 60 * len(body)
    assert max(len(batch.payload) for batch in recorder._outbox) < 2 * BATCH_BYTES  # noqa: SLF001
    gateway.server.mend()
    assert {len(pair.payload.request or "") for pair in await gateway.pairs(60) if pair.payload} == {len(body) - 2}


async def test_what_cannot_be_written_again_costs_its_payload_and_nothing_else(bench: Bench) -> None:
    """A list 300 lists deep can be read and not written: the pair is there, and so are later ones."""
    gateway = await predicting_gateway(bench, keeping("$"), answer=b"[" * 300 + b"]" * 300)
    await predict(bench, 2, b'{"a": 1}')
    payloads = [pair.payload for pair in await gateway.pairs(2)]
    assert payloads == [Payload('{"a":1}')] * 2
    assert gateway.dropped("payload", "size") == 4


# -- affinity keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AffinityKind)
async def test_pr3_an_affinity_key_is_kept_only_as_a_keyed_hash(bench: Bench, kind: AffinityKind) -> None:
    """Neither the store nor what is counted in the worker has a raw key; another rollout id gives other cells."""
    source = (AffinitySource(kind, "uid"),)
    stable, candidate = await bench.upstream(), await bench.upstream()
    cells: list[list[int | None]] = []
    for rollout in ("abc.1", "abc.2"):
        state = replace(SHADOW, id=rollout)
        gateway = await bench.gateway(route_of(stable, candidate, affinity=source), states=[state])
        client = await bench.client(gateway)
        for number in range(100):
            user = f"user-{number}@example.org"
            target = f"/?uid={user}" if kind is AffinityKind.QUERY else "/"
            field = {AffinityKind.HEADER: f"uid: {user}", AffinityKind.COOKIE: f"Cookie: a=b; uid={user}"}.get(kind)
            await client.ask("POST", target, b"x", *([field] if field else []))
        pairs = await gateway.pairs(100)
        await gateway.worker.recorder.flush()
        tally = gateway.worker.table.standings["r"].tally
        assert tally is not None
        assert b"@example.org" not in stored(gateway)
        assert b"@example.org" not in reachable(tally)
        cells.append([pair.key_cell for pair in pairs])
        assert cells[-1] == [
            key_cell(draw_of(f"user-{number}@example.org".encode(), rollout, SERVE)) for number in range(100)
        ]
    assert sum(one == other for one, other in zip(*cells, strict=True)) <= 1
    assert len(set(cells[0])) >= 95
