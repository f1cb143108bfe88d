"""PR1, PR2 and SE9 on real processes: everything that Turnout writes anywhere is searched for what it must not hold."""

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from router.admin.tokens import hash_token
from router.store.embedded import EmbeddedValkey
from tests.e2e import harness
from tests.e2e.faulty_turnout import BUGS
from tests.e2e.harness import Admin, Turnout, Turnouts, clean_environment, config_for
from tests.e2e.load import eventually, until
from tests.e2e.model_server import INFER, ModelServer, Seen
from tests.e2e.wire import BrokenError, Line, fetch, request
from tests.gateway.conftest import authority

__all__ = ["authority"]

SHADOW = {"candidate": "v2", "policy": "shadow"}


def dumped(store: redis.Redis) -> bytes:
    """Return every key of a store with all that it holds, as bytes one can search in."""
    found: list[object] = []
    for key in store.scan_iter(count=1_000):
        kind: Any = store.type(key)
        read: Any = {
            b"string": lambda one: [store.get(one)],
            b"hash": store.hgetall,
            b"set": store.smembers,
            b"zset": lambda one: store.zrange(one, 0, -1, withscores=True),
            b"stream": store.xrange,
            b"list": lambda one: store.lrange(one, 0, -1),
        }[kind]
        found.append((key, kind, read(key)))
    assert found, "the store is empty"
    return b"\n".join(_bytes_in(found))


def _bytes_in(value: object) -> Iterable[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _bytes_in(item)
    elif isinstance(value, (list, tuple, set)):
        for one in value:
            yield from _bytes_in(one)


def files_in(directory: Path) -> bytes:
    """Return the content of all files below a directory."""
    return b"\n".join(one.read_bytes() for one in sorted(directory.rglob("*")) if one.is_file())


def hits(places: Mapping[str, bytes], secrets: Iterable[str]) -> list[tuple[str, str]]:
    """Return which of `secrets` stand where: as they are, escaped by JSON or URL, or in base64."""
    found = []
    for secret in secrets:
        forms = (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="))
        found += [(place, secret) for place, data in places.items() if any(form in data for form in forms)]
    return found


class Talking(ModelServer):
    """Answers with a body, a label and fields that hold `mark`; the label is longer than what is kept of one."""

    def __init__(self, mark: str) -> None:
        super().__init__(1)
        self.mark = mark

    def answer_to(self, seen: Seen) -> bytes | None:  # noqa: ARG002 - always the same
        """Return the answer."""
        label = "a class of the model, whose name goes on for longer than is kept of it: " + self.mark
        output = {"name": "label", "shape": [1], "datatype": "BYTES", "data": [label], "parameters": {"m": self.mark}}
        body = json.dumps({"model_name": "digits", "outputs": [output], "id": self.mark}).encode()
        head = (
            f"HTTP/1.1 200 OK\r\nset-cookie: s={self.mark}\r\nx-{self.mark}: 1\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@pytest.fixture
async def talking() -> AsyncIterator[tuple[Talking, Talking]]:
    """Return both variants' servers."""
    async with Talking("mark-stable").running() as stable, Talking("mark-candidate").running() as candidate:
        assert isinstance(stable, Talking)
        assert isinstance(candidate, Talking)
        yield stable, candidate


MARKS = (
    "mark-stable", "mark-candidate", "mark-body", "mark-name", "mark-value", "mark-query", "mark-path", "mark-cookie",
    "mark-user",
)  # fmt: skip


def marked(number: int) -> bytes:
    """Return a prediction request with a mark in each of its parts."""
    body = json.dumps({
        "id": "mark-body", "parameters": {"mark-body": "mark-body"},
        "inputs": [{"name": "mark-body", "shape": [1], "datatype": "BYTES", "data": ["mark-body"]}],
    }).encode()  # fmt: skip
    fields = {
        "mark-name": "1", "x-other": "mark-value", "cookie": "a=mark-cookie", "authorization": "Bearer mark-value",
        "x-user-id": "mark-user", "x-request-id": f"request-{number}",
    }  # fmt: skip
    return request("POST", f"{INFER}/mark-path?q=mark-query", body, fields)


@pytest.mark.slow
@pytest.mark.parametrize("predictions", [True, False], ids=["default", "without predictions"])
async def test_pr1_no_word_of_a_request_is_in_the_store_or_on_disk(
    turnouts: Turnouts, talking: tuple[Talking, Talking], tmp_path: Path, *, predictions: bool
) -> None:
    """200 requests marked in every part: pairs hold ids, numbers and 64 bytes of a label, or not even that."""
    config = config_for(*talking, rollout={**SHADOW, "gates": [{"metric": "disagreement", "max": "2%"}]})
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        config |= {"store": {"url": valkey.url}, "log": {"level": "debug", "format": "json"}}
        config |= {} if predictions else {"pairs": {"predictions": False}}
        serve = await turnouts.start(config, directory=tmp_path / "serve")
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        line = await Line.open(serve.port("gateway"))
        for number in range(200):
            assert (await line.ask(marked(number))).status == 200

        async def all_there() -> bool:
            return len(await admin.get("/pairs?limit=1000")) == 200

        await eventually(all_there)
        pair = (await admin.get("/pairs?limit=1"))[0]
        kept = {side: pair[side]["prediction"]["label"] for side in ("stable", "candidate")}
        with redis.Redis.from_url(valkey.url) as store:
            store.save()
            data = dumped(store)
        answers = [json.dumps(await admin.get(path)) for path in ("/pairs", "/decisions", "/evidence", "/explain", "")]
        line.close()
        admin.close()
        await serve.stop()
    places = {
        "store": data, "disk": files_in(tmp_path / "serve") + files_in(tmp_path / "valkey"), "log": serve.log.encode(),
        "api": "".join(answers).encode(),
    }  # fmt: skip
    assert b"request-7" in data  # the search would find what is there
    assert b"REDIS" in places["disk"] or b"VALKEY" in places["disk"]
    assert hits(places, MARKS) == []
    labels = {text is not None and 0 < len(text.encode()) <= 64 for text in kept.values()}
    assert labels == {predictions}
    assert pair["comparison"]["same"] is False
    assert (b"a class of the model" in data) is predictions
    assert set(pair) == {
        "v", "pair_id", "request_id", "route", "rollout", "exposure", "assigned_at", "served", "stable", "candidate",
        "comparison", "slices",
    }  # fmt: skip
    assert [server.seen[0].headers["x-other"] for server in talking] == ["mark-value"] * 2  # the marks did go through


@pytest.mark.slow
async def test_pr2_redacted_fields_are_in_no_store_file_log_or_answer(
    turnouts: Turnouts, talking: tuple[Talking, Talking], tmp_path: Path
) -> None:
    """Everything may be kept but what is marked: the rest of the payload is there, and no mark is anywhere."""
    redact = ["$.id", "$.parameters", "$.inputs.name", "$..data", "$.outputs[*].parameters"]
    config = config_for(*talking, rollout=SHADOW) | {"log": {"level": "debug", "format": "json"}}
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        config |= {"store": {"url": valkey.url}}
        config |= {"pairs": {"predictions": False, "payloads": ["$"], "redact": redact}}
        serve = await turnouts.start(config, directory=tmp_path / "serve")
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        line = await Line.open(serve.port("gateway"))
        for number in range(50):
            assert (await line.ask(marked(number))).status == 200

        async def all_there() -> bool:
            return len(await admin.get("/pairs?limit=1000")) == 50

        await eventually(all_there)
        pairs = await admin.get("/pairs?limit=1000&payloads=true")
        with redis.Redis.from_url(valkey.url) as store:
            store.save()
            data = dumped(store)
        line.close()
        admin.close()
        await serve.stop()
    answer = {"model_name": "digits", "outputs": [{"name": "label", "shape": [1], "datatype": "BYTES"}]}
    expected = {"request": {"inputs": [{"shape": [1], "datatype": "BYTES"}]}, "stable": answer, "candidate": answer}
    assert [pair["payload"] for pair in pairs] == [expected] * 50
    places = {
        "store": data, "disk": files_in(tmp_path / "serve") + files_in(tmp_path / "valkey"), "log": serve.log.encode(),
        "api": json.dumps(pairs).encode(),
    }  # fmt: skip
    assert b"model_name" in data
    assert "payloads shown" in serve.log
    assert hits(places, MARKS) == []


# -- SE9 --------------------------------------------------------------------------------------------------------------

CANARIES = {
    "authorization": "canary-authorization-1f", "cookie": "canary-cookie-2e", "field": "canary-field-3d",
    "query": "canary-query-4c", "body": "canary-body-5b", "answer": "canary-answer-6a",
    "store password": "canary-store-password-79", "admin token": "turnout_canary-admin-token-88",
    "wrong token": "turnout_canary-wrong-token-97", "webhook secret": "canary-webhook-secret-a6",
    "environment": "canary-environment-b5", "userinfo": "canary-userinfo-c4", "webhook path": "canary-webhook-path-d3",
}  # fmt: skip
"""And the key of a variant's client certificate, which is made for the test."""


def canary_request(path: str = INFER, **fields: str) -> bytes:
    """Return a request full of canaries."""
    c = CANARIES
    body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [c["body"]]}]}).encode()
    sent = {
        "authorization": f"Bearer {c['authorization']}", "cookie": f"session={c['cookie']}", "x-api-key": c["field"],
        "x-user-id": c["field"], **fields,
    }  # fmt: skip
    return request("POST", f"{path}?token={c['query']}", body, sent)


async def provoke(serve: Turnout, answers: list[bytes]) -> None:
    """Set off every planted bug with canaries on their way, and ask for everything that answers with an error."""
    gateway, admin = serve.port("gateway"), serve.port("admin")
    token = {"authorization": f"Bearer {CANARIES['admin token']}"}

    async def ask(port: int, raw: bytes) -> int:
        try:
            answer = await fetch(port, raw)
        except (BrokenError, ConnectionError):
            return 0
        answers.extend([answer.body, repr(dict(answer.headers)).encode()])
        return answer.status

    def admin_get(path: str, **fields: str) -> bytes:
        return request("GET", path, b"", {**token, **fields})

    for bug in BUGS:
        (serve.directory / f"bug-{bug}").touch()

        async def gone(name: str = bug) -> bool:
            await ask(gateway, canary_request())
            await ask(admin, admin_get("/v1/routes/digits/evidence"))
            return not (serve.directory / f"bug-{name}").exists()

        await eventually(gone, 15.0)

    async def well() -> bool:
        at_gateway = await ask(gateway, canary_request())
        return (at_gateway, await ask(admin, admin_get("/v1/routes/digits/evidence"))) == (200, 200)

    await eventually(well, 15.0)
    for raw in (
        canary_request("/nowhere"),
        canary_request().replace(b"host: localhost", b"host: a\r\nhost: b"),
        canary_request().replace(b"content-length: ", b"content-length: x"),
        canary_request(expect=CANARIES["field"]),
        canary_request().replace(b"POST ", b"POST http://user:canary-userinfo-c4@"),
        b"GET /?" + CANARIES["query"].encode() + b"\x00 HTTP/1.1\r\n\r\n",
    ):
        assert await ask(gateway, raw) in {400, 404, 417, 0}
    paths = ("", "/pairs", "/decisions?evidence=true", "/evidence", "/timeline", "/explain", "/rollout", "/nowhere")
    for path in (*(f"/v1/routes/digits{one}" for one in paths), "/v1/routes", "/metrics", "/openapi.json", "/readyz"):
        await ask(admin, admin_get(path))
        await ask(admin, request("GET", path, b"", {"authorization": f"Bearer {CANARIES['wrong token']}"}))
    for path in ("/metrics", "/readyz", "/healthz"):
        await ask(serve.port("ops"), admin_get(path))


@pytest.mark.slow
async def test_se9_no_canary_gets_out_whatever_breaks(
    turnouts: Turnouts, tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirteen secrets, log level debug, six bugs that raise in workers and control: 0 hits, and each event a line."""
    script = tmp_path / "turnout"
    script.write_text(f"#!{sys.executable}\n" + Path(harness.__file__).with_name("faulty_turnout.py").read_text())
    script.chmod(0o755)
    monkeypatch.setattr(harness, "TURNOUT", script)
    key = (authority / "me.key").read_text()
    secrets = [*CANARIES.values(), *(line for line in key.splitlines() if len(line) > 30 and "KEY" not in line)]
    async with Talking(CANARIES["answer"]).running() as stable, Talking(CANARIES["answer"]).running() as candidate:
        config = config_for(stable, candidate, rollout=SHADOW)
        config["routes"]["digits"]["variants"]["v3"] = {
            "url": "https://127.0.0.1:1",
            "tls": {"cert": str(authority / "me.pem"), "key": str(authority / "me.key")},
        }
        with EmbeddedValkey(tmp_path / "valkey") as valkey:
            password, hashed = CANARIES["store password"], hash_token(CANARIES["admin token"], b"salt")
            with redis.Redis.from_url(valkey.url) as store:
                store.config_set("requirepass", password)
            url = valkey.url.replace("unix://", f"unix://:{password}@")
            hook = f"http://127.0.0.1:1/{CANARIES['webhook path']}?key={CANARIES['query']}"
            config |= {
                "store": {"url": url}, "log": {"level": "debug", "format": "json"},
                "auth": {"tokens": [{"name": "a", "role": "admin", "hash": hashed}]},
                "webhooks": {"secret_env": "HOOK", "allow": ["127.0.0.0/8"], "hooks": [
                    {"name": "news", "type": "event", "url": hook}]},
            }  # fmt: skip
            directory = tmp_path / "serve"
            directory.mkdir()
            file = directory / "turnout.yaml"
            file.write_text(yaml.safe_dump(config))
            serve = turnouts.launch(
                "serve", "--config", str(file), directory=directory,
                HOOK=CANARIES["webhook secret"], OTHER=CANARIES["environment"],
            )  # fmt: skip
            await serve.until_ready()
            answers: list[bytes] = []
            await provoke(serve, answers)
            commands = "\n".join(serve.processes().values())
            with redis.Redis.from_url(url) as store:
                store.config_set("requirepass", "")
                store.save()
                data = dumped(store)
            await until(lambda: "ended by an exception" in serve.log)
            await serve.stop()
    file.write_text("# the configuration is the operator's own, and holds the password\n")
    places = {
        "log": serve.log.encode(), "output": "\n".join(serve.output).encode(), "answers": b"\n".join(answers),
        "store": data, "disk": files_in(directory) + files_in(tmp_path / "valkey"), "commands": commands.encode(),
    }  # fmt: skip
    # The client's own answers are the model's; Turnout's own are all others.
    places["answers"] = b"\n".join(one for one in answers if b"outputs" not in one and b"set-cookie" not in one)
    assert "webhook" in serve.log
    for bug in BUGS:
        assert f"the planted bug {bug}" in serve.log
    lines = serve.log.splitlines()
    assert [line for line in lines if not line.startswith("{") or not line.endswith("}")] == []
    assert [line for line in lines if json.loads(line)["level"] == "error"] != []
    assert hits(places, secrets) == []


@pytest.mark.slow
async def test_se9_the_command_line_tells_no_secret_of_a_wrong_file(tmp_path: Path) -> None:
    """`validate` and `schema` on a file that is wrong at each secret: the field is named, its value is not."""
    c = CANARIES
    wrong = {
        "store": {"url": f"http://user:a/b@c{c['store password']}@a/b?password={c['field']}"},
        "auth": {"tokens": [{"name": "a", "role": "root", "hash": c["admin token"]}]},
        "webhooks": {"secret_env": c["webhook secret"], "secret_file": 7, "hooks": [
            {"name": "x", "type": "y", "url": f"http://u:{c['userinfo']}@h/{c['webhook path']}?token={c['query']}"}]},
        "routes": {"r": {"adapter": "opaque", "stable": "v1", "variants": {
            "v1": {"url": f"http://user:{c['userinfo']}@h"}, "v2": {"url": "https://h", "tls": {"key": 7}}}}},
    }  # fmt: skip
    file = tmp_path / "turnout.yaml"
    file.write_text(yaml.safe_dump(wrong))
    env = clean_environment(OTHER=c["environment"], TURNOUT_AUTH__PASSWORD=c["field"])
    for command in (["validate", "--config", str(file)], ["serve", "--config", str(file)], ["schema"]):
        done = subprocess.run([harness.TURNOUT, *command], env=env, capture_output=True, check=False)  # noqa: ASYNC221
        assert done.returncode == (0 if command == ["schema"] else 2)
        assert hits({"out": done.stdout, "err": done.stderr}, c.values()) == []
