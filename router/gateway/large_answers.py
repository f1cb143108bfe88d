"""Long answers are compared in a process of their own, so that the event loop of a worker stays free.

There is at most one for each worker, started at the first long answer and ended when there was none for a while. It
gets one pair at a time. Whatever it does costs that pair's comparison and nothing else: it may die, hang, or eat all
the memory that it is allowed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from router.core.options import PluginUse
from router.gateway.comparing import Compared, Half, not_compared
from router.gateway.comparing_wire import ANSWER_BYTES, LENGTH, question, read_answer

if TYPE_CHECKING:
    from router.gateway.pieces import Pieces

WAITING = 256
"""Most pairs that wait. Chosen: two answers of 16 KiB take about 1 ms, so that the last one waits for a second."""

COMPARE_S = 10.0
"""How long one pair may take, with the start of the process. Measured: two answers of 8 MiB take 0.3 to 3 s."""

IDLE_S = 60.0
"""After how long without a long answer the process ends and gives its memory back. Chosen."""

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""How long no process is started after so many failures without a success between them. Chosen: no spinning."""

POLL_S = 0.005


class Job(NamedTuple):
    """One pair to be compared; `done` is told the result, once."""

    adapter: PluginUse
    comparator: PluginUse
    stable: Half
    candidate: Half
    done: Callable[[Compared], None]

    def give_up(self, why: str) -> None:
        """Say that nothing was read."""
        self.done(not_compared(self.comparator.name, f"size: {why}"))


class LargeAnswers:
    """Compares long answers elsewhere. `command` starts the process, with three more arguments as `Child.spawn`.

    `drops` counts pairs that were not compared: `waiting` (too many wait), `late` (longer than COMPARE_S), `crashed`
    (the process died over it, or answered nonsense), `down` (none is started yet after failures).
    """

    def __init__(self, command: Sequence[str], now: Callable[[], float]) -> None:
        self.drops: defaultdict[str, int] = defaultdict(int)
        self._command = command
        self._now = now
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._busy = False
        self._failures = 0
        self._not_before = 0.0
        self._process: _Process | None = None

    def __repr__(self) -> str:
        return f"<LargeAnswers waiting {len(self._waiting)}, {self._process}>"

    def __bool__(self) -> bool:
        """Whether there are pairs whose comparison is not known yet."""
        return self._busy or bool(self._waiting)

    @property
    def pid(self) -> int | None:
        """Process id, None while none runs."""
        return self._process.pid if self._process is not None else None

    def put(self, job: Job) -> None:
        """Take a pair, or give it up at once when too many wait or no process may be started yet."""
        if len(self._waiting) >= WAITING:
            self._drop(job, "waiting")
        elif self._process is None and self._now() < self._not_before:
            self._drop(job, "down")
        else:
            self._waiting.append(job)
            self._wake.set()

    def _drop(self, job: Job, why: str) -> None:
        self.drops[why] += 1
        job.give_up(why)

    async def run(self) -> None:
        """Compare one pair after the other until cancelled; then the process is gone."""
        try:
            while True:
                await self._next()
        finally:
            await self._end()

    async def _next(self) -> None:
        while not self._waiting:
            self._wake.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                await self._end()
        job = self._waiting.popleft()
        self._busy = True
        try:
            async with asyncio.timeout(COMPARE_S):
                found = await self._compare(job)
        except TimeoutError:
            await self._failed(job, "late")
        except (OSError, EOFError, ValueError):  # cannot be started; died; answered what is no answer
            await self._failed(job, "crashed")
        else:
            self._failures = 0
            job.done(found)
        self._busy = False

    async def _compare(self, job: Job) -> Compared:
        if self._process is None:
            self._process = await _Process.start(self._command)
        parts = question(job.adapter, job.comparator, job.stable, job.candidate)
        return read_answer(await self._process.ask(parts))

    async def _failed(self, job: Job, why: str) -> None:
        """The pair is not tried again: what it did once it may do again."""
        self._not_before = self._now() + BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self._drop(job, why)
        await self._end()
        while self._waiting:
            self._drop(self._waiting.popleft(), "down")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()


class _Process:
    """One comparing process and the connection to it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer

    def __repr__(self) -> str:
        return f"<comparing process {self.pid}>"

    @classmethod
    async def start(cls, command: Sequence[str]) -> "_Process":
        """Start it by this thread, whose end it does not outlive. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        with contextlib.ExitStack() as on_error:
            on_error.callback(ours.close)
            with theirs:
                process = _spawn([*command, str(theirs.fileno()), "-1", str(os.getpid())], theirs.fileno())
            on_error.callback(process.wait)
            on_error.callback(process.kill)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            on_error.pop_all()
        return cls(process, reader, writer)

    async def ask(self, parts: "Pieces") -> bytes:
        """Return the answer's text. Raises EOFError when the process ends before it, ValueError for nonsense."""
        self._writer.writelines(parts)
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if length > ANSWER_BYTES:
            raise ValueError(f"an answer of {length} bytes, expected at most {ANSWER_BYTES}")
        return await self._reader.readexactly(length)

    async def end(self) -> None:
        """Kill it and return when it is gone; a cancelled call leaves at most its last state behind."""
        self._writer.transport.abort()
        self._process.kill()
        while self._process.poll() is None:  # noqa: ASYNC110 - for milliseconds
            await asyncio.sleep(POLL_S)
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _spawn(argv: list[str], fd: int) -> "subprocess.Popen[bytes]":
    """Start a fresh interpreter that never sees Ctrl-C; its standard output is our standard error."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(argv, pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603 - our own command
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
