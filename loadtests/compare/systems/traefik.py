"""Traefik (PyPI wheel in its own venv), with a weighted and a mirroring service."""

import yaml

from loadtests.compare.figures import CANARY, MIRROR, PLAIN
from loadtests.compare.peers import first_version, from_wheel
from loadtests.compare.systems.system import ALL_MODES, KEPT, Place


class Traefik:
    """Traefik with a file provider, no access log and no dashboard."""

    name = "traefik"
    modes = ALL_MODES

    def version(self) -> str:
        """Return what `traefik version` says."""
        return first_version([from_wheel("traefik"), "version"])

    def command(self, place: Place) -> list[str]:
        """Two files: the static one names the other."""
        static, dynamic = place.folder / "traefik.yaml", place.folder / "routes.yaml"
        static.write_text(
            yaml.safe_dump(
                {
                    "entryPoints": {"web": {"address": f"127.0.0.1:{place.port}"}},
                    "providers": {"file": {"filename": str(dynamic), "watch": False}},
                    "serversTransport": {"maxIdleConnsPerHost": KEPT},
                    "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
                    "log": {"level": "ERROR"},
                }
            )
        )
        service = {PLAIN: "stable", CANARY: "split", MIRROR: "mirrored"}[place.mode]
        services = {
            "stable": _balancer(place.stable),
            "candidate": _balancer(place.candidate),
            "split": {"weighted": {"services": [_weighted("stable", 90), _weighted("candidate", 10)]}},
            "mirrored": {"mirroring": {"service": "stable", "mirrors": [{"name": "candidate", "percent": 100}]}},
        }
        router = {"rule": "PathPrefix(`/`)", "entryPoints": ["web"], "service": service}
        dynamic.write_text(yaml.safe_dump({"http": {"routers": {"all": router}, "services": services}}))
        return [from_wheel("traefik"), f"--configFile={static}"]


def _balancer(port: int) -> dict[str, object]:
    return {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"}]}}


def _weighted(name: str, weight: int) -> dict[str, object]:
    return {"name": name, "weight": weight}
