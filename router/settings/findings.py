"""What is wrong with a configuration, all of it at once, in sentences that name the field."""

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.core.errors import ConfigError

Location = tuple[str | int, ...]

_EXPECTED = {
    "missing": "a value, since this field has no default",
    "model_type": "a block of fields",
    "model_attributes_type": "a block of fields",
    "dict_type": "a block of names with their values",
    "list_type": "a list",
    "string_type": "text; put it in quotes if it looks like a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
}
"""pydantic's types of error in the words of somebody who writes YAML; any other keeps pydantic's words."""

_NOT_YET = frozenset({"tls"})
"""Blocks that design.md promises and that no process acts on yet; silence would look like success."""

_SECRET = re.compile(r"hash|token|password|secret|key$", re.IGNORECASE)
_USER_INFO = re.compile(r"//.*@", re.DOTALL)
"""Up to the last sign: a password that nobody has encoded may hold any other."""
_QUERY = re.compile(r"\?.*", re.DOTALL)
_PATH = re.compile(r"(//[^/?#]*)[/?#].*", re.DOTALL)


class Plain(str):
    """Words that stand in an error for a value: shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where it stands, what stands there, and what would do instead."""

    at: Location
    value: object
    expected: str

    @property
    def field(self) -> str:
        """The dotted path, as in `routes.digits.rollout.steps[0].weight`; `body` for a body as a whole."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in self.at]
        return "".join(parts).removeprefix(".") or "body"

    def error(self) -> ConfigError:
        """Return the finding as an error by itself; long values are cut, secrets are hidden."""
        return ConfigError(self.field, _shown(self.at, self.value), self.expected)


class SettingsError(ConfigError):
    """All that is wrong with one file or one body; `problems` are the single errors in the order of the text.

    `field`, `value` and `expected` are those of the first one.
    """

    def __init__(self, source: str, findings: Iterable[tuple[str, Finding]]) -> None:
        """Take findings with where they stand ("line 7", "TURNOUT_OPS__PORT", or nothing)."""
        kept = list(findings)
        self.problems = tuple(finding.error() for _, finding in kept)
        first = self.problems[0]
        super().__init__(first.field, first.value, first.expected)
        lines = [
            f"{where}: {error}" if where else str(error) for (where, _), error in zip(kept, self.problems, strict=True)
        ]
        if len(lines) == 1:
            self.args = (f"{source}: {lines[0]}" if source else lines[0],)
        else:
            heading = f"{len(lines)} problems" + (f" in {source}" if source else "")
            self.args = ("\n  ".join([f"{heading}:", *lines]),)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return advice on a name that is not known: the most similar one, and all there are."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names) or "none"
    return f"did you mean {close[0]}? Known: {listed}" if close else f"known: {listed}"


def findings_of(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Return what pydantic found wrong with data for `model`."""
    return [_finding(details, model) for details in error.errors(include_url=False)]


def _finding(details: ErrorDetails, model: type[BaseModel]) -> Finding:
    at = tuple(part for part in details["loc"] if part != "[key]")
    kind = details["type"]
    if kind == "extra_forbidden":
        field = str(at[-1])
        if field in _NOT_YET:
            return Finding(at, details["input"], "nothing: this block is not available yet; take it out")
        return Finding(at, details["input"], f"no field of this name; {nearest(field, _fields(model, at[:-1]))}")
    if kind == "missing":
        return Finding(at, Plain("nothing"), _EXPECTED["missing"])
    if kind == "value_error":
        return Finding(at, details["input"], str(details["ctx"]["error"]))
    words = details["msg"].removeprefix("Input should be ")
    if kind == "literal_error":
        words = f"one of {words}"
    return Finding(at, details["input"], _EXPECTED.get(kind, words))


def _fields(model: type[BaseModel], at: Location) -> list[str]:
    """Return the names of the fields that the block at `at` has."""
    block: type[BaseModel] | None = model
    parts = iter(at)
    for part in parts:
        field = block.model_fields.get(str(part)) if block else None
        block = _block_in(field.annotation) if field else None
        if field and get_origin(field.annotation) in (dict, list):
            next(parts, None)  # the name or number of one element
    return [field.alias or name for name, field in block.model_fields.items()] if block else []


def _block_in(annotation: object) -> type[BaseModel] | None:
    """Return the block in a field's type: itself, or in a list, a mapping or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_block_in(part) for part in get_args(annotation))
    return next((block for block in inner if block is not None), None)


def _shown(at: Location, value: object) -> object:
    """Return `value` as it may stand in an error."""
    if isinstance(value, Plain) or value is None or isinstance(value, bool | int | float):
        return value
    name = next((part for part in reversed(at) if isinstance(part, str)), "")
    if _SECRET.search(name):
        return Plain("(hidden)")
    if isinstance(value, str):
        return _cut(_without_secrets(value, webhook="webhooks" in at))
    if isinstance(value, dict):
        return Plain("a block of fields")
    if isinstance(value, list):
        return Plain("a list")
    return Plain(_cut(reprlib.repr(value)))


def _without_secrets(value: str, *, webhook: bool) -> str:
    """Return a URL without user, password and query; one of a webhook without its path too, which many services sign.

    Other text stays as it is.
    """
    if "//" not in value:
        return value
    shown = _USER_INFO.sub("//***@", value)
    if webhook:
        return _PATH.sub(r"\1/***", shown)
    return _QUERY.sub("?***", shown)


def _name(part: str) -> str:
    """Return a field's name as it may stand in an error; a file can hold any text there."""
    return _cut(part if part.isprintable() else repr(part))


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
