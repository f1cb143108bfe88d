"""The open-loop client of `loadtests.compare`, each request told: `arrivals ORDER`.

Prints one line for each request, `[meant start in seconds of the run, latency in ms, failed]`.
"""

import asyncio
import json
import sys

from loadtests.compare.open_loop import OpenLoop, Order


def main() -> None:
    """Carry out the order. Epoll's timeouts of whole milliseconds are fine enough for latencies of several."""
    told: list[tuple[float, float, bool]] = []

    def note(meant_s: float, latency_s: float, failed: bool) -> None:  # noqa: FBT001 - as Note
        told.append((round(meant_s, 3), round(1000 * latency_s, 3), failed))

    asyncio.run(OpenLoop(Order(**json.loads(sys.stdin.readline())), note).run())
    for one in told:
        print(json.dumps(one))


if __name__ == "__main__":
    main()
