"""The documentation's picture of the state machine."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_states_are_those_of_the_code() -> None:
    """docs/rollout-states.md is what the script makes now; run it again after a change of TRANSITIONS."""
    script = ROOT / "scripts" / "state_diagram.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "rollout-states.md").read_text() == made
