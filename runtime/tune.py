"""How many frames at a time, and how many threads for each: measured here, once per artifact and machine.

Which way is fastest depends on the network, the engine's version and the cores, and is wrong as often as not when it is
guessed. So it is measured on request (`--tune`), remembered in the user's cache folder, and used from then on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import numpy as np
from msgspec import Meta

from runtime import cpuinfo
from runtime.artifact import Artifact
from runtime.channel import Policy
from runtime.decode import Number, decoded, parsed, read
from runtime.files import cache_folder, write_text
from runtime.sessions import Session, engine_for, engines, open_session
from runtime.turns import come_to_rest

log = logging.getLogger(__name__)

ROUNDS = 5
SECONDS = 0.25
"""Each setting gets a turn of about so long in every round."""

Workers = Annotated[int, Meta(ge=1, le=1024)]


@dataclass(frozen=True)
class Setting:
    """How an engine is used.

    Attributes:
        workers: frames that it works on at a time, each in a session of its own.
        threads: threads within one frame.
    """

    workers: Workers
    threads: Workers


@dataclass(frozen=True)
class Tuning:
    """What was measured, and what follows from it.

    Attributes:
        every: the setting with the most frames per second, for files.
        latest: the one-worker setting with the shortest inference, for cameras: frames side by side are each older.
        fps: frames per second by "workers x threads", median of the rounds.
    """

    every: Setting
    latest: Setting
    fps: Mapping[str, Number]

    def setting(self, policy: Policy) -> Setting:
        """The one to use under a policy."""
        return self.latest if policy is Policy.LATEST else self.every


def candidates(cores: int) -> list[Setting]:
    """Settings that occupy at most all cores: 1, 2, 4, ... workers and threads, and all cores either way."""
    steps = sorted({2**k for k in range(cores.bit_length())} & set(range(1, cores + 1)) | {cores})
    return [Setting(workers, threads) for workers in steps for threads in steps if workers * threads <= cores]


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tune(artifact: Artifact, path: Path, engine: str | None = None, *, settings: Iterable[Setting] | None = None,
         rate: Callable[[list[Session], np.ndarray, float], float] | None = None) -> Tuning:
    """Measure every setting in turns, round after round, so that a busy moment affects all of them alike.

    Args:
        artifact: what the JSON says; a dynamic one is measured at its nominal size.
        path: its file.
        engine: as in `runtime.sessions.engine_for`.
        settings: what to try; None for `candidates(cores())`.
        rate: (sessions, input, seconds) → frames per second; for tests.
    """
    tried = list(settings or candidates(cores()))
    measure = rate or _rate
    x = np.random.default_rng(0).integers(0, 256, (1, *artifact.preprocess.size, 3), np.uint8)
    opened = {s: [open_session(artifact, path, engine=engine, threads=s.threads) for _ in range(s.workers)]
              for s in tried}
    try:
        for sessions in opened.values():
            for session in sessions:
                session.run(x)  # the first run allocates
        rounds = [{s: measure(opened[s], x, SECONDS) for s in tried} for _ in range(ROUNDS)]
    finally:
        for sessions in opened.values():
            for session in sessions:
                session.close()
    fps = {s: median(r[s] for r in rounds) for s in tried}
    return Tuning(max(tried, key=lambda s: fps[s]), max((s for s in tried if s.workers == 1), key=lambda s: fps[s]),
                  {f"{s.workers}x{s.threads}": fps[s] for s in tried})


def _rate(sessions: list[Session], x: np.ndarray, seconds: float) -> float:
    """Frames per second of all sessions together, each in a thread of its own."""
    counts = [0] * len(sessions)
    come_to_rest()
    start = perf_counter()

    def work(index: int) -> None:
        while perf_counter() - start < seconds or not counts[index]:
            sessions[index].run(x)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (perf_counter() - start)


def recall(artifact: Artifact, engine: str | None = None) -> Tuning | None:
    """What was remembered for this artifact on this machine; None when nothing was, or it cannot be read."""
    try:
        values = parsed(read(_path(artifact, engine_for(artifact, engine))))
        return decoded(Tuning, values, part=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("what --tune remembered cannot be read (%s); tune again", error)
        return None


def remember(artifact: Artifact, tuning: Tuning, engine: str | None = None) -> Path:
    """Keep it for the next time; atomic.

    Returns:
        The file.
    """
    name = engine_for(artifact, engine)
    path = _path(artifact, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = asdict(tuning) | {"artifact": artifact.file, "machine": _machine(name)}
    write_text(path, json.dumps(values, indent=2) + "\n")
    return path


def _path(artifact: Artifact, engine: str) -> Path:
    """`<cache>/edgeseg/tune-<hash of engine and machine>.json`."""
    key = hashlib.sha256(json.dumps([artifact.sha256, *_machine(engine)]).encode()).hexdigest()[:16]
    return cache_folder() / f"tune-{key}.json"


def _machine(engine: str) -> list[str]:
    """What must be the same for a measurement to hold: processor, cores that we may use, engine and its versions."""
    name = next(iter(cpuinfo.values("model name")), "")
    versions = [f"{package} {number}" for package, number in engines()[engine].versions().items()]
    return [platform.machine(), name or platform.processor(), str(cores()), engine, *versions]
