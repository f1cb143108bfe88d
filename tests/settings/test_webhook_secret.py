"""The secret of webhooks: where it comes from, and that no error repeats it."""

from pathlib import Path

import pytest

from router.core.config import WebhooksConfig, WebhookSpec
from router.core.errors import ConfigError
from router.settings import webhook_secret

HOOKS = (WebhookSpec("chat", "event", "https://hooks.example.com/"),)
FROM_ENV = WebhooksConfig(hooks=HOOKS, secret_env="HOOK_SECRET")


def test_the_secret_comes_from_the_variable_or_the_file_that_is_named(tmp_path: Path) -> None:
    """Without the newline that an editor leaves at its end."""
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef-file\n")
    assert webhook_secret(FROM_ENV, {"HOOK_SECRET": "0123456789abcdef-env"}) == b"0123456789abcdef-env"
    from_file = WebhooksConfig(hooks=HOOKS, secret_file=str(path))
    assert webhook_secret(from_file, {}) == b"0123456789abcdef-file"


def test_without_webhooks_nothing_is_looked_for() -> None:
    """A name may stand there before the first webhook does."""
    assert webhook_secret(WebhooksConfig(secret_env="HOOK_SECRET"), {}) == b""


def test_what_is_wrong_with_it_is_told_without_a_word_of_it(tmp_path: Path) -> None:
    """A variable that is not set, a secret that could be guessed, a file that is not there or no text."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff" * 32)
    missing = WebhooksConfig(hooks=HOOKS, secret_file=str(tmp_path / "missing"))
    cases = [
        (FROM_ENV, {}, "webhooks.secret_env: got 'HOOK_SECRET', expected the name of a variable that is set"),
        (FROM_ENV, {"HOOK_SECRET": "hunter2"}, "webhooks.secret_env: got 7 bytes, expected a secret of at least 16"),
        (missing, {}, "expected a file that can be read (No such file or directory)"),
        (WebhooksConfig(hooks=HOOKS, secret_file=str(binary)), {}, "it is no text in UTF-8"),
    ]
    for config, environ, message in cases:
        with pytest.raises(ConfigError) as raised:
            webhook_secret(config, environ)
        assert message in str(raised.value)
        assert "hunter2" not in str(raised.value)
