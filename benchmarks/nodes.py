"""A sweep on a Ray cluster: exports side by side on all nodes; time and accuracy on one whole node of each kind.

A node is of a kind when it was started with `ray start --labels edgeseg-kind=KIND`. A measurement there holds all
of its cores, so that Ray puts nothing beside it, and goes through the candidates one at a time; kinds work side by
side. All nodes share the disk that data and output lie on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.plan import Make, Say, Sweep, SweepItem
from runtime.errors import EdgesegError, GateFailed, UserError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from runtime.cluster import Cluster

Made = Mapping[SweepItem, "Path | EdgesegError"]
Run = Callable[[Sweep, Sequence[SweepItem], Say, Make], object]


def kinds(text: str) -> list[str]:
    """Parse "KIND,…"."""
    found = text.split(",")
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} are no kinds of nodes; expected names, each once: pi5,jetson")
    return found


def sweep_on(address: str, wanted_kinds: Sequence[str], sweep: Sweep, wanted: Sequence[SweepItem], run: Run, make: Make,
             say: Say) -> None:
    """Export on all nodes, then measure.

    Args:
        address: of the cluster.
        wanted_kinds: of nodes to measure on; none to measure here when all is exported.
        sweep, wanted, say: as `benchmarks.sweep.run` takes them.
        run, make: that function, and how an artifact is made.

    Raises:
        UserError: no node is of a kind that is asked for.
        Incomplete: a node failed for as often as it was tried; what it had measured is kept there for the next time.
    """
    from benchmarks.measurement import append
    from runtime.cluster import Cluster
    from runtime.workers import in_order

    there = replace(sweep, data=sweep.data.absolute(), out=sweep.out.absolute(),
                    calibration=sweep.calibration and sweep.calibration.absolute())
    with Cluster(address) as cluster:
        whole = {kind: _node_of(cluster, kind) for kind in wanted_kinds}
        say(f"{len(wanted)} exports on the cluster")
        made: Made = dict(zip(wanted, in_order(cluster.pool(partial(_exports, there, make)), wanted)))
        measuring = partial(_measuring, there, tuple(wanted), made, run)
        with ThreadPoolExecutor(max(len(whole), 1)) as threads:
            pools = {kind: cluster.pool(measuring, 1, **options) for kind, options in whole.items()}
            found = {kind: threads.submit(lambda pool, kind: next(iter(in_order(pool, [kind]))), pool, kind)
                     for kind, pool in pools.items()}
            for kind, rows in found.items():
                new = unknown(rows.result(), sweep.known())
                append(sweep.rows, new)
                say(f"{kind}: {len(new)} new rows")
    if not wanted_kinds:
        run(sweep, wanted, say, partial(_looked_up, made))


def unknown(rows: Sequence[Measurement], known: Sequence[Measurement]) -> list[Measurement]:
    """Those that are new: a row of an earlier run comes again under the name of the node that sent it."""
    there = [_anywhere(row) for row in known]
    return [row for row in rows if _anywhere(row) not in there]


def _anywhere(row: Measurement) -> Measurement:
    return replace(row, machine={key: value for key, value in row.machine.items() if key != "node"})


def _node_of(cluster: Cluster, kind: str) -> dict[str, Any]:
    """What to ask Ray for so as to have a node of a kind for oneself."""
    cores = [node.cores for node in cluster.nodes() if node.kind == kind]
    if not cores:
        raise UserError(f"no node of the cluster is of the kind {kind!r}; expected one started with that label",
                        try_=f"ray start --labels edgeseg-kind={kind} --address HEAD:6379, on such a machine")
    return {"threads": min(cores), "kind": kind}


def _exports(sweep: Sweep, make: Make) -> Callable[[SweepItem], Path | EdgesegError]:
    """A worker's function: makes an artifact on the shared disk; a refusal is an answer and not a failure."""
    def export(candidate: SweepItem) -> Path | EdgesegError:
        try:
            return make(candidate, sweep, lambda line: None)
        except (UserError, GateFailed) as error:
            return error

    return export


def _looked_up(made: Made, candidate: SweepItem, sweep: Sweep, say: Say) -> Path:
    """In place of making an artifact."""
    found = made[candidate]
    if isinstance(found, EdgesegError):
        raise found
    return found


def _measuring(sweep: Sweep, wanted: Sequence[SweepItem], made: Made, run: Run) -> Callable[[str], list[Measurement]]:
    """A worker's function: the sweep on this node, in a folder of its kind, and the rows that it has in the end."""
    from runtime.cluster import this_node
    from runtime.sessions import engines

    def measure(kind: str) -> list[Measurement]:
        asked = {name for names in sweep.engines.values() for name in names}
        unable = {name: why for name in sorted(asked) if (why := engines()[name].hindrance())}
        able = {target: tuple(name for name in names if name not in unable) for target, names in sweep.engines.items()}
        here = replace(sweep, out=sweep.out / kind, engines=able, unable=unable)
        here.out.mkdir(exist_ok=True)
        run(here, wanted, lambda line: None, partial(_looked_up, made))
        return [_named(row, kind, this_node()) for row in here.known()]

    return measure


def _named(row: Measurement, kind: str, node: str) -> Measurement:
    """A row that says where it was measured, and whose pictures are found from the folder above."""
    overlays = {frame: {what: f"{kind}/{path}" for what, path in files.items()}
                for frame, files in row.details.get("overlays", {}).items()}
    details = {**row.details, **({"overlays": overlays} if overlays else {})}
    return replace(row, machine={**row.machine, "board": kind, "node": node} if row.machine else row.machine,
                   details=details)
