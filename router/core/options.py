"""Options of a plug-in, as they stand beside its name in a Route's block."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from router.core.errors import ConfigError
from router.core.payloads import FieldPath
from router.core.quantities import ratio

Option: TypeAlias = str | int | float | bool | tuple[str, ...]
Options: TypeAlias = tuple[tuple[str, Option], ...]
"""Name and value of each, sorted by name."""

Plugin = TypeVar("Plugin")


class PluginUse(NamedTuple):
    """Which plug-in a Route uses, with options of its own."""

    name: str
    options: Options = ()


@runtime_checkable
class TakesOptions(Protocol):
    """Optional power of an adapter or a comparator: options of its own in the Route's block of that name."""

    def configured(self, options: Mapping[str, object]) -> Self:
        """Return one that keeps to these options; raises ConfigError whose `field` is the option's name."""


def configured(plugin: Plugin, options: Sequence[tuple[str, object]]) -> Plugin:
    """Return the plug-in with its options; raises ConfigError, also when it takes none."""
    if isinstance(plugin, TakesOptions):
        return plugin.configured(dict(options))  # also without any: some plug-ins cannot do without
    if options:
        raise ConfigError(options[0][0], options[0][1], "nothing: this plug-in takes no options")
    return plugin


class OptionReader:
    """Reads options one by one. Raises ConfigError for one of a name that is not known, or of a wrong form."""

    def __init__(self, given: Mapping[str, object], known: Iterable[str]) -> None:
        self._given = given
        names = sorted(known)
        for name, value in given.items():
            if name not in names:
                raise ConfigError(name, value, f"no option of this name; known: {', '.join(names)}")

    def number(self, name: str, default: float, *, most: float = math.inf) -> float:
        """Return a finite number from 0 to `most`."""
        value = self._given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ConfigError(name, value, "a number from 0 " + ("up" if most == math.inf else f"to {most:g}"))
        if not math.isfinite(value):
            raise ConfigError(name, value, "a number from 0 up that is not infinite")
        return float(value)

    def ratio(self, name: str, default: float) -> float:
        """Return what is written as `1%`, as 0.01."""
        value = self._given.get(name)
        if value is None:
            return default
        try:
            return ratio(value)
        except ValueError as error:
            raise ConfigError(name, value, str(error)) from None

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number within both bounds."""
        value = self._given.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(name, value, f"a whole number from {least} to {most}")
        return value

    def choice(self, name: str, first: str, *others: str) -> str:
        """Return one of these words, the first one where none is given."""
        value = self._given.get(name, first)
        if not isinstance(value, str) or value not in (first, *others):
            raise ConfigError(name, value, f"one of {', '.join((first, *others))}")
        return value

    def paths(self, name: str) -> tuple[FieldPath, ...]:
        """Return field paths; none where none are given."""
        value = self._given.get(name, ())
        if not isinstance(value, tuple | list):
            raise ConfigError(name, value, "a list of field paths such as [$.id, $.outputs[*].parameters]")
        try:
            return tuple([FieldPath.parse(one if isinstance(one, str) else "") for one in value])
        except ValueError as error:
            raise ConfigError(name, value, str(error)) from None
