"""The parent's side of a demo prediction server: start the process, wait until it serves, end it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO

import orjson

STOP_S = 3.0  # chosen: the server itself gives open requests one second after SIGTERM
STDERR_TAIL_BYTES = 2000


class ServerFailedError(Exception):
    """The server was not ready in time or ended before; the text holds the last it wrote."""


class ServerProcess:
    """One running prediction server.

    Start it from the main thread: on Linux such a child ends with the thread that made it.
    """

    def __init__(self, model: str, process: subprocess.Popen[bytes], link: socket.socket, log: IO[bytes]) -> None:
        self.model = model
        self._process = process
        self._link = link
        self._log = log

    def __repr__(self) -> str:
        state = "running" if self._process.poll() is None else f"ended {self._process.returncode}"
        return f"<ServerProcess {self.model} pid {self.pid} {state}>"

    @classmethod
    def start(cls, model: str, *, name: str = "digits", port: int = 0) -> ServerProcess:
        """Return a server that is starting; it fits its model first, which takes a second or two."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # A file, because nobody would read a pipe. It lives as long as the process.
        log = tempfile.TemporaryFile()  # noqa: SIM115
        program = [sys.executable, "-m", "router.demo.server"]
        with theirs:
            options = [
                f"--model={model}",
                f"--name={name}",
                f"--port={port}",
                f"--parent-fd={theirs.fileno()}",
            ]
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*program, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                # Out of the terminal's foreground group: Ctrl-C reaches only the parent, which ends us in
                # its own order.
                process_group=0,
            )
        return cls(model, process, ours, log)

    @property
    def pid(self) -> int:
        """The process id, also after the end."""
        return self._process.pid

    async def ready(self, timeout_s: float) -> str:
        """Return the base URL once the server accepts connections; call it once.

        Raises ServerFailedError when the process ends first or `timeout_s` passes; the process is then
        ended. Cancelling it leaves the process running, `stop` is still due.
        """
        line = b""
        try:
            async with asyncio.timeout(timeout_s):
                while not line.endswith(b"\n"):
                    received = await asyncio.get_running_loop().sock_recv(self._link, 4096)
                    if not received:
                        raise self._failure("ended before it was ready")
                    line += received
        except TimeoutError:
            raise self._failure(f"was not ready within {timeout_s:g} s") from None
        url: str = orjson.loads(line)["url"]
        return url

    def stop(self) -> None:
        """End the process and return when it is gone: in 0.3 s, or after STOP_S by SIGKILL. Safe to repeat."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._link.close()
        self._log.close()

    def kill(self) -> None:
        """End the process at once, in the middle of whatever it does; `stop` is still due."""
        self._process.kill()

    def _failure(self, what: str) -> ServerFailedError:
        """Return the error to raise, with the process ended and the last of what it said."""
        self._process.kill()
        status = self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - STDERR_TAIL_BYTES))
        said = self._log.read().decode(errors="replace").strip() or "nothing"
        self.stop()
        return ServerFailedError(f"The prediction server {self.model} {what} (exit status {status}). It said: {said}")


def _environment() -> dict[str, str]:
    # One thread for the linear algebra: several only fight for the demo's two cores (a fit takes 0.6 s
    # instead of 0.15 s). Bytecode may be written: without it every start compiles numpy, scipy and
    # scikit-learn again, which takes seconds.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
