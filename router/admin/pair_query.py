"""Which pairs are asked for, and the search for them: bounded in time, and to be gone on with by a cursor."""

import re
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from router.admin.problems import field_problem
from router.admin.schemas import read_time
from router.core.observations import Outcome, Pair
from router.core.ports import PAIR_CURSOR, RecordStore
from router.core.timestamps import rfc3339

SEARCH_S = 1.0
"""How long one request searches before it answers with what it has and a cursor. Chosen: some 50,000 pairs."""

PAYLOAD_CHARS = 4 * 2**20
"""How much of payloads one answer holds before it ends with a cursor. Chosen: 0.1 s of work."""

BATCHES = 16
"""Batches of pairs read at once, at most; the first read takes one, as most questions are about the newest few."""

Same = Literal["true", "false", "null"]
_SAME: dict[bool | None, Same] = {True: "true", False: "false", None: "null"}


def read_slice(given: object) -> tuple[str, str]:
    """Return name and value of a slice; raises ValueError."""
    text = str(given)
    name, mark, value = text.partition("=")
    if not name or not mark or len(text) > 256:
        raise ValueError("NAME=VALUE of at most 256 characters, as in tenant=acme")
    return name, value


def read_cursor(text: str) -> str:
    """Return a cursor as it came; raises ValueError for what is none."""
    if not re.fullmatch(PAIR_CURSOR, text):
        raise ValueError("the `cursor` that stands in the `Link` of an answer")
    return text


Slice = Annotated[tuple[str, str], PlainValidator(read_slice, json_schema_input_type=str)]
Time = Annotated[float, PlainValidator(read_time, json_schema_input_type=str)]


class PairQuery(BaseModel):
    """The parameters of a question for pairs; all that are given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=1_000, description="How many, newest first.")] = 100
    cursor: Annotated[
        str, AfterValidator(read_cursor), Field(description="Where to go on: from the `Link` of the answer before.")
    ] = ""
    disagreements: Annotated[bool, Field(description="Only pairs whose answers differ: `same=false`.")] = False
    same: Annotated[
        Same | None, Field(description="Only pairs with this `comparison.same`; null: those that were not compared.")
    ] = None
    outcome: Annotated[Outcome | None, Field(description="Only pairs in which a variant ended this way.")] = None
    slice: Annotated[
        list[Slice], Field(max_length=8, description="Only pairs of this slice, NAME=VALUE; several: of all of them.")
    ] = []
    min_distance: Annotated[
        float | None, Field(ge=0, allow_inf_nan=False, description="Only pairs at least so far apart.")
    ] = None
    request_id: Annotated[
        str | None, Field(min_length=1, max_length=128, description="Only pairs of the request with this x-request-id.")
    ] = None
    since: Annotated[Time | None, Field(description="Only requests from this moment on, in RFC 3339.")] = None
    until: Annotated[Time | None, Field(description="Only requests before this moment, in RFC 3339.")] = None
    payloads: Annotated[
        bool,
        Field(description="With what is kept of bodies (`pairs.payloads`); for operators, and each look is logged."),
    ] = False

    def check(self) -> None:
        """Raise the problem of parameters that exclude each other."""
        if self.disagreements and self.same not in (None, "false"):
            raise field_problem("same", self.same, "false, or none at all beside disagreements=true")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise field_problem("until", rfc3339(self.until), "a moment after `since`")

    def asks_for(self, pair: Pair) -> bool:
        """Whether the pair is one of those asked for."""
        comparison, distance = pair.comparison, pair.comparison.distance
        return (
            (not self.disagreements or comparison.same is False)
            and (self.same is None or _SAME[comparison.same] == self.same)
            and (self.outcome is None or self.outcome in (pair.stable.outcome, pair.candidate.outcome))
            and (self.min_distance is None or (distance is not None and distance >= self.min_distance))
            and (self.request_id is None or pair.request_id == self.request_id)
            and (self.since is None or pair.assigned_at_s >= self.since)
            and (self.until is None or pair.assigned_at_s < self.until)
            and all(one in pair.slices for one in self.slice)
        )


class Found(NamedTuple):
    """Pairs that were asked for, newest first; `cursor` is where the search goes on, None when it is at the end."""

    pairs: list[Pair]
    cursor: str | None


async def search(store: RecordStore, route: str, query: PairQuery, monotonic: Callable[[], float]) -> Found:
    """Return the next pairs asked for, each once: up to `limit`, and what is found within SEARCH_S.

    Raises StoreUnavailableError.
    """
    found: dict[str, Pair] = {}
    until_s, cursor, batches, chars = monotonic() + SEARCH_S, query.cursor, 1, 0
    while True:
        page, before = await store.pairs_before(route, cursor, batches), len(found)
        for cursor, pair in page.pairs:
            if query.asks_for(pair) and pair.pair_id not in found:
                found[pair.pair_id] = pair
                chars += pair.payload.size if query.payloads and pair.payload is not None else 0
                if len(found) == query.limit or chars >= PAYLOAD_CHARS:
                    return Found(list(found.values()), cursor)
        if not page.more:
            return Found(list(found.values()), None)
        if monotonic() >= until_s:
            return Found(list(found.values()), page.cursor)
        cursor = page.cursor
        if len(found) - before < query.limit - len(found):  # as many batches again will not do
            batches = min(2 * batches, BATCHES)
