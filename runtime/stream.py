"""Frames in, results out, at the engine's own speed: every stage in its own thread, in order, and never stuck.

    for result in Stream("lraspp-360x480-fp32.onnx", "street.mp4"):
        print(result.index, result.mask.shape)

    read ─▶ (plan) ─▶ inference × workers ─▶ finish: mask, refine, draw ─▶ the caller's loop

A frame, the end of the source and an error all travel the same way, each in its place. So whatever came before an error
is delivered first, every thread ends by itself, and closing any channel takes down all that lies before it.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, TypeAlias

import numpy.typing as npt

from runtime.artifact import Artifact, open_artifact
from runtime.channel import Channel, Closed, Policy
from runtime.errors import EdgesegError, StageFailed
from runtime.job import FrameJob
from runtime.overlay import Mask, Painter
from runtime.preprocess import Frame
from runtime.result import StreamResult
from runtime.segmenter import Segmenter
from runtime.sessions import open_session
from runtime.sources import Shot, Source, from_frames, open_source, paced
from runtime.temporal import Temporal
from runtime.timing import Rate
from runtime.tune import recall

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
"""How long closing waits for a thread that sits in a decoder or an engine."""

Refine = Callable[[Frame, npt.NDArray[Any], Mask], Mask]
"""(frame, what the engine returned without its batch dimension, mask) → a better mask of the same size."""


@dataclass(frozen=True)
class _End:
    """The last thing in a channel: the source's end, or a stage's error."""

    error: BaseException | None = None


_Item: TypeAlias = "FrameJob | _End"
Stage = Callable[[FrameJob], None]


class Stream:
    """Iterate over it once. Leaving the loop, however it happens, ends every thread; `close()` does so from outside.

    Args:
        artifact: an engine file or its JSON; or an opened segmenter, which works on one frame at a time and stays open.
        source: what `runtime.sources.open_source` takes, an opened source, or BGR frames of one's own.
        policy: what happens when frames come faster than they can be worked on; None takes `LATEST` for cameras and
            `EVERY` for the rest. `LATEST` with a file plays it at its own rate, as if it were a camera.
        workers: how many frames the engine works on at a time, each in a session of its own.
        threads: threads within one frame. With neither given, what `runtime.tune` measured here for this artifact is
            used, else one worker with the threads that the engine chooses; several workers have one thread each.
        draw: whether to make overlays.
        alpha: weight of the class colours.
        every: the network sees every so many frames; the masks in between follow the motion (`runtime.temporal`).
        warp: False leaves the masks in between as they were.
        smooth: blend logits over time, against flicker.
        refine: improves a mask by looking at the frame, such as `runtime.refine`'s CRF; may be set before the loop.
        engine: as in `Segmenter.open`.

    Raises:
        UserError: the artifact or the source cannot be used.

    Iterating raises what went wrong in any stage, after the results of all frames before it.
    """

    def __init__(self, artifact: str | Path | Segmenter, source: str | Source | Iterable[Frame], *,
                 policy: Policy | None = None, workers: int | None = None, threads: int | None = None,
                 draw: bool = True, alpha: float = 0.5, every: int = 1, warp: bool = True, smooth: bool = False,
                 refine: Refine | None = None, engine: str | None = None) -> None:
        lent = artifact if isinstance(artifact, Segmenter) else None
        self.artifact, file = (lent.artifact, Path()) if lent else open_artifact(artifact)  # type: ignore[arg-type]
        opened = open_source(source) if isinstance(source, str) else source
        self.source = opened if isinstance(opened, Source) else from_frames(opened)
        self.policy = policy or (Policy.LATEST if self.source.live else Policy.EVERY)
        self.workers, self.threads = (1, threads) if lent else _setting(
            self.artifact, engine, self.policy, workers, threads)
        self._segmenters = [lent or Segmenter(
            self.artifact, open_session(self.artifact, file, engine=engine, threads=self.threads))
            for _ in range(self.workers)]
        self._lent = lent is not None
        self._temporal = _temporal(self.artifact, every, warp, smooth)
        self.refine = refine
        self._painter = Painter(self.artifact.classes, self.artifact.palette, alpha) if draw else None
        self._rate = Rate()
        self._taken: Channel[_Item] = Channel(1 if self.policy is Policy.LATEST else 2, self.policy)
        self._channels = [self._taken]
        self._threads = self._wire()

    @property
    def dropped(self) -> int:
        """Frames dropped so far."""
        return self._taken.dropped

    def _wire(self) -> list[threading.Thread]:
        """One thread per worker of every stage, with a channel before and after each stage."""
        stages: list[tuple[str, list[Stage]]] = [
            ("inference", [_timed_inference(s) for s in self._segmenters]), ("finish", [self._finish])]
        if self._temporal:
            stages.insert(0, ("plan", [self._temporal.plan]))
        threads = [threading.Thread(target=self._read, name="edgeseg read", daemon=True)]
        for name, functions in stages:
            before, after = self._channels[-1], Channel[_Item](len(functions) + (self.policy is Policy.EVERY))
            self._channels.append(after)
            threads += [threading.Thread(target=_work, args=(name, function, before, after), daemon=True,
                                         name=f"edgeseg {name} {i}") for i, function in enumerate(functions)]
        return threads

    def _read(self) -> None:
        # A file is played as if it were a camera; what comes through a pipe or from a program has a pace of its own.
        played = self.policy is Policy.LATEST and not self.source.live and (self.source.fps or self.source.count)
        shots = paced(self.source) if played else self.source.shots
        place = 0
        try:
            try:
                for place, job in enumerate(_jobs(shots)):
                    self._taken.put(place, job)
                    place += 1
                end = _End()
            except Closed:
                raise
            except BaseException as error:
                end = _End(_attributed("read", place, error))
            self._taken.put(place, end, wait=True)
        except Closed:
            pass
        finally:
            getattr(shots, "close", lambda: None)()  # releases the camera or file in the thread that read it

    def _finish(self, job: FrameJob) -> None:
        """Everything that must see the frames in order: temporal reuse, smoothing, the mask, the drawing."""
        start = perf_counter()
        if job.key:
            assert job.output is not None
            if self._temporal:
                self._temporal.blend(job)
            job.mask = self._segmenters[0].mask(job.output, (job.frame.shape[0], job.frame.shape[1]))
            if self.refine:
                masked = perf_counter()
                job.mask = self.refine(job.frame, job.output, job.mask)
                job.ms["refine"] = 1e3 * (perf_counter() - masked)
        if self._temporal:
            self._temporal.share(job)
        masked = perf_counter()
        job.ms["mask"] = 1e3 * (masked - start) - job.ms.get("refine", 0.0)
        self._rate.tick()
        if self._painter:
            how = f"inference {job.ms['inference']:.0f} ms" if job.key else "mask carried over"
            line = self._rate.line() + how
            job.overlay = self._painter(job.frame, job.mask, line)
            job.ms["draw"] = 1e3 * (perf_counter() - masked)

    def __iter__(self) -> Iterator[StreamResult]:
        if any(thread.ident for thread in self._threads):
            raise RuntimeError("a Stream can be iterated over once; make another one")
        atexit.register(self.close)  # a program may end in the middle, and a thread cut off inside an engine aborts it
        for thread in self._threads:
            thread.start()
        try:
            while True:
                item = self._channels[-1].get()[1]
                if isinstance(item, _End):
                    if item.error:
                        raise item.error
                    return
                yield StreamResult(item.mask, item.ms, item.frame, self.artifact, item.output, item.index,
                                   item.timestamp, item.overlay, 1e3 * (perf_counter() - item.arrived), self.dropped)
        except Closed:
            return  # closed from outside
        finally:
            self.close()

    def stop(self) -> None:
        """End the iteration, from any thread: what is on its way is dropped. `close` waits until all have noticed."""
        self.source.closed.set()
        for channel in self._channels:
            channel.close()

    def close(self) -> None:
        """End every thread and release the engine. A second call does nothing."""
        atexit.unregister(self.close)
        self.stop()
        for thread in self._threads:
            if thread.ident and thread is not threading.current_thread():
                thread.join(_TIMEOUT_S)
                if thread.is_alive():
                    log.warning("%s is still busy after %.0f s and is left behind", thread.name, _TIMEOUT_S)
                    return  # it still uses the engine, which must not be released
        for segmenter in [] if self._lent else self._segmenters:
            segmenter.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _temporal(artifact: Artifact, every: int, warp: bool, smooth: bool) -> Temporal | None:
    """What looks at several frames at once, when that is asked for."""
    if every == 1 and not smooth:
        return None
    return Temporal(artifact, every=every, warp=warp, smooth=smooth)


def _setting(artifact: Artifact, engine: str | None, policy: Policy, workers: int | None,
             threads: int | None) -> tuple[int, int | None]:
    """Workers and threads: as given, else as measured here before, else one worker and the engine's own choice."""
    if workers is None and threads is None and (tuning := recall(artifact, engine)):
        setting = tuning.setting(policy)
        return setting.workers, setting.threads
    workers = workers or 1
    return workers, 1 if threads is None and workers > 1 else threads


def _jobs(shots: Iterable[Shot]) -> Iterator[FrameJob]:
    start = perf_counter()
    for index, (frame, seconds) in enumerate(shots):
        now = perf_counter()
        yield FrameJob(index, seconds, frame, now, {"read": 1e3 * (now - start)})
        start = perf_counter()


def _timed_inference(segmenter: Segmenter) -> Stage:
    def infer(job: FrameJob) -> None:
        if job.key:
            start = perf_counter()
            x = segmenter.prepare(job.frame)
            prepared = perf_counter()
            job.output = segmenter.infer(x)
            job.ms |= {"preprocess": 1e3 * (prepared - start), "inference": 1e3 * (perf_counter() - prepared)}

    return infer


def _work(name: str, function: Stage, before: Channel[_Item], after: Channel[_Item]) -> None:
    """One worker of one stage, until the end comes by or either channel is closed."""
    try:
        while True:
            place, item = before.get()
            if isinstance(item, FrameJob):
                try:
                    function(item)
                except BaseException as error:
                    item = _End(_attributed(name, item.index, error))
            after.put(place, item)
            if isinstance(item, _End):
                return
    except Closed:
        pass
    finally:
        before.close()


def _attributed(stage: str, index: int, error: BaseException) -> BaseException:
    """The error as the caller sees it: our own as they are, anything else with the stage and the frame."""
    if isinstance(error, EdgesegError) and stage == "read":
        return error
    failed = StageFailed(f"the {stage} stage failed at frame {index} ({type(error).__name__}: {error})")
    failed.exit_code = error.exit_code if isinstance(error, EdgesegError) else failed.exit_code
    failed.__cause__ = error
    return failed
