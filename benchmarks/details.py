"""What a row of each kind must hold in its `values` and `details`, as pages and tables take it out without asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from runtime.decode import Byte, Count, Mismatch, Number, Share, decoded

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement

Milliseconds = Annotated[int, Meta(ge=0, le=10**9)] | Annotated[float, Meta(ge=0, le=1e9)]
Picture = Annotated[str, Meta(pattern=r"^(?!/)(?!.*\.\.)[^\\\x00-\x1f]+$(?!\n)", max_length=300)]
"""A path below the folder of the rows."""


@dataclass(frozen=True)
class Sustained:
    """The curve of a run without a pause; see `benchmarks.sustained.Moment`."""

    at_s: tuple[Number, ...]
    fps: tuple[Number, ...]
    temperature_c: tuple[Number | None, ...]
    clock_mhz: tuple[Number | None, ...]

    def __post_init__(self) -> None:
        if not self.at_s or {len(self.at_s)} != {len(self.fps), len(self.temperature_c), len(self.clock_mhz)}:
            raise ValueError("lists of different lengths, or empty ones, were received; expected one value a moment")


@dataclass(frozen=True)
class Latency:
    """Times of all stages, how much longer than others' they are: (ratio, low, high), and the processor before and
    after."""

    rule: str
    rounds_ms: tuple[Milliseconds, ...]
    stages_ms: Mapping[str, Milliseconds]
    ratios: Mapping[str, tuple[Number, Number, Number]] = field(default_factory=dict)
    threads: Count | None = None
    sustained: Sustained | None = None
    temperature_c: tuple[Number, Number] | None = None
    clock_mhz: tuple[Number, Number] | None = None
    rounds_of_a_run_that_broke_off: Count = 0


@dataclass(frozen=True)
class Pipeline:
    """What a minutes' run on a video leaves."""

    sustained: Sustained | None = None


@dataclass(frozen=True)
class Overlay:
    """One frame's pictures."""

    mask: Picture
    label: Picture


@dataclass(frozen=True)
class AccuracyDetails:
    """IoU of every class (None where no frame has it), and what pictures of it were drawn."""

    iou_by_class: Mapping[str, Share | None]
    overlays: Mapping[str, Overlay] = field(default_factory=dict)
    palette: Mapping[str, tuple[Byte, Byte, Byte]] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerRecord:
    """One kernel; see `benchmarks.kernels.Kernel`."""

    name: str
    op: str
    kind: str
    ms: Milliseconds
    flops: Count
    bytes: Count
    shape: tuple[Count, ...]
    by_shape: bool

    def __post_init__(self) -> None:
        if self.flops and not (self.ms and self.bytes):
            raise ValueError("a layer with FLOPs, and no time or no bytes, was received; expected all three")


@dataclass(frozen=True)
class Layers:
    """Where the time goes, and that in words."""

    layers: tuple[LayerRecord, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Complexity:
    """What the totals leave out."""

    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """How far an artifact was judged that nothing here can run."""

    judged: str


@dataclass(frozen=True)
class Skipped:
    """Why nothing was measured."""

    reason: str


KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "latency": (Latency, ("p50_ms", "p90_ms")),
    "accuracy": (AccuracyDetails, ("miou", "miou_low", "miou_high")),
    "layers": (Layers, ("peak_gflops", "peak_gbytes", "ridge")),
    "pipeline": (Pipeline, ()), "complexity": (Complexity, ()),
    "built": (Built, ("model_mb",)), "skipped": (Skipped, ())}
"""Kind → its details, and the figures that it must have. Other kinds are for people only."""


def check_details(entry: Measurement) -> None:
    """See that a row holds what its kind must.

    Raises:
        Mismatch: what stands where, and what was expected there.
    """
    kind, figures = KINDS.get(entry.kind, (None, ()))
    for name in figures:
        if name not in entry.values:
            raise Mismatch(f"values.{name}", f"a row of the kind {entry.kind!r} has no figure {name!r}")
    if kind is not None:
        decoded(kind, dict(entry.details), whole=False, part=True)
