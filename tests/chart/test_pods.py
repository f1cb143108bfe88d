"""What the chart starts, started: the real commands with the rendered configuration, and upgrades between them."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router.cli.commands import application
from router.store.embedded import EmbeddedValkey
from tests.chart.pod import Cluster, Secrets
from tests.chart.test_render import every_set, over
from tests.chart.tools import Helm, pods
from tests.chart.value_sets import BASE, SETS
from tests.e2e.harness import TURNOUT, Turnout, Turnouts, clean_environment
from tests.e2e.load import eventually, until
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import Answer, fetch, request

pytestmark = pytest.mark.slow

GATEWAY, CONTROL = "demo-turnout-gateway", "demo-turnout-control"


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a `turnout` command."""
    return subprocess.run(
        [TURNOUT, *arguments], env=clean_environment(**env), check=False, capture_output=True, text=True, timeout=30
    )


@pytest.fixture(scope="module")
def token() -> Mapping[str, str]:
    """A token by `turnout token`, as a user makes it."""
    made: Mapping[str, str] = json.loads(run("token", "--name", "me", "--role", "admin", "-o", "json").stdout)
    return made


@pytest.fixture(scope="module")
def secrets(token: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    """The secrets that the value sets name."""
    folder = tmp_path_factory.mktemp("cert")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=demo", "-keyout", folder / "key", "-out", folder / "crt", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    cert = (folder / "crt").read_text()
    entry = {name: token[name] for name in ("name", "role", "hash")}
    return {
        "turnout-tokens": {"tokens": yaml.safe_dump([entry], default_flow_style=True)},
        "redis": {"turnout-url": "redis://:password@redis:6379/0"},
        "cert": {"tls.crt": cert, "tls.key": (folder / "key").read_text(), "ca.crt": cert},
        "hooks": {"secret": "0123456789abcdef"},
        "ca": {"ca.crt": cert},
    }


@every_set
def test_turnout_accepts_the_rendered_configuration(
    helm: Helm, values: Mapping[str, Any], secrets: Secrets, tmp_path: Path
) -> None:
    """`turnout validate`, with file, environment and mounts of each of the two pods."""
    cluster = Cluster(helm.render(values), secrets, {})
    names = [name for name in pods(cluster.documents) if name.endswith(("-gateway", "-control"))]
    assert len(names) == 2
    for name in names:
        (_, *options), env = cluster.command(name, tmp_path / name)
        done = CliRunner(env=env).invoke(application(), ["validate", *options])
        assert done.exit_code == 0, done.output
        assert "OK, 1 route" in done.stdout


def test_validate_refuses_what_the_chart_could_have_got_wrong(helm: Helm, secrets: Secrets, tmp_path: Path) -> None:
    """The test above can fail: without the tokens, control would be open to the cluster."""
    (_, *options), env = Cluster(helm.render(SETS["own_store"]), secrets, {}).command(CONTROL, tmp_path)
    done = run("validate", *options, **{name: text for name, text in env.items() if name != "TURNOUT_AUTH__TOKENS"})
    assert done.returncode == 2
    assert "admin.host" in done.stderr


def installed(stable: ModelServer, candidate: ModelServer) -> Mapping[str, Any]:
    """Return values of a release before these two servers."""
    variants = {"v1": {"url": stable.url}, "v2": {"url": candidate.url}}
    route = {**BASE["config"]["routes"]["digits"], "variants": variants}
    now = {"drain": {"delaySeconds": 0}}  # nobody stands before the gateway who would have to be told
    return {**BASE, "store": {"url": "redis://redis:6379"}, "config": {"routes": {"digits": route}}, "gateway": now}


@dataclass(frozen=True, slots=True)
class Machine:
    """Where revisions of one release run: one gateway and one control process each."""

    helm: Helm
    secrets: Secrets
    token: Mapping[str, str]
    turnouts: Turnouts
    store_url: str

    @asynccontextmanager
    async def revision(self, values: Mapping[str, Any], place: Path) -> AsyncIterator[tuple[Turnout, Turnout]]:
        """Run the pods that these values ask for; in the end they get SIGTERM, as by Kubernetes."""
        cluster = Cluster(self.helm.render(values), self.secrets, {"redis://redis:6379": self.store_url})
        gateway = cluster.start(self.turnouts, GATEWAY, place / "gateway")
        control = cluster.start(self.turnouts, CONTROL, place / "control")
        try:
            await asyncio.gather(gateway.until_ready(), control.until_ready())
            yield gateway, control
        finally:
            assert [*await asyncio.gather(gateway.stop(), control.stop())] == [0, 0]

    def ask(self, control: Turnout, *arguments: str) -> str:
        """Run a command against the admin API with the token; return what it prints."""
        url = f"http://127.0.0.1:{control.port('admin')}"
        done = run(*arguments, TURNOUT_URL=url, TURNOUT_TOKEN=self.token["token"])
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def machine(
    helm: Helm, secrets: Secrets, token: Mapping[str, str], turnouts: Turnouts, store: EmbeddedValkey
) -> Machine:
    """This one."""
    return Machine(helm, secrets, token, turnouts, store.url)


async def probe(turnout: Turnout, listener: str, path: str) -> Answer:
    """Ask what the kubelet asks."""
    return await fetch(turnout.port(listener), request("GET", path))


async def test_an_upgrade_leaves_the_weight_where_it_is(machine: Machine, tmp_path: Path) -> None:
    """Every process is replaced by one of the next revision, whose values differ all over: the weight stays in use."""
    async with ModelServer(1).running() as stable, ModelServer(2).running() as candidate:
        first = installed(stable, candidate)
        async with machine.revision(first, tmp_path / "1") as (gateway, control):
            for path in ("/healthz", "/readyz"):
                assert (await probe(gateway, "ops", path)).status == 200
                assert (await probe(control, "admin", path)).status == 200
            assert (await probe(control, "admin", "/v1/routes")).status == 401
            machine.ask(control, "start", "digits", "--candidate", "v2", "--policy", "canary")
            machine.ask(control, "set-weight", "digits", "37%")

        changed = {"pairs": {"keep": "32MiB"}, "gateway": {"workers": 2}, "log": {"level": "debug"}}
        second = over(first, {"config": changed, "control": {"podAnnotations": {"revision": "2"}}})
        async with machine.revision(second, tmp_path / "2") as (gateway, control):

            async def routed() -> bool:
                metrics = (await probe(gateway, "ops", "/metrics")).body.decode()
                return 'turnout_weight_ratio{route="digits"} 0.37' in metrics

            await eventually(routed)
            for user in range(40):
                headers = {"x-user-id": str(user)}
                assert (await fetch(gateway.port("gateway"), request("POST", INFER, BODY, headers))).status == 200
            rollout = json.loads(machine.ask(control, "get", "digits", "-o", "json"))
    assert '"weight_bp":3700' in json.dumps(rollout, separators=(",", ":"))
    assert 0 < len([one for one in candidate.seen if not one.is_copy]) < 40


def opened_by(pids: Iterable[int]) -> list[str]:
    """Return the files that processes have open now."""
    links = [str(link.readlink()) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [file for file in links if file.startswith("/") and not file.startswith("/dev/")]


def files_in(folder: Path, pattern: str = "*") -> set[str]:
    """Return the files below a folder whose names fit."""
    return {str(file) for file in folder.rglob(pattern) if file.is_file()}


def elsewhere(files: Iterable[str]) -> list[str]:
    """Return the files that are neither in the mounted folder for states nor what this test catches of the output."""
    return [file for file in files if "/var/lib/turnout/" not in file and not file.endswith((".out", ".err"))]


async def test_what_is_written_is_written_into_the_mounted_folder(machine: Machine, tmp_path: Path) -> None:
    """The root is read-only in the cluster: whatever a pod opens or leaves lies in `state`, also once it has states."""
    async with ModelServer(1).running() as stable, ModelServer(2).running() as candidate:
        values = installed(stable, candidate)
        async with machine.revision(values, tmp_path) as (gateway, control):
            before = files_in(tmp_path)
            machine.ask(control, "start", "digits", "--candidate", "v2", "--policy", "shadow")
            await until(lambda: files_in(tmp_path, "digits.state.json"))
            assert elsewhere(opened_by([*gateway.processes(), *control.processes()])) == []
            assert files_in(gateway.tmp) | files_in(control.tmp) == set()
            assert elsewhere(files_in(tmp_path) - before) == []
