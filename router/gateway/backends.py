"""What a worker does for the backends of its variants beside the requests: names, probes, log lines, metrics.

Nothing here is on the path of a request; `turn` comes with the worker's tick.
"""

import asyncio
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from router.gateway.endpoints import is_address
from router.gateway.probes import illness
from router.gateway.rota import Rota
from router.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.gateway.endpoints import Endpoint, LeftOut
    from router.gateway.names import Names
    from router.gateway.table import LiveRoute, LiveVariant
    from router.telemetry.metrics import Labels, Value

LINE_S = 1.0
"""At most one line in this time says which endpoints of a variant are left out."""

PROBES = 64
"""Probes at one time; those that are due wait for the others' end."""

JITTER = 0.1
"""By how much of its interval a probe may come sooner or later, so that workers do not ask in step."""


class _Watched(NamedTuple):
    route: str
    name: str
    variant: "LiveVariant"


class Backends:
    """The backends of all routes of one worker. Begins to look up their names when it is made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: "Names", lives: "Iterable[LiveRoute]") -> None:
        self._loop = loop
        self._names = names
        self._watched = [
            _Watched(live.route.name, name, variant) for live in lives for name, variant in live.variants.items()
        ]
        self._rota = Rota(self._watched)
        self._probed = [(one.variant, spec) for one in self._watched if (spec := one.variant.variant.probe) is not None]
        self._log = logs.get("backends")
        self._said: dict[_Watched, tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]] = {}
        self._say_at_s = 0.0
        self._dice = Random()  # noqa: S311 - spreads load, guards nothing
        self._probe_at_s: dict[Endpoint, float] = {}
        self._probes: dict[asyncio.Task[None], Endpoint] = {}
        for _, _, variant in self._watched:
            for index, backend in enumerate(variant.variant.backends):
                if not is_address(backend.host):
                    names.watch(backend.host, partial(variant.endpoints.found, index))

    def __repr__(self) -> str:
        return f"<Backends of {len(self._watched)} variants, {len(self._probes)} probes>"

    def remember(self, told: "Iterable[LeftOut]") -> None:
        """Leave out what the process before this one left out."""
        told = tuple(told)
        for route, name, variant in self._watched:
            variant.endpoints.remember(one for one in told if (one.route, one.variant) == (route, name))

    def left_out(self) -> "tuple[LeftOut, ...]":
        """Return what to tell the process that takes the place of this one."""
        return tuple(one for route, _, variant in self._watched for one in variant.endpoints.left_out(route))

    def turn(self, now_s: float) -> None:
        """Let time pass: names that are due, endpoints that may be tried again, probes, and what is to be said."""
        for _, _, variant in self._rota.turn():
            endpoints = variant.endpoints
            endpoints.turn(now_s)
            if endpoints.doubted:
                for host in endpoints.doubted:
                    self._names.doubt(host)
                endpoints.doubted.clear()
        self._names.turn(now_s)
        if now_s >= self._say_at_s:
            self._say_at_s = now_s + LINE_S
            self._say_changes()
        self._probe(now_s)

    def close(self) -> None:
        """End the probes under way."""
        for task in tuple(self._probes):
            task.cancel()

    def _say_changes(self) -> None:
        for one in self._watched:
            endpoints = one.variant.endpoints
            out = tuple(endpoint for endpoint in endpoints.everyone if endpoint not in endpoints.serving)
            doubtful = tuple(endpoint for endpoint in endpoints.serving if endpoint.ill)
            if (out, doubtful) != self._said.get(one, ((), ())):
                self._said[one] = out, doubtful
                if out:
                    said = "backends left out"
                else:
                    said = "ill backends take traffic: too few are well" if doubtful else "all backends take traffic"
                tell = self._log.warning if out or doubtful else self._log.info
                tell(
                    said, route=one.route, variant=one.name, out=", ".join(map(_shown, out)),
                    ill=", ".join(map(_shown, doubtful)), of=len(endpoints.everyone),
                )  # fmt: skip

    # -- probes -----------------------------------------------------------------------------------------------------

    def _probe(self, now_s: float) -> None:
        due: dict[Endpoint, float] = {}
        busy = set(self._probes.values())
        for variant, spec in self._probed:
            for endpoint in variant.endpoints.everyone:
                at_s = self._probe_at_s.get(endpoint)
                if at_s is None:
                    at_s = now_s + self._dice.random() * min(1.0, spec.interval_s)
                elif now_s >= at_s and len(self._probes) < PROBES and endpoint not in busy:
                    at_s = now_s + spec.interval_s * (1 + JITTER * (2 * self._dice.random() - 1))
                    task = self._loop.create_task(self._look(variant, endpoint))
                    self._probes[task] = endpoint
                    task.add_done_callback(self._probes.pop)
                due[endpoint] = at_s
        self._probe_at_s = due  # without endpoints that are gone

    async def _look(self, variant: "LiveVariant", endpoint: "Endpoint") -> None:
        found = await illness(variant.variant, endpoint, variant.tls)
        endpoint.illness = found or endpoint.illness
        variant.endpoints.probed(endpoint, well=not found)

    # -- metrics ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> "dict[str, dict[Labels, Value]]":
        """Return the metrics of backends."""
        up: dict[Labels, Value] = {}
        ejections: dict[Labels, Value] = {}
        retries: dict[Labels, Value] = {}
        for route, name, variant in self._watched:
            for backend, share in variant.endpoints.up().items():
                up[route, name, backend.authority] = share
            for backend, number in variant.endpoints.ejections.items():
                ejections[route, name, backend.authority] = number
            retries[route, name] = variant.live.retries + variant.copies.retries
        return {
            "turnout_backend_up": up,
            "turnout_ejections_total": ejections,
            "turnout_connect_retries_total": retries,
            "turnout_lookups_total": {(result,): number for result, number in self._names.lookups.items()},
        }


def _shown(endpoint: "Endpoint") -> str:
    authority, address = endpoint.backend.authority, endpoint.addresses[0]
    return f"{authority} ({'ejected' if endpoint.ejected else f'ill: {endpoint.illness}'}, {address})"
