"""Engines timed in turns within one process, each as if it were alone."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_S, IDLE, LONGEST_S = 0.01, 0.1, 0.5
"""How often it is asked whether threads still work, up to which share of a core is rest, and how long at most."""

TURN = 3
"""Frames in a turn that count, where nothing asks for more."""


def come_to_rest() -> None:
    """Wait until the threads of this process have stopped working.

    ONNX Runtime's go on looking for work for 50 ms after a frame, on the cores of whoever comes next: on two cores,
    OpenVINO's frame takes twice as long right after one of ONNX Runtime's (BiSeNetV2: 63 ms instead of 32).
    """
    end = time.perf_counter() + LONGEST_S
    while time.perf_counter() < end:
        start, worked = time.perf_counter(), time.process_time()
        time.sleep(STEP_S)
        if time.process_time() - worked < IDLE * (time.perf_counter() - start):
            return


def turn(run: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of `count` runs in a row, after one more that warms up and does not count."""
    come_to_rest()
    run()
    found = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        found.append(1e3 * (time.perf_counter() - start))
    return found
