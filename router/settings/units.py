"""Types of the file's quantities: read by `router.core.quantities`, and shown with examples in the JSON Schema."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from router.core.quantities import duration_s, share_bp, size_bytes


def _written(reader: Callable[[object], object], what: str, *examples: str) -> tuple[object, object]:
    """Return the pydantic marks of a quantity: how it is read and how the JSON Schema shows it."""
    return (
        BeforeValidator(reader),
        WithJsonSchema({"type": "string", "description": what, "examples": list(examples)}),
    )


Share = Annotated[int, *_written(share_bp, "A share of requests.", "10%", "0.5%")]
Duration = Annotated[float, *_written(duration_s, "A duration above 0.", "500ms", "30s", "5m", "1h", "7d")]
DurationOrZero = Annotated[
    float, *_written(partial(duration_s, positive=False), "A duration.", "0s", "30s", "5m", "1h")
]
Size = Annotated[int, *_written(size_bytes, "A size in bytes.", "8KiB", "64MiB")]
