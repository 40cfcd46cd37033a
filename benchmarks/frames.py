"""Accuracy of an artifact as a row, and the same few frames under every candidate to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.remote import Remote
from runtime.files import in_one_piece

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from benchmarks.original import FrameSegmenter, Original
    from calibration.data.labels import LabelMap, Pair
    from runtime.artifact import Artifact
    from runtime.segmenter import Segmenter

SHOWN = 3
"""Frames that are drawn under every candidate."""
SHOWN_WIDTH = 480


def accuracy_row(segmenter: Segmenter | Remote, engine: str, original: Original, data: Path, out: Path,
                 max_frames: int | None) -> Measurement:
    """Measure an opened artifact through the runtime that ships, hold it against the network, and draw its masks.

    Args:
        segmenter: the artifact with its session, here or in a process elsewhere.
        engine: what the session is, for the row.
        original: the network that it was made from.
        data: images/ and labels/ in the network's own class order.
        out: overlays go into its folder "overlays"; the row has their paths relative to it.
        max_frames: at most so many, evenly spread; None for all.
    """
    from benchmarks import machine
    from benchmarks.accuracy import summary
    from benchmarks.measurement import row
    from benchmarks.original import evaluation
    from calibration.data.frames import evenly_spaced
    from calibration.data.labels import find_pairs, label_map

    there = segmenter.machine if isinstance(segmenter, Remote) else None
    pairs = find_pairs(data)
    wanted = set(evenly_spaced([pair.image for pair in pairs], max_frames or len(pairs)))
    judged = [pair for pair in pairs if pair.image in wanted]
    artifact = segmenter.artifact
    mapping = label_map("own", artifact.classes)
    found = evaluation(segmenter, judged, mapping)
    figures = summary(found.accuracy)
    lost = found.against(original.evaluation(artifact, judged, mapping))
    shown = set(evenly_spaced([pair.image for pair in pairs], SHOWN))
    overlays = _overlays(segmenter, engine, [pair for pair in pairs if pair.image in shown], mapping, out)
    return row("accuracy", artifact, accuracy_values(figures) | lost, engine=engine,
               samples=figures["frames"], machine=there or machine.describe(),
               invalid=untrained(artifact),
               details={"data": str(data), "iou_by_class": figures["iou_by_class"], "overlays": overlays,
                        "palette": dict(zip(artifact.classes, artifact.palette))})


def accuracy_values(figures: Mapping[str, Any]) -> dict[str, float]:
    """A row's figures, of what `benchmarks.accuracy.summary` returns."""
    low, high = figures["miou_interval"]
    return {"miou": figures["miou"], "miou_low": low, "miou_high": high, "pixel_accuracy": figures["pixel_accuracy"],
            "boundary_iou": figures["boundary_iou"]}


def untrained(artifact: Artifact) -> tuple[str, ...]:
    """What speaks against an accuracy; nothing where the weights were trained."""
    return () if artifact.weights.get("trained", True) else ("the weights are random",)


def _overlays(segmenter: FrameSegmenter, engine: str, pairs: Sequence[Pair], mapping: LabelMap,
              out: Path) -> dict[str, dict[str, str]]:
    """Frame name → {"mask": file, "label": file}, tinted frames as JPEG."""
    import numpy as np

    from calibration.data.labels import read_pairs

    colours = np.zeros((256, 3), np.uint8)
    colours[:len(segmenter.artifact.palette)] = segmenter.artifact.palette
    found = {}
    for name, frame, label in read_pairs(pairs, mapping):
        files = {"mask": Path("overlays") / f"{segmenter.artifact.sha256[:12]}-{engine}-{name}.jpg",
                 "label": Path("overlays") / f"label-{name}.jpg"}
        for kind, classes in (("mask", segmenter(frame).mask), ("label", label)):
            _write(out / files[kind], frame, colours[classes], label != 255 if kind == "label" else label >= 0)
        found[name] = {kind: path.as_posix() for kind, path in files.items()}
    return found


def _write(path: Path, frame: object, colours: object, shown: object) -> None:
    """Half frame, half colour where `shown`; RGB colours over a BGR frame."""
    import cv2
    import numpy as np

    picture, tint = np.asarray(frame, np.float32), np.asarray(colours, np.float32)[..., ::-1]
    mixed = np.where(np.asarray(shown)[..., None], 0.4 * picture + 0.6 * tint, picture).astype(np.uint8)
    height = round(mixed.shape[0] * SHOWN_WIDTH / mixed.shape[1])
    small = cv2.resize(mixed, (SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_one_piece(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
