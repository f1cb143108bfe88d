"""SE4: what a page in a browser on this machine can do to the admin API while there are no tokens: nothing."""

import pytest

from tests.admin.desk import BLOCK, ROLLOUT, TOKENS, Desk, config, desk_for, memory_store, problem

OWN = "http://127.0.0.1:8081"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8081", "127.0.0.1.evil.example:8081", "localhost.evil.example", "[::2]:8081",
        "0.0.0.0:8081", "192.168.0.1", "", "127.0.0.1:8081@evil.example",
    ],
)  # fmt: skip
async def test_se4_a_foreign_host_gets_nothing(desk: Desk, host: str) -> None:
    """DNS rebinding: the page's own name points here, so the name is what gives it away."""
    for path in ("/v1/routes", "/healthz", "/metrics", "/nowhere"):
        problem(await desk.client.get(path, headers={"host": host}), 403)
    problem(await desk.client.post(f"{ROLLOUT}s", headers={"host": host}, json=BLOCK), 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8081", "127.0.0.1", "127.0.0.1:9999", "[::1]:8081", "[::1]"])
async def test_our_own_names_are_answered(desk: Desk, host: str) -> None:
    """Under any port: a tunnel or a container may map another one."""
    assert (await desk.client.get("/v1/routes", headers={"host": host})).status_code == 200


async def test_se4_two_hosts_are_none(desk: Desk) -> None:
    """Whichever of them is meant."""
    headers = [("host", "127.0.0.1:8081"), ("host", "evil.example")]
    problem(await desk.client.get("/v1/routes", headers=headers), 403)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8081", ""]
)
async def test_se4_a_page_of_another_origin_changes_nothing(desk: Desk, origin: str) -> None:
    """Not even one of another server on this machine."""
    answer = await desk.client.post(f"{ROLLOUT}s", headers={"origin": origin}, json=BLOCK)
    problem(answer, 403)
    assert await desk.store.read_states(("digits",)) == {}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_se4_what_the_browser_says_about_the_page_counts(desk: Desk, site: str) -> None:
    """Also where it sends no Origin."""
    problem(await desk.client.post(f"{ROLLOUT}/abort", headers={"sec-fetch-site": site}), 403)


async def test_our_own_page_may_change_something(desk: Desk) -> None:
    """The page that this very server hands out."""
    headers = {"origin": OWN, "sec-fetch-site": "same-origin"}
    assert (await desk.client.post(f"{ROLLOUT}s", headers=headers, json=BLOCK)).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_se4_a_form_is_no_json(desk: Desk, kind: str) -> None:
    """What a page can send without asking is not read, even if it holds JSON."""
    headers = {"content-type": kind} if kind else {}
    problem(await desk.client.post(f"{ROLLOUT}s", headers=headers, content=b'{"candidate": "v2"}'), 415)


async def test_with_tokens_any_name_is_fine() -> None:
    """The token proves more than a name does; a server behind a proxy has many."""
    async with desk_for(memory_store(), config(tokens=True), TOKENS["operator"]) as desk:
        headers = {"host": "turnout.example", "origin": "https://turnout.example"}
        assert (await desk.client.post(f"{ROLLOUT}s", headers=headers, json=BLOCK)).status_code == 201


async def test_every_answer_forbids_framing_sniffing_and_caching(desk: Desk) -> None:
    """Also errors, and those of the outermost layer."""
    answers = [
        await desk.client.get("/v1/routes"),
        await desk.client.get("/nowhere"),
        await desk.client.get("/v1/routes", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")
