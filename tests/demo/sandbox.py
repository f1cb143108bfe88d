"""A place to run demos in, which knows every process and file that they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FROM_CHECKOUT = (sys.executable, "-m", "router")


@dataclass(slots=True)
class Sandbox:
    """One such place; `program` is the `turnout` command."""

    directory: Path
    program: Sequence[str | Path] = FROM_CHECKOUT
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `turnout demo` in a process group of its own, as a shell does."""
        # No name with TURNOUT_: those are kept from the demo's Turnout.
        env = os.environ | {"TMPDIR": str(self.directory), "DEMO_TEST_MARK": self.mark}
        process = subprocess.Popen(
            [*self.program, "demo", "--port", "0", *options],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            process_group=0,
        )
        self.started.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """Return the command lines, by process id, of all processes that come from here and are alive."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    # The store server writes its title over its environment; its socket's place is in the title.
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.directory) in command or self.mark.encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = command
            except OSError:
                continue  # it has ended meanwhile
        return found

    def files(self) -> list[str]:
        """Return what lies in the directory for temporary files."""
        return sorted(entry.name for entry in self.directory.iterdir())


@contextmanager
def sandbox_for(program: Sequence[str | Path] = FROM_CHECKOUT) -> Iterator[Sandbox]:
    """A sandbox with a short path, because sockets lie in it; whatever still runs afterwards is killed."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as directory:
        one = Sandbox(Path(directory), program)
        yield one
        for process in one.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        until(lambda: not one.processes())


def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        time.sleep(0.01)
