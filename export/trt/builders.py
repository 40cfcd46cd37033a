"""TensorRT 10, TensorRT 11 and TensorRT-RTX behind one interface: an ONNX graph in, a plan out.

All three build strongly typed networks: the graph alone decides what is float32, float16 or int8. They differ in three
places only, which are the methods of `_Rtx`, `_Trt10` and `_Trt11`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.trt.library import Library
from runtime.cli import status
from runtime.errors import UserError
from runtime.files import in_one_piece
from runtime.sessions._cuda import Gpu
from runtime.sessions._plan import header_problem, log_of
from runtime.signals import Held

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """Settings of a build, besides the graph.

    Attributes:
        name: the network's name inside the plan, at most 128 characters.
        sm: compute capabilities (SM numbers, e.g. 86); TensorRT-RTX only. Empty for its default, 80 and later.
        workspace_mib: limit of the scratch memory; None for the library's own.
        profile: smallest, usual and largest input shape of a dynamic graph.
        timing_cache: file that keeps measured tactics between builds; TensorRT only.
    """

    name: str
    sm: tuple[int, ...] = ()
    workspace_mib: int | None = None
    profile: tuple[Shape, Shape, Shape] | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class PlanLayer:
    """A layer as the network definition has it, before the builder fuses anything."""

    name: str
    kind: str
    precision: str


@dataclass(frozen=True)
class BuiltPlan:
    """A built engine.

    Attributes:
        data: the plan file's bytes.
        seconds: how long parsing and building took.
        layers: of the network definition.
        inputs, outputs: (name, shape, dtype) of the network definition.
        activation_bytes: peak of the memory for intermediate tensors, as the builder logs it; None when it does not.
        compute_capabilities: what it runs on, e.g. ("8.6",).
        warnings: what the library remarked, and what we know of it.
    """

    data: bytes
    seconds: float
    layers: list[PlanLayer]
    inputs: list[tuple[str, Shape, str]]
    outputs: list[tuple[str, Shape, str]]
    activation_bytes: int | None
    compute_capabilities: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)


class _Rtx:
    """TensorRT-RTX: compute capabilities instead of a GPU at hand; nothing is timed, so nothing is cached."""

    DEFAULT = (80, 86, 89, 120)  # CPU-Only AOT and TensorRT-RTX Engines, docs.nvidia.com/deeplearning/tensorrt-rtx

    def flags(self, trt: Any) -> int:
        return 0

    def configure(self, trt: Any, config: Any, settings: Settings) -> None:
        if not settings.sm:
            return
        config.num_compute_capabilities = len(settings.sm)
        for index, number in enumerate(settings.sm):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{number}"), index)

    def finish(self, config: Any, settings: Settings) -> None:
        pass

    def remarks(self, layers: list[PlanLayer]) -> list[str]:
        # Support Matrix, docs.nvidia.com/deeplearning/tensorrt-rtx; LR-ASPP: 35 MB in INT8, 17 MB in float32
        note = ("INT8 convolutions are not in its support matrix, only weight-only INT8 matrix products; the plan may "
                "be larger and slower than with --precision fp16")
        return [note] if any(layer.kind == "QUANTIZE" for layer in layers) else []

    def targets(self, settings: Settings, gpu: Gpu | None) -> tuple[str, ...]:
        return tuple(f"{number // 10}.{number % 10}" for number in settings.sm or self.DEFAULT)


class _Trt11:
    """TensorRT 11: always strongly typed; for the GPU at hand."""

    def flags(self, trt: Any) -> int:
        return 0

    def configure(self, trt: Any, config: Any, settings: Settings) -> None:
        if settings.timing_cache:
            kept = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
            cache = config.create_timing_cache(kept)
            if not config.set_timing_cache(cache, False):
                raise UserError(f"TensorRT refuses its timing cache {settings.timing_cache}",
                                try_=f"rm {settings.timing_cache}")

    def finish(self, config: Any, settings: Settings) -> None:
        if settings.timing_cache:
            settings.timing_cache.parent.mkdir(parents=True, exist_ok=True)
            with in_one_piece(settings.timing_cache) as temporary:
                temporary.write_bytes(bytes(config.get_timing_cache().serialize()))

    def remarks(self, layers: list[PlanLayer]) -> list[str]:
        return []

    def targets(self, settings: Settings, gpu: Gpu | None) -> tuple[str, ...]:
        return (gpu.sm,) if gpu else ()


class _Trt10(_Trt11):
    """TensorRT 10: strongly typed when asked."""

    def flags(self, trt: Any) -> int:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def build_plan(library: Library, model: bytes, settings: Settings, gpu: Gpu | None = None) -> BuiltPlan:
    """Build.

    Args:
        library: which one.
        model: serialised ONNX graph.
        settings: see there.
        gpu: the GPU of this machine, if any.

    Raises:
        UserError: the library cannot read the graph, or cannot build it; its own words, and the node.
        KeyboardInterrupt: Ctrl-C, after the builder has come to a clean stop.
    """
    trt = library.module
    kind = _Rtx() if library.rtx else _Trt10() if library.version.startswith("10.") else _Trt11()
    start = time.perf_counter()
    log = log_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(kind.flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        error = parser.get_error(0)
        raise UserError(f"{library.title} cannot read node {error.node_name()!r} ({error.node_operator()}): "
                        f"{' '.join(error.desc().split())[:300]}",
                        try_="python -m export.onnx NAME for ONNX Runtime, or a network without that operator")
    assert len(settings.name) <= 128
    network.name = settings.name
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # a few kB, and the plan can be inspected for ever
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32: TF32 has ten bits of mantissa
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    if settings.profile:
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, *settings.profile)
        config.add_optimization_profile(profile)
    kind.configure(trt, config, settings)
    layers = _layers(network)
    with _interruptible(trt, config):
        data = builder.build_serialized_network(network, config)
    if data is None:
        raise UserError(f"{library.title} cannot build the graph ({log.last()})",
                        try_="a larger --workspace" if "memory" in log.last().lower() else "--precision fp32")
    kind.finish(config, settings)
    plan = bytes(data)
    _check_header(trt, log, plan)
    return BuiltPlan(plan, time.perf_counter() - start, layers,
                [_border(network.get_input(i)) for i in range(network.num_inputs)],
                [_border(network.get_output(i)) for i in range(network.num_outputs)],
                _activation_bytes(log), kind.targets(settings, gpu),
                sorted({text for severity, text in log.lines if severity == "WARNING"}) + kind.remarks(layers))


def _layers(network: Any) -> list[PlanLayer]:
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return [PlanLayer(layer.name, layer.type.name, layer.get_output(0).dtype.name if layer.num_outputs else "")
            for layer in layers]


def _border(tensor: Any) -> tuple[str, Shape, str]:
    return tensor.name, tuple(max(n, 0) for n in tensor.shape), tensor.dtype.name.lower()


def _activation_bytes(log: Any) -> int | None:
    found = (re.search(r"Total Activation Memory: (\d+) bytes", text) for _, text in reversed(log.lines))
    return next((int(match[1]) for match in found if match), None)


def _check_header(trt: Any, log: Any, plan: bytes) -> None:
    """A plan whose header TensorRT-RTX does not recognise must not be written."""
    problem = header_problem(trt, trt.Runtime(log), plan)
    if problem in ("MALFORMED_ENGINE", "VERSION_MISMATCH"):
        raise UserError(f"{trt.__name__} {trt.__version__} does not recognise the plan that it built ({problem})",
                        try_="pip install --force-reinstall tensorrt-rtx-cu13")


@contextmanager
def _interruptible(trt: Any, config: Any) -> Iterator[None]:
    """Show the build's progress on a terminal, and let Ctrl-C or SIGTERM stop it where the builder allows (an exception
    thrown through C++ would end the process)."""
    hold = Held(timeout_s=math.inf)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            status(f"{phase} {step + 1}/{self.steps.get(phase, 0)}"[:78])
            return not hold

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    config.progress_monitor = Monitor()
    try:
        with hold:
            yield
    finally:
        status("")
