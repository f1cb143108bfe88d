"""The chart by the real Helm: it lints, renders, and Kubernetes takes every document."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.chart.tools import CHART, ROOT, Helm, RefusedError, one, pods
from tests.chart.value_sets import BASE, SETS

pytestmark = pytest.mark.slow

every_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS)


@every_set
def test_the_chart_lints_clean(helm: Helm, values: Mapping[str, Any]) -> None:
    """Strictly: warnings count."""
    assert helm.lint(values) == []


def test_the_chart_lints_clean_by_its_own_values(helm: Helm) -> None:
    """Though nothing can be installed with them, as there is no model server yet."""
    assert helm.lint({}) == []


@every_set
def test_kubernetes_takes_every_document(helm: Helm, values: Mapping[str, Any]) -> None:
    """Fields that it does not know are errors; custom kinds go by our own schema."""
    documents = helm.render(values)

    assert len(documents) >= 6
    assert [(doc["kind"], found) for doc in documents if (found := helm.refusals(doc))] == []


def test_the_schemas_find_a_wrong_field(helm: Helm) -> None:
    """The test above can fail: for a kind of Kubernetes and for one of Prometheus' operator."""
    documents = helm.render(SETS["everything"])
    for kind, name in (("Deployment", "control"), ("ServiceMonitor", "control")):
        wrong = copy.deepcopy(one(documents, kind, name))
        wrong["spec"]["replica"] = 3
        assert "replica" in (helm.refusals(wrong) or "")


@every_set
def test_names_differ_and_services_find_their_pods(helm: Helm, values: Mapping[str, Any]) -> None:
    """A selector that matched nothing would be a silent outage; so would a port that nobody opens."""
    documents = helm.render(values)
    names = [(doc["kind"], doc["metadata"]["name"]) for doc in documents]
    assert len(names) == len(set(names))
    made = [doc["spec"]["template"] for doc in documents if doc["kind"] in ("Deployment", "StatefulSet")]
    for service in (doc for doc in documents if doc["kind"] == "Service"):
        wanted = service["spec"]["selector"].items()
        (pod,) = (one for one in made if wanted <= one["metadata"]["labels"].items())
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@every_set
def test_pods_are_restricted(helm: Helm, values: Mapping[str, Any]) -> None:
    """Pod Security Standards, `restricted`; and a root file system that is read-only, and no token of the cluster."""
    found = pods(helm.render(values))

    assert len(found) >= 3
    for name, pod in found.items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert not any("hostPort" in port for port in container.get("ports", []))
            assert container["resources"]["limits"]["memory"]
        kinds = {key for volume in pod.get("volumes", []) for key in volume if key != "name"}
        assert kinds <= {"configMap", "emptyDir", "secret"}


def test_a_gateway_leaves_in_order(helm: Helm) -> None:
    """First nothing changes, then readiness goes off, then requests end: and Kubernetes waits for all of it."""
    pod = pods(helm.render(SETS["tls_and_ingress"]))["demo-turnout-gateway"]
    (container,) = pod["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}

    assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": 2}}
    assert env["TURNOUT_GATEWAY__DRAIN_DELAY"] == "30s"
    assert env["TURNOUT_GATEWAY__DRAIN_DEADLINE"] == "120s"
    from router.supervisor.keeper import KILL_AFTER_S
    from router.supervisor.parent import CONTROL_S

    longest = 2 + 30 + 120 + KILL_AFTER_S + CONTROL_S
    assert longest < pod["terminationGracePeriodSeconds"] == 2 + 30 + 120 + 5


def test_only_control_gets_secrets(helm: Helm) -> None:
    """Whoever breaks into the data plane finds no token of the admin API and no key that signs webhooks."""
    found = pods(helm.render(SETS["everything"]))

    def secrets(name: str) -> set[str]:
        (container,) = found[name]["containers"]
        return {env["valueFrom"]["secretKeyRef"]["name"] for env in container["env"] if "valueFrom" in env}

    assert secrets("rollouts-gateway") == set()
    assert secrets("rollouts-control") == {"turnout-tokens", "hooks"}


def test_changed_configuration_restarts_both_and_only_them(helm: Helm) -> None:
    """By a checksum on the pods; the trial's store does not notice."""

    def templates(values: Mapping[str, Any]) -> dict[str, Any]:
        made = (doc for doc in helm.render(values) if doc["kind"] in ("Deployment", "StatefulSet"))
        return {doc["metadata"]["name"]: doc["spec"]["template"] for doc in made}

    before = templates(SETS["trial"])
    after = templates({**SETS["trial"], "config": {**BASE["config"], "pairs": {"keep": "32MiB"}}})
    assert {name for name in before if before[name] != after[name]} == {"demo-turnout-gateway", "demo-turnout-control"}


def test_autoscaling_is_not_undone_by_an_upgrade(helm: Helm) -> None:
    """With it the Deployment names no number of pods; both targets are there."""
    documents = helm.render(SETS["everything"])
    assert "replicas" not in one(documents, "Deployment", "gateway")["spec"]
    metrics = one(documents, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Resource", "Pods"]
    assert metrics[1]["pods"]["metric"]["name"] == "turnout_in_flight"


def test_an_upgrade_has_nothing_to_reset_a_weight_with(helm: Helm) -> None:
    """No hook but `helm test`, no job, nothing that differs from install to upgrade or between two renderings."""
    for values in SETS.values():
        documents = helm.render(values, is_install=True, revision=1)
        assert documents == helm.render(values, is_upgrade=True, revision=7)
        hooks = {doc["metadata"].get("annotations", {}).get("helm.sh/hook") for doc in documents}
        assert hooks == {None, "test"}
        assert not {"Job", "CronJob"} & {doc["kind"] for doc in documents}
    text = "".join(file.read_text() for file in CHART.rglob("templates/**/*") if file.is_file())
    assert re.findall(r"\b(?:rand\w+|now|lookup|uuidv4|genCA|Release\.Revision|Release\.Is\w+)\b", text) == []
    kept = one(helm.render(SETS["trial"]), "StatefulSet")["spec"]
    assert kept["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert "annotations" not in kept["template"]["metadata"]


WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "replicas": ({"gateway": {"replicas": 0}}, r"/gateway/replicas': minimum: got 0, want 1"),
    "text": ({"control": {"replicas": "two"}}, r"/control/replicas': got string, want integer"),
    "typo": ({"gateway": {"replica": 2}}, r"/gateway': additional properties 'replica' not allowed"),
    "pull": ({"image": {"pullPolicy": "Sometimes"}}, r"/image/pullPolicy': value must be one of 'Always'"),
    "digest": ({"image": {"digest": "sha256:12"}}, r"/image/digest': 'sha256:12' does not match pattern"),
    "store": ({"store": {"url": "http://redis"}}, r"/store/url': 'http://redis' does not match pattern"),
    "service": ({"gateway": {"service": {"type": "None"}}}, r"/gateway/service/type': value must be one of"),
    "port": ({"control": {"service": {"port": 70_000}}}, r"/control/service/port': maximum: got 70,000, want 65,535"),
    "admin": ({"config": {"admin": {"host": "0.0.0.0"}}}, r"/config': additional properties 'admin' not allowed"),
    "listen": ({"config": {"gateway": {"port": 80}}}, r"/config/gateway': additional properties 'port' not allowed"),
    "route": (
        {"config": {"routes": {"digits": {"stabel": "v1"}}}},
        r"(?s)/config/routes/digits'.*additional properties 'stabel' not allowed",
    ),
    "prestop": ({"gateway": {"drain": {"preStopSeconds": 0}}}, r"preStopSeconds': minimum: got 0, want 1"),
    "routes": ({"config": {"routes": {}}}, r"config.routes is empty: say which model servers"),
    "tokens": ({"auth": {"existingSecret": {"name": ""}}}, r"auth.existingSecret.name is empty: .*turnout token"),
    "two stores": ({"valkey": {"enabled": True}}, r"2 stores are named, expected one"),
    "password": ({"store": {"url": "redis://:pw@redis"}}, r"store.url holds a user or password.*existingSecret"),
    "scrape": ({"serviceMonitor": {"enabled": True}}, r"controlToken.name is empty: .*turnout token --role viewer"),
    "client ca": ({"gateway": {"tls": {"clientCaKey": "ca.crt"}}}, r"clientCaKey needs gateway.tls.existingSecret"),
    "targets": ({"gateway": {"autoscaling": {"enabled": True, "cpuPercent": 0}}}, r"autoscaling has no target"),
}


def over(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with changes laid over them, as Helm merges files."""
    merged = dict(values)
    for name, change in changes.items():
        below = values.get(name)
        merged[name] = over(below, change) if below and isinstance(below, dict) and change else change
    return merged


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_with_the_reason(helm: Helm, changes: Mapping[str, Any], told: str) -> None:
    """Before anything is installed, naming the value; the same values without the mistake are taken."""
    right = {**BASE, "store": {"url": "redis://redis:6379"}}
    helm.render(right)
    with pytest.raises(RefusedError, match=told):
        helm.render(over(right, changes))


def test_notes_tell_how_to_go_on(helm: Helm) -> None:
    """Where to send predictions, how to reach the API, and that a trial is one."""
    notes = helm.files(SETS["trial_without_disk"])["turnout/templates/NOTES.txt"]
    assert "http://demo-turnout.models.svc:8080" in notes
    assert "svc/demo-turnout-admin 8081:8081" in notes
    assert "without a disk" in notes


def test_made_files_are_fresh() -> None:
    """README.md is that of values.yaml, the schema of `config` that of the settings."""
    script = ROOT / "scripts" / "chart_documents.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def leaves(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - YAML
    """Yield the paths of all values that a user would set."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path


def test_every_value_is_explained_and_has_a_schema() -> None:
    """A row in README.md at it or above it, and a place in values.schema.json."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    above = [{path.rsplit(".", up)[0] for up in range(path.count(".") + 1)} for path in leaves(values, "")]
    assert [paths for paths in above if not paths & rows] == []
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}
