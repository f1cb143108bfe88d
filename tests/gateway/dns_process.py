"""A gateway before a name, and the DNS server that knows it: `python -m tests.gateway.dns_process SECONDS DIRECTORY`.

Prints one line of JSON: what a client saw while that server was silent for so many seconds, and after how long the
gateway used the new address.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from pathlib import Path

import uvloop

from router.core.traffic import Backend, Variant
from tests.gateway.bench import Bench, route_of
from tests.gateway.upstreams import echo
from tests.stopwatch import Stopwatch

NAME = b"\x06models\x04test\x00"
A = 1


class Dns(asyncio.DatagramProtocol):
    """Answers A with `address`, anything else with nothing found; while `silent`, nobody gets an answer."""

    def __init__(self) -> None:
        self.address = "127.0.0.1"
        self.silent = False
        self.unanswered = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query (RFC 1035 section 4.1)."""
        if self.silent:
            self.unanswered += 1
            return
        end = 12 + len(NAME)
        question, kind = data[12 : end + 4], struct.unpack("!H", data[end : end + 2])[0]
        known = data[12:end].lower() == NAME
        answers = b""
        if known and kind == A:
            answers = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 1, 4) + socket.inet_aton(self.address)
        flags = 0x8580 if known else 0x8583  # answer, authoritative; name error where it is unknown
        self._transport.sendto(
            data[:2] + struct.pack("!HHHHH", flags, 1, int(bool(answers)), 0, 0) + question + answers, addr
        )


async def main(outage_s: float, directory: Path) -> None:
    """Run it."""
    dns = Dns()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: dns, local_addr=("127.0.0.1", 53))
    bench = Bench(directory)
    first = await bench.upstream()
    second = await bench.upstream(echo, port=first.port, host="127.0.0.2")
    await bench.gateway(route_of(Variant("v1", (Backend("models.test", first.port),))), dns_refresh_s=1.0)
    client = await bench.client()
    statuses: list[int] = []
    slowest_s = 0.0

    async def ask() -> None:
        nonlocal slowest_s
        one = Stopwatch()
        statuses.append((await client.ask("POST", "/", b"x")).status)
        slowest_s = max(slowest_s, one.elapsed_s)
        await asyncio.sleep(0.01)  # the pace of the load, not a wait for something

    await ask()
    dns.silent = True
    until = time.monotonic() + outage_s
    while time.monotonic() < until:
        await ask()
    dns.address, dns.silent = "127.0.0.2", False
    watch = Stopwatch()
    while not second.requests and watch.passed_s < 30.0:
        await ask()
    seen = {
        "requests": len(statuses),
        "errors": sum(status != 200 for status in statuses),
        "slowest_ms": slowest_s * 1000,
        "unanswered": dns.unanswered,
        "moved_s": watch.passed_s,
        "late_s": watch.passed_s - watch.elapsed_s,
    }
    await bench.end()
    print(json.dumps(seen), flush=True)  # noqa: T201 - how it speaks


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), Path(sys.argv[2])))
