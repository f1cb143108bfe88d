"""What a batch of pairs costs: run `python tests/store/bench_store.py` on a quiet machine.

CPU per append of this process and of the server, for batches of 0 to 500 pairs with 10 and 100 counters; bytes and
time per pair of the codec. Best of five rounds, because other work on the machine only ever adds.
"""
# ruff: noqa: T201 - a script that prints a table

import gc
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from router.core.observations import CounterKey, Pair
from router.core.ports import RecordBatch
from router.store.codec import decode_pairs, encode_pairs
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from router.testing.samples import ROLLOUT, sample_pair

ROUNDS = 5
APPENDS = 400
KEEP_BYTES = 4 * 2**20


def main() -> None:
    """Print one table for the codec and one for the store."""
    codec()
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory)) as server:
        uvloop.run(store(server.url))


def codec() -> None:
    """Print time and bytes per pair."""
    print("codec        us/pair encode   us/pair decode   bytes/pair")
    for size in (1, 50, 500):
        pairs = [realistic(number) for number in range(size)]
        raw = encode_pairs(pairs)
        encode_us = best_us(lambda pairs=pairs: encode_pairs(pairs), 20_000 // size) / size
        decode_us = best_us(lambda raw=raw: decode_pairs(raw), 20_000 // size) / size
        print(f"{size:4} a batch {encode_us:14.2f} {decode_us:16.2f} {len(raw) / size:12.0f}")


async def store(url: str) -> None:
    """Print CPU and time of one append."""
    print("\nappend                   us here (CPU)   us server (CPU)   us waited")
    for counters in (10, 100):
        for size in (0, 1, 50, 500):
            routes = [f"route-{counters}-{size}-{number}" for number in range(ROUNDS)]
            here, there, waited = zip(*[await one_round(url, route, size, counters) for route in routes], strict=True)
            print(f"{size:4} pairs, {counters:3} counters {min(here):13.0f} {min(there):17.0f} {min(waited):11.0f}")


async def one_round(url: str, route: str, size: int, counters: int) -> tuple[float, float, float]:
    """Return CPU here, CPU of the server and time, in microseconds per append."""
    client, probe = RedisStore(url), Redis.from_url(url)
    payload = encode_pairs([replace(realistic(number), route=route) for number in range(size)])
    keys = [CounterKey(2, "latency", "", "stable", str(cell)) for cell in range(counters)]

    def batch(sequence: int) -> RecordBatch:
        values = dict.fromkeys(keys, sequence)
        return RecordBatch(route, ROLLOUT, "boot1", sequence, size, payload, values)

    batches = [batch(sequence) for sequence in range(1, APPENDS + 1)]
    gc.collect()
    there_s = await server_cpu_s(probe)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for one in batches:
        await client.append(one, KEEP_BYTES)
    waited_s, here_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    there_s = await server_cpu_s(probe) - there_s
    await client.close()
    await probe.aclose()
    return tuple(seconds / APPENDS * 1e6 for seconds in (here_s, there_s, waited_s))  # type: ignore[return-value]


async def server_cpu_s(probe: Redis) -> float:
    """Return the CPU seconds that the server has used."""
    cpu = await probe.info("cpu")
    return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


def realistic(number: int) -> Pair:
    """Return a pair with ids and digests of real length and no slices."""
    pair = sample_pair("digits", number)
    return replace(pair, pair_id=f"3f9c2a7d41b0-{number}", request_id=f"{number:032x}", slices=())


def best_us(work, times: int) -> float:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Return the best microseconds per call of five rounds."""
    found = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - began_s) / times * 1e6)
    return min(found)


if __name__ == "__main__":
    main()
