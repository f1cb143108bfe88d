"""DP13: the gateway is no browser. A real worker follows, keeps, inflates, answers, repeats and proxies nothing."""

import gzip
from pathlib import Path

import pytest
import yaml

from tests.e2e.harness import Turnouts, config_for
from tests.e2e.model_server import ModelServer
from tests.gateway.clients import Answer, Client
from tests.gateway.upstreams import Upstream, Visit, answering, ok

PACKED = gzip.compress(b"x" * 1_000, mtime=0)
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


def environment_of(pid: int) -> bytes:
    """Return the environment of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes()


async def ask(client: Client, answer: str) -> Answer:
    """Ask for one of the answers."""
    return await client.ask("POST", f"/{answer}", b"x", "Cookie: own=1", "Accept-Encoding: gzip", within_s=10.0)


@pytest.mark.slow
async def test_dp13_nothing_is_followed_kept_inflated_answered_repeated_or_proxied(turnouts: Turnouts) -> None:
    """307, Set-Cookie, gzip, 401, 503 with Retry-After by a host name, a proxy in the worker's environment."""
    trap = await Upstream(answering(ok(b"trapped"))).start()
    answers = {
        "/307": ok(b"", f"Location: http://localhost:{trap.port}/", status="307 Temporary Redirect"),
        "/cookie": ok(b"", "Set-Cookie: sid=secret; Path=/", "Set-Cookie: b=c; Domain=localhost"),
        "/gzip": ok(PACKED, "Content-Encoding: gzip"),
        "/401": ok(b"", 'WWW-Authenticate: Basic realm="x"', status="401 Unauthorized"),
        "/503": ok(b"", "Retry-After: 0", status="503 Service Unavailable"),
        "/refresh": ok(b"", f"Refresh: 0; url=http://localhost:{trap.port}/", f'Alt-Svc: h2="localhost:{trap.port}"'),
    }

    async def script(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(answers[received.target])

    upstream = await Upstream(script).start()
    config = config_for(ModelServer(1), ModelServer(2))
    variants = {"v1": {"url": f"http://localhost:{upstream.port}"}}
    config["routes"]["digits"] |= {"match": {}, "adapter": "opaque", "variants": variants}
    file = turnouts.directory / "turnout.yaml"
    proxies = dict.fromkeys(PROXIES, f"http://127.0.0.1:{trap.port}") | {"NO_PROXY": "", "no_proxy": ""}
    file.write_text(yaml.safe_dump(config))
    serve = await turnouts.launch("serve", "--config", str(file), directory=None, **proxies).until_ready()
    (worker,) = serve.workers()
    assert b"HTTP_PROXY=http" in environment_of(worker)
    client = await Client.open(serve.port("gateway"))
    got = {path: await ask(client, path[1:]) for path in answers}
    client.close()
    await upstream.stop()
    await trap.stop()
    assert {path: answer.status for path, answer in got.items()} == {
        "/307": 307, "/cookie": 200, "/gzip": 200, "/401": 401, "/503": 503, "/refresh": 200,
    }  # fmt: skip
    assert got["/307"].field("location") == f"http://localhost:{trap.port}/"
    assert got["/cookie"].all("set-cookie") == ["sid=secret; Path=/", "b=c; Domain=localhost"]
    assert (got["/gzip"].body, got["/gzip"].field("content-encoding")) == (PACKED, "gzip")
    assert got["/401"].field("www-authenticate") == 'Basic realm="x"'
    assert got["/503"].field("retry-after") == "0"
    assert [one.target for one in upstream.requests] == list(answers)
    assert [one.field("cookie") for one in upstream.requests] == ["own=1"] * len(answers)
    assert {one.field("accept-encoding") for one in upstream.requests} == {"gzip"}
    assert {one.field("authorization") for one in upstream.requests} == {None}
    assert trap.visits == []
