"""What no single block can know: names that must exist, and parts that must fit together."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from router.core.config import Listener, TokenConfig
from router.core.errors import ConfigError
from router.core.options import Options, configured
from router.core.payloads import FieldPath, Selection
from router.core.ports import ChecksVariants, Comparator, ModelAdapter, RolloutPolicy
from router.core.rollout import Spec, Step
from router.core.slices import SliceKind, SliceSource, at_path, slice_value
from router.core.traffic import Match, Route, Variant
from router.settings.findings import Finding, Location, nearest
from router.settings.forms import is_loopback
from router.settings.rollout_blocks import RolloutBlock
from router.settings.route_blocks import RouteBlock
from router.settings.webhook_blocks import WebhooksBlock


@dataclass(frozen=True, slots=True)
class Known:
    """The plug-ins that a configuration may name."""

    policies: Mapping[str, RolloutPolicy]
    adapters: Mapping[str, ModelAdapter]
    comparators: Mapping[str, Comparator]


# Names are checked on plain data, so that a wrong name is found also beside other errors in its block.


def route_names(route: object, at: Location, known: Known) -> Iterator[Finding]:
    """Yield the names in one route of the file that mean nothing."""
    if not isinstance(route, dict):
        return
    variants = route.get("variants")
    yield from _unknown(route, "adapter", known.adapters, at)
    yield from _unknown(route, "comparator", known.comparators, at)
    if isinstance(variants, dict):
        yield from _unknown(route, "stable", variants, at)
        yield from rollout_names(route.get("rollout"), (*at, "rollout"), variants, route.get("stable"), known.policies)


def rollout_names(
    rollout: object, at: Location, variants: Mapping[str, object], stable: object, policies: Mapping[str, object]
) -> Iterator[Finding]:
    """Yield the names in one rollout that mean nothing, or mean the same variant twice."""
    if not isinstance(rollout, dict):
        return
    yield from _unknown(rollout, "policy", policies, at)
    yield from _unknown(rollout, "candidate", variants, at)
    candidate = rollout.get("candidate")
    if candidate == stable and isinstance(candidate, str) and candidate in variants:
        yield Finding((*at, "candidate"), candidate, "another variant than the stable one")


def _unknown(block: Mapping[str, object], field: str, known: Mapping[str, object], at: Location) -> Iterator[Finding]:
    value = block.get(field)
    if field in ("adapter", "comparator") and isinstance(value, dict):
        yield from _unknown_name(value.get("name"), field, known, (*at, field, "name"))
    else:
        yield from _unknown_name(value, field, known, (*at, field))


def _unknown_name(value: object, field: str, known: Mapping[str, object], at: Location) -> Iterator[Finding]:
    if isinstance(value, str) and value not in known:
        what = "variant" if field in ("stable", "candidate") else field
        yield Finding(at, value, f"the name of {'an' if what == 'adapter' else 'a'} {what}; {nearest(value, known)}")


def adapter_fits(adapter: ModelAdapter, variant: Variant, at: Location) -> Iterator[Finding]:
    """Yield what the adapter of the route cannot do for this variant."""
    if isinstance(adapter, ChecksVariants):
        try:
            adapter.check_variant(variant)
        except ConfigError as error:
            yield Finding((*at, error.field), error.value, error.expected)


def options_fit(plugin: ModelAdapter | Comparator, options: Options, at: Location) -> Iterator[Finding]:
    """Yield what a plug-in of the route finds wrong with its options."""
    try:
        configured(plugin, options)
    except ConfigError as error:
        yield Finding((*at, error.field), error.value, error.expected)


def rollout_fits(block: RolloutBlock, at: Location) -> Iterator[Finding]:
    """Yield gates that cannot be told apart, and steps that name gates which do not exist."""
    names = Counter(gate.full_name for gate in block.gates)
    each = tuple(f"{gate.full_name}@" for gate in block.gates if gate.slices)  # as the gate of each slice is called
    for index, gate in enumerate(block.gates):
        if names[gate.full_name] > 1 or gate.full_name.startswith(each):
            yield Finding((*at, "gates", index, "name"), gate.full_name, "a name of its own: give it a `name:`")
    for index, step in enumerate(block.steps):
        for position, name in enumerate(step.gates):
            if name not in names:
                here = (*at, "steps", index, "gates", position)
                yield Finding(here, name, f"the name of a gate; {nearest(name, names)}")


def copies_fit(route: Route, spec: Spec, policy: RolloutPolicy, at: Location) -> Iterator[Finding]:
    """Yield one finding when a step copies requests of a route that must not be sent twice."""
    for number, step in enumerate(policy.plan(spec), start=1):
        if step.mirror_bp and not route.mirror_safe:
            yield Finding(at, route.mirror_safe, _copies_advice(spec, number, step))
            return


def slices_may_be_kept(sources: Sequence[SliceSource], redact: Sequence[FieldPath], at: Location) -> Iterator[Finding]:
    """Yield each source whose values stand where nothing may be kept: slices are kept in the store."""
    everything = Selection(keep=(FieldPath(()),), redact=tuple(redact))
    for index, source in enumerate(sources):
        if source.kind is SliceKind.JSON:
            body: object = ""
            for name in reversed(source.path):
                body = {name: body}
            if at_path(everything.of(body), source.path) is None:
                expected = "a field that pairs.redact does not name: values of slices are kept in the store"
                yield Finding((*at, index), f"json:{source.key}", expected)


def slices_fit(route: Route, spec: Spec, at: Location) -> Iterator[Finding]:
    """Yield each gate that is asked of slices which this route does not count, or not for such a gate."""
    sources = {source.name: source for source in route.slices}
    by_header = any(source.kind is SliceKind.HEADER for source in route.slices)
    for index, gate in enumerate(spec.gates):
        here: Location = (*at, "gates", index)
        if gate.slices is not None and not sources:
            yield Finding((*here, "slices"), gate.slices, "`slices:` on the route, which say what each is")
        elif gate.slices is not None and gate.metric != "disagreement" and not by_header:
            yield Finding((*here, "slices"), gate.slices, f"a slice by header on the route, for {gate.metric}")
        if gate.slice is None:
            continue
        source = sources.get(gate.slice.partition("=")[0])
        if source is None or "=" not in gate.slice:
            known = ", ".join(f"{name}=VALUE" for name in sources) or "none, since the route has no `slices:`"
            yield Finding((*here, "slice"), gate.slice, f"a slice of this route: {known}")
        elif slice_value(value := gate.slice.partition("=")[2]) != value:
            expected = f"a value as slices have it: {source.of(slice_value(value))}"
            yield Finding((*here, "slice"), gate.slice, expected)
        elif source.kind is SliceKind.JSON and gate.metric in ("error_rate", "latency"):
            expected = f"a slice by header: {gate.metric} is about all requests, and only those copied have bodies read"
            yield Finding((*here, "slice"), gate.slice, expected)


def _copies_advice(spec: Spec, number: int, step: Step) -> str:
    whose = "the rollout" if spec.steps else f"{spec.policy}'s own plan"
    return (
        f"true, since step {number} of {whose} copies {step.mirror_bp / 100:g}% of the requests; "
        "if a request must not be sent twice, write `steps:` without `mirror`"
    )


def matches_differ(routes: Mapping[str, RouteBlock]) -> Iterator[Finding]:
    """Yield each route that answers to exactly what an earlier one answers to."""
    first: dict[Match, str] = {}
    for name, block in routes.items():
        match = block.match.value()
        key = Match(match.path_prefix.rstrip("/"), match.host, match.headers)
        other = first.setdefault(key, name)
        if other != name:
            yield Finding(("routes", name, "match"), match.path_prefix, f"another match than that of route {other}")


def listeners_differ(listeners: Mapping[str, Listener]) -> Iterator[Finding]:
    """Yield each listener that wants a port which an earlier one has; port 0 takes a free one."""
    first: dict[int, str] = {}
    for name, listener in listeners.items():
        other = first.setdefault(listener.port, name)
        if other != name and listener.port:
            yield Finding((name, "port"), listener.port, f"another port than that of {other}")


def webhooks_fit(block: WebhooksBlock, routes: Mapping[str, object]) -> Iterator[Finding]:
    """Yield the routes for which webhooks are meant and which do not exist."""
    for index, hook in enumerate(block.hooks):
        for position, name in enumerate(hook.routes):
            if name not in routes:
                here = ("webhooks", "hooks", index, "routes", position)
                yield Finding(here, name, f"the name of a route; {nearest(name, routes)}")


def tokens_differ(tokens: tuple[TokenConfig, ...]) -> Iterator[Finding]:
    """Yield each token with a name that an earlier one has."""
    names: set[str] = set()
    for index, token in enumerate(tokens):
        if token.name in names:
            yield Finding(("auth", "tokens", index, "name"), token.name, "a name of its own, for the record")
        names.add(token.name)


def admin_is_closed(admin: Listener, tokens: tuple[TokenConfig, ...]) -> Iterator[Finding]:
    """Yield one finding when anybody who reaches the admin API could use it; it holds the three-line fix."""
    if not tokens and not is_loopback(admin.host):
        yield Finding(
            ("admin", "host"),
            admin.host,
            "127.0.0.1, or tokens, since others can reach this address; run `turnout token` and write what it prints:\n"
            "    auth:\n"
            "      tokens:\n"
            "        - {name: you, role: admin, hash: <what turnout token printed>}",
        )
