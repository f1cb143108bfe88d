"""One started process and the channel to it."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from router.gateway.channel import Channel

TEARDOWN_S = 1.0
"""How long a process may live on after it has closed its channel. Chosen: an interpreter ends in 0.1 s."""

POLL_S = 0.005
"""How often to ask whether a closing process has ended: only after its channel closed, so for milliseconds."""


class Child:
    """A process of ours: a fresh interpreter, not a fork, so that it holds just what it imports itself."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: Channel) -> None:
        self._process = process
        self.channel = channel

    def __repr__(self) -> str:
        return f"<Child {self.pid} returncode={self._process.returncode}>"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @classmethod
    async def spawn(cls, command: Sequence[str], listener: socket.socket | None) -> "Child":
        """Start `command` with three more arguments: descriptors of channel and listener (-1: none), our pid.

        Its standard output is our standard error: only the parent speaks on standard output. Raises OSError.
        """
        ours, theirs = socket.socketpair()
        with ExitStack() as on_error:
            on_error.callback(ours.close)
            with theirs:
                fds = [theirs.fileno(), *([listener.fileno()] if listener else [])]
                numbers = (theirs.fileno(), listener.fileno() if listener else -1, os.getpid())
                process = _start([*command, *map(str, numbers)], fds)
            on_error.pop_all()
        return cls(process, await Channel.open(ours))

    def kill(self) -> None:
        """End the process at once; nothing happens if it has ended already."""
        self._process.kill()

    async def reap(self) -> int:
        """Return the exit status once the process has ended; killed if that takes longer than a moment."""
        self.channel.close()
        give_up_s = asyncio.get_running_loop().time() + TEARDOWN_S
        while (status := self._process.poll()) is None:
            if asyncio.get_running_loop().time() > give_up_s:
                self._process.kill()
            await asyncio.sleep(POLL_S)
        return status


def how_it_ended(status: int) -> str:
    """Say an exit status in words: `killed by SIGKILL`, `exit 1`."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _start(argv: list[str], fds: list[int]) -> "subprocess.Popen[bytes]":
    """Start a process that never sees Ctrl-C: the terminal signals the whole group, only the parent acts on it.

    The blocked mask is inherited, so there is no moment at which the new interpreter could be interrupted; ours
    is put back at once and a signal that came meanwhile is delivered then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603 - our own command
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
