"""A good file: every field becomes the value that the core counts with."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from router.core.config import (
    FeedbackConfig,
    GatewayConfig,
    Limits,
    Listener,
    LogConfig,
    PairsConfig,
    RecorderConfig,
    TokenConfig,
    TurnoutConfig,
    WebhooksConfig,
    WebhookSpec,
)
from router.core.freeze import DatedFreeze, FreezeWindow, WeeklyFreeze
from router.core.payloads import FieldPath, Selection
from router.core.rollout import BreakerSpec, GateSpec, NoDataSpec, Spec, Step
from router.core.slices import SliceKind, SliceSource
from router.core.traffic import (
    AffinityKind,
    AffinitySource,
    Backend,
    EjectionSpec,
    Match,
    MirrorLimits,
    ProbeSpec,
    RescueSpec,
    Route,
    Timeouts,
    TlsSpec,
    Variant,
)
from router.settings import load

Reader = Callable[..., TurnoutConfig]

HASH = f"sha256:{'ab' * 16}:{'cd' * 32}"

EVERYTHING = f"""
gateway:
  host: 0.0.0.0
  port: 9000
  workers: 3
  limits: {{request_line: 1KiB, header_bytes: 2KiB, header_fields: 7, body: 3MiB, connections: 8, pipelined: 9,
           header_deadline: 1s, body_deadline: 2s, body_rate: 6KiB, idle: 3s, write_stall: 4s, kept_body: 4KiB,
           kept: 5KiB}}
  trusted_proxies: [10.0.0.0/8, 192.168.1.1]
  response_headers: false
  drain_delay: 6s
  drain_deadline: 7s
  dns_refresh: 9s
ops:     {{host: "::1", port: 9002}}
admin:   {{host: 0.0.0.0, port: 9001}}
store:   {{url: "redis://user:secret@localhost:6379/0", directory: data}}
pairs:   {{keep: 1MiB, predictions: false, payloads: ["$.inputs[*].name", $.id], redact: [$..email]}}
recorder: {{queue: 2MiB, interval: 20ms, answer: 1MiB, answers: 3MiB}}
feedback: {{index: 3MiB, wait: 5s}}
auth:    {{tokens: [{{name: olga, role: operator, hash: "{HASH}"}}]}}
log:     {{level: debug, format: json}}
webhooks: {{allow: [hooks.example.com, 10.0.0.0/8], secret_file: keys/webhooks, interval: 5s, max_age: 2h, queue: 2MiB,
           hooks: [{{name: board, type: confirm-promotion, url: "https://hooks.example.com/x?y=1", routes: [digits],
                    timeout: 3s}},
                   {{name: chat, type: event, url: "http://10.1.2.3:8080/"}}]}}
freeze:  [{{days: [sun, fri], from: "16:00", until: "08:00", timezone: Europe/Berlin, reason: weekend}}]
routes:
  digits:
    match: {{path_prefix: /v2/models/digits/, host: Models.Example.ORG, headers: {{X-Team: vision, Accept: json}}}}
    adapter: open_inference
    affinity: [header:X-User-Id, cookie:uid, query:user]
    variants:
      v1: {{url: "http://127.0.0.1:9001/"}}
      v2:
        urls: ["https://[::1]:9002", https://models.internal]
        model: digits-v2
        health: /v2/health/ready
        host: preserve
        tls: {{ca: certs/ca.pem, cert: /etc/cert.pem, key: /etc/key.pem, verify: false}}
        max_in_flight: 200
        ejection: {{consecutive: 9, base: 7s, max_share: 30%}}
        probe: {{interval: 4s, timeout: 1s, fall: 6, rise: 5}}
        max_queue: 300
      v3: {{url: "http://127.0.0.1:9003", path: /v2/models/other/infer}}
    stable: v1
    timeouts: {{connect: 2s, total: 3s, queue: 4s}}
    mirror_safe: false
    mirror: {{in_flight: 5, bytes: 6MiB, timeout: 7s, credentials: [X-API-Key], allow: [Cookie]}}
    rescue: {{enabled: false, first_byte: 8s, budget: 9%}}
    comparator: digest
    slices: [header:x-area, json:$.site]
    max_slices: 6
    freeze: [{{from: 2026-12-20T00:00:00Z, until: "2027-01-02T00:00:00+01:00"}}]
    rollout:
      candidate: v2
      policy: blue_green
      steps:
        - {{weight: 0.5%, bake: 0s, min_requests: 3, approval: true, gates: [error_rate, "recall:7@area=eu"]}}
        - {{weight: 20%}}
        - {{}}
      gates:
        - {{metric: error_rate, max_increase: 0.5pp}}
        - {{metric: latency, max_increase: 10%, tolerance: 5%, slack: 5ms, name: speed, weight: 2}}
        - {{metric: disagreement, max: 2%, dry_run: true}}
        - {{metric: recall, label: "7", slice: "area=eu", max_decrease: 2pp}}
        - {{metric: f1, label: a, min: 80%}}
        - {{metric: disagreement, max: 2%, beyond: 0.1, name: flips}}
      alpha: 0.02
      beta: 0.1
      breaker: {{consecutive: 6, window: 21, ratio: 40%, fleet: local}}
      no_data: {{after: 11m, action: abort}}
      on_inconclusive: abort
      max_duration: 2d
      rollback_window: 2h
"""


def test_every_field_of_a_full_file_arrives(read: Reader, tmp_path: Path) -> None:
    """Written out field by field, with another value than its default wherever there is one."""
    expected = TurnoutConfig(
        gateway=GatewayConfig(
            listen=Listener("0.0.0.0", 9000),
            workers=3,
            limits=Limits(1_024, 2_048, 7, 3 * 2**20, 8, 9, 1.0, 2.0, 3.0, 4.0, 4_096, 5_120, 6_144),
            trusted_proxies=("10.0.0.0/8", "192.168.1.1/32"),
            response_headers=False,
            drain_delay_s=6.0,
            drain_deadline_s=7.0,
            dns_refresh_s=9.0,
        ),
        ops=Listener("::1", 9002),
        admin=Listener("0.0.0.0", 9001),
        pairs=PairsConfig(
            keep_bytes=2**20,
            predictions=False,
            payloads=Selection(
                keep=(FieldPath.parse("$.inputs[*].name"), FieldPath.parse("$.id")),
                redact=(FieldPath.parse("$..email"),),
            ),
        ),
        recorder=RecorderConfig(answer_bytes=2**20, answers_bytes=3 * 2**20, queue_bytes=2 * 2**20, interval_s=0.02),
        feedback=FeedbackConfig(index_bytes=3 * 2**20, wait_s=5.0),
        tokens=(TokenConfig("olga", "operator", HASH),),
        log=LogConfig("debug", "json"),
        webhooks=WebhooksConfig(
            hooks=(
                WebhookSpec("board", "confirm-promotion", "https://hooks.example.com/x?y=1", ("digits",), 3.0),
                WebhookSpec("chat", "event", "http://10.1.2.3:8080/"),
            ),
            allow=("hooks.example.com", "10.0.0.0/8"),
            secret_file=str(tmp_path / "keys/webhooks"),
            interval_s=5.0,
            max_age_s=7_200.0,
            queue_bytes=2 * 2**20,
        ),
        freeze={
            "digits": (
                WeeklyFreeze((4, 6), 960, 480, 1, "Europe/Berlin", "weekend"),
                DatedFreeze(1_797_724_800.0, 1_798_844_400.0),
            )
        },
        routes={
            "digits": Route(
                name="digits",
                match=Match("/v2/models/digits/", "models.example.org", (("accept", "json"), ("x-team", "vision"))),
                adapter="open_inference",
                variants={
                    "v1": Variant("v1", (Backend("127.0.0.1", 9001),)),
                    "v2": Variant(
                        name="v2",
                        backends=(Backend("::1", 9002, tls=True), Backend("models.internal", 443, tls=True)),
                        model="digits-v2",
                        health="/v2/health/ready",
                        host="preserve",
                        tls=TlsSpec(str(tmp_path / "certs/ca.pem"), "/etc/cert.pem", "/etc/key.pem", verify=False),
                        max_in_flight=200,
                        ejection=EjectionSpec(9, 7.0, 3_000),
                        probe=ProbeSpec(4.0, 1.0, 6, 5),
                        max_queue=300,
                    ),
                    "v3": Variant("v3", (Backend("127.0.0.1", 9003),), path="/v2/models/other/infer"),
                },
                stable="v1",
                affinity=(
                    AffinitySource(AffinityKind.HEADER, "x-user-id"),
                    AffinitySource(AffinityKind.COOKIE, "uid"),
                    AffinitySource(AffinityKind.QUERY, "user"),
                ),
                timeouts=Timeouts(2.0, 3.0, 4.0),
                mirror_safe=False,
                mirror=MirrorLimits(
                    5, 6 * 2**20, 7.0, ("authorization", "idempotency-key", "proxy-authorization", "x-api-key")
                ),
                rescue=RescueSpec(enabled=False, first_byte_s=8.0, budget_bp=900),
                comparator="digest",
                slices=(SliceSource(SliceKind.HEADER, "x-area"), SliceSource(SliceKind.JSON, "$.site")),
                max_slices=6,
            )
        },
        rollouts={
            "digits": Spec(
                candidate="v2",
                policy="blue_green",
                steps=(
                    Step(50, 0, 0.0, min_requests=3, approval=True, gates=("error_rate", "recall:7@area=eu")),
                    Step(2_000, 0, 60.0, min_requests=200),
                    Step(0, 0, 60.0, min_requests=0),
                ),
                gates=(
                    GateSpec("error_rate", "error_rate", max_increase=0.005),
                    GateSpec("speed", "latency", max_increase=0.1, tolerance=0.05, weight=2.0, slack_ms=5.0),
                    GateSpec("disagreement", "disagreement", maximum=0.02, dry_run=True),
                    GateSpec("recall:7@area=eu", "recall", max_increase=0.02, label="7", slice="area=eu"),
                    GateSpec("f1:a", "f1", minimum=0.8, label="a"),
                    GateSpec("flips", "disagreement", maximum=0.02, beyond=0.1),
                ),
                alpha=0.02,
                beta=0.1,
                breaker=BreakerSpec(6, 21, 4_000, "local"),
                no_data=NoDataSpec(660.0, "abort"),
                on_inconclusive="abort",
                max_duration_s=172_800.0,
                rollback_window_s=7_200.0,
            )
        },
    )
    config = read(EVERYTHING)
    for field in fields(TurnoutConfig):
        if field.name not in ("store", "digest"):
            assert getattr(config, field.name) == getattr(expected, field.name), field.name
    assert (config.store.url, config.store.directory) == (
        "redis://user:secret@localhost:6379/0", str(tmp_path / "data"),
    )  # fmt: skip


def test_the_defaults_of_the_file_are_those_of_the_core(read: Reader, tmp_path: Path) -> None:
    """The smallest file gives what the core's own values give, so the two lists of defaults cannot drift apart."""
    config = read()
    defaults = TurnoutConfig(routes={})
    for field in fields(TurnoutConfig):
        if field.name not in ("routes", "store", "digest"):
            assert getattr(config, field.name) == getattr(defaults, field.name), field.name
    assert (config.store.url, config.store.directory) == (None, str(tmp_path / defaults.store.directory))
    assert config.routes["digits"] == Route(
        name="digits",
        match=Match(),
        adapter="open_inference",
        variants={name: Variant(name, (Backend("127.0.0.1", port),)) for name, port in (("v1", 9001), ("v2", 9002))},
        stable="v1",
        mirror_safe=True,
    )


def test_the_defaults_of_a_rollout_are_those_of_the_core(read: Reader) -> None:
    """A block of two names is a whole Spec."""
    config = read(MINIMAL_ROLLOUT)
    assert config.rollouts == {"digits": Spec("v2", "canary")}


MINIMAL_ROLLOUT = """
routes:
  digits:
    adapter: open_inference
    variants: {v1: {url: http://127.0.0.1:9001}, v2: {url: http://127.0.0.1:9002}}
    stable: v1
    rollout: {candidate: v2, policy: canary}
"""


@pytest.mark.parametrize(
    ("adapter", "lines", "expected"),
    [
        ("open_inference", "", True),
        ("open_inference", "mirror_safe: null", True),
        ("open_inference", "mirror_safe: false", False),
        ("opaque", "", False),
        ("opaque", "mirror_safe: true", True),
    ],
)
def test_a_route_is_mirror_safe_as_it_says_or_else_as_its_adapter_says(
    read: Reader, adapter: str, lines: str, *, expected: bool
) -> None:
    """`null` is the same as nothing."""
    route = f"    adapter: {adapter}\n    variants: {{v1: {{url: 'http://h'}}}}\n    stable: v1\n    {lines}\n"
    assert read("routes:\n  r:\n" + route).routes["r"].mirror_safe is expected


def test_an_empty_block_means_its_defaults(read: Reader) -> None:
    """As when all its lines are commented out."""
    assert read("gateway:\npairs:\nauth:\n") == read("gateway: {}\npairs: {}\nauth: {}\n")


def test_anchors_and_merge_keys_work(read: Reader) -> None:
    """A block's own field wins over the merged one, and is no double."""
    config = read("gateway: &g {host: 127.0.0.1, port: 9000}\nops: {<<: *g, port: 9002}\n")
    assert (config.gateway.listen, config.ops) == (Listener("127.0.0.1", 9000), Listener("127.0.0.1", 9002))


def test_the_environment_wins_over_the_file(read: Reader) -> None:
    """For every field outside routes, at any depth, with values written as in the file."""
    config = read(
        "gateway: {port: 9000, workers: 2, limits: {body: 1MiB, idle: 5s}}\n",
        {
            "TURNOUT_GATEWAY__PORT": "9100",
            "TURNOUT_GATEWAY__LIMITS__BODY": "2MiB",
            "TURNOUT_GATEWAY__TRUSTED_PROXIES": "[10.0.0.0/8]",
            "TURNOUT_PAIRS__PREDICTIONS": "false",
            "TURNOUT_STORE__URL": "redis://store:6379",
            "TURNOUT_AUTH__TOKENS": f"[{{name: ci, role: viewer, hash: '{HASH}'}}]",
        },
    )
    assert (config.gateway.listen.port, config.gateway.workers) == (9100, 2)
    assert (config.gateway.limits.body_bytes, config.gateway.limits.idle_s) == (2 * 2**20, 5.0)
    assert (config.gateway.trusted_proxies, config.pairs.predictions) == (("10.0.0.0/8",), False)
    assert (config.store.url, config.tokens) == ("redis://store:6379", (TokenConfig("ci", "viewer", HASH),))


def test_variables_of_others_are_left_alone(read: Reader) -> None:
    """The command line's own, and those that Kubernetes sets for a service called turnout or turnout-gateway."""
    environ = {
        "TURNOUT_URL": "http://127.0.0.1:8081",
        "TURNOUT_TOKEN": "turnout_secret",
        "TURNOUT_PORT": "tcp://10.0.0.1:80",
        "TURNOUT_GATEWAY_PORT": "tcp://10.0.0.1:80",
        "TURNOUT_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
        "MY__VARIABLE": "1",
    }
    assert read("", environ) == read()


def test_relative_paths_start_beside_the_file(
    tmp_path: Path, known: dict[str, Any], read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the command happens to be run."""
    read("store: {directory: ../data}\n")
    monkeypatch.chdir(tmp_path)
    config = load(Path("turnout.yaml"), {}, **known)
    assert config.store.directory == str(tmp_path / "../data")


def test_the_digest_names_what_replicas_must_agree_on(read: Reader) -> None:
    """Comments, order, and ports of one machine make no difference; a route does."""
    here = read("gateway: {port: 9000}\npairs: {keep: 1MiB}\n")
    there = read("# another machine\npairs:\n  keep: 1MiB\ngateway: {port: 9100, workers: 8}\n")
    other = read("pairs: {keep: 2MiB}\n")
    assert here.digest == there.digest != other.digest
    assert read(MINIMAL_ROLLOUT).digest != read().digest
    assert len(here.digest) == 16


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('{days: [fri], from: "16:00", until: "24:00"}', WeeklyFreeze((4,), 960, 1_440, 0)),
        ('{days: [fri], from: "16:00", until: "16:00"}', WeeklyFreeze((4,), 960, 960, 1)),
        ("{days: [sun, sat, sun]}", WeeklyFreeze((5, 6), 0, 1_440, 0)),
        ('{from: "fri 16:00", until: "mon 08:00"}', WeeklyFreeze((4,), 960, 480, 3)),
        ('{from: "fri 08:00", until: "fri 16:00"}', WeeklyFreeze((4,), 480, 960, 0)),
        ('{from: "fri 16:00", until: "fri 08:00"}', WeeklyFreeze((4,), 960, 480, 7)),
        ("{from: 2026-12-20, until: 2026-12-21}", DatedFreeze(1_797_724_800.0, 1_797_811_200.0)),
        (
            '{from: 2026-12-20, until: "2026-12-20 12:00", timezone: America/New_York}',
            DatedFreeze(1_797_742_800.0, 1_797_786_000.0, "America/New_York"),
        ),
    ],
)
def test_freeze_windows_are_read_in_every_form(read: Reader, lines: str, expected: FreezeWindow) -> None:
    """Times of days, times of the week, whole days, and moments of the calendar in the window's own zone."""
    assert (expected,) == read(f"freeze: [{lines}]\n").freeze["digits"]
