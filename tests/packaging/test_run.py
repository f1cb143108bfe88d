"""`./run`: what it sets up, when it does so again, and what it passes on; under a recording uv."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("run", "scripts/lock")
LOCKS = tuple(f"requirements{group}.lock" for group in ("", "-dev", "-chart", "-release", "-loadtest"))
SHELLS = [shell for shell in ("sh", "dash", "bash --posix", "busybox sh") if shutil.which(shell.split()[0]) is not None]

# Stands where uv would: `uv venv` makes a venv whose programs only say how they were called.
RECORDING_UV = """#!/bin/sh
echo "uv $*" >>"$LOG"
[ "$1" = venv ] || exit 0
for venv; do :; done
mkdir -p "$venv/bin"
for program in python turnout ruff mypy lint-imports; do
  printf '#!/bin/sh\\necho "%s in $PWD:" "$@" >>"$LOG"\\n%s' "$program" "$AFTER" >"$venv/bin/$program"
  chmod +x "$venv/bin/$program"
done
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the files that `./run` reads, with a recording uv first on PATH."""

    root: Path
    log: Path
    programs: Path

    def run(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `./run` and return what happened."""
        path = f"{self.programs}:/usr/bin:/bin"
        return subprocess.run(
            [self.root / "run", *arguments],
            cwd=cwd or self.root,
            env={"PATH": path, "LOG": str(self.log), "AFTER": ""} | env,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
        )

    def calls(self) -> list[str]:
        """Return what was called since the last time this was asked."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def installs(self) -> list[str]:
        """Return what was installed since then: lock names, and `project` for the checkout itself."""
        calls = [call for call in self.calls() if call.startswith("uv pip install")]
        return ["project" if " -e " in call else Path(call).name for call in calls]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a fresh checkout that nothing was set up in."""
    root = tmp_path / "check out"  # a blank in the path must not matter
    root.mkdir()
    for name in ("run", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, root / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text(RECORDING_UV, encoding="utf-8")
    (programs / "uv").chmod(0o755)
    return Checkout(root, tmp_path / "calls.log", programs)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", SHELLS)
def test_shell_scripts_are_valid_posix_sh(script: str, shell: str) -> None:
    """Every shell that this machine has parses the scripts."""
    assert (ROOT / script).read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert os.access(ROOT / script, os.X_OK)
    parsed = subprocess.run([*shell.split(), "-n", ROOT / script], check=False, capture_output=True, text=True)
    assert (parsed.returncode, parsed.stderr) == (0, "")


def test_the_first_run_installs_the_runtime_lock_and_starts_the_demo(checkout: Checkout) -> None:
    """`./run` makes a venv, installs runtime lock and checkout with hashes required, then starts the demo."""
    assert checkout.run().returncode == 0

    made, locked, project, started = checkout.calls()
    assert made.startswith("uv venv")
    assert "--require-hashes" in locked
    assert "--compile-bytecode" in locked
    assert locked.endswith("/requirements.lock")
    assert "--no-build-isolation" in project
    assert started == f"turnout in {checkout.root}: demo"


def test_a_second_run_installs_nothing(checkout: Checkout) -> None:
    """Once set up, nothing is made or installed again."""
    checkout.run("setup")
    checkout.calls()

    checkout.run("setup")

    assert checkout.calls() == []


def test_dev_adds_to_the_runtime_and_then_serves_both(checkout: Checkout) -> None:
    """`./run test` installs the dev lock into the same venv; `./run` afterwards has all it needs."""
    checkout.run("setup")
    checkout.calls()

    checkout.run("setup", "dev")
    assert checkout.installs() == ["requirements-dev.lock", "project"]
    checkout.run("setup")
    assert checkout.installs() == []


@pytest.mark.parametrize(
    ("changed", "installed"),
    [
        ("requirements.lock", ["requirements.lock", "project"]),
        ("requirements-dev.lock", []),
        ("pyproject.toml", ["project"]),
    ],
)
def test_a_changed_file_is_installed_again(checkout: Checkout, changed: str, installed: list[str]) -> None:
    """A pulled change of the lock in use or of the entry points takes effect at the next run."""
    checkout.run("setup")
    checkout.calls()
    with (checkout.root / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")

    checkout.run("setup")

    assert checkout.installs() == installed


def test_a_moved_checkout_gets_a_new_venv(checkout: Checkout, tmp_path: Path) -> None:
    """A venv holds its own path, so after a move it is made anew instead of running the old checkout."""
    checkout.run("setup")
    moved = Checkout(checkout.root.rename(tmp_path / "moved"), checkout.log, checkout.programs)
    moved.calls()

    moved.run("setup")

    assert moved.calls()[0].startswith("uv venv")


def test_an_interrupted_setup_starts_over(checkout: Checkout) -> None:
    """A failing install leaves no stamp: the next run begins with a new venv."""
    uv = checkout.programs / "uv"
    uv.write_text(RECORDING_UV.replace("|| exit 0", "|| exit 7"), encoding="utf-8")
    assert checkout.run("setup").returncode != 0
    uv.write_text(RECORDING_UV, encoding="utf-8")
    checkout.calls()

    assert checkout.run("setup").returncode == 0

    assert checkout.calls()[0].startswith("uv venv")
    assert checkout.run("setup").returncode == 0
    assert checkout.calls() == []


def test_any_other_verb_goes_to_turnout_from_where_the_user_is(checkout: Checkout, tmp_path: Path) -> None:
    """Arguments arrive unchanged, and relative paths mean the user's folder, not the checkout."""
    checkout.run("setup")
    checkout.calls()

    checkout.run("serve", "--config", "my file.yaml", cwd=tmp_path)

    assert checkout.calls() == [f"turnout in {tmp_path}: serve --config my file.yaml"]


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ((), "-n 2 --dist loadfile"),
        (("--all",), "-n 2 --dist loadfile -m not soak"),
        (("tests/core", "--all", "-k", "a b"), "-n 2 --dist loadfile tests/core -m not soak -k a b"),
    ],
)
def test_tests_run_in_the_checkout(checkout: Checkout, arguments: tuple[str, ...], passed: str) -> None:
    """`--all` lifts the deselection of slow tests, not of the soak; everything else is pytest's."""
    checkout.run("test", *arguments, cwd=Path("/"))

    assert checkout.calls()[-1] == f"python in {checkout.root}: -m pytest {passed}"


def test_the_tools_of_the_chart_are_set_up_apart_and_once(checkout: Checkout) -> None:
    """They weigh more than all the rest: only who tests the chart, or everything, installs them."""
    checkout.run("chart", "-k", "lint")
    _, _, _, made, locked, tests = checkout.calls()
    assert made == f"uv venv --quiet --python >=3.11 {checkout.root}/.venv-chart"
    assert "--require-hashes" in locked
    assert f"--python {checkout.root}/.venv-chart/bin/python" in locked
    assert locked.endswith("/requirements-chart.lock")
    assert tests == f"python in {checkout.root}: -m pytest tests/chart -m not soak -k lint"

    checkout.run("test", "--all")
    assert checkout.installs() == ["requirements-release.lock", "requirements-loadtest.lock"]
    checkout.run("setup", "chart")
    assert checkout.installs() == []


def test_locust_is_set_up_apart_and_started_with_all_arguments(checkout: Checkout) -> None:
    """It brings a web framework and a patched standard library: its venv is no part of the one that Turnout runs in."""
    checkout.run("setup", "dev")
    checkout.calls()
    checkout.run("loadtest", "canary-ramp", "--headless", cwd=Path("/"))
    made, locked, started = checkout.calls()
    assert made == f"uv venv --quiet --python >=3.11 {checkout.root}/.venv-loadtest"
    assert "--require-hashes" in locked
    assert locked.endswith("/requirements-loadtest.lock")
    assert started == f"python in {checkout.root}: -m loadtests.under_load canary-ramp --headless"


def test_all_tests_run_without_tools_that_cannot_be_had(checkout: Checkout) -> None:
    """There are machines that Helm's SDK has no wheel for; a set-up that failed is tried again the next time."""
    checkout.run("setup", "dev")
    uv = checkout.programs / "uv"
    uv.write_text(RECORDING_UV.replace("|| exit 0", "|| exit 7"), encoding="utf-8")

    for _ in range(2):
        checkout.calls()
        done = checkout.run("test", "--all")
        assert done.returncode == 0
        assert "no tools of the group chart" in done.stderr
        assert checkout.installs() == [f"requirements-{group}.lock" for group in ("chart", "release", "loadtest")]
    assert checkout.run("chart").returncode != 0


@pytest.mark.parametrize(("arguments", "passed"), [((), "-m soak"), (("CL7",), "-m soak -k CL7")])
def test_the_soak_runs_one_row_or_all(checkout: Checkout, arguments: tuple[str, ...], passed: str) -> None:
    """By the id of the row, which is part of the tests' names."""
    checkout.run("soak", *arguments, cwd=Path("/"))
    assert checkout.calls()[-1] == f"python in {checkout.root}: -m pytest {passed}"


def test_check_runs_every_tool_and_names_the_failed(checkout: Checkout) -> None:
    """One failing tool hides no other, and fails the whole."""
    done = checkout.run("check", AFTER="exit 1")

    tools = [call.split(" in ")[0] for call in checkout.calls() if not call.startswith("uv")]
    assert tools == ["ruff", "ruff", "mypy", "lint-imports"]
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "run: failed:  ruff check  ruff format --check  mypy  lint-imports --no-logo"


def test_without_a_python_it_says_what_to_install(checkout: Checkout) -> None:
    """A missing or too old Python is named with the way out, and no half-made venv stays."""
    (checkout.programs / "uv").unlink()

    done = checkout.run("setup", PYTHON="/nowhere/python3")

    assert done.returncode == 1
    assert "no Python >= 3.11 at PYTHON=/nowhere/python3" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_bytecode_is_written_whatever_the_machine_says(checkout: Checkout) -> None:
    """PYTHONDONTWRITEBYTECODE, often set on CI machines, would make every start 3-5 times slower."""
    checkout.run("setup")
    (checkout.root / ".venv/bin/turnout").write_text("#!/bin/sh\nenv\n", encoding="utf-8")

    shown = checkout.run("get", PYTHONDONTWRITEBYTECODE="1").stdout

    assert "LOG=" in shown
    assert "PYTHONDONTWRITEBYTECODE" not in shown
