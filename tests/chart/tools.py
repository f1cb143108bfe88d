"""The chart as Helm renders it, for tests that run without Helm's SDK in their own environment."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "turnout"
VENV = ROOT / ".venv-chart"

Document = Mapping[str, Any]


def need(present: object, what: str, how: str) -> None:
    """Skip the test where a program is missing; in CI, which installs all of them, fail."""
    if not present:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed ({how})")


class RefusedError(Exception):
    """Helm would not render it; the text is what a user reads."""


class Helm:
    """One process with Helm's SDK; a call takes some 20 ms."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [VENV / "bin/python", Path(__file__).with_name("helm_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Helm logs each `fail` there
            text=True,
        )

    def lint(self, values: Document) -> list[str]:
        """Return what Helm's linter has against the chart with these values, advice about icons left out."""
        found = self._ask("lint", chart=str(CHART), values=values)
        said = [f"{one['path']}: {one['error']}" for one in found["messages"]] + found["errors"]
        return [one for one in said if "icon is recommended" not in one]

    def render(self, values: Document, **release: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - Helm's own words
        """Return the documents that Helm would install. Raises RefusedError."""
        files = self.files(values, **release)
        texts = [text for file, text in sorted(files.items()) if not file.endswith("NOTES.txt")]
        return [document for text in texts for document in yaml.safe_load_all(text) if document]

    def files(self, values: Document, **release: Any) -> dict[str, str]:  # noqa: ANN401 - the same
        """Return what each template renders to. Raises RefusedError."""
        found: dict[str, str] = self._ask(
            "render", chart=str(CHART), values=values, **{"name": "demo", "namespace": "models", **release}
        )
        return found

    def refusals(self, document: Document) -> str | None:
        """Return what Kubernetes has against a document, or None."""
        found: str | None = self._ask("refusals", document=document)
        return found

    def _ask(self, call: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise RefusedError(answer["refused"])
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def one(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """Return the only document of a kind whose name ends with `name`."""
    (found,) = (doc for doc in documents if doc["kind"] == kind and doc["metadata"]["name"].endswith(name))
    return found


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pod specs by the name of what makes them."""
    found = {doc["metadata"]["name"]: doc["spec"] for doc in documents if doc["kind"] == "Pod"}
    made = (doc for doc in documents if doc["kind"] in ("Deployment", "StatefulSet"))
    return found | {doc["metadata"]["name"]: doc["spec"]["template"]["spec"] for doc in made}
