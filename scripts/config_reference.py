#!/usr/bin/env python3
"""Prints docs/configuration.md from the settings' blocks: `scripts/config_reference.py > docs/configuration.md`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from router.core.quantities import fraction, points
from router.settings.metrics import METRICS
from router.settings.root import Settings

INTRODUCTION = """\
# Configuration

The tables are made by `scripts/config_reference.py` from `router/settings`; do not edit them here.

Turnout reads one YAML file (`--config turnout.yaml`). `turnout validate` checks a file without starting anything, and
`turnout schema` prints its JSON Schema for editors. The smallest file that works:

```yaml
routes:
  digits:
    adapter: open_inference
    variants:
      v1: {url: http://127.0.0.1:9001}
    stable: v1
```

- **Units are always written.** Shares: `10%`. Differences of two rates: `0.5pp` (percentage points). Durations: `500ms`
  `30s` `5m` `1h` `7d`. Sizes: `100B` `8KiB` `64MiB` `1GiB`. A bare number is refused, since 10 could mean many things.
- **Unknown fields are errors**, and so are keys that stand twice. All errors of a file are reported together, each with
  its line, its field, its value and what was expected. What two parts of a route must have in common is checked once
  each of them is right. A bad file changes nothing.
- **Environment**: every field outside `routes` and `freeze` can be set by `TURNOUT_BLOCK__FIELD`, written as in the
  file: `TURNOUT_GATEWAY__PORT=9000`, `TURNOUT_GATEWAY__TRUSTED_PROXIES='[10.0.0.0/8]'`. It wins over the file.
  Variables without a double underscore are not read as fields.
- **Relative paths** start where the file is.
- `tls` of the admin API and the ops port is not available yet and is refused.
"""

GATES = """\
## Limits of a gate

Each gate has exactly one limit, in the unit of its metric. `tolerance` has the unit of the limit it belongs to.

| metric | limits | label |
|---|---|---|
"""

NOTES = """\

For scores (accuracy, recall, precision, f1) `max_decrease` says how much worse the candidate may be. A decrease of
precision or f1 assumes traffic that never changes, so such a gate needs `dry_run: true`; `min` has no such condition.
Steps name gates by `name`, which is `metric[:label][@slice]` unless the gate has its own.
"""

FREEZE = """
## Freeze windows

```yaml
freeze:
  - {days: [mon, tue, wed, thu], from: "18:00", until: "08:00", timezone: Europe/Berlin, reason: nobody is there}
  - {from: "fri 16:00", until: "mon 08:00", timezone: Europe/Berlin, reason: weekend}
  - {from: 2026-12-20T00:00:00Z, until: 2027-01-02T00:00:00Z, reason: holidays}
```

With `days`, one window begins on each of them at `from`; an `until` that is not after `from` is one of the next day.
Times stand in quotes, since YAML makes a number of a bare 16:00. A date without offset is read in `timezone`. When
clocks are changed the longer reading counts: an hour that comes twice is frozen both times. A route's own windows come
on top of those of the file.

- **Held or refused**, with the reason and the end of the window: the next step, promotion, the start of a rollout whose
  first step has weight or copies, more weight or copies by `set-weight` or `set-policy`. The file's `rollout:` block
  waits for the end of the window.
- **Always possible:** rolling back, whoever asks; `abort`, `pause`, `undo`, `approve`; less weight, fewer copies.
- **The operator's word:** `promote --full` goes through, and the record says whose word it was.
"""


def section(title: str, block: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the table of one block, then those of the blocks inside it."""
    yield f"## {title}\n"
    yield f"{block.__doc__}\n"
    inner: list[tuple[str, type[BaseModel]]] = []
    plain = []
    for name, field in block.model_fields.items():
        child = block_in(field.annotation)
        if child is None:
            plain.append(f"| `{field.alias or name}` | {default_of(field)} | {field.description}{choices(field)} |")
        else:
            inner.append((f"{path}{name}{plural(field)}", child))
            if field.is_required() or not isinstance(field.default_factory, type):
                plain.append(f"| `{name}` | {default_of(field)} | {field.description} See below. |")
    if plain:
        yield "| field | default | meaning |\n|---|---|---|"
        yield from plain
        yield ""
    for place, child in inner:
        yield from section(f"`{place}`", child, f"{place}.")


def default_of(field: FieldInfo) -> str:
    """Return a default as it would stand in the file."""
    if field.is_required():
        return "required"
    if field.default is None:
        return "unset"
    text = field.default if isinstance(field.default, str) else yaml.safe_dump(field.default).split("\n")[0]
    return f"`{text}`"


def choices(field: FieldInfo) -> str:
    """Return the values of a field that takes only some."""
    return f" One of {', '.join(get_args(field.annotation))}." if get_origin(field.annotation) is Literal else ""


def block_in(annotation: object) -> type[BaseModel] | None:
    """Return the block in a field's type, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((block for part in get_args(annotation) if (block := block_in(part))), None)


def plural(field: FieldInfo) -> str:
    """Return how the elements of a list or of a mapping are named in a path."""
    origin = get_origin(field.annotation)
    return "[]" if origin is list else ".NAME" if origin is dict else ""


def gates() -> Iterator[str]:
    """Yield one row for each metric."""
    units: dict[Callable[[object], float], str] = {points: "0.5pp", fraction: "2%"}
    for metric, form in METRICS.items():
        limits = ", ".join(f"`{name}: {units.get(reader, '10%')}`" for name, reader in form.readers.items())
        label = "required" if form.per_label else "none"
        yield f"| `{metric}` | {limits} | {label} |"


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        block = block_in(field.annotation)
        if block is not None:
            place = f"{name}{plural(field)}"
            parts += section(f"`{place}`", block, f"{place}.")
    return "\n".join([*parts, GATES + "\n".join(gates()), NOTES, FREEZE.lstrip()]).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
