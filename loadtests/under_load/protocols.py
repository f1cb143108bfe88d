"""What clients of each protocol send, and where the digit stands in the answer. Pure.

`pixels` are 64 numbers, an image of scikit-learn's digits.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Pixels = Sequence[float]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to ask for a digit: `adapter` and `prefix` are the Route's, `path` is asked."""

    adapter: str | Mapping[str, str]
    prefix: str
    path: str
    ask: Callable[[Pixels], object]
    label_of: Callable[[Any], int]

    def body_of(self, pixels: Pixels) -> str:
        """Return the body of a request, ASCII."""
        return json.dumps(self.ask(pixels), separators=(",", ":"))


def _tensor(pixels: Pixels) -> object:
    return {"inputs": [{"name": "image", "datatype": "FP64", "shape": [1, len(pixels)], "data": list(pixels)}]}


DIGITS = "open_inference"
CHAT = "openai"

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        DIGITS: Protocol(
            DIGITS, "/v2/models/digits", "/v2/models/digits/infer",
            _tensor, lambda answer: int(answer["outputs"][0]["data"][0]),
        ),
        "kserve_v1": Protocol(
            "kserve_v1", "/v1/models", "/v1/models/digits:predict",
            lambda pixels: {"instances": [list(pixels)]}, lambda answer: int(answer["predictions"][0]),
        ),
        "torchserve": Protocol(
            "torchserve", "/predictions/digits", "/predictions/digits",
            lambda pixels: {"data": list(pixels)}, int,
        ),
        "mlflow": Protocol(
            "mlflow", "/invocations", "/invocations",
            lambda pixels: {"inputs": [list(pixels)]}, lambda answer: int(answer["predictions"][0]),
        ),
        "sagemaker": Protocol(
            "sagemaker", "/endpoints/digits", "/endpoints/digits/invocations",
            lambda pixels: {"instances": [list(pixels)]}, lambda answer: int(answer["predictions"][0]),
        ),
        "json": Protocol(
            {"name": "json", "label": "$.digit"}, "/digits", "/digits",
            lambda pixels: {"pixels": list(pixels)}, lambda answer: int(answer["digit"]),
        ),
    }
)  # fmt: skip

CHAT_PATH = "/v1/chat/completions"


def chat_body(prompt: str) -> str:
    """Return the body of a request for a streamed answer."""
    return json.dumps({"model": "text", "stream": True, "messages": [{"role": "user", "content": prompt}]})


def route_of(name: str) -> dict[str, object]:
    """Return how a Route of this protocol is configured: its adapter and its match."""
    if name == CHAT:
        return {"adapter": CHAT, "match": {"path_prefix": CHAT_PATH}}
    protocol = PROTOCOLS[name]
    return {"adapter": protocol.adapter, "match": {"path_prefix": protocol.prefix}}
