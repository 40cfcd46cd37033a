"""An artifact whose answer is known: the class of a pixel is the channel that is brightest around it.

No torch, no training, built in milliseconds; and pictures that carry a number which can be read back from their mask,
so that a lost, doubled or misplaced frame shows.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.artifact import Artifact, OutputKind, TensorInfo, engine_sha256, write_artifact
from runtime.preprocess import Frame, Preprocess

CLASSES = ("blue", "green", "red")
PALETTE = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
STRIDE = 4
BITS = 12


def artifact(folder: Path, size: tuple[int, int] = (16, 48), output: OutputKind = OutputKind.LOW) -> Path:
    """An .onnx with its JSON; input `size` must be a multiple of 4."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"colours-{size[0]}x{size[1]}-{output.value}.onnx"
    onnx.save(_graph(size, output), path)
    write_artifact(described(path.name, engine_sha256(path), size, output), path)
    return path


def described(file: str = "colours.onnx", sha256: str = "0" * 64, size: tuple[int, int] = (16, 48),
              output: OutputKind = OutputKind.LOW) -> Artifact:
    """What the JSON beside it says."""
    low = size[0] // STRIDE, size[1] // STRIDE
    shape = {OutputKind.LOW: (1, *low, 3), OutputKind.LOGITS: (1, 3, *size), OutputKind.CLASSES: (1, *size)}[output]
    layout = {OutputKind.LOW: "NHWC", OutputKind.LOGITS: "NCHW", OutputKind.CLASSES: "NHW"}[output]
    return Artifact(
        name="colours", target="onnx", precision="fp32", file=file, sha256=sha256,
        input=TensorInfo("frame", (1, *size, 3), "uint8", "NHWC"),
        output=TensorInfo("out", shape, "uint8" if output is OutputKind.CLASSES else "float32", layout),
        output_kind=output, stride=STRIDE, align_corners=False, preprocess=Preprocess(size), classes=CLASSES,
        palette=PALETTE, weights={"source": "none", "sha256": "", "terms": "", "trained": False}, tools={})


def _graph(size: tuple[int, int], output: OutputKind) -> onnx.ModelProto:
    kernel = {"kernel_shape": [STRIDE, STRIDE], "strides": [STRIDE, STRIDE]}
    nodes = [helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
             helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2])]
    if output is OutputKind.LOW:
        nodes += [helper.make_node("AveragePool", ["planes"], ["pooled"], **kernel),
                  helper.make_node("Transpose", ["pooled"], ["out"], perm=[0, 2, 3, 1])]
    elif output is OutputKind.LOGITS:
        nodes += [helper.make_node("Identity", ["planes"], ["out"])]
    else:
        nodes += [helper.make_node("ArgMax", ["planes"], ["index"], axis=1, keepdims=0),
                  helper.make_node("Cast", ["index"], ["out"], to=TensorProto.UINT8)]
    kind = TensorProto.UINT8 if output is OutputKind.CLASSES else TensorProto.FLOAT
    graph = helper.make_graph(nodes, "colours",
                              [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *size, 3])],
                              [helper.make_tensor_value_info("out", kind, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def numbered(number: int, size: tuple[int, int] = (16, 48)) -> Frame:
    """A picture that carries `number` (below 4096) as twelve vertical bands, red for 1 and blue for 0."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)])
    columns = bits[np.arange(size[1]) * BITS // size[1]]
    row = np.where(columns[:, None] == 1, np.uint8([[20, 20, 230]]), np.uint8([[230, 20, 20]]))
    return np.ascontiguousarray(np.broadcast_to(row, (*size, 3)))


def number_of(mask: np.ndarray) -> int:
    """The number that a `numbered` picture's mask carries: the class in the middle of every band."""
    height, width = mask.shape
    middle = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    return int(((mask[height // 2, middle] == 2) << np.arange(BITS)).sum())


def clip(path: Path, frames: int = 12, size: tuple[int, int] = (32, 96), fps: float = 25) -> Path:
    """A video of numbered pictures, 0 to `frames` - 1."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG")), fps,
                             (size[1], size[0]))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(numbered(number, size))
    writer.release()
    return path
