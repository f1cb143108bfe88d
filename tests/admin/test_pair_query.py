"""Which pairs come when asked by what they are, and that every kept pair can be had. On memory and on Valkey."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from router.admin.pair_query import SEARCH_S
from router.core.observations import Comparison, Outcome, Pair, Payload
from router.core.ports import PastPage, RecordBatch
from router.store.codec import encode_pairs
from router.testing import MemoryStore
from router.testing.samples import NOW_S, sample_pair
from tests.admin.desk import Desk, config, desk_for, memory_store, problem

PAIRS = "/v1/routes/digits/pairs"


def pair(number: int, comparison: Comparison, *slices: tuple[str, str], stable: Outcome = Outcome.OK) -> Pair:
    """Return a pair that compares so; its request was assigned `number` seconds after NOW_S."""
    made = sample_pair("digits", number)
    return replace(made, comparison=comparison, slices=slices, stable=replace(made.stable, outcome=stable))


def same(distance: float | None = 0.0) -> Comparison:
    """Return that both answers are the same."""
    return Comparison("label", same=True, distance=distance)


def differs(distance: float | None = 1.0) -> Comparison:
    """Return that they differ."""
    return Comparison("label", same=False, distance=distance)


NOT = Comparison("label", same=None, reason="no answer of stable: timeout")

KEPT = (
    pair(1, differs(0.2), ("tenant", "acme"), ("region", "eu")),
    pair(2, NOT, ("tenant", "acme"), stable=Outcome.TIMEOUT),
    pair(3, same(), ("tenant", "acme"), ("region", "us")),
    pair(4, differs(0.9), ("tenant", "other=1")),
    pair(5, same(None), ("tenant", "acme-2")),
)


async def keep(desk: Desk, pairs: Sequence[Pair], batch_pairs: int = 2) -> None:
    """Write pairs in small batches, as a gateway does."""
    for sequence, start in enumerate(range(0, len(pairs), batch_pairs), 1):
        some = pairs[start : start + batch_pairs]
        batch = RecordBatch("digits", some[0].rollout, "g1", sequence, len(some), encode_pairs(some), {})
        await desk.store.append(batch, 2**30)


async def pages(desk: Desk, **params: Any) -> list[list[dict[str, Any]]]:  # noqa: ANN401 - parameters
    """Return the answer, and all that its `Link` leads to."""
    found = []
    url: str | httpx.URL = PAIRS
    answer = await desk.client.get(url, params=params)
    while True:
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        if "next" not in answer.links:
            return found
        answer = await desk.client.get(answer.url.join(answer.links["next"]["url"]))


async def numbers(desk: Desk, **params: Any) -> list[int]:  # noqa: ANN401 - parameters
    """Return which pairs come, by their numbers."""
    (only,) = await pages(desk, **params)
    return [int(one["pair_id"].removeprefix("boot1-")) for one in only]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"same": "false"}, [4, 1]),
        ({"disagreements": "true", "same": "false"}, [4, 1]),
        ({"same": "true"}, [5, 3]),
        ({"same": "null"}, [2]),
        ({"outcome": "timeout"}, [2]),
        ({"slice": "tenant=acme"}, [3, 2, 1]),
        ({"slice": ["tenant=acme", "region=us"]}, [3]),
        ({"slice": "tenant=other=1"}, [4]),
        ({"slice": "tenant=nobody"}, []),
        ({"min_distance": 0}, [4, 3, 1]),
        ({"min_distance": 0.9}, [4]),
        ({"request_id": "request-4"}, [4]),
        ({"since": "2026-09-21T14:13:22.125Z", "until": "2026-09-21T14:13:24.125000+00:00"}, [3, 2]),
        ({"slice": "tenant=acme", "same": "false", "min_distance": 0.5}, []),
    ],
)
async def test_pairs_come_by_what_they_are(desk: Desk, params: dict[str, Any], expected: list[int]) -> None:
    """All that is asked must hold; a pair without a distance is never far apart."""
    assert KEPT[1].assigned_at_s == NOW_S + 2 == 1_790_000_002.125
    await keep(desk, KEPT)
    assert await numbers(desk, **params) == expected


@pytest.mark.parametrize(
    ("params", "field", "expected"),
    [
        ({"min-distance": 1}, "min-distance", "did you mean min_distance? Known: cursor, disagreements, limit, "),
        ({"min_distance": "nan"}, "min_distance", "a finite number"),
        ({"min_distance": -1}, "min_distance", "greater than or equal to 0"),
        ({"slice": "acme"}, "slice[0]", "NAME=VALUE of at most 256 characters, as in tenant=acme"),
        ({"slice": ["a=b"] * 9}, "slice", "at most 8"),
        ({"same": "maybe"}, "same", "'true', 'false' or 'null'"),
        ({"outcome": "sad"}, "outcome", "'timeout'"),
        ({"since": "yesterday"}, "since", "such as 2026-01-31T12:00:00Z"),
        ({"since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:00:00Z"}, "until", "a moment after `since`"),
        ({"disagreements": "true", "same": "true"}, "same", "false, or none at all"),
        ({"cursor": "17-x.\n"}, "cursor", "the `cursor` that stands in the `Link` of an answer"),
        ({"cursor": "9" * 30 + "-0.1"}, "cursor", "the `cursor`"),
        ({"request_id": "r" * 129}, "request_id", "at most 128"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_refused_with_what_would_do(
    desk: Desk, params: dict[str, Any], field: str, expected: str
) -> None:
    """Also a name that is none: it would otherwise be as if nothing had been asked."""
    document = problem(await desk.client.get(PAIRS, params=params), 422)
    assert document["field"] == field
    assert expected in document["expected"]


async def test_every_kept_pair_can_be_had_page_by_page_while_others_are_written(desk: Desk) -> None:
    """Thousands of pairs, by pages that end within batches: each comes once, and none that came later."""
    made = [sample_pair("digits", number) for number in range(5_000)]
    await keep(desk, made, batch_pairs=500)
    first = await desk.client.get(PAIRS, params={"limit": 7})
    late = RecordBatch("digits", made[0].rollout, "g2", 1, 1, encode_pairs([sample_pair("digits", 9, "late")]), {})
    await desk.store.append(late, 2**30)
    cursor = dict(httpx.QueryParams(first.links["next"]["url"][1:]))["cursor"]
    rest = await pages(desk, limit=997, cursor=cursor)
    found = [one["pair_id"] for page in [first.json(), *rest] for one in page]
    assert found == [f"boot1-{number}" for number in range(4_999, -1, -1)]
    assert {len(page) for page in rest[:-1]} == {997}
    rare = await pages(desk, request_id="request-3", limit=1)
    assert [one["pair_id"] for page in rare for one in page] == ["boot1-3"]


async def test_the_link_keeps_what_was_asked(desk: Desk) -> None:
    """Whoever follows it asks the same question further back, whatever stands in it."""
    odd = [pair(number, differs(), ("tenant", 'a&b>;"ü')) for number in range(3)]
    await keep(desk, odd)
    found = await pages(desk, slice='tenant=a&b>;"ü', same="false", limit=2)
    assert [[one["request_id"] for one in page] for page in found] == [["request-2", "request-1"], ["request-0"]]


async def test_a_pair_that_was_written_twice_comes_once(desk: Desk) -> None:
    """In one answer."""
    await keep(desk, [*KEPT, *KEPT])
    assert await numbers(desk) == [5, 4, 3, 2, 1]


class SlowStore(MemoryStore):
    """Every look at the pair log takes 0.4 s by the clock of `tick`."""

    def slow_by(self, desk: Desk) -> None:
        """Advance this clock."""
        self._desk = desk

    async def pairs_before(self, route: str, cursor: str, batches: int) -> PastPage:
        """Read one batch, slowly."""
        self._desk.clock.advance(0.4)
        return await super().pairs_before(route, cursor, min(batches, 1))


async def test_a_search_ends_in_time_and_goes_on_where_it_was() -> None:
    """The answer may then be empty; its `Link` leads on until everything was looked at."""
    store = SlowStore(memory_store().server)
    async with desk_for(store, config()) as desk:
        store.slow_by(desk)
        await keep(desk, [sample_pair("digits", number) for number in range(14)])
        began_s = desk.clock()
        found = await pages(desk, request_id="request-1")
        assert [len(page) for page in found] == [0, 0, 1]
        assert desk.clock() - began_s == pytest.approx(7 * 0.4)
        assert 0.4 * 3 >= SEARCH_S > 0.4 * 2


async def test_an_answer_with_payloads_ends_where_it_would_grow_too_large(desk: Desk) -> None:
    """4 Mi characters of them, and a cursor; without payloads all fit one answer."""
    payload = Payload(f'"{"x" * 2**16}"', None, None)
    await keep(desk, [replace(sample_pair("digits", number), payload=payload) for number in range(100)], 10)
    assert [len(page) for page in await pages(desk, payloads="true", limit=1_000)] == [64, 36]
    assert [len(page) for page in await pages(desk, limit=1_000)] == [100]


async def test_a_payload_nested_deeper_than_can_be_written_is_shown_as_none(desk: Desk) -> None:
    """One such pair must not take all others with it."""
    deep = Payload(*("[" * depth + "]" * depth for depth in (254, 251, 250)))
    assert [
        orjson.dumps(orjson.loads(text or "")) for text in (deep.request, deep.stable)
    ]  # so a gateway may keep them
    await keep(desk, [replace(sample_pair("digits", 1), payload=deep)])
    ((one,),) = await pages(desk, payloads="true")
    assert [name for name, value in one["payload"].items() if value is not None] == ["candidate"]


async def test_a_store_that_is_down_is_said_so_and_others_are_served_meanwhile() -> None:
    """503 with what to do, and nothing is cut off in silence."""
    store = memory_store()
    async with desk_for(store, config()) as desk:
        await keep(desk, KEPT)
        store.server.cut()
        searched, alive = await asyncio.gather(
            desk.client.get(PAIRS, params={"same": "false"}), desk.client.get("/healthz")
        )
        assert problem(searched, 503)["type"].endswith("store-unavailable")
        assert alive.status_code == 200
