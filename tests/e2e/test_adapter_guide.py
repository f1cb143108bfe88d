"""The guide in docs/adapters.md does what it says: its files, exactly as printed, are a package that a gateway uses."""

import asyncio
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.harness import Admin, Turnouts, clean_environment
from tests.e2e.load import ask_all, eventually
from tests.e2e.model_server import ModelServer, Seen
from tests.e2e.test_readme import blocks_of
from tests.e2e.wire import request

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"
SAID = {"/classify/spam": b"spam\t0.98\nham\t0.75\n", "/classify/spam-v2": b"spam\t0.98\nspam\t0.51\n"}


def files() -> Mapping[str, str]:
    """Return the files of the guide by their names, which are their first lines."""
    blocks = [block for block in blocks_of(GUIDE.read_text(encoding="utf-8")) if block.language != "sh"]
    found = {}
    for block in blocks:
        name = re.match(r"# ([\w.]+)\n", block.text)
        assert name, f"docs/adapters.md, line {block.line}: the first line of a file names it"
        found[name[1]] = block.text
    return found


def test_the_adapter_of_the_guide_has_thirty_lines() -> None:
    """The class: what a reader has to write."""
    code = files()["text_lines.py"]
    lines = [line for line in code[code.index("class ") :].splitlines() if line.strip()]
    assert 20 <= len(lines) <= 30
    assert set(files()) == {"text_lines.py", "pyproject.toml", "test_text_lines.py", "turnout.yaml"}


class Classifier(ModelServer):
    """Answers by the model in the path, and v2 now and then with what is no answer."""

    def answer_to(self, seen: Seen) -> bytes | None:
        """Return lines of text."""
        body = SAID.get(seen.target.partition("?")[0], b"no such model\n")
        if self.label == 2 and seen.headers.get("x-odd"):
            body = b"<html>an error page with status 200</html>"
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def install(package: Path, site: Path) -> None:
    """Build the wheel by the back end that the package names, and unpack it, which is what installing does."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=package, check=True)
    (wheel,) = (package / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


@pytest.mark.slow
async def test_a_gateway_uses_the_adapter_of_the_guide(turnouts: Turnouts, tmp_path: Path) -> None:
    """Its test passes, and pairs hold what it read of both variants; what it cannot read is said so."""
    package, site = tmp_path / "text-lines", tmp_path / "site"
    package.mkdir()
    for name, text in files().items():
        (package / name).write_text(text, encoding="utf-8")
    install(package, site)
    tested = subprocess.run(  # noqa: ASYNC221 - nothing else runs yet
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package, env=clean_environment(PYTHONPATH=str(site)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tested.returncode, "1 passed" in tested.stdout) == (0, True), tested.stdout

    async with Classifier(1).running() as stable, Classifier(2).running() as candidate:
        config = package / "turnout.yaml"
        text = config.read_text().replace("http://127.0.0.1:9001", stable.url)
        config.write_text(text.replace("http://127.0.0.1:9002", candidate.url))
        free = {f"TURNOUT_{name}__PORT": "0" for name in ("GATEWAY", "ADMIN", "OPS")}
        serve = turnouts.launch("serve", directory=package, PYTHONPATH=str(site), **free)
        await serve.until_ready()
        admin = Admin(serve.port("admin"), "spam")
        await admin.until_routed()
        plain, odd = ({"x-request-id": name, **({"x-odd": "1"} if name == "odd" else {})} for name in ("plain", "odd"))
        asked = [request("POST", "/classify/spam?lang=en", b"buy now\nhello\n", fields) for fields in (plain, odd)]
        answers = await ask_all(serve.port("gateway"), asked)
        assert {bytes(answer.body) for answer in answers} == {SAID["/classify/spam"]}

        async def kept() -> bool:
            return len(await admin.get("/pairs")) == 2

        await eventually(kept, within_s=20.0)
        pairs = {pair["request_id"]: pair for pair in await admin.get("/pairs")}
        assert {seen.target for seen in candidate.seen if seen.is_copy} == {"/classify/spam-v2?lang=en"}
        assert pairs["plain"]["stable"]["prediction"]["label"] == "spam,ham"
        assert pairs["plain"]["candidate"]["prediction"]["label"] == "spam,spam"
        assert pairs["plain"]["comparison"]["same"] is False
        odd_one = pairs["odd"]["comparison"]
        assert (odd_one["comparator"], odd_one["same"]) == ("label", None)
        assert odd_one["reason"].startswith("unreadable answer of candidate: answer: expected lines of a label, a tab")
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router", "diff", "plain", "-o", "json", "--url",
            f"http://127.0.0.1:{serve.port('admin')}", stdout=subprocess.PIPE,
        )  # fmt: skip
        said, _ = await done.communicate()
        assert json.loads(said) == pairs["plain"]
        admin.close()
