"""The one door for policies, adapters and comparators: entry points, the built-in ones like a stranger's.

A plug-in is a class (or any callable) that needs no arguments and makes an object of the contract in
`router.core.ports`. Every installed one is loaded and checked at start, so that a broken or double name is
found then and not during a rollout.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from router.core.errors import PluginError
from router.core.ports import Comparator, ModelAdapter, RolloutPolicy

Plugin = TypeVar("Plugin")

POLICIES = "turnout.policies"
ADAPTERS = "turnout.adapters"
COMPARATORS = "turnout.comparators"


def load_policies() -> Mapping[str, RolloutPolicy]:
    """Return all installed policies by name. Raises PluginError."""
    return _load(POLICIES, RolloutPolicy)  # type: ignore[type-abstract]


def load_adapters() -> Mapping[str, ModelAdapter]:
    """Return all installed adapters by name; imports nothing but the adapters. Raises PluginError."""
    return _load(ADAPTERS, ModelAdapter)  # type: ignore[type-abstract]


def load_comparators() -> Mapping[str, Comparator]:
    """Return all installed comparators by name; imports nothing but the comparators. Raises PluginError."""
    return _load(COMPARATORS, Comparator)  # type: ignore[type-abstract]


def pick(plugins: Mapping[str, Plugin], name: str) -> Plugin:
    """Return the plug-in called `name`; PluginError lists the names there are."""
    try:
        return plugins[name]
    except KeyError:
        known = ", ".join(sorted(plugins)) or "none"
        raise PluginError(f"no plug-in is called {name!r}; installed: {known}") from None


def _load(group: str, contract: type[Plugin]) -> Mapping[str, Plugin]:
    found = sorted(entry_points(group=group), key=lambda point: point.name)
    names = [point.name for point in found]
    doubles = {point.name: _origin(point) for point in found if names.count(point.name) > 1}
    if doubles:
        origins = "; ".join(f"{point.name} from {_origin(point)}" for point in found if point.name in doubles)
        raise PluginError(f"{group}: one name stands for several plug-ins ({origins}); uninstall all but one of each")
    return {point.name: _made(point, group, contract) for point in found}


def _made(point: EntryPoint, group: str, contract: type[Plugin]) -> Plugin:
    """Return the plug-in of one entry point, checked against its contract."""
    try:
        plugin = point.load()()
    except Exception as error:  # a stranger's code may raise anything; all of it means "cannot be used"
        raise PluginError(
            f"{group}: {point.name} from {_origin(point)} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(plugin, contract):
        missing = sorted(part for part in _parts(contract) if not hasattr(plugin, part))
        raise PluginError(
            f"{group}: {point.name} from {_origin(point)} is no {contract.__name__}; it lacks {', '.join(missing)}"
        )
    name = getattr(plugin, "name", None)
    if name != point.name:
        raise PluginError(
            f"{group}: {point.name} from {_origin(point)} calls itself {name!r}; expected one name in both places"
        )
    return plugin


def _parts(contract: type[object]) -> list[str]:
    """Return the public names of a Protocol."""
    return [name for name in vars(contract) if not name.startswith("_")]


def _origin(point: EntryPoint) -> str:
    """Say which distribution an entry point belongs to, and where it points."""
    return f"{point.dist.name if point.dist else 'an unknown package'} ({point.value})"
