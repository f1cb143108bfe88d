"""A small prediction server: one of the demo's models, fitted on start and served over HTTP, on loopback by default.

`python -m router.demo.server --model v2 --port 0` prints one JSON line, `{"model", "url", "pid"}`, once it
serves. With `--parent-fd` that line goes to the parent's end of a socket pair instead, and the server ends
when the parent does.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence

import orjson
import uvicorn

from router.demo.models import MODELS, halves
from router.demo.open_inference_app import OpenInferenceApp

LOOPBACK = "127.0.0.1"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class AnnouncingServer(uvicorn.Server):
    """A uvicorn server that tells somebody when it accepts connections."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then announce; when listening fails, nothing is announced."""
        await super().startup(sockets=sockets)
        self._announce()


def serve(model: str, *, name: str, host: str, port: int, parent_fd: int | None) -> None:
    """Fit `model` and serve it as `name`, version `model`, until SIGTERM, SIGINT or the end of the parent.

    Port 0 takes a free one. SIGTERM ends at once: requests that are being answered get at most one second.
    Raises OSError when the port is taken.
    """
    if parent_fd is not None:
        end_with_parent(parent_fd)
    # Bound before the fit: a taken port is known at once, and waiting connections queue in the kernel.
    with socket.create_server((host, port), reuse_port=False) as listener:
        app = OpenInferenceApp(MODELS[model](halves()[0]), name=name, version=model)
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            loop="uvloop",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        url = f"http://{host}:{listener.getsockname()[1]}"
        line = orjson.dumps({"model": model, "url": url, "pid": os.getpid()}) + b"\n"
        AnnouncingServer(config, lambda: announce(line, parent_fd)).run(sockets=[listener])


def announce(line: bytes, parent_fd: int | None) -> None:
    """Write the line to the parent, or to standard output when there is none to tell."""
    if parent_fd is None:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
    else:
        os.write(parent_fd, line)


def end_with_parent(parent_fd: int) -> None:
    """Make this process end as soon as the other end of `parent_fd` is closed, however the parent ended.

    Two ways, because each has a gap. The kernel's signal comes even while this process computes, but only
    on Linux, and not when the parent was gone before we asked for it. The closed socket is seen everywhere,
    by a thread that just reads.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_exit_at_end_of_file, args=(parent_fd,), name="parent-watch", daemon=True).start()


def _exit_at_end_of_file(parent_fd: int) -> None:
    while os.read(parent_fd, 1):
        pass
    os._exit(0)  # nothing to save, nobody left to answer


def main(argv: Sequence[str] | None = None) -> None:
    """Serve what the command line asks for; a bad argument exits with status 2 and names the right ones."""
    parser = argparse.ArgumentParser(prog="python -m router.demo.server", description="Serve one demo model.")
    parser.add_argument("--model", required=True, choices=sorted(MODELS))
    parser.add_argument("--name", default="digits", help="the model's name in the URL (default: digits)")
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen on (default: {LOOPBACK})")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--parent-fd", type=int, help="a socket shared with the parent: gets the ready line, ends us")
    asked = parser.parse_args(argv)
    serve(asked.model, name=asked.name, host=asked.host, port=asked.port, parent_fd=asked.parent_fd)


if __name__ == "__main__":
    main()
