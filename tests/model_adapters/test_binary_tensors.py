"""Triton's binary tensors: the same prediction as of the same tensors in JSON."""

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.open_inference import OpenInference
from router.core.errors import UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.testing.adapter_contract import AdapterExample, check_adapter

ADAPTER = OpenInference()


def binary(head: dict[str, Any], *tails: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Return header fields and body of a message with binary tensors."""
    text = orjson.dumps(head)
    fields = (("content-type", "application/octet-stream"), ("inference-header-content-length", str(len(text))))
    return fields, text + b"".join(tails)


def tensor(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    """Return a tensor whose data stand behind the JSON."""
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def answer(datatype: str, shape: list[int], packed: bytes, name: str = "label") -> RawAnswer:
    """Return an answer with one binary output."""
    return RawAnswer(200, *binary({"outputs": [tensor(name, datatype, shape, len(packed))]}, packed))


TEXTS = struct.pack("<I3sI3s", 3, b"cat", 3, b"dog")
EXAMPLE = AdapterExample(
    RawRequest(
        "POST", "/v2/models/m/infer",
        *binary({"id": "r", "inputs": [tensor("x", "FP32", [2, 1], 8)]}, struct.pack("<2f", 1, 2)),
    ),
    RawAnswer(
        200,
        *binary(
            {"outputs": [tensor("label", "BYTES", [2], len(TEXTS)), tensor("scores", "FP32", [2, 2], 16)]},
            TEXTS, struct.pack("<4f", 0.25, 0.75, 0.5, 0.5),
        ),
    ),
    InferenceRequest("m", None, "r", 2),
    Prediction(("cat", "dog"), (0.75, 0.5), ((0.25, 0.75), (0.5, 0.5))),
)  # fmt: skip


def test_binary_tensors_keep_the_contract() -> None:
    """Whole, and damaged anywhere."""
    check_adapter(ADAPTER, [EXAMPLE])


@pytest.mark.parametrize(
    ("datatype", "packed", "label"),
    [
        ("BOOL", b"\x01", "true"),
        ("UINT8", b"\xff", "255"),
        ("UINT16", b"\x01\x02", "513"),
        ("UINT32", b"\xff\xff\xff\xff", "4294967295"),
        ("UINT64", b"\xff" * 8, "18446744073709551615"),
        ("INT8", b"\xff", "-1"),
        ("INT16", b"\xfe\xff", "-2"),
        ("INT32", b"    ", "538976288"),
        ("INT64", struct.pack("<q", -(2**63)), "-9223372036854775808"),
        ("FP16", struct.pack("<e", 1.5), "1.5"),
        ("BF16", b"\xc0\x3f", "1.5"),
        ("FP32", struct.pack("<f", 0.1), "0.1"),
        ("FP64", struct.pack("<d", 1 / 3), "0.333333"),
        ("BYTES", b"\x02\x00\x00\x00\xc3\xa4", "ä"),
        ("BYTES", b"\x01\x00\x00\x00\xff", "\\xff"),
    ],
)
def test_every_datatype_is_read(datatype: str, packed: bytes, label: str) -> None:
    """Little-endian; bytes that look like the white space after JSON, too."""
    assert ADAPTER.read_answer(answer(datatype, [1], packed)).labels == (label,)


@pytest.mark.parametrize(
    "raw",
    [
        answer("FP32", [2], b"\x00" * 4),
        answer("FP32", [10**15], b"\x00" * 4),
        answer("FP32", [1], struct.pack("<f", float("nan"))),
        answer("FP64", [1], struct.pack("<d", float("inf"))),
        answer("BYTES", [1], b"\x05\x00\x00\x00abc"),
        answer("BYTES", [1], b"\x05\x00"),
        answer("BYTES", [2], b"\x00\x00\x00\x00"),
        answer("FP8", [1], b"\x00"),
        answer("INT8", [-1], b""),
        RawAnswer(200, *binary({"outputs": [tensor("label", "INT8", [1], 2)]}, b"\x01")),
        RawAnswer(200, *binary({"outputs": [tensor("label", "INT8", [1], 1)]}, b"\x01\x02")),
        RawAnswer(200, (("inference-header-content-length", "99"),), b"{"),
        RawAnswer(200, (("inference-header-content-length", "-1"),), b"{"),
        RawAnswer(200, (("inference-header-content-length", "9" * 5_000),), b"{"),
    ],
)
def test_a_binary_tensor_that_is_none_is_unreadable(raw: RawAnswer) -> None:
    """Wrong lengths, unknown datatypes, numbers that are none; and nothing huge is made of a hostile shape."""
    with pytest.raises(UnreadableError):
        ADAPTER.read_answer(raw)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.sampled_from(["BYTES", "FP16", "BF16", "BOOL"]), st.integers(0, 5))
def test_any_bytes_are_read_or_refused(packed: bytes, datatype: str, count: int) -> None:
    """Only UnreadableError is raised, and what is read has as many rows as the shape says."""
    try:
        prediction = ADAPTER.read_answer(answer(datatype, [count], packed))
    except UnreadableError:
        return
    assert len(prediction.labels) == count
