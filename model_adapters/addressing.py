"""Where a request goes: names of models and versions in paths, and how they are replaced."""

import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from router.core.errors import ConfigError, UnreadableError
from router.core.inference import RawRequest
from router.core.traffic import Variant


def split_target(target: str) -> tuple[str, str]:
    """Return path and query, the query with its question mark."""
    path, mark, query = target.partition("?")
    return path, mark + query


def to_path(raw: RawRequest, variant: Variant) -> RawRequest:
    """Return `raw` sent to the variant's `path`, its query kept. Only a POST goes there: that is where inference is."""
    if variant.path is None or raw.method != "POST":
        return raw
    return replace(raw, target=variant.path + split_target(raw.target)[1])


def readdressed(
    raw: RawRequest, variant: Variant, named: re.Pattern[str], placed: Callable[[str], str], expected: str
) -> RawRequest:
    """Return `raw` sent to the variant's `path`, or to its `model` and `version` in the same path.

    `named` finds the groups `model` and, behind it, `place`: where the version stands, if one does. `placed` makes that
    of a version. Requests that name no model (health) stay as they are. Raises UnreadableError for a POST whose path
    names none; `expected` says how it would.
    """
    if variant.path is not None:
        return to_path(raw, variant)
    if variant.model is None and variant.version is None:
        return raw
    path, query = split_target(raw.target)
    found = named.search(path)
    if found is None:
        if raw.method == "POST":
            raise UnreadableError(f"the path names no model to replace: expected {expected}")
        return raw
    model = found["model"] if variant.model is None else quote(variant.model, safe="")
    place = found["place"] or "" if variant.version is None else placed(variant.version)
    return replace(raw, target=path[: found.start("model")] + model + place + path[found.end() :] + query)


def check_one_address(variant: Variant) -> None:
    """Raise ConfigError for a variant with a `path` beside `model` or `version`: the path names them already."""
    for field, value in (("model", variant.model), ("version", variant.version)):
        if variant.path is not None and value is not None:
            raise ConfigError(field, value, f"either `{field}` or `path`: the path already names the model")


def check_no_names(variant: Variant, protocol: str, *fields: str) -> None:
    """Raise ConfigError for each of `model` and `version` in `fields` that the variant asks for."""
    for field in fields:
        value = variant.model if field == "model" else variant.version
        if value is not None:
            raise ConfigError(
                field, value, f"no {field}: the {protocol} adapter cannot write it into a request; use `path:`"
            )
