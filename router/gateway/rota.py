"""Work that comes back for each Route or variant, in turns: a thousand then cost a tick little more than one."""

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

AT_ONCE = 100
"""How many are looked at in one tick. Chosen: 1,000 then have their turn twice a second, and all of it is prompt to a
second or takes seconds anyway; up to 100 are looked at in each tick."""

Item = TypeVar("Item")


class Rota(Generic[Item]):
    """Items that take turns, in a fixed order."""

    __slots__ = ("_items", "_next")

    def __init__(self, items: "Iterable[Item]") -> None:
        self._items = tuple(items)
        self._next = 0

    def __repr__(self) -> str:
        return f"<Rota of {len(self._items)}, next is {self._next}>"

    def turn(self) -> "Sequence[Item]":
        """Return whose turn it is: at most AT_ONCE items, and each of all `n` once in n / AT_ONCE turns, rounded up."""
        items, start = self._items, self._next
        if len(items) <= AT_ONCE:
            return items
        end = start + AT_ONCE
        self._next = end if end < len(items) else 0
        return items[start:end]
