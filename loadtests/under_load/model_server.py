"""The demo's digit model behind every protocol, and a text model that streams: `model_server --model v2`.

Prints one JSON line, `{"url"}`, once it serves. SIGUSR1 spoils the model: from then on every prediction is a 500, as of
a server whose weights were overwritten.
"""

import argparse
import asyncio
import json
import random
import re
import signal
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import uvicorn
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from loadtests.under_load.protocols import CHAT_PATH, PROTOCOLS, Pixels
from router.demo.models import MODELS, Model, halves
from router.demo.open_inference_app import Message, OpenInferenceApp, Receive, Scope, Send
from router.demo.server import AnnouncingServer

WORDS = 24
WORD_S = 0.02
"""Between two words of a streamed answer, as of a small language model. Chosen."""

ROWS: Mapping[str, tuple[Callable[[Any], Sequence[Pixels]], Callable[[Sequence[int]], object]]] = MappingProxyType(
    {
        "kserve_v1": (lambda body: body["instances"], lambda labels: {"predictions": labels}),
        "torchserve": (lambda body: [body["data"]], lambda labels: labels[0]),
        "mlflow": (lambda body: body["inputs"], lambda labels: {"predictions": labels}),
        "sagemaker": (lambda body: body["instances"], lambda labels: {"predictions": labels}),
        "json": (lambda body: [body["pixels"]], lambda labels: {"digit": labels[0]}),
    }
)
"""How images stand in a request of each protocol, and labels in its answer."""


class TextModel:
    """Goes on from a prompt word by word, as scikit-learn's descriptions of its data sets do: a chain of words."""

    def __init__(self) -> None:
        words = [word for load in (load_digits, load_iris, load_wine, load_breast_cancer) for word in _words(load())]
        self._next: defaultdict[str, list[str]] = defaultdict(list)
        for word, following in pairwise(words):
            self._next[word].append(following)
        self._all = words

    def words(self, prompt: str) -> Iterator[str]:
        """Yield the words of the answer; the same ones each time for the same prompt."""
        choice = random.Random(prompt)
        word = (re.findall(r"\S+", prompt) or [""])[-1]
        for _ in range(WORDS):
            word = choice.choice(self._next.get(word) or self._all)
            yield word


def _words(bunch: Any) -> list[str]:  # noqa: ANN401 - scikit-learn's Bunch has no types
    return re.findall(r"\S+", bunch.DESCR)


class ModelApp:
    """An ASGI application. `spoiled`: every prediction fails."""

    def __init__(self, model: Model, version: str) -> None:
        self.spoiled = False
        self._model = model
        self._open_inference = OpenInferenceApp(model, name="digits", version=version)
        self._text = TextModel()
        self._rows = {PROTOCOLS[name].path: rows for name, rows in ROWS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if self.spoiled and scope["method"] == "POST":
            await _send_json(send, 500, {"error": "the model's weights are gone"})
        elif path == CHAT_PATH:
            await self._stream(json.loads(await _body(receive))["messages"][-1]["content"], send)
        elif path in self._rows:
            read, answer = self._rows[path]
            images = np.array(read(json.loads(await _body(receive))), dtype=np.float64)
            await _send_json(send, 200, answer(self._model.predict(images).labels.tolist()))
        else:
            await self._open_inference(scope, receive, send)

    async def _stream(self, prompt: str, send: Send) -> None:
        await _begin(send, 200, b"text/event-stream")
        for word in self._text.words(prompt):
            await asyncio.sleep(WORD_S)
            await _send_event(send, {"delta": {"content": f"{word} "}, "finish_reason": None})
        await _send_event(send, {"delta": {}, "finish_reason": "stop"})
        await send(_part(b"data: [DONE]\n\n", more=False))


async def _send_event(send: Send, choice: Mapping[str, object]) -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "text", "choices": [{"index": 0, **choice}]}
    await send(_part(f"data: {json.dumps(chunk)}\n\n".encode(), more=True))


async def _send_json(send: Send, status: int, value: object) -> None:
    await _begin(send, status, b"application/json")
    await send(_part(json.dumps(value).encode(), more=False))


async def _begin(send: Send, status: int, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, choices=sorted(MODELS))
    model = parser.parse_args().model
    app = ModelApp(MODELS[model](halves()[0]), model)

    def spoil(*_: object) -> None:
        app.spoiled = True

    signal.signal(signal.SIGUSR1, spoil)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        config = uvicorn.Config(
            app, http="httptools", ws="none", loop="uvloop", lifespan="off", access_log=False, log_level="warning",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        AnnouncingServer(config, lambda: print(line, flush=True)).run(sockets=[listener])


if __name__ == "__main__":
    main()
