"""Where the admin API may listen: on loopback freely, anywhere else only with tokens."""

from router.core.config import TurnoutConfig
from router.core.errors import ConfigError
from router.settings.forms import is_loopback

FIX = """a token, because this address can be reached from other machines. Run `turnout token`, then add:
auth:
  tokens:
    - {name: me, role: admin, hash: "what turnout token printed"}"""


def check_bind(config: TurnoutConfig) -> None:
    """Raise ConfigError with the fix when the admin API would listen beyond loopback without any token.

    The settings check this for a file; this holds it for every other way in which a configuration is made.
    """
    if not config.tokens and not is_loopback(config.admin.host):
        raise ConfigError("admin.host", config.admin.host, FIX)
