"""The file as plain data: safe YAML, no key twice, and the line of every field for the errors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from router.core.errors import ConfigError
from router.settings.findings import Finding, Location, Plain, SettingsError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"

_MOST_BYTES = 2**20
"""Longest file. Chosen: a thousand routes fit; a wrong path such as a device must not fill the memory."""


class Document:
    """The content of one YAML file, and the line of each of its fields."""

    def __init__(self, data: dict[str, Any], root: yaml.Node | None) -> None:
        self.data = data
        self._root = root

    def line(self, at: Location) -> int | None:
        """Return the line (from 1) of the field at `at`, or of the nearest block around it that is there."""
        node, line = self._root, None
        for part in at:
            child = _child(node, part)
            if child is None:
                break
            line, node = child
        return line


def read_document(path: Path) -> Document:
    """Return the file's content. Raises ConfigError where it is no YAML, SettingsError with all its bad keys."""
    return parse_document(_text(path), str(path))


def parse_document(text: str, source: str) -> Document:
    """Return the content of `text`; `source` names it in errors, which are those of `read_document`."""
    loader = SafeLoader(text)
    try:
        root = loader.get_single_node()
        bad_keys = sorted(_bad_keys(root), key=lambda found: found[0]) if root else []
        data = loader.construct_document(root) if root and not bad_keys else {}
    except Exception as error:  # not only YAMLError: constructors raise anything on `!!int x` or on deep nesting
        raise _unreadable(error, source) from error
    finally:
        loader.dispose()
    if bad_keys:
        raise SettingsError(source, [(f"line {line}", finding) for line, finding in bad_keys])
    if not isinstance(data, dict):
        raise ConfigError(source, Plain("no blocks"), "blocks like `gateway:` and `routes:`")
    return Document(data, root)


def _unreadable(error: Exception, source: str) -> ConfigError:
    """Return what PyYAML says, with line and column if it knows them."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        return ConfigError(place, Plain("bad YAML"), f"good YAML; the parser says: {error.problem or 'an error'}")
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigError(source, Plain("bad YAML"), f"good YAML; the parser says: {words[:200]}")


def parse_value(text: str) -> object:
    """Return one value as it would stand in the file. Raises ValueError if it cannot."""
    try:
        return yaml.load(text, SafeLoader)
    except Exception as error:  # as above
        raise ValueError("a value as it would stand in the file") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError("--config", str(path), f"a file that can be read ({error.strerror})") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError("--config", str(path), f"a file of at most {_MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), Plain(f"an odd byte at {error.start}"), "text in UTF-8") from error


def _bad_keys(root: yaml.Node) -> Iterator[tuple[int, Finding]]:
    """Yield keys that stand twice in one block or are no text, each with its line; in no order.

    On the nodes, because the data has only the last of two equal keys, and merging (`<<`) makes equal ones
    on purpose.
    """
    todo: list[tuple[yaml.Node, Location]] = [(root, ())]
    seen: set[int] = set()
    while todo:
        node, at = todo.pop()
        if id(node) in seen:  # an alias, perhaps of a node around it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [(item, (*at, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        keys: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if key.tag not in (_TEXT, _MERGE):
                yield line, Finding((*at, name[:40]), Plain("a key that is no text"), "text; put it in quotes")
            elif name in keys:
                yield line, Finding((*at, name), Plain("the same key twice"), "each key once in a block")
            keys.add(name)
            todo.append((value, (*at, name)))


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """Return line and node of one field or element."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # merged keys come first, and the block's own win
            if key.value == part:
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    return None
