"""The event loop stays free while long answers are compared (OV9)."""

import asyncio
import socket
import socketserver
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import orjson
import pytest

from router.core.config import MIB
from router.gateway.side import SMALL_BYTES
from tests.gateway.bench import Bench, route_of, started
from tests.gateway.clients import request
from tests.gateway.processes import dial, worker
from tests.gateway.rounds import alternate, steady
from tests.gateway.upstreams import answering, ok

SMALL = ok(b'{"outputs":[{"name":"label","shape":[1],"datatype":"INT64","data":[7]}]}')
PER_S = 5
"""Pairs of each kind in a second."""

LATE_BUCKETS = 4
"""Those of turnout_loop_lag_seconds above 20 ms."""


def tensor() -> bytes:
    """Return 5 MiB of one number for each row: work for adapter and comparator."""
    rows = 5 * MIB // 8
    return b'{"outputs":[{"name":"label","shape":[%d],"data":[%b]}]}' % (rows, b",".join([b"1234567"] * rows))


def fields() -> bytes:
    """Return an answer of 50,000 fields."""
    return orjson.dumps({"outputs": [], **{f"field-{number}": [number] for number in range(50_000)}})


class Blocking(socketserver.StreamRequestHandler):
    """One connection of a model server with threads: what it sends in one go takes no time of the test's loop."""

    answers: Mapping[bytes, bytes]

    def handle(self) -> None:
        """Answer requests with bodies of two bytes by their targets."""
        while line := self.rfile.readline():
            while self.rfile.readline() != b"\r\n":
                pass
            self.rfile.read(2)
            self.connection.sendall(self.answers[line.split(b" ", 2)[1]])


@contextmanager
def serving(answers: Mapping[bytes, bytes]) -> Iterator[int]:
    """Run such a server for the block; its port."""
    handler = type("Answering", (Blocking,), {"answers": answers})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask_large(port: int, target: str, answer: bytes, pause_s: float) -> None:
    """Ask for a long answer PER_S times within a second, in a thread."""
    wire = request("POST", target, b"{}")
    room = bytearray(2 * len(answer))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        time.sleep(pause_s)
        for _ in range(PER_S):
            due = time.monotonic() + 1 / PER_S
            connection.sendall(wire)
            got = 0
            while b"\r\n\r\n" not in room[:got] and got < 2_000:
                got += connection.recv_into(memoryview(room)[got:], 2_000)
            head, _, body = bytes(room[:got]).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            rest = len(answer.partition(b"\r\n\r\n")[2]) - len(body)
            assert connection.recv_into(room, rest, socket.MSG_WAITALL) == rest
            time.sleep(max(0.0, due - time.monotonic()))


def late_share(found: list[list[int]]) -> float:
    """Return the share of all ticks that came more than 20 ms late."""
    return sum(sum(counts[-LATE_BUCKETS:]) for counts in found) / sum(sum(counts) for counts in found)


@pytest.mark.alone
@pytest.mark.slow
async def test_ov9_long_answers_do_not_hold_up_live_requests(bench: Bench, figure: Callable[[str], None]) -> None:
    """Pairs of 5 MiB and pairs of 50,000 fields, 5/s each, in every second round: loop lag and live p99 stay.

    In the other rounds the same answers are asked for past the gateway, of both variants: what this process and the
    machine spend on sending and receiving them is no doing of the gateway's.
    """
    answers = {b"/small": SMALL, b"/tensor": ok(tensor()), b"/fields": ok(fields())}
    with serving(answers) as stable, serving(answers) as candidate:
        async with worker(stable, candidate, mirror_bp=10_000, adapter="open_inference") as gateway:
            clients = [await dial(bench, gateway.port) for _ in range(4)]
            lag: dict[bool, list[list[int]]] = {False: [], True: []}
            before: list[int] = (await gateway.report())["lag"]
            asking: list[asyncio.Task[None]] = []

            def ask(*ports: int) -> None:
                asking[:] = [
                    asyncio.create_task(asyncio.to_thread(ask_large, port, target, answers[key], pause_s))
                    for target, key, pause_s in (("/tensor", b"/tensor", 0.0), ("/fields", b"/fields", 0.1))
                    for port in ports
                ]

            async def fault(on: bool) -> None:  # noqa: FBT001 - on or off
                nonlocal before
                await asyncio.gather(*asking)
                now = (await gateway.report())["lag"]
                lag[not on].append([after - earlier for after, earlier in zip(now, before, strict=True)])
                before = now
                ask(*([gateway.port] if on else [stable, candidate]))

            ask(stable, candidate)
            wire = request("POST", "/small", b"{}")
            body_bytes = len(SMALL.partition(b"\r\n\r\n")[2])
            rounds = await alternate(5, lambda: steady(clients, wire, body_bytes, per_s=200, seconds=1.0), fault)
            await asyncio.gather(*asking)
            report = await gateway.report()
            figure(
                f"long answers: {rounds}; more than 20 ms late {late_share(lag[False]):.1%} and "
                f"{late_share(lag[True]):.1%} of ticks; pairs {report['pairs']}, dropped {report['dropped']}"
            )
            for client in clients:
                client.abort()
        assert rounds.added_at_most(5.0)
        assert late_share(lag[True]) <= max(0.01, 3 * late_share(lag[False]))


async def test_ov9_no_turn_of_the_loop_compares_for_long(bench: Bench, figure: Callable[[str], None]) -> None:
    """Two hundred pairs of the worst answers that the loop still reads: 2 ms of its time a turn, about."""
    rows = (SMALL_BYTES - 80) // 2
    bodies = [
        b'{"outputs":[{"name":"l","shape":[%d,2],"data":[%b]}]}' % (rows // 2, b",".join([digit] * (rows // 2 * 2)))
        for digit in (b"1", b"2")
    ]
    variants = [await bench.upstream(answering(ok(body))) for body in bodies]
    gateway = await bench.gateway(route_of(*variants, adapter="open_inference"), states=[started(0, 10_000)])
    taken_ms = gateway.recorder_turns_ms()
    client = await bench.client()
    for _ in range(20):
        await client.send(request("POST", "/", b"x") * 10)
        for _ in range(10):
            assert (await client.answer("POST")).status == 200
    pairs = await gateway.pairs(200)
    assert {pair.comparison.same for pair in pairs} == {False}
    full_ms = sorted(one for one in taken_ms if one > 1.0)
    figure(f"{len(full_ms)} full turns: {statistics.median(full_ms):.2f} ms each, at most {full_ms[-1]:.2f} ms")
    assert len(full_ms) >= 50  # 200 pairs of some 0.9 ms, one or two in a turn
    assert statistics.median(full_ms) < 3.0
