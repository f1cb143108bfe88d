"""Heads that came before are not parsed again; whoever sends them cannot tell."""

import re

import pytest

from router.core.rollout import FULL_BP
from router.core.traffic import Backend, Variant
from router.gateway.known_heads import MOST_BYTES, MOST_HEADS, KnownHeads
from tests.gateway.bench import route_of, started
from tests.gateway.socketless import Client, Stage, stage

POST = b"POST /p HTTP/1.1\r\nHost: h\r\nX-Own: 1\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nok"

REQUESTS = {
    "post": POST,
    "get": b"GET /p?q=1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "no length": b"POST /p HTTP/1.1\r\nHost: h\r\n\r\n",
    "length 0": b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "chunked": b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "upgrade": b"POST /p HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody",
    "absolute": b"GET http://other/p HTTP/1.1\r\nHost: h\r\n\r\n",
    "head": b"HEAD /p HTTP/1.1\r\nHost: h\r\n\r\n",
    "expect": POST.replace(b"X-Own: 1", b"Expect: 100-continue"),
    "body with an empty line": b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\na\r\n\r\nbcd",
    "two at once": POST + POST.replace(b"body", b"ydob"),
    "blank lines before it": b"\r\n\r\n" + POST,
    "close": POST.replace(b"X-Own: 1", b"Connection: close"),
    "refused": POST.replace(b"Host: h\r\n", b""),
    "1.0": b"GET /p HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}
ANSWERS = {
    "200": OK,
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "404": OK.replace(b"200 OK", b"404 Not Found"),
    "503": OK.replace(b"200 OK", b"503 Service Unavailable"),
    "interim first": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "close": OK.replace(b"Server: s", b"Connection: close"),
    "more than announced": OK + b"!",
}


def both_sides(made: Stage, client: Client, answer: bytes) -> list[bytes]:
    """Let the backends answer whatever they were asked; return what they and the client have seen, without ids."""
    seen: list[bytes] = []
    moved = True
    while moved:
        moved = False
        while client.deliver():
            moved = True
        for one in made.upstreamed:
            if one.transport.written:
                moved = True
                seen.append(bytes(one.transport.written))
                one.transport.written.clear()
                one.deliver(answer)
        made.settle()
    heard = [client.received, client.ended.encode()]
    client.transport.written.clear()
    asked = sorted(re.split(rb"(?=(?:POST|GET|HEAD) /p)", b"".join(seen)))
    return [re.sub(rb"boot0-[0-9a-f]+", b"ID", text) for text in (*heard, *asked)]


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_same_bytes_always_mean_the_same(answer: str) -> None:
    """Each kind of request and answer goes through the same at first and later, whole or not, on any connection."""
    variants = [Variant(name, (Backend("127.0.0.1", port),)) for port, name in enumerate(("v1", "v2"), 1)]
    with stage(route_of(*variants), states=[started(0, FULL_BP)]) as made:
        made.worker.recorder.put = lambda *_: None  # type: ignore[method-assign]  # its pairs are nobody's here
        for name, sent in REQUESTS.items():
            found = []
            for pieces in ([sent], [sent], [sent[:-2], sent[-2:]], [sent]):
                client = made.client()
                for _ in range(2):
                    client.send(pieces)
                    found.append(both_sides(made, client, ANSWERS[answer]))
                    if client.ended:
                        break
                client.leave()
            others = [one for one in found if one != found[0]]
            assert not others, (name, found[0], others[0])
        made.clear()


def test_a_known_head_is_refused_on_a_connection_that_may_not_say_so() -> None:
    """What depends on the connection and not on the head is asked each time: a wish for a side, an https URL."""
    variants = [Variant(name, (Backend("127.0.0.1", port),)) for port, name in enumerate(("v1", "v2"), 1)]
    request = b"GET https://h/p HTTP/1.1\r\nHost: h\r\n\r\n"
    with stage(route_of(*variants), trusted_proxies=("10.0.0.1",)) as made:
        for peer, status in (("10.0.0.1", b"200"), ("10.0.0.2", b"421"), ("10.0.0.1", b"200"), ("10.0.0.2", b"421")):
            client = made.client(peer)
            client.send([request])
            assert both_sides(made, client, OK)[0][9:12] == status
            client.leave()
        made.clear()


def test_a_head_is_remembered_only_with_a_whole_message() -> None:
    """Nothing is learned of a message that was cut by its read, or that came with something else, or is too long."""
    known: KnownHeads[str] = KnownHeads()
    head = b"a: b\r\n\r\n"
    for message, length in ((head + b"12", 3), (head + b"1234", 3), (b"x" * MOST_BYTES + head, 0)):
        known.remember(message, "head", length)
        assert known.get(message[: message.find(b"\r\n\r\n") + 4]) is None
    known.remember(head + b"123", "head", 3)
    assert known.get(head) == "head"


def test_only_the_latest_heads_are_remembered() -> None:
    """Heads that never come again push out the oldest, so that the memory is bounded."""
    known: KnownHeads[int] = KnownHeads()
    for number in range(MOST_HEADS + 2):
        known.remember(b"%d\r\n\r\n" % number, number, 0)
    assert [known.get(b"%d\r\n\r\n" % number) for number in (0, 1, 2, MOST_HEADS + 1)] == [
        None,
        None,
        2,
        MOST_HEADS + 1,
    ]


def test_the_end_of_a_head_is_never_taken_for_a_head_of_its_own() -> None:
    """A request that began behind another one in its read, and whose rest looks like a request: nothing is learnt."""
    variants = [Variant(name, (Backend("127.0.0.1", port),)) for port, name in enumerate(("v1", "v2"), 1)]
    looks = b"PATCH /q HTTP/1.1\r\nHost: h\r\n\r\n"
    with stage(route_of(*variants)) as made:
        attacker = made.client()
        attacker.send([POST + b"GET /secret HTTP/1.1\r\nX-Line: ", looks])
        both_sides(made, attacker, OK)
        other = made.client()
        other.send([looks])
        other.deliver()
        asked = b"".join(bytes(one.transport.written) for one in made.upstreamed)
        assert asked.startswith(b"PATCH /q HTTP/1.1\r\n")
        both_sides(made, other, OK)
        for client in (attacker, other):
            client.leave()
