"""From file, environment and request bodies to frozen values; or to all their errors at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from router.core.config import Listener, TurnoutConfig, WebhooksConfig
from router.core.freeze import FreezeWindow
from router.core.ports import Comparator, ModelAdapter, RolloutPolicy
from router.core.rollout import Spec
from router.core.traffic import Route
from router.settings import checks, tls_files
from router.settings.checks import Known
from router.settings.document import Document, read_document
from router.settings.environment import read_environment, variable_of
from router.settings.findings import Finding, Location, Plain, SettingsError, findings_of
from router.settings.identity import content_digest
from router.settings.rollout_blocks import RolloutBlock
from router.settings.root import Settings, merged
from router.settings.route_blocks import RouteBlock


def load(
    path: Path,
    environ: Mapping[str, str],
    *,
    policies: Mapping[str, RolloutPolicy],
    adapters: Mapping[str, ModelAdapter],
    comparators: Mapping[str, Comparator],
) -> TurnoutConfig:
    """Return what the TURNOUT_BLOCK__FIELD variables of `environ` say, and for the rest the file at `path`.

    The plug-ins are those that the file may name. Relative paths in the file start where it is. Raises
    SettingsError with everything that is wrong, or plain ConfigError where the file cannot be read as YAML.
    """
    known = Known(policies, adapters, comparators)
    beside = path.parent.absolute()
    document = read_document(path)
    environment, findings = read_environment(environ, Settings.model_fields)
    settings, broken, found = _validated(environment, document.data)
    findings += found
    findings += _server_checks(settings, broken, beside)
    if "routes" not in broken:
        findings += checks.webhooks_fit(settings.webhooks, settings.routes)
    findings += _route_checks(document.data.get("routes"), settings.routes, known, beside)
    if findings:
        raise SettingsError(str(path), _in_order(findings, document, environment))
    return _config(settings, known, beside)


def rollout_from_json(body: object, route: Route, *, stable: str, policies: Mapping[str, RolloutPolicy]) -> Spec:
    """Return the rollout that an admin API body asks for: the file's `rollout` block as JSON.

    `stable` is the variant that is stable now. Raises SettingsError with everything that is wrong.
    """
    findings = list(checks.rollout_names(body, (), route.variants, stable, policies))
    try:
        block = RolloutBlock.model_validate(body)
    except ValidationError as error:
        findings += findings_of(error, RolloutBlock)
    else:
        findings += checks.rollout_fits(block, ())
        if block.policy in policies:
            findings += checks.copies_fit(route, block.value(), policies[block.policy], ("mirror_safe",))
        findings += checks.slices_fit(route, block.value(), ())
        if not findings:
            return block.value()
    raise SettingsError("", [("", finding) for finding in findings])


def _validated(
    environment: Mapping[str, Any], file: Mapping[str, Any]
) -> tuple[Settings, frozenset[str], list[Finding]]:
    """Return the settings, the names of the blocks that had to be left out of them, and why.

    A broken block or route is left out, so that what is wrong elsewhere is found in the same run.
    """
    try:
        return merged(environment, file), frozenset(), []
    except ValidationError as error:
        findings = findings_of(error, Settings)
    blocks = frozenset(str(finding.at[0]) for finding in findings if len(finding.at) == 1 or finding.at[0] != "routes")
    routes = {finding.at[1] for finding in findings if finding.at[0] not in blocks}
    sound = {name: block for name, block in file.items() if name not in blocks}
    if routes:
        sound["routes"] = {name: route for name, route in file["routes"].items() if name not in routes}
    outside = {name: block for name, block in environment.items() if name not in blocks}
    return merged(outside, sound), blocks | ({"routes"} if routes else set()), findings


def _server_checks(settings: Settings, broken: frozenset[str], beside: Path) -> Iterator[Finding]:
    """Yield what does not fit together outside the routes."""
    listeners = {
        name: Listener(block.host, block.port)
        for name, block in (("gateway", settings.gateway), ("ops", settings.ops), ("admin", settings.admin))
        if name not in broken
    }
    tokens = settings.auth.value()
    yield from checks.listeners_differ(listeners)
    yield from checks.tokens_differ(tokens)
    if settings.gateway.tls is not None:
        yield from tls_files.usable(settings.gateway.tls.value(beside), ("gateway", "tls"))
    if "admin" in listeners and "auth" not in broken:
        yield from checks.admin_is_closed(listeners["admin"], tokens)
    if not broken & {"routes", "pairs"}:
        redact = settings.pairs.value().payloads.redact
        for name, block in settings.routes.items():
            yield from checks.slices_may_be_kept(block.slices, redact, ("routes", name, "slices"))
    if not settings.routes and "routes" not in broken:
        yield Finding(("routes",), Plain("none"), "at least one route")


def _route_checks(data: object, routes: Mapping[str, RouteBlock], known: Known, beside: Path) -> Iterator[Finding]:
    """Yield what does not fit together in the routes: names of all, the rest of those that could be read."""
    if isinstance(data, dict):
        for name, route in data.items():
            yield from checks.route_names(route, ("routes", name), known)
    yield from checks.matches_differ(routes)
    for name, block in routes.items():
        at: Location = ("routes", name)
        if block.rollout:
            yield from checks.rollout_fits(block.rollout, (*at, "rollout"))
        if block.adapter.name in known.adapters:
            yield from _plugin_checks(
                block, block.value(name, beside, mirror_safe=_mirror_safe(block, known)), known, at
            )


def _plugin_checks(block: RouteBlock, route: Route, known: Known, at: Location) -> Iterator[Finding]:
    """Yield what the plug-ins of one route find wrong with it."""
    yield from checks.options_fit(known.adapters[route.adapter], route.adapter_options, (*at, "adapter"))
    for key, variant in route.variants.items():
        yield from checks.adapter_fits(known.adapters[route.adapter], variant, (*at, "variants", key))
    use = block.comparator
    if use is not None and use.name in known.comparators:
        yield from checks.options_fit(known.comparators[use.name], use.options, (*at, "comparator"))
    if block.rollout and block.rollout.policy in known.policies:
        policy = known.policies[block.rollout.policy]
        yield from checks.copies_fit(route, block.rollout.value(), policy, (*at, "mirror_safe"))
        yield from checks.slices_fit(route, block.rollout.value(), (*at, "rollout"))


def _mirror_safe(block: RouteBlock, known: Known) -> bool:
    """Return the file's word, else the adapter's."""
    return known.adapters[block.adapter.name].mirror_safe if block.mirror_safe is None else block.mirror_safe


def _config(settings: Settings, known: Known, beside: Path) -> TurnoutConfig:
    return TurnoutConfig(
        routes=_routes(settings, known, beside),
        rollouts=_rollouts(settings),
        freeze=_freeze(settings),
        gateway=settings.gateway.value(beside, settings.overrides),
        ops=Listener(settings.ops.host, settings.ops.port),
        admin=Listener(settings.admin.host, settings.admin.port),
        store=settings.store.value(beside),
        pairs=settings.pairs.value(),
        recorder=settings.recorder.value(),
        feedback=settings.feedback.value(),
        tokens=settings.auth.value(),
        log=settings.log.value(),
        tracing=settings.tracing.value(),
        webhooks=_webhooks(settings, beside),
        digest=_shared_digest(settings, known),
    )


def _shared_digest(settings: Settings, known: Known) -> str:
    """Name what all replicas must agree on; ports, workers, limits and folders are each machine's own."""
    return content_digest(
        {
            "routes": _routes(settings, known, Path()),
            "rollouts": _rollouts(settings),
            "pairs": settings.pairs.value(),
        }
    )


def _routes(settings: Settings, known: Known, beside: Path) -> dict[str, Route]:
    return {
        name: block.value(name, beside, mirror_safe=_mirror_safe(block, known))
        for name, block in settings.routes.items()
    }


def _rollouts(settings: Settings) -> dict[str, Spec]:
    return {name: block.rollout.value() for name, block in settings.routes.items() if block.rollout}


def _freeze(settings: Settings) -> dict[str, tuple[FreezeWindow, ...]]:
    blocks = {name: (*settings.freeze, *route.freeze) for name, route in settings.routes.items()}
    return {name: tuple(block.value() for block in own) for name, own in blocks.items() if own}


def _webhooks(settings: Settings, beside: Path) -> WebhooksConfig:
    file = settings.webhooks.secret_file
    return settings.webhooks.value(None if file is None else str(beside / file))


def _in_order(findings: list[Finding], document: Document, environment: Mapping[str, Any]) -> list[tuple[str, Finding]]:
    """Return the findings with their places: variables first, then in the order of the file."""
    placed: list[tuple[int, str, Finding]] = []
    for finding in findings:
        variable = variable_of(finding.at, environment)
        line = None if variable else document.line(finding.at)
        placed.append((line or 0, variable or (f"line {line}" if line else ""), finding))
    return [(where, finding) for _, where, finding in sorted(placed, key=lambda one: one[0])]
