"""What the tests of the settings share: the real plug-ins, and files made of a few lines."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from router import plugins
from router.core.config import TurnoutConfig
from router.settings import SettingsError, load

MINIMAL = """
    routes:
      digits:
        adapter: open_inference
        variants:
          v1: {url: http://127.0.0.1:9001}
          v2: {url: http://127.0.0.1:9002}
        stable: v1
"""


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    """Return the installed plug-ins as `load` takes them."""
    return {
        "policies": plugins.load_policies(),
        "adapters": plugins.load_adapters(),
        "comparators": plugins.load_comparators(),
    }


Reader = Callable[..., TurnoutConfig]
Refused = Callable[..., SettingsError]


@pytest.fixture
def read(tmp_path: Path, known: dict[str, Any]) -> Reader:
    """Return a function that loads a file with these lines, and the minimal route unless it has routes."""

    def loaded(text: str = "", environ: Mapping[str, str] | None = None) -> TurnoutConfig:
        path = tmp_path / "turnout.yaml"
        lines = dedent(text)
        path.write_text(lines if "routes:" in lines else lines + dedent(MINIMAL))
        return load(path, environ or {}, **known)

    return loaded


@pytest.fixture
def refused(read: Reader) -> Refused:
    """Return a function that gives back the error of such a file."""

    def error(text: str = "", environ: Mapping[str, str] | None = None) -> SettingsError:
        with pytest.raises(SettingsError) as raised:
            read(text, environ)
        return raised.value

    return error


@pytest.fixture
def route(refused: Refused) -> Callable[[str], list[tuple[str, str]]]:
    """Return a function that gives what is wrong, as (field, expected), with these lines in the minimal route."""

    def problems(lines: str) -> list[tuple[str, str]]:
        body = dedent(MINIMAL) + "".join(f"    {line}\n" for line in dedent(lines).strip("\n").split("\n"))
        return [(problem.field.removeprefix("routes.digits."), problem.expected) for problem in refused(body).problems]

    return problems
