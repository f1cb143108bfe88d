"""What a reload may change: the files of TLS and not whether there is any; of traces how many."""

from dataclasses import replace

from router.core.config import GatewayConfig, ListenerTls, TracingConfig, TurnoutConfig
from router.supervisor.reloading import refusal_of

PLAIN = TurnoutConfig(routes={})
SECURE = replace(PLAIN, gateway=GatewayConfig(tls=ListenerTls("a.pem", "a.key")))
RENAMED = replace(PLAIN, gateway=GatewayConfig(tls=ListenerTls("b.pem", "b.key")))


def test_a_reload_takes_other_files_but_neither_begins_nor_ends_tls() -> None:
    """Old and new processes share the listener for a while: clients must not meet both schemes there."""
    assert refusal_of(SECURE, RENAMED) is None
    for old, new in ((PLAIN, SECURE), (SECURE, PLAIN)):
        assert "gateway.tls" in (refusal_of(old, new) or "")


def test_a_reload_changes_how_much_is_traced_and_not_where_it_goes() -> None:
    """The parent exports the spans, and it lives on; what is sampled is the workers' own."""
    some = replace(PLAIN, tracing=TracingConfig("http://a/v1/traces", sample_bp=100))
    more = replace(PLAIN, tracing=TracingConfig("http://a/v1/traces", sample_bp=1_000))
    elsewhere = replace(PLAIN, tracing=TracingConfig("http://b/v1/traces"))
    assert refusal_of(some, more) is None
    for old, new in ((PLAIN, some), (some, PLAIN), (some, elsewhere)):
        assert "tracing" in (refusal_of(old, new) or "")
