#!/usr/bin/env python3
"""Writes what follows from other files into helm/turnout: README.md from values.yaml, and the schema of `config`.

`scripts/chart_documents.py` writes, `scripts/chart_documents.py --check` exits with 1 and names what is stale.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from router.settings import json_schema

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "turnout"
SCHEMA, README, VALUES = CHART / "values.schema.json", CHART / "README.md", CHART / "values.yaml"

SET_BY_THE_CHART = {
    "Settings": ("admin", "auth", "ops", "store"),
    "GatewayBlock": ("drain_deadline", "drain_delay", "host", "port", "tls"),
}
"""Fields that `config` may not have: the chart gives them to the processes that need them, by environment."""

INTRODUCTION = """\
# Turnout's chart

Made by `scripts/chart_documents.py` from values.yaml; do not edit it here. How to install it, and what an upgrade does
and never does: [docs/kubernetes.md](../../docs/kubernetes.md).

| value | default | meaning |
|---|---|---|
"""


def schema(now: str) -> str:
    """Return values.schema.json with the definitions of `config` as `turnout schema` has them; the rest is by hand."""
    document = json.loads(now)
    turnout = bare(json_schema())
    definitions = {**turnout.pop("$defs"), "Settings": turnout}
    for block, fields in SET_BY_THE_CHART.items():
        for field in fields:
            del definitions[block]["properties"][field]
    definitions["Settings"]["properties"]["routes"].pop("minProperties")  # an empty one is told of by the templates
    document["$defs"] = dict(sorted(definitions.items()))
    return json.dumps(document, indent=2) + "\n"


def bare(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a schema without what only people and editors read."""
    if isinstance(part, list):
        return [bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        name: {field: bare(one) for field, one in inner.items()} if name in ("properties", "$defs") else bare(inner)
        for name, inner in part.items()
        if name not in ("default", "description", "examples", "title")
    }


def readme() -> str:
    """Return the page: a row for each value that has a `# --` comment."""
    text = VALUES.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows = [f"| `{path}` | `{shown(values, path)}` | {meaning} |" for path, meaning in rows_of(text)]
    return INTRODUCTION + "\n".join(rows) + "\n"


def rows_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each documented value and what its comment says."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"\s*# (-- )?(.*)", line):
            comment = [found[2]] if found[1] else [*comment, found[2]] if comment else []
        elif found := re.match(r"( *)([\w]+):", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                yield ".".join(path), " ".join(comment)
            comment = []


def shown(values: Mapping[str, Any], path: str) -> str:
    """Return the default of the value at `path`."""
    value: Any = values
    for name in path.split("."):
        value = value[name]
    return json.dumps(value)


def main() -> int:
    """Write both files, or tell which of them are not what they should be."""
    made = {SCHEMA: schema(SCHEMA.read_text(encoding="utf-8")), README: readme()}
    stale = [file for file, text in made.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        if "--check" in sys.argv:
            sys.stderr.write(f"{file.relative_to(ROOT)} is stale: run scripts/chart_documents.py\n")
        else:
            file.write_text(made[file], encoding="utf-8")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
