"""What `./run package` makes: an sdist, the wheel that it builds to, and a bill of materials of what is inside."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.chart.tools import need
from tests.demo.sandbox import sandbox_for
from tests.packaging.locks import DEV, ROOT, RUNTIME, hashes, versions

FLOORS = {"h11": "0.16", "aiohttp": "3.14.1", "starlette": "0.49.1"}
"""Of reliability.md SE14: the releases in which known ways to smuggle requests past these parsers are closed."""

LLHTTP_FLOOR = "9.2.1"
LLHTTP_IN = {"0.9.0": "9.4.3"}
"""llhttp is compiled into httptools: its version by that of httptools, read in vendor/llhttp/include/llhttp.h of the
sdist. A new httptools has to be looked at and entered here."""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Return the folder that `./run package` has filled."""
    need((ROOT / ".venv-release/turnout-stamp").exists(), "CycloneDX' generator", "./run setup release")
    with tempfile.TemporaryDirectory(prefix="package-") as folder:  # short: sockets of the demo lie below
        subprocess.run([ROOT / "run", "package", folder], check=True, capture_output=True, text=True, timeout=120)
        yield Path(folder)


def only(folder: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    (found,) = folder.glob(pattern)
    return found


def components(made: Path) -> list[dict[str, Any]]:
    """Return the parts that the bill of materials lists."""
    found: list[dict[str, Any]] = json.loads((made / "turnout.cdx.json").read_text(encoding="utf-8"))["components"]
    return found


def metadata(made: Path) -> Message:
    """Return what the wheel says of itself."""
    with zipfile.ZipFile(only(made, "*.whl")) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


@pytest.mark.slow
def test_the_sdist_builds_the_wheel_of_the_checkout(made: Path, tmp_path: Path) -> None:
    """To the byte: whoever distributes Turnout from the sdist ships what was tested here."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    of_checkout, of_sdist = only(tmp_path, "*.whl"), only(made, "*.whl")
    assert of_checkout.name == of_sdist.name
    assert of_checkout.read_bytes() == of_sdist.read_bytes()


@pytest.mark.slow
def test_the_sdist_holds_what_is_under_version_control(made: Path) -> None:
    """All that it takes to check and test Turnout, and nothing that a checkout happens to have besides."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    with tarfile.open(only(made, "*.tar.gz")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    missing = {name for name in tracked if (ROOT / name).is_file()} - held
    assert {name.partition("/")[0] for name in missing} <= {".ci"}
    assert held - set(tracked) == {"PKG-INFO"}


@pytest.mark.slow
def test_the_bill_of_materials_lists_what_the_lock_installs(made: Path) -> None:
    """Each pin with its version and the hashes that the lock allows; nothing is left out, nothing is made up."""
    document = json.loads((made / "turnout.cdx.json").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = document["metadata"]["component"]
    assert (document["bomFormat"], root["name"], root["version"]) == ("CycloneDX", "turnout", project["version"])
    assert root["licenses"][0]["license"]["id"] == project["license"]
    listed = {
        (canonicalize_name(one["name"]), one["version"]): {
            found["content"] for reference in one["externalReferences"] for found in reference["hashes"]
        }
        for one in components(made)
    }
    assert listed == hashes(RUNTIME)


@pytest.mark.slow
def test_se14_no_part_is_older_than_its_floor_and_every_part_is_hashed(made: Path) -> None:
    """SE14: in the bill of materials, in both locks, and in what the wheel lets an installer choose."""
    parts = {str(canonicalize_name(one["name"])): Version(one["version"]) for one in components(made)}
    assert {"h11", "starlette", "httptools"} <= parts.keys()
    for name, floor in FLOORS.items():
        pinned = {Version(one) for lock in (RUNTIME, DEV) for one in versions(lock).get(name, ())}
        assert all(one >= Version(floor) for one in pinned | {parts.get(name, Version(floor))}), name
    for lock in (RUNTIME, DEV):
        assert all(len(one) == 64 for sums in hashes(lock).values() for one in sums)
    asked = [Requirement(line) for line in metadata(made).get_all("Requires-Dist", [])]
    least = {
        one.name: Version(part.version) for one in asked for part in one.specifier if part.operator in (">=", "==")
    }
    assert least["h11"] >= Version(FLOORS["h11"])
    assert least["starlette"] >= Version(FLOORS["starlette"])
    assert "aiohttp" not in least
    assert least["httptools"] >= Version("0.9.0")
    assert Version(LLHTTP_IN[str(parts["httptools"])]) >= Version(LLHTTP_FLOOR)


@pytest.fixture(scope="module")
def installed(made: Path) -> Iterator[Path]:
    """Return the bin folder of a clean environment with the wheel and its demo extra.

    Installed by pip with hashes required: it would refuse whatever the two ask for and the lock does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="clean-") as folder:
        home = Path(folder)
        wheel = only(made, "*.whl")
        checksum = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (home / "wheel.txt").write_text(f"{wheel}[demo] --hash=sha256:{checksum}\n", encoding="utf-8")
        run(sys.executable, "-m", "venv", home / "venv", cwd=home)
        run(
            home / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-compile",
            "--require-hashes", "-r", ROOT / RUNTIME, "-r", "wheel.txt", cwd=home,
        )  # fmt: skip
        yield home / "venv/bin"


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints that sees neither the checkout nor settings of ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TURNOUT_", "VIRTUAL_"))}
    done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_of_the_checkout_is_on_the_path_of_the_installed_wheel(installed: Path) -> None:
    """What runs there is what was published."""
    code = "import sys, router; print(router.__file__, *sys.path, sep='\\n')"
    file, *path = run(installed / "python", "-c", code, cwd=installed).splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert [place for place in path if Path(place).is_relative_to(ROOT)] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_the_installed_demo_shows_both_acts(installed: Path) -> None:
    """v2 promotes itself, v3 is rolled back for the digit that it reads wrong; no client error; only JSON on stdout."""
    with sandbox_for([installed / "turnout"]) as sandbox:
        process = sandbox.start("--headless", "--json")
        out, err = process.communicate(timeout=700)
        assert process.returncode == 0, f"{out}\n{err}"
        assert (sandbox.processes(), sandbox.files()) == ({}, [])
    told: Any = json.loads(out)
    assert (told["ok"], told["failures"], told["client_errors"]) == (True, [], 0)
    assert told["requests"] < 120 * 200  # in less than two minutes of its traffic
    assert told["pairs"]["both"] >= 0.95 * told["pairs"]["copies"] > 5_000
    assert told["labels"]["accepted"] > 4_000
    one, two = told["acts"]
    assert [(act["candidate"], act["result"]) for act in (one, two)] == [("v2", "promoted"), ("v3", "rolled_back")]
    # Turnout walks the whole plan by itself; nobody asked for anything but the second rollout.
    assert [(made["kind"], made["actor"], made["weight_bp"]) for made in one["decisions"]] == [
        ("start", "config:file", 0), ("advance", "control", 1_000), ("advance", "control", 2_500),
        ("advance", "control", 5_000), ("promote", "control", 0),
    ]  # fmt: skip
    assert len(proved := {name for name, gate in gates_of(one).items() if gate["verdict"] == "pass"}) >= 12
    assert proved >= {"accuracy", "error_rate", *(f"recall:{digit}" for digit in range(10))}
    assert (two["decisions"][0]["kind"], two["decisions"][0]["actor"]) == ("start", "operator:local")
    ended = two["decisions"][-1]
    assert (ended["kind"], ended["actor"]) == ("roll_back", "control")
    assert ended["reason"].startswith("recall:8: candidate is right in ")
    assert [name for name, gate in gates_of(two).items() if gate["enforced"] and gate["verdict"] == "fail"] == [
        "recall:8"
    ]
    assert "50%: step 3 of 4 is done" in err
    assert "result     ok: v2 promoted, v3 rolled back" in err


def gates_of(act: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the gates of the decision that ended an act, by name."""
    return {gate["gate"]: gate for gate in act["decisions"][-1]["judgement"]["gates"]}
