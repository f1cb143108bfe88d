"""A bad file: every error names field, value and what was expected, all of them at once, and nothing else is raised."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.core.config import Listener, TokenConfig, TurnoutConfig
from router.core.errors import ConfigError
from router.settings import SettingsError, load
from router.settings.checks import admin_is_closed

Reader = Callable[..., TurnoutConfig]
Refused = Callable[..., SettingsError]
Route = Callable[[str], list[tuple[str, str]]]

SAMPLE = (Path(__file__).parent / "sample.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "gateway: {prot: 9090}",
            "line 1: gateway.prot: got 9090, expected no field of this name; did you mean port? Known: dns_refresh, ",
        ),
        (
            "gatway: {port: 9090}",
            "line 1: gatway: got a block of fields, expected no field of this name; did you mean gateway?",
        ),
        ("gateway: {port: '9090'}", "gateway.port: got '9090', expected a whole number"),
        ("gateway: {port: true}", "gateway.port: got True, expected a whole number"),
        ("gateway: {port: 65536}", "gateway.port: got 65536, expected less than or equal to 65535"),
        ("gateway: {workers: 0}", "gateway.workers: got 0, expected greater than or equal to 1"),
        (
            "gateway: {host: 'http://x'}",
            "gateway.host: got 'http://x', expected an IP address or a host name, without port",
        ),
        ("gateway: 9090", "gateway: got 9090, expected a block of fields"),
        (
            "gateway: {limits: {idle: 75}}",
            "gateway.limits.idle: got 75, expected a duration with its unit: write 75ms or 75s",
        ),
        (
            "gateway: {limits: {body: 8MB}}",
            "gateway.limits.body: got '8MB', expected a size like 8MiB (units: B, KiB, MiB, GiB)",
        ),
        ("gateway: {response_headers: 'yes'}", "gateway.response_headers: got 'yes', expected true or false"),
        ("gateway: {trusted_proxies: 10.0.0.0/8}", "gateway.trusted_proxies: got '10.0.0.0/8', expected a list"),
        (
            "gateway: {trusted_proxies: [10.0.0.1/8]}",
            "got '10.0.0.1/8', expected an address or a network like 10.0.0.0/8, perhaps 10.0.0.0/8",
        ),
        (
            "gateway: {trusted_proxies: [x]}",
            "gateway.trusted_proxies[0]: got 'x', expected an address or a network like 10.0.0.0/8",
        ),
        ("admin: {port: 8082}", "line 1: admin.port: got 8082, expected another port than that of ops"),
        ("ops: {port: 8080}", "line 1: ops.port: got 8080, expected another port than that of gateway"),
        (
            "store: {url: 'http://x'}",
            "store.url: got 'http://x', expected a URL that begins with redis://, rediss://, unix://",
        ),
        ("store: {url: 'http://u:p/w@x@h/0?password=y'}", "store.url: got 'http://***@h/0?***', expected a URL"),
        (
            "webhooks: {secret_env: S, hooks: [{name: a, type: event, url: 'ftp://u:p@h/s3cret?key=y'}]}",
            "webhooks.hooks[0].url: got 'ftp://***@h/***', expected",
        ),
        ("store: {url: 'redis+other://x'}", "a URL that begins with redis://"),
        ("log: {level: loud}", "log.level: got 'loud', expected one of 'debug', 'info', 'warning' or 'error'"),
        (
            "auth: {tokens: [{name: me, role: root, hash: x}]}",
            "auth.tokens[0].role: got 'root', expected one of 'viewer', 'operator' or 'admin'",
        ),
        (
            "auth: {tokens: [{name: me, role: admin, hash: turnout_abc}]}",
            "auth.tokens[0].hash: got (hidden), expected sha256:SALT:DIGEST as printed by `turnout token`, never",
        ),
        ("freeze: {}", "line 1: freeze: got a block of fields, expected a list"),
        ("freeze: [{day: [fri]}]", "freeze[0].day: got a list, expected no field of this name; did you mean days?"),
        ("freeze: [{form: '1'}]", "freeze[0].form: got '1', expected no field of this name; did you mean from?"),
        ("freeze: [{days: [friday]}]", "freeze[0].days[0]: got 'friday', expected one of 'mon', 'tue'"),
        ("freeze: [{days: [fri], from: 16:00, until: 08:00}]", "freeze[0].from: got 960, expected a time in quotes"),
        ("freeze: [{from: '25:00', until: '08:00'}]", "freeze[0].from: got '25:00', expected a time like \"16:00\""),
        ("freeze: [{days: [fri], from: '24:30', until: '08:00'}]", "freeze[0].from: got '24:30', expected a time"),
        ("freeze: [{days: [fri], from: '24:00', until: '08:00'}]", 'expected a `from` before "24:00"'),
        ("freeze: [{from: '2026-13-01', until: 2027-01-01}]", "freeze[0].from: got '2026-13-01', expected a time like"),
        ("freeze: [{from: 2026-12-20, until: 2026-12-20}]", "freeze[0]: got a block of fields, expected an `until`"),
        ("freeze: [{from: '16:00', until: '08:00'}]", "expected `days` with `from` and `until`"),
        ("freeze: [{days: [fri], from: '16:00'}]", "expected `days` with `from` and `until`"),
        ("freeze: [{days: [fri], from: 'fri 16:00', until: 'mon 08:00'}]", "expected `days` with `from` and `until`"),
        ("freeze: [{from: 'fri 16:00', until: 2026-12-20}]", "expected `days` with `from` and `until`"),
        ("freeze: [{}]", "expected `days` with `from` and `until`"),
        (
            "freeze: [{days: [fri], timezone: Europe/Berlln}]",
            "freeze[0].timezone: got 'Europe/Berlln', expected a time",
        ),
        ("freeze: [{days: [fri], timezone: ../../etc/passwd}]", "freeze[0].timezone: got '../../etc/passwd', expected"),
        ('freeze: [{days: [fri], reason: "a\\nb"}]', "freeze[0].reason: got 'a\\nb', expected one line of text"),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://hooks.example.org/x'}]}",
            "hooks.example.org in `allow`, since a goes there",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'ftp://hooks.example.com/'}]}",
            "begins with http:// or https://",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'file:///etc/passwd'}]}",
            "begins with http:// or https://",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'unix:///run/docker.sock'}]}",
            "begins with http:// or https://",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://me:pw@hooks.example.com/'}]}",
            "a URL without user and password",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://hooks.example.com/#x'}]}",
            "a URL without a fragment",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://hooks.example.com:99999/'}]}",
            "a URL like https://hooks.example.com/turnout",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://2130706433/'}]}",
            "the name of a host, or an address in its usual form",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://0x7f000001/'}]}",
            "the name of a host, or an address in its usual form",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://127.1/'}]}",
            "the name of a host, or an address in its usual form",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://127.0.0.1/'}]}",
            "127.0.0.1 in `allow`, since a goes there",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://[::1]/'}]}",
            "::1 in `allow`, since a goes there",
        ),
        (
            "webhooks: {secret_env: S, allow: [hooks.example.com], hooks: [{name: a, type: event, url: 'https://hooks.example.com\\\\@evil.example/'}]}",
            "without spaces and backslashes",
        ),
        ("webhooks: {hook: []}", "webhooks.hook: got a list, expected no field of this name; did you mean hooks?"),
        ("webhooks: {hooks: [{kind: event}]}", "webhooks.hooks[0].kind: got 'event', expected no field of this name"),
        (
            "webhooks: {allow: [a.org], hooks: [{name: a, type: event, url: 'https://a.org'}]}",
            "webhooks: got a block of fields, expected either `secret_env` or `secret_file`",
        ),
        (
            "webhooks: {secret_env: S, secret_file: f, allow: [a.org], hooks: [{name: a, type: event, url: http://a.org}]}",
            "expected either `secret_env` or `secret_file`",
        ),
        (
            "webhooks: {secret_env: S, allow: [a.org], hooks: [{name: a, type: confirm-promote, url: 'https://a.org'}]}",
            "webhooks.hooks[0].type: got 'confirm-promote', expected one of 'confirm-rollout'",
        ),
        (
            "webhooks: {secret_env: S, allow: [a.org], hooks: [&h {name: a, type: event, url: http://a.org}, *h]}",
            "a name of its own for each of `hooks`; there are several called a",
        ),
        ("webhooks: {allow: [0.0.0.0/0]}", "webhooks.allow[0]: got '0.0.0.0/0', expected a network of /8 or smaller"),
        ("webhooks: {allow: ['::/0']}", "webhooks.allow[0]: got '::/0', expected a network of /7 or smaller"),
        ("webhooks: {allow: [2130706433]}", "webhooks.allow[0]: got 2130706433, expected text"),
        ("webhooks: {allow: ['2130706433']}", "expected a host name, an address, or a network like 10.0.0.0/8"),
        ("webhooks: {allow: ['*.example.com']}", "expected a host name, an address, or a network like 10.0.0.0/8"),
        ("webhooks: {secret_env: a-b}", "webhooks.secret_env: got (hidden), expected the name of an environment"),
        ("webhooks: {interval: 500ms}", "webhooks: got a block of fields, expected an `interval` of at least 1s"),
        ("overrides: {networks: [x]}", "overrides.networks[0]: got 'x', expected an address or a network"),
        ("tracing: {endpoint: collector:4318}", "expected a URL that begins with http:// or https:// and has a host"),
        ("tracing: {endpoint: http://u:p@a.org}", "expected a URL without user and password: set OTEL_EXPORTER_OTLP_"),
        ("tracing: {sample: 0.01}", "tracing.sample: got 0.01, expected"),
        (
            "admin: {tls: {cert: x}}",
            "admin.tls: got a block of fields, expected nothing: this block is not available yet",
        ),
        (
            "pairs: {payloads: true}",
            'pairs.payloads: got True, expected false, or a list of the fields to keep, such as ["$.inputs[*].name"]',
        ),
        ("pairs: {payloads: $}", "pairs.payloads: got '$', expected a list"),
        ("pairs: {payloads: [7]}", "pairs.payloads[0]: got 7, expected a field path like $.inputs[*].name"),
        ('pairs: {payloads: ["$.a[0]"]}', "pairs.payloads[0]: got '$.a[0]', expected a field path like $.inputs[*]"),
        ("pairs: {redact: [name]}", "pairs.redact[0]: got 'name', expected a field path like $.inputs[*].name"),
        (
            (
                "pairs: {redact: [$..tenant]}\nroutes: {r: {adapter: open_inference, variants: {v1: {url: http://a}}, "
                "stable: v1, slices: [header:x-site, json:$.user.tenant]}}"
            ),
            "routes.r.slices[1]: got 'json:$.user.tenant', expected a field that pairs.redact does not name",
        ),
        (
            "recorder: {answer: 20MiB}",
            "recorder: got a block of fields, expected `answers` at least twice `answer`: a pair has two of them",
        ),
        ("routes: {r: {mirror: {credentials: ['a b']}}}", "credentials[0]: got 'a b', expected the name of a header"),
        (
            "routes: {r: {mirror: {allow: [x-user]}}}",
            "in `allow` only what copies would not carry (authorization, cookie, idempotency-key, proxy-authorization)",
        ),
        (
            "routes: {r: {mirror: {credentials: [X-Key], allow: [x-key]}}}",
            "x-key in `credentials` or in `allow`, not in both",
        ),
        ("routes: {}", "routes: got none, expected at least one route"),
        ("routes: {'my route': {}}", "expected a name of 1 to 63 letters, digits, dots, dashes and underscores"),
    ],
    ids=lambda value: value.partition(": got")[0] if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named_with_its_value_and_what_was_expected(refused: Refused, text: str, message: str) -> None:
    """One sentence, with the line of the file."""
    error = str(refused(f"{text}\n"))
    assert message in error
    assert re.search(r"turnout\.yaml: line \d+: |problems in .*turnout\.yaml:\n", error)


@pytest.mark.parametrize(
    ("lines", "field", "expected"),
    [
        ("adapter2: x", "adapter2", "no field of this name; did you mean adapter?"),
        ("timeouts: {total: 30}", "timeouts.total", "a duration with its unit: write 30ms or 30s"),
        ("rescue: {budget: 101%}", "rescue.budget", "a share from 0% to 100%"),
        ("match: {path_prefix: v2}", "match.path_prefix", "a path like /v2/models/digits"),
        ("match: {path_prefix: /v2?x=1}", "match.path_prefix", "a path like /v2/models/digits"),
        ("match: {path_prefix: /a/../b}", "match.path_prefix", "a path like /v2/models/digits"),
        ("match: {host: 'a.org:80'}", "match.host", "without port"),
        ("match: {headers: {'a b': c}}", "match.headers.a b", "the name of a header field"),
        ("match: {headers: {a: 1}}", "match.headers.a", "text; put it in quotes"),
        ("affinity: [x-user-id]", "affinity[0]", "header:NAME, cookie:NAME or query:NAME"),
        ("affinity: [body:x]", "affinity[0]", "header:NAME, cookie:NAME or query:NAME"),
        ("affinity: ['header:']", "affinity[0]", "header:NAME, cookie:NAME or query:NAME"),
        ("affinity: ['cookie:a b']", "affinity[0]", "the name of a cookie after cookie:"),
        ("affinity: [header:X-Request-Id]", "affinity[0]", "with x-request-id each request could choose its side"),
        ("slices: [cookie:a]", "slices[0]", "header:NAME or json:PATH"),
        ("slices: ['header:a b']", "slices[0]", "the name of a header field after header:"),
        ("slices: ['json:$.a[*]']", "slices[0]", "a path of names only"),
        ("slices: [header:x-a, header:a]", "routes.digits", "one of `slices` called a; there are several"),
        ("slices: ['json:$.a[\"b=c\"]']", "slices[0]", "a path whose last name is printable, at most 32 characters"),
        ("comparator: lable", "comparator", "the name of a comparator; did you mean label? Known: argmax, boxes,"),
        ("comparator: {name: lable}", "comparator.name", "the name of a comparator; did you mean label?"),
        ("comparator: {abs: 1}", "comparator", "a plug-in's name, or a block with `name` and options"),
        ("comparator: {name: numeric, abs: {a: 1}}", "comparator", "a list of texts as the option `abs`"),
        ("comparator: {name: numeric, rell: 1%}", "comparator.rell", "no option of this name; known: abs, rel"),
        ("comparator: {name: numeric, rel: 1}", "comparator.rel", "a relative change with its unit: write 1%"),
        ("comparator: {name: label, abs: 1}", "comparator.abs", "nothing: this plug-in takes no options"),
        (
            "rollout: {candidate: v3, policy: canary}",
            "rollout.candidate",
            "the name of a variant; did you mean v2? Known: v1, v2",
        ),
        ("rollout: {candidate: v1, policy: canary}", "rollout.candidate", "another variant than the stable one"),
        ("rollout: {candidate: v2, policy: canry}", "rollout.policy", "the name of a policy; did you mean canary?"),
        ("rollout: {candidate: v2}", "rollout.policy", "a value, since this field has no default"),
        ("rollout: {candidate: v2, policy: canary, alpha: 0}", "rollout.alpha", "greater than 0"),
        ("rollout: {candidate: v2, policy: canary, beta: 5%}", "rollout.beta", "a number"),
        (
            "rollout: {candidate: v2, policy: canary, breaker: {fleet: x}}",
            "rollout.breaker.fleet",
            "one of 'halt', 'abort' or 'local'",
        ),
        ("rollout: {candidate: v2, policy: canary, tls: {}}", "rollout.tls", "this block is not available yet"),
        (
            "mirror_safe: false\nrollout: {candidate: v2, policy: canary}",
            "mirror_safe",
            "true, since step 1 of canary's own plan copies 100% of the requests; if a request must not be sent",
        ),
        (
            "mirror_safe: false\nrollout: {candidate: v2, policy: canary, steps: [{weight: 1%}, {mirror: 2.5%}]}",
            "mirror_safe",
            "true, since step 2 of the rollout copies 2.5% of the requests",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_wrong_field_of_a_route_is_named_with_what_was_expected(
    route: Route, lines: str, field: str, expected: str
) -> None:
    """Each by itself, in a route that is right otherwise."""
    (problem,) = route(lines)
    assert problem[0] == field
    assert expected in problem[1]


@pytest.mark.parametrize(
    ("adapter", "field", "expected"),
    [
        ("{name: jsn}", "adapter.name", "the name of an adapter; did you mean json?"),
        ("json", "adapter.label", "a path to the label, such as $.label, or one to the `score`"),
        ("{name: json, label: answer}", "adapter.label", "an RFC 9535 path such as $.label"),
        ("{name: opaque, label: $.a}", "adapter.label", "nothing: this plug-in takes no options"),
    ],
)
def test_wrong_options_of_an_adapter_are_named_at_start_up(
    refused: Refused, adapter: str, field: str, expected: str
) -> None:
    """Not while requests pass, where nothing would be read and no pair judged."""
    lines = f"routes: {{digits: {{adapter: {adapter}, variants: {{v1: {{url: 'http://a:1'}}}}, stable: v1}}}}"
    (problem,) = refused(lines).problems
    assert problem.field == f"routes.digits.{field}"
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("variant", "field", "expected"),
    [
        ("{}", "", "either `url` or `urls`"),
        ("{url: 'http://a', urls: ['http://b']}", "", "either `url` or `urls`"),
        ("{url: 'http://h:9001/v2/models/x'}", ".url", "a URL without a path; write `path: /v2/models/x` beside it"),
        ("{url: 'http://u:p@h:9001'}", ".url", "a URL without user and password"),
        ("{url: 'http://h:9001?x=1'}", ".url", "a URL without query and fragment"),
        ("{url: 'http://h:9001#x'}", ".url", "a URL without query and fragment"),
        ("{url: 'h:9001'}", ".url", "a URL that begins with http:// or https://"),
        ("{url: 'ftp://h'}", ".url", "a URL that begins with http:// or https://"),
        ("{url: 'http://h:0'}", ".url", "a port from 1 to 65535"),
        ("{url: 'http://h:65536'}", ".url", "a port from 1 to 65535"),
        ("{url: 'http://h:'}", ".url", "a port from 1 to 65535"),
        ("{url: 'http://'}", ".url", "a host and a port"),
        ("{url: 'http://a b'}", ".url", "a URL like http://127.0.0.1:9001"),
        ("{url: 'http://[::1'}", ".url", "a URL like http://127.0.0.1:9001"),
        ("{url: 9001}", ".url", "a URL like http://127.0.0.1:9001"),
        ("{urls: ['http://a', 'https://b']}", "", "http or https in all `urls`, not both"),
        ("{url: 'http://a', tls: {ca: x}}", "", "no `tls` for http servers"),
        ("{url: 'https://a', tls: {cert: x}}", "", "both `cert` and `key` in `tls`, or neither"),
        ("{url: 'http://a', health: ready}", ".health", "a path like"),
        ("{url: 'http://a', host: 'a b'}", ".host", "`preserve` (the client's own)"),
        ("{url: 'http://a', max_in_flight: 0}", ".max_in_flight", "greater than or equal to 1"),
        ("{url: 'http://a', probe: {}}", "", "`health`, the path to ask, with `probe`"),
        ("{url: 'http://a', health: /h, probe: {interval: 50ms}}", ".probe", "an `interval` of at least 100ms"),
        ("{url: 'http://a', ejection: {consecutive: -1}}", ".ejection.consecutive", "greater than or equal to 0"),
        ("{url: 'http://a', ejection: {max_share: 101%}}", ".ejection.max_share", "a share from 0% to 100%"),
        ("{url: 'http://a', model: x, path: /y}", ".model", "either `model` or `path`"),
    ],
)
def test_a_wrong_variant_is_named_with_what_was_expected(
    refused: Refused, variant: str, field: str, expected: str
) -> None:
    """Its address or addresses hold scheme, host and port and nothing else."""
    text = f"routes: {{r: {{adapter: open_inference, stable: v, variants: {{v: {variant}}}}}}}"
    (problem,) = refused(text).problems
    assert problem.field == f"routes.r.variants.v{field}"
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("step", "field", "expected"),
    [
        ("{weight: 10}", ".weight", "a share with its unit: write 10%"),
        ("{weight: 0.1}", ".weight", "a share with its unit: write 0.1% or 10%"),
        ("{mirror: 120%}", ".mirror", "a share from 0% to 100%"),
        ("{bake: 60}", ".bake", "a duration with its unit"),
        ("{min_pairs: 5}", "", "a `mirror` above 0% where there is a `min_pairs`"),
        ("{min_requests: 5}", "", "a `weight` above 0% where there is a `min_requests`"),
        ("{min_pairs: -1}", ".min_pairs", "greater than or equal to 0"),
        ("{approval: maybe}", ".approval", "true or false"),
        ("{gates: [errors]}", ".gates[0]", "the name of a gate; did you mean error_rate? Known: error_rate"),
        ("{wieght: 10%}", ".wieght", "did you mean weight?"),
    ],
)
def test_a_wrong_step_is_named_with_what_was_expected(route: Route, step: str, field: str, expected: str) -> None:
    """Also a step that could never be left."""
    gates = "[{metric: error_rate, max_increase: 1pp}]"
    (problem,) = route(f"rollout: {{candidate: v2, policy: canary, gates: {gates}, steps: [{step}]}}")
    assert problem[0] == f"rollout.steps[0]{field}"
    assert expected in problem[1]


@pytest.mark.parametrize(
    ("gate", "field", "expected"),
    [
        (
            "{metric: error_rat, max_increase: 1pp}",
            ".metric",
            "one of 'error_rate', 'latency', 'disagreement', 'accuracy', 'recall', 'precision' or 'f1'",
        ),
        ("{metric: error_rate}", "", "exactly one limit; error_rate takes max_increase or max"),
        ("{metric: error_rate, max_increase: 1pp, max: 2%}", "", "exactly one limit"),
        ("{metric: error_rate, max_increase: 1%}", ".max_increase", "in percentage points like 0.5pp"),
        ("{metric: error_rate, max_increase: 0.5}", ".max_increase", "write 0.5pp"),
        (
            "{metric: error_rate, max_decrease: 1pp}",
            ".max_decrease",
            "no such limit: error_rate takes max_increase or max",
        ),
        ("{metric: latency, max_increase: 1pp}", ".max_increase", "a relative change like 10%"),
        ("{metric: latency, max: 1%}", ".max", "no such limit: latency takes max_increase"),
        ("{metric: disagreement, max_increase: 1pp}", ".max_increase", "no such limit: disagreement takes max"),
        ("{metric: accuracy, min: 101%}", ".min", "a share from 0% to 100%"),
        ("{metric: error_rate, max_increase: 1pp, tolerance: 2pp}", ".tolerance", "at most max_increase"),
        ("{metric: error_rate, max_increase: 1pp, tolerance: 0.5%}", ".tolerance", "in percentage points"),
        ("{metric: accuracy, min: 90%, tolerance: 1pp}", ".tolerance", "no tolerance"),
        ("{metric: recall, min: 90%}", "", "`label:`, the class whose recall is meant"),
        ("{metric: accuracy, min: 90%, label: '7'}", "", "no `label:`, since accuracy is not of one class"),
        (
            "{metric: f1, label: a, max_decrease: 1pp}",
            "",
            "`dry_run: true` or `min:`; a difference in f1 is advisory only",
        ),
        ("{metric: f1, min: 80%}", "", "`label:`, the class whose f1 is meant"),
        ("{metric: precision, min: 80%}", "", "`label:`, the class whose precision is meant"),
        ("{metric: error_rate, max: 1%, slack: 1ms}", "", "no `slack:`, since error_rate is no time"),
        (
            "{metric: latency, max_increase: 10%, beyond: 0.1}",
            "",
            "no `beyond:`, since latency does not compare answers",
        ),
        ("{metric: disagreement, max: 2%, beyond: 0}", ".beyond", "greater than 0"),
        ("{metric: error_rate, max: 1%, weight: 0}", ".weight", "greater than 0"),
        ("{metric: error_rate, max: 1%, name: ''}", ".name", "at least 1 character"),
    ],
)
def test_a_wrong_gate_is_named_with_what_was_expected(route: Route, gate: str, field: str, expected: str) -> None:
    """Each metric has its own limits and units."""
    found = dict(route(f"rollout: {{candidate: v2, policy: canary, gates: [{gate}]}}"))
    assert expected in found[f"rollout.gates[0]{field}"]


def test_two_gates_of_one_name_are_refused(route: Route) -> None:
    """Steps and reports could not tell them apart."""
    gates = "[{metric: error_rate, max: 1%}, {metric: error_rate, max: 2%}, {metric: error_rate, max: 3%, name: other}]"
    found = route(f"rollout: {{candidate: v2, policy: canary, gates: {gates}}}")
    assert [field for field, _ in found] == ["rollout.gates[0].name", "rollout.gates[1].name"]


def test_an_opaque_route_cannot_have_a_model(refused: Refused) -> None:
    """The adapter itself refuses what its retarget could not do."""
    (problem,) = refused(
        "routes: {r: {adapter: opaque, stable: v, variants: {v: {url: 'http://h', model: m}}}}"
    ).problems
    assert problem.field == "routes.r.variants.v.model"
    assert "use `path:`" in problem.expected


def test_two_routes_with_the_same_match_are_refused(refused: Refused) -> None:
    """One of them would never be asked; a trailing slash or the case of a host makes no difference."""
    text = """
    routes:
      a: {match: {path_prefix: /x, host: A.org}, adapter: opaque, stable: v, variants: {v: {url: "http://h"}}}
      b: {match: {path_prefix: /x}, adapter: opaque, stable: v, variants: {v: {url: "http://h"}}}
      c: {match: {path_prefix: /x/, host: a.org}, adapter: opaque, stable: v, variants: {v: {url: "http://h"}}}
    """
    (problem,) = refused(text).problems
    assert (problem.field, problem.expected) == ("routes.c.match", "another match than that of route a")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "admin.example.org"])
def test_an_open_admin_without_tokens_is_refused_with_the_fix(refused: Refused, host: str) -> None:
    """The fix is three lines to paste."""
    error = str(refused(f"admin: {{host: '{host}'}}\n"))
    fix = "auth:\n      tokens:\n        - {name: you, role: admin, hash: <what turnout token printed>}"
    assert f"admin.host: got '{host}'" in error
    assert fix in error


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(read: Reader, host: str) -> None:
    """Only this machine can reach it."""
    assert read(f"admin: {{host: '{host}'}}\n").admin.host == host.lower()


def test_tokens_open_the_admin_to_others(read: Reader) -> None:
    """With any token the address is free to choose."""
    token = TokenConfig("me", "viewer", f"sha256:{'ab' * 16}:{'cd' * 32}")
    config = read(f"admin: {{host: 0.0.0.0}}\nauth: {{tokens: [{{name: me, role: viewer, hash: '{token.hash}'}}]}}\n")
    assert config.tokens == (token,)
    assert not list(admin_is_closed(Listener("0.0.0.0", 1), (token,)))


def test_two_tokens_of_one_name_are_refused(refused: Refused) -> None:
    """The record would not tell who it was."""
    token = f"{{name: me, role: viewer, hash: 'sha256:ab:{'cd' * 32}'}}"
    (problem,) = refused(f"auth: {{tokens: [{token}, {token}]}}\n").problems
    assert problem.field == "auth.tokens[1].name"


def test_a_webhook_for_a_route_that_does_not_exist_is_refused(refused: Refused) -> None:
    """It would never be called."""
    error = refused("""
        webhooks: {secret_env: S, allow: [a.org],
                   hooks: [{name: a, type: event, url: "https://a.org", routes: [digit]}]}
        routes: {digits: {adapter: opaque, variants: {v1: {url: "http://127.0.0.1:1"}}, stable: v1}}
    """)
    assert "webhooks.hooks[0].routes[0]: got 'digit', expected the name of a route; did you mean digits?" in str(error)


ALL_AT_ONCE = """\
gateway:
  prot: 9090
  limits: {body: 8MB}
admin: {host: 0.0.0.0, port: 8082}
webhooks: []
routes:
  digits:
    adapter: open_inferenc
    variants:
      v1: {url: "http://127.0.0.1:9001/path"}
      v2: {url: "http://127.0.0.1:9002"}
    stable: v9
    rollout:
      candidate: v4
      policy: canry
      steps:
        - {weight: 10}
        - {mirror: 10%, min_requests: 1}
      gates:
        - {metric: error_rat, max_increase: 0.5pp}
  other:
    match: {path_prefix: /x}
    adapter: opaque
    variants: {v1: {url: "http://127.0.0.1:9001", model: x}, v2: {url: "http://127.0.0.1:9002"}}
    stable: v1
    rollout: {candidate: v2, policy: shadow}
"""


def test_all_errors_of_a_file_are_reported_together_in_its_order(refused: Refused) -> None:
    """Fields, names and what does not fit together: one run shows everything, each with its line."""
    error = refused(ALL_AT_ONCE, {"TURNOUT_OPS__PORT": "x", "TURNOUT_LOGS__LEVEL": "info"})
    heading, *lines = [line for line in str(error).split("\n") if not line.startswith("    ")]
    assert heading.startswith("16 problems in ")
    assert [line.strip().partition(": got ")[0] for line in lines] == [
        "TURNOUT_LOGS__LEVEL",
        "TURNOUT_OPS__PORT: ops.port",
        "line 2: gateway.prot",
        "line 3: gateway.limits.body",
        "line 4: admin.host",
        "line 5: webhooks",
        "line 8: routes.digits.adapter",
        "line 10: routes.digits.variants.v1.url",
        "line 12: routes.digits.stable",
        "line 14: routes.digits.rollout.candidate",
        "line 15: routes.digits.rollout.policy",
        "line 17: routes.digits.rollout.steps[0].weight",
        "line 18: routes.digits.rollout.steps[1]",
        "line 20: routes.digits.rollout.gates[0].metric",
        "line 21: routes.other.mirror_safe",
        "line 24: routes.other.variants.v1.model",
    ]
    assert (error.field, len(error.problems)) == (error.problems[0].field, 16)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"TURNOUT_GATWAY__PORT": "1"},
            "TURNOUT_GATWAY__PORT: got '1', expected the name of a block after TURNOUT_; did you mean gateway?",
        ),
        (
            {"TURNOUT_GATEWAY__PROT": "1"},
            "TURNOUT_GATEWAY__PROT: gateway.prot: got 1, expected no field of this name; did you mean port?",
        ),
        ({"TURNOUT_GATEWAY__PORT": "many"}, "TURNOUT_GATEWAY__PORT: gateway.port: got 'many', expected a whole number"),
        (
            {"TURNOUT_GATEWAY__LIMITS__IDLE": "75"},
            "TURNOUT_GATEWAY__LIMITS__IDLE: gateway.limits.idle: got 75, expected a duration with its unit",
        ),
        ({"TURNOUT_ROUTES__X__STABLE": "v1"}, "routes can be set in the file only"),
        ({"TURNOUT_GATEWAY__TRUSTED_PROXIES": "[10.0.0.0/8"}, "a value as it would stand in the file"),
        (
            {"TURNOUT_GATEWAY__LIMITS": "7", "TURNOUT_GATEWAY__LIMITS__IDLE": "7s"},
            "no variable for all of gateway.limits beside one for a part of it",
        ),
        (
            {"TURNOUT_ADMIN__HOST": "0.0.0.0"},
            "TURNOUT_ADMIN__HOST: admin.host: got '0.0.0.0', expected 127.0.0.1, or tokens",
        ),
        ({"TURNOUT_FREEZE__X": "1"}, "freeze can be set in the file only"),
        ({"TURNOUT_TRACER__X": "1"}, "the name of a block after TURNOUT_"),
        ({"TURNOUT____": "1"}, "the name of a block after TURNOUT_"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_variable_is_named(refused: Refused, environ: dict[str, str], message: str) -> None:
    """By its own name, so that nobody searches the file."""
    assert message in str(refused("", environ))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gateway: {port: 1\nops: {}", r"turnout\.yaml, line \d+, column \d+: got bad YAML, expected good YAML"),
        ("gateway:\n  port: 1\n bad: 2\n", r"line 3, column \d+: got bad YAML, expected good YAML"),
        ("gateway: {}\n\tops: {}\n", r"line 2, column 1: got bad YAML, expected good YAML"),
        ("gateway: *nowhere\n", r"line 1, column 10: got bad YAML, expected good YAML"),
        ("a: 1\n---\nb: 2\n", r"line 2, column 1: got bad YAML, expected good YAML"),
        ("gateway: !!python/object:os.system {}\n", r"line 1, column 10: got bad YAML, expected good YAML"),
        ("gateway: {port: !!int x}\n", r"got bad YAML, expected good YAML"),
        ("a: &a [*a]\n", r"a: got a list, expected no field of this name"),
        ("- a\n- b\n", r"got no blocks, expected blocks like `gateway:` and `routes:`"),
        ("just words\n", r"got no blocks, expected blocks like `gateway:` and `routes:`"),
        ('x: "\x01"\n', r"expected good YAML"),
        ("[" * 5_000, r"expected good YAML"),
        (
            "gateway: {port: 1, host: a, port: 2}\n",
            r"line 1: gateway\.port: got the same key twice, expected each key once in a block",
        ),
        ("gateway: {}\nops: {}\ngateway: {}\n", r"line 3: gateway: got the same key twice"),
        (
            "gateway: {8080: port}\n",
            r"line 1: gateway\.8080: got a key that is no text, expected text; put it in quotes",
        ),
        ("gateway: {on: port}\n", r"line 1: gateway\.on: got a key that is no text"),
        ("? [a, b]\n: 1\n", r"got a key that is no text"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(
    tmp_path: Path, known: dict[str, Any], text: str, message: str
) -> None:
    """Line and column where the parser knows them."""
    path = tmp_path / "turnout.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path, {}, **known)


def test_all_double_keys_are_reported_together(refused: Refused) -> None:
    """Each with the line of the second one."""
    error = str(refused("gateway:\n  port: 1\n  port: 2\nops:\n  port: 3\n  host: a\n  host: b\n"))
    assert re.findall(r"line \d+: [a-z.]+", error) == ["line 3: gateway.port", "line 7: ops.host"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, known: dict[str, Any]) -> None:
    """Missing, a folder, no UTF-8, or far too long."""
    binary, long = tmp_path / "binary.yaml", tmp_path / "long.yaml"
    binary.write_bytes(b"gateway: \xff\xfe")
    long.write_bytes(b"#" * (2**20 + 1))
    for path, message in (
        (tmp_path / "missing.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "got an odd byte at 9, expected text in UTF-8"),
        (long, "a file of at most 1048576 bytes"),
        (Path("/dev/zero"), "a file of at most 1048576 bytes"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            load(path, {}, **known)
        assert str(path) in str(error.value)


def test_an_empty_file_lacks_a_route(tmp_path: Path, known: dict[str, Any]) -> None:
    """That is all that has no default."""
    path = tmp_path / "turnout.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(SettingsError, match="routes: got none, expected at least one route"):
        load(path, {}, **known)


def test_no_secret_stands_in_an_error(refused: Refused) -> None:
    """Passwords in URLs, hashes, and whatever was put into a field that sounds like a secret."""
    text = """
    store: {url: "http://user:hunter2@store/0", password: hunter2, passwort: {x: hunter2}}
    auth: {tokens: [{name: me, role: viewer, hash: hunter2}, hunter2], api_key: hunter2}
    routes:
      r:
        adapter: opaque
        variants: {v: {url: "http://user:hunter2@h"}, w: {url: "http://h/?token=x"}}
        stable: v
    """
    environ = {"TURNOUT_STORE__URL": "hunter://user:hunter2@x", "TURNOUT_AUTH__TOKENS": "[{name: hunter2"}
    assert "hunter2" not in str(refused(text))
    assert "hunter2" not in str(refused(text, environ))
    assert "http://***@h" in str(refused(text))


def test_an_error_is_something_to_read(refused: Refused) -> None:
    """Long values and names are cut, and what is not printable is escaped."""
    assert len(str(refused(f"log: {{level: {'x' * 10_000}}}\n"))) < 500
    assert len(str(refused(f"log: {{{'x' * 1_000}: 1}}\n"))) < 500
    assert "log.'a\\nline 9: b': got 1" in str(refused('log: {"a\\nline 9: b": 1}\n'))


@pytest.mark.parametrize("name", ["match", "variants", "digits"])
def test_advice_is_about_the_block_whatever_the_route_is_called(refused: Refused, name: str) -> None:
    """A route may have the name of a field."""
    text = f"routes: {{{name}: {{adapter: opaque, stable: v, variants: {{v: {{url: 'http://h', modle: x}}}}}}}}"
    assert "did you mean model? Known: ejection, health, host, max_in_flight, max_queue, model," in str(refused(text))


def test_a_thousand_damaged_files_give_settings_or_a_config_error(tmp_path: Path, known: dict[str, Any]) -> None:
    """Never another exception (reliability.md CF1): characters, words and lines are changed, dropped and doubled."""
    path = tmp_path / "turnout.yaml"
    chance = random.Random(20_261_122)
    refusals = 0
    for _ in range(1_000):
        path.write_text(damaged(SAMPLE, chance))
        try:
            load(path, {}, **known)
        except ConfigError as error:
            refusals += 1
            assert error.field  # noqa: PT017 - either outcome is right
    assert 500 < refusals < 1_000


def damaged(text: str, chance: random.Random) -> str:
    """Return the text after one to three accidents."""
    for _ in range(chance.randint(1, 3)):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        position = chance.randrange(len(text))
        match chance.randrange(6):
            case 0:
                del lines[at]
                text = "\n".join(lines)
            case 1:
                lines.insert(at, lines[chance.randrange(len(lines))])
                text = "\n".join(lines)
            case 2:
                text = text[:position] + chance.choice("{}[]:,-#&*!|>'\"%@`\t \n0") + text[position:]
            case 3:
                text = text[:position] + text[position + chance.randint(1, 4) :]
            case 4:
                word = chance.choice(re.findall(r"[\w%.]+", text))
                text = text.replace(
                    word, chance.choice(["-1", "null", "true", "1e9", "[]", "{}", "''", "2020-13-45"]), 1
                )
            case _:
                words = re.findall(r"\w+", text)
                text = text.replace(chance.choice(words), chance.choice(words), 1)
    return text


@pytest.mark.parametrize(
    ("slices", "gates", "field", "expected"),
    [
        ("", "slice: tenant=a", "[0].slice", "a slice of this route: none, since the route has no `slices:`"),
        ("", "slices: each", "[0].slices", "`slices:` on the route"),
        ("header:t", "slice: t", "[0].slice", "a slice of this route: t=VALUE"),
        ("header:t", "slice: t=", "[0].slice", "a value as slices have it: t=none"),
        ("header:t", f"slice: t={'x' * 33}", "[0].slice", f"a value as slices have it: t={'x' * 23}~"),
        ("json:$.region", "slice: region=eu", "[0].slice", "a slice by header: error_rate is about all requests"),
        ("json:$.region", "slices: each", "[0].slices", "a slice by header on the route, for error_rate"),
        (
            "header:t",
            "slices: each, name: error_rate}, {metric: error_rate, max: 1%, slice: t=a",
            "[1].name",
            "a name of its own: give it a `name:`",
        ),
    ],
)
def test_a_gate_of_slices_that_are_not_counted_is_refused(
    route: Route, slices: str, gates: str, field: str, expected: str
) -> None:
    """As far as the file tells; a value that never comes has no requests, and the gate says so."""
    rollout = f"rollout: {{candidate: v2, policy: canary, gates: [{{metric: error_rate, max: 1%, {gates}}}]}}"
    found = route(f"slices: [{slices}]\n{rollout}")
    assert [(where, told.startswith(expected)) for where, told in found] == [(f"rollout.gates{field}", True)], found
