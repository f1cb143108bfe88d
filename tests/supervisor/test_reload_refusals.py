"""What a reload may change about TLS: its files, not whether there is any."""

from dataclasses import replace

from router.core.config import GatewayConfig, ListenerTls, TurnoutConfig
from router.supervisor.reloading import refusal_of

PLAIN = TurnoutConfig(routes={})
SECURE = replace(PLAIN, gateway=GatewayConfig(tls=ListenerTls("a.pem", "a.key")))
RENAMED = replace(PLAIN, gateway=GatewayConfig(tls=ListenerTls("b.pem", "b.key")))


def test_a_reload_takes_other_files_but_neither_begins_nor_ends_tls() -> None:
    """Old and new processes share the listener for a while: clients must not meet both schemes there."""
    assert refusal_of(SECURE, RENAMED) is None
    for old, new in ((PLAIN, SECURE), (SECURE, PLAIN)):
        assert "gateway.tls" in (refusal_of(old, new) or "")
