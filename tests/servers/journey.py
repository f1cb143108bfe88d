"""The journey that every real server makes with Turnout: asked directly, then as a shadow, then as a canary.

What is shown of each: a client gets, through Turnout, the status and the bytes that the server itself gives; the
pair of each request holds what both versions predicted; and the comparison finds the planted difference, no other.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.e2e.harness import Admin, Turnout, Turnouts
from tests.e2e.load import ask_all, eventually
from tests.e2e.wire import Answer, fetch

ROUTE = "digits"
VARIANT_OF = {"stable": "v1", "candidate": "v2"}
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks, and the labels that must be read of the answers of v1 and v2."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    v1: str
    v2: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server of two versions as Turnout and its clients know it.

    `ask` is a client's request to Turnout, by number; `ask_directly` the port of a version and the request that it has
    to get for the same. `refused` is a body that the server answers with an error. `lasting` takes out of an answer's
    body what the server draws anew for each answer.
    """

    route: dict[str, Any]
    ask: Callable[[int, Question], bytes]
    ask_directly: Callable[[str, Question], tuple[int, bytes]]
    refused: bytes
    lasting: Callable[[bytes], bytes] = bytes


async def make_the_journey(
    turnouts: Turnouts, server: Server, questions: Sequence[Question], name: str = "turnout"
) -> None:
    """Ask everything directly, as a shadow and as a canary of half the users; fail at what is not as it must be."""
    direct = {version: await _directly(server, version, questions) for version in VARIANT_OF.values()}
    serve, admin = await _started(turnouts, server, name)

    answers = await _asked(serve, server, questions)
    assert {answer.headers["x-turnout-variant"] for answer in answers} == {"stable"}
    assert {answer.status for answer in answers} == {200}
    _as_the_server_itself(server, answers, direct)
    await _pairs_are_right(admin, questions, answers, since=0)
    await _errors_are_the_servers(server, serve, admin, replace(questions[0], body=server.refused), len(questions))

    await admin.patch(policy="canary", reason="the shadow looked right")
    await admin.patch(weight="50%", mirror="100%", reason="half of the users")
    await admin.until_routed()
    answers = await _asked(serve, server, questions)
    assert {answer.headers["x-turnout-variant"] for answer in answers} == {"stable", "candidate"}
    _as_the_server_itself(server, answers, direct)
    await _pairs_are_right(admin, questions, answers, since=len(questions) + 1)
    admin.close()


async def _directly(server: Server, version: str, questions: Sequence[Question]) -> list[Answer]:
    return [await fetch(*server.ask_directly(version, question)) for question in questions]


async def _started(turnouts: Turnouts, server: Server, name: str) -> tuple[Turnout, Admin]:
    listeners = {name: {"port": 0} for name in ("gateway", "admin", "ops")}
    route = {"affinity": ["header:x-user-id"], "stable": "v1", **server.route}
    serve = await turnouts.start({**listeners, "routes": {ROUTE: route}}, directory=turnouts.directory / name)
    admin = Admin(serve.port("admin"))
    await admin.post("/rollouts", candidate="v2", policy="shadow", reason="a new version")
    await admin.until_routed()
    return serve, admin


async def _asked(serve: Turnout, server: Server, questions: Sequence[Question]) -> Sequence[Answer]:
    asked = [server.ask(number, question) for number, question in enumerate(questions)]
    return await ask_all(serve.port("gateway"), asked, clients=CLIENTS)


def _as_the_server_itself(server: Server, answers: Sequence[Answer], direct: dict[str, list[Answer]]) -> None:
    """Check that each answer has status, media type and bytes of the version that gave it."""
    for number, answer in enumerate(answers):
        own = direct[VARIANT_OF[answer.headers["x-turnout-variant"]]][number]
        assert answer.status == own.status
        assert answer.headers["content-type"] == own.headers["content-type"]
        assert server.lasting(answer.body) == server.lasting(own.body)


async def _errors_are_the_servers(server: Server, serve: Turnout, admin: Admin, refused: Question, since: int) -> None:
    """Ask what the server refuses: the client gets its error as it is, and both variants have one outcome."""
    answers = await _asked(serve, server, [refused])
    assert answers[0].status >= 400
    _as_the_server_itself(server, answers, {"v1": await _directly(server, "v1", [refused])})
    pair = (await _newest(admin, since + 1))[0]
    ending = "http_error" if answers[0].status >= 500 else "client_error"
    assert [pair[one]["outcome"] for one in VARIANT_OF] == [ending, ending]
    assert pair["comparison"]["same"] is None


async def _newest(admin: Admin, number: int) -> list[dict[str, Any]]:
    """Return all pairs, newest first, once there are so many."""

    async def all_there() -> bool:
        return len(await admin.get("/pairs?limit=1000")) == number

    await eventually(all_there)
    found: list[dict[str, Any]] = await admin.get("/pairs?limit=1000")
    return found


async def _pairs_are_right(
    admin: Admin, questions: Sequence[Question], answers: Sequence[Answer], *, since: int
) -> None:
    """Check the pair of each question asked after the first `since` pairs."""
    newest = (await _newest(admin, since + len(questions)))[: len(questions)]
    pairs = {pair["request_id"]: pair for pair in newest}
    assert len(pairs) == len(questions)
    for question, answer in zip(questions, answers, strict=True):
        pair = pairs[answer.headers["x-request-id"]]
        role = answer.headers["x-turnout-variant"]
        assert pair["served"] == role
        assert pair[role]["digest"] == hashlib.blake2b(answer.body, digest_size=16).hexdigest()
        assert [pair[one]["outcome"] for one in VARIANT_OF] == ["ok", "ok"]
        assert [pair[one]["prediction"]["label"] for one in VARIANT_OF] == [question.v1, question.v2]
        assert pair["comparison"]["same"] is (question.v1 == question.v2), pair
