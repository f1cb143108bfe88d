"""Triton's binary tensor extension: JSON first, then the data of its tensors one after the other.

`Inference-Header-Content-Length` says where the JSON ends; each tensor with `parameters.binary_data_size` has so many
bytes behind it, little-endian, in the order of the list. A tensor read here has its `data` like one of plain JSON.
"""

import struct
from collections.abc import Mapping
from math import isfinite, prod
from typing import Any

from router.core.errors import UnreadableError

LENGTH_FIELD = "inference-header-content-length"

_FORMATS: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def json_length(headers: tuple[tuple[str, str], ...], body: bytes) -> int | None:
    """Return how many bytes of JSON there are, None for a body without the extension. Raises UnreadableError."""
    for name, value in headers:
        if name == LENGTH_FIELD:
            if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= len(body)):
                raise UnreadableError("Inference-Header-Content-Length: expected a length within the body")
            return int(value)
    return None


def fill(tensors: object, tail: bytes) -> None:
    """Give each tensor of the freshly read list its `data` from the bytes behind the JSON. Raises UnreadableError."""
    if not isinstance(tensors, list):
        return
    start = 0
    for tensor in tensors:
        size = _size(tensor)
        if size is None:
            continue
        if start + size > len(tail):
            raise UnreadableError("tensor: its binary_data_size is more than the body has")
        tensor["data"] = _data(tensor, tail[start : start + size])
        start += size
    if start != len(tail):
        raise UnreadableError("tensors: the body is longer than their binary_data_size together")


def _size(tensor: object) -> int | None:
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise UnreadableError("tensor: expected a number of bytes from 0 up as binary_data_size")
    return size


def _data(tensor: dict[str, Any], packed: bytes) -> list[Any]:
    """Return the elements. Raises UnreadableError, also for numbers that are not finite."""
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(shape, list) or len(shape) > 32 or not all(type(size) is int and size >= 0 for size in shape):
        raise UnreadableError("tensor: expected `shape`, a list of at most 32 sizes from 0 up")
    count = prod(shape)
    if datatype == "BYTES":
        return _texts(packed, count)
    if datatype == "BF16":  # the upper half of a 32-bit float
        _expect(packed, count, 2)
        wide = b"".join([b"\x00\x00" + packed[start : start + 2] for start in range(0, len(packed), 2)])
        return _finite(struct.unpack(f"<{count}f", wide))
    code = _FORMATS.get(datatype) if isinstance(datatype, str) else None
    if code is None:
        raise UnreadableError("tensor: expected a datatype of the protocol")
    _expect(packed, count, struct.calcsize(f"<{code}"))
    found = struct.unpack(f"<{count}{code}", packed)
    return _finite(found) if code in "efd" else list(found)


def _expect(packed: bytes, count: int, size: int) -> None:
    if len(packed) != count * size:  # before anything is made of `count`, which may be huge
        raise UnreadableError(f"tensor: found {len(packed)} bytes, expected as many as `shape` and datatype say")


def _finite(found: tuple[float, ...]) -> list[float]:
    if not all(map(isfinite, found)):
        raise UnreadableError("tensor: expected finite numbers")
    return list(found)


def _texts(packed: bytes, count: int) -> list[str]:
    """Return the elements of BYTES: each is four bytes of length and a text; bytes that are none are escaped."""
    texts: list[str] = []
    start = 0
    while start < len(packed):
        if start + 4 > len(packed):
            raise UnreadableError("tensor: an element of BYTES is cut short")
        end = start + 4 + int.from_bytes(packed[start : start + 4], "little")
        if end > len(packed):
            raise UnreadableError("tensor: an element of BYTES is cut short")
        texts.append(packed[start + 4 : end].decode(errors="backslashreplace"))
        start = end
    if len(texts) != count:
        raise UnreadableError(f"tensor: found {len(texts)} elements, expected as many as `shape` says")
    return texts
