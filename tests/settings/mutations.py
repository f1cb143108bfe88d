"""Spoils plain data in every way in which people and broken disks do; by dice that repeat. Pure."""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

JUNK: Sequence[Any] = (
    None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", " ", "10%", "-1%", "5", "5m", "1e9", "x" * 5_000,
    "\x00", "\u202eabc", "$(id)", "http://x/y z", [], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}},
)  # fmt: skip


def mutated(document: Any, dice: random.Random) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy with one to three places spoilt: taken away, renamed, doubled, or holding something else."""
    spoilt = copy.deepcopy(document)
    for _ in range(dice.randint(1, 3)):
        places = list(_places(spoilt))
        if not places:
            return dice.choice(JUNK)
        holder, key = dice.choice(places)
        what = dice.randrange(4)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[f"{key}{dice.choice('sx_-.')}"] = holder.pop(key)
        elif what == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(dice.choice(JUNK))
    return spoilt


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    """Yield every (container, key) within a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inner):
        yield value, key
        yield from _places(part)
