"""The rollouts that docs/blue-green.md shows can be read, and start as they stand there."""

import re
from pathlib import Path

import pytest
import yaml

from router.control.preflight import gates_refusal, plan_of
from router.plugins import load_policies
from router.settings.rollout_blocks import RolloutBlock

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "blue-green.md").read_text()


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL), ids=["default", "gradual"])
def test_a_documented_blue_green_rollout_passes_preflight(text: str) -> None:
    """Each gate counts somewhere, and can be measured where it counts."""
    spec = RolloutBlock.model_validate(yaml.safe_load(text)["rollout"]).value()
    steps = plan_of(load_policies(), spec)
    assert gates_refusal(spec, steps, predictions=True) is None
    assert steps[-1].weight_bp == 10_000
