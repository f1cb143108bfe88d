"""Dockerfile and compose.yaml, as far as they can be checked without an engine: their commands run here for real."""

import fnmatch
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from router.store.embedded import EmbeddedValkey, find_binary
from tests.chart.tools import ROOT, VENV, Helm, need, pods
from tests.chart.value_sets import SETS
from tests.e2e.harness import Turnout, Turnouts, clean_environment
from tests.e2e.load import eventually, until
from tests.e2e.wire import fetch, request

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


LOADS_EVERYTHING = (
    "import router.admin.app, router.app, router.cli.commands, router.control.loop, router.gateway.worker, "
    "router.supervisor.parent; router.cli.commands.application()"
)
"""Python that imports what the image's processes run."""


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in "\n".join(lines).replace("\\\n", " ").splitlines())
    ]


@pytest.mark.slow
def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    """By the real linter; and it does find something where there is something."""
    need((VENV / "bin/hadolint").exists(), "hadolint", "./run setup chart")
    wrong = DOCKERFILE.replace("WORKDIR /src", "WORKDIR src")
    for text, status in ((DOCKERFILE, 0), (wrong, 1)):
        done = subprocess.run([VENV / "bin/hadolint", "-"], input=text, check=False, capture_output=True, text=True)
        assert done.returncode == status, done.stdout


def test_the_image_runs_as_nobody_in_particular_and_starts_no_shell() -> None:
    """A numeric user, so that Kubernetes can see that it is not root; commands as lists."""
    found = instructions()
    assert [rest for word, rest in found if word == "USER"] == ["65532:65532"]
    commands = [
        rest.partition("CMD ")[2] or rest for word, rest in found if word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    ]
    assert len(commands) == 3
    assert all(isinstance(json.loads(command), list) for command in commands)


def test_the_base_is_pinned() -> None:
    """By a full version; every stage stands on it or on another stage."""
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names = [name for _, name in stages]
    assert {origin for origin, _ in stages} <= {"python:${PYTHON}", *names}
    assert names[-1] == "turnout"


def test_everything_that_is_copied_is_there_and_sent_to_the_engine() -> None:
    """A file left out by .dockerignore fails only where there is an engine; all packages of the wheel are copied."""
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    sources = [source for one in copied for source in one]
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert set(wheel["packages"]) <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == set(sources)


def test_what_is_taken_out_of_the_image_is_in_the_lock_and_loaded_by_nothing() -> None:
    """Build tools and scikit-learn: Turnout's processes import without them."""
    gone = [name for one in re.findall(r"uninstall --yes ([\w -]+)", DOCKERFILE) for name in one.split()]
    lock = (ROOT / "requirements.lock").read_text()
    assert [name for name in gone if not re.search(rf"^{name}==", lock, re.MULTILINE)] == []
    modules = [{"scikit-learn": "sklearn"}.get(name, name.replace("-", "_")) for name in gone]
    script = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); {LOADS_EVERYTHING}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_every_service_is_locked_down() -> None:
    """Read-only, without capabilities, and only the gateway can be reached, from this machine."""
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080:8080"]


def test_services_name_what_is_there() -> None:
    """Targets of the Dockerfile, dependencies, configurations, volumes; host names in URLs."""
    services = COMPOSE["services"]
    text = json.dumps(COMPOSE)
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in services.values() if "build" in service} <= targets
    assert {name for service in services.values() for name in service.get("depends_on", {})} <= services.keys()
    hosts = set(re.findall(r"(?:http|redis)://([a-z]\w*):", text))
    assert hosts == {"v1", "v2", "valkey"}
    assert fnmatch.filter(services, "v?") == ["v1", "v2"]


def healthcheck(service: str, port: int) -> int:
    """Run a service's health check against the port where it really is; return its exit status."""
    _, program, *arguments = COMPOSE["services"][service].get("healthcheck", {}).get("test", [None, *IMAGE_CHECK])
    assert program == "python"
    there = re.compile(r"127\.0\.0\.1:\d+")
    moved = [there.sub(f"127.0.0.1:{port}", argument) for argument in arguments]
    return subprocess.run([sys.executable, *moved], check=False, capture_output=True).returncode


IMAGE_CHECK = json.loads(next(rest.partition("CMD ")[2] for word, rest in instructions() if word == "HEALTHCHECK"))


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The model servers by their own commands: where each is, by where it is in the composition."""
    pytest.importorskip("sklearn")
    running = {}
    for name in ("v1", "v2"):
        service = COMPOSE["services"][name]
        arguments = [{"9001": "0", "0.0.0.0": "127.0.0.1"}.get(one, one) for one in service["command"]]
        running[name] = subprocess.Popen(
            [sys.executable, *service["entrypoint"][1:], *arguments],
            env=clean_environment(**service["environment"]), cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        yield {f"http://{name}:9001": url_of(process) for name, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()
            process.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    """Return where a model server says that it is."""
    assert process.stdout
    url: str = json.loads(process.stdout.readline())["url"]
    return url


@pytest.mark.slow
async def test_the_composition_works(
    turnouts: Turnouts, store: EmbeddedValkey, models: Mapping[str, str], tmp_path: Path
) -> None:
    """Models, gateway and control by their own commands: predictions go through, health checks agree."""
    where = {**models, "redis://valkey:6379/0": store.url}
    gateway, control = (start(name, turnouts, tmp_path / name, where) for name in ("gateway", "control"))
    await gateway.until_ready()
    await control.until_ready()

    image = {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP64", "data": [0.0] * 64}]}
    asked = request("POST", "/v2/models/digits/infer", json.dumps(image).encode())
    answer = await fetch(gateway.port("gateway"), asked)
    assert (answer.status, answer.json()["model_version"]) == (200, "v1")
    assert healthcheck("gateway", gateway.port("ops")) == 0
    assert healthcheck("v2", int(models["http://v2:9001"].rpartition(":")[2])) == 0

    async def decides() -> bool:
        return healthcheck("control", control.port("admin")) == 0

    await eventually(decides)
    assert healthcheck("control", 9) != 0


def valkey(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    """Start the real server with these arguments, its data in `folder`, reached by a socket there instead of a port."""
    moved = [str(folder) if one == "/data" else one for one in arguments]
    command = [str(find_binary()), *moved, "--port", "0", "--unixsocket", str(folder / "s")]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["compose", "chart"])
async def test_valkey_takes_its_arguments(helm: Helm, of: str) -> None:
    """Those of the composition and those of the chart's trial: the real server starts with them and keeps data."""
    (trial,) = pods(helm.render(SETS["trial"]))["demo-turnout-valkey"]["containers"]
    with tempfile.TemporaryDirectory() as name:  # short: a unix socket must fit
        folder = Path(name)
        process = valkey(COMPOSE["services"]["valkey"]["command"] if of == "compose" else trial["args"], folder)
        try:
            await until((folder / "s").exists)
            client = redis.Redis(unix_socket_path=str(folder / "s"))
            found = client.config_get("maxmemory*", "appendonly", "save")
            client.close()
        finally:
            process.terminate()
            process.wait()
        assert isinstance(found, dict)
        assert (found["maxmemory-policy"], found["appendonly"], found["save"]) == ("noeviction", "yes", "")
        assert int(str(found["maxmemory"])) >= 256 * 2**20


def start(name: str, turnouts: Turnouts, place: Path, where: Mapping[str, str]) -> Turnout:
    """Start a Turnout service with its command, environment and configuration, on free ports, with others `where`."""
    service = COMPOSE["services"][name]
    config = COMPOSE["configs"]["turnout"]["content"]
    env = {
        **service["environment"],
        "TURNOUT_STORE__DIRECTORY": str(place / "state"),
        "TURNOUT_GATEWAY__DRAIN_DELAY": "0s",
    }
    for there, here in where.items():
        config = config.replace(there, here)
        env = {variable: text.replace(there, here) for variable, text in env.items()}
    ports = {f"TURNOUT_{listener}__PORT": "0" for listener in ("GATEWAY", "ADMIN", "OPS")}
    place.mkdir()
    (place / "turnout.yaml").write_text(config)  # the image's working directory holds it
    return turnouts.launch(*service["command"], directory=place, **env, **ports)
