"""A prediction server for a soak, with faults if asked for: `python -m tests.chaos.soak_model PORT [faulty]`."""

import asyncio
import sys

import uvloop

from loadtests.fixed_answer import ANSWER, FixedAnswer

FAILS_EVERY, RESETS_EVERY, LATE_EVERY, LATE_S = 101, 211, 307, 0.03
"""Prime, so that they meet all kinds of requests; together too rare for a breaker to trip."""


class FaultyAnswer(FixedAnswer):
    """Answers each request, but some with 500, some by a reset and some late."""

    requests = 0

    def on_message_complete(self) -> None:
        """Answer, or not."""
        FaultyAnswer.requests += 1
        number = FaultyAnswer.requests
        if number % FAILS_EVERY == 0:
            self._transport.write(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")
        elif number % RESETS_EVERY == 0:
            self._transport.abort()
        elif number % LATE_EVERY == 0:
            asyncio.get_running_loop().call_later(LATE_S, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def main(port: int, protocol: type[FixedAnswer]) -> None:
    """Serve on loopback until killed."""
    await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), FaultyAnswer if "faulty" in sys.argv[2:] else FixedAnswer))
