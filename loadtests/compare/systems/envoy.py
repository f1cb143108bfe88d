"""Envoy (PyPI wheel in its own venv, one worker thread), with weighted clusters and a mirror policy."""

import json
from typing import Any

from loadtests.compare.figures import CANARY, MIRROR
from loadtests.compare.peers import first_version, from_wheel
from loadtests.compare.systems.system import ALL_MODES, Place

_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANY = 100_000


class Envoy:
    """Envoy without access log, with the circuit breakers out of the way."""

    name = "envoy"
    modes = ALL_MODES

    def version(self) -> str:
        """Return what `envoy --version` says."""
        return first_version([from_wheel("envoy"), "--version"])

    def command(self, place: Place) -> list[str]:
        """A static configuration as JSON."""
        file = place.folder / "envoy.json"
        file.write_text(json.dumps(_bootstrap(place)))
        return [from_wheel("envoy"), "-c", str(file), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


def _bootstrap(place: Place) -> dict[str, Any]:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "clients",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": _route(place.mode)}]}
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "clients", "address": _address(place.port), "filter_chains": [{"filters": filters}]}
    clusters = [_cluster("stable", place.stable), _cluster("candidate", place.candidate)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _route(mode: str) -> dict[str, Any]:
    if mode == CANARY:
        weights = [{"name": "stable", "weight": 90}, {"name": "candidate", "weight": 10}]
        return {"weighted_clusters": {"clusters": weights}}
    if mode == MIRROR:
        share = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        return {"cluster": "stable", "request_mirror_policies": [{"cluster": "candidate", "runtime_fraction": share}]}
    return {"cluster": "stable"}


def _cluster(name: str, port: int) -> dict[str, Any]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _MANY)
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
