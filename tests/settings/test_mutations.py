"""CF1, by file: whatever is wrong with a file is said with the place of it, and nothing else ever happens."""

import json
import random
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
import yaml

from router.app import load_config
from router.core.errors import ConfigError
from router.store.codec import decode_state, encode_state
from router.store.fields import UnreadableRecordError
from router.testing.samples import sample_state
from tests.settings.mutations import mutated

FILES, STATES = 300, 350
"""With 350 bodies by API (tests/admin/test_mutations.py) a thousand in all; a file takes 30 ms to be read."""

SAMPLE = Path(__file__).with_name("sample.yaml")


@pytest.mark.slow
def test_cf1_spoilt_files_are_refused_by_name_or_are_good(tmp_path: Path) -> None:
    """Never another exception than ConfigError, whose sentence names a field of the file or its line."""
    dice, document = random.Random(1), yaml.safe_load(SAMPLE.read_text())
    file, sentences = tmp_path / "turnout.yaml", []
    for _ in range(FILES):
        file.write_text(json.dumps(mutated(document, dice)))  # JSON is YAML
        try:
            load_config(file, {})
        except ConfigError as error:
            sentences.append(str(error))
    assert FILES / 2 < len(sentences) < FILES
    assert [one for one in sentences if "expected" not in one] == []


def test_cf1_files_that_are_no_yaml_are_refused(tmp_path: Path) -> None:
    """Cut off, spoilt byte by byte, or of another kind altogether."""
    dice, raw = random.Random(2), SAMPLE.read_bytes()
    file = tmp_path / "turnout.yaml"
    for number in range(100):
        spoilt = bytearray(raw[: dice.randrange(len(raw))] if number % 2 else raw)
        for _ in range(5):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256) if spoilt else 0
        file.write_bytes(bytes(spoilt))
        with suppress(ConfigError):
            load_config(file, {})


def test_cf1_spoilt_states_are_unreadable_by_name_or_are_good() -> None:
    """By store: never another exception than UnreadableRecordError, which names the place; a good one reads back."""
    dice, document = random.Random(3), orjson.loads(encode_state(sample_state("digits")))
    sentences = []
    for _ in range(STATES):
        spoilt = mutated(document, dice)
        try:
            raw = orjson.dumps(spoilt)
        except TypeError:
            continue  # no JSON can say it
        try:
            state = decode_state(raw)
        except UnreadableRecordError as error:
            sentences.append(str(error))
        else:
            assert decode_state(encode_state(state)) == state
    assert len(sentences) > STATES / 2
    assert [one for one in sentences if not one.startswith("state")] == []
