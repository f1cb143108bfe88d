"""The demo's prediction server speaks the Open Inference Protocol and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from router.demo.models import MODELS, Half, halves
from router.demo.open_inference_app import MAX_BODY_BYTES, MAX_IMAGES, Message, OpenInferenceApp
from router.demo.server_process import ServerFailedError, ServerProcess

INFER = "/v2/models/digits/infer"
READY_S = 30.0


@pytest.fixture(scope="module")
def held_out() -> Half:
    """Return the images and labels that no model was fitted on."""
    return halves()[1]


@pytest.fixture(scope="module")
def app() -> OpenInferenceApp:
    """Return the application around v1, without a server."""
    return OpenInferenceApp(MODELS["v1"](halves()[0]), name="digits", version="v1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[str]:
    """Yield the base URL of a real server process with v2."""
    process = ServerProcess.start("v2")
    try:
        yield await process.ready(READY_S)
    finally:
        process.stop()


def request_of(data: object, shape: object, **other: object) -> dict[str, object]:
    """Return an inference request with this tensor."""
    tensor = {"name": "image", "datatype": "FP64", "shape": shape, "data": data}
    return {"inputs": [tensor], **other}


def is_running(pid: int) -> bool:
    """Return whether the process exists and is more than an entry waiting for its parent to look."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int, deadline_s: float) -> bool:
    """Return whether the process ended before the deadline."""
    end_s = time.monotonic() + deadline_s
    while is_running(pid) and time.monotonic() < end_s:
        time.sleep(0.01)
    return not is_running(pid)


def test_one_image_is_answered_with_label_and_scores(server: str, held_out: Half) -> None:
    """The answer names model and version, echoes the id, and its first output is the label as INT64."""
    image = held_out.images[0].tolist()

    response = httpx.post(server + INFER, json=request_of(image, [1, 64], id="request 7"))

    body = response.json()
    label, scores = body["outputs"]
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert (body["model_name"], body["model_version"], body["id"]) == ("digits", "v2", "request 7")
    assert label == {"name": "label", "datatype": "INT64", "shape": [1], "data": [held_out.labels[0]]}
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP64", [1, 10])
    assert int(np.argmax(scores["data"])) == label["data"][0]


def test_a_batch_over_http_gives_the_models_own_answers(server: str, held_out: Half) -> None:
    """All held-out images in one request get the labels and scores that the model gives in this process."""
    expected = MODELS["v2"](halves()[0]).predict(held_out.images)

    request = request_of(held_out.images.tolist(), [len(held_out.labels), 64])
    label, scores = httpx.post(server + INFER, json=request).json()["outputs"]

    assert label["data"] == expected.labels.tolist()
    assert scores["shape"] == [len(held_out.labels), 10]
    assert np.allclose(scores["data"], expected.scores.ravel(), rtol=0.0, atol=1e-9)


def test_a_request_without_id_gets_an_answer_without_id(app: OpenInferenceApp) -> None:
    """The protocol echoes an id only if there was one."""
    answer = app.answer("POST", INFER, json.dumps(request_of([0.0] * 64, [1, 64])).encode())

    assert set(answer.body) == {"model_name", "model_version", "outputs"}


def test_flat_and_nested_data_mean_the_same(app: OpenInferenceApp, held_out: Half) -> None:
    """The protocol allows a tensor's data as one list or as rows."""
    rows = held_out.images[:3].tolist()
    nested = json.dumps(request_of(rows, [3, 64])).encode()
    flat = json.dumps(request_of(held_out.images[:3].ravel().tolist(), [3, 64])).encode()

    assert app.answer("POST", INFER, nested) == app.answer("POST", INFER, flat)


def test_the_client_may_choose_the_outputs(app: OpenInferenceApp) -> None:
    """A request that names outputs gets these, in its order."""
    request = request_of([0.0] * 64, [1, 64], outputs=[{"name": "scores"}])

    outputs: Any = app.answer("POST", INFER, json.dumps(request).encode()).body["outputs"]

    assert [output["name"] for output in outputs] == ["scores"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "turnout-demo", "version": "v1", "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/v1/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health_and_metadata_are_answered(app: OpenInferenceApp, path: str, expected: dict[str, object]) -> None:
    """Each GET of the protocol has its small JSON answer."""
    answer = app.answer("GET", path, b"")

    assert (answer.status, answer.body) == (200, expected)


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/v1"])
def test_the_model_describes_its_tensors(app: OpenInferenceApp, path: str) -> None:
    """The metadata names what infer takes and gives, with the label first."""
    body: Any = app.answer("GET", path, b"").body

    assert (body["name"], body["versions"]) == ("digits", ["v1"])
    assert [(t["name"], t["datatype"], t["shape"]) for t in body["inputs"]] == [("image", "FP64", [-1, 64])]
    assert [tensor["name"] for tensor in body["outputs"]] == ["label", "scores"]


def test_infer_by_version_is_the_same_model(app: OpenInferenceApp) -> None:
    """A path that names the version reaches the same model as one that does not."""
    body = json.dumps(request_of([1.0] * 64, [1, 64])).encode()

    assert app.answer("POST", INFER, body) == app.answer("POST", "/v2/models/digits/versions/v1/infer", body)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b'{"inputs": [', "not JSON"),
        (b'{"inputs": [NaN]}', "not JSON"),
        (b"[1, 2]", "expected an object"),
        (b"{}", "'inputs'"),
        (b'{"inputs": []}', "'inputs'"),
        (b'{"inputs": [7]}', "'inputs'"),
        (json.dumps(request_of([0.0] * 64, [1, 64], id=7)).encode(), "'id'"),
        (json.dumps(request_of([0.0] * 63, [1, 64])).encode(), "[63]"),
        (json.dumps(request_of([0.0] * 64, [64])).encode(), "[64]"),
        (json.dumps(request_of([0.0] * 64, [64, 1])).encode(), "[64, 1]"),
        (json.dumps(request_of([], [0, 64])).encode(), "[0, 64]"),
        (json.dumps(request_of([0.0] * 64, [True, 64])).encode(), "[True, 64]"),
        (json.dumps(request_of([0.0] * 64, [MAX_IMAGES + 1, 64])).encode(), str(MAX_IMAGES)),
        (json.dumps(request_of([0.0] * 64, None)).encode(), "None"),
        (json.dumps(request_of([[0.0] * 64, [0.0] * 63], [2, 64])).encode(), "rows"),
        (json.dumps(request_of([[[0.0] * 64]], [1, 64])).encode(), "[1, 1, 64]"),
        (json.dumps(request_of(["0.0"] * 64, [1, 64])).encode(), "numbers"),
        (json.dumps(request_of([0.0] * 63 + [None], [1, 64])).encode(), "numbers"),
        (json.dumps(request_of([True] * 64, [1, 64])).encode(), "numbers"),
        (json.dumps(request_of(0.0, [1, 64])).encode(), "'data'"),
        (json.dumps(request_of([0.0] * 63 + [16.5], [1, 64])).encode(), "0..16"),
        (json.dumps(request_of([0.0] * 63 + [-1.0], [1, 64])).encode(), "0..16"),
        (json.dumps(request_of([1e308] * 64, [1, 64])).encode(), "0..16"),
        (json.dumps({"inputs": [{"datatype": "BYTES", "shape": [1, 64]}]}).encode(), "BYTES"),
        (json.dumps({"inputs": [{"datatype": "FP64", "shape": [1, 64]}]}).encode(), "'data'"),
        (json.dumps(request_of([0.0] * 64, [1, 64], outputs=[{"name": "loss"}])).encode(), "label"),
        (json.dumps(request_of([0.0] * 64, [1, 64], outputs="label")).encode(), "'outputs'"),
    ],
)
def test_bad_input_is_a_400_that_says_what_was_expected(app: OpenInferenceApp, body: bytes, named: str) -> None:
    """Whatever is wrong with a request, the client gets one JSON sentence about it, never a 500."""
    answer = app.answer("POST", INFER, body)

    assert answer.status == 400
    assert named in str(answer.body["error"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/models/digits:predict",
        "/v2/models/cats/infer",
        "/v2/models/digits/versions/v9/infer",
        "/v2/models/digits/explain",
        "/v2/health",
    ],
)
def test_an_unknown_model_or_path_is_a_404(app: OpenInferenceApp, path: str) -> None:
    """The sentence names the path's unknown part and what is served here."""
    answer = app.answer("POST", path, b"{}")

    assert answer.status == 404
    assert "'digits'" in str(answer.body["error"])


def test_a_wrong_method_is_a_405_that_names_the_right_one(server: str) -> None:
    """GET on infer and POST on a health path say in `allow` what is possible."""
    infer, health = httpx.get(server + INFER), httpx.post(server + "/v2/health/live")

    assert (infer.status_code, infer.headers["allow"]) == (405, "POST")
    assert (health.status_code, health.headers["allow"]) == (405, "GET")


def test_a_body_over_the_limit_is_a_413_and_the_connection_lives(server: str) -> None:
    """The client can send all of a too large body, reads its 413, and the next request works."""
    with httpx.Client() as client:
        refused = client.post(server + INFER, content=b" " * (MAX_BODY_BYTES + 1))
        after = client.get(server + "/v2/health/ready")

    assert (refused.status_code, after.status_code) == (413, 200)
    assert str(MAX_BODY_BYTES) in refused.json()["error"]


async def test_a_client_that_leaves_within_its_body_gets_nothing(app: OpenInferenceApp) -> None:
    """Half a body is not answered, and nothing is raised."""
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"inputs"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": INFER}, receive, send)

    assert (messages, sent) == ([], [])


async def test_stop_ends_the_server_and_frees_its_port() -> None:
    """After stop the process is gone, nothing answers on its port, and a second stop is harmless."""
    process = ServerProcess.start("v1")
    try:
        url = await process.ready(READY_S)
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/v2/health/ready")).status_code == 200
            # Ctrl-C in a terminal goes to the foreground process group; the server must not be in ours.
            assert os.getpgid(process.pid) != os.getpgrp()
            began_s = time.monotonic()
            process.stop()
            took_s = time.monotonic() - began_s
            with pytest.raises(httpx.TransportError):
                await client.get(url + "/v2/health/ready")
    finally:
        process.stop()

    assert not is_running(process.pid)
    assert took_s < 2.0  # the connection that a client keeps open holds nothing up


PARENT = """
import asyncio, sys
from router.demo.server_process import ServerProcess

async def main():
    server = ServerProcess.start("v1")
    print(server.pid, flush=True)
    if sys.argv[1] == "ready":
        print(await server.ready(30), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("moment", "how"),
    [
        ("ready", signal.SIGKILL),
        pytest.param("ready", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("starting", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_the_server_ends_with_its_parent(moment: str, how: signal.Signals) -> None:
    """Killed, interrupted from the terminal, or killed while the server starts: no process stays."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # as in a terminal of its own: the signal goes to its whole process group
    )
    assert parent.stdout is not None
    with parent, parent.stdout as said:
        pid = int(said.readline())
        if moment == "ready":
            assert said.readline().startswith(b"http://127.0.0.1:")
        os.killpg(parent.pid, how)
        parent.wait(10)

    try:
        # Once it serves, the end comes at once; before, the server first finishes importing its libraries.
        assert wait_until_gone(pid, 2.0 if moment == "ready" else 15.0)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
async def test_a_taken_port_is_said_at_once(server: str) -> None:
    """A server that cannot listen fails before it fits anything, and the error holds what it said."""
    process = ServerProcess.start("v1", port=httpx.URL(server).port or 0)

    with pytest.raises(ServerFailedError, match=r"v1 ended before it was ready[\s\S]*in use"):
        await process.ready(READY_S)

    assert not is_running(process.pid)


async def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    """No half-started process is left behind by a parent that gave up."""
    process = ServerProcess.start("v1")

    with pytest.raises(ServerFailedError, match=r"not ready within 0\.01 s"):
        await process.ready(0.01)

    assert not is_running(process.pid)


@pytest.mark.slow
async def test_by_hand_the_server_says_its_url_and_ends_on_sigterm() -> None:
    """Without a parent to tell, one JSON line on standard output holds model, URL and process id."""
    command = [sys.executable, "-m", "router.demo.server", "--model", "v1", "--name", "numbers"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = json.loads(await process.stdout.readline())
        async with httpx.AsyncClient() as client:
            ready = await client.get(said["url"] + "/v2/models/numbers/ready")
        process.terminate()
        async with asyncio.timeout(3.0):
            status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert ("v1", process.pid, 200) == (said["model"], said["pid"], ready.status_code)
    assert status == -signal.SIGTERM
