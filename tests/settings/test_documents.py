"""What is written about the settings: the JSON Schema and the reference."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from router.core.config import TurnoutConfig
from router.plugins import load_comparators
from router.settings import json_schema

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).parent / "sample.yaml"


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of every block with its schema."""
    for block in (schema, *schema["$defs"].values()):
        for name, field in block.get("properties", {}).items():
            yield f"{block['title']}.{name}", field


def test_the_schema_describes_every_field_with_its_default_as_written() -> None:
    """So that an editor can show both."""
    schema = json_schema()
    fields = dict(properties(schema))
    assert json.loads(json.dumps(schema)) == schema
    assert [name for name, field in fields.items() if "description" not in field and "$ref" not in field] == []
    assert fields["LimitsBlock.body"]["default"] == "64MiB"
    assert fields["StepBlock.weight"] == {
        "default": "0%",
        "description": "The candidate's share of live answers.",
        "examples": ["10%", "0.5%"],
        "title": "Weight",
        "type": "string",
    }
    assert all(not block.get("additionalProperties", True) for block in (schema, *schema["$defs"].values()))


def test_the_schema_knows_every_field_of_the_sample() -> None:
    """The file of design.md section 7, field by field."""
    schema = json_schema()

    def walk(value: object, part: dict[str, Any]) -> None:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for choice in part.get("anyOf", []):
            if "$ref" in choice or "properties" in choice:
                walk(value, choice)
                return
        if isinstance(value, dict):
            for name, inner in value.items():
                properties = part.get("properties")
                assert properties is None or name in properties, name
                walk(inner, properties[name] if properties else part["additionalProperties"])
        if isinstance(value, list):
            for item in value:
                walk(item, part["items"])

    walk(yaml.safe_load(SAMPLE.read_text()), schema)


def test_the_sample_of_the_design_loads(read: Callable[..., TurnoutConfig]) -> None:
    """As it stands there."""
    config = read(SAMPLE.read_text())
    assert [step.weight_bp for step in config.rollouts["digits"].steps] == [0, 100, 1_000, 5_000]


def test_the_reference_is_that_of_the_code() -> None:
    """docs/configuration.md is what the script makes now; run it again after a change of router/settings."""
    script = ROOT / "scripts" / "config_reference.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "configuration.md").read_text() == made


def test_the_example_of_the_page_on_comparing_loads(read: Callable[..., TurnoutConfig]) -> None:
    """A comparator with options."""
    page = (ROOT / "docs" / "comparing.md").read_text()
    route = read(page.partition("```yaml\n")[2].partition("```")[0]).routes["prices"]
    assert (route.comparator, route.comparator_options) == ("numeric", (("abs", 0.01), ("rel", "1%")))


def test_the_example_of_the_page_on_slices_loads(read: Callable[..., TurnoutConfig]) -> None:
    """Two sources, and gates of one slice and of each."""
    page = (ROOT / "docs" / "slices.md").read_text()
    config = read(page.partition("```yaml\n")[2].partition("```")[0])
    assert [source.name for source in config.routes["prices"].slices] == ["tenant", "region"]
    assert [gate.slice or gate.slices for gate in config.rollouts["prices"].gates] == [
        None, "tenant=acme", "each", "region=eu",
    ]  # fmt: skip


def test_the_page_on_comparing_names_every_comparator() -> None:
    """With a row for each."""
    page = (ROOT / "docs" / "comparing.md").read_text()
    assert [name for name in load_comparators() if f"\n| `{name}` |" not in page] == []


def test_the_examples_of_the_reference_load(read: Callable[..., TurnoutConfig]) -> None:
    """The smallest file, copied from the page."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    config = read(page.split("```yaml\n")[1].split("```")[0])
    assert list(config.routes) == ["digits"]
