"""An upstream in a process of its own, which can be stopped: `python -m tests.gateway.upstream_process`.

It prints its port and answers every request with the same few bytes until it is killed.
"""

import asyncio

from tests.gateway.upstreams import Upstream, Visit, ok

ANSWER = ok(b'{"outputs":[]}')


async def reading(visit: Visit) -> None:
    """Take each request with its body and give a short answer; faster than h11."""
    while head := await visit.read_head():
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await visit.reader.readexactly(length)
        await visit.send(ANSWER)


async def main() -> None:
    """Run it."""
    upstream = await Upstream(reading).start()
    print(upstream.port, flush=True)  # noqa: T201 - how it speaks
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
