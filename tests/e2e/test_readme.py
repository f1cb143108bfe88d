"""The README does what it says: its commands run, in order, in one shell, as a newcomer would type them.

A block that cannot be run says so itself and why: ```sh no-test: REASON. `./run` stands for the checkout's.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.harness import TOKEN, TURNOUT, clean_environment, listening, processes_of
from tests.e2e.load import until
from tests.e2e.model_server import ModelServer

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PORTS = (8_080, 8_081, 8_082, 9_001, 9_002)
DEMO = "./run demo"
ENDING = """
for job in $(jobs -p); do kill "$job"; wait "$job"; done
"""
"""What a newcomer does by closing the terminal; `wait` fails when what ran in the background did not end well."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it begins, its language, what else stands behind that, its text."""

    line: int
    language: str
    remark: str
    text: str

    @property
    def runs(self) -> bool:
        """Whether it is to be run."""
        return self.language == "sh" and not self.remark

    @property
    def is_demo(self) -> bool:
        """Whether it takes as long as the demo."""
        return DEMO in self.text


def blocks_of(text: str) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    fences = re.finditer(r"^```(\w*)[ ]*(.*)\n((?:(?!```).*\n)*)```$", text, re.MULTILINE)
    found = [Block(text[: one.start()].count("\n") + 1, one[1], one[2].strip(), one[3]) for one in fences]
    assert 2 * len(found) == len(re.findall(r"^```", text, re.MULTILINE)), "a fence is not closed"
    return found


BLOCKS = blocks_of(README.read_text(encoding="utf-8"))


def script_of(blocks: Sequence[Block]) -> str:
    """Return one script that stops at the first command that fails, and tells which block it is at."""
    parts = [f"echo '--- README.md, line {block.line}'\n{block.text}" for block in blocks]
    return "set -euxo pipefail\n" + "\n".join(parts) + ENDING


@pytest.fixture
async def newcomer(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory with the README's files and a `run`, model servers on 9001 and 9002, and nothing left behind."""
    if taken := [port for port in PORTS if listening(port)]:
        reason = f"the README is run as it is written, and somebody uses its ports: {taken}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    for block in BLOCKS:
        if block.language == "yaml":
            (tmp_path / file_of(block)).write_text(block.text)
    run = tmp_path / "run"
    run.write_text(f'#!/bin/sh\nexec "{ROOT / "run"}" "$@"\n')
    run.chmod(0o755)
    async with ModelServer(1, port=9_001).running(), ModelServer(2, port=9_002).running():
        yield tmp_path
    assert [port for port in PORTS if listening(port)] == []


def file_of(block: Block) -> str:
    """Return the name in the first line of a block, as in `# turnout.yaml`."""
    name = re.match(r"# (\w+\.yaml)\n", block.text)
    assert name, f"README.md, line {block.line}: the first line of a yaml block names its file, as in # turnout.yaml"
    return name[1]


def files_in(directory: str) -> list[Path]:
    """Return what is in a directory."""
    return list(Path(directory).iterdir())


async def run(blocks: Sequence[Block], directory: Path, within_s: float) -> None:
    """Run the blocks in one bash; show all that it has said when a command fails or takes too long."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as tmp, (directory / "said").open("w+") as said:
        environment = clean_environment(TMPDIR=tmp, **{TOKEN: tmp})
        environment["PATH"] = f"{TURNOUT.parent}:{environment['PATH']}"
        bash = subprocess.Popen(  # noqa: ASYNC220 - forks at once, and nothing else runs yet
            ["bash", "-c", script_of(blocks)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            await until(lambda: bash.poll() is not None, within_s)
        finally:
            left = processes_of(tmp, Path(tmp))
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            status = bash.wait()
            said.seek(0)
            assert status == 0, said.read()
        assert left == {}
        assert files_in(tmp) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_command_of_the_readme_works(newcomer: Path) -> None:
    """All `sh` blocks but the demo's, in order, in one shell: each command exits 0, and so does `turnout serve &`."""
    await run([block for block in BLOCKS if block.runs and not block.is_demo], newcomer, within_s=150)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_demo_of_the_readme_works(newcomer: Path) -> None:
    """The blocks with the demo."""
    blocks = [block for block in BLOCKS if block.runs and block.is_demo]
    assert blocks
    await run(blocks, newcomer, within_s=240)


@pytest.mark.slow
def test_run_test_of_the_readme_is_a_verb(tmp_path: Path) -> None:
    """`./run test` is in the README, and collects tests; running them all from within one would never end."""
    assert any(re.search(r"^\./run test$", block.text, re.MULTILINE) for block in BLOCKS)
    collected = subprocess.run(
        [ROOT / "run", "test", "--collect-only", "-q", "-p", "no:cacheprovider", "-n", "0", "tests/core"],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stderr
    assert "tests collected" in collected.stdout


def test_no_block_of_the_readme_is_left_out_in_silence() -> None:
    """Every block is run, written to the file that it names, plain text, or says why it is not run."""
    for block in BLOCKS:
        where = f"README.md, line {block.line}"
        assert block.language in ("sh", "yaml", ""), f"{where}: {block.language} is neither run nor checked"
        if block.language == "sh":
            assert not block.remark or re.match(r"no-test: \w.{10,}", block.remark), f"{where}: {block.remark}"
        if block.language == "yaml":
            assert yaml.safe_load(block.text)
            assert file_of(block)
    assert sum(block.runs for block in BLOCKS) >= 4
    assert sum(block.language == "sh" and not block.runs for block in BLOCKS) <= 2


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Links into the repository name files that are there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
