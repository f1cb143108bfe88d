"""The secret that signs webhooks: read where it is used, and held by nobody else."""

from collections.abc import Mapping
from pathlib import Path

from router.core.config import WebhooksConfig
from router.core.errors import ConfigError
from router.settings.findings import Plain

SHORTEST = 16
"""Bytes. Chosen: 128 bits, below which a receiver's signatures could be guessed from one message."""


def webhook_secret(config: WebhooksConfig, environ: Mapping[str, str]) -> bytes:
    """Return the secret that `config` names, empty where there are no webhooks.

    Space at its ends, such as a file's last newline, is not part of it. Raises ConfigError, without a word of it.
    """
    if not config.hooks:
        return b""
    if config.secret_file is not None:
        field, text = "webhooks.secret_file", _content(config.secret_file)
    elif (config.secret_env or "") in environ:
        field, text = "webhooks.secret_env", environ[config.secret_env or ""]
    else:
        expected = "the name of a variable that is set where control is started"
        raise ConfigError("webhooks.secret_env", config.secret_env, expected)
    secret = text.strip().encode()
    if len(secret) < SHORTEST:
        raise ConfigError(field, Plain(f"{len(secret)} bytes"), f"a secret of at least {SHORTEST} bytes")
    return secret


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError("webhooks.secret_file", path, f"a file that can be read ({why})") from None
