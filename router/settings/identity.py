"""Short stable names for what a configuration says."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from hashlib import blake2b

from router.core.rollout import Spec


def block_hash(spec: Spec) -> str:
    """Return 12 hex digits that name what `spec` asks for: the first part of every rollout id.

    The same on every machine and in every version of Turnout. Fields at their default are left out, so that a
    field which a later version adds does not make every finished rollout look like a new one.
    """
    return _digest(_content(spec), 6)


def content_digest(shared: Mapping[str, object]) -> str:
    """Return 16 hex digits that name the parts of a configuration that all replicas must agree on."""
    return _digest(_content(shared), 8)


def _digest(content: object, size: int) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _content(value: object) -> object:
    """Return a value as plain data, without the fields of dataclasses that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {
            field.name: _content(part) for field, part in pairs if field.default is MISSING or part != field.default
        }
    if isinstance(value, Mapping):
        return {str(name): _content(part) for name, part in value.items()}
    return [_content(part) for part in value] if isinstance(value, tuple) else value
