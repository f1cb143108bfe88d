"""Several servers of our own that form one store: a cluster of three, or a primary, a replica and three sentinels.

Each server listens on a free port of the loopback and keeps its files in a directory of its own. All of them are
ended by `stop`, whatever has become of them.
"""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from router.store.embedded import find_binary

READY_S = 20.0
MASTER = "turnout"


@contextmanager
def one_server(directory: Path) -> Iterator["Node"]:
    """Run one Valkey that listens on a port and keeps nothing on disk."""
    node = Node(find_binary(), directory, free_ports(1)[0], "--save", "")
    try:
        wait_until(lambda: node.ask("PING"), "the server answers")
        yield node
    finally:
        node.stop()


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition: Callable[[], object], what: str, within_s: float = READY_S) -> float:
    """Return after how many seconds `condition` held; errors of servers that are not up yet count as not yet."""
    began_s = time.monotonic()
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return time.monotonic() - began_s
        assert time.monotonic() - began_s < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)


class Node:
    """One server process."""

    def __init__(self, binary: str | Path, directory: Path, port: int, *settings: str) -> None:
        self.port = port
        self.directory = directory
        directory.mkdir(parents=True)
        self._command = [str(binary), *settings, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again, on its port and its data."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ask(self, *command: str | int) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""
        with redis.Redis(port=self.port, socket_timeout=5.0, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def stop(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class Fleet:
    """Some nodes and the URL of the store they form."""

    def __init__(self, url: str, nodes: list[Node], sentinels: list[Node]) -> None:
        self.url = url
        self.nodes = nodes
        self.sentinels = sentinels

    def __repr__(self) -> str:
        return f"<Fleet {self.url}>"

    def primary(self) -> Node:
        """Return the node that most sentinels name."""
        ports = [int(one.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) for one in self.sentinels]
        port = max(set(ports), key=ports.count)
        return next(node for node in self.nodes if node.port == port)

    def until_replicated(self) -> None:
        """Return when the sentinels see two of three, and the other node is an online replica of the primary."""

        def whole() -> bool:
            for one in self.sentinels:
                flat = one.ask("SENTINEL", "MASTER", MASTER)
                told = dict(zip(flat[::2], flat[1::2], strict=True))
                if (told[b"num-other-sentinels"], told[b"num-slaves"], told[b"flags"]) != (b"2", b"1", b"master"):
                    return False
            return b"state=online" in self.primary().ask("INFO", "replication")

        wait_until(whole, "the replica is online, and known to sentinels that know each other")


@contextmanager
def cluster(binary: str | Path, directory: Path) -> Iterator[Fleet]:
    """Run three primaries that share all slots, and know each other."""
    ports = free_ports(6)
    nodes = [
        Node(
            binary, directory / f"node{index}", port, "--cluster-enabled", "yes",
            "--cluster-port", str(ports[3 + index]),
            "--cluster-node-timeout", "1000", "--save", "", "--appendonly", "no",
        )
        for index, port in enumerate(ports[:3])
    ]  # fmt: skip
    try:
        for index, node in enumerate(nodes):
            wait_until(lambda node=node: node.ask("PING"), f"node {index} answers")  # type: ignore[misc]
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", index * 16_384 // 3, (index + 1) * 16_384 // 3 - 1)
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, ports[3 + index])
        wait_until(lambda: all(_whole(node) for node in nodes), "the cluster is whole")
        yield Fleet(f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}", nodes, [])
    finally:
        for node in nodes:
            node.stop()


def _whole(node: Node) -> bool:
    told = node.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and b"cluster_known_nodes:3" in told and len(node.ask("CLUSTER", "SLOTS")) == 3


@contextmanager
def watched(binary: str | Path, directory: Path) -> Iterator[Fleet]:
    """Run a primary with a replica, and three sentinels that fail over after 0.5 s of silence."""
    ports = free_ports(5)
    nodes = [Node(binary, directory / "node0", ports[0], "--save", "", "--repl-diskless-sync-delay", "0")]
    sentinels: list[Node] = []
    try:
        wait_until(lambda: nodes[0].ask("PING"), "the primary answers")
        replica = ("--save", "", "--replicaof", f"127.0.0.1 {ports[0]}", "--repl-diskless-sync-delay", "0")
        nodes.append(Node(binary, directory / "node1", ports[1], *replica))
        for index, port in enumerate(ports[2:]):
            file = directory / f"sentinel{index}.conf"
            file.write_text(
                f"sentinel monitor {MASTER} 127.0.0.1 {ports[0]} 2\n"
                f"sentinel down-after-milliseconds {MASTER} 500\n"
                f"sentinel failover-timeout {MASTER} 4000\n"
            )
            sentinels.append(Node(binary, directory / f"sentinel{index}", port, str(file), "--sentinel"))
        wait_until(lambda: all(one.ask("PING") for one in sentinels), "the sentinels answer")
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        fleet = Fleet(f"redis+sentinel://{hosts}/{MASTER}", nodes, sentinels)
        fleet.until_replicated()
        yield fleet
    finally:
        for node in [*sentinels, *nodes]:
            node.stop()
