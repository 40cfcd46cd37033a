"""The page's arithmetic without a page: in Node.js, mask.js against runtime/mask.py and resize.js against cv2."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.mask import class_map

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


def in_node(module: str, script: str, *arrays: np.ndarray, **values: Any) -> list[np.ndarray]:
    """What a script writes, each with `say(bytes)`; it sees the module as `m`, arrays as `given`, values as `v`."""
    source = files("export.web").joinpath("page", module).read_bytes()
    given = [base64.b64encode(np.ascontiguousarray(array)).decode() for array in arrays]
    code = f"""
const m = await import("data:text/javascript;base64,{base64.b64encode(source).decode()}");
let text = "";
for await (const part of process.stdin) text += part;
const {{ arrays, v }} = JSON.parse(text);
const given = arrays.map((array) => Uint8Array.from(Buffer.from(array, "base64")));
const say = (bytes) => console.log(Buffer.from(bytes.buffer).toString("base64"));
{script}"""
    assert NODE is not None
    done = subprocess.run([NODE, "--input-type=module", "-e", code], input=json.dumps({"arrays": given, "v": values}),
                          capture_output=True, text=True, timeout=120, check=True)
    return [np.frombuffer(base64.b64decode(line), np.uint8) for line in done.stdout.splitlines()]


SIZES = [(45, 60), (360, 480), (361, 479), (97, 1), (20, 31), (7, 200)]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_mask_equals_that_of_the_runtime(align_corners: bool, layout: str) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(11, 6, 8)).astype(np.float32)
    logits = np.stack([cv2.resize(plane, (60, 45), interpolation=cv2.INTER_CUBIC) for plane in coarse])
    logits += rng.normal(0, 0.01, logits.shape).astype(np.float32)
    laid = np.ascontiguousarray(np.moveaxis(logits, 0, -1)) if layout == "NHWC" else logits
    found = in_node("mask.js", """
const layout = m.layoutOf(v.dims, v.layout), logits = new Float32Array(given[0].buffer);
for (const [h, w] of v.sizes) say(m.classMap(logits, layout, h, w, v.align));
""", laid, dims=laid.shape, layout=layout, sizes=SIZES, align=align_corners)
    for size, mask in zip(SIZES, found):
        expected = class_map(logits, size, align_corners=align_corners)
        assert len(np.unique(expected)) > 3
        np.testing.assert_array_equal(mask.reshape(size), expected)


@pytest.mark.parametrize(("source", "target"), [
    ((37, 61), (48, 96)), ((48, 96), (48, 96)), ((136, 240), (90, 120)), ((180, 240), (90, 120)), ((1, 1), (5, 7)),
    ((90, 120), (131, 193))])
def test_resizing_equals_that_of_cv2_to_the_bit(source: tuple[int, int], target: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*source, 4), dtype=np.uint8)
    (found,) = in_node("resize.js", "say(m.resizedToBgr(given[0], ...v.source, ...v.target));", frame, source=source,
                       target=target)
    expected = cv2.resize(np.ascontiguousarray(frame[..., 2::-1]), target[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found.reshape(*target, 3), expected)
