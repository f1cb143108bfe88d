"""The demo's `turnout serve`: a start that fails is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.demo.turnout_process import DemoError, TurnoutProcess


async def test_a_start_that_fails_shows_the_last_words(tmp_path: Path) -> None:
    """What `turnout serve` wrote about a bad configuration is in the error; the process is gone."""
    config = tmp_path / "turnout.yaml"
    config.write_text("gatewy: {}\n", encoding="utf-8")
    turnout = TurnoutProcess.start(config, tmp_path / "turnout.log")
    try:
        with pytest.raises(DemoError) as failed:
            await turnout.ready(30.0)
    finally:
        turnout.stop()
    assert str(failed.value).startswith("turnout serve ended (exit status 2). It said:\n")
    assert "gatewy" in str(failed.value)
    assert not turnout.running


async def test_a_start_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The error names the time that was given; ending it is still the caller's duty."""
    config = tmp_path / "turnout.yaml"
    config.write_text("routes: {}\n", encoding="utf-8")
    turnout = TurnoutProcess.start(config, tmp_path / "turnout.log")
    try:
        with pytest.raises(DemoError, match=r"not ready within 0.001 s"):
            await turnout.ready(0.001)
    finally:
        turnout.stop()
    turnout.stop()
    assert not turnout.running
