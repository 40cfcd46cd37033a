"""Made-up rows for the report's tests: round numbers, so that what the page says can be worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.measurement import Measurement

CLASSES = {"sky": 0.9, "road": 0.8, "pole": None}


def latency(name: str = "fast", precision: str = "fp32", p50: float = 10.0, **changes: Any) -> Measurement:
    """A latency row; every round has the same median."""
    values = {"p50_ms": p50, "p50_low_ms": 0.98 * p50, "p50_high_ms": 1.03 * p50, "p90_ms": 1.2 * p50,
              "p99_ms": 1.5 * p50, "mean_ms": 1.05 * p50, "min_ms": 0.9 * p50, "max_ms": 2 * p50,
              "inference_p50_ms": 0.8 * p50, "inference_p90_ms": p50, "processor_ms": 2 * p50,
              "cold_start_ms": 500.0, "load_ms": 100.0, "first_ms": 30.0, "peak_mb": 180.0, "model_mb": 12.9}
    details = {"rule": "at least 1024 queries and 60 s, in 20 interleaved rounds", "run": "r", "ratios": {},
               "rounds_ms": [p50] * 20, "stages_ms": {"preprocess": 0.1 * p50, "inference": 0.8 * p50,
                                                      "mask": 0.1 * p50}}
    entry = Measurement("latency", name, "onnx", precision, (360, 480), "low", f"{name}.onnx", sha256(name, precision),
                        values, 1024, {"cpu": "abacus", "cores": 2}, f"python -m benchmarks latency {name}.onnx",
                        "2026-11-21T00:00:00+00:00", details=details, engine="onnx")
    return dataclasses.replace(entry, **changes)


def accuracy(name: str = "fast", precision: str = "fp32", miou: float = 0.6, **changes: Any) -> Measurement:
    """An accuracy row."""
    values = {"miou": miou, "miou_low": miou - 0.02, "miou_high": miou + 0.02, "pixel_accuracy": 0.9}
    details = {"iou_by_class": CLASSES, "overlays": {}, "palette": {"sky": [70, 130, 180], "road": [128, 64, 128]},
               "data": "somewhere"}
    return dataclasses.replace(latency(name, precision), kind="accuracy", values=values, samples=101, details=details,
                               command="python -m benchmarks sweep", **changes)


def layers(name: str = "fast", precision: str = "fp32") -> Measurement:
    """A layers row with one convolution and one reorder."""
    found = [{"name": "conv", "op": "Conv", "kind": "1x1", "ms": 3.0, "flops": 240_000_000, "bytes": 6_000_000,
              "shape": [1, 8, 4, 4], "by_shape": False},
             {"name": "reorder", "op": "ReorderOutput", "kind": "reorder", "ms": 1.0, "flops": 0, "bytes": 1_000_000,
              "shape": [1, 8, 4, 4], "by_shape": False}]
    values = {"peak_gflops": 100.0, "peak_gbytes": 10.0, "ridge": 10.0, "share_of_peak": 0.6, "attained_gflops": 60.0}
    return dataclasses.replace(latency(name, precision), kind="layers", values=values,
                               details={"layers": found, "words": [f"{name} runs at 60 % of this processor's peak."]})


def built(name: str = "packed", precision: str = "int8", **changes: Any) -> Measurement:
    """An artifact that nothing ran."""
    return dataclasses.replace(latency(name, precision), kind="built", target="coreml", engine="", samples=1,
                               values={"model_mb": 3.5}, details={"judged": "built, not executed", "title": "Core ML"},
                               **changes)


def skipped(name: str = "absent", reason: str = "it has no bundled weights") -> Measurement:
    """What could not be measured."""
    return dataclasses.replace(latency(name), kind="skipped", sha256="", engine="", values={},
                               details={"reason": reason})


def sha256(name: str, precision: str) -> str:
    """Of no file, but unique."""
    return f"{name}-{precision}".encode().hex().ljust(64, "0")


def three() -> list[Measurement]:
    """A fast one, an accurate one, and one that the fast one beats in everything."""
    found = []
    for name, precision, p50, miou in (("fast", "fp32", 10.0, 0.60), ("accurate", "fp32", 30.0, 0.65),
                                       ("beaten", "int8", 20.0, 0.50)):
        found += [latency(name, precision, p50), accuracy(name, precision, miou), layers(name, precision)]
    return [*found, skipped()]
