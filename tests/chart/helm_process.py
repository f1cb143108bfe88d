"""Helm and Kubernetes' schemas for the tests, run by the Python of .venv-chart: each line a JSON request or answer.

`{"call": "lint"|"render"|"refusals", ...}`; what Helm refuses comes back as `{"refused": text}`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.37"
CUSTOM: Mapping[str, Any] = yaml.safe_load(
    Path(__file__).with_name("custom_resources.yaml").read_text(encoding="utf-8")
)


def lint(chart: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return what `helm lint` says."""
    return helm.lint(chart, dict(values), strict=True)


def render(chart: str, values: Mapping[str, Any], **release: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the manifests by template."""
    with helm.Chart.load(chart) as loaded:
        return loaded.render(dict(values), **release)


def refusals(document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return what Kubernetes' schema has against a document, fields that it does not know included; None: nothing."""
    if document["kind"] in CUSTOM:
        schema = {**CUSTOM[document["kind"]], "$defs": CUSTOM["$defs"]}
        return next((error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)), None)
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)[:500]
    return None


CALLS: Mapping[str, Callable[..., Any]] = {"lint": lint, "render": render, "refusals": refusals}


def main() -> None:
    """Answer until there is no more to answer."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": CALLS[asked.pop("call")](**asked)}
        except helm.HelmError as error:
            answer = {"refused": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
