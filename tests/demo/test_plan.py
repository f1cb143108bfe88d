"""The acts, and the configuration they run under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.app import load_config
from router.core.rollout import GateSpec, Phase
from router.demo.plan import ACTS, DAMAGED, NOBODY, block_for, config_text, models_of, must_crash
from router.demo.stage import CONFIG
from router.settings.rollout_blocks import RolloutBlock
from tests.demo.bodies import judgement, rollout

PORTS = {"gateway": 8080, "admin": 0, "ops": 0}
URLS = {name: f"http://127.0.0.1:900{name[-1]}" for name in ("v1", "v2", "v3")}


def config(urls: dict[str, str] = URLS) -> dict[str, Any]:
    """Return the demo's configuration as plain data."""
    found: dict[str, Any] = yaml.safe_load(config_text(CONFIG.read_text(encoding="utf-8"), urls=urls, ports=PORTS))
    return found


def gates() -> dict[str, GateSpec]:
    """Return its gates by name."""
    block = config()["routes"]["digits"]["rollout"]
    return {gate.name: gate for gate in RolloutBlock.model_validate(block).value().gates}


def test_the_configuration_is_a_valid_one(tmp_path: Path) -> None:
    """The demo's turnout.yaml passes the check of `turnout validate`, also where a model does not run."""
    file = tmp_path / "turnout.yaml"
    file.write_text(config_text(CONFIG.read_text(encoding="utf-8"), urls=URLS, ports=PORTS), encoding="utf-8")
    checked = load_config(file, {})
    assert checked.gateway.workers == 2
    assert list(checked.routes["digits"].variants) == ["v1", "v2", "v3"]
    assert checked.routes["digits"].mirror_safe
    assert config({"v1": "http://127.0.0.1:9001"})["routes"]["digits"]["variants"]["v3"]["url"] == NOBODY


def test_accuracy_is_asked_overall_and_of_each_digit() -> None:
    """Errors and latency too; only disagreement is on trial, since v2 is right where v1 is not."""
    found = gates()
    digits = {f"recall:{digit}" for digit in range(10)}
    assert {name for name, gate in found.items() if not gate.dry_run} == {"accuracy", "error_rate", "latency", *digits}
    assert {name for name, gate in found.items() if gate.dry_run} == {"disagreement"}
    assert DAMAGED in digits
    assert all(found[name].label == name[-1] for name in digits)


def test_promotion_asks_for_proof_of_all_but_latency() -> None:
    """On a shared machine latency may take a candidate back; proof of it may never come."""
    asked = config()["routes"]["digits"]["rollout"]["steps"][-1]["gates"]
    assert set(asked) == {name for name, gate in gates().items() if not gate.dry_run} - {"latency"}


def test_every_step_copies_every_request() -> None:
    """So each labelled request says something about both models, in every step."""
    steps = config()["routes"]["digits"]["rollout"]["steps"]
    assert [step["mirror"] for step in steps] == ["100%"] * 4
    assert [step.get("weight", "0%") for step in steps] == ["0%", "10%", "25%", "50%"]


def test_both_acts_are_asked_the_same() -> None:
    """The second act's block is the file's, but for the candidate and the reason."""
    one, two = (block_for(act, config()) for act in ACTS["digit"])
    assert (one.pop("candidate"), two.pop("candidate")) == ("v2", "v3")
    assert (one.pop("reason"), two.pop("reason")) == ("demo: v2 in place of v1", "demo: v3 in place of v2")
    assert one == two


def test_a_play_runs_the_models_it_needs() -> None:
    """The crash needs no third one, so it starts faster."""
    assert models_of(ACTS["digit"]) == ("v1", "v2", "v3")
    assert models_of(ACTS["crash"]) == ("v1", "v2")


def test_a_halt_ends_an_act_only_where_nobody_crashes() -> None:
    """After a breaker's halt the judge goes on, from copies; any other pause waits for a person, so for ever."""
    one, two = ACTS["digit"]
    (crash,) = ACTS["crash"]
    assert one.ends == two.ends == {Phase.PROMOTED, Phase.ROLLED_BACK, Phase.PAUSED}
    assert crash.ends == {Phase.PROMOTED, Phase.ROLLED_BACK}


@pytest.mark.parametrize(
    ("bad", "weight_bp", "served", "crashes"),
    [
        ("crash", 2_500, 50, True),
        ("crash", 2_500, 49, False),
        ("crash", 1_000, 500, False),
        ("digit", 2_500, 500, False),
    ],
)
def test_the_crash_comes_while_the_candidate_serves(bad: str, weight_bp: int, served: int, *, crashes: bool) -> None:
    """By counts, not by the clock: a slow machine crashes later, not earlier in the story."""
    body = rollout(weight_bp=weight_bp, judged=judgement(requests=served))
    assert must_crash(ACTS[bad][0], body) is crashes
