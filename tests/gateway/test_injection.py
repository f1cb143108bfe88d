"""SE8: what a client writes into an id, a name or a path breaks no line and no header on the data plane."""

import pytest

from router.core.traffic import AffinityKind, AffinitySource
from tests.gateway.bench import Bench, route_of, started
from tests.gateway.clients import request

SHADOW = started(0, 10_000)


@pytest.mark.parametrize("control", ["\r", "\n", "\x00"], ids=["cr", "lf", "nul"])
@pytest.mark.parametrize("place", ["id", "field", "target"])
async def test_se8_a_control_character_in_a_head_is_refused(bench: Bench, place: str, control: str) -> None:
    """The request goes to no variant, and the answer names nothing of it."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    text = f"good{control}X-Forged: 1"
    wires = {
        "id": request("GET", "/", b"", f"X-Request-Id: {text}"),
        "field": request("GET", "/", b"", f"X-User: {text}"),
        "target": request("GET", f"/{text}"),
    }
    await client.send(wires[place])
    answer = await client.answer()
    assert (answer.status in {400, 505}, upstream.requests) == (True, [])
    assert "forged" not in str(answer.fields).lower()
    assert b"X-Forged" not in answer.body


async def test_se8_what_is_encoded_stays_encoded_from_client_to_pair(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%0d%0a` in id, path, query, key and field is passed on as it is: one id, no other field, no log line."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    route = route_of(stable, candidate, affinity=(AffinitySource(AffinityKind.QUERY, "u"),))
    gateway = await bench.gateway(route, states=[SHADOW])
    capsys.readouterr()
    client = await bench.client()
    text = "a%0d%0aSet-Cookie:%20x=1%00%u2028"
    answer = await client.ask("POST", f"/{text}?u={text}", b"x", f"X-Request-Id: {text}", f"X-User: {text}")
    assert (answer.status, answer.all("x-request-id"), answer.all("set-cookie")) == (200, [text], [])
    for upstream in (stable, candidate):
        assert upstream.requests[0].target == f"/{text}?u={text}"
        assert (upstream.requests[0].all("x-request-id"), upstream.requests[0].all("x-user")) == ([text], [text])
    assert (await gateway.pairs(1))[0].request_id == text
    refused = await client.ask("GET", f"http://{text}/", b"")
    assert (refused.status, refused.all("set-cookie")) == (400, [])
    assert text not in capsys.readouterr().out
