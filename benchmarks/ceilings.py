"""What this machine can do at most: multiply matrices and copy memory, measured and never looked up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

SIDE = 1024
"""Large enough for full speed, and so short (some 10 ms) that one of many products runs without an interruption."""
COPIED_MB = 256
"""More than any last-level cache holds."""
REPEATS, SECONDS = 12, 1.0


@dataclass(frozen=True)
class Ceilings:
    """The best of several repeats: a ceiling is what was reached once.

    Attributes:
        gflops: 10⁹ float32 operations per second in a product of two SIDE x SIDE matrices (2 per MAC).
        gbytes: 10⁹ bytes per second read and written while copying; each byte counts twice.
        threads: that took part.
    """

    gflops: float
    gbytes: float
    threads: int

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on a layer is limited by arithmetic rather than by memory."""
        return self.gflops / self.gbytes


def measured_ceilings(threads: int) -> Ceilings:
    """Measure both, with as many threads as the network will have."""
    product, copy = _product(threads), _copy(threads)
    return Ceilings(2 * SIDE**3 / _best(product) / 1e9, 2e6 * COPIED_MB / _best(copy) / 1e9, threads)


def _best(action: Callable[[], Any]) -> float:
    """Seconds of the fastest of at least REPEATS runs that take at least SECONDS, after one that warms up."""
    action()
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SECONDS:
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return min(times)


def _product(threads: int) -> Callable[[], Any]:
    """ONNX Runtime's own matrix product: a library tuned for this processor, obeying the same thread count."""
    import numpy as np
    from onnx import TensorProto, helper

    from runtime.sessions.onnx import library

    square = [SIDE, SIDE]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product",
                              [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in "ab"],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, square)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    ort = library()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    factors = {name: np.random.default_rng(0).random(square, dtype=np.float32) for name in "ab"}
    return lambda: session.run(None, factors)


def _copy(threads: int) -> Callable[[], Any]:
    """Each thread copies its own part; numpy releases the interpreter's lock meanwhile."""
    import numpy as np

    size = COPIED_MB * 1_000_000 // threads
    pairs = [(np.zeros(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))
