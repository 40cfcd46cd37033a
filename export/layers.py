"""The layers of a target's file with the time that an engine takes for each: what two engines are compared by.

A target whose file can be read for that holds `export/<name>/layers.py` with `timed(path, kernels)`.
"""

from __future__ import annotations

from dataclasses import dataclass

BEFORE = "input"
"""Kind and name of all that runs before the first layer: a frame's bytes become float, the mean is subtracted."""


@dataclass(frozen=True)
class TimedLayer:
    """A convolution or matrix product with constant weights, and what stands between it and the next one in the file:
    activations, additions, resizes, changes of layout.

    Attributes:
        name: the module's path in torch as far as the file has kept it; "" where it has not.
        kind: "3x3", "3x3 depthwise", "product", or `BEFORE`.
        channels: read and written, padding of the file included.
        cells: (H, W) of its result; (rows,) of a matrix product's.
        ms: in the engine.
    """

    name: str
    kind: str
    channels: tuple[int, int]
    cells: tuple[int, ...]
    ms: float

    @property
    def shape(self) -> tuple[str, tuple[int, ...]]:
        """What the same layer has in common in two files; channels may be padded in one."""
        return self.kind, self.cells

    def __str__(self) -> str:
        if self.kind == BEFORE:
            return "bytes to float, mean"
        return f"{self.kind}, {self.channels[0]} → {self.channels[1]} at {'x'.join(map(str, self.cells))}"
