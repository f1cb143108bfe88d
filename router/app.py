"""The composition root: the only module that knows every layer, and what each process is made of.

`python -m router.app gateway|control|compare CHANNEL LISTENER PARENT` is how a process starts others; people use
`turnout`. Imports stand inside the functions, so that each process loads only what it runs.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.core.errors import ConfigError, PluginError, TurnoutError

if TYPE_CHECKING:
    from router.core.config import TurnoutConfig
    from router.gateway.channel import Channel, Metrics, Settings
    from router.supervisor.store_keeper import StoreServer


Announce = Callable[[str], None]


def load_config(path: Path, environ: Mapping[str, str]) -> "TurnoutConfig":
    """Return the checked configuration. Raises ConfigError with all that is wrong, PluginError for a broken plug-in."""
    from router.plugins import load_adapters, load_comparators, load_policies
    from router.settings import load
    from router.telemetry.otlp import check_installed

    config = load(
        path,
        environ,
        policies=load_policies(),
        adapters=load_adapters(),
        comparators=load_comparators(),
    )
    check_installed(config.tracing)
    return config


def serve(config: "TurnoutConfig", announce: Announce, file: Path | None = None) -> None:
    """Run gateway, control and, unless `store.url` is set, a store server, until a signal ends it.

    `file` is what `config` was read from, to be read again for a reload.

    Raises ConfigError, ListenError, StartError or StoreUnavailableError; then nothing is left running.
    """
    from router.admin.bind import check_bind
    from router.settings import webhook_secret

    check_bind(config)
    webhook_secret(config.webhooks, os.environ)  # control reads it anew: a missing one is told before anything runs
    store = None if config.store.url else _embedded(config)
    asyncio.run(_supervise(config, announce, with_control=True, store=store, file=file))


def gateway(config: "TurnoutConfig", announce: Announce, file: Path | None = None) -> None:
    """Run the data plane alone: a parent and its workers. Raises as `serve` does; the store must be named."""
    _store_url(config, "gateway")
    asyncio.run(_supervise(config, announce, with_control=False, store=None, file=file))


def control(config: "TurnoutConfig", announce: Announce) -> None:
    """Run the control plane alone, in this process, until a signal ends it. Raises as `serve` does."""
    from router.admin.bind import check_bind
    from router.gateway.channel import Settings
    from router.supervisor.listeners import open_listeners, url_of
    from router.telemetry import logs

    store_url = _store_url(config, "control")
    check_bind(config)
    (listener,) = open_listeners(config.admin, 1, "admin")
    logs.configure(config.log, process="control")
    logs.write_uncaught()
    announce(f"admin      {url_of(listener)}    for `turnout get` and the other commands")

    async def until_signal() -> None:
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        await asked.wait()

    settings = Settings(config, new_boot(), store_url, slot=0)
    asyncio.run(_run_control(settings, listener, until_signal, lambda: announce("ready")))


def new_boot() -> str:
    """Return a name for one process start; never the same twice."""
    return secrets.token_hex(8)


async def _supervise(
    config: "TurnoutConfig",
    announce: Announce,
    *,
    with_control: bool,
    store: "StoreServer | None",
    file: Path | None,
) -> None:
    from router.supervisor.parent import Plan, Supervisor
    from router.telemetry import logs

    logs.configure(config.log, process="parent")
    logs.write_uncaught()
    plan = Plan(
        config, command("gateway"), command("control") if with_control else None, store, new_boot,
        read=partial(load_config, file, os.environ) if file else None, file=str(file or ""),
    )  # fmt: skip
    await Supervisor(plan, announce).run()


def command(kind: str) -> tuple[str, ...]:
    """Return the command that starts a `gateway` worker or `control` under a parent, or `compare` under a worker."""
    # -P: whatever lies in the working directory must not be imported instead of ours.
    return (sys.executable, "-P", "-m", "router.app", kind)


def _embedded(config: "TurnoutConfig") -> "StoreServer":
    from router.store.embedded import EmbeddedValkey

    return EmbeddedValkey(Path(config.store.directory))


def _store_url(config: "TurnoutConfig", verb: str) -> str:
    if config.store.url:
        return config.store.url
    raise ConfigError(
        "store.url",
        None,
        f"the URL of the store that all processes share, such as redis://127.0.0.1:6379: `turnout {verb}` "
        "starts none. Set store.url or TURNOUT_STORE__URL, or run everything by `turnout serve`",
    )


# -- processes that a parent starts -------------------------------------------------------------------------------


def main(argv: list[str]) -> None:
    """Be one of a parent's processes."""
    kind, channel_fd, listener_fd, parent = argv[0], int(argv[1]), int(argv[2]), int(argv[3])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to all of us, the parent alone steers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end = socket.socket(fileno=channel_fd)
    if kind == "compare":
        _compare_process(end)
        return
    listener = socket.socket(fileno=listener_fd)
    if kind == "control":
        asyncio.run(_control_process(end, listener))
    else:
        import uvloop

        uvloop.run(_gateway_process(end, listener))
    sys.stderr.flush()
    os._exit(0)  # everything is closed; tearing all modules down would only make the parent wait 0.2 s more


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever it is busy with then; Linux only.

    Elsewhere the end of the channel says the same as soon as the event loop turns.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def _compare_process(end: socket.socket) -> None:
    from router.gateway.comparer import serve, stand_back
    from router.plugins import load_adapters, load_comparators

    stand_back()
    serve(end, load_adapters(), load_comparators())


async def _gateway_process(end: socket.socket, listener: socket.socket) -> None:
    from router.telemetry.hidden import hidden

    # redis-py loads it wherever it is installed, also if nobody asks for metrics: 30 ms and 2 MiB in each worker.
    with hidden("opentelemetry"):
        from router.core.config import LogConfig
        from router.gateway.channel import Channel, Metrics, Ready
        from router.gateway.descriptors import raise_descriptor_limit
        from router.gateway.garbage import keep_for_good
        from router.gateway.worker import Worker
        from router.plugins import load_adapters, load_comparators
        from router.store.redis import RedisStore
        from router.telemetry import logs

    channel = await Channel.open(end)
    async with _failures_told(channel):
        logs.configure(LogConfig(), process="gateway")  # loads all there is to load before the settings come
        logs.write_uncaught()
        adapters, comparators = load_adapters(), load_comparators()
        keep_for_good()
        settings = await _settings(channel)
        raise_descriptor_limit(settings.config.gateway.limits.connections)
        logs.configure(settings.config.log, process=f"gateway-{settings.slot}")
        store = RedisStore(settings.store_url)
        worker = Worker(
            settings.config, boot=settings.boot, store=store, adapters=adapters, comparators=comparators,
            compare_command=command("compare"), parent=channel,
        )  # fmt: skip
        await worker.start(listener, strict=settings.strict, left_out=settings.left_out)
    channel.send(Ready())
    drain_s = settings.config.gateway.drain_deadline_s
    parent = _Parent(channel, drain_s, lambda: Metrics(worker.snapshot(), worker.backends.left_out()))
    await worker.drain(await parent.until_drain())
    await parent.say_goodbye()
    await store.close()


async def _control_process(end: socket.socket, listener: socket.socket) -> None:
    from router.gateway.channel import Channel, Metrics, Ready, ReloadAsked
    from router.telemetry import logs

    channel = await Channel.open(end)
    settings = await _settings(channel)
    drain_s = settings.config.gateway.drain_deadline_s
    parent = _Parent(channel, drain_s, lambda: Metrics({}))  # control has a page of metrics of its own
    async with _failures_told(channel):
        logs.configure(settings.config.log, process="control")
        logs.write_uncaught()
        ask = partial(channel.send, ReloadAsked())
        await _run_control(settings, listener, parent.until_drain, lambda: channel.send(Ready()), ask)
    await parent.say_goodbye()


async def _run_control(
    settings: "Settings",
    listener: socket.socket,
    asked: Callable[[], Coroutine[Any, Any, object]],
    on_ready: Callable[[], None],
    ask_reload: Callable[[], None] | None = None,
) -> None:
    """Run control loop and admin API until `asked` returns. Raises when one of the two ends before."""
    # Before numpy is loaded: the judge's matrices are small, and more threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from router.admin.app import create_app
    from router.admin.reloads import Reloader
    from router.control.loop import ControlLoop
    from router.control.probe import probe
    from router.control.webhooks import build
    from router.plugins import load_policies
    from router.settings import webhook_secret
    from router.store.redis import RedisStore
    from router.supervisor.http_server import HttpServer

    store = RedisStore(settings.store_url)
    secret = webhook_secret(settings.config.webhooks, os.environ)
    webhooks = build(settings.config.webhooks, secret, time.time, time.monotonic, random.random)
    loop = ControlLoop(
        config=settings.config,
        store=store,
        policies=load_policies(),
        prober=probe,
        boot=settings.boot,
        now_s=time.time,
        monotonic=time.monotonic,
        webhooks=webhooks,
    )
    read = partial(load_config, Path(settings.file), os.environ)
    app = create_app(
        config=settings.config, store=store, control=loop, now_s=time.time, monotonic=time.monotonic,
        reloader=Reloader(read, ask_reload) if settings.file and ask_reload else None,
    )  # fmt: skip
    server = HttpServer(app, listener)
    lives = [asyncio.create_task(loop.run(), name="loop"), asyncio.create_task(server.run(), name="admin")]
    end = asyncio.create_task(asked())
    try:
        await server.wait_started()
        on_ready()
        done, _ = await asyncio.wait([*lives, end], return_when=asyncio.FIRST_COMPLETED)
        for life in lives:
            if life in done:
                life.result()
                raise RuntimeError(f"{life.get_name()} ended although nobody asked it to")
    finally:
        server.stop()
        lives[0].cancel()
        end.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await webhooks.aclose()
        await store.close()


class _Parent:
    """The other end of a child's channel: answers what the parent asks until it, or SIGTERM, asks for the end.

    The parent says how long that may take, SIGTERM means `deadline_s`.
    """

    def __init__(self, channel: "Channel", deadline_s: float, metrics: "Callable[[], Metrics]") -> None:
        self._channel = channel
        self._metrics = metrics
        loop = asyncio.get_running_loop()
        self._drain_s: asyncio.Future[float] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._ask, deadline_s)
        self._listening = asyncio.create_task(self._listen())

    async def until_drain(self) -> float:
        """Return the seconds left to finish what is under way, once that is asked for."""
        self._listening.add_done_callback(self._stop_listening)
        return await self._drain_s

    async def say_goodbye(self) -> None:
        """Hand over the last metrics; the process ends after this."""
        self._listening.cancel()
        self._channel.send(self._metrics())
        await self._channel.flush()

    async def _listen(self) -> None:
        from router.gateway.channel import Drain, MetricsRequest, Modules, ModulesRequest

        while (message := await self._channel.receive()) is not None:
            match message:
                case MetricsRequest():
                    self._channel.send(self._metrics())
                case ModulesRequest():
                    self._channel.send(Modules(tuple(sorted(sys.modules))))
                case Drain():
                    self._ask(message.deadline_s)
                case _:
                    raise TypeError(f"the parent sent {type(message).__name__}, expected a request or Drain")
        os._exit(0)  # the parent is gone: nobody is left to replace, count or end this process

    def _stop_listening(self, listening: "asyncio.Task[None]") -> None:
        if not listening.cancelled() and (error := listening.exception()) and not self._drain_s.done():
            self._drain_s.set_exception(error)

    def _ask(self, deadline_s: float) -> None:
        if not self._drain_s.done():
            self._drain_s.set_result(deadline_s)


async def _settings(channel: "Channel") -> "Settings":
    from router.gateway.channel import Settings

    message = await channel.receive()
    if not isinstance(message, Settings):
        os._exit(0)  # the parent ended while we were starting
    return message


@asynccontextmanager
async def _failures_told(channel: "Channel") -> AsyncIterator[None]:
    """Tell the parent why this process cannot go on, and whether another one could."""
    from router.gateway.channel import Failed

    try:
        yield
    except Exception as error:
        known = isinstance(error, TurnoutError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        channel.send(Failed(reason, lasting=isinstance(error, (ConfigError, PluginError))))
        await channel.flush()
        if known:
            os._exit(1)  # the parent has the sentence; a traceback would add nothing
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
