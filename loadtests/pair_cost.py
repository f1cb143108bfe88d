"""What a pair costs once both of its answers are there: `python -m loadtests.pair_cost`, some 10 s on a quiet core.

CPU by step: `put` and `tick` (read, compared, counted, encoded) and the write of this process, and the server's, for a
worker that makes 4,000 pairs a second. Requests, sides, tallies, recorder and a Valkey are the real ones; the clock is
not, so a run always does the same work. Median of the rounds, because other work on the machine only ever adds.
"""

import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import uvloop
from redis.asyncio import Redis

from model_adapters.comparators.label import Label
from model_adapters.open_inference import OpenInference
from router.core.config import MIB, PairsConfig, RecorderConfig
from router.core.decisions import Start
from router.core.observations import Outcome, latency_bucket
from router.core.rollout import Spec, Step, apply, idle_state
from router.core.traffic import NO_KEY, Backend, Match, Role, Route, Variant
from router.gateway.heads import AnswerHead
from router.gateway.recorder import Recorder
from router.gateway.side import Side
from router.gateway.table import LiveRoute, LiveTable
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore

ROUNDS = 7
TICKS = 60
PAIRS_A_TICK = 200
TICK_S = 0.05
FIELDS = [b"content-type: application/json\r\n", b"date: Wed, 25 Nov 2026 11:00:00 GMT\r\n", b"server: uvicorn\r\n"]


def answer(label: int, score: float, rows: int = 1, classes: int = 3) -> bytes:
    """Return an answer of the Open Inference Protocol."""
    scores = [round(0.1 + 0.007 * place, 3) for place in range(classes - 1)] + [score]
    outputs = [
        {"name": "label", "shape": [rows], "datatype": "INT64", "data": [label] * rows},
        {"name": "scores", "shape": [rows, classes], "datatype": "FP64", "data": scores * rows},
    ]
    return orjson.dumps({"model_name": "m", "model_version": "1", "outputs": outputs})


CASES = {
    "equal bytes": (answer(3, 0.7), answer(3, 0.7)),
    "other scores": (answer(3, 0.7), answer(3, 0.71234)),
    "other labels": (answer(3, 0.7), answer(4, 0.7)),
    "1 KiB, 1 row": (answer(3, 0.9, classes=140), answer(3, 0.91, classes=140)),
    "1 KiB, rows": (answer(3, 0.9, rows=50), answer(3, 0.91, rows=50)),
}


class Finished:
    """What the recorder asks of an exchange whose halves are both closed."""

    def __init__(self, standing: Any, number: int) -> None:  # noqa: ANN401 - a Standing
        self.standing = standing
        self.head = SimpleNamespace(lines=b"content-type: application/json\r\n")
        self.request_body = None
        self.internal_id = b"3f9c2a7d41b0-%d" % number
        self.request_id = self.internal_id
        self.assigned_at_s = 1_764_000_000.0 + number * 2.5e-4
        self.key_cell = NO_KEY
        self._cells = standing.tally.pairs.present
        self._cells.started += 1

    def pair_ended(self, end: Any) -> None:  # noqa: ANN401 - a PairEnd
        """Count it as an exchange does."""
        self._cells.end(end)

    def pair_lost(self) -> None:
        """Not here: the queue is large enough."""
        raise AssertionError("a pair was dropped")


async def one_round(url: str, case: str, number: int) -> tuple[float, ...]:
    """Return CPU of this process by step, and of the server, in microseconds a pair."""
    loop, name = asyncio.get_running_loop(), f"{case}-{number}".replace(" ", "-")
    backends = [Variant(variant, (Backend("127.0.0.1", port),)) for variant, port in (("v1", 1), ("v2", 2))]
    route = Route(name, Match("/"), "open_inference", {one.name: one for one in backends}, "v1", mirror_safe=True)
    table = LiveTable({name: LiveRoute(loop, route, OpenInference(), Label())}, 0.0, lambda _: None)
    begin = Start(reason="", rollout_id="abc.1", spec=Spec("v2", "shadow"), steps=(Step(mirror_bp=10_000),))
    table.adopt(apply(idle_state(name, "v1", 0.0), begin, 0.0))
    store, probe, clock = RedisStore(url), Redis.from_url(url), SimpleNamespace(now_s=1_000.0)
    written = asyncio.Event()
    recorder = Recorder(
        store, boot="3f9c2a7d41b0", config=RecorderConfig(), pairs=PairsConfig(keep_bytes=MIB), compare_command=(),
        now=lambda: clock.now_s, on_write=lambda _: written.set(),
    )  # fmt: skip
    writing = asyncio.create_task(recorder.run())
    await store.ping()
    dice, spent_s = random.Random(number), [0.0, 0.0, 0.0]
    there_s, made = await server_cpu_s(probe), 0
    for _ in range(TICKS):
        halves = [halves_of(table.standings[name], recorder, CASES[case], dice, made + i) for i in range(PAIRS_A_TICK)]
        made += PAIRS_A_TICK
        marks = [time.process_time()]
        while halves:
            recorder.put(*halves.pop())
        marks.append(time.process_time())
        clock.now_s += TICK_S
        while recorder.tick(table):
            pass
        marks.append(time.process_time())
        while recorder._outbox:  # noqa: SLF001 - nobody else wants to know
            await written.wait()
            written.clear()
            await asyncio.sleep(0)
        marks.append(time.process_time())
        spent_s = [sum_s + end - start for sum_s, start, end in zip(spent_s, marks, marks[1:], strict=False)]
    spent_s.append(await server_cpu_s(probe) - there_s)
    writing.cancel()
    await store.close()
    await probe.aclose()
    return tuple(seconds / made * 1e6 for seconds in spent_s)


def halves_of(
    standing: Any,  # noqa: ANN401 - a Standing
    recorder: Recorder,
    bodies: tuple[bytes, bytes],
    dice: random.Random,
    number: int,
) -> tuple[Any, Side, Side]:
    """Return a request that stable has answered, and the candidate too; it is counted as evidence."""
    exchange, made = Finished(standing, number), []
    for role, body in zip(Role, bodies, strict=True):
        side = Side(role, recorder.answers)
        side.status = 200
        side.answer = AnswerHead(200)
        side.answer.fields = FIELDS
        side.answer.lines = b"".join(FIELDS)
        side.add(bytes(bytearray(body)))
        side.end(Outcome.OK, dice.lognormvariate(1.0, 0.3))
        made.append(side)
    tally = standing.tally.live[Role.STABLE]
    tally.present.started += 1
    tally.end(tally.present, Outcome.OK, latency_bucket(made[0].latency_ms))
    return exchange, made[0], made[1]


async def server_cpu_s(probe: "Redis") -> float:
    """Return the CPU seconds that the server has used."""
    cpu = await probe.info("cpu")
    return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


async def main(url: str, rounds: int) -> None:
    """Print one line for each case."""
    print(f"{'us CPU a pair':14} {'put':>6} {'tick':>6} {'write':>6} {'server':>7}   {'here':>6}")
    for case in CASES:
        found = []
        for number in range(rounds + 1):
            gc.collect()
            found.append(await one_round(url, case, number))
        put, tick, write, server = [statistics.median(column) for column in zip(*found[1:], strict=True)]
        print(f"{case:14} {put:6.2f} {tick:6.2f} {write:6.2f} {server:7.2f}   {put + tick + write:6.2f}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory)) as valkey:
        uvloop.run(main(valkey.url, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
