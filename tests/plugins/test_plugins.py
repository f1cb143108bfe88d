"""Plug-ins: found by entry point only, checked at start, light enough for the live path."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from router import plugins
from router.core.errors import PluginError
from router.core.ports import Comparator, ModelAdapter, RolloutPolicy

Install = Callable[..., None]

GOOD_COMPARATOR = """
from router.core.observations import Comparison

class Plugin:
    name = "{name}"

    def compare(self, stable, candidate):
        return Comparison(self.name, None)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a stranger's package with one plug-in."""

    def installed(package: str, group: str, name: str, source: str, attribute: str = "Plugin") -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{attribute}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return installed


def test_the_built_in_plugins_come_through_the_same_door() -> None:
    """By entry point, each under its own name, each keeping its contract."""
    policies, adapters, comparators = plugins.load_policies(), plugins.load_adapters(), plugins.load_comparators()
    assert set(policies) >= {"shadow", "canary", "blue_green"}
    assert set(adapters) >= {"open_inference", "opaque"}
    assert set(comparators) >= {"label", "digest"}
    for contract, loaded in ((RolloutPolicy, policies), (ModelAdapter, adapters), (Comparator, comparators)):
        assert {name: plugin.name for name, plugin in loaded.items()} == {name: name for name in loaded}
        assert all(isinstance(plugin, contract) for plugin in loaded.values())


def test_every_adapter_names_a_comparator_that_is_installed() -> None:
    """Otherwise a route without `comparator:` could not start."""
    assert {adapter.comparator for adapter in plugins.load_adapters().values()} <= set(plugins.load_comparators())


def test_a_strangers_plugin_is_found_like_a_built_in_one(install: Install) -> None:
    """Installing a package is all it takes."""
    install("stranger-good", plugins.COMPARATORS, "edit_distance", GOOD_COMPARATOR.format(name="edit_distance"))
    assert plugins.pick(plugins.load_comparators(), "edit_distance").name == "edit_distance"


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    """No silent default."""
    with pytest.raises(PluginError, match=r"'canry'; installed: .*blue_green, canary, shadow"):
        plugins.pick(plugins.load_policies(), "canry")
    with pytest.raises(PluginError, match="installed: none"):
        plugins.pick({}, "canary")


def test_one_name_for_two_plugins_is_an_error_that_names_both_packages(install: Install) -> None:
    """Which of them would win must not depend on the order of installation."""
    install("stranger-double", plugins.COMPARATORS, "label", GOOD_COMPARATOR.format(name="label"))
    with pytest.raises(
        PluginError, match=r"label from turnout .*label from stranger-double|stranger-double .*turnout "
    ):
        plugins.load_comparators()


@pytest.mark.parametrize(
    ("package", "source", "attribute", "sentence"),
    [
        ("stranger-syntax", "def broken(", "Plugin", "cannot be made: SyntaxError"),
        ("stranger-import", "import no_such_module", "Plugin", "No module named 'no_such_module'"),
        ("stranger-missing", "", "Plugin", "cannot be made: AttributeError"),
        ("stranger-needy", "class Plugin:\n    def __init__(self, url): ...", "Plugin", "cannot be made: TypeError"),
        ("stranger-other", "class Plugin:\n    name = 'odd'", "Plugin", "no Comparator; it lacks compare"),
        ("stranger-renamed", GOOD_COMPARATOR.format(name="even"), "Plugin", "calls itself 'even'"),
        ("stranger-function", "def make():\n    return 7", "make", "it lacks compare, name"),
    ],
)
def test_a_broken_plugin_stops_the_start_and_is_named(
    install: Install, package: str, source: str, attribute: str, sentence: str
) -> None:
    """The error says which package it is and what is wrong with it."""
    install(package, plugins.COMPARATORS, "odd", source, attribute)
    with pytest.raises(PluginError, match=sentence) as error:
        plugins.load_comparators()
    assert f"odd from {package}" in str(error.value)


def test_loading_for_the_live_path_imports_nothing_heavy() -> None:
    """A gateway worker loads adapters and comparators, and none of what the control plane needs."""
    script = (
        "import json, sys\nfrom router import plugins\n"
        "plugins.load_adapters(), plugins.load_comparators()\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert not loaded & {"numpy", "scipy", "pydantic", "pydantic_settings", "fastapi", "httpx", "yaml", "asyncio"}
    assert {"orjson", "model_adapters"} <= loaded
