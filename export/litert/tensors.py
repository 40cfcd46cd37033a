"""The tensors inside a .tflite file, by the path of the module that made them: what a failed gate is explained with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from export.difference import Named, TensorSample
from runtime.preprocess import Frame
from runtime.sessions.litert import bare_interpreter

_MODULE = re.compile(r"\.[A-Za-z0-9]+?_(\w+)$")
"""Of the converter's "torch.nn.modules.conv.Conv2d_0", the module's own name."""


def of_tflite(model: bytes) -> Callable[[Frame], Named]:
    """What every module of the network returns as the file computes it, by its path from "network" on.

    Channels stand where torch has them, and integers are brought back to float. No delegate takes part, which would
    hide tensors.
    """
    def tensors(frame: Frame) -> Named:
        found = dict[str, TensorSample]()
        interpreter = bare_interpreter(model, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        details = {entry["index"]: entry for entry in interpreter.get_tensor_details()}
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        for entry in (details[index] for op in interpreter._get_ops_details() for index in op["outputs"]):
            if entry["dtype"] in (np.float32, np.int8):
                seen = TensorSample.of(_float(interpreter.get_tensor(entry["index"]), entry))
                for path in paths(entry["name"]):
                    found.pop(path, None)
                    found[path] = seen
        yield from found.items()
    return tensors


def _float(values: Any, entry: Any) -> Any:
    scale, zero = entry["quantization"]
    values = (values.astype(np.float32) - zero) * scale if entry["dtype"] == np.int8 else values
    return np.moveaxis(values, -1, 1) if values.ndim == 4 else values


def paths(name: str) -> list[str]:
    """Of the module that made a tensor, and of all that it lies in: "network.stem.0", "network.stem", "network"."""
    modules = [found[1] for part in name.split(";")[0].split("/")[1:] if (found := _MODULE.search(part))]
    return [".".join(modules[:end]) for end in range(len(modules), 0, -1)]
