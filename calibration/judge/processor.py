"""What the processor offers INT8 arithmetic, and what follows from it for a verdict reached on this machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from runtime import cpuinfo

_DOT_PRODUCTS = {"avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI", "avx_vnni_int8": "AVX-VNNI-INT8",
                 "amx_int8": "AMX-INT8", "asimddp": "Arm dot product", "i8mm": "Arm I8MM"}
"""Flags of /proc/cpuinfo (Linux names) for instructions that sum products of bytes in 32 bits."""


@dataclass(frozen=True)
class Processor:
    """A processor as far as INT8 is concerned.

    Attributes:
        architecture: "x86_64", "aarch64", ...
        dot_products: its instructions for sums of byte products; empty when there are none, None when unknown.
    """

    architecture: str
    dot_products: tuple[str, ...] | None

    def describe(self) -> str:
        """One clause for people."""
        if self.dot_products is None:
            return f"{self.architecture}, INT8 instructions unknown"
        if self.dot_products:
            return f"{self.architecture} with {', '.join(self.dot_products)}"
        return f"{self.architecture} without dot-product instructions"


def this_processor(path: Path = cpuinfo.PATH, architecture: str = "") -> Processor:
    """The processor that we run on, or the one of another `path` and `architecture`."""
    flags = cpuinfo.flags(path)
    found = tuple(name for flag, name in _DOT_PRODUCTS.items() if flag in flags)
    return Processor(architecture or platform.machine(), found if flags else None)
