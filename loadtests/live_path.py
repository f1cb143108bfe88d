"""What the live path of one request costs in Python, without sockets: `python -m loadtests.live_path MODE [HEADS]`.

MODE is plain, canary (10 %) or mirror (100 %), HEADS is `alike` or `unlike`: each request has an id of its own then.
Prints the least and the median CPU time of a request over some rounds: what is noise only adds. The kernel, the event
loop and the recorder are not in it. To compare two checkouts, run it in both by turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from loadtests.fixed_answer import ANSWER
from router.core.traffic import Backend, Variant
from tests.gateway import socketless
from tests.gateway.bench import route_of, started

SHARES = {"plain": None, "canary": (1_000, 0), "mirror": (0, 10_000)}
CLIENTS = 64
BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}],"id":"0123456789"}'
REQUEST = (
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: 127.0.0.1:8080\r\ncontent-type: application/json\r\n"
    b"%bContent-Length: %d\r\n\r\n%b"
)


def rounds(mode: str, *, unlike: bool, requests: int, number: int) -> list[float]:
    """Return microseconds of CPU time of a request, for each round."""
    shares = SHARES[mode]
    variants = [Variant(name, (Backend("127.0.0.1", port),)) for port, name in enumerate(("v1", "v2"), 1)]
    route = route_of(*variants, adapter="open_inference")
    with socketless.stage(route, states=[started(*shares)] if shares else []) as stage:
        worker = stage.worker
        worker.now = time.monotonic
        worker.recorder.put = lambda *_: None  # type: ignore[method-assign]
        clients = [stage.client() for _ in range(CLIENTS)]
        turn = _turn(stage, clients, unlike=unlike)
        turn(20 * CLIENTS)
        found = []
        for _ in range(number):
            began = time.process_time()
            turn(requests)
            found.append((time.process_time() - began) / requests * 1e6)
        for client in clients:
            client.leave()
        return found


def _turn(stage: socketless.Stage, clients: list[socketless.Client], *, unlike: bool) -> Callable[[int], None]:
    def turn(requests: int) -> None:
        for number in range(requests):
            own = b"x-request-id: %032x\r\n" % number if unlike else b""
            clients[number % CLIENTS].connection.data_received(REQUEST % (own, len(BODY), BODY))
            for one in stage.upstreamed:
                if one.connection._call is not None:  # noqa: SLF001 - whether it was asked
                    one.connection.data_received(ANSWER)

    return turn


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=SHARES)
    parser.add_argument("heads", choices=("alike", "unlike"), nargs="?", default="alike")
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    found = rounds(given.mode, unlike=given.heads == "unlike", requests=given.requests, number=given.rounds)
    print(f"{given.mode} {given.heads}: least {min(found):.2f} us, median {statistics.median(found):.2f} us")


if __name__ == "__main__":
    main()
