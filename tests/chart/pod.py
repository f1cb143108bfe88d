"""A pod of the chart as processes of this machine: its command, its environment, its files, no Kubernetes.

What the cluster would do is done here: secrets and the ConfigMap become files and variables, mounts become folders, and
names of services become 127.0.0.1. Ports become free ones, since several pods share this machine.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chart.tools import one, pods
from tests.e2e.harness import Turnout, Turnouts

Secrets = Mapping[str, Mapping[str, str]]
"""Secret -> key -> text."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What pods find around them: documents of the release, secrets, and where services really are."""

    documents: list[dict[str, Any]]
    secrets: Secrets
    services: Mapping[str, str]
    """`host:port` in the cluster -> `host:port` here."""

    def command(self, name: str, place: Path) -> tuple[list[str], dict[str, str]]:
        """Return arguments and environment of the pod's only container, with its mounts made below `place`."""
        pod = pods(self.documents)[name]
        (container,) = pod["containers"]
        mounts = self._mount(pod, container, place)
        env = {one["name"]: self._local(self._value(one), mounts) for one in container["env"]}
        free_ports = {variable: "0" for variable in env if variable.endswith("__PORT")}
        return [self._local(text, mounts) for text in container["args"]], env | free_ports

    def start(self, turnouts: Turnouts, name: str, place: Path) -> Turnout:
        """Start the pod's container."""
        arguments, env = self.command(name, place)
        return turnouts.launch(*arguments, directory=place, **env)

    def _value(self, variable: Mapping[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        return self.secrets[reference["name"]][reference["key"]]

    def _mount(self, pod: Mapping[str, Any], container: Mapping[str, Any], place: Path) -> dict[str, str]:
        """Fill the folders of the container; return where its paths are here, longest first."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        found = {}
        for mount in container["volumeMounts"]:
            folder = place / mount["mountPath"].strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in self._files(volumes[mount["name"]]).items():
                (folder / file).write_text(text)
            found[mount["mountPath"]] = str(folder)
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))

    def _files(self, volume: Mapping[str, Any]) -> Mapping[str, str]:
        if "configMap" in volume:
            data: Mapping[str, str] = one(self.documents, "ConfigMap", volume["configMap"]["name"])["data"]
            return data
        return self.secrets[volume["secret"]["secretName"]] if "secret" in volume else {}

    def _local(self, text: str, mounts: Mapping[str, str]) -> str:
        for there, here in self.services.items():
            text = text.replace(there, here)
        alternatives: Sequence[str] = [re.escape(path) for path in mounts]
        return re.sub(rf"^(?:{'|'.join(alternatives)})(?=/|$)", lambda found: mounts[found[0]], text)
