"""The recorder: from finished halves to pairs and counters in the store, without ever holding up a request.

The request path only appends to `put`. Every tick the recorder has predictions read and compared, and counts, for at
most 2 ms per turn of the loop; long answers are read by a process of their own. A task writes batches. Both queues are
bounded in bytes by one budget; what does not fit is dropped, the oldest first, and counted by reason.
"""

import asyncio
import math
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from router.core.errors import StoreUnavailableError
from router.core.observations import ANSWERS, Generation, distance_bucket
from router.core.options import PluginUse
from router.core.ports import RecordBatch
from router.core.traffic import NO_KEY, Role
from router.gateway.capture import Capture
from router.gateway.comparing import compare, half_of
from router.gateway.firsts import FAILURE, PAIR, REQUEST, FirstFailure, FirstPair, FirstRequest, Firsts, Subject
from router.gateway.large_answers import Job, LargeAnswers
from router.gateway.open_batch import OpenBatch
from router.gateway.side import SMALL_BYTES, Answers
from router.gateway.streams import Streams
from router.gateway.tally import HOW_ENDED, FoldedTally, PairEnd
from router.store.pair_codec import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from router.core.config import PairsConfig, RecorderConfig
    from router.core.observations import CounterKey
    from router.core.ports import RecordStore
    from router.gateway.comparing import Compared, Reading
    from router.gateway.exchange import Exchange
    from router.gateway.side import Side
    from router.gateway.table import LiveTable, Standing
    from router.gateway.tally import Arrivals, Tally
    from router.store.pair_codec import SideColumns

TURN_S = 0.001
"""After how long no further pair is begun in one turn of the loop. One takes up to 0.9 ms (`SMALL_BYTES`), and the
whole turn may spend 2 ms on comparing (design.md section 5)."""

RAW_OVERHEAD_BYTES = 3_072
"""What a pair holds besides bodies and field lines: the exchange, heads, lists. 2.7 KB by tracemalloc, 10 fields."""

BATCH_EVERY_S = 0.2
"""How long a pair may wait for others. A write costs 0.2 ms of CPU here, as much in the store and a turn of its disk,
however few pairs it brings. Chosen: below COUNTERS_EVERY_S, which is what decisions wait for."""

BATCHES = 16
"""Into how many batches at least a full queue is divided, so that letting go of the oldest loses little. Chosen."""

COUNTERS_EVERY_S = 0.5
"""How old counters may be in the store. Chosen: half a turn of control, and one write for many pairs."""

RETRY_S = 0.25


class Recorder:
    """Bounded hand-over from the request path to the store.

    `queue_bytes` counts raw pairs and encoded batches together. Drops: `store_down` (oldest batch let go, which waited
    for the store), `queue_full` (no batch left to let go: the new pair is not taken). Counters survive drops: whole
    cumulative values are written again.
    """

    def __init__(  # noqa: PLR0913 - all that it depends on
        self,
        store: "RecordStore",
        *,
        boot: str,
        config: "RecorderConfig",
        pairs: "PairsConfig",
        compare_command: "Sequence[str]",
        now: "Callable[[], float]",
        on_write: "Callable[[str], None]",
    ) -> None:
        self.queue_bytes = 0
        self.drops: defaultdict[str, int] = defaultdict(int)
        self._store = store
        self._boot = boot
        self._limit = config.queue_bytes
        self._pairs = pairs
        self.capture = Capture(pairs.payloads)
        self._now = now
        self._on_write = on_write
        self.answers = Answers(config.answer_bytes, config.answers_bytes)
        self.large = LargeAnswers(compare_command, now)
        self.streams = Streams(now)
        self._raw: deque[tuple[Exchange, Side, Side, int]] = deque()
        self._open: dict[tuple[str, str], OpenBatch] = {}
        self._outbox: deque[RecordBatch] = deque()
        self._wake = asyncio.Event()
        self._sequences: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._sent: dict[str, tuple[str, dict[int, Mapping[CounterKey, int]]]] = {}
        """For each route its rollout, and what was sent of each exposure that may still change."""
        self._folded: WeakSet[FoldedTally] = WeakSet()
        """Past exposures that have been sent."""
        self._counters_at = 0.0
        self._batched_at = 0.0
        self.firsts = Firsts(store)

    # -- the request path -------------------------------------------------------------------------------------------

    def put(self, exchange: "Exchange", live: "Side", copy: "Side") -> None:
        """Take a pair whose halves are both closed."""
        size = RAW_OVERHEAD_BYTES + len(exchange.head.lines) + _held_bytes(live) + _held_bytes(copy)
        if exchange.request_body is not None:
            size += len(exchange.request_body)
        if self.queue_bytes + size > self._limit and not self._make_room(size):
            self.drops["queue_full"] += 1
            live.let_go("")
            copy.let_go("")
            exchange.pair_lost()
            return
        self.queue_bytes += size
        self._raw.append((exchange, live, copy, size))

    def first_request(self, standing: "Standing", tally: "Tally", role: Role, cell: int) -> FirstRequest | None:
        """Return what to tell the request's end, if the request may be its key's first in this exposure."""
        first = FirstRequest(role)
        return first if self._first(standing, tally, REQUEST, cell, first) else None

    def first_pair(self, standing: "Standing", tally: "Tally", cell: int) -> FirstPair | None:
        """Return what to tell the pair's end, if the copy may be its key's first in this exposure."""
        first = FirstPair()
        return first if self._first(standing, tally, PAIR, cell, first) else None

    def first_failure(
        self, standing: "Standing", arrivals: "Arrivals", cell: int, slices: tuple[str, ...] = ()
    ) -> None:
        """Take a failure, which may be its key's first in this exposure, of a request that has ended in `slices`."""
        if standing.tally is not None:
            arrivals.asked += 1
            if not self._first(standing, standing.tally, FAILURE, cell, FirstFailure(arrivals, slices)):
                arrivals.asked -= 1

    def _first(self, standing: "Standing", tally: "Tally", metric: str, cell: int, subject: Subject) -> bool:
        """Have the subject counted if its key is new; False when this worker has seen the key before."""
        if cell == NO_KEY:  # nobody else's: a request without a key is a unit by itself
            subject.answer(tally, 0)
            return True
        return tally.sees(metric, cell) and self.firsts.ask(standing, tally, metric, cell, subject)

    # -- every tick -------------------------------------------------------------------------------------------------

    def tick(self, table: "LiveTable") -> bool:
        """Turn raw pairs into batches for TURN_S; True when some are left for the next turn."""
        began = self._now()
        table.turn(began)
        self.firsts.tick()
        unread = self.streams.read(began + TURN_S / 2) if self.streams.unread else False
        raw = self._raw
        while raw:
            exchange, live, copy, size = raw[0]
            if not (_reads_on(live) or _reads_on(copy)):
                raw.popleft()
                self._compare(exchange, live, copy, size)
            if self._now() > began + TURN_S:
                break
        if self._now() - self._counters_at >= COUNTERS_EVERY_S:
            self.batch_counters(table)
        due = self._now() - self._batched_at >= BATCH_EVERY_S
        if due:
            self._batched_at = self._now()
        for place, batch in tuple(self._open.items()):
            if due or batch.full:
                self._close_batch(place, {})
            else:
                self.queue_bytes += batch.encode()
        return unread or bool(raw)

    def _close_batch(self, place: tuple[str, str], counters: "Mapping[CounterKey, int]") -> None:
        batch = self._open.pop(place, None) or OpenBatch()
        self.queue_bytes -= batch.encoded_bytes
        self._enqueue(*place, batch.pairs, batch.close(*place), counters)

    def _compare(self, exchange: "Exchange", live: "Side", copy: "Side", size: int) -> None:
        route = exchange.standing.live
        stable, candidate = (live, copy) if live.role is Role.STABLE else (copy, live)
        first, second = half_of(stable), half_of(candidate)
        if _is_short(stable, route.loop_bytes) and _is_short(candidate, route.loop_bytes):
            compared = compare(route.adapter, route.comparator, first, second)
            self._record(exchange, live.role, stable, candidate, size, compared)
            return
        done = partial(self._record, exchange, live.role, stable, candidate, size)
        adapter = PluginUse(route.adapter.name, route.route.adapter_options)
        comparator = PluginUse(route.comparator.name, route.route.comparator_options)
        self.large.put(Job(adapter, comparator, first, second, done))

    def _record(  # noqa: PLR0913, PLR0917 - one argument for each part of a pair
        self, exchange: "Exchange", served: Role, stable: "Side", candidate: "Side", size: int, compared: "Compared"
    ) -> None:
        self.queue_bytes -= size
        payload = self.capture.of(exchange.request_body, stable, candidate)
        stable.let_go("")
        candidate.let_go("")
        standing = exchange.standing
        keep = self._pairs.predictions
        comparison = compared.explained(quoting=keep)
        cell, failures = HOW_ENDED[stable.outcome, candidate.outcome]
        slicing = standing.slicing
        values, slices = ((), ()) if slicing is None else slicing.of_pair(exchange.head, exchange.request_body)
        standing.live.pairs[cell] = standing.live.pairs.get(cell, 0) + 1
        if standing.tally is not None:
            agreement = "not_compared" if comparison.same is None else "same" if comparison.same else "different"
            far = comparison.distance
            distance = None if far is None or not math.isfinite(far) else str(distance_bucket(far))
            exchange.pair_ended(PairEnd(cell, agreement, failures, distance, slices))
        place = standing.live.route.name, standing.rollout_id
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = OpenBatch(self._limit // BATCHES)
        row = row_of(
            exchange.internal_id.decode(),
            exchange.request_id.decode(),
            standing.exposure.id,
            exchange.assigned_at_s,
            served,
            _columns(stable, compared.stable, keep=keep),
            _columns(candidate, compared.candidate, keep=keep),
            comparison,
            values,
            exchange.key_cell,
            payload,
            (_generation(stable, compared.stable, keep=keep), _generation(candidate, compared.candidate, keep=keep)),
        )
        batch.add(row, payload)
        if payload is not None and batch.full:
            self._close_batch(place, {})

    def batch_counters(self, table: "LiveTable") -> None:
        """Write the counters of the present rollouts that have changed."""
        self._counters_at = self._now()
        for name, standing in table.standings.items():
            if standing.rollout_id:
                changed = self._changed_counters(table, name, standing.rollout_id)
                if not changed:
                    continue
                place = name, standing.rollout_id
                if self._outbox:  # the store is behind: pairs may have to be let go, and these are better apart
                    self._enqueue(*place, 0, b"", {**self._take_counters(*place), **changed})
                else:
                    self._close_batch(place, changed)

    def _changed_counters(self, table: "LiveTable", route: str, rollout: str) -> "Mapping[CounterKey, int]":
        if route not in self._sent or self._sent[route][0] != rollout:
            self._sent[route] = rollout, {}
        _, sent = self._sent[route]
        changed: dict[CounterKey, int] = {}
        now = self._now()
        for tally in table.tallies(route, rollout):
            if isinstance(tally, FoldedTally):
                if tally not in self._folded:
                    changed.update(tally.counters())
                    self._folded.add(tally)
                continue
            counters, before = tally.counters(now), sent.pop(tally.exposure, {})
            news = {key: value for key, value in counters.items() if before.get(key) != value}
            if news or not tally.settled or tally is table.standings[route].tally or self.firsts.waits_for(tally):
                changed |= news
                sent[tally.exposure] = counters
            else:
                self._folded.add(table.fold(route, rollout, tally, now))
        return changed

    def _forget_sent(self) -> None:
        """Write everything again: nobody knows what the store still has."""
        self._sent.clear()
        self._folded.clear()

    def _take_counters(self, route: str, rollout: str) -> "Mapping[CounterKey, int]":
        """Take back a batch of counters alone that waits, so that an outage does not fill the queue with them."""
        for place, batch in enumerate(self._outbox):
            # The first one may be on its way.
            if place and not batch.pairs and (batch.route, batch.rollout) == (route, rollout):
                del self._outbox[place]
                self.queue_bytes -= _size(batch)
                return batch.counters
        return {}

    def _enqueue(
        self, route: str, rollout: str, pairs: int, payload: bytes, counters: "Mapping[CounterKey, int]"
    ) -> None:
        self._sequences[route, rollout] += 1
        batch = RecordBatch(
            route=route,
            rollout=rollout,
            boot=self._boot,
            sequence=self._sequences[route, rollout],
            pairs=pairs,
            payload=payload,
            counters=counters,
        )
        self.queue_bytes += _size(batch)
        self._outbox.append(batch)
        if self.queue_bytes > self._limit:
            self._make_room(0)
        self._wake.set()

    def _make_room(self, size: int) -> bool:
        """Let go of the oldest batches until `size` more bytes fit; False when that is not enough."""
        while self.queue_bytes + size > self._limit and len(self._outbox) > 1:
            self._drop_oldest()
        return self.queue_bytes + size <= self._limit

    def _drop_oldest(self) -> None:
        # The first one may be on its way; the second is the oldest that surely is not.
        batch = self._outbox[1]
        del self._outbox[1]
        self.queue_bytes -= _size(batch)
        self.drops["store_down"] += batch.pairs
        self._forget_sent()

    # -- the writer -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write batches in order until cancelled; a batch that failed is repeated, the store recognises it."""
        while True:
            while not self._outbox:
                self._wake.clear()
                await self._wake.wait()
            await self._write(self._outbox[0])

    async def _write(self, batch: RecordBatch) -> None:
        try:
            appended = await self._store.append(batch, self._pairs.keep_bytes)
        except StoreUnavailableError:
            self._on_write("failed")
            # The store may come back without its last seconds: whatever counts is written whole again.
            self._forget_sent()
            await asyncio.sleep(RETRY_S)
            return
        self._on_write("ok")
        self.drops["trimmed"] += appended.trimmed
        if appended.gap:
            self._forget_sent()
        self._outbox.popleft()
        self.queue_bytes -= _size(batch)

    async def flush(self) -> None:
        """Return when everything that was put or counted has been written; callers bound it by a timeout."""
        while self._raw or self.firsts or self.large:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.01)
        self._counters_at = self._batched_at = 0.0  # due with the next tick
        while self._outbox or not self._counters_at:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)


def _reads_on(side: "Side") -> bool:
    """Read a little more of a stream that has ended; return whether there is more to be read."""
    return side.stream is not None and side.stream.read_slice()


def _is_short(side: "Side", loop_bytes: int) -> bool:
    """Whether reading what is held of an answer is work for the event loop."""
    if side.stream is not None:
        return side.stream.kept_bytes <= loop_bytes
    return side.body_bytes <= loop_bytes or side.body is None


def _held_bytes(side: "Side") -> int:
    """Return what one half of a raw pair holds that is counted nowhere else: a short body, the lines of its fields."""
    lines = len(side.answer.lines) if side.answer is not None else 0
    return lines if side.body is None or side.body_bytes > SMALL_BYTES else lines + side.body_bytes


def _size(batch: RecordBatch) -> int:
    return len(batch.payload) + 100 * len(batch.counters) + 500


def _generation(side: "Side", reading: "Reading", *, keep: bool) -> Generation | None:
    first_token_ms = side.stream.first_token_ms if side.stream is not None else None
    finish = reading.finish if keep else None
    if first_token_ms is None and finish is None:
        return None
    tokens = reading.tokens if keep else None
    return Generation(None if first_token_ms is None else round(first_token_ms, 3), tokens, finish)


def _columns(side: "Side", reading: "Reading", *, keep: bool) -> "SideColumns":
    return (
        side.outcome,
        side.status if side.outcome in ANSWERS else 0,
        int(side.latency_ms * 1000 + 0.5) / 1000,  # a third of the time of `round`
        side.body_bytes,
        reading.digest,
        reading.label if keep else None,
        reading.score if keep else None,
    )
