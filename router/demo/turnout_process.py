"""The demo's Turnout: the real `turnout serve` as a child process with a configuration of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.core.errors import TurnoutError
from router.store.lifeline import KERNEL_TELLS, Keeper, end_with_parent

STOP_S: Final = 20.0
"""How long an orderly end may take before SIGKILL: requests in flight get 10 s, control 3 s, the store 5 s."""

TAIL_LINES: Final = 12


class DemoError(TurnoutError):
    """The demo cannot go on; the sentence says why and what to do."""


class TurnoutProcess:
    """One running `turnout serve`. Start it from the main thread: it gets SIGTERM when that thread ends."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: socket.socket, log: Path) -> None:
        self._process = process
        self._stdout = stdout
        self._log = log
        self._keeper = None if KERNEL_TELLS else Keeper(process.pid)

    def __repr__(self) -> str:
        state = "running" if self.running else f"ended {self._process.returncode}"
        return f"<TurnoutProcess pid {self._process.pid} {state}>"

    @classmethod
    def start(cls, config: Path, log: Path) -> TurnoutProcess:
        """Return a Turnout that is starting; what it logs goes to the file `log`, other files beside it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, log.open("ab") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-P", "-m", "router", "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=theirs.fileno(),
                stderr=stderr,
                # Sockets lie in a directory of ours, so that they go with it even when Turnout itself is killed.
                env=clean_environment(os.environ) | {"TMPDIR": str(log.parent)},
                # Out of the terminal's foreground group: Ctrl-C reaches only the demo, which ends us in its own order.
                process_group=0,
                preexec_fn=end_with_parent() if KERNEL_TELLS else None,  # noqa: PLW1509 - no other thread is busy
            )
        return cls(process, ours, log)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def ready(self, timeout_s: float) -> Mapping[str, str]:
        """Return the URLs of `gateway`, `admin` and `ops` once all of them answer; call it once.

        Raises DemoError with the last words of a process that ends first or is not ready in time.
        """
        said = b""
        try:
            async with asyncio.timeout(timeout_s):
                while b"\nready\n" not in said:
                    received = await asyncio.get_running_loop().sock_recv(self._stdout, 4096)
                    if not received:
                        self._process.wait(STOP_S)  # its standard output is closed: it is at its end
                        raise DemoError(self.failure())
                    said += received
        except TimeoutError:
            raise DemoError(f"turnout serve was not ready within {timeout_s:g} s. It said:\n{self._tail()}") from None
        return urls_of(said.decode())

    def failure(self) -> str:
        """Return one sentence about its end, with its last words."""
        return f"turnout serve ended (exit status {self._process.poll()}). It said:\n{self._tail()}"

    def stop(self) -> None:
        """End it in order and return when it is gone, after STOP_S by SIGKILL. Safe to repeat."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._keeper:
            self._keeper.dismiss()
        self._stdout.close()

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  nothing"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would change the demo's configuration, and with bytecode allowed.

    `TURNOUT_GATEWAY__PORT` and its like are meant for the user's own Turnout. Without bytecode each start compiles
    everything again, which takes seconds.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("TURNOUT_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def urls_of(said: str) -> Mapping[str, str]:
    """Return listener -> URL of lines such as `gateway    http://127.0.0.1:8080    send predictions here`."""
    fields = [line.split() for line in said.splitlines()]
    return {words[0]: words[1] for words in fields if len(words) > 1}
