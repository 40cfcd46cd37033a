"""Workers on a Ray cluster: actors, each with cores of its own, on whichever machine has them.

Ray finds the machines, starts and restarts nothing by itself here (`runtime.workers` decides what is tried again), and
carries the opening and the tasks. Every machine needs the same edgeseg, Python and Ray; an image is the usual way.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from runtime import cli
from runtime.errors import UserError
from runtime.signals import own_handlers
from runtime.workers import Opening, Worker, attempt, in_order, opened

LOCAL = "local"
"""The address that stands for a cluster of this machine's own, for as long as the command runs."""


KIND = "edgeseg-kind"
"""The label of a node that says which board or kind of machine it is."""

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: what its label `KIND` says, "" where it has none, and its cores."""

    kind: str
    cores: int


def add_flag(parser: argparse.ArgumentParser) -> None:
    """`--ray`, which is the same in every command."""
    parser.add_argument("--ray", metavar="ADDRESS", help="work on a Ray cluster: HOST:6379, ray://HOST:10001, auto, or "
                        "local for one of this machine's own")


def mapped(address: str | None, opening: Opening, tasks: Iterable[Any]) -> Iterator[Any]:
    """What the work makes of each task, in their order: on a cluster, which is given all of them at once, or in this
    process where `address` is None, each when it is asked for.

    Raises:
        EdgesegError: as the work does here, or as `in_order` does on a cluster.
    """
    if address is None:
        yield from map(opening(), tasks)
        return
    with Cluster(address) as cluster:
        yield from in_order(cluster.pool(opening), list(tasks))


class Cluster:
    """A connection to a cluster. Use it as a context manager.

    Args:
        address: `LOCAL`, "auto", "HOST:6379" of a head that this machine is a node of, or "ray://HOST:10001".

    Attributes:
        dashboard: where a person can watch; "" where there is no dashboard.

    Raises:
        MissingLibrary: Ray is not installed.
        UserError: no cluster answers there.
    """

    def __init__(self, address: str) -> None:
        cli.need("--ray", "cluster", "ray")
        import ray

        from runtime.tune import cores

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
        own = {"num_cpus": cores()} if address == LOCAL else {}
        try:
            _knock(address)
            with own_handlers():
                context = ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"no Ray cluster answers at {address} ({error}); expected local, auto, HOST:6379 or "
                            "ray://HOST:10001", try_="ray status, on the head") from error
        self.dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else ""

    def nodes(self) -> list[Node]:
        """The machines that are there now and have cores to give."""
        import ray

        return [Node(node["Labels"].get(KIND, ""), int(node["Resources"]["CPU"])) for node in ray.nodes()
                if node["Alive"] and node["Resources"].get("CPU")]

    def pool(self, opening: Opening, count: int | None = None, threads: int = 1, kind: str = "") -> Actors:
        """Workers of this cluster.

        Args:
            opening: what each does first; carried to every machine once.
            count: how many; None for as many as there are cores now. More than fit wait for machines to come.
            threads: cores that each has for itself.
            kind: of the machines that they may be on; "" for any.
        """
        import ray

        there = int(ray.cluster_resources().get("CPU", 0)) // threads
        label = {"label_selector": {KIND: kind}} if kind else {}
        return Actors(opening, count or max(there, 1), {"num_cpus": threads, **label})

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        import ray

        ray.shutdown()


def _knock(address: str) -> None:
    """See that HOST:PORT accepts connections, as Ray would try for minutes; raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()


class Actors:
    """Workers that are actors.

    Args:
        opening: what each does first.
        count: how many.
        options: of each, as Ray has them: cores, labels of machines.
    """

    def __init__(self, opening: Opening, count: int, options: Mapping[str, Any]) -> None:
        import ray

        self.count = count
        self._options = options
        self._opening = ray.put(opening)

    def start_worker(self) -> Worker:
        """Ask Ray for one."""
        return _Actor(self._options, self._opening)


class _Actor:
    """This end of an actor. Its futures are Ray's, which fail when the actor or its machine is gone."""

    def __init__(self, options: Mapping[str, Any], opening: Any) -> None:
        import ray

        self._handle = ray.remote(_There).options(max_restarts=0, max_task_retries=0, **options).remote(opening)
        self.ready: Future[tuple[str, str]] = self._handle.ready.remote().future()

    def start(self, task: Any) -> Future[tuple[Any, str]]:
        future: Future[tuple[Any, str]] = self._handle.do.remote(task).future()
        return future

    def end(self) -> None:
        import ray

        ray.kill(self._handle)


def this_node() -> str:
    """The name of the machine that this actor is on; several nodes of a test's cluster are on one host."""
    import ray

    return f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:8]}"


class _There:
    """The actor itself."""

    def __init__(self, opening: Opening) -> None:
        self._work, self._error = opened(opening)

    def ready(self) -> tuple[str, str]:
        return this_node(), self._error

    def do(self, task: Any) -> tuple[Any, str]:
        assert self._work is not None
        return attempt(self._work, task)
