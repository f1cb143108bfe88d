"""How a child process ends with its parent, also when the parent is killed and can do nothing any more.

On Linux the kernel tells the child (PR_SET_PDEATHSIG). Elsewhere a keeper, a shell of one line, waits on a pipe that
only the parent holds, and ends the child when the pipe breaks.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

ORPHANED = 75
"""Exit status of a child whose parent was gone before it could arrange for that; EX_TEMPFAIL."""

KERNEL_TELLS = sys.platform == "linux"


def end_with_parent() -> Callable[[], None]:
    """Return a `preexec_fn` after which the child gets SIGTERM when the thread that started it ends (Linux only).

    So start children from a thread that lives as long as the process, best the main one.
    """
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec as little as possible may happen
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died before the call above, then no signal will ever come.
        if os.getppid() != parent:
            os._exit(ORPHANED)

    return in_child


class Keeper:
    """Ends process `pid` with SIGTERM once this process is gone, however it went."""

    def __init__(self, pid: int) -> None:
        # `read` returns when the last writer is gone; only this process holds the writing end.
        self._shell = subprocess.Popen(  # noqa: S603 - a literal and a number
            ["/bin/sh", "-c", 'read -r _; kill -TERM "$0"', str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the keeper without ending the child; call it before the child's pid can be given to another."""
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin:
            self._shell.stdin.close()
