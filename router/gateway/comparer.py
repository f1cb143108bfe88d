"""The comparing process itself: what `large_answers` starts. It knows the plug-ins and a socket, and nothing else."""

import contextlib
import os
import resource
import socket
from collections.abc import Mapping
from pathlib import Path

from router.core.config import MIB
from router.core.ports import Comparator, ModelAdapter
from router.gateway.comparing_wire import answer_next

NICE = 10
"""How far it stands back. Chosen: a tenth of a core beside busy workers; at 19 it would get 1.5 % and never finish."""

MEMORY_BYTES = 512 * MIB
"""Its address space. Measured: answers of 8 MiB take 122 MiB resident where numbers have 17 digits, 310 MiB where they
have three; with one digit each there is not enough, and the pair says `size: ...`."""


def serve(end: socket.socket, adapters: Mapping[str, ModelAdapter], comparators: Mapping[str, Comparator]) -> None:
    """Answer one question after the other until the worker has closed its end."""
    with end, end.makefile("rb") as stream:
        while (answer := answer_next(stream, adapters, comparators)) is not None:
            end.sendall(answer)


def stand_back() -> None:
    """Take this process's priority and memory down, for good; a core of it would hold answers, so it leaves none.

    Where memory runs out the kernel ends it first, not a worker.
    """
    os.nice(NICE)
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("500")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
